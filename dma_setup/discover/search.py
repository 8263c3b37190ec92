"""The ways to find the servers of an address, all at once, under one deadline.

Believed in this order, whatever order they answer in (RFC 8314 5.1, RFC 6186, draft-ietf-mailmaint-autoconfig):

    1. SRV records            _submissions._tcp, else _submission._tcp
    2. the domain's autoconfig, over HTTPS
    3. ISPDB, Mozilla's collection (only the domain is sent there; can be left out)
    4. the mail exchangers, when they are those of a provider that a recipe knows
    5. a guess: smtp.DOMAIN and mail.DOMAIN, when a server with a valid certificate answers there

A recipe that names the domain as its own comes before all of these and needs no network.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import quote

from dma_setup import recipe as recipes
from dma_setup.discover import autoconfig
from dma_setup.discover.candidate import Candidate, is_inside
from dma_setup.discover.network import Network, NothingThere
from dma_setup.recipe import Recipe
from dma_setup.relay import IMPLICIT, STARTTLS

DEADLINE = 8.0
ISPDB = "https://autoconfig.thunderbird.net/v1.1/"
_GUESSES = ((IMPLICIT, 465), (STARTTLS, 587))

Way = Callable[[], list[Candidate]]
Progress = Callable[[str, list[Candidate], str], None]  # name of the way, what it found, why nothing


def own_recipe(domain: str) -> Recipe | None:
    """The recipe that serves the domain."""
    return next((one for one in recipes.every()[0] if one.provider.serves(domain)), None)


def search(
    address: str, network: Network, progress: Progress, *, ispdb: bool = True, deadline: float = DEADLINE
) -> list[Candidate]:
    """What the best way that found anything found, [] when none did. Returns as soon as no better way can answer."""
    domain = address.rpartition("@")[2].lower()
    ways: dict[str, Way] = {
        "SRV records": lambda: _srv(address, domain, network),
        "autoconfig": lambda: _autoconfig(address, domain, network),
        "ISPDB": lambda: autoconfig.servers(network.get(ISPDB + quote(domain)), address, "ISPDB"),
        "mail exchangers": lambda: _exchangers(address, domain, network),
        "usual names": lambda: _guess(address, domain, network),
    }
    if not ispdb:
        del ways["ISPDB"]
    results: dict[str, list[Candidate]] = {}
    changed = threading.Condition()
    over = False

    def run(name: str, way: Way) -> None:
        why = ""
        try:
            found = [_known(one) for one in way()]
        except NothingThere as error:
            found, why = [], str(error)
        except Exception as error:
            found, why = [], f"{type(error).__name__}: {error}"
        with changed:
            if not over:
                results[name] = found
                progress(name, found, why)
            changed.notify()

    end = time.monotonic() + deadline
    for item in ways.items():
        threading.Thread(target=run, args=item, daemon=True).start()
    with changed:
        while (best := _best(ways, results)) is None and (left := end - time.monotonic()) > 0:
            changed.wait(left)
        over = True
        if best is None:
            for name in ways:
                if name not in results:
                    progress(name, [], f"no answer in {deadline:g} seconds")
            best = next((results[name] for name in ways if results.get(name)), [])
    return best


def _best(ways: dict[str, Way], results: dict[str, list[Candidate]]) -> list[Candidate] | None:
    """The result that no way still at work can beat, None while there may be a better one."""
    for name in ways:
        if name not in results:
            return None
        if results[name]:
            return results[name]
    return []


def _known(one: Candidate) -> Candidate:
    """With the recipe that knows the server, if one does."""
    known = recipes.by_host(one.host) if not one.recipe else None
    return Candidate(**{**vars(one), "recipe": known.name}) if known is not None else one


def _srv(address: str, domain: str, network: Network) -> list[Candidate]:
    for service, tls in (("_submissions", IMPLICIT), ("_submission", STARTTLS)):
        found = [
            (record.priority, -record.weight, str(record.target).rstrip(".").lower(), record.port)
            for record in network.records(f"{service}._tcp.{domain}", "SRV")
        ]
        if any(not host for _, _, host, _ in found):
            continue  # RFC 2782: a lone "." says that the service is not offered
        if found:
            return [Candidate(host, str(port), tls, address, "SRV records") for _, _, host, port in sorted(found)]
    raise NothingThere("there are none")


def _autoconfig(address: str, domain: str, network: Network) -> list[Candidate]:
    why = ""
    for url in (
        f"https://autoconfig.{domain}/mail/config-v1.1.xml?emailaddress={quote(address)}",
        f"https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml",
    ):
        try:
            return autoconfig.servers(network.get(url), address, "autoconfig")
        except NothingThere as error:
            why = why or str(error)
    raise NothingThere(why)


def _exchangers(address: str, domain: str, network: Network) -> list[Candidate]:
    """The recipe of whoever receives the domain's mail: a hint that it also sends it."""
    records = sorted((record.preference, str(record.exchange).rstrip(".").lower()) for record in network.records(domain, "MX"))
    if not records:
        raise NothingThere("there are none")
    known = recipes.every()[0]
    for _, host in records:
        for one in (one for one in known if one.provider.receives(host)):
            # Where the recipe's relay depends on its own answers, the wizard asks for them.
            relay = one.relay.host if one.relay is not None and "{" not in one.relay.host else one.provider.name
            return [Candidate(relay, "", IMPLICIT, address, "mail exchangers", recipe=one.name)]
    raise NothingThere(f"{records[0][1]} is nobody's that a recipe knows")


def _guess(address: str, domain: str, network: Network) -> list[Candidate]:
    answers: dict[int, Candidate] = {}

    def probe(at: int, host: str, tls: str, port: int) -> None:
        if network.speaks(host, port, implicit=tls == IMPLICIT):
            answers[at] = Candidate(host, str(port), tls, address, "usual names", guessed=True)

    wanted = [(f"{name}.{domain}", tls, port) for name in ("smtp", "mail") for tls, port in _GUESSES]
    threads = [threading.Thread(target=probe, args=(at, *one), daemon=True) for at, one in enumerate(wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not answers:
        raise NothingThere("no server with a valid certificate answers there")
    return [answers[at] for at in sorted(answers)]


def must_be_confirmed(one: Candidate, address: str) -> str:
    """Why a person has to say yes before a password goes there, "" when nobody need be asked."""
    domain = address.rpartition("@")[2]
    if one.guessed:
        return f"{one.host} is only a guess: it has a usual name, and a valid certificate for it"
    if not is_inside(one.host, domain):
        return f"{one.host} is not in {domain}; it was named by {one.source}"
    return ""
