"""Header fields made fit for the wire: lines of at most 998 bytes, no NUL and no bare CR, ASCII where the relay asks for it.

Rules:
- A field that is fit goes out byte for byte.
- A long line is folded at a blank (RFC 5322 2.2.3: unfolding gives it back), in lists also behind a comma.
- What is not ASCII becomes encoded words (RFC 2047) where those may stand: in free text, in display names and in comments;
  parameters become RFC 2231's. The same for free text that no blank lets fold.
- Addresses themselves are never encoded. Where nothing else is possible a control becomes a blank.
"""

from __future__ import annotations

import binascii

from dma_runtime.message.headers import Field
from dma_runtime.message.mime import parameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 998  # bytes of a line, RFC 5321 4.5.3.1.6 and RFC 5322 2.1.1
_TARGET = 900  # where long lines are folded
_WORD = 45  # bytes in one encoded word: 60 characters of base64, 75 with its frame (RFC 2047 2)

_ADDRESSES = (
    b"from", b"sender", b"reply-to", b"to", b"cc", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc",
    b"resent-reply-to", b"x-original-from", b"disposition-notification-to", b"errors-to",
)  # fmt: skip
_PARAMETERS = (b"content-type", b"content-disposition")
_STRUCTURED = (
    *_ADDRESSES, *_PARAMETERS, b"date", b"message-id", b"in-reply-to", b"references", b"received", b"return-path",
    b"mime-version", b"content-transfer-encoding", b"content-id", b"resent-date", b"resent-message-id", b"dkim-signature",
    b"arc-seal", b"arc-message-signature", b"arc-authentication-results", b"authentication-results", b"list-unsubscribe",
    b"list-id", b"list-post", b"list-help", b"autocrypt", b"auto-submitted",
)  # fmt: skip


def fit(field: Field, eightbit: bool) -> bytes:
    """The field's lines, without the last line end, as they may go out; `eightbit`: bytes above 127 may stay."""
    raw = field.raw
    if b"\0" in raw or b"\r" in raw:
        raw = _without_controls(field)
    if not eightbit and not raw.isascii():
        raw = _ascii(field.name, raw)
    if len(raw) > LONGEST and any(len(line) > LONGEST for line in raw.split(b"\n")):
        raw = b"\n".join(_folded(line, field.name) for line in raw.split(b"\n"))
    return raw


def _without_controls(field: Field) -> bytes:
    lines = [line.rstrip(b"\r") for line in field.raw.split(b"\n")]
    if field.name not in _STRUCTURED:
        name, colon, _ = lines[0].partition(b":")
        lines[0] = lines[0][len(name) + 1 :]
        return name + colon + b"\n".join(_words(line, lambda word: b"\0" in word or b"\r" in word) for line in lines)
    return b"\n".join(line.replace(b"\0", b" ").replace(b"\r", b" ") for line in lines)


def _ascii(name: bytes, raw: bytes) -> bytes:
    head, colon, value = raw.partition(b":")
    if name in _ADDRESSES:
        return head + colon + _names(value)
    if name in _PARAMETERS:
        return head + colon + _values(value)
    if name in _STRUCTURED:
        return raw  # nothing may be encoded in it
    return head + colon + b"\n".join(_words(line, lambda word: not word.isascii()) for line in value.split(b"\n"))


# ---------------------------------------------------------------- encoded words


def encoded(text: bytes) -> bytes:
    """Encoded words for `text`, parted by blanks, which a reader drops (RFC 2047 6.2)."""
    try:
        characters = text.decode("utf-8")
        charset = b"utf-8"
    except UnicodeDecodeError:
        characters = text.decode("latin-1")
        charset = b"unknown-8bit"
    codec = "utf-8" if charset == b"utf-8" else "latin-1"
    words: list[bytes] = []
    word = b""
    for character in characters:  # a character is never split between words (RFC 2047 5)
        data = character.encode(codec)
        if len(word) + len(data) > _WORD:
            words.append(word)
            word = b""
        word += data
    words.append(word)
    return b" ".join(b"=?" + charset + b"?B?" + binascii.b2a_base64(w, newline=False) + b"?=" for w in words)


def _words(line: bytes, needs: Callable[[bytes], bool]) -> bytes:
    """A line of free text with the runs of words encoded that need it."""
    pieces = _split_blanks(line)
    marked = [at for at, piece in enumerate(pieces) if piece.strip(b" \t") and needs(piece)]
    if not marked:
        return line
    first, last = marked[0], marked[-1]  # one run: blanks between encoded words would be dropped
    return b"".join(pieces[:first]) + encoded(b"".join(pieces[first : last + 1])) + b"".join(pieces[last + 1 :])


