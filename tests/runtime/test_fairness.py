"""Whose mail goes first: a backlog for one relay holds up no other relay's, and a fresh message does not wait behind those
that waited already. Real programs, relays that take their time."""

import pytest
from agent import Agent
from mail_server import MailServer


@pytest.fixture
def relays():
    with MailServer() as slow, MailServer() as other:
        yield slow, other


@pytest.fixture
def agent(tmp_path, relays):
    slow, other = relays
    map = tmp_path / "map"
    found = Agent(tmp_path, slow, conf=f"MAXCONNECTIONS 1\nRELAYMAP {map}")
    found.write(map, f"quick@here.test 127.0.0.1:{other.port}\n")
    yield found
    found.close()


def test_a_backlog_for_one_relay_does_not_delay_another_s(agent, relays):
    slow, other = relays
    slow.slowly = 0.2
    for number in range(15):
        agent.send("-bq", f"u{number}@example.org")
    agent.run("-q")
    slow.wait(1)
    agent.send("-f", "quick@here.test", "v@example.org")
    other.wait(1)
    assert len(slow.messages) < 12
    slow.slowly = 0.0
    slow.wait(15)


def test_a_fresh_message_does_not_wait_behind_those_that_waited(agent, relays):
    slow, _ = relays
    slow.slowly = 0.2
    for number in range(20):
        agent.send("-bq", f"u{number}@example.org")
    agent.run("-q")
    slow.wait(1)
    agent.send("fresh@example.org")
    agent.until(lambda: any(m.recipients == ["fresh@example.org"] for m in slow.messages), what="the fresh message")
    before = [m.recipients[0] for m in slow.messages].index("fresh@example.org")
    assert before < 15, before
    slow.slowly = 0.0
    slow.wait(21)
    agent.until_empty()
