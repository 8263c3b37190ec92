"""`rm -r` of the spool, or of what is in it, below an owner at work: that is how people empty a queue. Nobody delivers what the
next owner delivers too, and an owner that is to stay owns the spool that is there now."""

import os
import shutil
import subprocess

import pytest
from agent import BIN, Agent
from mail_server import MailServer

from dma_runtime.system.ownership import Ownership, ring
from dma_runtime.system.spool import Spool


@pytest.fixture
def server():
    with MailServer() as server:
        yield server


@pytest.fixture
def agent(tmp_path, server):
    agent = Agent(tmp_path, server, conf="RETRY 2s 2s")
    yield agent
    agent.close()


def empty(agent):
    for name in os.listdir(agent.spool):
        path = agent.spool / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("whole", [False, True])
def test_the_owner_of_what_was_removed_leaves(agent, server, whole):
    server.refuse("RCPT TO", "451 4.7.1 later")
    agent.send("old@y.test")
    agent.until(lambda: agent.queue()[0]["recipients"][0]["attempts"], what="the deferral on record")
    (first,) = agent.owners()
    shutil.rmtree(agent.spool) if whole else empty(agent)
    agent.send("new@y.test")
    agent.until(lambda: agent.files("log"), what="the deferral")
    (second,) = agent.until(lambda: [pid for pid in agent.owners() if pid != first], what="another owner")
    agent.until(lambda: agent.owners() == [second], what=f"owner {first} to leave, not {second}")
    assert (agent.spool / "control").exists()  # that of the second
    assert agent.owners() == [second]


def test_the_daemon_owns_what_is_there_now(agent, server):
    daemon = subprocess.Popen([BIN / "dmad", "-C", agent.conf], env=agent.environment)
    try:
        agent.until(lambda: (agent.spool / "control").exists(), what="the daemon")
        server.refuse("RCPT TO", "451 4.7.1 later", when="old")
        agent.send("old@y.test")
        agent.until(lambda: agent.queue()[0]["recipients"][0]["attempts"], what="the deferral on record")
        empty(agent)
        for number in range(3):
            agent.send("-bq", f"{number}@y.test")
        agent.run("-q", "-D")  # by whom ever
        agent.until(lambda: (agent.spool / "control").exists(), what="the daemon to come back")
        agent.send("last@y.test")
        server.wait(4)
        agent.until_empty()
        assert sorted(m.recipients[0] for m in server.messages) == ["0@y.test", "1@y.test", "2@y.test", "last@y.test"]
        assert daemon.poll() is None
        assert agent.owners() == []
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0


def test_a_lock_that_is_another_s_is_not_held_and_its_bell_is_left_alone(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    first = Ownership.take(spool)
    bell = first.listen()
    assert first.holds()
    os.unlink(spool.path + "/lock")
    assert not first.holds()
    second = Ownership.take(spool)
    other = second.listen()
    assert second.holds()
    assert not first.holds()
    bell.close()
    first.release()
    assert ring(spool, b"{}\n")
    other.close()
    second.release()
    assert not os.path.exists(spool.path + "/control")
