"""`dma-setup undo`: put back what the last apply changed."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from dma_setup import modes, undo
from dma_setup.errors import DONE, FAILED
from dma_setup.journal import prepare
from dma_setup.report import Report
from dma_setup.system import Lock, System


def register(verbs: Any) -> None:
    parser = verbs.add_parser("undo", help="put back what the last apply changed")
    modes.options(parser)
    parser.add_argument("--forget", action="store_true", help="delete the journals instead; nothing can be taken back then")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    place = modes.place(options, "undo")
    system = System()
    report = Report(sys.stdout, sys.stderr, as_json=options.json)
    if not os.path.isdir(place.at(place.state)):
        report.line("Nothing to undo: dma-setup has changed nothing here.")
        return report.finish(DONE)
    lock = Lock(os.path.join(prepare(place), "lock"))
    try:
        if options.forget:
            count = undo.forget(place, system)
            report.line(f"{count} journal{'s' if count != 1 else ''} deleted; nothing can be taken back any more.")
            return report.finish(DONE)
        found = undo.run(place, system)
    finally:
        lock.release()
    report.document["undo"] = vars(found)
    if not found.recipe:
        report.line("Nothing to undo: everything dma-setup changed here has been taken back.")
        return report.finish(DONE)
    report.line(f"Taking back dma-setup {found.recipe}")
    for subject in found.restored:
        report.ok(subject)
    for text in found.left:
        report.warn(text)
    for diff in found.diffs:
        report.line()
        report.text(diff)
    if found.waiting:
        report.line()
        report.paragraph(
            f"Messages still waiting in the queue: {found.waiting}. What sends them was kept. See them with dma-queue list;"
            " when they are gone, dma-setup undo finishes."
        )
    return report.finish(DONE if found.complete else FAILED)
