"""The machine as it will be: what is there now, overlaid with the changes planned so far.

Verbs read only through a view, so no step works with a fact that an earlier step makes stale. Two changes of one path
become one (the first's before, the second's after).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dma_runtime.secret import Secret
from dma_setup.changes import Change
from dma_setup.changes import account as accounts
from dma_setup.changes.account import AccountChange
from dma_setup.changes.command import CommandChange
from dma_setup.changes.path import PathChange
from dma_setup.changes.tree import TreeChange
from dma_setup.errors import SetupError
from dma_setup.place import Place
from dma_setup.secret import SecretAnswer
from dma_setup.stores import Stores
from dma_setup.system import DIRECTORY, FILE, LINK, Entry, System


class View:
    """`facts`: what was found out. `values`: what recipe strings may name. `secret`: the password of the relay, if any."""

    def __init__(
        self,
        place: Place,
        system: System,
        facts: dict[str, Any],
        values: dict[str, Any],
        secret: SecretAnswer | None,
        answers: dict[str, str],
    ) -> None:
        self.place = place
        self.facts = facts
        self.values = values
        self.secret = secret
        self.answers = answers
        self.changes: list[Change] = []
        self.right: list[str] = []
        self.notes: list[str] = []
        self.asks: list[str] = []  # those of them that hold where nothing changes too
        self.system = system
        self._stores = Stores(system)
        self._stored: dict[tuple[str, str, str], Secret | None] = {}

    # ------------------------------------------------------------ what is there

    def entry(self, path: str) -> Entry | None:
        """What lies, or will lie, at `path` (not following a link)."""
        for change in reversed(self.changes):
            if isinstance(change, PathChange) and change.path == path:
                return change.after
            if isinstance(change, CommandChange) and change.vacates == path:
                return None
        return self.system.look(self.place.at(path))

    def resolve(self, path: str) -> str:
        """`path` with the links at its end followed, as for a dma.conf that lives in a repository of dotfiles."""
        found = self.entry(path)
        if found is None or found.kind != LINK:
            return path
        return self.place.at(path, follow=True).removeprefix(self.place.root)

    def text(self, path: str) -> str | None:
        """The text of a file, None when there is none."""
        found = self.entry(path)
        return found.content.decode("utf-8", "surrogateescape") if found is not None and found.kind == FILE else None

    def account(self, name: str) -> tuple[int, int]:
        """(uid, gid) of an account as it is or will be; -1 where nobody but root could give files to it (an image made by
        somebody else). Raises SetupError when there is none.
        """
        if os.geteuid() != 0 and not self.place.is_live:
            self.note("you are not root: the files of the image will all be yours; fakeroot(1) helps")
            return -1, -1
        for change in reversed(self.changes):
            if isinstance(change, AccountChange) and change.name == name:
                return change.uid, change.gid
        fields = (accounts.find(self.text("/etc/passwd") or "", name) or "").split(":")
        if len(fields) >= 4 and fields[2].isdigit() and fields[3].isdigit():
            return int(fields[2]), int(fields[3])
        if self.place.is_live:
            try:
                found = pwd.getpwnam(name)
                return found.pw_uid, found.pw_gid
            except KeyError:
                pass
        raise SetupError(f"there is no account {name}")

    def stored(self, store: str, service: str, user: str) -> Secret | None:
        """The entry of a keyring as it is now. Raises StoreProblem."""
        key = (store, service, user)
        if key not in self._stored:
            self._stored[key] = self._stores.get(*key)
        return self._stored[key]

    def unreadable(self, name: str) -> str:
        """Why the machine's credential NAME cannot be read now; "" when it can."""
        return self._stores.unreadable(name)

    def listing(self, path: str) -> list[str]:
        """The names in a directory, as it is now."""
        return self.system.listing(self.place.at(path))

    def run(self, words: list[str]) -> tuple[int, str]:
        """A command that only reads: (status, output)."""
        done = self.system.run(words)
        return done.status, done.output

    # ------------------------------------------------------------ making changes

    def path_change(self, path: str, after: Entry | None, says: str, **more: Any) -> PathChange:
        """The change that makes `after` lie at `path`, with the directories above it that are missing."""
        before = self.entry(path)
        if after is not None and before is not None and after.kind == before.kind:
            keep_owner = before.kind != LINK and after.uid == -1
            after = replace(after, uid=before.uid if keep_owner else after.uid, gid=before.gid if keep_owner else after.gid)
        return PathChange(
            path=path,
            root=self.place.root,
            before=before,
            after=after,
            subject=self.place.shown(path),
            says=says,
            parents=self.missing_above(path),
            parent_mode=0o700 if self.place.is_user else 0o755,  # XDG base directories: 0700
            **more,
        )

    def missing_above(self, path: str) -> tuple[str, ...]:
        """The directories above `path` that are not there and not planned, outermost first."""
        missing: list[str] = []
        folder = os.path.dirname(path)
        while folder not in ("/", "") and self.entry(folder) is None and folder not in self._made():
            missing.insert(0, folder)
            folder = os.path.dirname(folder)
        return tuple(missing)

    def _made(self) -> set[str]:
        kinds = (PathChange, TreeChange)
        return {parent for change in self.changes if isinstance(change, kinds) for parent in change.parents}

    def add(self, change: Change) -> None:
        """Take a planned change into the view; one that is not needed counts as already right."""
        if isinstance(change, PathChange):
            for at, earlier in enumerate(self.changes):
                if isinstance(earlier, PathChange) and earlier.path == change.path:
                    merged = replace(earlier, after=change.after, says=earlier.says or change.says)
                    if merged.is_needed:
                        self.changes[at] = merged
                    else:
                        del self.changes[at]
                        self._add_right(change.subject)
                    return
        if change.is_needed:
            self.changes.append(change)
            if change.subject in self.right:
                self.right.remove(change.subject)
        else:
            self._add_right(change.subject)

    def _add_right(self, subject: str) -> None:
        if subject not in self.right:
            self.right.append(subject)

    def note(self, text: str, *, asks: bool = False) -> None:
        """Something the person should know about the plan; `asks`: or should do, also where nothing changes."""
        if text not in self.notes:
            self.notes.append(text)
        if asks and text not in self.asks:
            self.asks.append(text)


def directory(mode: int) -> Entry:
    return Entry(DIRECTORY, b"", mode)


def file(text: str, mode: int) -> Entry:
    return Entry(FILE, text.encode("utf-8", "surrogateescape"), mode)


def link(target: str) -> Entry:
    return Entry(LINK, os.fsencode(target))


Verb = Callable[[dict[str, Any], View], list[Change]]
