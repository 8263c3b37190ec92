"""`oldqueue: {path, owner}`: the mail that C dma still holds is handed to the daemon, and C dma's cron job ends.

Nothing is taken from a living C dma: while it works on a message (it holds a lock on its queue file), setup stops and says so.
"""

from __future__ import annotations

import fcntl
import os
from typing import Any

from dma_setup.changes import Change
from dma_setup.changes.oldqueue import OldQueueChange, pairs
from dma_setup.errors import SetupError
from dma_setup.system import FILE, System
from dma_setup.view import View

CRON = "/etc/cron.d/dma"


def plan(step: dict[str, Any], view: View) -> list[Change]:
    if view.place.is_user:
        return []
    made: list[Change] = []
    if view.entry(CRON) is not None:
        made.append(view.path_change(CRON, None, "C dma's queue run; the daemon looks after the queue", foreign=True))
    path = step["path"]
    folder = System().look(view.place.at(path))
    names = pairs(System(), view.place.at(path))
    if folder is None or not names:
        return made
    busy = sum(_is_held(f"{view.place.at(path)}/{name}") for name in names if name.startswith("Q"))
    if busy:
        raise SetupError(
            f"C dma is at work on {busy} message{'s' if busy != 1 else ''} in {path}; nothing was changed",
            details=["  Wait until it is done, then run this again. See its processes with: pgrep -x dma"],
        )
    gid = view.account(step["owner"])[1]
    count = len([name for name in names if name.startswith("Q")])
    says = f"{count} message{'s' if count != 1 else ''} of C dma, taken over by the daemon with their age"
    entries = [(name, System().look(f"{view.place.at(path)}/{name}")) for name in names]
    before = tuple((name, entry.gid, entry.mode) for name, entry in entries if entry is not None and entry.kind == FILE)
    if all(one[1] == gid and one[2] & 0o040 for one in before):
        return made  # handed over; the daemon has not started yet
    made.append(OldQueueChange(path, view.place.root, gid, before, f"{path} (C dma)", says))
    return made


def _is_held(path: str) -> bool:
    """Whether a process of C dma works on that queue file: it locks it (corecode/dma spool.c, acquirespool)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
