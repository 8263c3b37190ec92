"""`dma-setup RECIPE`: set mail up, guided in a terminal or with answers given beforehand."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from dma_setup import answers, ask, itself, modes, recipe, resources
from dma_setup.errors import INTERRUPTED, SetupError, Stopped, UsageProblem
from dma_setup.report import Report
from dma_setup.secret import Sources
from dma_setup.system import System
from dma_setup.wizard import Options, Wizard


def register(verbs: Any, name: str) -> None:
    parser = verbs.add_parser(name)  # without help: `dma-setup list` shows the recipes
    parser.add_argument("--answers", metavar="FILE", help="answers in YAML, TOML or JSON; - is standard input")
    common(parser)
    parser.set_defaults(run=run, recipe=name)


def common(parser: argparse.ArgumentParser) -> None:
    """The options of every command that sets mail up."""
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="settings", help="one answer; wins over the file"
    )
    parser.add_argument("--check", action="store_true", help="plan only; exit 3 if something would change")
    parser.add_argument("--diff", action="store_true", help="show file differences; secrets are ***")
    parser.add_argument("--json", action="store_true", help="facts, plan and result as one JSON document on standard output")
    parser.add_argument("--yes", action="store_true", help='do not ask "Apply?"')
    parser.add_argument("--no-verify", action="store_false", dest="verify", help="do not sign in at the relay before")
    parser.add_argument("--no-test", action="store_false", dest="test", help="do not send a message after")
    modes.options(parser)


def run(options: argparse.Namespace, report: Report | None = None) -> int:
    """`report`: where something was said already, as by `auto`."""
    said = report or Report(sys.stdout, sys.stderr, as_json=options.json)
    return said.conclude(lambda: _run(options, said))


def _run(options: argparse.Namespace, report: Report) -> int:
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    unattended = options.answers is not None or not terminal
    place = modes.place(options, options.recipe, guided=options.answers is None and not options.settings)
    found = recipe.read(options.recipe)
    given = answers.read(options.answers, options.settings, found)
    system = System()
    path = "" if given.stdin_is_taken else options.answers or ""
    sources = Sources(os.environ, given.folder, stdin_is_taken=given.stdin_is_taken, system=system, path=path)
    driver: ask.Driver = ask.Beforehand(given, sources) if unattended else ask.Terminal(given, sources, report)
    driver.confirms = terminal and not options.yes
    chosen = Options(check=options.check, diff=options.diff, verify=options.verify, test=options.test, words=_words(options))
    return go(Wizard(found, place, system, driver, report, chosen))


def go(wizard: Wizard) -> int:
    """Run it; Ctrl-C says whether anything was changed."""
    try:
        return wizard.run()
    except KeyboardInterrupt:
        if not wizard.applied:
            raise Stopped from None
        place = wizard.place
        ways = [f"  prove it        {itself.command(place, 'test')}", f"  take all back   {itself.command(place, 'undo')}"]
        raise SetupError("stopped; mail is set up, but not proved", INTERRUPTED, ways) from None


def _words(options: argparse.Namespace) -> str:
    """The command that does the same again, for the closing note."""
    return str(options.recipe) + (" --user" if options.user else "") + (f" --root {options.root}" if options.root else "")


def choose(_options: argparse.Namespace) -> int:
    """`dma-setup` alone: choose a recipe from a list, in a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        names = ", ".join(resources.recipe_names())
        raise UsageProblem(f"name a recipe: {names}; see dma-setup list")
    found, problems = recipe.every()
    for problem in problems:
        sys.stderr.write(f"dma-setup: {problem.text}\n")
    name = ask.choose_recipe(sorted(found, key=lambda one: one.name))
    from dma_setup import cli

    return cli.main([name])
