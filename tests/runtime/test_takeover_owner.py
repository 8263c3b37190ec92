"""An owner finds C dma's queue when it starts, and asks again for what a living C dma holds. Real programs, real server."""

import fcntl
import os
import subprocess

import pytest
from agent import BIN, Agent
from c_dma import Left
from mail_server import MailServer

from dma_runtime.config import parse
from dma_runtime.delivery.owner import ASK_C_DMA, Owner
from dma_runtime.system.ownership import Ownership
from dma_runtime.system.spool import Spool


@pytest.fixture
def server():
    with MailServer() as server:
        yield server


@pytest.fixture
def agent(tmp_path, server):
    agent = Agent(tmp_path, server)
    agent.run("-bp")
    agent.spool.mkdir(mode=0o770)
    yield agent
    agent.close()


def test_a_queue_run_takes_over_what_c_dma_left_and_sends_it(agent, server):
    Left(agent.spool).message("me@old.test", ["bob@example.org"], age=60)
    agent.run("-q")
    (message,) = server.wait(1)
    assert (message.sender, message.recipients) == ("me@old.test", ["bob@example.org"])
    assert message.content.endswith(b"hello\r\n.dot\r\n")
    agent.until_empty()
    assert not [name for name in os.listdir(agent.spool) if name[0] in "QM"]


def test_so_does_the_first_message_of_ours(agent, server):
    Left(agent.spool).message("me@old.test", ["bob@example.org"])
    agent.send("carl@example.org")
    assert sorted(m.recipients[0] for m in server.wait(2)) == ["bob@example.org", "carl@example.org"]


def test_an_old_message_expires_by_its_own_age_not_at_once(agent, server):
    """Older than EXPIRE, but no relay has answered us yet: it has its five answers to come."""
    server.refuse("RCPT TO", "451 4.7.1 later")
    Left(agent.spool).message("me@old.test", ["bob@example.org"], age=10 * 86400)
    agent.run("-q", "-D")
    (row,) = agent.queue()
    assert row["age"] >= 10 * 86400
    assert row["recipients"][0]["state"] == "deferred"


def test_what_is_malformed_stays_and_stops_nothing(agent, server):
    left = Left(agent.spool)
    left.queue_file("1f.5a", b"ID: 1f.5a\n")
    left.message("me@old.test", ["bob@example.org"])
    ran = agent.run("-q", "-D")
    server.wait(1)
    assert b"not taken over: " in ran.stderr
    assert (agent.spool / "Q1f.5a").exists()


class Log:
    def __init__(self):
        self.lines = []

    def __getattr__(self, name):
        return lambda *words, **keywords: self.lines.append((name, *words))


def test_what_a_living_c_dma_holds_is_asked_for_again(tmp_path, monkeypatch):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    (name,) = Left(spool.path).message()
    log = Log()
    holder = os.open(f"{spool.path}/Q{name}", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    owner = Owner(Ownership.take(spool), spool, parse(f"SPOOLDIR {spool.path}\n", "x"), log)
    owner._take_over()
    assert spool.ids() == []
    assert any("1 messages are still held" in str(line) for line in log.lines)
    os.close(holder)
    owner._looked = float("inf")
    owner._look_around()
    assert spool.ids() == []  # not yet time
    owner._looked_for_old -= ASK_C_DMA + 1
    owner._look_around()
    assert len(owner.queue) == 1
    owner._looked_for_old -= ASK_C_DMA + 1
    lines = len(log.lines)
    owner._look_around()
    assert len(log.lines) == lines  # nothing is left to ask for


@pytest.mark.parametrize("owner", ["with an owner", "without one"])
def test_mail_that_c_dma_left_is_not_passed_over_in_silence_and_adopt_takes_it(tmp_path, owner):
    """`mailq` said that the queue is empty, `list --check` that all is well, and `adopt` did nothing."""
    with MailServer() as server:
        agent = Agent(tmp_path, server)
        try:
            agent.run("-q", "-D")
            if owner == "with an owner":
                dmad = subprocess.Popen([BIN / "dmad"], env=agent.environment)
                agent.until(lambda: (agent.spool / "control").exists(), what="the daemon")
                agent.queue()  # it answers, so it looked for C dma's files before they are there
            Left(agent.spool).message(recipients=("a@x.test", "b@y.test"), age=3600)
            said = b"C dma left mail here that is not in this queue yet (2 to deliver); `dma-queue adopt' takes it over"
            assert agent.run("-bp").stdout == b"Mail queue is empty\n"
            for ran in (agent.run("-bp"), agent.program("dma-queue", "list", check=0)):
                assert said in ran.stderr
            assert agent.program("dma-queue", "list", "--check", check=1).stdout == said + b"\n"
            ran = agent.program("dma-queue", "adopt", check=0)
            assert ran.stdout == b"took over 2 messages that C dma left\n"
            server.wait(2)
            agent.until_empty()
            assert agent.program("dma-queue", "list", "--check", check=0).stdout == b"ok, 0 queued\n"
            if owner == "with an owner":
                dmad.terminate()
                assert dmad.wait(20) == 0
        finally:
            agent.close()


def test_adopt_names_what_cannot_be_taken_over(tmp_path):
    with MailServer() as server:
        agent = Agent(tmp_path, server)
        try:
            agent.run("-q", "-D")
            Left(agent.spool).queue_file("1.2", b"Sender: me@old.test\n")
            (busy,) = Left(agent.spool).message()
            with open(f"{agent.spool}/Q{busy}", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                ran = agent.program("dma-queue", "adopt", check=1)
            assert b"1 messages are still held by processes of C dma" in ran.stderr
            assert b"Q1.2: malformed queue file: no ID" in ran.stderr
        finally:
            agent.close()
