"""A change that only a program can make: a timer started, lingering switched on, the crontab replaced.

`do` and `undo` are lists of commands, each a list of words; `given` and `given_back` is what the last of each reads on
standard input. When `check` is given, its output says whether the state is still ours before it is taken back; of a text
that others changed since, only the `line` that is ours goes.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from dma_setup.changes import CHANGED, FAILED, RESTORED, Change, Keeper, NotApplied, TakenBack, reader
from dma_setup.system import System

_GONE = ("no crontab", "no such file")  # how a `check` says that there is nothing; any other failure says nothing


@dataclass(frozen=True)
class CommandChange(Change):
    do: tuple[tuple[str, ...], ...]
    undo: tuple[tuple[str, ...], ...]
    subject: str
    says: str
    given: str = ""
    given_back: str = ""
    check: tuple[str, ...] = ()  # prints `given` while the state is ours
    line: str = ""  # of `given`: what is ours in it
    optional: bool = False
    drains: bool = False
    is_new: bool = True
    foreign: bool = False  # what is stopped or put aside is not ours
    vacates: str = ""  # a path at which nothing lies any more then; for the planning of what comes after

    kind = "command"

    @property
    def sign(self) -> str:
        return "+" if self.is_new else "~"

    @property
    def replaces(self) -> bool:
        return self.foreign

    def diff(self) -> str:
        if not self.given and not self.given_back:
            return ""
        before, after = self.given_back.splitlines(), self.given.splitlines()
        lines = difflib.unified_diff(before, after, self.subject, f"{self.subject} (planned)", lineterm="", n=2)
        return "".join(line + "\n" for line in lines)

    def apply(self, system: System) -> None:
        if self.check:
            now = system.run(list(self.check))
            if (now.output if now.status == 0 else "") != self.given_back:
                raise NotApplied(f"{self.subject} was changed by somebody else meanwhile; run dma-setup again")
        failed = _run(system, self.do, self.given)
        if failed:
            raise NotApplied(f"{self.subject}: {failed}")

    def take_back(self, system: System) -> TakenBack:
        if self.check:
            now = system.run(list(self.check))
            gone = now.status != 0 and any(words in now.errors.lower() for words in _GONE)
            if (now.status == 0 or gone) and now.output == self.given_back:
                return TakenBack(RESTORED, self.subject)
            if (now.status == 0 or gone) and now.output != self.given:
                return self._take_out(system, now.output)
        failed = _run(system, self.undo, self.given_back)
        return TakenBack(FAILED, f"{self.subject}: {failed}") if failed else TakenBack(RESTORED, self.subject)

    def _take_out(self, system: System, now: str) -> TakenBack:
        """Take our line out of what others changed since."""
        lines = now.splitlines(keepends=True)
        kept = [line for line in lines if line.rstrip("\n") != self.line]
        if not self.line or len(kept) == len(lines):
            return TakenBack(CHANGED, f"{self.subject} was changed since; it is left as it is")
        failed = _run(system, self.do, "".join(kept))
        return TakenBack(FAILED, f"{self.subject}: {failed}") if failed else TakenBack(RESTORED, self.subject)

    def record(self, _keeper: Keeper, _number: int) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "do": [list(words) for words in self.do],
            "undo": [list(words) for words in self.undo],
            "subject": self.subject,
            "says": self.says,
            "given": self.given,
            "given_back": self.given_back,
            "check": list(self.check),
            "line": self.line,
            "optional": self.optional,
            "drains": self.drains,
        }


def _run(system: System, commands: tuple[tuple[str, ...], ...], given: str) -> str:
    """Run them in order; what went wrong with the first that failed, "" when none did."""
    for at, words in enumerate(commands):
        done = system.run(list(words), given if at == len(commands) - 1 else "")
        if done.status != 0:
            reason = done.errors.strip().splitlines()
            return f"{' '.join(words)}: {reason[-1] if reason else f'status {done.status}'}"
    return ""


@reader("command")
def _read(record: dict[str, Any], _keeper: Keeper, _number: int) -> Change:
    return CommandChange(
        do=tuple(tuple(words) for words in record["do"]),
        undo=tuple(tuple(words) for words in record["undo"]),
        subject=record["subject"],
        says=record["says"],
        given=record["given"],
        given_back=record["given_back"],
        check=tuple(record["check"]),
        line=record.get("line", ""),
        optional=record["optional"],
        drains=record["drains"],
    )
