"""An owner finds C dma's queue when it starts, and asks again for what a living C dma holds. Real programs, real server."""

import fcntl
import os

import pytest
from agent import Agent
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
    owner._looked_at_age = float("inf")
    owner._look_around()
    assert spool.ids() == []  # not yet time
    owner._looked_for_old -= ASK_C_DMA + 1
    owner._look_around()
    assert len(owner.queue) == 1
    owner._looked_for_old -= ASK_C_DMA + 1
    lines = len(log.lines)
    owner._look_around()
    assert len(log.lines) == lines  # nothing is left to ask for
