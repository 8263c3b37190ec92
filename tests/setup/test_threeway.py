"""What somebody wrote into a file of ours, or wrote before us, is never overwritten without a word."""

import json

import pytest
from provisioning import KEPT, SMARTHOST, Machine, home_place, plan, tree
from setup_home import PASSWORD, Home

from dma_setup import apply
from dma_setup.threeway import lost, sentence

OURS = ["a 1", "", "b 2", "c 3"]


@pytest.mark.parametrize(
    ("ours", "theirs", "now", "goes", "back"),
    [
        (OURS, OURS, ["a 1", "b 9", "c 3"], [], []),  # nobody touched it
        (OURS, ["a 1", "b 7", "c 3"], ["a 1", "b 9", "c 3"], ["b 7"], []),
        (OURS, ["a 1", "b 7", "c 3"], OURS, ["b 7"], ["b 2"]),
        (OURS, [*OURS, "d 4"], [*OURS, "d 4"], [], []),  # theirs stays
        (OURS, [*OURS, "d 4"], OURS, ["d 4"], []),
        (OURS, ["a 1", "c 3"], OURS, [], ["b 2"]),
        (OURS, ["a 1", "c 3"], ["a 1", "c 3", "e 5"], [], []),
        (OURS, ["a 1", "", "", "b 2", "c 3"], OURS, [], []),  # blank lines
        (None, ["x", "y"], ["y", "z"], ["x"], []),
        (None, ["y"], ["x", "y"], [], []),
    ],
)
def test_whose_lines_are_lost(ours, theirs, now, goes, back):
    assert lost(ours, theirs, now) == (goes, back)


def test_in_words():
    assert sentence("f", [], [], is_ours=True) == ""
    said = sentence("f", ["PORT 587"], ["PORT 465"], is_ours=True)
    assert said == "f was changed since dma-setup wrote it: `PORT 587` goes, `PORT 465` comes back"
    before = sentence("f", list("abcde"), [], is_ours=False)
    assert before == "f was here before; of it goes `a`, `b`, `c` and 2 more lines (undo brings it back)"


@pytest.fixture
def home(tmp_path):
    made = tmp_path / "home"
    made.mkdir()
    return made


def run(home, machine, **more):
    place = home_place(home)
    made = plan("smarthost", {**SMARTHOST, **more}, place, machine)
    apply.journaled(made, place, "smarthost", machine)
    return made


def again(home, machine, **more):
    return plan("smarthost", {**SMARTHOST, **more}, home_place(home), machine)


def overwritten(made):
    return {change.path.rpartition("/")[2]: list(change.overwrites) for change in made.changes if getattr(change, "overwrites", ())}


def test_an_edited_key_of_ours_is_set_back_with_a_word(home):
    machine = Machine()
    run(home, machine)
    conf = home / ".config/dma/dma.conf"
    conf.write_text(conf.read_text().replace("PORT 587", "PORT 2525") + "FULLBOUNCE\n")
    made = again(home, machine)
    assert overwritten(made) == {"dma.conf": ["-PORT 2525", "+PORT 587"]}
    assert [change.subject for change in made.replaces] == ["~/.config/dma/dma.conf"]
    assert any("was changed since dma-setup wrote it: `PORT 2525` goes, `PORT 587` comes back" in note for note in made.notes)


def test_edits_that_stay_are_not_mentioned(home):
    machine = Machine()
    run(home, machine)
    conf = home / ".config/dma/dma.conf"
    conf.write_text(conf.read_text() + "# my own\nFULLBOUNCE\n")
    made = again(home, machine, sender="carol@example.org")
    assert overwritten(made) == {}
    assert made.replaces == ()
    apply.journaled(made, home_place(home), "smarthost", machine)
    assert "# my own\nFULLBOUNCE\n" in conf.read_text()


def test_other_answers_alone_are_no_loss(home):
    machine = Machine()
    run(home, machine)
    made = again(home, machine, host="other.example.org:587")
    assert "~" in {change.sign for change in made.changes}
    assert (overwritten(made), made.replaces) == ({}, ())


def test_a_file_that_was_here_before(home):
    config = home / ".config/dma"
    config.mkdir(parents=True)
    (config / "dma.conf").write_text("SMARTHOST old.example.org\nMAXSIZE 5M\n")
    (config / "aliases").write_text("postmaster: root\nroot: old@example.org\n")
    made = again(home, Machine())
    assert overwritten(made) == {"dma.conf": ["-SMARTHOST old.example.org"], "aliases": ["-root: old@example.org"]}
    assert any("was here before; of it goes `SMARTHOST old.example.org` (undo brings it back)" in note for note in made.notes)


def test_a_secret_that_somebody_changed_is_not_shown(home):
    machine = Machine()
    run(home, machine)
    secret = home / ".config/dma/secrets/dma.relay.example.org.alice"
    secret.write_text("their own\n")
    made = again(home, machine)
    assert overwritten(made) == {secret.name: ["-***"]}
    assert "their own" not in json.dumps([change.facts() for change in made.changes]) + " ".join(made.notes)
    assert KEPT not in " ".join(made.notes)


def test_unattended_it_is_said_and_done(tmp_path):
    home = Home(tmp_path / "home")
    answers = home.answers("host: relay.example.org:587\nlogin: alice\npassword: {env: DMA_PW}\nkeyring: file\n")
    words = ("smarthost", "--user", "--answers", answers, "--yes", "--no-verify", "--no-test")
    assert home.run(*words).returncode == 0
    before = tree(home.path)
    conf = home.path / ".config/dma/dma.conf"
    conf.write_text(conf.read_text().replace("PORT 587", "PORT 2525"))
    check = home.run(*words, "--check", "--json")
    assert check.returncode == 3
    (change,) = json.loads(check.stdout)["plan"]["changes"]
    assert change["overwrites"] == ["-PORT 2525", "+PORT 587"]
    done = home.run(*words)
    assert done.returncode == 0
    assert "! ~/.config/dma/dma.conf was changed since dma-setup wrote it: `PORT 2525`" in done.stdout
    assert tree(home.path) == before
    assert PASSWORD not in done.stdout + check.stdout
    assert home.run("undo", "--user").returncode == 0
    assert "PORT 2525" in conf.read_text(), "undo brings theirs back"
