"""`dma-setup` against a real Postfix that refuses as providers do: what it says, what it advises, and what it leaves behind."""

import postfix
import pytest
from postfix import GMAIL, Postfix
from secret_service import end_all
from setup_home import PASSWORD, Home

MICROSOFT = "550 5.7.60 SMTP; Client does not have permissions to send as this sender"
YAHOO = "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes"
NO_AUTH = "550 5.7.30 Basic authentication is not supported for Client Submission."


@pytest.fixture(scope="module")
def server():
    if why := postfix.missing():
        pytest.skip(why)
    server = Postfix(users={"alice@example.test": PASSWORD})
    server.refuse("^other@", MICROSOFT, stage="sender")
    server.refuse("^closed@", NO_AUTH, stage="sender")
    server.refuse("^nobody@", GMAIL["no such user"])
    server.refuse("^full@", GMAIL["over quota"])
    server.refuse("^limit@", GMAIL["sending limit"])
    server.refuse("^policy@", YAHOO)
    with server:
        yield server


@pytest.fixture
def home(tmp_path):
    yield Home(tmp_path / "home")
    end_all(tmp_path / "home")


def provision(home, server, *more, **answers):
    values = {
        "host": f"localhost:{server.port}", "fingerprint": server.fingerprint, "login": "alice@example.test", "keyring": "file",
        "password": "{env: DMA_PW}", "sender": "alice@example.test", "root_mail": "bob@example.net", **answers,
    }  # fmt: skip
    path = home.answers("".join(f"{name}: {value}\n" for name, value in values.items()))
    return home.run("smarthost", "--user", "--answers", path, "--yes", *more)


def said(done):
    return " ".join((done.stdout + done.stderr).split())


def test_the_way_through(home, server):
    done = provision(home, server)
    assert done.returncode == 0, said(done)
    assert "signed in as alice@example.test" in said(done)
    assert "The relay took it after" in said(done)
    assert home.run("test", "--user").returncode == 0
    assert home.run("secret", "check", "--user").returncode == 0


def test_a_wrong_password_is_known_before_anything_is_written(home, server):
    home.environment["DMA_PW"] = "wrong"
    done = provision(home, server)
    assert done.returncode == 1
    assert "refused the sign-in: 535 5.7.8" in said(done)
    assert "The relay does not know this login and password together." in said(done)
    assert list(home.path.iterdir()) == []


@pytest.mark.parametrize(
    ("answers", "reply", "advice", "waits"),
    [
        ({"sender": "other@example.test"}, "550 5.7.60", "The account may not send as this address.", True),
        ({"sender": "closed@example.test"}, "550 5.7.30", "The relay takes no passwords (basic auth", True),
        ({"root_mail": "nobody@example.net"}, "550 5.1.1", "", False),
        ({"root_mail": "full@example.net"}, "452 4.2.2", "", True),
        ({"root_mail": "limit@example.net"}, "550 5.4.5", "The account's quota is used up for now.", True),
        ({"root_mail": "policy@example.net"}, "554 5.7.9", "", False),
    ],
)
def test_what_the_message_that_proves_it_meets(home, server, answers, reply, advice, waits):
    """Set up all the same; the reply is shown, translated, and what becomes of the message is said. Exit 1."""
    done = provision(home, server, **answers)
    assert done.returncode == 1, said(done)
    assert reply in said(done)
    assert advice in said(done)
    assert "sign in" not in said(done), "it had signed in"
    assert ("the message waits in the queue" in said(done)) == waits, said(done)
    assert ("the relay did not take the message" in said(done)) == (not waits)
    assert (home.path / ".config/dma/dma.conf").exists()
    if waits:
        end_all(home.path)
        assert home.run("undo", "--user").returncode == 1, "mail that waits keeps what sends it"
