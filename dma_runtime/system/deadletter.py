"""`~/dead.letter`: where a person at a terminal finds the message that could not be accepted.

The home is that of the passwd entry, not $HOME. Appended as an mbox entry, 0600, links not followed, only into a regular
file of the caller's own with one name (hard-parts.md, Submitting).
"""

from __future__ import annotations

import errno
import stat
import time

from dma_runtime import posixos as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def save(chunks: Iterable[bytes], uid: int, home: str | None = None) -> str:
    """Append the message; returns the path. Raises OSError. `home` replaces that of the passwd entry."""
    import pwd

    from dma_runtime.message.mboxrd import quoted

    if home is None:
        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:
            raise OSError(errno.ENOENT, "No home directory") from None
    path = home + "/dead.letter"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != uid or found.st_nlink != 1:
            raise OSError(errno.EPERM, "Not a file of your own", path)
        try:
            _write(fd, time.strftime("From dead.letter %a %b %e %H:%M:%S %Y\n").encode())
            for chunk in quoted(chunks):
                _write(fd, chunk)
            _write(fd, b"\n\n")
        except OSError:
            os.ftruncate(fd, found.st_size)
            raise
    finally:
        os.close(fd)
    return path


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
