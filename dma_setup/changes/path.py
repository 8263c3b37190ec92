"""A change of what lies at a path: a file, a link or a directory, made, replaced or removed.

`apply` first looks whether the path is still as planned, so nothing that somebody wrote meanwhile is lost. `take_back`
looks whether it is still as we left it; what was changed since is shown and left alone. A directory that holds anything
is never removed; of a queue only the runtime's own empty files go, and only when no message is left in it.
"""

from __future__ import annotations

import difflib
import fcntl
import os
from dataclasses import dataclass, replace
from typing import Any

from dma_runtime import authconf
from dma_setup.changes import CHANGED, FAILED, KEPT, NOTHING, RESTORED, Change, Keeper, NotApplied, TakenBack, digest, reader
from dma_setup.errors import SetupError
from dma_setup.image import inside
from dma_setup.system import DIRECTORY, FILE, LINK, Entry, System

HIDE_NOTHING = ""
HIDE_PASSWORDS = "passwords"  # auth.conf: literal passwords are shown as ***
HIDE_ALL = "all"  # the file is a secret

_QUEUE_FILES = ("lock", "control", "owner", "notices", "relays")
_QUEUE_FOLDERS = ("queue", "log", "tmp")


@dataclass(frozen=True)
class PathChange(Change):
    path: str  # as files say it
    root: str  # of --root, "" otherwise
    before: Entry | None
    after: Entry | None
    subject: str
    says: str
    hides: str = HIDE_NOTHING
    parents: tuple[str, ...] = ()  # directories above it that are missing, outermost first
    parent_mode: int = 0o755
    drains: bool = False
    queue: bool = False  # a directory that may hold mail
    foreign: bool = False  # what is replaced is not ours
    overwrites: tuple[str, ...] = ()  # lines of somebody else's that go or come back, as in a diff
    last: bool = False
    after_digest: str = ""  # set on changes read from a journal, where `after.content` is not kept

    kind = "path"

    @property
    def at(self) -> str:
        return inside(self.root, self.path)

    @property
    def sign(self) -> str:
        if self.before is None:
            return "+" if self.after is not None else "="
        if self.after is None:
            return "-"
        return "=" if self.after.same(self.before) else "~"

    @property
    def replaces(self) -> bool:
        return (self.foreign or bool(self.overwrites)) and self.sign in "~-"

    def diff(self) -> str:
        ends = (self.before, self.after)
        if not self.is_needed:
            return ""
        if None in ends and not any(entry is not None and entry.kind == FILE for entry in ends):
            return ""  # of a new link or directory the sentence says all
        return _diff(self.path, self.before, self.after, self.hides, "planned")

    def apply(self, system: System) -> None:
        now = system.look(self.at)
        if (now is None) != (self.before is None) or (now is not None and not now.same(self.before)):
            raise NotApplied(f"{self.path} was changed by somebody else meanwhile; run dma-setup again")
        try:
            system.sweep_around(self.at, *(inside(self.root, parent) for parent in self.parents))
            for parent in self.parents:
                if system.look(inside(self.root, parent)) is None:
                    system.make_directory(inside(self.root, parent), self.parent_mode)
            self._put(system, self.after, now)
        except OSError as error:
            raise NotApplied(f"{self.path}: {error.strerror}") from error

    def _put(self, system: System, wanted: Entry | None, now: Entry | None) -> None:
        if wanted is None:
            if now is not None:
                (system.remove_directory if now.kind == DIRECTORY else system.remove)(self.at)
        elif wanted.kind == FILE:
            system.put_file(self.at, wanted)
        elif wanted.kind == LINK:
            system.put_link(self.at, wanted.content)
        elif now is None:
            system.make_directory(self.at, wanted.mode, wanted.uid, wanted.gid)
        else:
            system.set_mode(self.at, wanted)

    # ------------------------------------------------------------ taking back

    def take_back(self, system: System) -> TakenBack:
        try:
            system.sweep_around(self.at, *(inside(self.root, parent) for parent in self.parents))
            taken = self._take_back(system)
        except (OSError, SetupError) as error:
            return TakenBack(FAILED, f"{self.path}: {error}")
        for parent in reversed(self.parents):
            try:
                system.remove_directory(inside(self.root, parent))
            except FileNotFoundError:
                continue  # never made; one above it may have been
            except OSError:
                break  # holds something
        return taken

    def _take_back(self, system: System) -> TakenBack:
        now = system.look(self.at)
        if now is None and self.before is None:
            return TakenBack(NOTHING)
        if now is not None and self.before is not None and now.same(self.before):
            return TakenBack(NOTHING)
        if not self._is_ours(now):
            shown = _diff(self.path, self._shown_after(), now, self.hides, "now", "as dma-setup left it")
            return TakenBack(CHANGED, f"{self.path} was changed since; it is left as it is", shown)
        if self.before is None and now is not None and now.kind == DIRECTORY:
            return self._remove_directory(system)
        if self.queue and now is not None and now.kind == DIRECTORY:
            if waiting := messages(system, self.at):
                return TakenBack(KEPT, f"{self.path} holds {waiting} message{'s' if waiting > 1 else ''}")
            _sweep_queue(system, self.at, beside=True)
        self._put(system, self.before, now)
        return TakenBack(RESTORED, self.path)

    def _is_ours(self, now: Entry | None) -> bool:
        if self.after is None or now is None:
            return now is None and self.after is None
        if not self.after_digest:
            return self.after.same(now)
        same_content = digest.fits(now.content, self.after_digest)
        return same_content and replace(self.after, content=b"").same(replace(now, content=b""))

    def _shown_after(self) -> Entry | None:
        return None if self.after_digest and self.after is not None and not self.after.content else self.after

    def _remove_directory(self, system: System) -> TakenBack:
        if self.queue:
            waiting = messages(system, self.at)
            if waiting:
                return TakenBack(KEPT, f"{self.path} holds {waiting} message{'s' if waiting > 1 else ''}")
            if not _sweep_queue(system, self.at):
                return TakenBack(KEPT, f"{self.path} is in use or holds files that are not the queue's")
        try:
            system.remove_directory(self.at)
        except OSError:
            return TakenBack(KEPT, f"{self.path} holds other files")
        return TakenBack(RESTORED, self.path)

    # ------------------------------------------------------------ the journal

    def record(self, keeper: Keeper, number: int) -> dict[str, Any]:
        if self.before is not None and self.before.kind == FILE:
            keeper.keep(f"{number:03}.before", self.before.content, is_secret=_holds_secret(self.before.content, self.hides))
        secret_after = self.after is not None and _holds_secret(self.after.content, self.hides)
        if self.after is not None and self.after.kind == FILE and not secret_after:
            keeper.keep(f"{number:03}.after", self.after.content)
        return {
            "kind": self.kind,
            "path": self.path,
            "root": self.root,
            "before": _entry_record(self.before),
            "after": _entry_record(self.after),
            "after_digest": digest.of(self.after.content, is_secret=secret_after) if self.after is not None else "",
            "subject": self.subject,
            "says": self.says,
            "hides": self.hides,
            "parents": list(self.parents),
            "drains": self.drains,
            "queue": self.queue,
        }

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "path": self.path, "diff": self.diff(), "overwrites": list(self.overwrites)}

    def compared(self, content: bytes) -> list[str]:
        """The lines of such a file as they may be shown."""
        return _lines(Entry(FILE, content), self.hides)


