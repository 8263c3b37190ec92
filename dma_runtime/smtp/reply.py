"""What a server says: bytes in, whole replies out.

Rules:
- A reply is one or more lines `NNN-text` ended by `NNN text` or `NNN` (RFC 5321 4.2); all lines carry the same code,
  from 200 to 599. CRLF is expected, a bare LF tolerated.
- Nothing depends on how the bytes were cut into packets.
- A line longer than LINE_LIMIT, a reply longer than REPLY_LIMIT or anything that is not a reply is `BadReply`; replies
  that were whole before it are handed out first. The parser is of no use afterwards.

Limits: RFC 5321 4.5.3.1.5 allows 512 octets a line; what servers send in practice is longer, so the limit here is one
that only bounds memory. Follows RFC 5321 4.2, 4.2.1 and RFC 2034 (enhanced status codes).
"""

from __future__ import annotations

from dma_runtime.shown import escape

LINE_LIMIT = 8192  # bytes of one line
REPLY_LIMIT = 65536  # bytes of one reply, all its lines

class BadReply(Exception):
    """The server said something that is not SMTP; the text says what, fit for a log line."""


class Reply:
    """One reply. `code` 200..599; `lines` are the raw lines with their codes and without their line ends."""

    __slots__ = ("code", "lines")

    def __init__(self, code: int, lines: list[bytes]) -> None:
        self.code = code
        self.lines = lines

    @property
    def positive(self) -> bool:
        return self.code < 300

    @property
    def text(self) -> str:
        """The full reply, codes included, lines joined by newlines; undecodable bytes and controls escaped."""
        return "\n".join([readable(line) for line in self.lines])

    @property
    def words(self) -> list[str]:
        """The text of each line without its code."""
        return [readable(line[4:]) for line in self.lines]

    @property
    def status(self) -> str:
        """The enhanced status code (RFC 3463) when the reply carries one of its own class, else ""."""
        for line in (self.lines[0], self.lines[-1]):
            word = line[4:].split(b" ", 1)[0]
            parts = word.split(b".")
            if len(parts) == 3 and all(p.isdigit() and len(p) <= 3 for p in parts) and parts[0] == line[:1]:
                return word.decode("ascii")
        return ""

    def __repr__(self) -> str:
        return f"Reply({self.text!r})"


def readable(line: bytes) -> str:
    """Bytes of a server made fit for people."""
    text = line.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else escape(c) for c in text)


def reply(text: str) -> Reply:
    """A reply from its text, for tests and for faults worded as replies: `reply("250 2.0.0 Ok")`."""
    lines = text.encode().splitlines()
    return Reply(int(lines[-1][:3]), lines)


class ReplyParser:
    """Bytes go in by `feed`, whole replies come out by `next`."""

    __slots__ = ("_at", "_data", "_lines", "_size")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0  # what of _data was handed out
        self._lines: list[bytes] = []  # of a reply that is not whole yet
        self._size = 0

    def feed(self, data: bytes) -> None:
        if self._at < len(self._data):
            self._data = self._data[self._at :] + data
        else:
            self._data = data
        self._at = 0

    @property
    def surplus(self) -> bool:
        """Bytes are held that no reply handed out so far accounts for."""
        return self._at < len(self._data) or bool(self._lines)

    def next(self) -> Reply | None:
        """The next whole reply; None when more bytes are needed. Raises BadReply."""
        while True:
            data, start = self._data, self._at
            end = data.find(b"\n", start)
            if end < 0:
                if len(data) - start > LINE_LIMIT:
                    raise BadReply(f"a line longer than {LINE_LIMIT} bytes: {readable(data[start : start + 60])}...")
                return None
            line = data[start : end - 1] if end > start and data[end - 1] == 13 else data[start:end]
            self._at = end + 1
            mark = line[3:4]
            if not line[:3].isdigit() or mark not in (b" ", b"-", b"") or len(line) < 3 or not 50 <= line[0] <= 53:
                raise BadReply(f"not an SMTP reply: {readable(line[:120])}")
            self._size += len(line)
            if len(line) > LINE_LIMIT or self._size > REPLY_LIMIT:
                raise BadReply(f"a reply longer than {REPLY_LIMIT} bytes: {readable(line[:60])}...")
            if not self._lines:
                if mark != b"-":
                    self._size = 0
                    return Reply(int(line[:3]), [line])
            elif line[:3] != self._lines[0][:3]:
                raise BadReply(f"a reply whose code changes: {readable(self._lines[0][:60])} / {readable(line[:60])}")
            self._lines.append(line)
            if mark != b"-":
                lines, self._lines, self._size = self._lines, [], 0
                return Reply(int(line[:3]), lines)
