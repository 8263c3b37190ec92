"""`dma-setup undo` as a command: looked at before, taken back, said where the old files are, refused while another works."""

import json

import pytest
from provisioning import tree
from setup_home import PASSWORD, Home

from dma_setup.system import Lock

ANSWERS = "host: relay.example.org:587\nlogin: alice\npassword: {env: DMA_PW}\nkeyring: file\n"


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    config = home.path / ".config/dma"
    config.mkdir(parents=True)
    (config / "dma.conf").write_text("SMARTHOST old.example.org\n")
    home.before = tree(home.path)
    words = ("smarthost", "--user", "--answers", home.answers(ANSWERS), "--yes", "--no-verify", "--no-test")
    assert home.run(*words).returncode == 0
    return home


def test_looked_at_before(home):
    set_up = tree(home.path)
    check = home.run("undo", "--user", "--check")
    assert check.returncode == 3
    lines = check.stdout.splitlines()
    assert lines[0] == "dma-setup smarthost would be taken back; what was changed since is left as it is"
    assert lines[1] == "  ~/.config/dma/answers.smarthost.yml"
    assert "  ~/.config/dma/dma.conf" in lines
    assert tree(home.path) == set_up
    as_json = json.loads(home.run("undo", "--user", "--check", "--json").stdout)
    assert as_json["undo"]["restored"] == [line.strip() for line in lines[1:]]
    assert as_json["result"] == {"status": 3}


def test_yes_is_taken(home):
    assert home.run("undo", "--user", "--yes").returncode == 0
    assert tree(home.path) == home.before
    assert home.run("undo", "--user", "--check").returncode == 0


def test_a_changed_file_is_left_and_the_old_one_is_named(home):
    conf = home.path / ".config/dma/dma.conf"
    conf.write_text(conf.read_text() + "FULLBOUNCE\n")
    done = home.run("undo", "--user")
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    kept = said.partition("what was there before is kept in ")[2].split()[0]
    with open(kept) as file:
        assert file.read() == "SMARTHOST old.example.org\n"
    assert "+FULLBOUNCE" in done.stdout
    assert conf.read_text().endswith("FULLBOUNCE\n")
    assert PASSWORD not in done.stdout


def test_while_another_works(home):
    held = Lock(str(home.path / ".local/state/dma-setup/lock"))
    try:
        done = home.run("undo", "--user", "--json")
    finally:
        held.release()
    assert done.returncode == 1
    assert "another dma-setup is at work here" in done.stderr
    assert json.loads(done.stdout)["error"]["status"] == 1
    assert home.run("undo", "--user").returncode == 0
