"""Delivery to mail exchangers found by MX: a zone, several servers, and an owner at work."""

import asyncio
import time

import pytest
from exchange import Exchange
from mail_server import CLOSE

from dma_runtime.system import clock, net, relays
from dma_runtime.system.fs import FileSystem

ZONE = """
example.org.   300 MX 10 mx2.test.
example.org.   300 MX 20 mx3.test.
example.org.   300 MX 30 mx4.test.
"""


@pytest.fixture
def exchange(tmp_path, monkeypatch):
    with Exchange(tmp_path, monkeypatch, ZONE) as exchange:
        yield exchange


class TestChoice:
    def test_the_best_exchanger_takes_it(self, exchange):
        exchange.host(2)
        exchange.host(3)
        exchange.send("bob@example.org")
        exchange.run()
        assert exchange.got(2) == [["bob@example.org"]]
        assert exchange.host(3).connections == 0
        assert not exchange.agent.files()

    def test_recipients_of_a_domain_share_a_transaction_whatever_its_case(self, exchange):
        exchange.host(2)
        exchange.send("a@example.org", "b@Example.ORG", "c@example.org")
        exchange.run()
        assert exchange.host(2).connections == 1
        assert len(exchange.got(2)) == 1

    def test_one_question_for_a_domain(self, exchange):
        exchange.host(2)
        for name in "abc":
            exchange.send(f"{name}@example.org")
        exchange.run()
        assert len(exchange.got(2)) == 3
        assert len(exchange.names.asked) == 1

    def test_equal_preference_is_shared(self, exchange):
        exchange.names.add("even.test. 300 MX 10 mx2.test.\neven.test. 300 MX 10 mx3.test.")
        exchange.host(2)
        exchange.host(3)
        for dice in ([0.1, 0.9], [0.9, 0.1]):
            exchange.dice = iter(dice * 9).__next__
            exchange.send("bob@even.test")
            exchange.run()
        assert len(exchange.got(2)) == len(exchange.got(3)) == 1

    def test_without_mx_the_domain_itself(self, exchange):
        exchange.names.add("plain.test. 300 A 127.0.0.2")
        exchange.addresses["plain.test"] = "127.0.0.2"
        exchange.host(2)
        exchange.send("bob@plain.test")
        exchange.run()
        assert exchange.got(2) == [["bob@plain.test"]]

    def test_through_a_cname(self, exchange):
        exchange.names.add("alias.test. 300 CNAME example.org.")
        exchange.host(2)
        exchange.send("bob@alias.test")
        exchange.run()
        assert exchange.got(2) == [["bob@alias.test"]]

    def test_an_international_domain(self, exchange):
        exchange.names.add("xn--mller-kva.test. 300 MX 10 mx2.test.")
        exchange.host(2)
        exchange.send("bob@müller.test")
        exchange.run()
        assert exchange.got(2) == [["bob@xn--mller-kva.test"]]

    def test_a_sender_of_an_international_domain(self, exchange):
        exchange.host(2)
        exchange.send("bob@example.org", sender="me@müller.test")
        exchange.run()
        (message,) = exchange.host(2).messages
        assert message.sender == "me@xn--mller-kva.test"
        assert "SMTPUTF8" not in message.options

    def test_an_address_literal(self, exchange):
        exchange.host(2)
        exchange.send("bob@[127.0.0.2]")
        exchange.run()
        assert exchange.got(2) == [["bob@[127.0.0.2]"]]
        assert exchange.names.asked == []

    def test_exchangers_from_our_own_on_are_left_out(self, exchange):
        exchange.our_name = "mx3.test"
        exchange.host(2).refuse("RCPT TO", "451 4.7.1 later")
        exchange.host(3)
        exchange.host(4)
        exchange.send("bob@example.org")
        exchange.run()
        assert exchange.host(3).connections == exchange.host(4).connections == 0
        assert exchange.recipients()["bob@example.org"]["attempts"] == 1


    def test_domains_that_are_done_with_are_forgotten(self, exchange, monkeypatch):
        monkeypatch.setattr("dma_runtime.delivery.rounds.MOST_RELAYS", 0)
        monkeypatch.setattr("dma_runtime.delivery.rounds.BETWEEN_LOOKS", 0)
        exchange.names.add("other.test. 300 MX 10 mx3.test.\nbroken.test. 300 MX 10 mx9.test.")
        exchange.host(2)
        for domain in ("example.org", "other.test", "broken.test"):
            exchange.send(f"bob@{domain}")
        owner = exchange.run()
        owner.rounds.dispatch()
        assert owner.rounds._relays == {}
        assert list(owner.rounds.relays) == ["other.test", "broken.test"]  # down, and remembered as that


    def test_hundreds_of_domains_that_cannot_be_reached_are_not_all_written_down_for_each(self, exchange, monkeypatch, tmp_path):
        """The file with what is known of relays grows with each; written for each it took ten minutes for ten thousand."""
        written = []

        def write(path, states, now, really=relays.write):
            written.append(len(states))
            really(path, states, now)

        monkeypatch.setattr(relays, "write", write)
        (tmp_path / "resolv.conf").unlink()
        for number in range(200):
            exchange.send(f"bob@domain{number}.test")
        owner = exchange.run()
        assert len(written) < 20
        assert len(relays.read(owner.spool.path, clock.now().wall)) == 200


