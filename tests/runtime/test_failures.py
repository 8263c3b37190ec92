"""What becomes of mail that cannot be delivered, with the real programs: told, passed on, kept in sight."""

import email
import mailbox
import os
import subprocess

import pytest
from agent import BIN, MESSAGE, Agent
from flufl.bounce import scan_message
from mail_server import MailServer

NO_SUCH_USER = "550 5.1.1 no such user"


@pytest.fixture
def server():
    with MailServer(tls="starttls", users={"alice": "secret"}) as server:
        yield server


@pytest.fixture
def make(tmp_path, server):
    made = []

    def make(conf="", aliases=""):
        found = Agent(tmp_path, server, conf=conf)
        (tmp_path / "aliases").write_text(aliases)
        made.append(found)
        return found

    yield make
    for agent in made:
        agent.close()


def report_of(received):
    assert received.sender == "<>"
    return email.message_from_bytes(received.content)


def test_the_sender_is_told_and_the_queue_is_empty(make, server):
    server.refuse("RCPT TO", NO_SUCH_USER, when="nobody")
    agent = make()
    ran = agent.send("-D", "-f", "app@far.test", "nobody@x.test", "bob@x.test", "nobody2@x.test")
    agent.run("-q", "-D")
    received = server.wait(2)
    assert sorted((m.sender, m.recipients) for m in received) == [("<>", ["app@far.test"]), ("app@far.test", ["bob@x.test"])]
    (report,) = [report_of(m) for m in received if m.sender == "<>"]
    assert scan_message(report) == {b"nobody@x.test", b"nobody2@x.test"}
    assert agent.files() == []
    assert agent.files("log") == []
    assert b"delivery failed, bouncing as" in ran.stderr


def test_what_a_recipe_marks_as_a_limit_waits_and_is_told(make, server):
    """IONOS answers 450 at RCPT, Exchange Online 554 at the end of the message: neither is a verdict on the message."""
    agent = make("QUOTA mail send limit exceeded | SubmissionQuotaExceeded")
    text = "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message"
    server.refuse("final DATA", text)
    ran = agent.send("-D", "-f", "app@far.test", "bob@x.test")
    assert b"bouncing" not in ran.stderr
    ((found,),) = [one["recipients"] for one in agent.queue()]
    assert "SubmissionQuota" in found["last_error"]
    assert server.messages == []
    assert b"sending limit is reached" in agent.run("-bp").stderr
    server.accept()
    agent.run("-q", "-D")
    assert [m.sender for m in server.wait(1)] == ["app@far.test"]


def test_without_the_mark_the_same_words_are_final(make, server):
    server.refuse("final DATA", "554 5.2.0 SubmissionQuotaExceededException", when="app@far.test")
    agent = make()
    agent.send("-D", "-f", "app@far.test", "bob@x.test")
    agent.run("-q", "-D")
    assert [m.sender for m in server.wait(1)] == ["<>"]


def test_the_whole_message_comes_back_if_asked_for(make, server):
    server.refuse("RCPT TO", NO_SUCH_USER, when="nobody")
    agent = make("FULLBOUNCE")
    text = b"Subject: big\n\n" + b"\n".join(b"line %d" % i for i in range(30_000)) + b"\n"
    agent.send("-D", "-f", "app@far.test", "nobody@x.test", text=text)
    agent.run("-q", "-D")
    (message,) = server.wait(1)
    returned = report_of(message).get_payload(2).get_payload(0)
    assert returned.get_payload().replace("\r\n", "\n") == text.partition(b"\n\n")[2].decode()


def test_the_null_sender_asked_for_no_report(make, server):
    """dma#111: the queue is empty afterwards, and one line says so."""
    server.refuse("RCPT TO", NO_SUCH_USER)
    agent = make(aliases="postmaster: boss@far.test\n")
    ran = agent.send("-D", "-f", "<>", "nobody@x.test")
    assert agent.files() == []
    assert agent.files("log") == []
    assert server.messages == []
    assert ran.stderr.count(b"can not bounce a bounce message, discarding") == 1


