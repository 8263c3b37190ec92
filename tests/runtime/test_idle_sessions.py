"""An owner that stays keeps a session open for the next message, and not for long. The real `dmad` in the foreground."""

import signal
import subprocess
import time

import pytest
from agent import BIN, Agent
from mail_server import MailServer

from dma_runtime.delivery import idle


@pytest.fixture
def server():
    with MailServer(users={"alice": "secret"}) as server:
        yield server


@pytest.fixture
def agent(tmp_path, server):
    found = Agent(tmp_path, server, conf="INSECURE")
    yield found
    found.close()


@pytest.fixture
def daemon(agent):
    process = subprocess.Popen([BIN / "dmad"], env=agent.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    agent.until(lambda: (agent.spool / "control").exists(), what="dmad")
    yield process
    process.kill()
    process.communicate(timeout=20)


def test_the_next_message_finds_the_session_open(agent, server, daemon):
    for number in range(3):
        agent.send(f"u{number}@example.org")
        server.wait(number + 1)
    assert server.connections == 1
    assert [message.connection for message in server.messages] == [1, 1, 1]


def test_it_does_not_stay_for_long(agent, server, daemon):
    agent.send("a@example.org")
    server.wait(1)
    assert not server.quiet(idle.SECONDS / 2)
    assert server.quiet(idle.SECONDS * 2)
    agent.send("b@example.org")
    server.wait(2)
    assert server.connections == 2


def test_what_the_server_closed_meanwhile_costs_no_attempt(agent, server, daemon):
    agent.send("a@example.org")
    server.wait(1)
    server.pause()
    server.resume()
    agent.send("b@example.org")
    server.wait(2)
    agent.until_empty()
    assert agent.queue() == []
    assert server.connections == 2


def test_told_to_stop_it_waits_for_nothing(agent, server, daemon):
    agent.send("a@example.org")
    server.wait(1)
    agent.until_empty()
    began = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0
    assert time.monotonic() - began < idle.SECONDS
    assert server.quiet()


def test_another_password_goes_over_another_session(agent, server, daemon):
    agent.send("a@example.org")
    server.wait(1)
    agent.write(agent.auth, f"bob|127.0.0.1:{server.port}:builder\n")
    server.users["bob"] = "builder"
    time.sleep(0.05)
    agent.run("-q")  # the configuration is looked at when something happens
    agent.send("b@example.org")
    server.wait(2)
    assert [message.login for message in server.messages] == ["alice", "bob"]


def test_an_owner_of_a_single_submission_leaves_at_once(agent, server):
    agent.send("a@example.org")
    server.wait(1)
    agent.until_no_owner(idle.SECONDS / 2)
