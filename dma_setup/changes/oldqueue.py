"""The files that C dma left in the queue's directory, opened to the daemon: their group becomes the daemon's.

`dmad` moves them into its own queue when it starts (`dma_runtime.system.takeover`), and needs to read them for that. Their
owner stays: it says who submitted them. Nothing else about them is changed, and nothing is ever removed here.

It is made before the directory is the daemon's, and taken back when it is no more, so nobody swaps names meanwhile. A file
that has a name elsewhere too is left alone: it is somebody else's.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any

from dma_setup.changes import FAILED, NOTHING, RESTORED, Change, Keeper, NotApplied, TakenBack, reader
from dma_setup.image import inside
from dma_setup.system import System


@dataclass(frozen=True)
class OldQueueChange(Change):
    path: str
    root: str
    gid: int
    before: tuple[tuple[str, int, int], ...]  # name, group and mode of each file
    subject: str
    says: str
    drains: bool = True

    kind = "oldqueue"
    sign = "~"

    def apply(self, system: System) -> None:
        try:
            for path, names in self._files(pairs(system, inside(self.root, self.path))):
                _give(path, names, self.gid, 0o040)
        except OSError as error:
            raise NotApplied(f"{error.filename or self.path}: {error.strerror}") from error

    def take_back(self, system: System) -> TakenBack:
        there = pairs(system, inside(self.root, self.path))
        left = [one for one in self.before if one[0] in there]
        try:
            for (path, names), (_, gid, mode) in zip(self._files([one[0] for one in left]), left, strict=True):
                _give(path, names, gid, mode, exactly=True)
        except OSError as error:
            return TakenBack(FAILED, f"{error.filename or self.path}: {error.strerror}")
        return TakenBack(RESTORED, self.subject) if left else TakenBack(NOTHING)

    def _files(self, names: list[str]) -> list[tuple[str, int]]:
        """(path, how many names its file has among these) of each."""
        paths = [f"{inside(self.root, self.path)}/{name}" for name in names]
        files = [(found.st_dev, found.st_ino) for found in map(os.lstat, paths)]
        return [(path, files.count(file)) for path, file in zip(paths, files, strict=True)]

    def record(self, _keeper: Keeper, _number: int) -> dict[str, Any]:
        names = ("kind", "path", "root", "gid", "subject", "says", "drains")
        return {**{name: getattr(self, name) for name in names}, "before": [list(one) for one in self.before]}


def pairs(system: System, path: str) -> list[str]:
    """The names of C dma's queue and message files: `Q` or `M`, two hexadecimal numbers and a dot between."""
    digits = frozenset("0123456789abcdef")
    found = []
    for name in system.listing(path):
        first, dot, second = name[1:].partition(".")
        if name[:1] in ("Q", "M") and first and dot and second and digits.issuperset(first + second):
            found.append(name)
    return found


def _give(path: str, names: int, gid: int, mode: int, *, exactly: bool = False) -> None:
    """Through the file itself: a link in its place is not followed, and what is no file, or has other names than these, is
    left."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # delivered, or taken over
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == names:
            os.fchown(fd, -1, gid)
            os.fchmod(fd, mode if exactly else stat.S_IMODE(found.st_mode) | mode)
    finally:
        os.close(fd)


@reader("oldqueue")
def _read(record: dict[str, Any], _keeper: Keeper, _number: int) -> Change:
    given = {name: value for name, value in record.items() if name not in ("kind", "before")}
    return OldQueueChange(**given, before=tuple((str(name), int(gid), int(mode)) for name, gid, mode in record["before"]))
