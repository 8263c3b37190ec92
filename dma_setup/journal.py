"""The journal of one apply: what was there before, written down and synced before each change is made.

`STATE/<time>/journal`, one JSON object a line, beside the old files (`003.before`). Directory 0700, files 0600. Lines:
`begin`, then for each change `change` (before it is made) and `made` (after), then `end`; `undone` with a number when a
change was taken back later, `closed` when all were. A journal without `end` is that of a run that was cut off.

An old file that held a password in the clear is kept here too when there is no keyring to put it in: `secrets()` names
those files, for the person to be told.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import Any

from dma_setup.changes import Change, Keeper, from_record
from dma_setup.changes.path import PathChange
from dma_setup.errors import SetupError
from dma_setup.place import Place

VERSION = 1
DAYS_KEPT = 30


class Journal(Keeper):
    """Written by `apply`. All paths are real paths (below --root when there is one)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.secret_files: list[str] = []

    @classmethod
    def start(cls, place: Place, recipe: str, now: float) -> Journal:
        base = prepare(place)
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.localtime(now))
        for number in range(1000):
            folder = os.path.join(base, stamp if not number else f"{stamp}.{number}")
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                continue
            journal = cls(folder)
            journal.note(
                {"begin": {"version": VERSION, "recipe": recipe, "mode": place.mode, "root": place.root, "at": now}}
            )
            _sync_folder(base)
            return journal
        raise SetupError(f"{base}: too many journals of one second")

    def note(self, line: dict[str, Any]) -> None:
        """Append one line, synced."""
        fd = os.open(
            os.path.join(self.folder, "journal"),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
        )
        try:
            data = memoryview((json.dumps(line) + "\n").encode())
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def change(self, number: int, change: Change) -> None:
        record = change.record(self, number)
        if isinstance(change, PathChange) and change.old_secret():
            self.secret_files.append(os.path.join(self.folder, f"{number:03}.before"))
        _sync_folder(self.folder)
        self.note({"change": number, "record": record})

    def keep(self, name: str, content: bytes) -> None:
        fd = os.open(os.path.join(self.folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(fd, left) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def kept(self, name: str) -> bytes | None:
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None


class Past:
    """A journal read back. `open_changes`: those not taken back yet, in the order they were made."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.journal = Journal(folder)
        self.recipe = ""
        self.root = ""
        self.ended = False
        self.closed = False
        self._records: dict[int, dict[str, Any]] = {}
        self._undone: set[int] = set()
        self._read()

    def _read(self) -> None:
        data = self.journal.kept("journal") or b""
        for line in data.decode("utf-8", "replace").split("\n"):
            try:
                found = json.loads(line)
            except ValueError:
                continue  # the torn last line of a run that was cut off: that change had not begun
            if "begin" in found:
                self.recipe, self.root = str(found["begin"]["recipe"]), str(found["begin"]["root"])
            elif "record" in found:
                self._records[int(found["change"])] = found["record"]
            elif "undone" in found:
                self._undone.add(int(found["undone"]))
            self.ended = self.ended or "end" in found
            self.closed = self.closed or "closed" in found

    def open_changes(self) -> list[tuple[int, Change]]:
        numbers = sorted(set(self._records) - self._undone)
        return [(number, from_record(self._records[number], self.journal, number)) for number in numbers]


def prepare(place: Place) -> str:
    """The directory of the journals, made if missing (0700)."""
    base = place.at(place.state)
    missing = []
    folder = base
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        os.mkdir(folder, 0o700)  # not makedirs: its mode is for the last one only
    return base


def past(place: Place) -> list[Past]:
    """The journals of a place, newest first."""
    base = place.at(place.state)
    try:
        names = sorted(os.listdir(base), reverse=True)
    except FileNotFoundError:
        return []
    return [Past(os.path.join(base, name)) for name in names if os.path.exists(os.path.join(base, name, "journal"))]


def forget_old(place: Place, now: float) -> None:
    """Delete closed journals, and any but the newest, after 30 days."""
    for found in past(place)[1:]:
        if now - os.stat(os.path.join(found.folder, "journal")).st_mtime > DAYS_KEPT * 86400:
            shutil.rmtree(found.folder)


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
