"""Mail addresses: taken apart, checked, and found in the bytes of a header.

An address is a `str`: `local@domain`, or `local` alone for a name of this machine; "" is the null sender. Bytes that are
not UTF-8 are kept as surrogate escapes and go out as they came (`to_wire`).

`scan` is the tokenizer for address fields (RFC 5322 3.4 with the obsolete forms of 4.4): groups, comments, quoted strings,
routes, domain literals, missing commas, bare local names, UTF-8 (RFC 6532). It never raises: what cannot be an address is
handed out as it stands, and `fault` says what is wrong with it. Comments and quotes that do not end run to the end.

A control character in an address is refused everywhere (`fault`, `check_argument`): an address is part of SMTP's and of our
own lines. Limit: 512 bytes (RFC 5321 4.5.3.1.3 has 256; longer ones are seen in VERP). This file is on the submit path.
"""

from __future__ import annotations

from dma_runtime.errors import DataError
from dma_runtime.shown import shown

LONGEST = 512  # bytes
CONTROL = "control character in the address"

_SPECIALS = b'"(<\\[:;@,'
_BLANKS = b" \t\n"  # a bare CR is no blank but a control character, and refused
_TO_BLANK = bytes.maketrans(b"\t\n", b"  ")
# What may stand in a local part without quotes (RFC 5322 3.2.3 atext, and the dot); bytes above 127 also may (RFC 6532).
_ATOM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~."


def split(address: str) -> tuple[str, str]:
    """(local, domain). The domain is "" for a bare name. The last `@` outside quotes and brackets counts."""
    if '"' not in address:
        local, at, domain = address.rpartition("@")
        return (local, domain) if at else (address, "")
    end = address.rfind('"')
    local, at, domain = address[end:].rpartition("@")
    return (address[:end] + local, domain) if at else (address, "")


def to_wire(address: str) -> bytes:
    """The bytes for SMTP: UTF-8, and bytes that came in as surrogate escapes as they were."""
    return address.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def needs_smtputf8(address: str) -> bool:
    """Whether the address can only go to a server with SMTPUTF8 (RFC 6531)."""
    return not address.isascii()


def fault(address: str) -> str:
    """What is wrong with an address that is to be written in an SMTP command, "" when nothing is."""
    if not address:
        return "empty address"
    if any(c < " " or "\x7f" <= c <= "\x9f" for c in address):
        return CONTROL
    if len(to_wire(address)) > LONGEST:
        return f"address longer than {LONGEST} bytes"
    local, domain = split(address)
    if not local:
        return "nothing before the @"
    if local.startswith('"'):
        if quoted_end(to_wire(local), 0) != len(to_wire(local)) or not _closed(local):
            return "quote without an end"
    elif any(c in ' "<>(),;:\\[]' or (c == "@" and domain) for c in local):
        return "a special character needs quotes"
    if domain:
        if domain.startswith("["):
            if not domain.endswith("]") or len(domain) < 3 or any(c in ' <>()"' for c in domain):
                return "bad address literal"
        elif any(c in ' <>()",;:\\[]@' for c in domain) or ".." in domain or domain.startswith("."):
            return "bad domain"
    elif address.rstrip().endswith("@"):
        return "nothing after the @"
    return ""


def _closed(quoted: str) -> bool:
    """Whether the last character of a quoted string is the quote that ends it, and no quoted pair."""
    if len(quoted) < 2 or not quoted.endswith('"'):
        return False
    pairs = len(quoted[:-1]) - len(quoted[:-1].rstrip("\\"))
    return pairs % 2 == 0


def check_argument(text: str, what: str = "recipient") -> str:
    """One address of the command line, without its angle brackets; `<>` is "". Raises DataError."""
    found = text.strip(" \t")
    if found.startswith("<") and found.endswith(">"):
        found = found[1:-1].strip(" \t")
    if found and (why := fault(found)):
        raise DataError(f"invalid {what} `{shown(text, 100)}': {why}")
    return found


