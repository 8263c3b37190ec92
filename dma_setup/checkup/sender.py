"""Whether receivers will believe the sender: SPF, DKIM and DMARC of its domain, seen from here (see `alignment`).

Hints, never verdicts, so the worst is a warning. DNS that does not answer is said and is nobody's fault.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

from dma_setup import alignment
from dma_setup.alignment import Dmarc, Dns, NoAnswer, Spf
from dma_setup.checkup import selectors
from dma_setup.checkup.finding import OK, WARN, Diagnosis, Patient

SECONDS = 5.0
_NO_DOMAINS = ("localhost", "localdomain", "local", "lan", "home", "internal", "intranet", "invalid")


class Resolver(Dns):
    """The machine's own resolvers."""

    def texts(self, name: str) -> list[str]:
        return [b"".join(record.strings).decode("utf-8", "replace") for record in self._ask(name, "TXT")]

    def addresses(self, name: str) -> list[str]:
        return [record.address for kind in ("A", "AAAA") for record in self._ask(name, kind)]

    def exchangers(self, name: str) -> list[str]:
        return [str(record.exchange).rstrip(".") for record in self._ask(name, "MX")]

    @staticmethod
    def _ask(name: str, kind: str) -> list[Any]:
        import dns.exception
        import dns.resolver

        try:
            return list(dns.resolver.resolve(name, kind, lifetime=SECONDS))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise NoAnswer(str(error).splitlines()[0] if str(error) else type(error).__name__) from None


resolver: Dns = Resolver()


def check(patient: Patient) -> Iterator[Diagnosis]:
    relay, recipe = patient.present.relay, patient.present.recipe
    if relay is None and not patient.direct:
        return
    domain, source = patient.sender_domain()
    if "." not in domain or domain.rpartition(".")[2] in _NO_DOMAINS:
        yield _no_domain(patient, domain, source)
        return
    if not patient.online:
        return
    if relay is not None and (relay.host == "localhost" or relay.host.startswith("127.") or relay.host == "::1"):
        return  # who sends on from there cannot be seen
    provider = recipe.provider if recipe is not None else None
    if provider is not None and domain in provider.domains:
        yield Diagnosis("sender", OK, f"{domain} is {provider.name}'s own; receivers know it")
        return
    name = recipe.name if recipe is not None else ""
    homes = alignment.homes(relay.host if relay else "", provider.mx if provider else ())
    try:
        spf = alignment.spf(domain, homes, _addresses(relay.host if relay else ""), resolver)
        signs = alignment.dkim(domain, selectors.DKIM.get(name, ()), resolver)
        dmarc = alignment.dmarc(domain, resolver)
    except NoAnswer as error:
        yield Diagnosis("sender", WARN, f"SPF, DKIM and DMARC of {domain} could not be looked up", str(error), f"dig {domain} TXT")
        return
    host = relay.host if relay is not None else "this machine"
    own_path = name in selectors.OWN_RETURN_PATH
    if not own_path:
        yield _spf(domain, host, spf)
    if signs:
        yield Diagnosis("dkim", OK, f"{domain} has a DKIM key of {_who(patient)} (selector {signs})")
    elif selectors.DKIM.get(name):
        tried = ", ".join(selectors.DKIM[name])
        text = f"{domain} has no DKIM key under the names that {_who(patient)} uses"
        command = f"dig {selectors.DKIM[name][0]}._domainkey.{domain} TXT    # its setup pages say what to publish"
        yield Diagnosis("dkim", WARN, text, f"looked for the selectors {tried}", command)
    by_spf = spf.names_relay and not spf.fault and not own_path
    yield _dmarc(domain, dmarc, by_spf=by_spf, by_dkim=bool(signs), host=host)


def _who(patient: Patient) -> str:
    return patient.present.who or "the relay"


def _no_domain(patient: Patient, domain: str, source: str) -> Diagnosis:
    text = f"mail leaves as somebody@{domain}, which is a name on this machine only: receivers distrust it and cannot answer"
    if source == "MASQUERADE":
        command = f"{patient.edit}    # MASQUERADE you@your.domain"
    else:
        command = patient.again("--set sender=you@your.domain")
    return Diagnosis("sender", WARN, text, f"{source}: {domain or '(empty)'}", command)


def _spf(domain: str, host: str, found: Spf) -> Diagnosis:
    command = f"dig {domain} TXT    # publish what the relay's setup pages give"
    if found.fault:
        return Diagnosis("spf", WARN, found.fault, found.record, command)
    if not found.record:
        text = f"{domain} has no SPF record; many receivers distrust mail from it"
        return Diagnosis("spf", WARN, text, f"no TXT v=spf1 at {domain}", command)
    if found.lets_all:
        return Diagnosis("spf", WARN, f"the SPF record of {domain} lets anybody send as it (+all)", found.record, command)
    if found.names_relay:
        return Diagnosis("spf", OK, f"{domain} names {host} in its SPF record")
    return Diagnosis("spf", WARN, f"the SPF record of {domain} does not seem to name {host}", found.record, command)


def _dmarc(domain: str, found: Dmarc | None, *, by_spf: bool, by_dkim: bool, host: str) -> Diagnosis:
    ways = " and ".join(way for way, there in (("SPF", by_spf), ("DKIM", by_dkim)) if there)
    command = f"dig _dmarc.{found.at if found is not None else domain} TXT"
    if found is None:
        said = "; the large providers ask for one from who sends much" + (f" ({ways} is there)" if ways else "")
        return Diagnosis("dmarc", OK, f"{domain} has no DMARC record{said}")
    if found.fault:
        return Diagnosis("dmarc", WARN, found.fault, "", command)
    if found.policy == "none":
        return Diagnosis("dmarc", OK, f"{domain} has a DMARC record that asks nothing of receivers (p=none)")
    asks = f"{domain} asks receivers to {found.policy} what is aligned neither by SPF nor by DKIM"
    if ways:
        return Diagnosis("dmarc", OK, f"{asks}; by {host} it is, by {ways}")
    text = f"{asks}, and by {host} it seems to be aligned by neither"
    command += f"    # let the relay sign with DKIM for {domain}"
    return Diagnosis("dmarc", WARN, text, f"p={found.policy} at _dmarc.{found.at}", command)


def _addresses(host: str) -> list[str]:
    """The relay's addresses, or this machine's own that the world can see."""
    if host:
        try:
            return sorted({str(item[4][0]).partition("%")[0] for item in socket.getaddrinfo(host, None)})
        except OSError:
            return []
    found = []
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 25))  # sends nothing: it only asks the routing table
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return [one for one in found if ipaddress.ip_address(one).is_global]
