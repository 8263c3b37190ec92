"""docs/known-failures.md, "SMTP client, TLS, AUTH": one test a row, named by its symptom. Real programs, real server.

What a relay says in the dialogue itself is tested in tests/dialogues; here it is what a user would see."""

import email
import email.policy
import os
import socket
import ssl

import pytest
from agent import Agent
from mail_server import MailServer

from dma_runtime.config import parse
from dma_runtime.delivery.settings import Settings
from dma_runtime.policy.helo import greeting
from dma_runtime.smtp.command import hello_name

USERS = {"alice": "secret"}


@pytest.fixture
def make(tmp_path):
    made = []

    def make(server, **keywords):
        directory = tmp_path / f"agent{len(made)}"
        directory.mkdir()
        made.append(Agent(directory, server, **keywords))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


def verbs(server):
    return [verb for _, verb, _ in server.commands]


def error(agent):
    (row,) = agent.queue()
    assert row["state"] == "queued"
    return row["recipients"][0]["last_error"]


def without(agent, *keys):
    """Take keys out of the agent's dma.conf."""
    agent.base = "".join(line + "\n" for line in agent.base.splitlines() if line.split()[0] not in keys)
    agent.configure()


def test_the_password_goes_in_clear_after_starttls_was_stripped(make):
    with MailServer(users=USERS) as server:  # offers AUTH, no STARTTLS
        agent = make(server, conf="SECURETRANSFER\nSTARTTLS\nOPPORTUNISTIC_TLS")
        agent.send("-D", "bob@example.org")
        assert "AUTH" not in verbs(server)
        assert server.logins == []
        assert len(agent.files()) == 1


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_the_certificate_is_not_verified_and_the_password_given_away(make, tls):
    """dma#129"""
    with MailServer(tls=tls, users=USERS) as server:
        agent = make(server)
        without(agent, "FINGERPRINT")
        agent.send("-D", "bob@example.org")
        assert (server.logins, server.messages) == ([], [])
        assert "certificate" in error(agent)
        agent.configure("UNVERIFIEDCERT")
        agent.run("-q", "-D")
        assert server.logins == [("alice", True)]


@pytest.mark.parametrize("reply", ["454 4.7.0 temporary authentication failure", "535 5.7.8 no"])
def test_after_a_failed_login_it_goes_on_unauthenticated(make, reply):
    """dma#22, #68, #54"""
    with MailServer(tls="starttls", users=USERS) as server:
        server.refuse("AUTH", reply)
        agent = make(server)
        agent.send("-D", "bob@example.org")
        assert "AUTH" in verbs(server)
        assert "MAIL" not in verbs(server)
        assert reply in error(agent)


def test_a_provider_that_offers_only_plain_is_not_signed_in_to(make):
    """dma#50, #33, PR #148"""
    with MailServer(tls="implicit", users=USERS, without=("LOGIN",)) as server:
        agent = make(server)
        agent.send("-D", "bob@example.org")
        assert ("AUTH", "PLAIN") in [(verb, argument) for _, verb, argument in server.commands]
        assert server.logins == [("alice", True)]


def test_xoauth2_alone_is_a_login_skipped_in_silence(make):
    with MailServer(tls="implicit", users=USERS) as server:
        server.refuse("EHLO", ["250-mail.example.org", "250 AUTH XOAUTH2"])
        agent = make(server)
        agent.send("-D", "bob@example.org")
        assert "MAIL" not in verbs(server)
        assert "no common mechanism: the relay offers AUTH XOAUTH2" in error(agent)


class Lines:
    def __init__(self):
        self.lines = []

    def warning(self, text):
        self.lines.append(text)


def test_auth_conf_with_another_spelling_of_the_host_is_unauthenticated_in_silence(tmp_path):
    """dma#109"""
    path = tmp_path / "auth.conf"
    path.write_text("alice|127.0.0.1:secret\n")
    log = Lines()
    Settings(parse(f"SMARTHOST localhost\nAUTHPATH {path}\n", "x"), log)
    (line,) = log.lines
    assert "no login for SMARTHOST localhost, only for 127.0.0.1" in line
    assert "secret" not in line
    log = Lines()
    Settings(parse(f"SMARTHOST 127.0.0.1:587\nAUTHPATH {path}\n", "x"), log)
    assert log.lines == []


