"""The first session with a relay and those that are opened beside it. Real programs, real server."""

import time

import pytest
from agent import Agent
from mail_server import CLOSE, HANG, Certificate, MailServer

WAITING = 40  # messages, which justify four sessions


@pytest.fixture
def server():
    with MailServer(tls="starttls", users={"alice": "secret"}) as server:
        yield server


@pytest.fixture
def agent(tmp_path, server):
    agent = Agent(tmp_path, server)
    yield agent
    agent.close()


def queued(agent, count=WAITING):
    for number in range(count):
        agent.send("-bq", f"u{number}@example.org")


def said(server, verb):
    """The connections on which it was said."""
    return [connection for connection, word, _ in server.commands if word == verb]


def signed_off(server):
    """Waits until all but the probe have said QUIT."""
    deadline = time.monotonic() + 10
    while len(said(server, "QUIT")) < server.connections - 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    return sorted(said(server, "QUIT"))


def test_the_others_come_up_to_the_sign_in_and_wait_there(agent, server):
    server.refuse("AUTH", 1.5, times=1)
    queued(agent)
    agent.run("-q")
    agent.until(lambda: len(said(server, "EHLO")) == 8, what="four sessions that know what is offered in TLS")
    assert said(server, "AUTH") == [1]
    assert not server.messages
    assert len(server.wait(WAITING)) == WAITING
    assert sorted(said(server, "AUTH")) == [1, 2, 3, 4]
    assert server.most_open == server.connections == 4


def test_a_wrong_password_is_tried_once_and_the_others_take_their_leave(agent, server):
    agent.set_password("wrong")
    queued(agent)
    agent.run("-q", "-D")
    assert server.logins == [("alice", False)]
    assert server.connections == 4
    assert signed_off(server) == [1, 2, 3, 4]
    assert len(agent.queue()) == WAITING
    # Of a relay that takes no mail no more is asked than one session can tell.
    agent.run("-q", "-D")
    assert server.connections == 5
    assert server.logins == [("alice", False)] * 2


@pytest.mark.parametrize("ending", [CLOSE, "454 4.7.0 not now", "421 4.3.2 closing"])
def test_what_becomes_of_the_probe_decides(agent, server, ending):
    server.refuse("AUTH", ending, times=1)
    queued(agent)
    agent.run("-q", "-D")
    assert said(server, "AUTH") == [1]
    assert not {2, 3, 4} - set(signed_off(server))
    assert not server.messages
    assert len(agent.queue()) == WAITING
    agent.run("-q", "-D")
    assert len(server.messages) == WAITING


@pytest.mark.parametrize(
    ("stage", "reply"),
    [("connect", "421 4.7.0 too many connections"), ("connect", CLOSE), ("STARTTLS", CLOSE), ("STARTTLS", "454 4.7.0 no")],
)
def test_a_relay_that_lets_nobody_in_beside_the_probe_is_not_down(agent, server, stage, reply):
    """It is asked at once, and its refusal counts when the probe is through: then one session carries all."""
    server.refuse(stage, reply, after=1)
    queued(agent)
    agent.run("-q", "-D")
    assert len(server.messages) == WAITING
    assert {message.connection for message in server.messages} == {1}
    assert server.connections <= 4


def test_a_relay_that_is_down_at_its_greeting_costs_one_connection(agent, server):
    server.refuse("connect", "421 4.3.2 not now")
    queued(agent)
    agent.run("-q", "-D")
    assert server.connections == 1
    assert len(agent.queue()) == WAITING


def test_few_messages_need_nobody_beside_it(agent, server):
    queued(agent, 7)
    agent.run("-q", "-D")
    assert len(server.messages) == 7
    assert server.connections == 1