class SlowDisk(FileSystem):
    def fsync(self, fd):
        time.sleep(0.5)
        super().fsync(fd)


class TestChanged:
    def test_what_is_deferred_while_the_configuration_changes_is_tried_by_the_new_one(self, exchange):
        """Seen on a busy machine: corrected while the deferral was being written down, and it waited five minutes all the same."""
        exchange.host(2).refuse("MAIL FROM", "451 4.3.0 not now", times=1)
        exchange.names.add("one.test. 300 MX 10 mx2.test.")
        exchange.send("bob@one.test")

        async def change(one):
            one.ledger.fs = SlowDisk()
            until = time.monotonic() + 10
            while not any(item.round is not None and item.round.deferred for item in one.queue.items.values()):
                assert time.monotonic() < until
                await asyncio.sleep(0.005)
            one._reload()

        exchange.run(beside=change)
        assert exchange.got(2) == [["bob@one.test"]]


class TestFinal:
    @pytest.mark.parametrize(
        ("domain", "status", "text"),
        [
            ("null.test", "5.1.10", "null.test takes no mail (null MX)"),
            ("nowhere.test", "5.1.2", "DNS lookup failure: host nowhere.test not found"),
            ("loop.test", "5.4.6", "loops back to this machine"),
            ("[127.0.0.999]", "5.1.3", "is not an address"),
            ("noaddress.test", "5.4.4", "DNS lookup failure: host gone.test"),
        ],
    )
    def test_nobody_takes_it(self, exchange, domain, status, text):
        exchange.names.add("null.test. 300 MX 0 .\nloop.test. 300 MX 5 us.test.\nnoaddress.test. 300 MX 5 gone.test.")
        exchange.send(f"a@{domain}")
        exchange.send(f"b@{domain}")
        exchange.run()
        reports = exchange.reports()
        assert len(reports) == 2
        for report in reports:
            assert f"Status: {status}" in report
            assert text in " ".join(report.split())
        assert not exchange.recipients()

    def test_the_other_domains_of_a_message_get_it(self, exchange):
        exchange.host(2)
        exchange.send("a@nowhere.test", "b@example.org")
        exchange.run()
        assert exchange.got(2) == [["b@example.org"]]
        assert len(exchange.reports()) == 1

    def test_a_refusal_is_not_offered_to_the_next_host(self, exchange):
        exchange.host(2).refuse("RCPT TO", "550 5.1.1 no such user")
        exchange.host(3)
        exchange.send("bob@example.org")
        exchange.run()
        assert exchange.host(3).connections == 0
        assert len(exchange.reports()) == 1


