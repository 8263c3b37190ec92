"""What a sender asks of reports on the command line, from there to the relay or to our own report; the delay warning.

Real programs, real server."""

import email
import os
import pwd
import subprocess
import time
from types import SimpleNamespace

import pytest
from agent import BIN, Agent
from mail_server import MailServer

from dma_runtime import frames, request
from dma_runtime.cmd.handover import request_for
from dma_runtime.cmd.options import Options
from dma_runtime.cmd.peer import Peer
from dma_runtime.config import parse
from dma_runtime.system.maillog import MailLog

ME = pwd.getpwuid(os.geteuid()).pw_name


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


@pytest.fixture
def plain():
    with MailServer() as server:
        yield server


@pytest.fixture
def knowing():
    with MailServer(dsn=True) as server:
        yield server


def reports(server):
    return [email.message_from_bytes(m.content) for m in server.messages if m.sender == "<>"]


def group(report, number=1):
    return report.get_payload(1).get_payload(number)


class TestARelayThatKnows:
    def test_it_is_told_and_sees_to_the_reports(self, make, knowing):
        agent = make(knowing)
        words = ["-N", "success,failure", "-R", "hdrs", "-V", "QQ+2B1", "-f", "me@x.test"]
        agent.send("-D", *words, "a@example.org")
        verbs = {verb: argument for _, verb, argument in knowing.commands}
        assert " RET=HDRS ENVID=QQ+2B1" in verbs["MAIL"]
        assert verbs["RCPT"] == "TO:<a@example.org> NOTIFY=SUCCESS,FAILURE"
        agent.until_empty()
        assert len(knowing.messages) == 1  # no report of ours

    def test_who_asked_for_nothing_has_nothing_said(self, make, knowing):
        make(knowing).send("-D", "a@example.org")
        said = [argument for _, verb, argument in knowing.commands if verb in ("MAIL", "RCPT")]
        assert not any(word in " ".join(said) for word in ("RET", "ENVID", "NOTIFY", "ORCPT"))

    def test_an_alias_is_named(self, make, knowing):
        agent = make(knowing)
        agent.write(agent.directory / "aliases", "boss: chief@example.org\n")
        agent.send("-D", "-N", "failure", "boss")
        assert ("RCPT", "TO:<chief@example.org> NOTIFY=FAILURE ORCPT=rfc822;boss@here.test") in [
            (verb, argument) for _, verb, argument in knowing.commands
        ]


class TestARelayThatDoesNot:
    def test_it_is_not_told(self, make, plain):
        make(plain).send("-D", "-N", "never", "-R", "full", "-V", "x", "a@example.org")
        assert not any("NOTIFY" in str(argument) or "RET" in str(argument) for _, _, argument in plain.commands)
        assert len(plain.messages) == 1

    def test_success_is_reported_as_relayed(self, make, plain):
        agent = make(plain)
        agent.send("-D", "-N", "success", "-V", "E42", "-f", "me@x.test", "a@example.org", "b@example.org")
        agent.until_empty()
        plain.wait(2)
        (report,) = reports(plain)
        assert report["To"] == "<me@x.test>"
        assert report.get_payload(1).get_payload(0)["Original-Envelope-Id"] == "E42"
        assert [group(report, n)["Action"] for n in (1, 2)] == ["relayed", "relayed"]
        assert group(report)["Status"] == "2.0.0"

    def test_the_owner_that_made_the_report_sends_it(self, make, plain):
        plain.refuse("RCPT TO", "451 4.7.1 come back later", when="slow@")
        agent = make(plain)
        agent.send("slow@example.org")
        agent.until(lambda: agent.files("log"), what="the deferral")
        owners = agent.owners()
        agent.send("-N", "success", "-f", "me@x.test", "a@example.org")
        plain.wait(2)
        assert len(reports(plain)) == 1
        assert agent.owners() == owners

    def test_no_report_for_who_asked_for_none(self, make, plain):
        plain.refuse("RCPT TO", "550 5.1.1 no such user")
        agent = make(plain)
        agent.send("-D", "-N", "never", "-f", "me@x.test", "a@example.org")
        assert agent.files() == []
        assert plain.messages == []

    def test_failure_with_the_whole_message(self, make, plain):
        plain.refuse("RCPT TO", "550 5.1.1 no such user", when="a@example.org")
        agent = make(plain)
        agent.send("-D", "-N", "failure", "-R", "full", "-f", "me@x.test", "a@example.org", text=b"Subject: x\n\nthe body\n")
        plain.wait(1)
        (report,) = reports(plain)
        assert b"the body" in report.get_payload(2).as_bytes()


