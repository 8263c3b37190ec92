"""Taking back the last apply: its journal read from the end. What was changed since is shown and left as it is.

A queue that still holds mail stays, and so does all that is needed to send that mail; the rest is put back, and a
second `undo` finishes when the queue is empty. Runs that were cut off just before the last one are taken back with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dma_setup import journal as journals
from dma_setup.changes import CHANGED, FAILED, KEPT, NOTHING, RESTORED, Change
from dma_setup.changes.path import PathChange, messages
from dma_setup.journal import Past
from dma_setup.place import Place
from dma_setup.system import System


@dataclass
class Undone:
    """`recipe` of the apply taken back, "" when there was none. `waiting`: messages in a queue that was kept."""

    recipe: str = ""
    restored: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # sentences
    diffs: list[str] = field(default_factory=list)
    waiting: int = 0
    complete: bool = True


def find(place: Place, system: System) -> list[Past]:
    """The journals that `undo` takes back, newest first: the last that is not closed, and cut-off ones right before it."""
    found = [past for past in journals.past(place, system) if not (past.closed or past.is_empty)]
    if not found:
        return []
    wanted = [found[0]]
    for earlier in found[1:]:
        if earlier.ended:
            break
        wanted.append(earlier)
    return wanted


def preview(place: Place, system: System) -> Undone:
    """What `run` would take back, in its order, as `restored`; nothing is changed."""
    undone = Undone()
    for past in find(place, system):
        undone.recipe = undone.recipe or past.recipe
        open_changes = past.open_changes()
        waiting = max((_waiting(system, change) for _, change in open_changes), default=0)
        undone.waiting = max(undone.waiting, waiting)
        for _, change in reversed(open_changes):
            if waiting and change.drains:
                undone.left.append(f"{change.subject} is kept until the queue is empty")
            else:
                undone.restored.append(change.subject)
    return undone


def run(place: Place, system: System) -> Undone:
    """Take back. The caller holds the lock."""
    undone = Undone()
    for past in find(place, system):
        undone.recipe = undone.recipe or past.recipe
        open_changes = past.open_changes()
        waiting = max((_waiting(system, change) for _, change in open_changes), default=0)
        undone.waiting = max(undone.waiting, waiting)
        whole = True
        for number, change in reversed(open_changes):
            if waiting and change.drains:
                undone.left.append(f"{change.subject} is kept until the queue is empty")
                whole = False
                continue
            taken = change.take_back(system)
            if waiting and taken.result == KEPT:
                whole = False  # a directory of what was kept: the next undo's business
                continue
            if taken.result == RESTORED:
                undone.restored.append(change.subject)
            elif taken.result in (CHANGED, FAILED, KEPT):
                old = past.old_file(number) if taken.result == CHANGED else ""
                undone.left.append(taken.text + (f"; what was there before is kept in {old}" if old else ""))
                if taken.diff:
                    undone.diffs.append(taken.diff)
            if taken.result in (CHANGED, FAILED):
                undone.complete = False
            if taken.result == FAILED:
                whole = False
                continue
            if taken.result in (RESTORED, NOTHING):
                past.taken_back(number)
            else:
                past.journal.note({"undone": number})
        if whole:
            past.close()
        undone.complete = undone.complete and whole
    return undone


def forget(place: Place, system: System) -> int:
    """Delete all journals; returns how many there were."""
    found = journals.past(place, system)
    for past in found:
        past.delete()
    return len(found)


def _waiting(system: System, change: Change) -> int:
    """Messages in the queue that a change made, 0 for other changes."""
    return messages(system, change.at) if isinstance(change, PathChange) and change.queue else 0
