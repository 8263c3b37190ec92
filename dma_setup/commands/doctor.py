"""`dma-setup doctor`: every check, each fault with the command that mends it.

Exit status: 0 when mail flows as far as can be seen (warnings included), 1 when somebody has to do something.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from typing import Any

from dma_setup import doctor, modes, present
from dma_setup.checkup.finding import FAIL, OK, WARN, Diagnosis, Patient
from dma_setup.errors import DONE, FAILED
from dma_setup.report import Report
from dma_setup.system import System


def register(verbs: Any) -> None:
    parser = verbs.add_parser("doctor", help="every check, each fault with the command that mends it")
    parser.add_argument("--offline", action="store_true", help="no network: neither sign-in nor DNS")
    parser.add_argument("--json", action="store_true", help="the findings as JSON on standard output")
    modes.options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    report = Report(sys.stdout, sys.stderr, as_json=options.json)
    return report.conclude(lambda: _run(options, report))


def _run(options: argparse.Namespace, report: Report) -> int:
    place = modes.place(options, "doctor")
    system = System()
    patient = Patient(place, system, present.read(place, system), not options.offline and place.is_live, time.time())
    found = doctor.examine(patient)
    report.document["findings"] = [asdict(one) for one in found]
    for one in found:
        show(report, one, place.home if place.is_user else "")
    report.line()
    faults, warnings = (sum(one.severity == severity for one in found) for severity in (FAIL, WARN))
    if faults or warnings:
        counted = [
            f"{count} {word}{'s' if count != 1 else ''}" for count, word in ((faults, "fault"), (warnings, "warning")) if count
        ]
        report.line(" and ".join(counted) + "; what mends each stands below it.")
    else:
        report.line("All is well.")
    return FAILED if doctor.sick(found) else DONE


def show(report: Report, one: Diagnosis, home: str) -> None:
    """One finding; paths below `home` are said with `~`. A command is kept as it is: it is there to be copied."""
    report.mark(one.severity, _short(one.text, home))
    if one.severity != OK:
        if one.evidence:
            report.paragraph(_short(one.evidence, home), "    ")
        if one.command:
            report.advice(["-> " + one.command])


def _short(text: str, home: str) -> str:
    return text.replace(home + "/", "~/") if home else text
