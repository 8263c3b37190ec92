"""What people see: sentences, marks, the plan, and with --json one document.

Prose goes to standard output, or to standard error with --json. Marks are `✓ ! ✗`, and `ok warn FAIL` where the locale is
not a UTF-8 one or ACCESSIBLE is set (for screen readers). Colour only on a terminal, and never with NO_COLOR. Lines are
wrapped at 79 columns.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Mapping
from typing import IO, Any

from dma_runtime.shown import shown
from dma_setup.changes import Change
from dma_setup.errors import SetupError
from dma_setup.facts.look import FAIL, OK, WARN, Finding
from dma_setup.plan import Plan

WIDTH = 79
LONGEST = 2000  # bytes of a line about what went wrong; it may repeat what somebody gave us
FORMAT = 1  # of the JSON document; names may be added to it, another number means that some changed their meaning
_SIGNS = {OK: "✓", WARN: "!", FAIL: "✗"}
_WORDS = {OK: "ok  ", WARN: "warn", FAIL: "FAIL"}
_COLOURS = {OK: "32", WARN: "33", FAIL: "31", "+": "32", "-": "31", "~": "33", "title": "1", "dim": "2"}


def _codeset(environ: Mapping[str, str]) -> str:
    """The character encoding of the locale, "" for C.

    Python writes UTF-8 in the C locale too, and says so by setting LC_CTYPE (PEP 538, PEP 540); the terminal does not know.
    """
    names = ["LC_ALL", "LC_CTYPE", "LANG"]
    if environ.get("LC_CTYPE") == "C.UTF-8" and environ.get("LANG", "C") in ("", "C", "POSIX"):
        names.remove("LC_CTYPE")
    locale = next((environ[name] for name in names if environ.get(name)), "")
    return locale.partition(".")[2].partition("@")[0]


class Report:
    def __init__(self, out: IO[str], errors: IO[str], *, as_json: bool = False, environ: dict[str, str] | None = None) -> None:
        environ = dict(os.environ) if environ is None else environ
        self._out = out
        self._prose = errors if as_json else out
        self._errors = errors
        self._as_json = as_json
        encodings = (_codeset(environ), getattr(self._prose, "encoding", "") or "")
        # Screen readers say words better than signs.
        self.words = environ.get("ACCESSIBLE", "") not in ("", "0")
        self.unicode = all(encoding.lower().replace("-", "") == "utf8" for encoding in encodings)
        self.colour = self._prose.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
        self.document: dict[str, Any] = {"format": FORMAT}

    # ------------------------------------------------------------ lines

    def line(self, text: str = "") -> None:
        if not self.unicode:
            text = text.translate({ord("·"): "-", ord("…"): "...", ord("—"): "-"}).encode("ascii", "replace").decode()
        self._prose.write(text + "\n")
        self._prose.flush()

    def title(self, text: str) -> None:
        self.line()
        self.line(self._paint("title", text))

    def paragraph(self, text: str, indent: str = "") -> None:
        for part in textwrap.wrap(
            text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ):
            self.line(part)

    def mark(self, mark: str, text: str) -> None:
        """`  ✓ text`, wrapped below itself."""
        sign = (_SIGNS if self.unicode and not self.words else _WORDS)[mark]
        space = " " * (len(sign) + 3)
        width = WIDTH - len(space)
        lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
        self.line(f"  {self._paint(mark, sign)} {lines[0]}")
        for more in lines[1:]:
            self.line(space + more)

    def ok(self, text: str) -> None:
        self.mark(OK, text)

    def warn(self, text: str) -> None:
        self.mark(WARN, text)
        self.document.setdefault("warnings", []).append(text)

    def fail(self, text: str) -> None:
        self.mark(FAIL, text)

    def finding(self, finding: Finding) -> None:
        self.mark(finding.mark, finding.text)

    def advice(self, lines: tuple[str, ...] | list[str]) -> None:
        for text in lines:
            self.line("    " + text)

    def error(self, error: SetupError) -> None:
        """An error ends the run: always on standard error."""
        self._prose.flush()
        lines = [shown(f"dma-setup: {error.text}", LONGEST)]
        if self._errors.isatty():  # elsewhere it stays one line, to be searched for
            lines = textwrap.wrap(lines[0], WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        self._errors.write("".join(line + "\n" for line in [*lines, *(shown(line, LONGEST) for line in error.details)]))
        self._errors.flush()
        self.document["error"] = {"text": error.text, "details": error.details, "status": error.status}

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colour else text

    # ------------------------------------------------------------ the plan

    def plan(self, plan: Plan, *, diff: bool) -> None:
        right = f"{len(plan.right)} thing{'s' if len(plan.right) != 1 else ''} already right"
        if not plan.changes:
            self.line(f"Plan: nothing to change ({right})")
        else:
            count = f"{len(plan.changes)} change{'s' if len(plan.changes) != 1 else ''}"
            self.line(self._paint("title", f"Plan: {count}, {right}" if plan.right else f"Plan: {count}"))
            width = min(36, max(len(change.subject) for change in plan.changes))
            for change in plan.changes:
                self._change(change, width)
            if plan.right:
                self.paragraph(f"= {', '.join(plan.right)}: already right", "  ")
        for note in plan.notes if plan.changes else plan.asks:
            self.mark(WARN, note)
        if diff:
            self.diff(plan)

    def _change(self, change: Change, width: int) -> None:
        sign = self._paint(change.sign, change.sign)
        if len(change.subject) > width:
            self.line(f"  {sign} {change.subject}")
            self.paragraph(change.says, " " * (width + 6))
            return
        room = WIDTH - width - 6
        lines = textwrap.wrap(change.says, max(room, 20), break_long_words=False, break_on_hyphens=False) or [""]
        self.line(f"  {sign} {change.subject:<{width}}  {lines[0]}".rstrip())
        for more in lines[1:]:
            self.line(" " * (width + 6) + more)

    def diff(self, plan: Plan) -> None:
        for change in plan.changes:
            text = change.diff()
            if text:
                self.line()
                self.text(text)

    def text(self, text: str) -> None:
        for line in text.splitlines():
            self.line(self._paint(line[0], line) if line[:1] in ("+", "-") and line[:3] not in ("+++", "---") else line)

    # ------------------------------------------------------------ --json

    def plan_document(self, plan: Plan) -> None:
        self.document["plan"] = {
            "changes": [change.facts() for change in plan.changes],
            "right": list(plan.right),
            "notes": list(plan.notes),
        }

    def conclude(self, work: Callable[[], int]) -> int:
        """Do it, say what could not be done, print the document; returns the exit status."""
        try:
            return self.finish(work())
        except SetupError as error:
            self.error(error)
            return self.finish(error.status)

    def finish(self, status: int) -> int:
        """Print the document when there is to be one; returns `status`."""
        if self._as_json:
            self.document.setdefault("result", {})["status"] = status
            json.dump(self.document, self._out, indent=2, ensure_ascii=False, default=str)
            self._out.write("\n")
            self._out.flush()
        return status
