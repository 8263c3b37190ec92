"""A message of the spool, open for reading. Made by `Spool.open`, which has seen that it is whole."""

from __future__ import annotations

from dma_runtime.envelope import Envelope
from dma_runtime.system.fs import FileSystem


class StoredMessage:
    """A message in the queue, open for reading. `offset` is where it starts in the file, `size` its bytes.

    `whole`: the file, when it is short enough; nothing is open then.
    """

    __slots__ = ("envelope", "fd", "fs", "offset", "size", "whole")

    def __init__(self, fs: FileSystem, envelope: Envelope, fd: int, offset: int, whole: bytes = b"") -> None:
        self.fs = fs
        self.envelope = envelope
        self.fd = fd
        self.offset = offset
        self.size = envelope.size
        self.whole = whole

    def pread(self, length: int, at: int) -> bytes:
        """At most `length` bytes from byte `at` of the message on; b"" at its end. Raises OSError."""
        if self.whole:
            return self.whole[self.offset + at : self.offset + at + length]
        return self.fs.pread(self.fd, length, self.offset + at)

    def close(self) -> None:
        if self.fd >= 0:
            self.fs.close(self.fd)
            self.fd = -1
