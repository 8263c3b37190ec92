"""REQUIRETLS and `TLS-Required: No' (RFC 8689), from whoever says it to the relay, or back to him.

Real programs and server; direct delivery in this process. The wire is in tests/dialogues/requiretls-*."""

import email

import pytest
from agent import Agent
from exchange import Exchange
from lmtp_server import LmtpServer
from mail_server import MailServer

from dma_runtime import frames, request
from dma_runtime.config import parse
from dma_runtime.envelope import OPTIONAL, REQUIRE, Envelope, Recipient, decode, encode
from dma_runtime.message import headers
from dma_runtime.policy import tls
from dma_runtime.policy.route import route

DIALOGUE = "EHLO x\r\nMAIL FROM:<me@x.test>{}\r\nRCPT TO:<bob@y.test>\r\nDATA\r\n{}Subject: s\r\n\r\nbody\r\n.\r\nQUIT\r\n"
NO = b"TLS-Required: No\nSubject: x\n\nhello\n"


@pytest.fixture
def make(tmp_path):
    made = []

    def make(server=None, **keywords):
        directory = tmp_path / f"agent{len(made)}"
        directory.mkdir()
        made.append(Agent(directory, server, **keywords))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


@pytest.fixture
def knowing():
    with MailServer(tls="starttls", requiretls=True) as server:
        yield server


def senders(server):
    """The arguments of MAIL, as the relay heard them."""
    return [argument for _, verb, argument in server.commands if verb == "MAIL"]


def report(server):
    (found,) = [email.message_from_bytes(m.content) for m in server.messages if m.sender == "<>"]
    return found


class TestWhoSaysIt:
    def test_the_parameter_of_minus_bs(self, make, knowing):
        agent = make(knowing)
        ran = agent.run("-bs", stdin=DIALOGUE.format(" REQUIRETLS", "").encode())
        assert b"250-REQUIRETLS\r\n" in ran.stdout
        assert ran.stdout.count(b"\r\n250 2.") == 3
        knowing.wait(1)
        (said,) = senders(knowing)
        assert said.split()[-1] == "REQUIRETLS"

    def test_and_not_for_the_next_message(self, make, knowing):
        agent = make(knowing)
        first = DIALOGUE.format(" REQUIRETLS", "").replace("QUIT\r\n", "")
        second = DIALOGUE.format("", "").replace("EHLO x\r\n", "")
        agent.run("-bs", stdin=(first + second).encode())
        knowing.wait(2)
        agent.until_empty()
        assert sorted("REQUIRETLS" in said for said in senders(knowing)) == [False, True]

    def test_a_parameter_with_a_value_is_none(self, make, knowing):
        ran = make(knowing).run("-bs", stdin=DIALOGUE.format(" REQUIRETLS=1", "").encode())
        assert b"\r\n501 5.5.4" in ran.stdout or b"\r\n555 5.5.4" in ran.stdout
        assert knowing.messages == []

    def test_the_key(self, make, knowing):
        agent = make(knowing, conf="REQUIRETLS")
        agent.send("-D", "bob@y.test")
        agent.send("-D", "bob@y.test", text=NO)
        assert ["REQUIRETLS" in said for said in senders(knowing)] == [True, False]
        assert agent.files() == []

    def test_the_parameter_overrules_the_header(self, make, knowing):
        agent = make(knowing)
        agent.run("-bs", stdin=DIALOGUE.format(" REQUIRETLS", "TLS-Required: No\r\n").encode())
        knowing.wait(1)
        assert "REQUIRETLS" in senders(knowing)[0]

    @pytest.mark.parametrize("text", [b"TLS-Required: yes\n", b"TLS-Required: No\nTLS-Required: No\n", b"X-TLS-Required: No\n"])
    def test_a_header_that_is_none(self, text):
        assert not headers.tls_optional(headers.read(iter([text + b"\n", b""]).__next__)[0])

    def test_a_header_however_it_is_written(self):
        assert headers.tls_optional(headers.read(iter([b"tls-required:\n\tNO \n\n", b""]).__next__)[0])