class Span:
    """An address in a field: its text, and the bytes `value[start:end]` that say it."""

    __slots__ = ("address", "end", "start")

    def __init__(self, address: str, start: int, end: int) -> None:
        self.address = address
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"Span({self.address!r}, {self.start}, {self.end})"


def addresses(value: bytes) -> list[str]:
    """The addresses of a header field's value, in their order. Empty ones (`<>`, empty groups) are left out."""
    if not any(c in value for c in b'"(<\\[:;'):
        return [from_bytes(word) for item in value.split(b",") for word in _plain(item)]
    return [span.address for span in scan(value)]


def _plain(item: bytes) -> list[bytes]:
    """A list item without any special character but `@`: several words are several addresses if each has an `@`."""
    words = [word for word in item.translate(_TO_BLANK).split(b" ") if word]
    if len(words) > 1 and all(0 < word.find(b"@") < len(word) - 1 for word in words):
        return words
    return [b" ".join(words)] if words and b"@" not in words else [b"".join(words)] if words else []


# ---------------------------------------------------------------- the tokenizer

# Kinds of token. An item of an address list is a run of tokens between separators.
_WORD, _QUOTED, _LITERAL, _ANGLE, _AT = range(5)


def scan(value: bytes) -> list[Span]:
    """The addresses of a field with their places. See the module's docstring."""
    found: list[Span] = []
    item: list[tuple[int, int, int]] = []  # (kind, start, end)
    at, length = 0, len(value)
    while at < length:
        c = value[at]
        if c in _BLANKS:
            at += 1
        elif c == 0x28:  # (
            at = comment_end(value, at)
        elif c == 0x22:  # "
            end = quoted_end(value, at)
            item.append((_QUOTED, at, end))
            at = end
        elif c == 0x5B:  # [
            end = value.find(b"]", at) + 1 or length
            item.append((_LITERAL, at, end))
            at = end
        elif c == 0x3C:  # <
            end = angle_end(value, at)
            item.append((_ANGLE, at, end))
            at = end
        elif c in b",;":
            _close(value, item, found)
            item = []
            at += 1
        elif c == 0x3A:  # `:` ends a group's name, which is no address
            item = []
            at += 1
        elif c == 0x40:  # @
            item.append((_AT, at, at + 1))
            at += 1
        else:
            end = at
            while end < length and value[end] not in b' \t\n"([<,;:@':
                end += 2 if value[end] == 0x5C else 1  # a backslash takes the next byte with it
            end = min(end, length)
            item.append((_WORD, at, end))
            at = end
    _close(value, item, found)
    return found


def comment_end(value: bytes, at: int) -> int:
    """Where the comment that starts at `at` ends; so the two below, for a quoted string and an angle bracket."""
    depth = 0
    while at < len(value):
        c = value[at]
        if c == 0x5C:
            at += 1
        elif c == 0x28:
            depth += 1
        elif c == 0x29:
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return len(value)


def quoted_end(value: bytes, at: int) -> int:
    at += 1
    while at < len(value):
        c = value[at]
        if c == 0x5C:
            at += 1
        elif c == 0x22:
            return at + 1
        at += 1
    return len(value)


def angle_end(value: bytes, at: int) -> int:
    while at < len(value):
        c = value[at]
        if c == 0x22:
            at = quoted_end(value, at)
        elif c == 0x28:
            at = comment_end(value, at)
        elif c == 0x3E:
            return at + 1
        else:
            at += 1
    return len(value)


def _close(value: bytes, item: list[tuple[int, int, int]], found: list[Span]) -> None:
    """One item is complete: `phrase <address>`, or addresses in a row."""
    angles = [n for n, token in enumerate(item) if token[0] == _ANGLE]
    if angles:
        for n in angles:
            _angle(value, item[n][1], item[n][2], found)
        item = item[angles[-1] + 1 :]  # what stands behind is an address only if it looks like one
        if not any(token[0] == _AT for token in item):
            return
    if item:
        _bare(value, item, found)


