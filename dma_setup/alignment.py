"""Whether receivers will believe a sender: SPF, DKIM and DMARC of its domain, against the relay that sends for it.

RFC 7208 (SPF), RFC 6376 (DKIM), RFC 7489 (DMARC; the record of the nearest domain above counts, as RFC 9091 and its
successor walk the tree). Rules only: `Dns` answers, or raises NoAnswer.

Known limits: from which addresses a relay sends on, and what it signs, is not seen from outside. So SPF counts as naming
the relay when it leads to a domain of the relay's or of its provider's, or when the relay's own addresses pass; and a key
under a selector that the provider uses counts as "it signs". Macros in SPF are not expanded: such a term names nobody.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

LOOKUPS = 10  # RFC 7208 4.6.4
_MECHANISMS = ("all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists")


class NoAnswer(Exception):
    """No resolver could say."""


class Dns:
    """The questions. Each returns [] when there is nothing, and raises NoAnswer when nobody can say."""

    def texts(self, name: str) -> list[str]:
        raise NotImplementedError

    def addresses(self, name: str) -> list[str]:
        raise NotImplementedError

    def exchangers(self, name: str) -> list[str]:
        raise NotImplementedError


# ---------------------------------------------------------------- SPF


@dataclass
class Spf:
    """What a domain's SPF says about a relay. `record` "" when there is none, `fault` when it counts for nothing."""

    record: str = ""
    fault: str = ""
    names_relay: bool = False
    lookups: int = 0
    lets_all: bool = False  # anybody may send: `+all`
    seen: set[str] = field(default_factory=set)


def spf(domain: str, homes: set[str], addresses: Iterable[str], dns: Dns) -> Spf:
    """`homes`: domains of the relay and its provider. `addresses`: those of the relay, or of this machine."""
    found = Spf()
    records = _records(domain, dns)
    if len(records) > 1:
        found.record = " | ".join(records)
        found.fault = f"{domain} has {len(records)} SPF records, so none counts (RFC 7208 4.5)"
        return found
    if records:
        found.record = records[0]
        _walk(domain, records[0], homes, [ipaddress.ip_address(one) for one in addresses], dns, found)
        if not found.fault and found.lookups > LOOKUPS:
            needs = f"the SPF record of {domain} needs {found.lookups} DNS lookups"
            found.fault = f"{needs}; receivers stop at {LOOKUPS} (RFC 7208 4.6.4)"
    return found


