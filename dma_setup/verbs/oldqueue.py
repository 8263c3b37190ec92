"""`oldqueue: {path, owner}`: the mail that C dma still holds is handed to the daemon, and C dma's cron job ends.

Nothing is taken from a living C dma: while it works on a message (it holds a lock on its queue file), setup stops and says so.
It may do that for days, sleeping between its attempts, so the command that ends it is said as well; a C dma that is ended
leaves its mail in the queue.

To be planned before the directory itself is given to `owner`: root touches no file in a directory that another account can
write. Where the account has it already, what lies there is the account's own business.
"""

from __future__ import annotations

import fcntl
import glob
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
    uid, gid = view.account(step["owner"])
    if folder is None or folder.uid == uid:
        return made  # nothing there, or handed over before
    names = pairs(System(), view.place.at(path))
    if not names:
        return made
    busy = [file for name in names if name.startswith("Q") and _is_held(file := f"{view.place.at(path)}/{name}")]
    if busy:
        raise SetupError(
            f"C dma is at work on {len(busy)} message{'s' if len(busy) != 1 else ''} in {path}; nothing was changed",
            details=[
                "  It goes on for days while its relay takes nothing. End it, then run this again; its mail stays in the queue",
                f"  and is taken over: kill {' '.join(str(pid) for pid in _holders(busy))}",
            ],
        )
    count = len([name for name in names if name.startswith("Q")])
    says = f"{count} message{'s' if count != 1 else ''} of C dma, taken over by the daemon with their age"
    entries = [(name, System().look(f"{view.place.at(path)}/{name}")) for name in names]
    before = tuple((name, entry.gid, entry.mode) for name, entry in entries if entry is not None and entry.kind == FILE)
    made.append(OldQueueChange(path, view.place.root, gid, before, f"{path} (C dma)", says))
    return made


def _holders(paths: list[str]) -> list[int]:
    """The processes that have one of the files open; a lock of flock(2) does not say whose it is."""
    files = {(found.st_dev, found.st_ino) for found in map(os.lstat, paths)}
    holders = set()
    for fd in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            found = os.stat(fd)
        except OSError:
            continue  # closed meanwhile
        if (found.st_dev, found.st_ino) in files:
            holders.add(int(fd.split("/")[2]))
    return sorted(holders)


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