class TestNextHost:
    def test_when_the_first_refuses_connections(self, exchange):
        exchange.host(3)
        exchange.send("bob@example.org")
        exchange.run()
        assert exchange.got(3) == [["bob@example.org"]]
        assert any("relay mx2.test:" in line and "other hosts are preferred" in line for line in exchange.log)

    @pytest.mark.parametrize("reply", ["421 4.3.2 not now", "554 5.7.1 not you", CLOSE])
    @pytest.mark.parametrize("stage", ["connect", "EHLO"])
    def test_when_the_first_does_not_let_us_in(self, exchange, stage, reply):
        exchange.host(2).refuse(stage, reply)
        exchange.host(3)
        exchange.send("bob@example.org")
        exchange.run()
        assert exchange.got(3) == [["bob@example.org"]]
        assert not exchange.agent.files()

    @pytest.mark.parametrize(
        ("stage", "reply"),
        [
            ("MAIL FROM", "451 4.7.1 later"),
            ("RCPT TO", "451 4.7.1 greylisted"),
            ("DATA", "451 4.3.0 later"),
            ("final DATA", "451 4.3.0 later"),
            ("MAIL FROM", "421 4.3.2 closing"),
            ("RCPT TO", CLOSE),
        ],
    )
    def test_when_the_first_defers(self, exchange, stage, reply):
        exchange.host(2).refuse(stage, reply)
        exchange.host(3)
        exchange.send("bob@example.org")
        exchange.run()
        assert exchange.got(3) == [["bob@example.org"]]
        assert not exchange.agent.files()

    def test_only_those_who_were_deferred(self, exchange):
        exchange.host(2).refuse("RCPT TO", "451 4.7.1 greylisted", when="late")
        exchange.host(2).refuse("RCPT TO", "550 5.1.1 unknown", when="bad")
        exchange.host(3)
        exchange.send("now@example.org", "late@example.org", "bad@example.org")
        exchange.run()
        assert exchange.got(2) == [["now@example.org"]]
        assert exchange.got(3) == [["late@example.org"]]
        (report,) = exchange.reports()
        assert "bad@example.org" in report

    def test_not_what_may_have_been_delivered(self, exchange):
        exchange.host(2).refuse("final DATA", CLOSE)
        exchange.host(3)
        exchange.send("bob@example.org")
        exchange.run()
        assert exchange.host(3).connections == 0
        assert "may have been delivered" in exchange.recipients()["bob@example.org"]["last_error"]

    def test_one_attempt_when_all_defer_and_each_was_asked_once(self, exchange):
        for number in (2, 3, 4):
            exchange.host(number).refuse("RCPT TO", f"451 4.7.1 later, says {number}")
        exchange.send("bob@example.org")
        exchange.run()
        recipient = exchange.recipients()["bob@example.org"]
        assert recipient["attempts"] == 1
        assert [exchange.host(number).connections for number in (2, 3, 4)] == [1, 1, 1]

    def test_one_attempt_when_all_are_down(self, exchange):
        exchange.port = exchange.host(9).port  # a port where the three do not listen
        exchange.send("a@example.org")
        exchange.send("b@example.org")
        exchange.run()
        assert [one["state"] for one in exchange.recipients().values()].count("deferred") == 1
        assert all("Connection refused" in one["last_error"] for one in exchange.recipients().values())

    def test_a_host_that_is_down_is_not_asked_for_each_message(self, exchange):
        exchange.host(2).refuse("connect", "421 4.3.2 not now")
        exchange.host(3)
        exchange.agent.configure("MAXMESSAGES 1")
        for number in range(6):
            exchange.send(f"u{number}@example.org")
        exchange.run()
        assert len(exchange.got(3)) == 6
        assert exchange.host(2).connections == 1

    def test_what_the_first_defers_waits_when_no_other_host_is_up(self, exchange):
        exchange.host(2).refuse("RCPT TO", "451 4.7.1 greylisted", when="late")
        exchange.send("late@example.org")
        exchange.send("now@example.org")
        exchange.run()
        assert exchange.got(2) == [["now@example.org"]]
        recipient = exchange.recipients()["late@example.org"]
        assert "greylisted" in recipient["last_error"]
        assert recipient["attempts"] == 1

    def test_a_dead_second_host_keeps_none_of_many_from_being_asked_for_at_the_first(self, exchange):
        exchange.names.add("two.test. 300 MX 10 mx2.test.\ntwo.test. 300 MX 20 mx3.test.")
        exchange.host(2).refuse("RCPT TO", "451 4.7.1 greylisted")
        for number in range(40):
            exchange.send(f"u{number}@two.test")
        exchange.run()
        assert {one["last_error"] for one in exchange.recipients().values()} == {"451 4.7.1 greylisted"}
        assert [verb for _, verb, _ in exchange.host(2).commands].count("RCPT") == 40

    def test_a_dead_second_host_is_not_asked_for_each_message_that_the_first_defers(self, exchange, monkeypatch):
        connected = []

        async def connect(addresses, within, really=net.connect):
            connected.extend(where[0] for _, where in addresses)
            return await really(addresses, within)

        monkeypatch.setattr(net, "connect", connect)
        exchange.names.add("two.test. 300 MX 10 mx2.test.\ntwo.test. 300 MX 20 mx3.test.")
        exchange.agent.configure("MAXMESSAGES 1\nMAXCONNECTIONS 1")
        exchange.host(2).refuse("RCPT TO", "451 4.7.1 greylisted")
        for number in range(12):
            exchange.send(f"u{number}@two.test")
        exchange.run()
        assert (connected.count("127.0.0.2"), connected.count("127.0.0.3")) == (12, 1)

    def test_others_do_not_wait_for_one_that_the_first_deferred(self, exchange):
        exchange.agent.configure("MAXMESSAGES 1")
        exchange.host(2).refuse("RCPT TO", "451 4.7.1 greylisted", when="late")
        exchange.send("late@example.org")
        exchange.send("now@example.org")
        exchange.run()
        assert exchange.got(2) == [["now@example.org"]]

    def test_a_second_host_without_an_address_fails_nobody(self, exchange):
        exchange.names.add("half.test. 300 MX 10 mx2.test.\nhalf.test. 300 MX 20 gone.test.")
        exchange.agent.configure("MAXMESSAGES 1")
        exchange.host(2).refuse("RCPT TO", "451 4.7.1 greylisted", when="late")
        exchange.send("late@half.test")
        exchange.send("now@half.test")
        exchange.run()
        assert exchange.got(2) == [["now@half.test"]]
        assert "greylisted" in exchange.recipients()["late@half.test"]["last_error"]
        assert not exchange.reports()

    def test_a_domain_that_takes_nothing_is_asked_once_for_all_messages(self, exchange):
        for number in (2, 3, 4):
            exchange.host(number).refuse("MAIL FROM", "452 4.3.1 no space")
        for number in range(12):
            exchange.send(f"u{number}@example.org")
        exchange.run()
        assert len(exchange.recipients()) == 12
        assert sum(host.connections for host in exchange.hosts.values()) <= 6

    def test_a_host_without_an_address_is_no_reason_to_give_up(self, exchange):
        exchange.names.add("half.test. 300 MX 10 gone.test.\nhalf.test. 300 MX 20 mx2.test.\nhalf.test. 300 MX 30 lost.test.")
        exchange.port = exchange.host(9).port
        exchange.send("bob@half.test")
        exchange.run()
        assert "Connection refused" in exchange.recipients()["bob@half.test"]["last_error"]
        exchange.host(2)
        exchange.run()
        assert exchange.got(2) == [["bob@half.test"]]


