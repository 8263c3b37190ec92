"""The journal of one apply: what was there before, written down and synced before each change is made.

`STATE/<time>/journal`, one JSON object a line, beside the old files (`003.before`). Directory 0700, files 0600. Lines:
`begin`, then for each change `change` (before it is made) and `made` (after), then `end`; `undone` with a number when a
change was taken back later, `closed` when all were. A journal without `end` is that of a run that was cut off.

An old file that held a password in the clear goes into the keyring that the plan uses, if it uses one (`sealed` names the
entry). Without one it is kept here like the others (`clear` names it), and `secret_files` is for the person to be told.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import Any

from dma_runtime.secret import Secret
from dma_setup.changes import Change, Keeper, digest, from_record
from dma_setup.errors import SetupError
from dma_setup.place import Place
from dma_setup.stores import Stores
from dma_setup.system import FILE, System

VERSION = 1
DAYS_KEPT = 30


class Vault:
    """A keyring, for old files that held a password. Entries are one line of base64: not every keyring keeps line ends."""

    def __init__(self, stores: Stores, store: str) -> None:
        self.store = store
        self._stores = stores

    def put(self, entry: str, name: str, content: bytes) -> None:
        self._stores.set(self.store, entry, name, Secret(base64.b64encode(content).decode()))

    def get(self, entry: str, name: str) -> bytes | None:
        found = self._stores.get(self.store, entry, name)
        return None if found is None else base64.b64decode(found.reveal())

    def delete(self, entry: str, name: str) -> None:
        self._stores.delete(self.store, entry, name)


class Journal(Keeper):
    """Written by `apply`. All paths are real paths (below --root when there is one)."""

    def __init__(self, folder: str, vault: Vault | None = None) -> None:
        self.folder = folder
        self.vault = vault
        self.secret_files: list[str] = []
        self._sealed: list[str] = []

    @classmethod
    def start(cls, place: Place, recipe: str, now: float, vault: Vault | None = None) -> Journal:
        base = prepare(place)
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.localtime(now))
        for number in range(1000):
            folder = os.path.join(base, stamp if not number else f"{stamp}.{number}")
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                continue
            journal = cls(folder, vault)
            journal.note({"begin": {"version": VERSION, "recipe": recipe, "mode": place.mode, "root": place.root, "at": now}})
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
        """Write down a change that is about to be made."""
        record = change.record(self, number)
        _sync_folder(self.folder)
        self.note({"change": number, "record": record})

    def close(self) -> None:
        """Everything was taken back: the old passwords are where they were, and not needed here any more."""
        for name in self._sealed:
            assert self.vault is not None
            self.vault.delete(_entry(self.folder), name)
        self.note({"closed": True})
        for path in self.secret_files:
            os.unlink(path)
        self.secret_files.clear()

    def keep(self, name: str, content: bytes, *, is_secret: bool = False) -> None:
        if is_secret and self.vault is not None:
            self.note({"sealed": name, "store": self.vault.store})
            self._sealed.append(name)
            self.vault.put(_entry(self.folder), name, content)
            return
        if is_secret:
            self.note({"clear": name})
        path = os.path.join(self.folder, name)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(fd, left) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        if is_secret:
            self.secret_files.append(path)

    def kept(self, name: str) -> bytes | None:
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None


class Past(Keeper):
    """A journal read back. `open_changes`: those not taken back yet, in the order they were made.

    `is_empty`: the run ended before its first change; there is nothing to take back.
    """

    def __init__(self, folder: str, stores: Stores) -> None:
        self.folder = folder
        self.journal = Journal(folder)
        self._stores = stores
        self._sealed: dict[str, str] = {}  # name of the old file -> keyring it is in
        self._clear: list[str] = []  # old files with a password, kept as they were
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
            elif "sealed" in found:
                self._sealed[str(found["sealed"])] = str(found["store"])
            elif "clear" in found:
                self._clear.append(str(found["clear"]))
            elif "undone" in found:
                self._undone.add(int(found["undone"]))
            self.ended = self.ended or "end" in found
            self.closed = self.closed or "closed" in found

    @property
    def is_empty(self) -> bool:
        return not self._records

    @property
    def was_cut_off(self) -> bool:
        """The run neither came to its end nor was taken back."""
        return not (self.ended or self.closed or self.is_empty)

    def secret_files(self) -> list[str]:
        """The old files that hold a password in the clear and are still there."""
        paths = [os.path.join(self.folder, name) for name in self._clear]
        return [path for path in paths if os.path.exists(path)]

    def old_file(self, number: int) -> str:
        """The path of what a file was before, "" when it lies in a keyring or there was none."""
        path = os.path.join(self.folder, f"{number:03}.before")
        return path if os.path.exists(path) else ""

    def taken_back(self, number: int) -> None:
        """A change was taken back; a password that its old file held is where it was, and not needed here any more."""
        self.journal.note({"undone": number})
        name = f"{number:03}.before"
        if name in self._clear:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.folder, name))

    def open_changes(self) -> list[tuple[int, Change]]:
        numbers = sorted(set(self._records) - self._undone)
        return [(number, from_record(self._records[number], self, number)) for number in numbers]

    def left(self) -> list[tuple[str, Left | None]]:
        """(path, what was left there; None for nothing) of every file this run changed, the last change of a path first."""
        found: list[tuple[str, Left | None]] = []
        for number in sorted(set(self._records) - self._undone, reverse=True):
            record = self._records[number]
            if record["kind"] == "path":
                kept = self.journal.kept(f"{number:03}.after")
                is_file = record["after"] is not None and record["after"]["kind"] == FILE
                found.append((str(record["path"]), Left(record["after_digest"], kept) if is_file else None))
        return found

    def kept(self, name: str) -> bytes | None:
        if name in self._sealed:
            return Vault(self._stores, self._sealed[name]).get(_entry(self.folder), name)
        return self.journal.kept(name)

    def close(self) -> None:
        """Everything was taken back."""
        self._empty_vault()
        self.journal.note({"closed": True})

    def delete(self) -> None:
        """The journal and what it put into a keyring: nothing of it can be taken back any more."""
        self._empty_vault()
        for record in self._records.values():
            if record["kind"] == "secret" and record["kept_as"]:
                self._stores.delete(record["store"], record["kept_as"], record["user"])
        shutil.rmtree(self.folder)

    def _empty_vault(self) -> None:
        for name, store in self._sealed.items():
            Vault(self._stores, store).delete(_entry(self.folder), name)


def _entry(folder: str) -> str:
    """Under which service a keyring keeps the old files of a journal."""
    return f"dma-setup:journal:{os.path.basename(folder)}"


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


def past(place: Place, system: System) -> list[Past]:
    """The journals of a place, newest first."""
    base = place.at(place.state)
    try:
        names = sorted(os.listdir(base), reverse=True)
    except FileNotFoundError:
        return []
    stores = Stores(system)
    return [Past(os.path.join(base, name), stores) for name in names if os.path.exists(os.path.join(base, name, "journal"))]


@dataclass(frozen=True)
class Left:
    """A file as setup left it: its fingerprint, and its content unless that held a password."""

    digest: str
    content: bytes | None

    def is_still(self, content: bytes) -> bool:
        return digest.fits(content, self.digest)


def left(place: Place, system: System) -> dict[str, Left]:
    """Path -> what setup left there last, for the files whose change stands."""
    found: dict[str, Left] = {}
    gone: set[str] = set()
    for run in past(place, system):
        for path, one in run.left():
            if path not in found and path not in gone:
                if one is None:
                    gone.add(path)
                else:
                    found[path] = one
    return found


def state(place: Place) -> str:
    """The newest journal and its length: another one means that setup changed, or took back, something since."""
    base = place.at(place.state)
    try:
        newest = max((name for name in os.listdir(base) if os.path.exists(f"{base}/{name}/journal")), default="")
        return f"{newest}:{os.stat(f'{base}/{newest}/journal').st_size}" if newest else ""
    except FileNotFoundError:
        return ""


def forget_old(place: Place, system: System, now: float) -> None:
    """Delete all journals but the newest after 30 days."""
    for found in past(place, system)[1:]:
        if now - os.stat(os.path.join(found.folder, "journal")).st_mtime > DAYS_KEPT * 86400:
            found.delete()


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
