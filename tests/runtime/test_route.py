"""Where a recipient's mail goes next."""

import pytest

from dma_runtime import config
from dma_runtime.policy import tls
from dma_runtime.policy.relaymap import parse
from dma_runtime.policy.route import DIRECT, LOCAL, REFUSED, RELAY, Hop, named, route


def conf(text):
    return config.parse(text, "/dma.conf").sound()


def hops(text, sender="a@b.test", relays=""):
    return [
        (hop.host, hop.port, hop.login, hop.main, hop.lmtp)
        for hop in route("x@y.test", conf(text), sender, parse(relays, "/map")).hops
    ]


class TestKinds:
    def test_a_bare_name_is_local(self):
        assert route("root", conf("SMARTHOST a.test")).kind == LOCAL

    @pytest.mark.parametrize("key", ["LOCALONLY", "DELIVERY LOCALONLY"])
    def test_nothing_leaves(self, key):
        found = route("x@y.test", conf(f"SMARTHOST a.test\n{key}"), "s@t.test", parse("* b.test", "/map"))
        assert found.kind == REFUSED
        assert "LOCALONLY" in found.why

    def test_without_a_smarthost_the_domain_is_asked(self):
        found = route("x@Y.Test", conf(""))
        assert (found.kind, found.host, found.port, found.hops) == (DIRECT, "y.test", 25, ())
        assert found.key == "y.test"

    def test_port_is_the_smarthosts_and_not_for_mx(self):
        assert route("x@y.test", conf("PORT 587")).port == 25

    def test_every_domain_has_the_smarthost(self):
        config = conf("SMARTHOST a.test\nPORT 587")
        assert route("x@y.test", config).key == route("x@z.test", config).key == "a.test:587"
        assert route("x@y.test", config).kind == RELAY


class TestHops:
    def test_fallback_comes_behind_the_smarthost(self):
        assert hops("SMARTHOST a.test:465\nPORT 587\nFALLBACK b.test, [192.0.2.1]:25") == [
            ("a.test", 465, "", True, False),
            ("b.test", 587, "", False, False),
            ("192.0.2.1", 25, "", False, False),
        ]

    def test_a_fallback_that_is_the_smarthost_is_not_tried_twice(self):
        assert hops("SMARTHOST a.test\nFALLBACK a.test b.test b.test") == [
            ("a.test", 25, "", True, False),
            ("b.test", 25, "", False, False),
        ]

    def test_the_map_stands_before_the_smarthost_and_has_no_fallback(self):
        assert hops("SMARTHOST a.test\nFALLBACK b.test", relays="a@b.test c.test:2525 joe") == [
            ("c.test", 2525, "joe", False, False)
        ]

    def test_a_sender_who_is_not_in_the_map(self):
        assert hops("SMARTHOST a.test", relays="@other.test c.test") == [("a.test", 25, "", True, False)]
        assert hops("", relays="@other.test c.test") == []

    def test_two_accounts_at_one_host_are_two_routes(self):
        relays = parse("one@x.test a.test:587 one\ntwo@x.test a.test:587 two", "/map")
        config = conf("SMARTHOST a.test:587")
        keys = {route("r@y.test", config, sender, relays).key for sender in ("one@x.test", "two@x.test", "three@x.test")}
        assert keys == {"a.test:587 as one", "a.test:587 as two", "a.test:587"}

    def test_an_account_at_the_smarthost_itself_keeps_its_pin_and_protocol(self):
        assert hops("SMARTHOST A.test:587\nLMTP", relays="* a.test:587 me") == [("A.test", 587, "me", True, True)]
        assert hops("SMARTHOST A.test:587\nLMTP", relays="* a.test:25 me") == [("a.test", 25, "me", False, False)]

    def test_lmtp(self):
        assert hops("SMARTHOST a.test\nLMTP") == [("a.test", 24, "", True, True)]
        assert hops("SMARTHOST a.test\nLMTP\nPORT 2003") == [("a.test", 2003, "", True, True)]
        assert hops("SMARTHOST a.test:2003\nLMTP") == [("a.test", 2003, "", True, True)]
        assert hops("SMARTHOST /run/lmtp\nLMTP\nFALLBACK b.test") == [
            ("/run/lmtp", 0, "", True, True),
            ("b.test", 25, "", False, False),
        ]

    @pytest.mark.parametrize(
        ("hop", "key"),
        [
            (Hop("a.test", 25), "a.test:25"),
            (Hop("2001:db8::1", 25), "[2001:db8::1]:25"),
            (Hop("/run/lmtp", 0), "/run/lmtp"),
            (Hop("a.test", 587, "joe"), "a.test:587 as joe"),
        ],
    )
    def test_names(self, hop, key):
        assert hop.key == key


PIN = "ab" * 32


class TestTlsOfOtherRelays:
    """The keys are written for the smarthost; what they mean for the others."""

    @pytest.mark.parametrize(
        ("keys", "port", "implicit"),
        [
            ("SECURETRANSFER\nSTARTTLS", 465, True),
            ("SECURETRANSFER\nSTARTTLS", 587, False),
            ("SECURETRANSFER\nSTARTTLS", 2525, False),
            ("SECURETRANSFER", 587, False),
            ("SECURETRANSFER", 465, True),
            ("SECURETRANSFER", 2525, True),
        ],
    )
    def test_the_port_decides(self, keys, port, implicit):
        found = tls.decide(conf(keys), port, will_authenticate=False, main=False)
        assert (found.level, found.implicit) == (tls.REQUIRED, implicit)

    def test_the_smarthosts_port_does_not(self):
        assert tls.decide(conf("SECURETRANSFER"), 587, will_authenticate=False).implicit
        assert not tls.decide(conf("SECURETRANSFER\nSTARTTLS"), 465, will_authenticate=False).implicit

    def test_the_pin_is_the_smarthosts(self):
        config = conf(f"SECURETRANSFER\nFINGERPRINT {PIN}")
        mine = tls.decide(config, 465, will_authenticate=True)
        assert (mine.verify, mine.fingerprint) == (tls.FINGERPRINT, PIN)
        for login in (True, False):
            other = tls.decide(config, 465, will_authenticate=login, main=False)
            assert (other.verify, other.fingerprint) == (tls.NAME, "")

    def test_a_login_at_another_relay_needs_tls_too(self):
        found = tls.decide(conf(""), 25, will_authenticate=True, main=False)
        assert (found.level, found.verify) == (tls.REQUIRED, tls.NAME)


def test_the_relays_that_the_configuration_names():
    found = parse("@x.test c.test me\n* d.test:2525\n", "m")
    assert named(conf("SMARTHOST a.test:587\nFALLBACK b.test\n"), found) == {
        "a.test:587", "b.test:25", "c.test:25 as me", "d.test:2525",
    }  # fmt: skip
    assert named(conf("")) == set()
