"""FALLBACK and RELAYMAP with the real programs: another relay, another sender, and whose password goes where."""

import pytest
from agent import Agent
from mail_server import CLOSE, MailServer


@pytest.fixture
def servers():
    """The smarthost and a second relay, each with an account of its own."""
    with MailServer(users={"alice": "one"}, name="one.test") as one, MailServer(users={"bob": "two"}, name="two.test") as two:
        yield one, two


@pytest.fixture
def make(tmp_path, servers):
    made = []

    def make(conf="", auth=None, first=servers[0]):
        agent = Agent(tmp_path, first, conf=f"INSECURE\nCONNECTTIMEOUT 5s\n{conf}".format(*(s.port for s in servers)))
        if auth is None:
            auth = "alice|127.0.0.1:{0}:one\nbob|127.0.0.1:{1}:two\n"
        agent.write(agent.auth, auth.format(*(server.port for server in servers)))
        made.append(agent)
        return agent

    yield make
    for agent in made:
        agent.close()


@pytest.fixture
def agent(make):
    return make("FALLBACK 127.0.0.1:{1}")


def recipient(agent):
    (row,) = agent.queue()
    (found,) = row["recipients"]
    return found


class TestFallback:
    def test_is_not_asked_while_the_smarthost_works(self, agent, servers):
        agent.send("-D", "x@example.org")
        assert len(servers[0].messages) == 1
        assert servers[1].connections == 0

    def test_takes_over_in_the_same_attempt_with_its_own_login(self, agent, servers):
        servers[0].pause()
        agent.send("-D", "x@example.org")
        (message,) = servers[1].messages
        assert message.login == "bob"
        assert servers[1].logins == [("bob", True)]
        servers[0].resume()

    @pytest.mark.parametrize(
        ("stage", "reply"),
        [
            ("connect", "421 4.3.2 not now"),
            ("connect", CLOSE),
            ("EHLO", "554 5.7.1 not you"),
            ("AUTH", "535 5.7.8 wrong"),
            ("AUTH", "454 4.7.0 later"),
            ("MAIL FROM", "451 4.3.0 no space"),
            ("MAIL FROM", "421 4.3.2 closing"),
            ("DATA", CLOSE),
        ],
    )
    def test_takes_over_whatever_the_smarthost_lacks(self, agent, servers, stage, reply):
        servers[0].refuse(stage, reply)
        agent.send("-D", "x@example.org")
        assert [message.login for message in servers[1].messages] == ["bob"]
        assert not agent.files()

    @pytest.mark.parametrize(
        ("stage", "reply"),
        [("RCPT TO", "451 4.7.1 greylisted"), ("final DATA", "451 4.6.0 not this one"), ("MAIL FROM", "550 5.7.1 not this sender")],
    )
    def test_is_no_second_opinion_on_a_message(self, agent, servers, stage, reply):
        servers[0].refuse(stage, reply)
        agent.send("-D", "x@example.org")
        assert servers[1].connections == 0
        assert recipient(agent)["state"] == "deferred"

    def test_does_not_get_what_may_have_been_delivered(self, agent, servers):
        servers[0].refuse("final DATA", CLOSE)
        agent.send("-D", "x@example.org")
        assert servers[1].connections == 0

    def test_takes_what_waits_behind_a_smarthost_that_goes_down(self, make, servers):
        agent = make("FALLBACK 127.0.0.1:{1}\nMAXCONNECTIONS 1\nMAXMESSAGES 4")
        servers[0].refuse("MAIL FROM", "421 4.3.2 closing", after=3)
        for number in range(12):
            agent.send("-bq", f"u{number}@example.org")
        agent.run("-q", "-D")
        assert (len(servers[0].messages), len(servers[1].messages)) == (3, 9)
        # One 421 ended a session that had worked, the other said that it is down; those behind were not asked one by one.
        assert [verb for _, verb, _ in servers[0].commands].count("MAIL") == 5
        assert not agent.files()

    @pytest.mark.parametrize("stage", ["connect", "AUTH"])
    def test_is_not_for_a_smarthost_that_lets_no_further_session_in(self, agent, servers, stage):
        servers[0].refuse(stage, "421 4.7.0 too many connections", after=1)
        for number in range(24):
            agent.send("-bq", f"u{number}@example.org")
        agent.run("-q", "-D")
        assert len(servers[0].messages) == 24
        assert servers[0].connections <= 4  # three more were begun together
        assert servers[1].connections == 0
        assert not agent.files()

    def test_both_down_is_one_attempt_and_the_smarthosts_reason(self, agent, servers):
        servers[0].refuse("connect", "421 4.3.2 first")
        servers[1].refuse("connect", "421 4.3.2 second")
        agent.send("-D", "x@example.org")
        found = recipient(agent)
        assert found["attempts"] == 1
        assert "first" in found["last_error"]

    def test_a_password_that_is_refused_is_told_although_mail_flows(self, agent, servers):
        servers[0].refuse("AUTH", "535 5.7.8 wrong")
        agent.send("-D", "x@example.org")
        agent.send("-D", "y@example.org")
        ran = agent.program("dma-queue", "list", "--check", check=1)
        assert b"others are used meanwhile" in ran.stderr + ran.stdout
        servers[0].accept()
        agent.send("-D", "z@example.org")
        assert len(servers[0].messages) == 1
        assert agent.program("dma-queue", "list", "--check", check=0)

    def test_without_a_login_of_its_own_it_gets_none(self, make, servers):
        agent = make("FALLBACK 127.0.0.1:{1}", "alice|127.0.0.1:{0}:one\n")
        servers[0].pause()
        agent.send("-D", "x@example.org")
        assert servers[1].connections == 1
        assert servers[1].logins == []
        assert not any(verb == "AUTH" for _, verb, _ in servers[1].commands)
        servers[0].resume()

    def test_a_login_for_any_port_of_the_host_is_for_both(self, make, servers):
        agent = make("FALLBACK 127.0.0.1:{1}", "alice|127.0.0.1:one\n")
        servers[0].pause()
        servers[1].users = {"alice": "one"}
        agent.send("-D", "x@example.org")
        assert servers[1].logins == [("alice", True)]
        servers[0].resume()

    def test_a_new_list_is_used_for_what_waits(self, make, servers):
        agent = make()
        servers[0].refuse("connect", "421 4.3.2 not now")
        agent.send("x@example.org")
        agent.until(lambda: agent.files("log"), what="the deferral")
        agent.configure(f"INSECURE\nFALLBACK 127.0.0.1:{servers[1].port}")
        agent.send("y@example.org")  # rings the owner
        assert [message.login for message in servers[1].wait(2)] == ["bob", "bob"]