class TestResolver:
    @pytest.mark.parametrize("fault", ["SERVFAIL", "SILENT"])
    def test_a_domain_whose_servers_are_broken_is_deferred_and_answered(self, exchange, fault):
        exchange.names.faults["example.org."] = fault
        exchange.send("bob@example.org")
        owner = exchange.run()
        recipient = exchange.recipients()["bob@example.org"]
        assert recipient["state"] == "deferred"
        assert "DNS lookup failure" in recipient["last_error"]
        (item,) = owner.queue.items.values()
        assert item.state.recipients[0].answers == 1
        assert item.state.recipients[0].backoff == 300

    @pytest.mark.parametrize("text", [None, "", "search test\n"])
    def test_no_resolver_is_a_state_of_the_machine(self, exchange, text, tmp_path):
        path = tmp_path / "resolv.conf"
        path.unlink() if text is None else path.write_text(text)
        exchange.send("bob@example.org")
        owner = exchange.run()
        recipient = exchange.recipients()["bob@example.org"]
        assert recipient["state"] == "deferred"
        assert "resolv.conf" in recipient["last_error"]
        (item,) = owner.queue.items.values()
        assert (item.state.recipients[0].answers, item.state.recipients[0].backoff) == (0, 0)
        assert owner.rounds.without_network == 1
        exchange.names.resolv_conf(path)
        exchange.host(2)
        exchange.run()
        assert exchange.got(2) == [["bob@example.org"]]

    def test_many_domains_without_a_resolver_are_one_round(self, exchange, tmp_path):
        (tmp_path / "resolv.conf").unlink()
        for number in range(5):
            exchange.send(f"bob@domain{number}.test")
        assert exchange.run().rounds.without_network == 1

    def test_no_name_server_that_answers(self, exchange):
        exchange.names.close()
        exchange.send("bob@example.org")
        owner = exchange.run()
        assert owner.rounds.without_network == 1
        assert exchange.recipients()["bob@example.org"]["state"] == "deferred"


class TestTrust:
    def test_tls_where_it_is_offered(self, exchange):
        exchange.host(2, tls="starttls")
        exchange.send("bob@example.org")
        exchange.run()
        assert exchange.host(2).messages[0].tls

    def test_no_login_for_hosts_found_by_mx(self, exchange):
        auth = exchange.agent.auth
        exchange.agent.write(auth, "alice|example.org:secret\nalice|mx3.test:secret\n")
        exchange.agent.configure(f"AUTHPATH {auth}")
        exchange.host(2, users=None, tls="starttls")
        exchange.send("bob@example.org")
        exchange.run()
        assert [m.login for m in exchange.host(2).messages] == [""]
        assert not any(verb == "AUTH" for _, verb, _ in exchange.host(2).commands)

    def test_a_login_for_that_very_host_only_if_it_proves_its_name(self, exchange):
        auth = exchange.agent.auth
        exchange.agent.write(auth, "alice|mx2.test:secret\n")
        exchange.agent.configure(f"AUTHPATH {auth}")
        exchange.names.add("one.test. 300 MX 1 mx2.test.")
        exchange.host(2, users={"alice": "secret"}, tls="starttls")  # its certificate is for localhost, and of nobody known
        exchange.send("bob@one.test")
        exchange.run()
        assert exchange.host(2).logins == []
        assert "certificate" in exchange.recipients()["bob@one.test"]["last_error"].lower()