def _records(domain: str, dns: Dns) -> list[str]:
    return [text for text in dns.texts(domain) if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")]


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _walk(domain: str, record: str, homes: set[str], addresses: list[_Address], dns: Dns, found: Spf) -> None:
    """Go through a record and those it leads to; every one of them, for the count of lookups is part of the finding."""
    found.seen.add(domain)
    redirect = ""
    for word in record.split()[1:]:
        qualifier = word[0] if word[0] in "+-~?" else "+"
        name, _, value = word.lstrip("+-~?").partition(":")
        if name.lower().startswith("redirect="):
            redirect = word.partition("=")[2]
            continue
        if re.match(r"[A-Za-z][\w.-]*=", name):
            continue  # another modifier
        kind, _, length = name.lower().partition("/")
        value, _, length = value.partition("/") if value and kind not in ("ip4", "ip6") else (value, "", length)
        if kind not in _MECHANISMS:
            found.fault = found.fault or f"the SPF record of {domain} has an unknown term: {word[:60]}"
            continue
        if kind in ("include", "a", "mx", "ptr", "exists"):
            found.lookups += 1
        target = (value or domain).rstrip(".").lower()
        if kind == "all":
            found.lets_all = found.lets_all or qualifier == "+"
        elif kind in ("ip4", "ip6"):
            found.names_relay |= qualifier == "+" and _within(addresses, value, found, domain)
        elif "%" in target or found.lookups > LOOKUPS * 3:
            continue
        elif value and any(target == home or target.endswith("." + home) for home in homes):
            found.names_relay |= qualifier == "+"
            if kind == "include":
                _follow(target, homes, addresses, dns, found)
        elif kind == "include":
            _follow(target, homes, addresses, dns, found)
        elif kind in ("a", "mx") and addresses:
            hosts = [target] if kind == "a" else dns.exchangers(target)[:10]
            there = [one for host in hosts for one in dns.addresses(host)]
            found.names_relay |= qualifier == "+" and any(_equal(one, there, length) for one in addresses)
    if redirect and "%" not in redirect:
        found.lookups += 1
        target = redirect.rstrip(".").lower()
        found.names_relay |= any(target == home or target.endswith("." + home) for home in homes)
        _follow(target, homes, addresses, dns, found)


def _follow(target: str, homes: set[str], addresses: list[_Address], dns: Dns, found: Spf) -> None:
    if target in found.seen:
        return
    records = _records(target, dns)
    if len(records) != 1:
        what = "no SPF record" if not records else f"{len(records)} SPF records"
        found.fault = found.fault or f"the SPF record leads to {target}, which has {what}"
        found.seen.add(target)
        return
    lets_all = found.lets_all
    _walk(target, records[0], homes, addresses, dns, found)
    found.lets_all = lets_all  # `all` of an include decides nothing here


def _within(addresses: list[_Address], network: str, found: Spf, domain: str) -> bool:
    try:
        wanted = ipaddress.ip_network(network, strict=False)
    except ValueError:
        found.fault = found.fault or f"the SPF record of {domain} has a bad address: {network[:60]}"
        return False
    return any(one.version == wanted.version and one in wanted for one in addresses)


def _equal(address: _Address, there: list[str], length: str) -> bool:
    for one in there:
        try:
            if address in ipaddress.ip_network(f"{one}/{length}" if length.isdigit() else one, strict=False):
                return True
        except (ValueError, TypeError):
            continue
    return False


# ---------------------------------------------------------------- DMARC, DKIM


@dataclass(frozen=True)
class Dmarc:
    """The policy that holds for a domain. `at`: where it is published; `policy`: none, quarantine or reject."""

    at: str
    policy: str
    fault: str = ""


def dmarc(domain: str, dns: Dns) -> Dmarc | None:
    """None when there is none, for the domain or for any above it."""
    labels = domain.split(".")
    for skipped in range(max(1, len(labels) - 1)):
        name = ".".join(labels[skipped:])
        records = [text for text in dns.texts(f"_dmarc.{name}") if re.match(r"v\s*=\s*DMARC1\s*(;|$)", text)]
        if len(records) > 1:
            return Dmarc(name, "", f"{name} has {len(records)} DMARC records, so none counts (RFC 7489 6.6.3)")
        if records:
            tags = {key.strip().lower(): value.strip() for key, _, value in (part.partition("=") for part in records[0].split(";"))}
            policy = (tags.get("sp") if skipped else None) or tags.get("p", "none")
            if policy.lower() not in ("none", "quarantine", "reject"):
                return Dmarc(name, "none", f"the DMARC policy of {name} is unknown: {policy[:20]}")
            return Dmarc(name, policy.lower())
    return None


def dkim(domain: str, selectors: Iterable[str], dns: Dns) -> str:
    """The first of the selectors under which the domain has a key, "" when none has. A key taken back has an empty p=."""
    for selector in selectors:
        for text in dns.texts(f"{selector}._domainkey.{domain}"):
            if re.search(r"(^|;)\s*p\s*=\s*[A-Za-z0-9+/]", text):
                return selector
    return ""


def homes(host: str, patterns: Iterable[str]) -> set[str]:
    """The domains an SPF record would name: the last two labels of the relay and of its provider's mail exchangers."""
    names = [host, *(pattern.removesuffix(".*") for pattern in patterns if not pattern.endswith(".*"))]
    return {".".join(name.lower().split(".")[-2:]) for name in names if "." in name and not name[-1].isdigit()}
