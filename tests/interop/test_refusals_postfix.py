"""What a real Postfix refuses in providers' words, translated by the recipe: signing in, the sender, the day's limit."""


import postfix
import pytest
from secret_service import end_all
from setup_home import PASSWORD, Home, relay

LOGIN = "alice@example.test"


@pytest.fixture(scope="module")
def server():
    if reason := postfix.missing():
        pytest.skip(reason)
    found = postfix.Postfix(users={LOGIN: PASSWORD})
    found.refuse("notmine@", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", stage="sender")
    found.refuse("noalias@", "553 5.7.1 Sender address rejected: not owned by auth user.", stage="sender")
    found.refuse("limit@", postfix.GMAIL["sending limit"])
    with found:
        yield found


@pytest.fixture
def home(tmp_path):
    found = Home(tmp_path / "home")
    yield found
    end_all(tmp_path / "home")


def setup(home, server, *words, **answers):
    text = relay(server, **{"login": LOGIN, "sender": LOGIN, "root_mail": "bob@far.test", **answers})
    return home.run("smarthost", "--user", "--answers", home.answers(text), "--yes", *words)


def test_a_wrong_password_is_translated_and_nothing_is_written(home, server):
    done = home.run(
        *("smarthost", "--user", "--yes", "--answers"),
        home.answers(relay(server, login=LOGIN)),
        DMA_PW="not that one",
    )
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert "The relay refused the sign-in: 535 5.7.8" in text
    assert "https://support.google.com/mail/?p=BadCredentials" in text
    assert "The relay does not know this login and password together." in text
    assert list(home.path.iterdir()) == []
    assert "not that one" not in done.stdout + done.stderr


@pytest.mark.parametrize("sender", ["notmine@example.test", "noalias@example.test"])
def test_a_sender_that_is_not_the_accounts_is_told_with_what_to_do(home, server, sender):
    done = setup(home, server, sender=sender)
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert "not delivered yet: " in text
    assert "The account may not send as this address." in text
    assert "as the sender" in text
    assert "Mail is set up, but the message waits in the queue" in text


def test_the_days_limit_loses_nothing_and_says_so(home, server):
    done = setup(home, server, root_mail="limit@far.test")
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert "Daily user sending limit exceeded" in text
    assert "The account's quota is used up for now." in text
    assert "Nothing is lost; the mail waits" in text
    (waiting,) = home.queued()
    assert waiting["recipients"][0]["address"] == "limit@far.test"


def test_and_the_right_one_arrives(home, server):
    server.clear()
    done = setup(home, server)
    assert done.returncode == 0, done.stdout + done.stderr
    (message,) = server.wait(1)
    assert message["From"].addresses[0].addr_spec == LOGIN
