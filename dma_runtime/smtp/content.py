"""What a client sends behind DATA: where it ends, and its dots undone (RFC 5321 4.5.2).

Rules:
- The message ends at CRLF `.` CRLF and at nothing else. A `.` between bare LFs is part of the text and stays, for a client
  that doubles dots only behind CRLF would otherwise let its text end the message and start commands ("SMTP smuggling").
- Only a DATA command that itself ended in a bare LF makes an exception: that client speaks LF (a shell script with printf),
  and its lines and its end are LF ones, CRLF tolerated.
- Nothing depends on how the bytes were cut into packets; memory is what `feed` was given.
- Line ends are handed out as they came; `message.intake` makes them LF.

Pure. Follows RFC 5321 4.1.1.4, 2.3.8.
"""

from __future__ import annotations


class Content:
    """The bytes of one message. `feed` gives them without the transparency dots; `rest` is what followed the end."""

    __slots__ = ("_ends", "_held", "_line_end", "_skip", "ended", "rest")

    def __init__(self, *, lf: bool = False) -> None:
        """`lf`: the client speaks LF."""
        self._line_end = b"\n" if lf else b"\r\n"
        self._ends = (b"\n.\n", b"\n.\r\n") if lf else (b"\r\n.\r\n",)
        self._held = self._line_end  # as if a line had ended: a dot on the first line counts too
        self._skip = len(self._line_end)  # ... which is not part of the message
        self.ended = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """What is certain of the message so far. Behind the end (`ended`) nothing more may be fed."""
        data = self._held + data
        found = [(data.find(end), end) for end in self._ends]
        at, end = min(((at, end) for at, end in found if at >= 0), default=(-1, b""))
        if at >= 0:
            self.ended = True
            self._held, self.rest = b"", data[at + len(end) :]
            data = data[: at + len(self._line_end)]
        else:
            keep = self._undecided(data)
            self._held = data[len(data) - keep :]
            data = data[: len(data) - keep]
        taken = data.replace(self._line_end + b".", self._line_end)[self._skip :]
        self._skip = max(0, self._skip - len(data))
        return taken

    def _undecided(self, data: bytes) -> int:
        """How many bytes at the end may be the start of the end, or of a dot to take away."""
        longest = max(len(end) for end in self._ends) - 1
        for keep in range(min(longest, len(data)), 0, -1):
            if any(end.startswith(data[-keep:]) for end in self._ends):
                return keep
        return 0