class TestTheRelay:
    def test_without_it_the_message_comes_back_and_nothing_of_it_was_said(self, make):
        with MailServer(tls="starttls") as server:
            agent = make(server, conf="REQUIRETLS")
            agent.send("-D", "-f", "me@x.test", "bob@y.test")
            server.wait(1)
            agent.until_empty()
            assert senders(server) == ["FROM:<> SIZE=" + senders(server)[0].partition("SIZE=")[2]]  # the report alone
            (_, about) = report(server).get_payload(1).get_payload()
            assert about["Status"] == "5.7.30"
            assert "REQUIRETLS support required" in about["Diagnostic-Code"]

    def test_the_report_asks_for_it_too_and_holds_no_more_than_the_header(self, make, knowing):
        knowing.refuse("RCPT TO", "550 5.1.1 no such user", when="bob@")
        agent = make(knowing, conf="REQUIRETLS\nFULLBOUNCE")
        agent.send("-D", "-f", "me@x.test", "bob@y.test")
        knowing.wait(1)
        found = report(knowing)
        assert "REQUIRETLS" in senders(knowing)[-1]
        assert found.get_payload(2).get_content_type() == "text/rfc822-headers"
        assert b"hello" not in knowing.messages[0].content

    def test_without_tls_it_comes_back_and_other_mail_goes(self, make):
        with MailServer() as server:
            agent = make(server)
            agent.run("-bs", stdin=DIALOGUE.format(" REQUIRETLS", "").encode())
            agent.send("-D", "other@y.test")
            server.wait(2)
            agent.until_empty()
            assert ["other@y.test"] in [m.recipients for m in server.messages]
            (_, about) = report(server).get_payload(1).get_payload()
            assert about["Status"] == "5.7.10"

    def test_without_tls_where_a_login_needs_it_all_mail_waits(self, make):
        with MailServer(users={"alice": "secret"}) as server:
            agent = make(server, conf="REQUIRETLS\nSECURETRANSFER\nSTARTTLS")
            agent.send("-D", "bob@y.test")
            (row,) = agent.queue()
            assert row["state"] == "queued"
            assert "STARTTLS" in row["recipients"][0]["last_error"]

    def test_a_certificate_that_cannot_be_verified_holds_it(self, make, knowing):
        agent = make(knowing)
        agent.base = "".join(line + "\n" for line in agent.base.splitlines() if "FINGERPRINT" not in line)
        agent.configure("UNVERIFIEDCERT")
        agent.run("-bs", stdin=DIALOGUE.format(" REQUIRETLS", "").encode())
        agent.send("-D", "other@y.test")
        assert [m.recipients for m in knowing.wait(1)] == [["other@y.test"]]
        agent.until(lambda: "certificate" in str(agent.queue()[0]["recipients"][0]["last_error"]), what="the reason")

    def test_its_pace_is_that_of_all_mail_to_the_relay(self, make, knowing):
        agent = make(knowing, conf="RATE 2/h")
        for _ in range(2):
            agent.run("-bs", stdin=DIALOGUE.format(" REQUIRETLS", "").encode())
            agent.send("-D", "other@y.test")
        assert len(knowing.wait(2)) == 2
        agent.until(lambda: len(agent.files()) == 2, what="the first two to be gone")
        assert all("RATE 2/h is reached" in row["recipients"][0]["last_error"] for row in agent.queue())

    def test_where_all_mail_is_as_safe_it_has_no_connections_of_its_own(self, make):
        with MailServer(tls="starttls", requiretls=True, users={"alice": "secret"}) as server:
            agent = make(server, conf="REQUIRETLS")
            for number in range(20):
                agent.send("-bq", f"u{number}@y.test")
                agent.send("-bq", f"v{number}@y.test", text=NO)
            agent.run("-q", "-D")
            assert len(server.messages) == 40
            assert sum("REQUIRETLS" in said for said in senders(server)) == 20
            assert server.connections == server.most_open == 4

    def test_and_the_list_knows_why_it_waits(self, make):
        with MailServer(tls="starttls", requiretls=True, users={"alice": "secret"}) as server:
            agent = make(server, conf="REQUIRETLS")
            for number in range(3):
                agent.send("-bq", f"u{number}@y.test")
            server.refuse("connect", "421 4.3.2 not now")
            agent.run("-q", "-D")
            assert server.connections == 1
            assert ["421 4.3.2 not now" in (row["recipients"][0]["last_error"] or "") for row in agent.queue()] == [True] * 3

    def test_a_socket_of_this_machine_is_no_hop(self, make, tmp_path):
        with LmtpServer(path=tmp_path / "lmtp") as server:
            agent = make(conf=f"REQUIRETLS\nLMTP\nSMARTHOST {tmp_path}/lmtp")
            agent.send("-D", "bob@y.test")
            assert len(server.messages) == 1
            assert agent.files() == []


