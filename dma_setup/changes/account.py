"""An account of the machine: a user with a group of the same name, in /etc/passwd, /etc/group and their shadows.

The lines are added and taken away by ourselves, under the lock that passwd(1) and systemd-sysusers(8) take
(/etc/.pwd.lock): so it works below --root and without their programs, and taking back leaves the files byte for byte as
they were, the `-` copies of those programs included. The account cannot be logged in to: no password, no shell.

`take_back` never removes an account that still owns something in `owns` (a queue with mail).
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dma_setup.changes import FAILED, KEPT, NOTHING, RESTORED, Change, Keeper, NotApplied, TakenBack, reader
from dma_setup.errors import SetupError
from dma_setup.image import inside
from dma_setup.system import FILE, System

LOCK = "/etc/.pwd.lock"


@dataclass(frozen=True)
class AccountChange(Change):
    root: str
    name: str
    uid: int
    gid: int
    comment: str
    home: str
    shell: str
    subject: str
    says: str
    is_new: bool = True
    owns: tuple[str, ...] = ()  # directories that it may have something in
    drains: bool = True

    kind = "account"

    @property
    def sign(self) -> str:
        return "+" if self.is_new else "="

    def _lines(self) -> dict[str, str]:
        """File -> the line of the account. shadow(5): `!` is no password, `*` none for ever."""
        return {
            "/etc/group": f"{self.name}:x:{self.gid}:",
            "/etc/gshadow": f"{self.name}:!*::",
            "/etc/passwd": f"{self.name}:x:{self.uid}:{self.gid}:{self.comment}:{self.home}:{self.shell}",
            "/etc/shadow": f"{self.name}:!*:::::::",
        }

    def apply(self, system: System) -> None:
        done: list[str] = []
        try:
            with _locked(self.root):
                system.sweep(inside(self.root, "/etc"))
                self._check(system)
                for path, line in self._lines().items():
                    if _add(system, inside(self.root, path), line, must=path in ("/etc/passwd", "/etc/group")):
                        done.append(path)
        except (OSError, SetupError) as error:
            for path in reversed(done):
                _drop(system, inside(self.root, path), self._lines()[path])
            raise NotApplied(f"{self.subject}: {error}") from error

    def _check(self, system: System) -> None:
        """Nobody took the name or the numbers since the plan was made."""
        users, groups = (_text(system, inside(self.root, path)) for path in ("/etc/passwd", "/etc/group"))
        if find(users, self.name) or find(groups, self.name):
            raise SetupError(f"{self.name} is there meanwhile; run dma-setup again")
        if self.uid in numbers(users) or self.gid in numbers(groups):
            raise SetupError(f"the number {self.uid} is taken meanwhile; run dma-setup again")

    def take_back(self, system: System) -> TakenBack:
        for folder in self.owns:
            if self._has_something_in(system, inside(self.root, folder)):
                return TakenBack(KEPT, f"the account {self.name} is kept: it has files in {folder}")
        try:
            with _locked(self.root):
                system.sweep(inside(self.root, "/etc"))
                gone = [_drop(system, inside(self.root, path), line) for path, line in reversed(self._lines().items())]
            left = [path for path in self._lines() if find(_text(system, inside(self.root, path)), self.name)]
        except (OSError, SetupError) as error:
            return TakenBack(FAILED, f"{self.subject}: {error}")
        if left:
            return TakenBack(KEPT, f"the account {self.name} was changed since; remove it with: userdel {self.name}")
        return TakenBack(RESTORED, self.subject) if any(gone) else TakenBack(NOTHING)

    def _has_something_in(self, system: System, path: str) -> bool:
        """Nothing is opened, and no depth is too much: the account may have made what is there to trouble root."""
        waiting = [path]
        while waiting:
            here = waiting.pop()
            try:
                found = os.lstat(here)
            except OSError:
                continue
            if found.st_uid == self.uid:
                return True
            if stat.S_ISDIR(found.st_mode):
                waiting += [f"{here}/{name}" for name in system.listing(here)]
        return False

    def record(self, _keeper: Keeper, _number: int) -> dict[str, Any]:
        names = ("kind", "root", "name", "uid", "gid", "comment", "home", "shell", "subject", "says", "drains")
        return {**{name: getattr(self, name) for name in names}, "owns": list(self.owns)}


def find(text: str, name: str) -> str:
    """The line of `name` in a file such as passwd, "" when there is none."""
    return next((line for line in text.split("\n") if line.startswith(name + ":")), "")


def numbers(text: str) -> set[int]:
    """The third fields: the numbers that are taken."""
    fields = (line.split(":") for line in text.split("\n"))
    return {int(found[2]) for found in fields if len(found) > 2 and found[2].isdigit()}


def _text(system: System, path: str) -> str:
    entry = system.look(path)
    return entry.content.decode("utf-8", "surrogateescape") if entry is not None and entry.kind == FILE else ""


def _add(system: System, path: str, line: str, *, must: bool) -> bool:
    """Add a line at the end, before lines of NIS (`+::`). A shadow file that is not there is not needed."""
    entry = system.look(path)
    if entry is None or entry.kind != FILE:
        if must:
            raise SetupError(f"{path} is missing")
        return False
    if find(_text(system, path), line.split(":")[0]):
        return False
    lines = entry.content.decode("utf-8", "surrogateescape").split("\n")
    at = next((number for number, text in enumerate(lines) if text.startswith(("+", "-"))), len(lines) - (not lines[-1]))
    lines.insert(at, line)
    system.put_file(path, replace(entry, content="\n".join(lines).encode("utf-8", "surrogateescape")))
    return True


def _drop(system: System, path: str, line: str) -> bool:
    """Take the very line away again; whether it was there."""
    entry = system.look(path)
    if entry is None or entry.kind != FILE:
        return False
    lines = entry.content.decode("utf-8", "surrogateescape").split("\n")
    if line not in lines:
        return False
    lines.remove(line)
    system.put_file(path, replace(entry, content="\n".join(lines).encode("utf-8", "surrogateescape")))
    return True


@contextmanager
def _locked(root: str) -> Iterator[None]:
    """lckpwdf(3): a write lock on /etc/.pwd.lock. Its file goes again if we made it."""
    path = inside(root, LOCK)
    made = not os.path.exists(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        yield
    finally:
        if made:
            os.unlink(path)
        os.close(fd)


@reader("account")
def _read(record: dict[str, Any], _keeper: Keeper, _number: int) -> Change:
    given = {name: value for name, value in record.items() if name not in ("kind", "owns")}
    return AccountChange(**given, owns=tuple(record["owns"]))
