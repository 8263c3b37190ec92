"""`dma-setup undo`: put back what the last apply changed."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from dma_setup import itself, modes, reader, undo
from dma_setup.errors import DONE, FAILED, WOULD_CHANGE
from dma_setup.journal import prepare
from dma_setup.place import Place
from dma_setup.report import Report
from dma_setup.system import Lock, System
from dma_setup.undo import Undone
from dma_setup.verbs import launcher


def register(verbs: Any) -> None:
    parser = verbs.add_parser("undo", help="put back what the last apply changed")
    modes.options(parser)
    parser.add_argument("--check", action="store_true", help="say only what would be put back; exit 3 if anything")
    parser.add_argument("--forget", action="store_true", help="delete the journals instead; nothing can be taken back then")
    parser.add_argument("--yes", action="store_true", help="undo asks nothing anyway; for who types it out of habit")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    report = Report(sys.stdout, sys.stderr, as_json=options.json)
    return report.conclude(lambda: _run(options, report))


def _run(options: argparse.Namespace, report: Report) -> int:
    place = modes.place(options, "undo")
    system = System()
    if not os.path.isdir(place.at(place.state)):
        report.line("Nothing to undo: dma-setup has changed nothing here.")
        return DONE
    if options.check:
        return _look(place, system, report)
    lock = Lock(os.path.join(prepare(place), "lock"))
    try:
        if options.forget:
            count = undo.forget(place, system)
            report.line(f"{count} journal{'s' if count != 1 else ''} deleted; nothing can be taken back any more.")
            return DONE
        before = reader.library(place, system)
        found = undo.run(place, system)
        if left := launcher.forget(place, system, before):
            found.left.append(left)
    finally:
        lock.release()
    report.document["undo"] = vars(found)
    if not found.recipe:
        return _nothing(report)
    report.line(f"Taking back dma-setup {found.recipe}")
    for subject in found.restored:
        report.ok(subject)
    for text in found.left:
        report.warn(text)
    for diff in found.diffs:
        report.line()
        report.text(diff)
    _tell_waiting(place, found, report, "What sends them was kept.")
    return DONE if found.complete else FAILED


def _look(place: Place, system: System, report: Report) -> int:
    found = undo.preview(place, system)
    report.document["undo"] = vars(found)
    if not found.recipe:
        return _nothing(report)
    report.line(f"dma-setup {found.recipe} would be taken back; what was changed since is left as it is")
    for subject in found.restored:
        report.line(f"  {subject}")
    for text in found.left:
        report.warn(text)
    _tell_waiting(place, found, report, "What sends them is kept.")
    return WOULD_CHANGE


def _nothing(report: Report) -> int:
    report.line("Nothing to undo: everything dma-setup changed here has been taken back.")
    return DONE


def _tell_waiting(place: Place, found: Undone, report: Report, what: str) -> None:
    if found.waiting:
        report.line()
        report.paragraph(
            f"Messages still waiting in the queue: {found.waiting}. {what} See them with dma-queue list;"
            f" when they are gone, this finishes it: {itself.command(place, 'undo')}"
        )