def test_a_sender_who_does_not_exist_here_is_told_by_way_of_postmaster(make, server):
    """dma#143: the message vanished."""
    server.refuse("RCPT TO", NO_SUCH_USER, when="nobody")
    agent = make(aliases="postmaster: boss@far.test\n")
    agent.send("-D", "-f", "no-such-user-here@localhost", "nobody@x.test")
    agent.run("-q", "-D")
    (message,) = server.wait(1)
    assert (message.sender, message.recipients) == ("<>", ["boss@far.test"])
    assert agent.files() == []


def test_what_nobody_can_be_told_stays_in_sight(make, server):
    server.refuse("RCPT TO", NO_SUCH_USER, when="nobody")
    agent = make()
    ran = agent.send("-D", "-f", "no-such-user-here@localhost", "nobody@x.test")
    assert b"the message is kept as failed" in ran.stderr
    for _ in range(2):
        agent.run("-q", "-D")  # it is not tried again by a run of the queue
        (row,) = agent.queue()
        assert row["recipients"][0]["state"] == "failed"
        assert "no such user" in row["recipients"][0]["last_error"]
    assert sum(verb == "RCPT" for _, verb, _ in server.commands) == 1
    assert b"can be neither delivered nor returned" in agent.run("-bp").stderr
    assert agent.program("dma-queue", "list", "--check").returncode == 1
    agent.program("dma-queue", "remove", agent.files()[0], check=0)
    assert agent.files() == []
    agent.run("-q", "-D")
    assert agent.run("-bp").stderr == b""


def test_what_is_kept_outlives_the_delivery_to_the_others(make, server):
    """One recipient failed and nobody can be told; the other is delivered later. The failure stays in sight."""
    server.refuse("RCPT TO", NO_SUCH_USER, when="nobody")
    server.refuse("RCPT TO", "451 4.7.1 later", when="bob", times=1)
    agent = make()
    agent.send("-D", "-f", "no-such-user-here@localhost", "nobody@x.test", "bob@x.test")
    agent.run("-q", "-D")
    assert [m.recipients for m in server.wait(1)] == [["bob@x.test"]]
    (row,) = agent.queue()
    assert {r["address"]: r["state"] for r in row["recipients"]}["nobody@x.test"] == "failed"


def test_a_relay_that_refuses_every_recipient_ends_in_one_message_in_sight(make, server):
    """nullmailer#54, OpenSMTPD#1190: no cascade of bounces."""
    server.refuse("RCPT TO", NO_SUCH_USER)
    agent = make(aliases="postmaster: boss@far.test\n")
    agent.send("-D", "-f", "app@far.test", "nobody@x.test")
    for _ in range(5):
        agent.run("-q", "-D")
    (row,) = agent.queue()
    assert row["sender"] == ""
    asked = [argument for _, verb, argument in server.commands if verb == "RCPT"]
    assert [a.split("<")[1].split(">")[0] for a in asked] == ["nobody@x.test", "app@far.test", "boss@far.test"]


def test_a_local_sender_finds_the_report_in_the_mailbox(make, server, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root: /var/mail is covered by one of the test's own")
    drop = tmp_path / "drop"
    drop.mkdir()
    cover = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /var/mail && exec "$@"', str(drop)]
    if subprocess.run([*cover, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to unshare mounts")
    server.refuse("RCPT TO", NO_SUCH_USER, when="nobody")
    agent = make()
    for words, text in ((["nobody@x.test"], MESSAGE), (["root"], MESSAGE)):
        ran = subprocess.run(
            [*cover, str(BIN / "dma"), "-D", "-f", "root", *words], input=text, env=agent.environment, capture_output=True
        )
        assert ran.returncode == 0, ran.stderr
    ran = subprocess.run([*cover, str(BIN / "dma"), "-q", "-D"], env=agent.environment, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    found = {message["Subject"]: message for message in mailbox.mbox(str(drop / "root"))}
    assert set(found) == {"Mail delivery failed", "test"}
    assert scan_message(found["Mail delivery failed"]) == {b"nobody@x.test"}
    assert found["Mail delivery failed"]["Return-Path"] == "<>"
    assert found["test"]["Delivered-To"] == "root@here.test"
    assert agent.files() == []
