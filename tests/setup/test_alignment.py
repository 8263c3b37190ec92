"""SPF, DKIM and DMARC of a sender's domain against a relay: the rules, and what doctor makes of them."""

import pytest
from patients import only, patient

from dma_setup import alignment
from dma_setup.alignment import Dmarc, Dns, NoAnswer
from dma_setup.checkup import sender
from dma_setup.checkup.finding import OK, WARN


class Zone(Dns):
    def __init__(self, texts=(), addresses=(), exchangers=()):
        self._texts, self._addresses, self._exchangers = dict(texts), dict(addresses), dict(exchangers)
        self.asked = []

    def texts(self, name):
        self.asked.append(name)
        return self._texts.get(name, [])

    def addresses(self, name):
        return self._addresses.get(name, [])

    def exchangers(self, name):
        return self._exchangers.get(name, [])


RELAY = {"relay.example"}


def spf(record, zone=None, addresses=(), homes=RELAY):
    records = record if isinstance(record, list) else [record]
    made = zone or Zone()
    made._texts["own.example"] = records
    return alignment.spf("own.example", homes, addresses, made)


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ("v=spf1 include:spf.relay.example ~all", True),
        ("v=spf1 include:hop.example -all", True),  # through another's record
        ("v=spf1 redirect=_spf.relay.example", True),
        ("v=spf1 a:mail.relay.example -all", True),
        ("v=spf1 -include:spf.relay.example -all", False),  # named, as one that may not
        ("v=spf1 include:spf.else.example -all", False),
        ("v=spf1 include:notrelay.example.org -all", False),
        ("v=spf1 ip4:192.0.2.0/24 -all", True),  # the relay's own address
        ("v=spf1 ip4:198.51.100.0/24 -all", False),
        ("v=spf1 ip6:2001:db8::/32 -all", True),
        ("v=spf1 a -all", True),
        ("v=spf1 a/28 -all", True),
        ("v=spf1 mx -all", True),
        ("v=spf1 exists:%{i}.relay.example -all", False),  # macros name nobody
        ("v=spf1 -all", False),
    ],
)
def test_whether_spf_names_the_relay(record, names):
    zone = Zone(
        {
            "hop.example": ["v=spf1 include:spf.relay.example -all"],
            "spf.relay.example": ["v=spf1 -all"],
            "_spf.relay.example": ["v=spf1 -all"],
            "spf.else.example": ["v=spf1 ip4:203.0.113.1 -all"],
            "notrelay.example.org": ["v=spf1 -all"],
        },
        {"own.example": ["192.0.2.9"], "mx.own.example": ["192.0.2.7"]},
        {"own.example": ["mx.own.example"]},
    )
    found = spf(record, zone, ["192.0.2.7", "2001:db8::7"] if "a" in record else ["192.0.2.7"])
    if record == "v=spf1 a -all":
        found = spf(record, zone, ["192.0.2.9"])
    assert (found.fault, found.names_relay) == ("", names)


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (["v=spf1 a -all", "v=spf1 mx -all"], "has 2 SPF records, so none counts"),
        ("v=spf1 " + " ".join(f"a:h{n}.example" for n in range(11)), "needs 11 DNS lookups; receivers stop at 10"),
        ("v=spf1 include:deep.example -all", "needs 12 DNS lookups"),
        ("v=spf1 include:none.example -all", "leads to none.example, which has no SPF record"),
        ("v=spf1 ip4:300.1.1.1 -all", "has a bad address: 300.1.1.1"),
        ("v=spf1 includes:spf.relay.example -all", "has an unknown term: includes:spf.relay.example"),
    ],
)
def test_records_that_count_for_nothing(record, fault):
    deep = {"deep.example": ["v=spf1 " + " ".join(f"mx:h{n}.example" for n in range(11))]}
    found = spf(record, Zone({**deep, "spf.relay.example": ["v=spf1 -all"]}))
    assert fault in found.fault


def test_spf_that_lets_anybody():
    assert spf("v=spf1 +all").lets_all
    assert spf("v=spf1 all").lets_all
    assert not spf("v=spf1 ?all").lets_all
    assert not spf("v=spf1 include:open.example -all", Zone({"open.example": ["v=spf1 +all"]})).lets_all