class TestDirectDelivery:
    """A host found by MX is not known for certain, neither by DNSSEC nor by MTA-STS: RFC 8689 4.2.1, step 2."""

    @pytest.fixture
    def exchange(self, tmp_path, monkeypatch):
        zone = "y.test. 300 MX 10 mx2.test."
        with Exchange(tmp_path, monkeypatch, zone, conf="SECURETRANSFER\nSTARTTLS\nVERIFYCERT") as exchange:
            exchange.host(2, tls="starttls", requiretls=True)
            yield exchange

    def send(self, exchange, wish, text=b"Subject: s\n\nhello\n"):
        from dma_runtime.system.spool import Spool

        spool = Spool(str(exchange.agent.spool))
        spool.prepare(own_only=False)
        envelope = Envelope("", "me@sender.test", [Recipient("bob@y.test")], 1795000000.0)
        envelope.tls = wish
        envelope.header_end = 11
        draft = spool.draft(envelope)
        draft.write(text)
        draft.commit(envelope)

    def test_it_comes_back(self, exchange):
        self.send(exchange, REQUIRE)
        exchange.run()
        assert exchange.host(2).connections == 0
        (found,) = exchange.reports()
        assert "Status: 5.7.10" in found
        assert "not known for certain" in " ".join(found.split())

    def test_a_message_that_needs_none_goes_where_others_wait(self, exchange):
        self.send(exchange, "")
        self.send(exchange, OPTIONAL)
        exchange.run()
        (got,) = exchange.host(2).messages
        assert got.tls  # what is there is used
        assert "REQUIRETLS" not in str(got.options)
        ((address, one),) = exchange.recipients().items()
        assert (address, one["state"]) == ("bob@y.test", "deferred")
        assert "certificate" in one["last_error"]


class TestRules:
    def test_what_it_makes_of_the_keys(self):
        pin = "ab" * 32
        for conf, port, expected in (
            ("SMARTHOST r", 25, (tls.REQUIRED, tls.NAME, False)),
            ("SMARTHOST r:465", 465, (tls.REQUIRED, tls.NAME, True)),
            ("SMARTHOST r\nSECURETRANSFER", 25, (tls.REQUIRED, tls.NAME, True)),
            ("SMARTHOST r\nSECURETRANSFER\nSTARTTLS\nOPPORTUNISTIC_TLS", 25, (tls.REQUIRED, tls.NAME, False)),
            (f"SMARTHOST r\nFINGERPRINT {pin}", 25, (tls.REQUIRED, tls.FINGERPRINT, False)),
            ("SMARTHOST r\nUNVERIFIEDCERT", 25, (tls.REQUIRED, tls.NAME, False)),
        ):
            for signs_in in (True, False):
                found = tls.decide(parse(conf, "x"), port, will_authenticate=signs_in, wish=REQUIRE)
                assert (found.level, found.verify, found.implicit) == expected, conf
        assert tls.decide(parse("", "x"), 0, will_authenticate=False, wish=REQUIRE).level == tls.NONE

    def test_a_message_that_needs_none_changes_nothing_at_a_smarthost(self):
        conf = parse("SMARTHOST r\nSECURETRANSFER\nVERIFYCERT", "x")
        assert tls.decide(conf, 465, will_authenticate=True, wish=OPTIONAL) == tls.decide(conf, 465, will_authenticate=True)
        assert route("a@b", conf, "c@d", tls=OPTIONAL).key == route("a@b", conf, "c@d").key

    def test_it_has_sessions_of_its_own_except_for_reports(self):
        conf = parse("SMARTHOST r", "x")
        assert route("a@b", conf, "c@d", tls=REQUIRE).key != route("a@b", conf, "c@d").key
        assert route("a@b", conf, "", tls=REQUIRE).key == route("a@b", conf, "").key

    def test_the_envelope_keeps_it(self):
        made = Envelope("abc", "a@b", [Recipient("c@d")], 1.0)
        made.tls = REQUIRE
        assert decode(encode(made)).tls == REQUIRE
        made.tls = ""
        assert b'"tls"' not in encode(made)

    def test_a_daemon_that_does_not_know_it_refuses(self):
        asked = request.Request()
        asked.requiretls = True
        payload = request.encode(asked)[5:]
        assert request.decode(payload).requiretls
        with pytest.raises(frames.BadFrame, match="requiretls"):
            frames.read_object(payload, {"do": str}, ())
        asked.requiretls = False
        assert b"needs" not in request.encode(asked)

    def test_direct_delivery_with_the_key_is_warned_of(self):
        assert any("no exchanger found by DNS" in line for line in parse("REQUIRETLS", "x").warnings)
        assert parse("SMARTHOST r\nREQUIRETLS", "x").warnings == []