def test_the_wrong_kind_of_tls_for_a_port_is_five_minutes_of_silence(make):
    """dma#109, #66, #141"""
    with MailServer(tls="implicit", users=USERS) as server:
        agent = make(server, conf="STARTTLS\nTIMEOUT 2s")
        agent.send("-D", "bob@example.org")
        assert "silent for 2 seconds" in error(agent)
        assert "STARTTLS" in error(agent)
    with MailServer(tls="starttls", users=USERS) as server:
        agent = make(server)
        without(agent, "STARTTLS")
        agent.send("-D", "bob@example.org")
        assert "STARTTLS" in error(agent)  # the likely fix


def test_a_missing_starttls_is_complained_of_when_tls_is_up(make):
    """dma#141"""
    with MailServer(tls="starttls", users=USERS) as server:
        agent = make(server)
        ran = agent.send("-v", "bob@example.org")
        said = (ran.stdout + ran.stderr).decode()
        assert len(server.messages) == 1
        assert "does not" not in said.replace("S: ", "")


@pytest.mark.parametrize("name", ["my_box", "box", "-x.test", "a..b"])
def test_a_short_or_odd_host_name_in_ehlo_is_501(make, name):
    """PR #87, PHPMailer#1258"""
    assert greeting(name, name) == "[127.0.0.1]"
    assert hello_name(name, "192.0.2.1") == "[192.0.2.1]"
    with MailServer() as server:
        agent = make(server)
        agent.base = agent.base.replace("MAILNAME here.test", f"MAILNAME {name}")
        agent.configure()
        agent.send("-D", "-f", "me@x.test", "bob@example.org")
        (hello,) = [argument for _, verb, argument in server.commands if verb == "EHLO"]
        assert hello == "[127.0.0.1]" or (hello == greeting(os.uname().nodename) and "_" not in hello)


def test_the_resolver_is_down_and_mail_bounces(make):
    """dma#30"""
    with MailServer() as server:
        agent = make(server, conf="SMARTHOST relay.invalid:2525")
        agent.send("-D", "-f", "me@x.test", "bob@example.org")
        assert "relay.invalid" in error(agent)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_one_version_of_tls_alone_is_an_error(make, version):
    """dma#66, nullmailer#66"""
    with MailServer(tls="implicit", users=USERS) as server:
        server.certificate.context.minimum_version = server.certificate.context.maximum_version = version
        agent = make(server)
        agent.send("-D", "bob@example.org")
        assert [m.tls for m in server.messages] == [version.name.replace("_", ".")]


def test_partial_writes_lose_part_of_a_large_message(make, tmp_path):
    """PRs #104, #105: tiny buffers on the server's side"""
    with MailServer(tls="implicit", users=USERS) as server:
        server._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        agent = make(server)
        body = b"".join(b"%06d %s\n" % (n, b"x" * 60) for n in range(75000))
        agent.send("-D", "bob@example.org", text=b"Subject: x\nFrom: a@b.test\n\n" + body)
        (message,) = server.wait(1, seconds=60)
        assert message.content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n") == body


def test_oversize_is_found_only_behind_the_data(make):
    """net.c:570"""
    with MailServer(size=100) as server:
        agent = make(server)
        agent.send("-D", "-f", "", "bob@example.org", text=b"Subject: x\n\n" + b"y" * 1000 + b"\n")
        assert not {"MAIL", "DATA"} & set(verbs(server))
        assert agent.files() == []


def test_eight_bits_are_sent_blindly(make):
    """net.c:570, msmtp PR #181"""
    text = "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\ngrüße\n".encode()
    with MailServer() as server:
        make(server).send("-D", "bob@example.org", text=text)
        (message,) = server.messages
        assert "BODY=8BITMIME" in message.options
        assert "grüße".encode() in message.content
    with MailServer() as server:
        server.refuse("EHLO", "502 5.5.1 no", times=1)  # HELO: nothing is offered
        make(server).send("-D", "bob@example.org", text=text)
        (message,) = server.messages
        assert message.content.isascii()
        assert email.message_from_bytes(message.content, policy=email.policy.SMTP).get_content().strip() == "grüße"


def test_contradictory_keys_are_resolved_in_silence(make):
    """msmtp#198"""
    found = parse("SMARTHOST a.test\nPORT 587\nSMARTHOST b.test\nPORT 587\n", "dma.conf")
    assert str(found.SMARTHOST) == "b.test"
    assert found.warnings == ["dma.conf:3: SMARTHOST counts as it stands here; line 1 says something else"]
    with MailServer() as server:
        agent = make(server, conf="SMARTHOST relay.invalid")
        assert b"SMARTHOST counts as it stands here" in agent.program("dma-queue", "list", check=0).stderr