def test_spf_that_leads_in_a_circle_ends():
    zone = Zone({"a.example": ["v=spf1 include:b.example"], "b.example": ["v=spf1 include:a.example include:own.example"]})
    assert not spf("v=spf1 include:a.example -all", zone).names_relay
    assert zone.asked.count("a.example") == 1


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("plain.example", Dmarc("plain.example", "reject")),
        ("box.plain.example", Dmarc("plain.example", "reject")),
        ("box.sub.example", Dmarc("sub.example", "quarantine")),
        ("sub.example", Dmarc("sub.example", "none")),
        ("own.box.sub.example", Dmarc("own.box.sub.example", "reject")),
        ("nothing.example", None),
        ("similar.example", None),
        ("twice.example", Dmarc("twice.example", "", "twice.example has 2 DMARC records, so none counts (RFC 7489 6.6.3)")),
        ("odd.example", Dmarc("odd.example", "none", "the DMARC policy of odd.example is unknown: maybe")),
    ],
)
def test_the_policy_that_holds(domain, found):
    zone = Zone(
        {
            "_dmarc.plain.example": ["v=DMARC1; p=reject; rua=mailto:x@plain.example"],
            "_dmarc.sub.example": ["v=DMARC1;p=none; sp=Quarantine"],
            "_dmarc.own.box.sub.example": ["v=DMARC1; p=reject"],
            "_dmarc.similar.example": ["v=DMARC10; p=reject", "unrelated"],
            "_dmarc.twice.example": ["v=DMARC1; p=none", "v=DMARC1; p=reject"],
            "_dmarc.odd.example": ["v=DMARC1; p=maybe"],
        }
    )
    assert alignment.dmarc(domain, zone) == found
    assert "_dmarc.example" not in zone.asked, "nobody asks the registry"


def test_a_dkim_key_that_was_taken_back_is_none():
    zone = Zone({"s1._domainkey.own.example": ["v=DKIM1; k=rsa; p="], "s2._domainkey.own.example": ["k=rsa; p=MIGfMA0"]})
    assert alignment.dkim("own.example", ("s1", "s2"), zone) == "s2"
    assert alignment.dkim("own.example", ("s1", "s3"), zone) == ""


# ---------------------------------------------------------------- what doctor says


def findings(tmp_path, monkeypatch, conf, zone, **more):
    monkeypatch.setattr(sender, "resolver", zone)
    monkeypatch.setattr(sender, "_addresses", lambda host: [])
    return {one.check: one for one in sender.check(patient(tmp_path, conf, online=True, **more))}


SENDGRID = "SMARTHOST smtp.sendgrid.net\nMASQUERADE me@own.example\n"
FASTMAIL = "SMARTHOST smtp.fastmail.com\nMASQUERADE me@own.example\n"
STRICT = {"_dmarc.own.example": ["v=DMARC1; p=reject"]}


def test_aligned_by_spf(tmp_path, monkeypatch):
    theirs = {"spf.messagingengine.com": ["v=spf1 -all"]}
    zone = Zone({"own.example": ["v=spf1 include:spf.messagingengine.com -all"], **theirs, **STRICT})
    found = findings(tmp_path, monkeypatch, FASTMAIL, zone)
    assert found["spf"].severity == found["dmarc"].severity == OK
    assert found["dmarc"].text.endswith("by smtp.fastmail.com it is, by SPF")
    assert found["dkim"].severity == WARN
    assert found["dkim"].command.startswith("dig fm1._domainkey.own.example TXT")


def test_a_relay_with_a_return_path_of_its_own_is_judged_by_dkim_alone(tmp_path, monkeypatch):
    zone = Zone({"own.example": ["v=spf1 -all"], "s2._domainkey.own.example": ["p=MIG"], **STRICT})
    found = findings(tmp_path, monkeypatch, SENDGRID, zone)
    assert set(found) == {"dkim", "dmarc"}
    assert (found["dkim"].severity, found["dmarc"].severity) == (OK, OK)
    assert found["dmarc"].text.endswith("it is, by DKIM")


def test_aligned_by_neither_where_receivers_are_asked_to_reject(tmp_path, monkeypatch):
    zone = Zone({"own.example": ["v=spf1 include:sendgrid.net -all"], "sendgrid.net": ["v=spf1 -all"], **STRICT})
    found = findings(tmp_path, monkeypatch, SENDGRID, zone)
    assert found["dmarc"].severity == WARN
    assert found["dmarc"].text.endswith("by smtp.sendgrid.net it seems to be aligned by neither")
    assert "let the relay sign with DKIM for own.example" in found["dmarc"].command


