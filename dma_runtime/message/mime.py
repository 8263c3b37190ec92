"""The MIME structure of a stored message, as places in it: what a re-encoding has to know, and nothing more.

`parse` reads the message through `read(length, at)` in windows; memory is the headers of the parts, not their bodies.
What is nested deeper than DEPTH or has more than MANY parts is one opaque part: it is carried as it is. Signed and
encrypted parts are opaque too: not one byte of them is touched (RFC 1847 2.1). A multipart without a delimiter is no
multipart but a leaf, and so is one whose delimiter no header can carry.

Follows RFC 2045 and RFC 2046 5.1; the line end before a delimiter belongs to the delimiter.
"""

from __future__ import annotations

from dma_runtime.message.headers import Field, field_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]

WINDOW = 65536
DEPTH = 30
MANY = 5000
_LARGEST_HEADER = 17 << 20  # of a part; the submission takes 16 MB and adds its own
_LONGEST_DELIMITER = 300

LEAF, MULTIPART, MESSAGE, OPAQUE = "leaf", "multipart", "message", "opaque"


class Part:
    """An entity: header at `start`, body from `body` to `end` (the line end before a delimiter not counted).

    `type` is lower case, "" when not given; `encoding` the lower-case Content-Transfer-Encoding, "" when not given.
    `parts` are the children of a MULTIPART, or the one of a MESSAGE. Of a MULTIPART, `first` is where its first delimiter
    stands (in front of it the preamble), `behind` where the line of its last one ends (behind it the epilogue).
    """

    __slots__ = ("behind", "body", "encoding", "end", "fields", "first", "kind", "parts", "start", "type")

    def __init__(self, start: int, body: int, fields: list[Field]) -> None:
        self.start = start
        self.body = body
        self.end = body
        self.first = body
        self.behind = body
        self.fields = fields
        self.kind = LEAF
        self.parts: list[Part] = []
        self.type = ""
        self.encoding = ""

    def __repr__(self) -> str:
        return f"Part({self.kind} {self.type} {self.start}-{self.body}-{self.end} {self.parts})"

    def has(self, name: bytes) -> bool:
        return any(field.name == name for field in self.fields)


def parse(read: Read, size: int) -> Part:
    """The structure of the message of `size` bytes behind `read(length, at)`. Raises what `read` raises."""
    return _Parser(read, size).entity(0, [], b"text/plain")[0]


def split_header(data: bytes) -> tuple[list[Field], int]:
    """(the fields at the start of `data`, where the body behind them and the empty line starts)."""
    fields: list[Field] = []
    lines: list[bytes] = []
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end]
        if not line:
            at += 1
            break
        if line[0] in b" \t" and lines:
            lines.append(line)
        elif name := field_name(line):
            if fields:
                fields[-1].raw = b"\n".join(lines)
            fields.append(Field(name, b""))
            lines = [line]
        else:
            break
        at = end + 1
    if fields:
        fields[-1].raw = b"\n".join(lines)
    return fields, at