class TestTls:
    def test_the_pin_of_the_smarthost_does_not_open_the_way_to_another(self, tmp_path):
        """The smarthost is pinned; the fallback's certificate is of nobody known: it sees no login and no mail."""
        with MailServer(tls="starttls", users={"alice": "one"}) as one, MailServer(tls="starttls", users={"bob": "two"}) as two:
            agent = Agent(tmp_path, one, conf=f"FALLBACK 127.0.0.1:{two.port}")
            agent.write(agent.auth, f"alice|127.0.0.1:{one.port}:one\nbob|127.0.0.1:{two.port}:two\n")
            try:
                agent.send("-D", "x@example.org")
                assert len(one.messages) == 1
                one.refuse("connect", "421 4.3.2 not now")
                agent.send("-D", "y@example.org")
                assert two.connections
                assert not two.logins
                assert not two.messages
                agent.configure(f"FALLBACK 127.0.0.1:{two.port}\nUNVERIFIEDCERT")
                agent.run("-q", "-D")
                assert two.logins == [("bob", True)]
            finally:
                agent.close()


@pytest.fixture
def relays(tmp_path):
    return tmp_path / "relays"


class TestRelayMap:
    @pytest.fixture
    def agent(self, make, relays, servers):
        """Two accounts at the smarthost, one at the second relay."""
        servers[0].users = {"alice": "one", "carol": "three"}
        agent = make(
            f"RELAYMAP {relays}",
            "alice|127.0.0.1:{0}:one\ncarol|127.0.0.1:{0}:three\nbob|127.0.0.1:{1}:two\n",
        )
        self.map(agent, relays, servers, "a@x.test 127.0.0.1:{0} alice\nc@x.test 127.0.0.1:{0} carol\n@two.test 127.0.0.1:{1}")
        return agent

    @staticmethod
    def map(agent, relays, servers, text):
        agent.write(relays, text.format(*(server.port for server in servers)) + "\n")

    def test_two_accounts_at_one_host(self, agent, servers):
        for sender in ("a@x.test", "c@x.test", "a@x.test"):
            agent.send("-bq", "-f", sender, "r@example.org")
        agent.run("-q", "-D")
        assert sorted((m.sender, m.login) for m in servers[0].messages) == [
            ("a@x.test", "alice"),
            ("a@x.test", "alice"),
            ("c@x.test", "carol"),
        ]
        assert sorted(servers[0].logins) == [("alice", True), ("carol", True)]
        assert servers[0].connections <= 4  # three more were begun together

    def test_another_relay_for_a_domain(self, agent, servers):
        agent.send("-D", "-f", "who@two.test", "r@example.org")
        agent.send("-D", "-f", "who@three.test", "r@example.org")
        assert [m.sender for m in servers[1].messages] == ["who@two.test"]
        assert [m.login for m in servers[1].messages] == ["bob"]
        assert [m.sender for m in servers[0].messages] == ["who@three.test"]

    def test_no_login_at_all(self, agent, servers, relays):
        self.map(agent, relays, servers, "* 127.0.0.1:{1} -")
        agent.send("-D", "-f", "who@two.test", "r@example.org")
        assert servers[1].connections == 1
        assert servers[1].logins == []

    def test_a_login_that_auth_conf_does_not_have_holds_the_mail(self, agent, servers, relays):
        self.map(agent, relays, servers, "* 127.0.0.1:{0} dave")
        agent.send("-D", "-f", "who@x.test", "r@example.org")
        assert servers[0].connections == 0
        assert "RELAYMAP names the login dave" in recipient(agent)["last_error"]
        assert b"auth.conf has no line for it" in agent.program("dma-queue", "list", "--check", check=1).stderr
        self.map(agent, relays, servers, "* 127.0.0.1:{0} carol")
        agent.run("-q", "-D")
        assert [m.login for m in servers[0].messages] == ["carol"]

    def test_one_account_that_is_refused_does_not_stop_the_other(self, agent, servers):
        servers[0].users["alice"] = "changed"
        for sender in ("a@x.test", "c@x.test"):
            agent.send("-bq", "-f", sender, "r@example.org")
        agent.run("-q", "-D")
        assert [m.sender for m in servers[0].messages] == ["c@x.test"]
        (row,) = agent.queue()
        assert row["sender"] == "a@x.test"
        assert "535" in row["recipients"][0]["last_error"]

    def test_what_waits_behind_a_relay_of_the_map_says_so(self, agent, servers):
        """One of the two was tried; the listing without an owner, and `show`, know why the other waits."""
        servers[1].refuse("connect", "421 4.3.2 not now")
        for _ in range(2):
            agent.send("-bq", "-f", "who@two.test", "r@example.org")
        agent.run("-q", "-D")
        agent.until(agent.owners, what="the owner that stays with what waits")
        agent.close()
        agent.until_no_owner()
        rows = agent.queue()
        assert ["421 4.3.2 not now" in row["recipients"][0]["last_error"] for row in rows] == [True, True]
        for row in rows:
            assert b"421 4.3.2 not now" in agent.program("dma-queue", "show", row["id"], check=0).stdout

    def test_a_map_that_cannot_be_read_sends_nothing_by_another_account(self, agent, servers, relays):
        relays.unlink()
        agent.send("-D", "-f", "a@x.test", "r@example.org")
        assert servers[0].connections == 0
        assert "can not open relay map" in recipient(agent)["last_error"]

    def test_a_changed_map_frees_what_waits(self, agent, servers, relays):
        servers[0].refuse("connect", "421 4.3.2 not now")
        agent.send("-f", "a@x.test", "r@example.org")
        agent.until(lambda: agent.files("log"), what="the deferral")
        self.map(agent, relays, servers, "* 127.0.0.1:{1} bob")
        agent.send("-f", "c@x.test", "r@example.org")  # rings the owner
        assert len(servers[1].wait(2)) == 2

    def test_bad_lines_are_warned_of_with_their_number(self, agent, servers, relays):
        self.map(agent, relays, servers, "nonsense\n@two.test 127.0.0.1:{1}")
        ran = agent.send("-D", "-f", "who@two.test", "r@example.org")
        assert ran.stderr.decode().count(f"{relays}:1: ") == 1
        assert len(servers[1].messages) == 1
