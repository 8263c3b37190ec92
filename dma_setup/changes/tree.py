"""A directory of program files copied whole: root's own copy of the library.

A copy is never changed afterwards: another version has another name (the digest is in it), so that what runs finds its
files until it ends, and taking back is removing. Compiled files are made beside them, for a start in milliseconds.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from dataclasses import dataclass
from typing import Any

from dma_setup.changes import CHANGED, FAILED, NOTHING, RESTORED, Change, Keeper, NotApplied, TakenBack, reader
from dma_setup.errors import SetupError
from dma_setup.image import inside
from dma_setup.system import FILE, Entry, System

COMPILED = "__pycache__"


@dataclass(frozen=True)
class TreeChange(Change):
    """`packages`: directories whose `.py` files are copied, each under its own name, into `path`."""

    path: str
    root: str
    packages: tuple[str, ...]
    digest: str
    subject: str
    says: str
    parents: tuple[str, ...] = ()
    is_new: bool = True
    python: str = ""  # compiles them; "" for not at all
    drains: bool = True

    kind = "tree"

    @property
    def sign(self) -> str:
        return "+" if self.is_new else "="

    @property
    def at(self) -> str:
        return inside(self.root, self.path)

    @property
    def _part(self) -> str:
        """Where it is put together, before it is there whole."""
        return self.at + ".part"

    def apply(self, system: System) -> None:
        try:
            if os.path.lexists(self.at):
                raise SetupError("is there meanwhile; run dma-setup again")
            for parent in self.parents:
                if system.look(inside(self.root, parent)) is None:
                    system.make_directory(inside(self.root, parent), 0o755)
            if os.path.lexists(self._part):
                shutil.rmtree(self._part)
            system.make_directory(self._part, 0o755)
            for name, content in files(self.packages):
                self._put(system, name, content)
            if tree_digest(self._part) != self.digest:
                raise SetupError("the files changed while they were copied")
            self._make_room_for_compiled(system)
            if self.python:
                words = [self.python, "-IS", "-m", "compileall", "-q", "-s", self._part, "-p", self.path, self._part]
                system.run(words, seconds=120)
                for compiled in glob.glob(f"{self._part}/**/{COMPILED}/*.pyc", recursive=True):
                    os.chmod(compiled, 0o644)
            os.rename(self._part, self.at)
        except (OSError, SetupError) as error:
            self._remove(system)
            raise NotApplied(f"{self.path}: {error}") from error

    def _make_room_for_compiled(self, system: System) -> None:
        """The directories of compiled files, for everybody to read: Python would make them by the umask of root's first run,
        and who cannot read there compiles anew at every start."""
        for folder in [folder for folder, _, names in os.walk(self._part) if names]:
            system.make_directory(f"{folder}/{COMPILED}", 0o755)

    def _put(self, system: System, name: str, content: bytes) -> None:
        folder = self._part
        for part in os.path.dirname(name).split("/"):
            folder += f"/{part}"
            if not os.path.isdir(folder):
                system.make_directory(folder, 0o755)
        system.put_file(f"{self._part}/{name}", Entry(FILE, content, 0o644))

    def take_back(self, system: System) -> TakenBack:
        try:
            if not os.path.lexists(self.at):
                self._remove(system)
                return TakenBack(NOTHING)
            if tree_digest(self.at) != self.digest:
                return TakenBack(CHANGED, f"{self.path} was changed since; it is left as it is")
            self._remove(system)
        except OSError as error:
            return TakenBack(FAILED, f"{self.path}: {error}")
        return TakenBack(RESTORED, self.subject)

    def _remove(self, system: System) -> None:
        for path in (self._part, self.at):
            if os.path.lexists(path):
                shutil.rmtree(path)
        system.sweep_around(self.at, *(inside(self.root, parent) for parent in self.parents))
        for parent in reversed(self.parents):
            try:
                system.remove_directory(inside(self.root, parent))
            except FileNotFoundError:
                continue
            except OSError:
                break

    def record(self, _keeper: Keeper, _number: int) -> dict[str, Any]:
        names = ("kind", "path", "root", "digest", "subject", "says", "drains")
        return {**{name: getattr(self, name) for name in names}, "parents": list(self.parents)}


def files(packages: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """(name, content) of every source file, sorted by name."""
    found = []
    for package in packages:
        above = os.path.dirname(package)
        for folder, _, names in os.walk(package):
            for name in names:
                path = os.path.join(folder, name)
                if name.endswith(".py") and os.path.isfile(path):
                    with open(path, "rb") as file:
                        found.append((os.path.relpath(path, above), file.read()))
    return sorted(found)


def digest_of(packages: tuple[str, ...]) -> str:
    return _digest(files(packages))


def tree_digest(path: str) -> str:
    """The digest of a copy: the files of all packages in it, "" for anything that a copy does not hold."""
    packages = [os.path.join(path, name) for name in sorted(os.listdir(path))]
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != COMPILED]
        if any(not name.endswith(".py") or os.path.islink(os.path.join(folder, name)) for name in names):
            return ""
    return _digest(files(tuple(packages)))


def _digest(found: list[tuple[str, bytes]]) -> str:
    whole = hashlib.sha256()
    for name, content in found:
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


@reader("tree")
def _read(record: dict[str, Any], _keeper: Keeper, _number: int) -> Change:
    given = {name: value for name, value in record.items() if name not in ("kind", "parents")}
    return TreeChange(**given, packages=(), parents=tuple(record["parents"]))
