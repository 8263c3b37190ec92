"""Who owns the spool: the one holder of `SPOOLDIR/lock`, who listens on `SPOOLDIR/control`.

Only the owner writes `log/` and unlinks from `queue/`; everyone else spools and rings. No message is left with nobody
awake because of three rules that hold together (tests/faults/test_handover.py walks their interleavings):

- Submit: link and sync, then `announce`: ring, and where nobody listens try the lock; got it: release it and start an
  owner.
- An owner takes the lock, then listens, then lists `queue/`. One who holds the lock for a moment only and serves nobody
  (dma-queue) lists it too, and starts an owner afterwards when anything waits.
- Leave: close control, release the lock, **then list `queue/` once more**; something unknown there: take the lock
  again, or somebody else has it.

An owner whose lock is not the spool's any more (`rm -r` of what is in it) begins nothing: whoever spools next starts another.

`lock` is never unlinked: a second file of that name would mean two owners. `owner` holds the machine's id: a spool that
another machine wrote (a clone, a shared home) is not delivered from until `adopt`.

The control protocol is one JSON object a line, both ways (delivery.control says which). `ring` is on the submit path:
built-in modules only.
"""

from __future__ import annotations

import time

from dma_runtime import posixos as os
from dma_runtime.machineid import machine_id
from dma_runtime.system.fs import sync_directory, write_all
from dma_runtime.system.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

CONTROL = "control"
_ANSWER_LIMIT = 1 << 28
_TRIES, _PAUSE = 100, 0.01  # an owner with a full backlog is at work: give it a second
PATIENCE = 120.0  # seconds for who holds the lock to listen or to leave; an owner that leaves takes 85 at most
NO_ANSWER = "the process that owns this queue does not answer"


class Ownership:
    """The lock, held. Made by `take`."""

    def __init__(self, spool: Spool, fd: int) -> None:
        self.spool = spool
        self._fd = fd
        self._listened = False

    @staticmethod
    def take(spool: Spool) -> Ownership | None:
        """Become the owner without waiting; None when there is one. Raises OSError."""
        fs = spool.fs
        fd = fs.open(spool.path + "/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if fs.lock(fd):
                return Ownership(spool, fd)
        except OSError:
            fs.close(fd)
            raise
        fs.close(fd)
        return None

    def holds(self) -> bool:
        """Whether the lock is that of the spool that is there now. Somebody may have removed it, or the whole spool: who comes
        next makes another, and is its owner."""
        try:
            there, ours = self.spool.fs.lstat(self.spool.path + "/lock"), self.spool.fs.fstat(self._fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def listen(self) -> socket.socket:
        """The listening control socket, non-blocking, 0600. Raises OSError."""
        try:
            self.spool.fs.unlink(f"{self.spool.path}/{CONTROL}")  # left by one that was killed: we hold the lock
        except FileNotFoundError:
            pass
        bell = self.spool.fs.listen(self.spool.path, CONTROL)
        self._listened = True
        return bell

    def release(self) -> None:
        """Give the lock up. The listening socket is closed by now; the caller then lists `queue/` once more."""
        ours = self._listened and self.holds()  # else it is another owner's bell
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        fs = self.spool.fs
        if ours:
            try:
                fs.unlink(f"{self.spool.path}/{CONTROL}")
            except OSError:
                pass  # connecting to it is refused all the same
        try:
            fs.unlock(fd)  # a child between fork and exec would keep it longer than close does
        finally:
            fs.close(fd)

    # ------------------------------------------------------------ whose machine

    def machine_matches(self) -> bool:
        """Whether this spool is this machine's; one that says nothing becomes so, on a full disk the next time. Raises OSError."""
        here = machine_id()
        if not here:
            return True  # a machine without a name cannot be told from another
        try:
            fd = self.spool.fs.open(self.spool.path + "/owner", os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._begin()
            return True
        try:
            said = self.spool.fs.pread(fd, 100, 0).decode("ascii", "replace").strip()
        finally:
            self.spool.fs.close(fd)
        if not said:  # power was lost while it was written
            self._begin()
        return said in ("", here)

    def _begin(self) -> None:
        try:
            self.adopt()
        except OSError:
            pass  # mail that leaves makes room

    def adopt(self) -> None:
        """Make the spool this machine's. Raises OSError."""
        fs, name = self.spool.fs, self.spool.path + "/owner"
        fd = fs.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(fs, fd, (machine_id() + "\n").encode("ascii", "replace"), 0)
            fs.fsync(fd)
        finally:
            fs.close(fd)
        fs.rename(name + ".new", name)
        sync_directory(fs, self.spool.path)


# ---------------------------------------------------------------- ringing


def ring(spool: Spool, line: bytes) -> bool:
    """Send one line to the owner and do not wait for an answer. False: nobody listens."""
    for _ in range(_TRIES):
        try:
            caller = spool.fs.connect(spool.path, CONTROL, 0)
        except BlockingIOError:
            time.sleep(_PAUSE)
            continue
        except OSError:
            return False
        try:
            return caller.send(line) == len(line)
        except OSError:
            return False
        finally:
            caller.close()
    return False


def announce(spool: Spool, line: bytes, start: Callable[[], None]) -> None:
    """Have somebody work on the queue: tell the owner `line`, or `start` one when there is none. Raises OSError.

    Who holds the lock and does not listen is just starting, or leaving, and lists the queue after this."""
    if ring(spool, line):
        return
    held = Ownership.take(spool)
    if held is not None:
        held.release()
        start()


def ask(spool: Spool, question: dict[str, object], timeout: float) -> dict[str, object] | None:
    """One request and its answer. None: nobody listens, or who did is leaving. Raises TimeoutError after `timeout` seconds
    without an answer, OSError when the control socket may not be used.
    """
    import json

    try:
        caller = spool.fs.connect(spool.path, CONTROL, timeout)
    except (FileNotFoundError, ConnectionError, BlockingIOError):
        time.sleep(_PAUSE)  # who holds the lock may be about to listen: the caller tries both again
        return None
    answer = bytearray()
    try:
        caller.sendall(json.dumps(question).encode("ascii") + b"\n")
        while not answer.endswith(b"\n"):
            more = caller.recv(1 << 20)
            if not more or len(answer) > _ANSWER_LIMIT:
                time.sleep(_PAUSE)  # it is leaving, or cannot say: the caller asks again
                return None
            answer += more
        said = json.loads(answer)
    except (ConnectionError, ValueError):
        return None
    finally:
        caller.close()
    return said if isinstance(said, dict) else None