@reader("path")
def _read(record: dict[str, Any], keeper: Keeper, number: int) -> Change:
    return PathChange(
        path=record["path"],
        root=record["root"],
        before=_entry(record["before"], keeper.kept(f"{number:03}.before")),
        after=_entry(record["after"], keeper.kept(f"{number:03}.after")),
        subject=record["subject"],
        says=record["says"],
        hides=record["hides"],
        parents=tuple(record["parents"]),
        drains=record["drains"],
        queue=record["queue"],
        after_digest=record["after_digest"],
    )


def _entry_record(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    link = os.fsdecode(entry.content) if entry.kind == LINK else ""
    return {"kind": entry.kind, "link": link, "mode": f"{entry.mode:04o}", "uid": entry.uid, "gid": entry.gid}


def _entry(record: dict[str, Any] | None, content: bytes | None) -> Entry | None:
    if record is None:
        return None
    found = os.fsencode(record["link"]) if record["kind"] == LINK else content or b""
    return Entry(record["kind"], found, int(record["mode"], 8), record["uid"], record["gid"])


# ---------------------------------------------------------------- queues


def messages(system: System, spool: str) -> int:
    """How many messages lie in the queue at `spool`."""
    return len(system.listing(spool + "/queue"))


def _sweep_queue(system: System, spool: str, *, beside: bool = False) -> bool:
    """Remove what the runtime keeps in an empty queue. False, and nothing removed, when more is there or it is in use.

    `beside`: what else is there was there before, and stays.
    """
    found = system.listing(spool)
    if beside:
        found = [name for name in found if name in (*_QUEUE_FILES, *_QUEUE_FOLDERS)]
    if not set(found) <= {*_QUEUE_FILES, *_QUEUE_FOLDERS} or any(system.listing(f"{spool}/{name}") for name in _QUEUE_FOLDERS):
        return False
    lock = None
    if "lock" in found:
        lock = os.open(f"{spool}/lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if lock is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in found:
            (system.remove_directory if name in _QUEUE_FOLDERS else system.remove)(f"{spool}/{name}")
    except BlockingIOError:
        return False
    finally:
        if lock is not None:
            os.close(lock)
    return True


# ---------------------------------------------------------------- showing


def _holds_secret(content: bytes, hides: str) -> bool:
    if hides == HIDE_PASSWORDS:
        logins = authconf.parse(content.decode("utf-8", "surrogateescape"), "").logins
        return any(login.reference.kind == authconf.LITERAL for login in logins)
    return hides == HIDE_ALL


def _lines(entry: Entry | None, hides: str) -> list[str]:
    if entry is None:
        return []
    if entry.kind == LINK:
        return [f"link to {os.fsdecode(entry.content)}"]
    if entry.kind != FILE:
        return [f"{entry.kind} {entry.mode:04o}"]
    if hides == HIDE_ALL:
        return ["***"] if entry.content else []
    shown = entry.content.decode("utf-8", "replace").split("\n")
    if shown and not shown[-1]:
        shown.pop()
    return [_hide(line) if hides == HIDE_PASSWORDS else line for line in shown]


def _hide(line: str) -> str:
    """A line of auth.conf without its password. A line that is not understood may be one: nothing of it is shown."""
    if not line.strip() or line.startswith("#"):
        return line
    logins = authconf.parse(line, "").logins
    if not logins:
        return "***"
    login = logins[0]
    port = f"{login.port}:" if login.port else ""
    shown = "***" if login.reference.kind == authconf.LITERAL else repr(login.reference)
    return f"{login.user}|{login.host}:{port}{shown}"


def _diff(path: str, old: Entry | None, new: Entry | None, hides: str, label: str, old_label: str = "") -> str:
    before, after = _lines(old, hides), _lines(new, hides)
    if before == after and old is not None and new is not None:
        if hides == HIDE_ALL and old.content != new.content:
            before, after = ["*** (old)"], ["*** (new)"]
        elif old.mode != new.mode:
            before, after = [f"mode {old.mode:04o}"], [f"mode {new.mode:04o}"]
    lines = difflib.unified_diff(
        before, after, path + (f" ({old_label})" if old_label else ""), f"{path} ({label})", lineterm="", n=2
    )
    return "".join("".join(c if c.isprintable() or c == "\t" else "?" for c in line) + "\n" for line in lines)