def _split_blanks(line: bytes) -> list[bytes]:
    """Alternating runs of blanks and of other bytes."""
    pieces: list[bytes] = []
    at = 0
    while at < len(line):
        end = at
        blank = line[at] in b" \t"
        while end < len(line) and (line[end] in b" \t") == blank:
            end += 1
        pieces.append(line[at:end])
        at = end
    return pieces


def _names(value: bytes) -> bytes:
    """An address field with its display names and comments encoded."""
    out: list[bytes] = []
    at = 0
    while at < len(value):
        c = value[at]
        if c == 0x3C:  # <address>
            end = value.find(b">", at) + 1 or len(value)
            piece = value[at:end]
        elif c == 0x22:  # "display name"
            end = at + 1
            while end < len(value) and value[end] != 0x22:
                end += 2 if value[end] == 0x5C else 1
            end = min(end + 1, len(value))
            piece = value[at:end]
            if not piece.isascii() and value[end : end + 1] != b"@":
                piece = encoded(piece.strip(b'"').replace(b'\\"', b'"').replace(b"\\\\", b"\\").replace(b"\n", b""))
        elif c == 0x28:  # (comment)
            end = value.find(b")", at) + 1 or len(value)
            piece = value[at:end]
            if not piece.isascii():
                piece = b"(" + encoded(piece[1:].rstrip(b")").replace(b"\n", b"")) + b")"
        else:
            end = at + 1
            while end < len(value) and value[end] not in b'<"(,;:':
                end += 1
            piece = value[at:end]
            if not piece.isascii() and b"@" not in piece:
                lead = len(piece) - len(piece.lstrip())
                text = piece.strip()
                tail = piece[lead + len(text) :]
                piece = piece[:lead] + encoded(text.replace(b"\n", b"")) + tail
        if piece.endswith(b"?=") and value[end : end + 1] == b"<":
            piece += b" "  # an encoded word stands by itself (RFC 2047 5)
        out.append(piece)
        at = end
    return b"".join(out)


def _values(value: bytes) -> bytes:
    """A field with parameters, those that are not ASCII in RFC 2231's form."""
    out: list[bytes] = []
    done = 0
    for _, start, end in parameters(value):
        text = value[start:end]
        if text.isascii():
            continue
        if text.startswith(b'"'):
            text = text[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
        try:
            text.decode("utf-8")
            charset = b"utf-8"
        except UnicodeDecodeError:
            charset = b"unknown-8bit"
        percent = b"".join(b"%c" % c if (chr(c).isalnum() and c < 0x80) or c in b"-._" else b"%%%02X" % c for c in text)
        equals = value.rindex(b"=", done, start)
        out += [value[done:equals].rstrip(), b"*=", charset, b"''", percent]
        done = end
    return b"".join(out) + value[done:]


# ---------------------------------------------------------------- folding


def _folded(line: bytes, name: bytes) -> bytes:
    """One line of a field in pieces of at most LONGEST bytes."""
    out: list[bytes] = []
    while len(line) > LONGEST:
        at = _break(line, name)
        if at:
            out.append(line[:at])
            line = line[at:] if line[at] in b" \t" else b" " + line[at:]
        elif name in _STRUCTURED:
            out.append(line[:_TARGET])
            line = b" " + line[_TARGET:]
        else:
            return b"\n".join([*out, _encoded_text(line)])
    return b"\n".join([*out, line])


def _break(line: bytes, name: bytes) -> int:
    """Where the rest of the line may start, 0 when nowhere."""
    start = line.find(b":") + 1 if line[:1] not in (b" ", b"\t") else 0
    first = start + len(line[start:]) - len(line[start:].lstrip(b" \t"))
    for limit in (_TARGET, LONGEST):
        at = max(line.rfind(b" ", first, limit), line.rfind(b"\t", first, limit))
        if name in _ADDRESSES:
            at = max(at, line.rfind(b",", first, limit - 1) + 1)
        if at > first:
            return at
    return 0


def _encoded_text(line: bytes) -> bytes:
    """Free text without a blank to fold at: as encoded words, one a line."""
    name, colon, value = line.partition(b":") if line[:1] not in (b" ", b"\t") else (b"", b"", line)
    return name + colon + b" " + encoded(value.strip(b" \t")).replace(b" ", b"\n ")
