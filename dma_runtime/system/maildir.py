"""One message into a Maildir: written below tmp/, synced, linked into new/, synced.

Rules:
- The Maildir and its three directories belong to the recipient and are no links, else `NotAMailbox`; what is missing is
  made, 0700. Each is opened once and used through its descriptor, so nobody can exchange it afterwards.
- The name is the caller's and the same for every attempt of one delivery: if it stands in new/ already, an earlier run
  delivered the message and died before it could say so. That is success, and no second copy.
- The link is exclusive: no message is ever overwritten. What is linked is the file that was written, whatever has its name
  by now: a second attempt of the same delivery may have begun it anew. On any failure the file below tmp/ is removed.

Follows maildir(5) of qmail. Raises NotAMailbox, OSError, and what the iterator of chunks raises.
Limit: a copy that a reader has moved to cur/ since is not recognised; a repeated delivery then makes a second one.
"""

from __future__ import annotations

import errno
import os

from dma_runtime.system.fs import REAL, FileSystem, let_go, sync_open_directory, write_all
from dma_runtime.system.mbox import NotAMailbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def deliver(path: str, chunks: Iterable[bytes], *, uid: int, name: str, fs: FileSystem = REAL) -> None:
    """Put the bytes of `chunks` into the Maildir `path` of the user `uid` as the new message `name`."""
    opened: list[int] = []
    try:
        base = _directory(fs, path, path, uid, opened)
        inside = f"/proc/self/fd/{base}"
        tmp, new = (_directory(fs, f"{inside}/{part}", f"{path}/{part}", uid, opened) for part in ("tmp", "new"))
        _directory(fs, f"{inside}/cur", f"{path}/cur", uid, opened)
        sync_open_directory(fs, base)
        _write(fs, chunks, f"/proc/self/fd/{tmp}/{name}", f"/proc/self/fd/{new}/{name}")
        sync_open_directory(fs, new)
        # From here on the mail is delivered.
    finally:
        for fd in opened:
            let_go(fs, fd)


def file_name(accepted_at: float, id: str, part: int, hostname: str) -> str:
    """A name in maildir(5)'s form, from what one delivery keeps through all its attempts: message and recipient number."""
    host = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else f"\\{ord(c):03o}" for c in hostname)
    return f"{int(accepted_at)}.{id}_{part}.{host or 'localhost'}"


def _directory(fs: FileSystem, at: str, shown: str, uid: int, opened: list[int]) -> int:
    """Open directory `at`, made if it is missing; `shown` is its path for people."""
    try:
        fd = fs.open(at, _DIRECTORY)
    except FileNotFoundError:
        fs.mkdir(at, 0o700)
        fd = fs.open(at, _DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotAMailbox(f"{shown} is not a directory of a Maildir, or a symbolic link") from None
        raise
    opened.append(fd)
    owner = fs.fstat(fd).st_uid
    if owner != uid:
        raise NotAMailbox(f"{shown} belongs to uid {owner}, not to uid {uid}")
    return fd


def _write(fs: FileSystem, chunks: Iterable[bytes], tmp: str, new: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        fd = fs.open(tmp, flags, 0o600)
    except FileExistsError:
        fs.unlink(tmp)  # an attempt of ours that was cut off
        fd = fs.open(tmp, flags, 0o600)
    try:
        at = 0
        for chunk in chunks:
            write_all(fs, fd, chunk, at)
            at += len(chunk)
        fs.fsync(fd)
        try:
            fs.link_open(fd, new)
        except FileExistsError:
            pass  # delivered by an earlier run
    finally:
        let_go(fs, fd)
        try:
            fs.unlink(tmp)
        except OSError:
            pass  # who sweeps tmp/ was faster; a message that stands in new/ is delivered all the same
