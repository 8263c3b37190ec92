"""`dma-setup auto ADDRESS`: find the recipe or the servers for an address, then go on as with that recipe.

No credential is known while it searches, and none goes to a server that is a guess or lies outside the address's domain
before somebody says that it is the right one: at the terminal, or by `--trust HOST`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dma_setup import modes
from dma_setup import recipe as recipes
from dma_setup.commands import provision
from dma_setup.discover.candidate import Candidate
from dma_setup.discover.network import Network
from dma_setup.discover.search import DEADLINE, domain_of, must_be_confirmed, own_recipe, search
from dma_setup.errors import SetupError, UsageProblem
from dma_setup.facts.look import WARN
from dma_setup.question import Question, Refused
from dma_setup.report import Report


def register(verbs: Any) -> None:
    parser = verbs.add_parser("auto", help="find the recipe or the servers for an address")
    parser.add_argument("address", metavar="ADDRESS")
    parser.add_argument("--no-ispdb", action="store_false", dest="ispdb", help="do not ask Mozilla's collection about the domain")
    parser.add_argument("--trust", metavar="HOST", action="append", default=[], help="this server is the right one: do not ask")
    parser.add_argument("--answers", metavar="FILE", help="answers in YAML, TOML or JSON; - is standard input")
    provision.common(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    report = Report(sys.stdout, sys.stderr, as_json=options.json)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        options.address = Question("address", "address", "").accept(options.address)
        modes.place(options, f"auto {options.address}", guided=terminal and options.answers is None)
        name, settings = decide(options.address, options, report, terminal, Network())
    except Refused as refused:
        report.error(UsageProblem(f"{options.address} {refused}"))
        return report.finish(2)
    except SetupError as error:
        report.error(error)
        return report.finish(error.status)
    options.recipe = name
    given = {setting.partition("=")[0] for setting in options.settings}
    options.settings = [*(f"{key}={value}" for key, value in settings.items() if key not in given), *options.settings]
    return provision.run(options, report)


Decision = tuple[str, dict[str, str]]


def decide(address: str, options: argparse.Namespace, report: Report, terminal: bool, network: Network) -> Decision:
    """(recipe, answers) for the address. Raises SetupError."""
    domain = domain_of(address)
    own = own_recipe(domain)
    if own is not None:
        report.line(f"{domain} is {own.provider.name}'s: dma-setup {own.name}")
        report.document["discovery"] = {"ways": {}, "recipe": own.name}
        return own.name, _of_recipe(own.name, address)
    report.title(f"Looking for the servers of {domain}, {DEADLINE:g} seconds at most")
    ways: dict[str, Any] = {}
    report.document["discovery"] = {"ways": ways}

    def progress(way: str, found: list[Candidate], why: str) -> None:
        ways[way] = [_facts(one) for one in found] if found else why
        if found:
            report.ok(f"{way}: {', '.join(one.says if one.port else one.recipe for one in found[:3])}")
        else:
            report.mark(WARN, f"{way}: {why}")

    found = search(address, network, progress, ispdb=options.ispdb)
    if not found:
        details = ["  If you know the server: dma-setup smarthost", "  The recipes there are: dma-setup list"]
        raise SetupError(f"no server was found for {address}; nothing was changed", details=details)
    chosen = found[0]
    report.document["discovery"]["chosen"] = _facts(chosen)
    why = must_be_confirmed(chosen, address)
    if why and chosen.host.lower() not in (host.lower() for host in options.trust):
        confirm(chosen, why, report, terminal)
    if chosen.recipe:
        return chosen.recipe, _of_recipe(chosen.recipe, address)
    return "smarthost", {"host": chosen.where, "tls": chosen.tls, "login": chosen.login, "sender": address}


def _facts(one: Candidate) -> dict[str, Any]:
    """What the JSON document says of a server."""
    return {name: value for name, value in vars(one).items() if value and name != "source"} | {"named_by": one.source}


def confirm(chosen: Candidate, why: str, report: Report, terminal: bool) -> None:
    """Ask whether the server is the right one. Raises SetupError when it is not, or when nobody can be asked."""
    if not terminal:
        raise UsageProblem(f"{why}; nothing was changed", [f"  If it is the right one: --trust {chosen.host}"])
    from dma_setup import prompt

    report.warn(f"{why}.")
    if not prompt.yes(f"Is {chosen.host} the right server for your password?", default=False):
        raise SetupError("nothing was changed", details=["  If you know the server: dma-setup smarthost"])


def _of_recipe(name: str, address: str) -> dict[str, str]:
    """The answer that the address is, where the recipe asks for one."""
    return {"address": address} if recipes.read(name).question("address") is not None else {}