def test_a_mailbox_delivery_is_reported_as_delivered(make, plain, tmp_path):
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs root: /var/mail is covered by one of the test's own")
    agent = make(plain)
    drop = tmp_path / "drop"
    drop.mkdir()
    cover = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /var/mail && exec "$@"', str(drop), str(BIN / "dma")]
    words = ["-D", "-N", "success", "-f", "me@x.test", ME]
    subprocess.run([*cover, *words], input=b"Subject: x\n\nhello\n", env=agent.environment, check=True, timeout=60)
    assert b"hello" in (drop / ME).read_bytes()
    plain.wait(1)
    (report,) = reports(plain)
    assert group(report)["Action"] == "delivered"


class TestDelay:
    def test_one_report_for_a_message_that_is_late(self, make, plain):
        plain.refuse("RCPT TO", "451 4.7.1 come back later", when="slow@")
        agent = make(plain, conf="DELAYWARNING 1s")
        agent.send("-D", "-f", "me@x.test", "slow@example.org", "slow@example.net")
        assert reports(plain) == []
        time.sleep(1.2)
        agent.run("-q", "-D")
        agent.run("-q", "-D")
        plain.wait(1)
        (report,) = reports(plain)
        assert report["Subject"] == "Mail delivery delayed"
        assert [group(report, n)["Action"] for n in (1, 2)] == ["delayed", "delayed"]
        assert "come back later" in group(report)["Diagnostic-Code"]
        (row,) = agent.queue()
        assert row["recipients"][0]["state"] == "deferred"
        agent.run("-q", "-D")  # by an owner that has only the log to know it from
        assert len(reports(plain)) == 1

    def test_a_relay_that_is_down_for_all(self, make, plain):
        agent = make(plain, conf="DELAYWARNING 1s\nFALLBACK 127.0.0.1:1")
        plain.refuse("connect", "421 4.3.2 busy")
        for name in "ab":
            agent.send("-bq", "-f", "me@x.test", f"{name}@example.org")
        waiting = agent.files()
        time.sleep(1.2)
        agent.run("-q", "-D")
        agent.close()
        assert sorted(agent.files()) == sorted([*waiting, *(name + "w" for name in waiting)])

    def test_off_unless_asked_for(self, make, plain):
        plain.refuse("RCPT TO", "451 4.7.1 come back later")
        agent = make(plain)
        agent.send("-D", "-f", "me@x.test", "slow@example.org")
        time.sleep(1.2)
        agent.run("-q", "-D")
        assert len(agent.files()) == 1
        assert b"DELAYWARNING" not in agent.run("-bp").stderr


def test_what_is_asked_of_the_machine_s_daemon_arrives_whole():
    """From `sendmail` over the socket to the code that accepts it there."""
    options = Options()
    options.operands = ["a@x.test", "b@x.test"]
    options.dsn_notify, options.dsn_return, options.dsn_envelope = "never", "full", "E 1"
    options.dsn_recipients = ["success;rfc822;c@y.test", ";"]
    asked = request_for(SimpleNamespace(options=options, environ={}))
    (payload,) = [frame[1] for frame in frames.Parser().feed(request.encode(asked))]
    peer = Peer(request.decode(payload), 1000, parse("", "x"), MailLog())
    for name in ("operands", "dsn_notify", "dsn_return", "dsn_envelope", "dsn_recipients"):
        assert getattr(peer.options, name) == getattr(options, name), name
