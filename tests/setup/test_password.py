"""`dma-setup secret set|check|remove` and `dma-setup test`, with the real program, server and sendmail."""

import pytest
from mail_server import MailServer
from provisioning import tree
from secret_service import end_all
from setup_home import PASSWORD, Home, relay

NEW = "a newer one"


@pytest.fixture(scope="module")
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        yield server


@pytest.fixture
def home(tmp_path, server):
    server.accept()
    server.users = {"alice": PASSWORD}
    home = Home(tmp_path / "home")
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--yes", "--no-test")
    assert done.returncode == 0, done.stdout + done.stderr
    yield home
    end_all(home.path)


def test_a_rotated_password(home, server):
    server.users["alice"] = NEW
    assert home.run("secret", "check", "--user").returncode == 1
    before = tree(home.path)
    done = home.run("secret", "set", "--user", given=NEW + "\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "signed in at localhost" in done.stdout
    assert NEW not in done.stdout + done.stderr
    changed = {name for name, what in tree(home.path).items() if before.get(name) != what}
    assert changed == {".config/dma/secrets/dma.localhost.alice"}
    assert home.run("secret", "check", "--user").returncode == 0
    assert home.run("secret", "set", "--user", given=NEW).stdout.endswith("nothing was changed.\n")
    assert home.run("undo", "--user").returncode == 0
    assert tree(home.path) == before


def test_a_wrong_one_is_not_stored(home):
    before = tree(home.path)
    done = home.run("secret", "set", "--user", given="wrong\n")
    assert done.returncode == 1
    assert "signing in did not work: 535 5.7.8" in done.stderr
    assert tree(home.path) == before


def test_nothing_on_standard_input(home):
    done = home.run("secret", "set", "--user", given="")
    assert (done.returncode, done.stderr) == (2, "dma-setup: the password on standard input is empty\n")


def test_removed(home, server):
    assert home.run("secret", "remove", "--user").returncode == 0
    assert not (home.path / ".config/dma/secrets/dma.localhost.alice").exists()
    check = home.run("secret", "check", "--user")
    assert check.returncode == 1
    assert "cannot be read" in check.stderr
    assert home.run("undo", "--user").returncode == 0
    assert home.run("secret", "check", "--user").returncode == 0


def test_where_nothing_is_set_up(tmp_path):
    home = Home(tmp_path / "home")
    for words in (["secret", "check", "--user"], ["test", "--user"]):
        done = home.run(*words)
        assert done.returncode == 1
        assert "nothing is set up here" in done.stderr


def test_a_relay_without_a_login(tmp_path):
    home = Home(tmp_path / "home")
    answers = home.answers("host: localhost:2525\n")
    assert home.run("smarthost", "--user", "--answers", answers, "--yes", "--no-test", "--no-verify").returncode == 0
    done = home.run("secret", "set", "--user", given="x\n")
    assert done.returncode == 1
    assert "used without a login" in done.stderr


def test_a_test_message(home, server):
    server.messages.clear()
    done = home.run("test", "--user")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "took it after" in done.stdout
    assert home.run("test", "carol@example.org", "--user").returncode == 0
    assert [message.recipients for message in server.messages] == [["alice@example.org"], ["carol@example.org"]]
    assert home.run("test", "two words", "--user").returncode == 2


def test_a_test_message_that_waits(home, server):
    server.refuse("RCPT TO", "450 4.7.1 come back later", times=1)
    done = home.run("test", "--user")
    assert done.returncode == 1
    assert "not delivered yet" in done.stdout
    assert "450 4.7.1 come back later" in " ".join(done.stdout.split())
    undone = home.run("undo", "--user")
    assert undone.returncode == 1
    assert "Messages still waiting in the queue: 1." in undone.stdout
    assert (home.path / ".config/dma/dma.conf").exists()
