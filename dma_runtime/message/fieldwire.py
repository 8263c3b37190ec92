"""Header fields made fit for the wire: lines of at most 998 bytes, no NUL and no bare CR, ASCII where the relay asks for it.

Rules:
- A field that is fit goes out byte for byte.
- A long line is folded at a blank (RFC 5322 2.2.3: unfolding gives it back), in lists also behind a comma.
- What is not ASCII becomes encoded words (RFC 2047) where those may stand: in free text, in display names and in comments;
  parameters become RFC 2231's. The same for free text that no blank lets fold.
- Addresses themselves are never encoded, but a domain has its A-labels (RFC 5890) instead of what is not ASCII, as on the
  envelope. In an address a control becomes a blank.
"""

from __future__ import annotations

import binascii
import re

from dma_runtime import address
from dma_runtime.message.headers import Field
from dma_runtime.message.mime import parameters
from dma_runtime.policy.exchangers import ascii_domain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 998  # bytes of a line, RFC 5321 4.5.3.1.6 and RFC 5322 2.1.1
_TARGET = 900  # where long lines are folded
_BLANKS = b" \t\n"
_RUNS = re.compile(rb"[ \t\n]+|[^ \t\n]+")  # of blanks and of other bytes, by turns
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
        name, colon, value = raw.partition(b":")
        room = LONGEST - 2 - len(name)
        if field.name not in _STRUCTURED and any(len(word) > room for word in value.split()):
            raw = name + colon + _words(value, lambda word: len(word) > room)
        raw = b"\n".join(_folded(line, field.name) for line in raw.split(b"\n"))
    if raw is not field.raw:
        raw = b"\n".join(line for line in raw.split(b"\n") if line.strip())  # a header ends at a blank line for some
    return raw


def _without_controls(field: Field) -> bytes:
    raw = b"\n".join(line.rstrip(b"\r") for line in field.raw.split(b"\n"))
    if field.name not in _STRUCTURED:
        name, colon, value = raw.partition(b":")
        return name + colon + _words(value, lambda word: b"\0" in word or b"\r" in word)
    return raw.replace(b"\0", b" ").replace(b"\r", b" ")


def _ascii(name: bytes, raw: bytes) -> bytes:
    head, colon, value = raw.partition(b":")
    if name in _ADDRESSES:
        return head + colon + _domains(_names(value))
    if name in _PARAMETERS:
        return head + colon + _values(value)
    if name in _STRUCTURED:
        return raw  # nothing may be encoded in it
    return head + colon + _words(value, lambda word: not word.isascii())


# ---------------------------------------------------------------- encoded words


def encoded(text: bytes) -> bytes:
    """Encoded words for `text`, parted by blanks, which a reader drops (RFC 2047 6.2)."""
    charset = _charset(text)
    words: list[bytes] = []
    at = 0
    while at < len(text):
        end = at + _WORD
        while charset == b"utf-8" and end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1  # a character is never split between words (RFC 2047 5)
        words.append(text[at:end])
        at = end
    return b" ".join(b"=?" + charset + b"?B?" + binascii.b2a_base64(w, newline=False) + b"?=" for w in words)


def _charset(text: bytes) -> bytes:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return b"unknown-8bit"
    return b"utf-8"


def _words(value: bytes, needs: Callable[[bytes], bool]) -> bytes:
    """Free text with what needs it encoded: from the first such word to the last, but encoded words that are there stay."""
    out: list[bytes] = []
    run: list[bytes] = []  # words and the blanks between them
    behind_word = False
    for piece in [*_RUNS.findall(value), b""]:
        if piece and not _is_word(piece):
            run.append(piece)
            continue
        marked = [at for at, one in enumerate(run) if one.strip(_BLANKS) and needs(one)]
        if marked:
            first, last = marked[0], marked[-1] + 1
            before, text, behind = b"".join(run[:first]), b"".join(run[first:last]), b"".join(run[last:])
            # A reader drops the blanks between two encoded words: one that is text has to be in them.
            text = (b" " if behind_word and not before.strip(_BLANKS) else b"") + text
            text += b" " if piece and not behind.strip(_BLANKS) else b""
            run = [before, encoded(_flat(text)), behind]
        out += [*run, piece]
        run, behind_word = [], True
    return b"".join(out)


def _is_word(piece: bytes) -> bool:
    """Whether it is an encoded word (RFC 2047 2)."""
    return piece.startswith(b"=?") and piece.endswith(b"?=") and piece.count(b"?") == 4


def _flat(text: bytes) -> bytes:
    """Unfolded (RFC 5322 2.2.3)."""
    return text.replace(b"\n", b"")


# What an address field is made of here: what may be part of a display name, and what ends or interrupts one.
_TEXT, _QUOTED, _COMMENT, _ANGLE, _SEPARATOR = range(5)