class _Parser:
    def __init__(self, read: Read, size: int) -> None:
        self.read = read
        self.size = size
        self.count = 0

    def entity(self, start: int, bounds: list[bytes], default: bytes) -> tuple[Part, _Delimiter | None]:
        """(the entity at `start`, the delimiter of an enclosing multipart that ended it)."""
        part = self._header(start)
        self.count += 1
        for field in part.fields:
            if field.name == b"content-type" and not part.type:
                part.type = content_type(field.value)
            elif field.name == b"content-transfer-encoding" and not part.encoding:
                part.encoding = field.value.partition(b"(")[0].strip().lower().decode("latin-1")
        kind = part.type or default.decode()
        if len(bounds) > DEPTH or self.count > MANY or kind in ("multipart/signed", "multipart/encrypted"):
            part.kind = OPAQUE
        elif kind.startswith("multipart/"):
            boundary = next((parameter(_as_sent(f.value), b"boundary") for f in part.fields if f.name == b"content-type"), b"")
            if _can_be_said(boundary) and part.encoding in ("", "7bit", "8bit", "binary"):
                inner = b"message/rfc822" if kind == "multipart/digest" else b"text/plain"  # RFC 2046 5.1.5
                return self._multipart(part, bounds, boundary, inner)
        elif kind in ("message/rfc822", "message/global") and part.encoding in ("", "7bit", "8bit", "binary"):
            part.kind = MESSAGE
            child, delimiter = self.entity(part.body, [*bounds, b""], b"text/plain")
            part.parts, part.end = [child], child.end
            return part, delimiter
        delimiter = self._delimiter(part.body, bounds)
        part.end = delimiter.body_end(part.body) if delimiter else self.size
        return part, delimiter

    def _multipart(self, part: Part, bounds: list[bytes], boundary: bytes, default: bytes) -> tuple[Part, _Delimiter | None]:
        inner = [*bounds, boundary]
        delimiter = self._delimiter(part.body, inner)
        if delimiter is not None and delimiter.depth == len(inner) - 1:
            part.kind = MULTIPART
            part.first = delimiter.start
        while delimiter is not None and delimiter.depth == len(inner) - 1 and not delimiter.closes:
            child, delimiter = self.entity(delimiter.end, inner, default)
            part.parts.append(child)
            part.behind = child.end
        if delimiter is not None and delimiter.depth == len(inner) - 1:
            part.behind = delimiter.end
            delimiter = self._delimiter(delimiter.end, bounds)  # behind the last part only an enclosing one counts
        part.end = delimiter.body_end(part.body) if delimiter else self.size
        return part, delimiter

    def _header(self, start: int) -> Part:
        """The header at `start`, up to the empty line or the first line that is no field."""
        length = 4096
        while True:
            data = self.read(min(length, self.size - start), start) if start < self.size else b""
            end = 0 if data.startswith(b"\n") else data.find(b"\n\n")
            if end >= 0 or len(data) >= self.size - start or length > _LARGEST_HEADER:
                break
            length *= 4
        fields, at = split_header(data)
        return Part(start, min(start + at, self.size), fields)

    def _delimiter(self, at: int, bounds: list[bytes]) -> _Delimiter | None:
        """The first delimiter of any of `bounds` at or behind `at`, which starts a line."""
        if not any(bounds):
            return None
        at -= 1  # the line end before
        while at < self.size:
            data = b"\n" if at < 0 else b""
            base = at
            data += self.read(WINDOW, max(0, at))
            if len(data) < 3:
                return None
            last = len(data) - _LONGEST_DELIMITER if base + len(data) < self.size else len(data)
            found = data.find(b"\n--")
            while 0 <= found < last:
                end = data.find(b"\n", found + 1)
                line = data[found + 3 : end if end >= 0 else len(data)].rstrip(b" \t\r")
                for depth in range(len(bounds) - 1, -1, -1):
                    mark = bounds[depth]
                    if mark and line.startswith(mark) and line[len(mark) :] in (b"", b"--"):
                        where = base + end + 1 if end >= 0 else self.size
                        return _Delimiter(base + found + 1, where, depth, line != mark)
                found = data.find(b"\n--", found + 1)
            if base + len(data) >= self.size:
                return None
            at = base + (found if found >= last else len(data) - 2)
            if at <= base:
                at = base + len(data) - 2
        return None


class _Delimiter:
    """A delimiter line from `start` to `end`, of the boundary `depth` steps from outside; `closes`: with a final `--`."""

    __slots__ = ("closes", "depth", "end", "start")

    def __init__(self, start: int, end: int, depth: int, closes: bool) -> None:
        self.start = start
        self.end = end
        self.depth = depth
        self.closes = closes

    def body_end(self, body: int) -> int:
        """Where the body before it ends: its own line end is not part of it."""
        return max(body, self.start - 1)


# ---------------------------------------------------------------- fields with parameters


def content_type(value: bytes) -> str:
    """`type/subtype` in lower case, "" when there is none."""
    found = _as_sent(value).partition(b";")[0].partition(b"(")[0].strip().lower()
    main, slash, sub = found.partition(b"/")
    return f"{main.strip().decode('latin-1')}/{sub.strip().decode('latin-1')}" if slash and main and sub else ""


def _as_sent(value: bytes) -> bytes:
    """A NUL or bare CR is the blank it becomes on the wire: what is meant is what the other end will read."""
    return value.replace(b"\0", b" ").replace(b"\r", b" ")


def _can_be_said(boundary: bytes) -> bool:
    """One that no header can carry as it is cannot part anything at the other end (RFC 2046 5.1.1)."""
    return bool(boundary) and boundary.isascii() and all(32 <= c < 127 for c in boundary)


def parameter(value: bytes, name: bytes) -> bytes:
    """A parameter's value without its quotes, b"" when it is not there (RFC 2045 5.1)."""
    for key, start, end in parameters(value):
        if key == name:
            found = value[start:end]
            if not found.startswith(b'"'):
                return found
            return _unquoted(found)
    return b""


def parameters(value: bytes) -> list[tuple[bytes, int, int]]:
    """(lower-case name, start, end of its value, quotes included) of each parameter."""
    found = []
    at = value.find(b";")
    while 0 <= at < len(value):
        equals = value.find(b"=", at)
        if equals < 0:
            break
        name = value[at + 1 : equals].strip().lower()
        start = equals + 1
        while start < len(value) and value[start] in b" \t\n":
            start += 1
        end = start
        if value[start : start + 1] == b'"':
            end += 1
            while end < len(value) and value[end] != 0x22:
                end += 2 if value[end] == 0x5C else 1
            end = min(end + 1, len(value))
        else:
            while end < len(value) and value[end] not in b"; \t\n(":
                end += 1
        found.append((name, start, end))
        at = value.find(b";", end)
    return found


def _unquoted(text: bytes) -> bytes:
    out = bytearray()
    at = 1
    while at < len(text) - 1:
        if text[at] == 0x5C:
            at += 1
        out.append(text[at])
        at += 1
    return bytes(out)
