"""`dma-setup test [ADDRESS]`: a real message through the installed sendmail, followed to the relay's last word."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dma_setup import modes, present, prove
from dma_setup.errors import DONE, FAILED, SetupError
from dma_setup.question import Question, Refused
from dma_setup.report import Report
from dma_setup.system import LINK, System


def register(verbs: Any) -> None:
    parser = verbs.add_parser("test", help="send a real message and follow it to the relay's final reply")
    parser.add_argument("address", nargs="?", metavar="ADDRESS", help="to whom; the default is root, else the sender")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    modes.options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    report = Report(sys.stdout, sys.stderr, as_json=options.json)
    return report.conclude(lambda: _run(options, report))


def _run(options: argparse.Namespace, report: Report) -> int:
    place = modes.place(options, "test")
    if not place.is_live:
        raise SetupError("a message can only be sent on the running machine, not below --root")
    system = System()
    found = present.read(place, system)
    link = system.look(place.links["sendmail"])
    if link is None or link.kind != LINK:
        raise SetupError(f"there is no {place.shown(place.links['sendmail'])}; run dma-setup RECIPE first")
    address = options.address or _default(found.config.MASQUERADE, place.login)
    try:
        Question("address", "recipient", "").accept(address)
    except Refused as refused:
        raise SetupError(f"{address} {refused}", 2) from None
    proof = prove.run(place, report, address, found.who)
    return DONE if proof.reply else FAILED


def _default(masquerade: tuple[str, str] | None, login: str) -> str:
    """The sender, who can be expected to look; else the person here."""
    if masquerade is not None and all(masquerade):
        return "@".join(masquerade)
    return login
