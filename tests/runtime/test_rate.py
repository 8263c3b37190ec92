"""RATE, and relays that ask for a slower pace: mail goes as fast as is allowed, and nobody is hammered. Real programs."""

import json
import os
import signal
import time

import pytest
from agent import Agent
from mail_server import MailServer


@pytest.fixture
def server():
    with MailServer() as server:
        yield server


@pytest.fixture
def agent(tmp_path, server):
    found = Agent(tmp_path, server)
    yield found
    found.close()


def waiting(agent):
    return [recipient for row in agent.queue() for recipient in row["recipients"]]


def counted(agent):
    (relay,) = json.loads((agent.spool / "relays").read_text()).values()
    return relay["pace"]["3600"]


def test_no_more_go_than_the_rate_allows_and_the_rest_says_why_it_waits(agent, server):
    agent.configure("RATE 3/h")
    for number in range(8):
        agent.send("-bq", f"u{number}@example.org")
    agent.run("-q", "-D")
    assert len(server.messages) == 3
    rest = waiting(agent)
    assert len(rest) == 5
    assert {one["last_error"] for one in rest} == {"waits for its turn: RATE 3/h is reached"}
    assert {one["attempts"] for one in rest} == {0}
    assert all(one["next_attempt"] > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3000)) for one in rest)


def test_the_next_owner_goes_on_counting(agent, server):
    agent.configure("RATE 3/h")
    for number in range(2):
        agent.send("-D", f"u{number}@example.org")
    for number in range(3):
        agent.send("-D", f"v{number}@example.org")
    assert len(server.messages) == 3
    assert len(waiting(agent)) == 2


def test_a_faster_rate_frees_what_waits(agent, server):
    agent.configure("RATE 1/h")
    for number in range(4):
        agent.send("-bq", f"u{number}@example.org")
    agent.run("-q")
    server.wait(1)
    agent.until(lambda: len(waiting(agent)) == 3, what="the rest to wait")
    agent.configure("RATE 100/h")
    agent.run("-q")
    server.wait(4)
    agent.until_empty()


def test_each_goes_when_its_turn_comes(agent, server):
    agent.configure("RATE 2/s")
    began = time.monotonic()
    for number in range(6):
        agent.send("-bq", f"u{number}@example.org")
    agent.run("-q")
    server.wait(6)
    assert time.monotonic() - began > 2  # two at once, two more a second later, and two more
    agent.until_empty()


def test_what_a_relay_did_not_take_counts_only_when_it_went(agent, server):
    server.refuse("connect", "421 4.3.2 not now", times=1)
    agent.configure("RATE 2/h")
    agent.send("-bq", "a@example.org")
    agent.send("-bq", "b@example.org")
    agent.run("-q", "-D")
    assert not server.messages
    agent.run("-q", "-D")
    assert len(server.messages) == 2


def test_many_recipients_are_several_messages(agent, server):
    agent.configure("RATE 2/h\nMAXRECIPIENTS 2")
    agent.send("-D", *(f"u{number}@example.org" for number in range(4)))
    assert sorted(len(message.recipients) for message in server.messages) == [2, 2]
    agent.send("-D", "late@example.org")
    assert len(waiting(agent)) == 1


def test_one_message_to_many_does_not_go_faster_than_the_rate(agent, server):
    agent.configure("RATE 2/h\nMAXRECIPIENTS 2")
    agent.send("-D", *(f"u{number}@example.org" for number in range(7)))
    assert sorted(len(message.recipients) for message in server.messages) == [2, 2]
    assert [one["last_error"] for one in waiting(agent) if one["state"] != "delivered"] == [
        "waits for its turn: RATE 2/h is reached"
    ] * 3


def test_what_was_on_its_way_when_the_relay_asked_for_a_pause_does_not_hide_why_the_rest_waits(agent, server):
    agent.configure("MAXMESSAGES 1")
    server.refuse("DATA", "421 4.7.0 too many connections", times=1, after=1)
    server.slowly = 0.3
    for number in range(40):
        agent.send("-bq", f"u{number}@example.org")
    agent.run("-q", "-D")
    assert 0 < len(server.messages) < 40
    rest = waiting(agent)
    assert len(rest) == 40 - len(server.messages)
    assert {one["last_error"].partition(" (")[0] for one in rest} == {"421 4.7.0 too many connections"}


def test_what_another_connection_takes_is_counted_once(agent, server):
    agent.configure("RATE 4/h\nMAXRECIPIENTS 1\nMAXMESSAGES 1")
    agent.send("-D", *(f"u{number}@example.org" for number in range(3)))
    assert server.connections == 3
    agent.send("-D", "last@example.org")
    assert len(server.messages) == 4


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("final DATA", "450 4.7.1 Error: too much mail from 192.0.2.1"),
        ("RCPT TO", "450 Mail send limit exceeded"),
        ("MAIL FROM", "451 4.7.1 Sender rate limit exceeded"),
        ("AUTH", "454 4.7.0 Too many login attempts, please try again later"),
        ("connect", "421 4.7.0 Too many connections, slow down"),
    ],
)
def test_a_relay_that_asks_for_a_slower_pace_is_asked_once(tmp_path, stage, reply):
    with MailServer(users={"alice": "secret"}) as server:
        agent = Agent(tmp_path, server, conf="INSECURE")
        try:
            server.refuse(stage, reply)
            for number in range(30):
                agent.send("-bq", f"u{number}@example.org")
            agent.run("-q", "-D")
            asked = [verb for _, verb, _ in server.commands if verb == "RCPT"]
            assert len(asked) <= 8  # what was pipelined behind the first, not all thirty
            assert server.connections <= 4
            rest = waiting(agent)
            assert len(rest) == 30
            limit = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 70))
            assert all(one["next_attempt"] < limit for one in rest), rest  # a minute, not a back-off
            assert "RATE in dma.conf" in rest[-1]["last_error"]
            (kept,) = json.loads((agent.spool / "relays").read_text()).values()
            assert 0 < kept["backoff"] <= 60
            server.accept()
            agent.run("-q", "-D")
            assert len(server.messages) == 30
        finally:
            agent.close()


def test_what_went_is_counted_even_if_the_owner_is_killed(agent, server):
    agent.configure("RATE 3/h")
    for number in range(8):
        agent.send("-bq", f"u{number}@example.org")
    agent.run("-q")
    server.wait(3)
    agent.until(lambda: sum(count for _, count in counted(agent)) == 3, what="the counts")
    for pid in agent.owners():
        os.kill(pid, signal.SIGKILL)
    agent.until_no_owner()
    agent.run("-q", "-D")
    assert len(server.messages) == 3
