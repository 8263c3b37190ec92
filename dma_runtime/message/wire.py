"""A stored message in the form a relay takes: CRLF line ends, dots stuffed for DATA, re-encoded where it has to be.

Rules:
- What every relay takes goes out byte for byte: only the line ends change, and a last line without an end gets one.
- A NUL or a bare CR, a line longer than 998 bytes (RFC 5321 4.5.3.1.6), or a byte above 127 for a relay without 8BITMIME
  (RFC 6152) is carried by re-encoding, never by cutting: part by part, only the parts that need it, text as
  quoted-printable, the rest as base64, with the header fields that say so. A multipart that has no parts becomes text, an
  encoding that is not known is named in X-Original-Content-Transfer-Encoding.
  Preamble and epilogue, which no reader shows, are written as quoted-printable when they need it.
- A header that is not ASCII is legal in mail with SMTPUTF8 only (RFC 6532), and what was sent so may come back from a later
  server without it. So where the addresses do not need SMTPUTF8, UTF-8 in the header becomes encoded words, which every
  reader shows as the same text. A header in another charset, which nobody named, stays for relays with 8BITMIME.
- Signed mail is never rewritten: with a DKIM-Signature nothing changes, signed and encrypted parts are left as they are
  (hard-parts.md). It goes out as it is, whatever the relay said; as BINARYMIME (RFC 3030) where its lines or bytes need it
  and the relay takes it. So does what says of itself that it is binary. But for a bare CR, which no signed mail has that
  came by SMTP: by DATA it goes as a blank, as Postfix has it, for there are servers that take `CR . CR LF` for the end of the
  message and what follows for commands ("SMTP smuggling").

`read(length, at)` gives bytes of the message, and raises what the caller's does. Memory is one chunk and the headers of
the parts. Pure.
"""

from __future__ import annotations

import codecs

from dma_runtime.message import fieldwire, mime, recode
from dma_runtime.message.mime import LEAF, MULTIPART, OPAQUE, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dma_runtime.envelope import Envelope
    from dma_runtime.message.headers import Field

    Read = Callable[[int, int], bytes]

CHUNK = 65536
_IDENTITY = ("", "7bit", "8bit", "binary")
_LABEL = 100  # bytes of an encoding's name that are kept
_SHOWN = bytes(c if 32 <= c < 127 else 0x3F for c in range(256))


def wire(
    read: Read, envelope: Envelope, *, eightbit: bool, bdat: bool, binary: bool = False, utf8: bool = False
) -> Iterator[bytes]:
    """The message for one relay, in pieces of about 64 KB, ending in CRLF. `eightbit`: it takes 8BITMIME. `bdat`: the
    message goes by BDAT, where dots are not stuffed (RFC 3030); for DATA they are (RFC 5321 4.5.2). `binary`: it goes as
    BINARYMIME (see `goes_binary`). `utf8`: as SMTPUTF8."""
    if not binary and must_change(read, envelope, eightbit=eightbit, utf8=utf8):
        lines = _gathered(_Conversion(read, eightbit, utf8).message(mime.parse(read, envelope.size)))
    else:
        lines = _copied(read, 0, envelope.size)
    return _on_the_wire(lines, stuff=not bdat)


def must_change(read: Read, envelope: Envelope, *, eightbit: bool, utf8: bool) -> bool:
    """Whether the message cannot go to this relay as it is stored."""
    if _unfit(envelope) or (envelope.has_8bit and not eightbit):
        return True
    return envelope.has_8bit and not utf8 and _speaks_utf8(read(envelope.header_end, 0))


def goes_binary(read: Read, envelope: Envelope) -> bool:
    """Whether it goes as BINARYMIME to a relay that takes that: lines or bytes need it, and it is signed or says so."""
    if not _unfit(envelope):
        return False
    fields, _ = mime.split_header(read(envelope.header_end, 0))
    for field in fields:
        if field.name == b"dkim-signature":
            return True
        if field.name == b"content-type" and mime.content_type(field.value) in ("multipart/signed", "multipart/encrypted"):
            return True
        if field.name == b"content-transfer-encoding" and field.value.strip().lower() == b"binary":
            return True
    return False


def _unfit(envelope: Envelope) -> bool:
    return envelope.has_nul or envelope.longest_line > fieldwire.LONGEST


