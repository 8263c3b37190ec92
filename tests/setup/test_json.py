"""`--json`: the names that docs/interface.md promises, of every command, in success and in failure."""

import json

import pytest
from mail_server import MailServer
from secret_service import end_all
from setup_home import PASSWORD, Home, relay

PLANNED = {"status", "changes", "journal", "warnings", "old_secrets"}
UNDO = {"recipe", "restored", "left", "diffs", "waiting", "complete"}
PROOF = {"id", "to", "relay", "reply", "delay", "why", "waits"}


@pytest.fixture(scope="module")
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        yield server


@pytest.fixture
def home(tmp_path):
    yield Home(tmp_path / "home")
    end_all(tmp_path / "home")


def document(done, status):
    assert done.returncode == status, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["format"] == 1
    assert found["result"]["status"] == status
    assert PASSWORD not in done.stdout
    return found


def test_names_of_every_command(home, server):
    recipe = ("smarthost", "--user", "--answers", home.answers(relay(server)), "--json")
    check = document(home.run(*recipe, "--check"), 3)
    assert set(check) == {"format", "facts", "plan", "result"}
    assert set(check["plan"]) == {"changes", "right", "notes"}
    assert set(check["result"]) == PLANNED
    for change in check["plan"]["changes"]:
        assert {"sign", "subject", "says"} <= set(change)
        assert set(change) - {"sign", "subject", "says"} in (set(), {"path", "diff", "overwrites"})
    done = document(home.run(*recipe, "--yes"), 0)
    assert set(done) == {"format", "facts", "plan", "proof", "result"}
    assert set(done["proof"]) == PROOF
    assert done["result"]["changes"] == len(done["plan"]["changes"])
    again = document(home.run(*recipe, "--yes"), 0)
    assert set(again) == {"format", "facts", "plan", "result"}
    assert again["result"] == {"status": 0, "changes": 0, "journal": "", "warnings": [], "old_secrets": []}

    doctor = document(home.run("doctor", "--user", "--json"), 0)
    assert set(doctor) == {"format", "findings", "result"}
    assert {frozenset(one) for one in doctor["findings"]} == {frozenset({"check", "severity", "text", "evidence", "command"})}
    test = document(home.run("test", "--user", "--json"), 0)
    assert (set(test), set(test["proof"])) == ({"format", "proof", "result"}, PROOF)
    secret = document(home.run("secret", "check", "--user", "--json"), 0)
    assert set(secret) == {"format", "secret", "result"}
    assert set(secret["secret"]) == {"action", "host", "login", "reference", "keyring", "signed_in"}
    undo = document(home.run("undo", "--user", "--json"), 0)
    assert (set(undo), set(undo["undo"])) == ({"format", "undo", "result"}, UNDO)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("smarthost", "--answers", "ANSWERS"), 2),
        (("smarthost", "--answers", "missing.yml"), 2),
        (("import", "missing"), 2),
        (("auto", "nobody"), 2),
        (("doctor",), 1),
        (("test",), 1),
        (("secret", "check"), 1),
    ],
)
def test_names_of_a_failure(home, words, status):
    answers = home.answers("login: alice\n")
    words = [answers if word == "ANSWERS" else word for word in words]
    found = document(home.run(*words, "--user", "--json"), status)
    assert set(found["error"]) == {"text", "details", "status"}
    assert found["error"]["status"] == status


def test_a_refused_sign_in_leaves_plan_and_error(home, server):
    words = ("smarthost", "--user", "--answers", home.answers(relay(server)), "--json")
    found = document(home.run(*words, DMA_PW="wrong one"), 1)
    assert {"format", "facts", "error", "result"} <= set(found)
    assert "wrong one" not in json.dumps(found)
