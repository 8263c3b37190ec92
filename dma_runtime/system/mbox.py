"""One append to a mailbox file, whole or not at all.

Rules:
- The file is opened without following a link and without waiting (a FIFO), and must be a regular file with one name that
  belongs to the recipient; a missing one is made, 0600. Anything else is `NotAMailbox`, and nothing is touched.
- Locked for the time of the append in the two ways that Debian's readers use: a record lock on the whole file (fcntl) and
  `PATH.lock`. Either being busy is waited for, at most `wait` seconds, then `MailboxBusy`. The two are never held while
  waiting for the other, so two writers with another order cannot block each other.
- In a directory where the recipient may not create files (/var/mail for a plain user) there is no `PATH.lock`; the record
  lock alone holds there. A `PATH.lock` older than 5 minutes was left by a crash and is removed, as liblockfile does; one of
  ours says which process made it, and goes at once when that has ended.
- It counts when it is synced. On any failure the file is cut back to its former length.
- A mailbox that does not end in an empty line (a crash, another program) gets one first, so the new entry is seen.

The record lock is an open-file-description lock: it works between threads of one process as well, and another descriptor
that is closed meanwhile does not drop it. No flock: on NFS it would be the same lock, taken twice.

Raises NotAMailbox, MailboxBusy, OSError (ENOSPC, EDQUOT, EFBIG, EIO …), and what the iterator of chunks raises.
Limit: a writer that locks by flock only (C dma) is not seen; if one appended meanwhile, nothing is cut back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time

from dma_runtime.machineid import machine_id
from dma_runtime.system.fs import REAL, FileSystem, let_go, sync_directory, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WAIT = 30.0  # seconds
STALE = 300.0  # seconds
_PAUSE = 0.1
_OURS = "dma"  # in a lock file, before the id of the machine
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class NotAMailbox(Exception):
    """What lies at the path is nothing we may write to; the text says what it is."""


class MailboxBusy(Exception):
    """Another program held its lock all the time we may wait."""


def append(
    path: str,
    chunks: Iterable[bytes],
    *,
    uid: int,
    wait: float = WAIT,
    fs: FileSystem = REAL,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Append the bytes of `chunks` to the mailbox `path` of the user `uid`, and sync them."""
    deadline = clock() + wait
    new = False
    while True:
        fd, made = _open(fs, path)
        new = new or made
        try:
            _check(fs, fd, path, uid)
            if _record_lock(fd):
                dotlock = _Dotlock(fs, path)
                if not dotlock.busy:
                    try:
                        if _still_there(fs, fd, path):
                            _check(fs, fd, path, uid)
                            _write(fs, fd, chunks, path if new else "")
                            # From here on the mail is delivered, and nothing that goes wrong may say otherwise.
                            return
                    finally:
                        dotlock.release()
        finally:
            let_go(fs, fd)  # and with it the record lock
        if clock() >= deadline:
            raise MailboxBusy(f"{path} was locked by another program for {wait:.0f} seconds")
        sleep(_PAUSE)


def _open(fs: FileSystem, path: str) -> tuple[int, bool]:
    """(descriptor, whether the file is new)."""
    try:
        try:
            return fs.open(path, _FLAGS), False
        except FileNotFoundError:
            return fs.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600), True
    except FileExistsError:
        return fs.open(path, _FLAGS), False  # another program made it this moment
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAMailbox(f"{path} is a symbolic link") from None
        if error.errno == errno.EISDIR:
            raise NotAMailbox(f"{path} is a directory") from None
        if error.errno == errno.ENXIO:
            raise NotAMailbox(f"{path} is not a regular file") from None
        raise


def _check(fs: FileSystem, fd: int, path: str, uid: int) -> None:
    found = fs.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise NotAMailbox(f"{path} is not a regular file")
    if found.st_nlink > 1:  # 0: just removed; seen by `_still_there`
        raise NotAMailbox(f"{path} has {found.st_nlink} names (hard links)")
    if found.st_uid != uid:
        raise NotAMailbox(f"{path} belongs to uid {found.st_uid}, not to uid {uid}")


def _still_there(fs: FileSystem, fd: int, path: str) -> bool:
    """Readers may put another file in its place while they hold the lock."""
    try:
        now, ours = fs.lstat(path), fs.fstat(fd)
    except FileNotFoundError:
        return False
    return _which(now) == _which(ours)


def _record_lock(fd: int) -> bool:
    whole_file = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # struct flock
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, whole_file)
    except (BlockingIOError, PermissionError):
        return False  # POSIX allows EACCES as well as EAGAIN
    return True


class _Dotlock:
    """`PATH.lock`: taken by making one, unless the recipient may not make files there. `busy`: another program has it."""

    def __init__(self, fs: FileSystem, path: str) -> None:
        self.busy = False
        self._fs = fs
        self._name = path + ".lock"
        self._ours: tuple[int, int] | None = None
        try:
            fd = fs.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            _remove_stale(fs, self._name)
            self.busy = True
            return
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return
            raise
        try:
            self._ours = _which(fs.fstat(fd))
            _sign(fs, fd)
        finally:
            let_go(fs, fd)

    def release(self) -> None:
        """Remove it, unless another program took ours for a stale one and has its own there now. Never raises."""
        try:
            if self._ours is not None and _which(self._fs.lstat(self._name)) == self._ours:
                self._fs.unlink(self._name)
        except OSError:
            pass  # gone, or it will be taken for stale


def _which(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _sign(fs: FileSystem, fd: int) -> None:
    """Which process made it, and where."""
    try:
        write_all(fs, fd, f"{os.getpid()}\n{_OURS} {machine_id()}\n".encode("ascii", "replace"), 0)
    except OSError:
        pass  # no room for it: a lock all the same


def _remove_stale(fs: FileSystem, name: str) -> None:
    """We hold the record lock: no other of ours is looking at it now."""
    try:
        if _maker_has_ended(fs, name) or time.time() - fs.lstat(name).st_mtime > STALE:
            fs.unlink(name)
    except OSError:
        pass  # gone meanwhile, or not ours to remove: it stays busy


def _maker_has_ended(fs: FileSystem, name: str) -> bool:
    """Whether it was made here, by a process of ours that is no more. A number that is used again only means waiting."""
    try:
        fd = fs.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        number, _, ours = fs.pread(fd, 200, 0).decode("ascii", "replace").partition("\n")
    except OSError:
        return False
    finally:
        fs.close(fd)
    if not number.isdigit() or not machine_id() or ours != f"{_OURS} {machine_id()}\n":
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass  # somebody else's
    return False


def _write(fs: FileSystem, fd: int, chunks: Iterable[bytes], new: str) -> None:
    """`new`: the path of a file that was just made, whose name is synced too."""
    start = fs.fstat(fd).st_size
    written = 0
    try:
        tail = fs.pread(fd, 2, max(0, start - 2))
        if start and tail != b"\n\n":
            filler = b"\n" if tail.endswith(b"\n") else b"\n\n"
            written += len(filler)
            write_all(fs, fd, filler, start)
        for chunk in chunks:
            written += len(chunk)  # before: part of it may be written when it fails
            write_all(fs, fd, chunk, start + written - len(chunk))
        fs.fsync(fd)
        if new:
            _sync_name(fs, new)
    except BaseException:
        if fs.fstat(fd).st_size <= start + written:
            fs.ftruncate(fd, start)
            fs.fsync(fd)
        raise


def _sync_name(fs: FileSystem, path: str) -> None:
    try:
        sync_directory(fs, os.path.dirname(path) or ".")
    except PermissionError:
        pass  # a directory that may be entered but not read
