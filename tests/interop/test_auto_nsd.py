"""`dma-setup auto ADDRESS` as it is in the world: nsd answers, HTTPS is at port 443, mail servers at 465 and 587, and the
machine's own resolver and trust decide. From an address and a password to a message that has arrived."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOM = pathlib.Path(__file__).resolve().parents[1] / "auto_room.py"


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    if not os.path.exists("/usr/sbin/nsd"):
        pytest.skip("needs nsd: apt install nsd")
    if os.geteuid() != 0:
        pytest.skip("needs root: a network of its own with ports 53, 443, 465 and 587")
    unshare = ["unshare", "--net", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs network and mount namespaces: unshare --net --mount is not allowed here")
    directory = tmp_path_factory.mktemp("room")
    ran = subprocess.run([*unshare, sys.executable, str(ROOM), str(directory)], capture_output=True, text=True, timeout=110)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize(
    ("case", "sender", "login"),
    [
        ("inside", "alice@inside.test", "alice@inside.test"),
        ("trusted", "bob@outside.test", "bob@outside.test"),
        ("conf", "carol@conf.test", "carol"),
    ],
)
def test_from_an_address_to_a_message(said, case, sender, login):
    found = said[case]
    assert found["status"] == 0, found["errors"]
    assert found["messages"] == [[sender, login, "TLSv1.3"]]
    assert found["logins"] == [[login, True]] * 2  # before anything was written, and to send


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("outside", "smtp.provider.test is not in outside.test; it was named by SRV records; nothing was changed\n"),
        ("hosted", "smtp.fastmail.com is not in hosted.test; it was named by mail exchangers; nothing was changed\n"),
        ("guess", "smtp.guess.test is only a guess: it has a usual name, and a valid certificate for it; nothing was changed\n"),
        ("unlisted", "smtp.listed.test is only a guess: "),
    ],
)
def test_nothing_is_said_to_a_server_that_nobody_vouches_for(said, case, why):
    found = said[case]
    assert found["status"] == 2
    assert why in found["errors"]
    assert "If it is the right one: --trust " in found["errors"]
    assert (found["logins"], found["written"]) == ([], [])
    assert set(found["verbs"]) <= {"EHLO", "STARTTLS"}, "a greeting and no more"


@pytest.mark.parametrize(
    ("case", "where"),
    [
        ("blocked", "smtp.blocked.test:587, STARTTLS"),
        ("wellknown", "autoconfig: smtp.wellknown.test:587, STARTTLS"),
        ("listed", "ISPDB: smtp.listed.test:587, STARTTLS"),
    ],
)
def test_what_each_way_finds(said, case, where):
    found = said[case]
    assert found["status"] == 3, found["errors"]
    text = " ".join(found["out"].split())
    assert where in text
    assert f"send everything via smtp.{case}.test, TLS verified" in text
    assert found["written"] == []


def test_a_port_that_swallows_everything_gives_way_to_the_next(said):
    text = " ".join(said["blocked"]["out"].split())
    assert "smtp.blocked.test:4650: no server with a valid certificate answers there now" in text
    assert said["blocked"]["seconds"] < 8


@pytest.mark.parametrize("case", ["refused", "none"])
def test_nobody_offers_submission(said, case):
    assert said[case]["status"] == 1
    assert f"no server was found for frank@{case}.test; nothing was changed" in said[case]["errors"]
    assert said[case]["seconds"] < 8


def test_who_learns_what(said):
    """ISPDB the domain alone, and only when it may; the domain's own server the address, as the format wants it."""
    assert said["inside"]["asked"] in ([], ["autoconfig.thunderbird.net/v1.1/inside.test"])  # SRV may have settled it before
    assert said["listed"]["asked"] == ["autoconfig.thunderbird.net/v1.1/listed.test"]
    assert said["unlisted"]["asked"] == []
    assert said["conf"]["asked"] == ["autoconfig.conf.test/mail/config-v1.1.xml?emailaddress=carol%40conf.test"]
    assert said["wellknown"]["asked"] == ["wellknown.test/.well-known/autoconfig/mail/config-v1.1.xml"]


def test_at_a_terminal_a_server_elsewhere_is_asked_about_first(said):
    no, yes = said["no"], said["yes"]
    assert "? Is smtp.provider.test the right server for your password? No" in no["screen"]
    assert no["screen"].index("not in outside.test") < no["screen"].index("right server")
    assert "nothing was changed" in no["screen"]
    assert "? Password:" not in no["screen"]
    assert yes["screen"].index("right server") < yes["screen"].index("? Password:")
    assert (no["logins"], yes["logins"]) == (0, 0)


def test_one_document_holds_discovery_and_plan(said):
    document = json.loads(said["document"]["out"])
    assert document["discovery"]["chosen"]["host"] == "smtp.inside.test"
    assert document["discovery"]["chosen"]["named_by"] == "SRV records"
    assert document["plan"]["changes"]
    assert document["result"]["status"] == 3
