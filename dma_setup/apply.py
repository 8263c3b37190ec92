"""Making the planned changes, journaled; a failure or an interruption takes back what was made, last first.

Ctrl-C, SIGTERM and SIGHUP interrupt between and within changes; while taking back they are held off.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from dma_setup import journal as journals
from dma_setup.changes import CHANGED, FAILED, NOTHING, Change
from dma_setup.changes.secret import SecretChange
from dma_setup.errors import INTERRUPTED, SetupError
from dma_setup.journal import Journal, Vault
from dma_setup.place import Place
from dma_setup.plan import Plan
from dma_setup.stores import Stores
from dma_setup.system import Lock, System


@dataclass
class Applied:
    """What was made. `warnings`: optional changes that failed. `journal`: its directory, "" when nothing was to be made.

    `old_secrets`: files in the journal that hold a password in the clear, because the file they were before did.
    """

    made: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    journal: str = ""
    old_secrets: list[str] = field(default_factory=list)


class RolledBack(SetupError):
    """A change failed and those before it were taken back; `details` says what could not be."""


class Interruption(KeyboardInterrupt):
    """SIGTERM or SIGHUP while changes are made; treated as Ctrl-C."""


def journaled(plan: Plan, place: Place, what: str, system: System, prove: Callable[[], None] | None = None) -> Applied:
    """`run` under the lock, with a journal of its own. `what` is the recipe or verb, for `undo` to name."""
    if not plan.changes:
        return Applied()
    lock = Lock(os.path.join(journals.prepare(place), "lock"))
    try:
        if journals.state(place) != plan.seen:
            raise SetupError("another dma-setup changed something meanwhile; nothing was changed by this one, run it again")
        now = time.time()
        journals.forget_old(place, system, now)
        try:
            journal = Journal.start(place, what, now, _vault(plan, system))
        except OSError as error:
            raise SetupError(f"{_words(error, place.state)}; nothing was changed") from error
        applied = run(plan, journal, system, prove)
        applied.journal, applied.old_secrets = journal.folder, journal.secret_files
        return applied
    finally:
        lock.release()


def _vault(plan: Plan, system: System) -> Vault | None:
    """The keyring that the plan puts a password into, for old files that hold one."""
    for change in plan.changes:
        if isinstance(change, SecretChange):
            return Vault(Stores(system), change.store)
    return None


def run(plan: Plan, journal: Journal, system: System, prove: Callable[[], None] | None = None) -> Applied:
    """Make every change of the plan. `prove` is called when all are made but those that drop what is needed no more (`last`),
    and may raise to have everything taken back.

    Raises RolledBack (exit 1, or 130 when interrupted). Nothing of the plan is left then, but for what `details` names.
    """
    applied = Applied()
    begun: list[tuple[int, Change]] = []
    with _interruptible():
        try:
            for number, change in enumerate(plan.changes):
                if change.last and prove is not None:
                    prove()
                    prove = None
                journal.change(number, change)
                begun.append((number, change))
                try:
                    change.apply(system)
                except SetupError as error:
                    if not change.optional:
                        raise
                    applied.warnings.append(error.text)
                    begun.pop()
                    journal.note({"undone": number})
                    continue
                journal.note({"made": number})
                applied.made.append(change)
            if prove is not None:
                prove()
            journal.note({"end": True})
        except BaseException as error:
            _hold_signals()
            details = _take_back(begun, journal, system)
            if isinstance(error, KeyboardInterrupt):
                raise RolledBack(f"interrupted; {_undone(begun, details)}", INTERRUPTED, details) from error
            if isinstance(error, SetupError):
                raise RolledBack(f"{error.text}; {_undone(begun, details)}", 1, [*error.details, *details]) from error
            if isinstance(error, OSError):
                raise RolledBack(f"{_words(error, journal.folder)}; {_undone(begun, details)}", 1, details) from error
            raise
    return applied


def _words(error: OSError, where: str) -> str:
    """`where`: what was worked on, for an error that names no file: one of writing."""
    return f"{error.filename or where}: {error.strerror or error}"


def _undone(begun: list[tuple[int, Change]], details: list[str]) -> str:
    if details:
        return "not everything could be put back:"
    made = len(begun) - 1
    if made < 1:
        return "everything is as it was before"
    return f"the {made} changes made before were taken back" if made > 1 else "the change made before was taken back"


def _take_back(begun: list[tuple[int, Change]], journal: Journal, system: System) -> list[str]:
    """Take back what was begun, last first; returns what could not be."""
    problems = []
    for number, change in reversed(begun):
        taken = change.take_back(system)
        if taken.result in (CHANGED, FAILED):
            problems.append("  " + taken.text)
            continue
        if taken.result != NOTHING or not problems:
            _quietly(journal, {"undone": number})
    if not problems:
        try:
            journal.close()
        except (OSError, SetupError) as error:
            problems.append(f"  {journal.folder}: {error}")
    return problems


def _quietly(journal: Journal, line: dict[str, Any]) -> None:
    """A full disk must not stop the taking back."""
    try:
        journal.note(line)
    except OSError:
        pass


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP raise as Ctrl-C does, so that what was begun is taken back."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interruption

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hold_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
