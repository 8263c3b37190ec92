"""What a real Exim refuses, in providers' words and in its own, translated by the recipe: signing in, the sender, the limit."""


import exim
import pytest
from secret_service import end_all
from setup_home import PASSWORD, Home, relay

LOGIN = "alice@example.test"
# password -> what the server says to it, and what the recipe makes of that
SIGN_IN = {
    "normal": (
        "534 5.7.9 Application-specific password required. Learn more at\\nhttps://support.google.com/mail/?p=InvalidSecondFactor",
        ["534 5.7.9 Application-specific password required.", "an app password instead of the normal one"],
    ),
    "switchedoff": (
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
        ["535 5.7.139", "administrator has switched off signing in with a password"],
    ),
    "retired": (
        "550 5.7.30 Basic authentication is not supported for Client Submission.",
        ["550 5.7.30", "takes no passwords (basic authentication) here any more"],
    ),
    "exims own": ("", ["535 Incorrect authentication data", "The relay refused login or password."]),
}


@pytest.fixture(scope="module")
def server():
    if reason := exim.missing():
        pytest.skip(reason)
    found = exim.Exim(users={LOGIN: PASSWORD}, listener="implicit")
    for password, (reply, _) in SIGN_IN.items():
        if reply:
            found.refuse_sign_in(LOGIN, password, reply)
    found.refuse("notmine", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", stage="sender")
    found.refuse("limit", "550 5.4.5 Daily user sending limit exceeded.")
    with found:
        yield found


@pytest.fixture
def home(tmp_path):
    found = Home(tmp_path / "home")
    yield found
    end_all(tmp_path / "home")


def setup(home, server, password=PASSWORD, **answers):
    text = relay(server, **{"tls": "implicit", "login": LOGIN, "sender": LOGIN, "root_mail": "bob@far.test", **answers})
    return home.run("smarthost", "--user", "--answers", home.answers(text), "--yes", DMA_PW=password)


@pytest.mark.parametrize("password", SIGN_IN)
def test_a_refused_sign_in_is_translated_and_nothing_is_written(home, server, password):
    done = setup(home, server, password)
    assert done.returncode == 1, done.stdout
    text = " ".join(done.stdout.split())
    for says in ("The relay refused the sign-in: ", *SIGN_IN[password][1]):
        assert says in text
    assert "nothing was changed" in done.stderr
    assert list(home.path.iterdir()) == []


def test_a_sender_that_is_not_the_accounts_is_told_with_what_to_do(home, server):
    done = setup(home, server, sender="notmine@example.test")
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert "The account may not send as this address. Use the account's own address as the sender" in text
    assert "Mail is set up, but the message waits in the queue" in text


def test_the_days_limit_loses_nothing_and_says_so(home, server):
    done = setup(home, server, root_mail="limit@far.test")
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert "Daily user sending limit exceeded" in text
    assert "Nothing is lost; the mail waits" in text
    (waiting,) = home.queued()
    assert waiting["recipients"][0]["address"] == "limit@far.test"


def test_and_the_right_one_arrives(home, server):
    server.clear()
    done = setup(home, server)
    assert done.returncode == 0, done.stdout + done.stderr
    (message,) = server.wait(1)
    assert message.startswith(b"Return-path: <alice@example.test>\n")
