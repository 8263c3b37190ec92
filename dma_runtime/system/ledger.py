"""The attempt log and the death of messages. Only the owner of the spool (system.ownership) may use this.

`log/<id>` holds JSON lines. A line is one event, or a list of events that hold together or not at all; whoever reads sees
one list of events. Rules:

- One append is one line, and before the next append to the same log it is synced: so what a power loss can tear is one
  line at the end, however it is torn.
- Before its first append to a log, and after any failed one, the ledger cuts the log behind its last good line and syncs
  it. Otherwise a torn tail would swallow the next event, an acknowledged one.
- A bad line that is not the last makes the message broken: shown, not sent, never guessed at.
- An event counts from `sync` on. When that fails the append is taken back and NotRecorded says for whom.
- Death: (1) the report spooled, (2) final events synced, then `bury`: (3) `queue/<id>` unlinked, (4) `queue/` synced,
  (5) `log/<id>` unlinked. The caller does 1 and 2. One sync of `queue/` serves a whole batch.
- Logs without a message, and files in `tmp/` that nobody holds and that are older than a day, are swept.
"""

from __future__ import annotations

import json
import os
import time

from dma_runtime.errors import BrokenMessage
from dma_runtime.system.fs import sync_directory, write_all
from dma_runtime.system.spool import Spool, is_id

Event = dict[str, object]

STALE = 86400  # seconds; a slow producer may keep its temporary file for hours


