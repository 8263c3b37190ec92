"""A message held until all of it is there: in memory while it is small, then in a file without a name.

Rules (hard-parts.md, Submitting): the first 256 KB in memory; more in a file in a directory of the caller's choice, without
a name or unlinked at once, 0600, exclusive and not through a link; where no file can be had there, or it is full, in memory
that can be swapped (memfd), if the caller says so. Nothing is left behind when the process ends, however it ends.

Raises OSError. On the submit path: built-in modules only.
"""

from __future__ import annotations

import errno

from dma_runtime import posixos as os
from dma_runtime.system.fs import O_TMPFILE

SMALL = 1 << 18  # bytes held in memory
_PIECE = 1 << 16


class Held:
    """`size` in bytes. `read` gives what was written, from the start on after each `rewind`."""

    def __init__(self, directory: str, *, memory: bool = False) -> None:
        self.size = 0
        self._directory = directory
        self._memory = memory  # whether a memfd will do
        self._pieces: list[bytes] = []
        self._fd = -1
        self._at = 0  # bytes read, or pieces

    @property
    def in_file(self) -> bool:
        return self._fd >= 0

    def write(self, data: bytes) -> None:
        """Hold `data` too."""
        if not data:
            return  # `read` says by an empty piece that there is no more
        if self._fd < 0 and self.size + len(data) <= SMALL:
            self._pieces.append(data)
        else:
            if self._fd < 0:
                self._spill()
            self._to_file(data)
        self.size += len(data)

    def _spill(self) -> None:
        try:
            self._fd = _nameless(self._directory)
        except OSError:
            if not self._memory:
                raise
            self._fd = os.memfd_create("dma")
            self._memory = False
        at = 0
        for piece in self._pieces:
            _write(self._fd, piece, at)
            at += len(piece)
        self._pieces = []

    def _to_file(self, data: bytes) -> None:
        try:
            _write(self._fd, data, self.size)
        except OSError as error:
            if not self._memory or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._memory = False
            other = os.memfd_create("dma")
            at = 0
            while piece := os.pread(self._fd, min(_PIECE, self.size - at), at):
                _write(other, piece, at)
                at += len(piece)
            os.close(self._fd)
            self._fd = other
            _write(other, data, self.size)

    def read(self) -> bytes:
        """The next bytes, b"" at the end."""
        if self._fd < 0:
            if self._at >= len(self._pieces):
                return b""
            self._at += 1
            return self._pieces[self._at - 1]
        data = os.pread(self._fd, _PIECE, self._at)
        self._at += len(data)
        return data

    def rewind(self) -> None:
        self._at = 0

    def close(self) -> None:
        """Let go of it; may be called again."""
        fd, self._fd = self._fd, -1
        self._pieces = []
        if fd >= 0:
            os.close(fd)


def _nameless(directory: str) -> int:
    if O_TMPFILE:
        try:
            return os.open(directory, O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
    name = f"{directory}/.dma-{os.urandom(12).hex()}"
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.unlink(name)
    return fd


def _write(fd: int, data: bytes, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:] if done else data, at + done)
