"""Whose mail service an address belongs to: by its domain, else by its mail exchangers. A hint, never a decision."""

from __future__ import annotations

from fnmatch import fnmatch

from dma_setup.facts.look import OK, WARN, Found
from dma_setup.recipe import Provider

SECONDS = 5.0


def probe(provider: Provider, address: str) -> Found:
    """Says something only when the address is not plainly the provider's. Value: `provider_fits` (yes, no, unknown)."""
    found = Found()
    domain = address.rpartition("@")[2].lower()
    if not provider.domains or domain in provider.domains:
        found.values["provider_fits"] = "yes"
        return found
    exchangers = mail_exchangers(domain)
    if exchangers is None:
        found.values["provider_fits"] = "unknown"
        found.say(WARN, f"{domain} is not one of {provider.name}'s own domains, and its mail exchangers could not be looked up")
    elif any(fnmatch(host, pattern) for host in exchangers for pattern in provider.mx):
        found.values["provider_fits"] = "yes"
        found.say(OK, f"{domain} has its mail at {provider.name}")
    else:
        found.values["provider_fits"] = "no"
        where = f"its mail goes to {exchangers[0]}" if exchangers else "it has no mail exchanger"
        found.say(WARN, f"{domain} does not look like {provider.name}'s: {where}")
    return found


def mail_exchangers(domain: str) -> list[str] | None:
    """The MX hosts by preference, lower case; [] when there are none, None when nobody could say."""
    import dns.exception
    import dns.resolver

    try:
        answer = dns.resolver.resolve(domain, "MX", lifetime=SECONDS)
    except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
        return []
    except (dns.exception.DNSException, OSError):
        return None
    records = sorted((record.preference, str(record.exchange).rstrip(".").lower()) for record in answer)
    return [host for _, host in records]