def _angle(value: bytes, start: int, end: int, found: list[Span]) -> None:
    """`<address>`, perhaps with a route in front (RFC 5322 4.4 obs-route)."""
    start += 1
    if value[end - 1 : end] == b">":
        end -= 1
    inner = value[start:end]
    if inner.lstrip(_BLANKS).startswith(b"@") and b":" in inner:
        start += inner.index(b":") + 1
        inner = value[start:end]
    text = _joined(inner)
    if text:
        lead = len(inner) - len(inner.lstrip(_BLANKS))
        found.append(Span(from_bytes(text), start + lead, start + len(inner.rstrip(_BLANKS))))


def _joined(inner: bytes) -> bytes:
    """The text of an address without comments and without blanks around its parts."""
    parts: list[bytes] = []
    at, gap = 0, False
    while at < len(inner):
        c = inner[at]
        if c in _BLANKS:
            at, gap = at + 1, True
            continue
        if c == 0x28:
            at, gap = comment_end(inner, at), True
            continue
        end = quoted_end(inner, at) if c == 0x22 else at + 1
        if c != 0x22:
            while end < len(inner) and inner[end] not in b' \t\n"(':
                end += 1
        piece = inner[at:end] if c != 0x22 else inner[at:end].replace(b"\n", b"")  # unfolded (RFC 5322 3.2.4)
        # Blanks may stand around dots and the @ (RFC 5322 4.4); elsewhere they part two words, which is no address.
        if gap and parts and piece[:1] not in (b".", b"@") and parts[-1][-1:] not in (b".", b"@"):
            parts.append(b" ")
        parts.append(piece)
        at, gap = end, False
    return _unquoted(b"".join(parts))


def _bare(value: bytes, item: list[tuple[int, int, int]], found: list[Span]) -> None:
    """Addresses without angle brackets. After `local@domain` a further word starts a new one."""
    start = 0
    seen_at = False
    last_at = max((n for n, token in enumerate(item) if token[0] == _AT), default=-1)
    for n, (kind, begin, _) in enumerate(item):
        if kind == _AT:
            seen_at = True
            continue
        if n > start and seen_at and item[n - 1][0] != _AT:
            # `a@b.c . d` goes on (RFC 5322 4.4); anything else behind a domain is the next address.
            dotted = value[begin : begin + 1] == b"." or value[item[n - 1][2] - 1 : item[n - 1][2]] == b"."
            if not dotted and begin > item[n - 1][2] and last_at > n:
                _one(value, item[start:n], found)
                start, seen_at = n, False
    _one(value, item[start:], found)


def _one(value: bytes, item: list[tuple[int, int, int]], found: list[Span]) -> None:
    start, end = item[0][1], item[-1][2]
    text = _joined(value[start:end])
    if text:
        found.append(Span(from_bytes(text), start, end))


def _unquoted(text: bytes) -> bytes:
    """`"plain"@x` is `plain@x` (RFC 5322 3.4.1: quote only where needed); pairs in a quoted local part lose no meaning."""
    if not text.startswith(b'"'):
        return text
    end = quoted_end(text, 0)
    inner, rest = text[1 : end - 1], text[end:]
    if end < 2 or text[end - 1 : end] != b'"' or (rest and not rest.startswith(b"@")):
        return text
    plain = without_pairs(inner)
    if plain and not plain.startswith(b".") and not plain.endswith(b".") and b".." not in plain:
        if all(c >= 0x80 or chr(c) in _ATOM for c in plain):
            return plain + rest
    return text


def without_pairs(inner: bytes) -> bytes:
    """The text that a backslash before a character stands for (RFC 5322 3.2.1)."""
    if b"\\" not in inner:
        return inner
    out = bytearray()
    at = 0
    while at < len(inner):
        if inner[at] == 0x5C and at + 1 < len(inner):
            at += 1
        out.append(inner[at])
        at += 1
    return bytes(out)