class NotRecorded(OSError):
    """The last events of the messages `ids` could not be synced and were taken back; those of the others are safe."""

    def __init__(self, ids: list[str], cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.ids = ids


class _Open:
    """A log with an append that is not synced yet."""

    __slots__ = ("fd", "good")

    def __init__(self, fd: int, good: int) -> None:
        self.fd = fd
        self.good = good  # bytes known to be whole and synced


class Ledger:
    """The attempt logs of one spool."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.fs = spool.fs
        self._sizes: dict[str, int] = {}  # logs known to end in a good, synced line, and their length
        self._open: dict[str, _Open] = {}
        self._lost: dict[str, OSError] = {}  # events that a later append found out cannot be synced
        self._named: set[str] = set()  # logs whose names we synced: an owner before us may have died before that
        self._there: set[str] | None = None  # the logs there are, once `sweep` has looked: nobody else makes any

    # ------------------------------------------------------------ reading

    def events(self, id: str) -> list[Event]:
        """What happened to the message, oldest first; [] without a log. Raises BrokenMessage, OSError."""
        if self._there is not None and id not in self._there:
            return []
        try:
            fd = self.fs.open(f"{self.spool.log}/{id}", os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return []
        try:
            return _parse(_contents(self, fd))[0]
        finally:
            self.fs.close(fd)

    # ------------------------------------------------------------ writing

    def append(self, id: str, events: list[Event]) -> None:
        """Write the events, all or none; they count from `sync` on.

        Raises OSError and BrokenMessage; nothing is written then.
        """
        if id in self._open:
            try:
                self.sync([id])
            except NotRecorded as problem:
                self._lost[id] = problem  # whoever appended them hears of it at the next `sync`
                raise
        line = json.dumps(events[0] if len(events) == 1 else events, separators=(",", ":")).encode("ascii") + b"\n"
        if self._there is not None:
            self._there.add(id)
        fd = self.fs.open(f"{self.spool.log}/{id}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            good = self._cut(id, fd)
            try:
                write_all(self.fs, fd, line, good)
            except OSError:
                self._take_back(id, fd, good)
                raise
        except BaseException:
            self.fs.close(fd)
            raise
        self._open[id] = _Open(fd, good)
        self._sizes[id] = good + len(line)

    def _cut(self, id: str, fd: int) -> int:
        """Cut the log behind its last good line and make that safe, if it was not seen to; returns its length."""
        known = self._sizes.get(id)
        if known is not None:
            return known
        data = _contents(self, fd)
        good = _parse(data)[1]
        if good < len(data):
            self.fs.ftruncate(fd, good)
        if data:
            self.fs.fsync(fd)  # whoever wrote it may have died before: two lines at risk could look like damage
        return good

    def _take_back(self, id: str, fd: int, good: int) -> None:
        self._sizes.pop(id, None)  # the next append looks again
        try:
            self.fs.ftruncate(fd, good)
        except OSError:
            pass

    def sync(self, ids: list[str]) -> None:
        """Make the appended events of `ids` durable. Raises NotRecorded after having tried all."""
        failed: list[str] = []
        cause: OSError | None = None
        begun: list[str] = []
        for id in ids:
            lost = self._lost.pop(id, None)
            if lost is not None:
                failed.append(id)
                cause = cause or lost
                continue
            entry = self._open.get(id)
            if entry is None:
                continue
            try:
                self.fs.fsync(entry.fd)
            except OSError as error:
                failed.append(id)
                cause = cause or error
            else:
                if id not in self._named:
                    begun.append(id)
        if begun:
            try:
                sync_directory(self.fs, self.spool.log)
                self._named.update(begun)
            except OSError as error:
                failed += begun
                cause = cause or error
        for id in failed:
            if id in self._open:
                self._take_back(id, self._open[id].fd, self._open[id].good)
        for id in ids:
            entry = self._open.pop(id, None)
            if entry is not None:
                self.fs.close(entry.fd)
        if cause is not None:
            raise NotRecorded(failed, cause)

    # ------------------------------------------------------------ death

    def bury(self, ids: list[str]) -> None:
        """Remove messages whose fate is synced (steps 3 to 5). Raises OSError; what is left is removed the next time."""
        for id in ids:
            self._forget(id)
            try:
                self.fs.unlink(f"{self.spool.queue}/{id}")
            except FileNotFoundError:
                pass
        # A log that went first would leave a message without its history: sent, and reported, again.
        sync_directory(self.fs, self.spool.queue)
        for id in ids:
            if self._there is not None and id not in self._there:
                continue
            try:
                self.fs.unlink(f"{self.spool.log}/{id}")
            except FileNotFoundError:
                pass
            if self._there is not None:
                self._there.discard(id)

    def _forget(self, id: str) -> None:
        self._sizes.pop(id, None)
        self._named.discard(id)
        self._lost.pop(id, None)
        entry = self._open.pop(id, None)
        if entry is not None:
            self.fs.close(entry.fd)

    def sweep(self) -> None:
        """Remove logs without a message, and temporary files of the dead; what cannot be removed stays. Raises OSError when
        `log/` or `queue/` cannot be read.

        From then on the ledger knows which messages have a log, and looks for no other.
        """
        logs = [name for name in self.fs.listdir(self.spool.log) if is_id(name)]
        alive = set(self.fs.listdir(self.spool.queue))
        orphans = [name for name in logs if name not in alive]
        if orphans:
            # The previous owner may have died between its unlink and its sync.
            sync_directory(self.fs, self.spool.queue)
        for name in orphans:
            try:
                self.fs.unlink(f"{self.spool.log}/{name}")
            except OSError:
                pass  # a directory, or it may not be touched: it is nobody's, and mail goes on
            self._forget(name)
        self._there = set(logs).intersection(alive)
        try:
            left = self.fs.listdir(self.spool.tmp)
        except OSError:
            left = []
        for name in left:
            self._sweep_temporary(f"{self.spool.tmp}/{name}")

    def _sweep_temporary(self, path: str) -> None:
        try:
            if self.fs.lstat(path).st_mtime > time.time() - STALE:
                return
            fd = self.fs.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            if self.fs.lock(fd):
                self.fs.unlink(path)
        except OSError:
            pass
        finally:
            self.fs.close(fd)

    def close(self) -> None:
        """Let go of open logs; what was not synced may be lost."""
        for id in list(self._open):
            self._forget(id)


def _contents(ledger: Ledger, fd: int) -> bytes:
    data = b""
    while more := ledger.fs.pread(fd, 65536, len(data)):
        data += more
    return data


def _parse(data: bytes) -> tuple[list[Event], int]:
    """(events, length of the good lines). Raises BrokenMessage for a bad line that is not the last."""
    events: list[Event] = []
    good = 0
    while good < len(data):
        end = data.find(b"\n", good)
        found = _line(data[good:end]) if end >= 0 else None
        if found is None:
            if 0 <= end < len(data) - 1:
                raise BrokenMessage(f"the attempt log is damaged at byte {good}")
            break
        events += found
        good = end + 1
    return events, good


def _line(line: bytes) -> list[Event] | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    listed = said if isinstance(said, list) else [said]
    return listed if listed and all(isinstance(event, dict) for event in listed) else None