def test_a_certificate_that_is_not_the_relays_shows_no_login_to_anybody(agent, server):
    right = agent.base
    agent.base = right.replace(server.fingerprint, Certificate().fingerprint)
    agent.configure()
    queued(agent)
    agent.run("-q", "-D")
    assert not said(server, "AUTH")
    assert server.connections <= 4
    agent.base = right
    agent.configure()
    agent.run("-q", "-D")
    assert len(server.messages) == WAITING


def test_without_a_login_the_others_wait_before_the_first_message(tmp_path):
    with MailServer() as server:
        agent = Agent(tmp_path, server, login=None)
        try:
            server.refuse("EHLO", 1.0, times=1)
            queued(agent)
            agent.run("-q")
            agent.until(lambda: len(said(server, "EHLO")) == 4, what="four sessions")
            time.sleep(0.2)
            assert not said(server, "MAIL")
            assert len(server.wait(WAITING)) == WAITING
            assert server.connections == 4
        finally:
            agent.close()


def test_a_changed_configuration_lets_go_of_those_that_wait(agent, server):
    """Their sign-in belongs to the old one."""
    server.refuse("AUTH", HANG, times=1)
    queued(agent)
    agent.run("-q")
    agent.until(lambda: len(said(server, "EHLO")) == 8, what="four sessions")
    with MailServer(tls="starttls", users={"alice": "secret"}) as other:
        agent.base = agent.base.replace(str(server.port), str(other.port)).replace(server.fingerprint, other.fingerprint)
        agent.configure()
        agent.send("last@example.org")
        assert len(other.wait(WAITING + 1)) == WAITING + 1
    assert server.quiet()
    assert said(server, "AUTH") == [1]
    assert not server.messages


def test_those_that_the_relay_closed_while_they_waited_are_opened_anew(tmp_path):
    """That says nothing about how many it lets in."""
    with MailServer(users={"alice": "secret"}) as server:
        agent = Agent(tmp_path, server, conf="INSECURE")
        try:
            server.refuse("AUTH", 1.0, times=1)
            server.refuse("EHLO", ["250-mail.example.org", "250 AUTH PLAIN", "421 4.4.2 idle for too long"], after=1, times=3)
            server.slowly = 0.05
            queued(agent)
            agent.run("-q", "-D")
            assert len(server.messages) == WAITING
            assert server.connections == 7
            assert {message.connection for message in server.messages} == {1, 5, 6, 7}
            assert [login for login in server.logins if login[1]] == server.logins
        finally:
            agent.close()


def test_one_that_is_refused_when_the_mail_has_gone_does_not_take_the_relay_down(tmp_path):
    """A relay, or a firewall, that lets further connections wait: nothing is heard of them before their time is over."""
    with MailServer() as server, MailServer() as other:
        agent = Agent(tmp_path, server, conf=f"TIMEOUT 1\nRELAYMAP {tmp_path}/map")
        agent.write(tmp_path / "map", f"slow@here.test 127.0.0.1:{other.port}\n")
        try:
            server.refuse("connect", HANG, after=1)
            other.slowly = 0.4
            queued(agent)
            for number in range(6):  # meanwhile the owner stays
                agent.send("-bq", "-f", "slow@here.test", f"u{number}@example.org")
            agent.run("-q")
            other.wait(6)
            assert len(server.wait(WAITING)) == WAITING
            assert server.connections == 4
            agent.until_no_owner()
            server.accept()
            agent.send("next@example.org")
            assert len(server.wait(WAITING + 1)) == WAITING + 1
        finally:
            agent.close()


def test_nobody_waits_for_sessions_that_nothing_is_left_for(agent, server):
    server.refuse("connect", HANG, after=1)
    queued(agent)
    began = time.monotonic()
    agent.run("-q", "-D")
    assert len(server.messages) == WAITING
    assert time.monotonic() - began < 10
    queued(agent)
    server.accept()
    server.refuse("connect", HANG, after=1)
    agent.run("-q")
    assert len(server.wait(2 * WAITING)) == 2 * WAITING
    agent.until_no_owner()
