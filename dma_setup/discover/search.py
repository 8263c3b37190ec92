"""The ways to find the servers of an address, all at once, under one deadline.

Believed in this order, whatever order they answer in (RFC 8314 5.1, RFC 6186, draft-ietf-mailmaint-autoconfig):

    1. SRV records            _submissions._tcp, else _submission._tcp
    2. the domain's autoconfig, over HTTPS
    3. ISPDB, Mozilla's collection (only the domain is sent there; can be left out)
    4. the mail exchangers, when they are those of a provider that a recipe knows
    5. a guess: smtp.DOMAIN and mail.DOMAIN, when a server with a valid certificate answers there

A recipe that names the domain as its own comes before all of these and needs no network. No credential is known here;
what is tried hears a greeting and no more.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

from dma_runtime.policy.exchangers import NoExchanger, a_labels
from dma_setup import recipe as recipes
from dma_setup.discover import autoconfig
from dma_setup.discover.candidate import Candidate, host_name, is_inside
from dma_setup.discover.network import SECONDS, Network, NothingThere
from dma_setup.errors import UsageProblem
from dma_setup.recipe import Recipe
from dma_setup.relay import IMPLICIT, STARTTLS

DEADLINE = 8.0
GRACE = 1.0  # how long the better of two is waited for when the other has answered
MOST = 8  # servers that are tried
ISPDB = "https://autoconfig.thunderbird.net/v1.1/"
_GUESSES = ((IMPLICIT, 465), (STARTTLS, 587))

Way = Callable[[], list[Candidate]]
Progress = Callable[[str, list[Candidate], str], None]  # name of the way, what it found, why nothing


def domain_of(address: str) -> str:
    """The domain of an address as DNS knows it. Raises UsageProblem."""
    try:
        return a_labels(address.rpartition("@")[2])
    except NoExchanger as error:
        raise UsageProblem(f"{address}: {error}") from None


def own_recipe(domain: str) -> Recipe | None:
    """The recipe that serves the domain."""
    return next((one for one in recipes.every()[0] if one.provider.serves(domain)), None)


def search(
    address: str, network: Network, progress: Progress, *, ispdb: bool = True, deadline: float = DEADLINE
) -> list[Candidate]:
    """What the best way that found anything found, [] when none did. Returns as soon as no better way can answer.

    Of several servers that one way names, the first that answers now, with a valid certificate, stands first.
    """
    domain = domain_of(address)
    recipes_there_are = recipes.every()[0]
    ways: dict[str, Way] = {
        "SRV records": lambda: _srv(address, domain, network),
        "autoconfig": lambda: _autoconfig(address, domain, network),
        "ISPDB": lambda: autoconfig.servers(network.get(ISPDB + quote(domain)), address, "ISPDB"),
        "mail exchangers": lambda: _exchangers(address, domain, network, recipes_there_are),
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
            found = [_known(one, recipes_there_are) for one in way()]
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
    return _answering(best, network, end, progress)


def _best(ways: dict[str, Way], results: dict[str, list[Candidate]]) -> list[Candidate] | None:
    """The result that no way still at work can beat, None while there may be a better one."""
    for name in ways:
        if name not in results:
            return None
        if results[name]:
            return results[name]
    return []


def _known(one: Candidate, known: list[Recipe]) -> Candidate:
    """With the recipe that knows the server, if one does."""
    found = recipes.by_host(one.host, known) if not one.recipe else None
    return replace(one, recipe=found.name) if found is not None else one


def _answering(found: list[Candidate], network: Network, end: float, progress: Progress) -> list[Candidate]:
    """The candidates with the first that answers now in front. A recipe tries the ports of its relay itself; a guess has
    answered already."""
    if len(found) < 2 or found[0].recipe or found[0].guessed:
        return found
    asked = found[:MOST]
    answers: dict[int, bool] = {}
    changed = threading.Condition()

    def probe(at: int, one: Candidate) -> None:
        said = network.speaks(one.host, int(one.port), implicit=one.tls == IMPLICIT)
        with changed:
            answers[at] = said
            changed.notify()

    for item in enumerate(asked):
        threading.Thread(target=probe, args=item, daemon=True).start()
    first = 0
    with changed:
        while first < len(asked) and not answers.get(first):
            if first in answers:
                first += 1
                continue
            if any(answers.values()):  # one behind it has answered: it is waited for no longer than need be
                end = min(end, time.monotonic() + GRACE)
            if (left := end - time.monotonic()) <= 0 or not changed.wait(left):
                answers[first] = False
    if first == len(asked):
        progress("servers", [], "none of them answers from here now")
        return found
    for one in asked[:first]:
        progress(one.where, [], "no server with a valid certificate answers there now")
    return [found[first], *found[:first], *found[first + 1 :]]


def _srv(address: str, domain: str, network: Network) -> list[Candidate]:
    """Those of implicit TLS first (RFC 8314 5.1); the others behind them, for networks that let only port 587 through."""
    listed: list[Candidate] = []
    for service, tls in (("_submissions", IMPLICIT), ("_submission", STARTTLS)):
        found = [
            (record.priority, -record.weight, str(record.target).rstrip(".").lower(), record.port)
            for record in network.records(f"{service}._tcp.{domain}", "SRV")
        ]
        if any(not host for _, _, host, _ in found):
            continue  # RFC 2782: a lone "." says that the service is not offered
        listed += [
            Candidate(host, str(port), tls, address, "SRV records")
            for _, _, host, port in sorted(found)
            if host_name(host) == host and port
        ]
    if not listed:
        raise NothingThere("there are none")
    return listed


def _autoconfig(address: str, domain: str, network: Network) -> list[Candidate]:
    """Both places are asked at once: a host that swallows what is sent to it must not use up the time of the other."""
    places = (
        f"https://autoconfig.{domain}/mail/config-v1.1.xml?emailaddress={quote(address)}",
        f"https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml",
    )
    arrived: queue.Queue[tuple[int, list[Candidate], str]] = queue.Queue()

    def ask(at: int, url: str) -> None:
        try:
            arrived.put((at, autoconfig.servers(network.get(url), address, "autoconfig"), ""))
        except NothingThere as error:
            arrived.put((at, [], str(error)))
        except Exception as error:
            arrived.put((at, [], f"{type(error).__name__}: {error}"))

    for item in enumerate(places):
        threading.Thread(target=ask, args=item, daemon=True).start()
    second: list[Candidate] = []
    why = "no answer"
    for _ in places:
        try:
            at, found, said = arrived.get(timeout=GRACE if second else SECONDS)
        except queue.Empty:
            break
        if at == 0 and found:
            return found
        second = second or found
        why = said if at == 0 else why
    if second:
        return second
    raise NothingThere(why)


def _exchangers(address: str, domain: str, network: Network, known: list[Recipe]) -> list[Candidate]:
    """The recipe of whoever receives the domain's mail: a hint that it also sends it."""
    records = sorted((record.preference, str(record.exchange).rstrip(".").lower()) for record in network.records(domain, "MX"))
    if not records:
        raise NothingThere("there are none")
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
    domain = domain_of(address)
    if one.guessed:
        return f"{one.host} is only a guess: it has a usual name, and a valid certificate for it"
    if not is_inside(one.host, domain):
        return f"{one.host} is not in {domain}; it was named by {one.source}"
    return ""