def _speaks_utf8(header: bytes) -> bool:
    if header.isascii():
        return False
    try:
        header.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _copied(read: Read, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        data = read(min(CHUNK, end - start), start)
        if not data:
            raise EOFError(f"the message ends at byte {start} of {end}")
        yield data
        start += len(data)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces joined."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)


def _on_the_wire(chunks: Iterator[bytes], *, stuff: bool) -> Iterator[bytes]:
    line_start = True
    for data in chunks:
        if stuff and b"\r" in data:
            data = data.replace(b"\r", b" ")  # line ends are LF here: it is bare
        out = data.replace(b"\n", b"\r\n")
        if stuff:
            out = out.replace(b"\n.", b"\n..")
            if line_start and data.startswith(b"."):
                out = b"." + out
        line_start = data.endswith(b"\n")
        yield out
    if not line_start:
        yield b"\r\n"


class Content:
    """What is in the body of a part: bytes above 127, NUL or bare CR, its longest line, and whether it is UTF-8."""

    __slots__ = ("bad", "eight", "longest", "utf8")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.bad = False
        self.eight = False
        self.longest = 0
        self.utf8 = True
        decoder = codecs.getincrementaldecoder("utf-8")()
        line = 0
        for data in chunks:
            self.bad = self.bad or b"\0" in data or b"\r" in data
            if not data.isascii() or self.eight:
                self.eight = True
                try:
                    decoder.decode(data)
                except UnicodeDecodeError:
                    self.utf8 = False
                    decoder.reset()
            parts = data.split(b"\n")
            self.longest = max(self.longest, line + len(parts[0]), *map(len, parts[1:]))
            line = len(parts[-1]) + (line if len(parts) == 1 else 0)
        try:
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            self.utf8 = False


class _Conversion:
    """One message on its way to one relay."""

    def __init__(self, read: Read, eightbit: bool, utf8: bool) -> None:
        self.read = read
        self.eightbit = eightbit
        self.utf8 = utf8

    def message(self, top: Part) -> Iterator[bytes]:
        """The whole message, LF line ends."""
        if top.has(b"dkim-signature"):
            yield from _copied(self.read, top.start, top.end)
        else:
            yield from self._part(top, top=True)

    def _part(self, part: Part, *, top: bool = False) -> Iterator[bytes]:
        if part.kind == OPAQUE and not top:
            yield from _copied(self.read, part.start, part.end)
            return
        if part.kind == LEAF:
            yield from self._leaf(part, top)
            return
        yield self._header(part, self._label(part), [])
        if part.kind == OPAQUE:
            yield from _copied(self.read, part.body, part.end)
            return
        at = part.body
        if part.kind == MULTIPART:
            yield from self._margin(part.body, part.first)
            at = part.first
        for child in part.parts:
            yield from _copied(self.read, at, child.start)
            yield from self._part(child)
            at = child.end
        if part.kind == MULTIPART:
            yield from _copied(self.read, at, part.behind)
            yield from self._margin(part.behind, part.end)

    def _margin(self, start: int, end: int) -> Iterator[bytes]:
        """A preamble or an epilogue."""
        text = _copied(self.read, start, end)
        return recode.quoted_printable(text) if self._unfit(Content(_copied(self.read, start, end))) else text

    def _unfit(self, content: Content) -> bool:
        return content.bad or content.longest > fieldwire.LONGEST or (content.eight and not self.eightbit)

    def _may_keep(self, field: Field) -> bool:
        """Whether the field goes out with the bytes above 127 it has."""
        return self.utf8 or (self.eightbit and not _speaks_utf8(field.raw))

    def _label(self, part: Part) -> bytes:
        """The encoding a container has to name: its parts are 7bit when the relay takes no more."""
        return b"7bit" if part.encoding in ("8bit", "binary") and not self.eightbit and part.kind != OPAQUE else b""

    def _leaf(self, part: Part, top: bool) -> Iterator[bytes]:
        content = Content(_copied(self.read, part.body, part.end))
        body = _copied(self.read, part.body, part.end)
        extra: list[bytes] = []
        encoding = b""
        if not self._unfit(content):
            encoding = b"7bit" if part.encoding in ("8bit", "binary") and not content.eight and not self.eightbit else b""
        elif part.encoding == "quoted-printable":
            body = recode.requoted(body)
        elif part.encoding == "base64":
            body = recode.rewrapped_base64(body)
        elif part.type.startswith("message/") and not content.bad and content.longest <= fieldwire.LONGEST:
            pass  # RFC 2046 5.2 allows no encoding here; only what no relay takes at all is worse
        else:
            no_parts = part.type.startswith("multipart/")  # RFC 2045 6.4 allows it no encoding: it is shown as text
            text = part.type in ("", "text") or part.type.startswith(("text/", "message/")) or no_parts
            encoding = b"quoted-printable" if text else b"base64"
            body = recode.quoted_printable(body) if text else recode.base64(body)
            if no_parts:
                extra = [b"Content-Type: text/plain; charset=" + _charset(content)]
            elif top:
                extra = _declaration(part, content)
            if part.encoding not in _IDENTITY:
                # One we do not know (x-uuencode), and bytes that no relay takes: to be undone when ours is (RFC 2045 6.4).
                known = part.encoding.encode("latin-1")[:_LABEL]
                extra.append(b"X-Original-Content-Transfer-Encoding: " + known.translate(_SHOWN))
        yield self._header(part, encoding, extra)
        yield from body

    def _header(self, part: Part, encoding: bytes, extra: list[bytes]) -> bytes:
        """The part's header with its empty line; `encoding` replaces its Content-Transfer-Encoding when not empty, a
        Content-Type in `extra` its Content-Type."""
        lines: list[bytes] = []
        typed = any(line.startswith(b"Content-Type:") for line in extra)
        for field in part.fields:
            if encoding and field.name == b"content-transfer-encoding":
                continue
            if typed and field.name == b"content-type":
                continue
            lines.append(fieldwire.fit(field, self._may_keep(field)))
        lines += extra
        if encoding:
            lines.append(b"Content-Transfer-Encoding: " + encoding)
        return b"".join(line + b"\n" for line in lines) + b"\n"


def _declaration(part: Part, content: Content) -> list[bytes]:
    """The fields that make a message without MIME a MIME message."""
    if part.has(b"mime-version"):
        return []
    found = [b"MIME-Version: 1.0"]
    if not part.has(b"content-type"):
        found.append(b"Content-Type: text/plain; charset=" + _charset(content))
    return found


def _charset(content: Content) -> bytes:
    return b"us-ascii" if not content.eight else b"utf-8" if content.utf8 else b"unknown-8bit"
