"""`dma-setup import FILE…`: take over the settings of another mail program; its files stay as they are.

What it says is put into the answers of a recipe; from there it is the ordinary run: sign in, plan, apply, prove, undo. What
cannot be carried over is listed before.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import Any

from dma_setup import answers, ask, itself, modes
from dma_setup.commands import provision
from dma_setup.errors import UsageProblem
from dma_setup.imports import convert
from dma_setup.imports.found import Imported
from dma_setup.report import Report
from dma_setup.secret import Sources
from dma_setup.system import System
from dma_setup.wizard import Options, Wizard


def register(verbs: Any) -> None:
    parser = verbs.add_parser("import", help="take over the settings of another mail program")
    parser.add_argument("files", nargs="*", metavar="FILE", help="its main file, and what goes with it if it lies elsewhere")
    parser.add_argument("--from", dest="program", choices=tuple(convert.READERS), default="", help="whose files these are")
    parser.add_argument("--answers", metavar="FILE", help="what the files do not say, and what is to be other than there")
    provision.common(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    report = Report(sys.stdout, sys.stderr, as_json=options.json)
    return report.conclude(lambda: _run(options, report))


def _run(options: argparse.Namespace, report: Report) -> int:
    if not options.files:
        raise _which()
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    unattended = options.answers is not None or not terminal
    place = modes.place(options, "import", guided=not unattended)
    found = convert.read(options.files, options.program)
    recipe, values = convert.answers(found)
    given = answers.read(options.answers, options.settings, recipe)
    given.values = {**values, **given.values}
    given.path = given.path or options.files[0]
    system = System()
    path = "" if given.stdin_is_taken else options.answers or ""
    sources = Sources(os.environ, given.folder, stdin_is_taken=given.stdin_is_taken, system=system, path=path)
    driver: ask.Driver = ask.Beforehand(given, sources) if unattended else ask.Terminal(given, sources, report)
    driver.confirms = terminal and not options.yes
    report.line(f"From {found.program}: {_says(found)}")
    for note in found.notes:
        report.warn(note)
    report.document["import"] = {"program": found.program, "recipe": recipe.name, "notes": found.notes}
    words = shlex.join(["import", *options.files])
    chosen = Options(check=options.check, diff=options.diff, verify=options.verify, test=options.test, words=words)
    wizard = Wizard(recipe, place, system, driver, report, chosen)
    wizard.more = lambda view: convert.relays(found, system, view)
    return provision.go(wizard)


def _which() -> UsageProblem:
    """What there is here to be taken over, each with its command."""
    found = [path for path in map(os.path.expanduser, convert.USUAL) if os.path.exists(path)]
    if not found:
        return UsageProblem("name the file to take over; none lies where it usually does", [f"  {path}" for path in convert.USUAL])
    name = itself.name(by_root=os.geteuid() == 0)
    return UsageProblem("name the file to take over; here are:", [f"  {name} import {shlex.quote(path)}" for path in found])


def _says(found: Imported) -> str:
    if not found.accounts:
        return "mail stays here" if found.local_only else "mail goes straight to its recipients"
    main = found.accounts[0]
    more = len(found.accounts) - 1
    others = f", and {more} more relay{'s' if more > 1 else ''} by sender" if more else ""
    return f"everything goes to {main.where}" + (f" as {main.login}" if main.login else "") + others
