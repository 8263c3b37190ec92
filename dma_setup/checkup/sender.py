"""Whether receivers will believe the sender: SPF and DMARC of its domain, seen from here.

A hint, never a verdict: what a relay signs with DKIM, and which addresses it sends from, cannot be seen from outside.
SPF counts as fitting when it names a domain of the relay's or of its provider's, directly or through includes (RFC 7208
4.6.4: at most ten lookups). DNS that does not answer is said and is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from dma_setup.checkup.finding import OK, WARN, Diagnosis, Patient

SECONDS = 5.0
LOOKUPS = 10


class NoAnswer(Exception):
    """No resolver could say."""


def check(patient: Patient) -> Iterator[Diagnosis]:
    masquerade, relay, recipe = patient.config.MASQUERADE, patient.present.relay, patient.present.recipe
    domain = masquerade[1].lower() if masquerade is not None else ""
    if not patient.online or not domain or (relay is None and not patient.direct):
        return
    if relay is not None and (relay.host == "localhost" or relay.host.startswith("127.") or relay.host == "::1"):
        return  # who sends on from there cannot be seen
    provider = recipe.provider if recipe is not None else None
    if provider is not None and domain in provider.domains:
        yield Diagnosis("sender", OK, f"{domain} is {provider.name}'s own; receivers know it")
        return
    try:
        yield from _spf(patient, domain, _homes(relay.host if relay else "", provider.mx if provider else ()))
        yield from _dmarc(domain)
    except NoAnswer as error:
        yield Diagnosis("sender", WARN, f"SPF and DMARC of {domain} could not be looked up", str(error), f"dig {domain} TXT")


def _homes(host: str, patterns: tuple[str, ...]) -> set[str]:
    """The domains an SPF record would name: the last two labels of the relay and of its provider's mail exchangers."""
    names = [host, *(pattern.removesuffix(".*") for pattern in patterns if not pattern.endswith(".*"))]
    return {".".join(name.lower().split(".")[-2:]) for name in names if "." in name and not name[-1].isdigit()}


def _spf(patient: Patient, domain: str, homes: set[str]) -> Iterator[Diagnosis]:
    records = [text for text in texts(domain) if text.lower().startswith("v=spf1")]
    if not records:
        text = f"{domain} has no SPF record; many receivers distrust mail from it"
        yield Diagnosis("spf", WARN, text, f"no TXT v=spf1 at {domain}", "publish the record that your relay's documentation gives")
    elif len(records) > 1:
        text = f"{domain} has {len(records)} SPF records, so none counts (RFC 7208 4.5)"
        yield Diagnosis("spf", WARN, text, " | ".join(records), "publish one record that names all your senders")
    elif patient.direct or not homes:
        yield Diagnosis("spf", OK, f"{domain} has an SPF record: {records[0]}")
    elif named(records[0], homes, {domain}):
        yield Diagnosis("spf", OK, f"{domain} names the relay in its SPF record")
    else:
        host = patient.present.relay.host if patient.present.relay is not None else ""
        yield Diagnosis(
            "spf",
            WARN,
            f"the SPF record of {domain} does not seem to name {host}",
            records[0],
            "see the relay's documentation for its include:, or sign in with an address of its own",
        )


def named(record: str, homes: set[str], seen: set[str]) -> bool:
    """Whether an SPF record leads to one of the domains `homes`."""
    for word in record.lower().split():
        kind, colon, value = word.lstrip("+?~-").partition("=" if word.startswith("redirect=") else ":")
        if not colon or kind not in ("include", "redirect", "a", "mx", "exists"):
            continue
        target = value.partition("/")[0].rstrip(".")
        if any(target == home or target.endswith("." + home) for home in homes):
            return True
        if kind in ("include", "redirect") and target not in seen and len(seen) < LOOKUPS:
            seen.add(target)
            if any(named(text, homes, seen) for text in texts(target) if text.lower().startswith("v=spf1")):
                return True
    return False


def _dmarc(domain: str) -> Iterator[Diagnosis]:
    for name in dict.fromkeys((domain, ".".join(domain.split(".")[-2:]))):
        for text in texts(f"_dmarc.{name}"):
            if text.lower().replace(" ", "").startswith("v=dmarc1"):
                policy = text.lower().replace(" ", "").partition("p=")[2].partition(";")[0]
                if policy in ("reject", "quarantine"):
                    says = f"{domain} asks receivers to {policy} mail that is neither SPF- nor DKIM-aligned"
                    yield Diagnosis("dmarc", OK, f"{says}; let the relay sign with DKIM for it")
                else:
                    yield Diagnosis("dmarc", OK, f"{domain} has a DMARC record (p={policy or '?'})")
                return


def texts(name: str) -> list[str]:
    """The TXT records of a name, [] when there are none. Raises NoAnswer."""
    import dns.exception
    import dns.resolver

    try:
        answer = dns.resolver.resolve(name, "TXT", lifetime=SECONDS)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise NoAnswer(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
