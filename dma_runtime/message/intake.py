"""The bytes a caller gives, made into a message with LF line ends, chunk by chunk.

Rules:
- CRLF and LF input alike: CRs before a line end go (`\\r\\r\\n` is text converted twice). Other CRs stay; `bare_cr` tells
  that there are some, for they cannot travel as they are (RFC 5321 2.3.8).
- A line with a lone dot ends the message, unless dots are to be ignored (-i); what follows is not read.
- Nothing else is changed: any byte, any length of line, no final line end.

Memory is one chunk, whatever the message's size. Pure: the reader is an argument.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_HELD = 1 << 16  # CRs in a row that are kept back to see whether a line end follows


class Intake:
    """`read()` gives the next bytes, b"" at the end; so does `Intake.read`, normalised. Raises what `read` raises."""

    __slots__ = ("_at_line_start", "_crs", "_dot", "_dots", "_ended", "_read", "bare_cr")

    def __init__(self, read: Callable[[], bytes], *, ignore_dots: bool) -> None:
        self._read = read
        self._dots = not ignore_dots
        self._ended = False
        self._crs = 0  # CRs at the end of the last chunk, kept back
        self._dot = False  # ... in a dot at the start of a line that is kept back
        self._at_line_start = True
        self.bare_cr = False

    def read(self) -> bytes:
        """The next bytes of the message, b"" at its end."""
        while not self._ended:
            data = self._read()
            if data:
                data = self._unix(data)
                if data and self._dots:
                    data = self._until_dot(data)
            else:
                data = self._last()
            if data:
                if not self.bare_cr and b"\r" in data:
                    self.bare_cr = True
                return data
        return b""

    def _unix(self, data: bytes) -> bytes:
        if self._crs:
            data = b"\r" * self._crs + data
            self._crs = 0
        if b"\r" in data:
            end = len(data.rstrip(b"\r"))
            if len(data) - end <= _HELD:
                self._crs = len(data) - end
                data = data[:end]
            data = data.replace(b"\r\n", b"\n")
            if b"\r\n" in data:
                data = b"\n".join([line.rstrip(b"\r") for line in data.split(b"\n")[:-1]] + data.split(b"\n")[-1:])
        return data

    def _until_dot(self, data: bytes) -> bytes:
        if self._dot:
            data = b"." + data
            self._dot = False
        start = self._at_line_start
        if start and data.startswith(b".\n"):
            self._ended = True
            return b""
        end = data.find(b"\n.\n")
        if end >= 0:
            self._ended = True
            return data[: end + 1]
        if data.endswith(b"\n.") or (start and data == b"."):
            data = data[:-1]
            self._dot = True
        if data:
            self._at_line_start = data.endswith(b"\n")
        return data

    def _last(self) -> bytes:
        """The input has ended: what was kept back, except a dot alone on the last line."""
        self._ended = True
        if self._crs:
            return (b"." if self._dot else b"") + b"\r" * self._crs
        return b""