@pytest.mark.parametrize(
    ("conf", "source"),
    [
        ("SMARTHOST r.example.net\nMAILNAME box\n", "box"),
        ("SMARTHOST r.example.net\nMASQUERADE me@box.local\n", "MASQUERADE"),
        ("SMARTHOST r.example.net\nMAILNAME localhost.localdomain\n", "localhost.localdomain"),
    ],
)
def test_a_sender_that_is_a_name_on_this_machine_only(tmp_path, monkeypatch, conf, source):
    found = findings(tmp_path, monkeypatch, conf, Zone())
    assert set(found) == {"sender"}
    assert found["sender"].severity == WARN
    assert found["sender"].evidence.startswith(source)
    assert found["sender"].command


def test_the_machines_own_name_is_a_sender_too(tmp_path, monkeypatch):
    zone = Zone({"box.own.example": ["v=spf1 include:r.example.net -all"], "r.example.net": ["v=spf1 -all"], **STRICT})
    found = findings(tmp_path, monkeypatch, "SMARTHOST r.example.net\nMAILNAME box.own.example\n", zone)
    assert found["spf"].severity == OK
    assert found["dmarc"].text.startswith("box.own.example asks receivers to reject")


def test_dns_that_does_not_answer_is_nobodys_fault(tmp_path, monkeypatch):
    class Silent(Zone):
        def texts(self, name):
            raise NoAnswer("timed out")

    found = findings(tmp_path, monkeypatch, FASTMAIL, Silent())
    assert (found["sender"].severity, found["sender"].evidence) == (WARN, "timed out")


def test_a_providers_own_domain_needs_no_records(tmp_path, monkeypatch):
    zone = Zone()
    found = findings(tmp_path, monkeypatch, "SMARTHOST smtp.gmail.com\nMASQUERADE alice@gmail.com\n", zone)
    assert (found["sender"].severity, zone.asked) == (OK, [])


def test_offline_only_what_needs_no_network(tmp_path, monkeypatch):
    zone = Zone()
    monkeypatch.setattr(sender, "resolver", zone)
    assert list(sender.check(patient(tmp_path, FASTMAIL))) == []
    assert zone.asked == []


def test_what_the_machine_itself_sends_from(tmp_path, monkeypatch):
    """Direct delivery: this machine's own address must be in the record."""
    zone = Zone({"own.example": ["v=spf1 ip4:93.184.216.34 -all"]})
    monkeypatch.setattr(sender, "resolver", zone)
    for address, severity in (("93.184.216.34", OK), ("93.184.216.35", WARN)):
        monkeypatch.setattr(sender, "_addresses", lambda host, address=address: [address])
        tmp = tmp_path / address
        tmp.mkdir()
        found = {one.check: one for one in sender.check(patient(tmp, "MASQUERADE me@own.example\n", online=True))}
        assert found["spf"].severity == severity


def test_real_questions_to_a_real_name_server(tmp_path, monkeypatch):
    import dns.resolver
    from name_server import NameServer

    zone = """
        own.example.               300 TXT "v=spf1 include:spf." "relay.example -all"
        spf.relay.example.         300 TXT "v=spf1 ip4:192.0.2.1 -all"
        _dmarc.own.example.        300 TXT "v=DMARC1; p=quarantine"
    """
    with NameServer(zone) as names:
        local = dns.resolver.Resolver(configure=False)
        local.nameservers, local.port = [names.host], names.port
        monkeypatch.setattr(dns.resolver, "resolve", local.resolve)
        monkeypatch.setattr(sender, "_addresses", lambda host: [])
        conf = "SMARTHOST smtp.relay.example\nMASQUERADE me@own.example\n"
        found = {one.check: one.severity for one in sender.check(patient(tmp_path, conf, online=True))}
        assert found == {"spf": OK, "dmarc": OK}
        names.faults["own.example."] = names.faults["own.example"] = "REFUSED"
        assert only(sender.check(patient(tmp_path / "again", conf, online=True))).text.endswith("could not be looked up")