def _names(value: bytes) -> bytes:
    """An address field with its display names, group names and comments encoded. What may be an address stays."""
    edits: list[tuple[int, int, bytes]] = []
    item: list[tuple[int, int, int]] = []  # tokens since the last separator
    for kind, start, end in [*_tokens(value), (_SEPARATOR, len(value), len(value))]:
        if kind == _COMMENT:
            if not value[start:end].isascii():
                inner = value[start + 1 : end - 1] if value[end - 1 : end] == b")" else value[start + 1 : end]
                edits.append((start, end, b"(" + encoded(_flat(address.without_pairs(inner))) + b")"))
            item.append((kind, start, end))
        elif kind in (_TEXT, _QUOTED):
            item.append((kind, start, end))
        else:
            # In front of an angle bracket or of a group's colon everything is a name; else what has no `@`.
            if kind == _ANGLE or value[start:end] == b":" or not any(value[at:to] == b"@" for _, at, to in item):
                edits += _encoded_names(value, item)
            item = []
    out: list[bytes] = []
    done = 0
    for start, end, text in sorted(edits):
        # An encoded word stands by itself (RFC 2047 5).
        before = b"" if text.startswith(b"(") or value[max(done, start - 1) : start] in (b" ", b"\t") else b" "
        behind = b"" if text.startswith(b"(") or value[end : end + 1] in (b"", b" ", b"\t", b"\n") else b" "
        out += [value[done:start], before, text, behind]
        done = end
    return b"".join(out) + value[done:]


def _domains(value: bytes) -> bytes:
    """The addresses of the field with A-labels, where nothing else is beyond ASCII in them."""
    if value.isascii():
        return value
    out: list[bytes] = []
    done = 0
    for span in address.scan(value):
        plain = ascii_domain(span.address)
        if plain != span.address:
            out += [value[done : span.start], address.to_wire(plain)]
            done = span.end
    return b"".join(out) + value[done:]


def _tokens(value: bytes) -> list[tuple[int, int, int]]:
    """(kind, start, end) of what is no blank. The `@` is a word of its own."""
    found: list[tuple[int, int, int]] = []
    at, length = 0, len(value)
    while at < length:
        c = value[at]
        if c in b" \t\n":
            at += 1
            continue
        end = at + 1
        if c == 0x28:  # (
            kind, end = _COMMENT, address.comment_end(value, at)
        elif c == 0x22:  # "
            kind, end = _QUOTED, address.quoted_end(value, at)
        elif c == 0x3C:  # <
            kind, end = _ANGLE, address.angle_end(value, at)
        elif c in b",;:":
            kind = _SEPARATOR
        else:
            kind = _TEXT
            while c != 0x40 and end < length and value[end] not in b' \t\n"(<,;:@':
                end += 1
        found.append((kind, at, end))
        at = end
    return found


def _encoded_names(value: bytes, item: list[tuple[int, int, int]]) -> list[tuple[int, int, bytes]]:
    """The runs of words that are not ASCII, from the first such word to the last; comments and encoded words part them."""
    edits: list[tuple[int, int, bytes]] = []
    run: list[tuple[int, int, int]] = []
    behind_word = False
    for token in [*item, (_COMMENT, 0, 0)]:
        is_word = _is_word(value[token[1] : token[2]])
        if token[0] != _COMMENT and not is_word:
            run.append(token)
            continue
        marked = [n for n, (_, start, end) in enumerate(run) if not value[start:end].isascii()]
        if marked and any(value[start:end] == b"@" for _, start, end in run):
            marked = [0, len(run) - 1]  # half an address must not be left over
        if marked:
            text = b" " if behind_word and not marked[0] else b""  # see `_words`
            first = done = run[marked[0]][1]
            for token in run[marked[0] : marked[-1] + 1]:
                text += value[done : token[1]] + _said(value, token)
                done = token[2]
            text += b" " if is_word and marked[-1] + 1 == len(run) else b""
            edits.append((first, done, encoded(_flat(text))))
        run, behind_word = [], is_word
    return edits


def _said(value: bytes, token: tuple[int, int, int]) -> bytes:
    """What a word or a quoted string of a phrase says."""
    kind, start, end = token
    word = value[start:end]
    if kind == _QUOTED:
        word = address.without_pairs(word[1:-1] if end - start > 1 and word.endswith(b'"') else word[1:])
    return word


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
        charset = _charset(text)
        percent = b"".join(b"%c" % c if (chr(c).isalnum() and c < 0x80) or c in b"-._" else b"%%%02X" % c for c in text)
        equals = value.rindex(b"=", done, start)
        out += [value[done:equals].rstrip(), b"*=", charset, b"''", percent]
        done = end
    return b"".join(out) + value[done:]


# ---------------------------------------------------------------- folding


def _folded(line: bytes, name: bytes) -> bytes:
    """One line of a field in pieces of at most LONGEST bytes."""
    out: list[bytes] = []
    line = line.rstrip(b" \t")
    lead, at = b"", 0  # the piece that is being made: `lead`, and what stands from `at` on
    while len(lead) + len(line) - at > LONGEST:
        start = line.index(b":") + 1 if not at and line[:1] not in (b" ", b"\t") else at
        first = start
        while line[first] in b" \t":
            first += 1
        to = _break(line, first, at - len(lead), name)
        if not to and not lead and first - start > 1:
            lead, at = line[at:start] + b" ", first  # blanks that leave no room for anything else
            continue
        to = to or at + _TARGET - len(lead)
        out.append(lead + line[at:to])
        lead, at = b"" if line[to] in b" \t" else b" ", to
    return b"\n".join([*out, lead + line[at:]])


def _break(line: bytes, first: int, zero: int, name: bytes) -> int:
    """Where the rest of the line may start, behind `first`; 0 when nowhere. `zero`: where the piece starts."""
    for limit in (_TARGET, LONGEST):
        at = max(line.rfind(b" ", first, zero + limit), line.rfind(b"\t", first, zero + limit))
        if at <= first and name in _ADDRESSES:
            at = line.rfind(b",", first, zero + limit - 1) + 1
        if at > first:
            return at
    return 0
