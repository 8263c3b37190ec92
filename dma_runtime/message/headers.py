"""The header of a message that is being submitted: found, read, completed.

Rules:
- Leading `From ` and `>From ` lines (mbox separators some programs leave) are dropped, as C dma does, but for those longer
  than 900 bytes, which are none; so is a byte order mark in front of a field (some editors' files).
- A field is a name of printable ASCII and a colon, with its continuation lines (RFC 5322 2.2, 4.5 for blanks before the
  colon). The header ends at an empty line, or at the first line that is no field: then the empty line was missing, and
  it is put in. A message may have no header at all.
- Bcc, Resent-Bcc, Return-Path and Content-Length never leave, with or without -t, folded lines included (RFC 5322 3.6.3,
  RFC 5321 4.4; Postfix message_drop_headers).
- A Received field is put on top (RFC 5321 4.4). Missing Date, Message-Id and From are added at the end, in this order, as
  C dma does; for a resent message their Resent- forms, on top of the block (RFC 5322 3.6.6).
- Addresses without a domain get the mail name. From and Sender that are this machine's own are rewritten as MASQUERADE
  says, every From with REWRITEFROM; the original is kept as X-Original-From.
- With a DKIM-Signature no field that is there is rewritten, and none that the signature covers is added (RFC 6376 5.4.2).

Raises DataError when the header is larger than it may be or an address in it cannot be one. Pure: clock and dice are
arguments. Built-in modules only.
"""

from __future__ import annotations

from dma_runtime import address
from dma_runtime.errors import DataError
from dma_runtime.policy.sender import is_own, masqueraded
from dma_runtime.shown import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST = 16 << 20  # bytes of header; it is held in memory
LARGEST_SHARED = 1 << 20  # of a daemon that works for everybody, where a line counts for what it takes to hold it:
_LINE_COSTS = 48
_LOOK = 900  # a field's colon must come within this many bytes: no line can hold a longer name (RFC 5322 2.1.1)

_BOM = "\ufeff".encode()
_NAME = bytes(c for c in range(33, 127) if c != 0x3A)
_DROPPED = (b"bcc", b"resent-bcc", b"return-path", b"content-length")
_WITH_ADDRESSES = (
    b"from", b"sender", b"reply-to", b"to", b"cc", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc",
)  # fmt: skip
_OURS = (b"from", b"sender", b"resent-from", b"resent-sender")  # rewritten by MASQUERADE when they are this machine's own


class Field:
    """One field. `name` is lower case; `raw` its lines as they are, without the last line end."""

    __slots__ = ("name", "raw")

    def __init__(self, name: bytes, raw: bytes) -> None:
        self.name = name
        self.raw = raw

    @property
    def value(self) -> bytes:
        """What stands behind the colon, folding and all."""
        return self.raw[self.raw.index(b":") + 1 :]

    def __repr__(self) -> str:
        return f"Field({self.raw!r})"


# ---------------------------------------------------------------- reading


def field_name(line: bytes) -> bytes:
    """The lower-case name of the field a line starts, b"" when it starts none."""
    name, colon, _ = line[:_LOOK].partition(b":")
    name = name.rstrip(b" \t")
    return name.lower() if colon and name and not name.translate(None, _NAME) else b""


class _Lines:
    """Lines of what `more()` gives. `rest` is what follows the line last taken; `give_back` undoes the last taking."""

    __slots__ = ("_at", "_data", "_ended", "_largest", "_line_costs", "_more", "_start", "total")

    def __init__(self, more: Callable[[], bytes], shared: bool) -> None:
        self._more = more
        self._largest, self._line_costs = (LARGEST_SHARED, _LINE_COSTS) if shared else (LARGEST, 0)
        self._data = b""
        self._ended = False
        self._at = 0
        self._start = 0
        self.total = 0

    def take(self) -> bytes | None:
        """The next line without its end, None behind the last. A long one that starts no field may come in part."""
        seen = self._start = self._at
        while (end := self._data.find(b"\n", seen)) < 0:
            waiting = len(self._data) - self._start
            if waiting > _LOOK and not self._may_be_header():
                break
            if self.total + waiting > self._largest:
                raise _too_large(self._largest)
            more = self._as_much_again(waiting)
            if not more:
                break
            self._data = self._data[self._start :] + more
            self._start, seen = 0, waiting
        if end < 0:
            end = len(self._data)
            if end == self._start:
                return None
        self._at = min(end + 1, len(self._data))
        self.total += end + 1 - self._start + self._line_costs
        if self.total > self._largest:
            raise _too_large(self._largest)
        return self._data[self._start : end]

    def _as_much_again(self, waiting: int) -> bytes:
        """What comes next, up to a line end; so much that joining it costs no more than the line is long, however small the
        pieces are that it comes in."""
        pieces: list[bytes] = []
        size = 0
        while not self._ended and (not pieces or size < waiting):
            piece = self._more()
            self._ended = not piece
            pieces.append(piece)
            size += len(piece)
            if b"\n" in piece:
                break
        return b"".join(pieces)

    def _may_be_header(self) -> bool:
        start = self._data[self._start : self._start + _LOOK].removeprefix(_BOM)
        return start[:1] in (b" ", b"\t") or bool(field_name(start))

    def give_back(self) -> None:
        self._at = self._start

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]


def _too_large(largest: int) -> DataError:
    return DataError(f"the header is larger than {largest >> 20} MB")


def read(more: Callable[[], bytes], *, shared: bool = False) -> tuple[list[Field], bytes]:
    """The fields of the header, and what was read of the body. `more()` gives LF bytes, b"" at the end. `shared`: in a process
    that others use too, and whose memory is theirs. Raises DataError."""
    lines = _Lines(more, shared)
    fields: list[Field] = []
    parts: list[bytes] = []
    while line := lines.take():  # an empty line ends the header, and so does the end
        if not fields and line.startswith(_BOM) and field_name(line[len(_BOM) :]):
            line = line[len(_BOM) :]
        if line[0] in b" \t" and parts:
            parts.append(line)
        elif name := field_name(line):
            _close(fields, parts)
            parts = [line]
            fields.append(Field(name, b""))
        elif not fields and line.startswith((b"From ", b">From ")) and len(line) <= _LOOK:
            continue  # a longer line is no separator, and may have come in part
        else:
            lines.give_back()  # the empty line was missing
            break
    _close(fields, parts)
    return fields, lines.rest


def _close(fields: list[Field], parts: list[bytes]) -> None:
    """The last field is complete."""
    if parts:
        fields[-1].raw = b"\n".join(parts)


# ---------------------------------------------------------------- recipients


def recipients(fields: list[Field]) -> list[str]:
    """Whom -t sends to: To, Cc and Bcc, or for a resent message the Resent- ones of its newest block (RFC 5322 3.6.6)."""
    block = resent_block(fields)
    wanted = (b"resent-to", b"resent-cc", b"resent-bcc") if block else (b"to", b"cc", b"bcc")
    return [found for field in block or fields if field.name in wanted for found in address.addresses(field.value)]


def tls_optional(fields: list[Field]) -> bool:
    """Whether the message says `TLS-Required: No' (RFC 8689 3): one such field, and nothing else in it."""
    said = [field.value.strip().lower() for field in fields if field.name == b"tls-required"]
    return said == [b"no"]


def resent_block(fields: list[Field]) -> list[Field]:
    """The newest group of Resent- fields; empty for a message that was not resent.

    Each resending puts its group on top; a repeated name, or a trace field in between, starts an older one.
    """
    block: list[Field] = []
    names: set[bytes] = set()
    for field in fields:
        if field.name.startswith(b"resent-"):
            if field.name in names:
                break
            names.add(field.name)
            block.append(field)
        elif block and field.name in (b"received", b"return-path"):
            break
    return block


# ---------------------------------------------------------------- completing


class Facts:
    """What the header is completed with.

    id: the message's. sender: the envelope's, "" null. login, uid: the caller's. mailname, hostname: ours. version: the
    program's. full_name: that of -F, "" none. warning: for X-Authentication-Warning, "" none. author: whom a missing From
    names, None the sender. message_id: for a message without one, "" makes a new one. now: seconds since the epoch; dice:
    os.urandom. stamp: RFC 5322 date of now.
    """

    __slots__ = (
        "author", "dice", "full_name", "hide_user", "hostname", "id", "login", "mailname", "masquerade", "message_id", "now",
        "rewrite_from", "sender", "stamp", "uid", "version", "warning",
    )  # fmt: skip

    def __init__(self, *, id: str, sender: str, mailname: str, hostname: str, now: float, stamp: str) -> None:
        self.id = id
        self.sender = sender
        self.author: str | None = None
        self.message_id = ""
        self.mailname = mailname
        self.hostname = hostname
        self.now = now
        self.stamp = stamp
        self.login = ""
        self.uid = 0
        self.version = ""
        self.full_name = ""
        self.warning = ""
        self.hide_user = False
        self.masquerade: tuple[str, str] | None = None
        self.rewrite_from = False
        self.dice: Callable[[int], bytes] = bytes


def complete(fields: list[Field], facts: Facts) -> tuple[bytes, str]:
    """(the header with its line ends, without the empty line; the Message-Id with its angle brackets).

    Raises DataError for an address with a control character in it.
    """
    signed = _signed(fields)
    out = [received(facts)]
    if facts.warning:
        out.append(f"X-Authentication-Warning: {facts.hostname}: {shown(facts.warning, 300)}".encode())
    present: dict[bytes, Field] = {}
    block = resent_block(fields)
    for field in fields:
        if field.name in _DROPPED:
            continue
        if field.name in (b"date", b"from", b"message-id") and not field.value.strip() and field.name not in (signed or ()):
            continue  # empty: as good as missing
        if block and field is block[0]:
            out += _missing_resent(block, facts)
        present.setdefault(field.name, field)
        if field.name in _WITH_ADDRESSES:
            _check(field)
            if signed is None:
                out += _rewritten(field, facts)
                continue
        out.append(field.raw)
    signed = signed or ()
    if b"date" not in present and b"date" not in signed:
        out.append(b"Date: " + facts.stamp.encode())
    message_id = _shown_id(present[b"message-id"]) if b"message-id" in present else ""
    if b"message-id" not in present and b"message-id" not in signed:
        message_id = facts.message_id or _new_message_id(facts)
        out.append(b"Message-Id: " + message_id.encode())
    if b"from" not in present:
        out.append(b"From: " + _author(facts))
    out.append(b"")
    return b"\n".join(out), message_id


def _check(field: Field) -> None:
    """An address that could become part of a command or of a line of ours must not carry controls."""
    if b"\0" in field.raw or b"\r" in field.raw:
        for found in address.addresses(field.value):
            if any(c in found for c in "\0\r"):
                raise DataError(f"invalid address in header: `{shown(found, 100)}': {address.CONTROL}")


def received(facts: Facts) -> bytes:
    """The trace field (RFC 5321 4.4): `from … by … with … id …; date`, with C dma's words for who it was."""
    who = "localhost" if facts.hide_user else f"{_atom(facts.login)} (uid {facts.uid})"
    version = f"dma {facts.version} on {facts.hostname}"
    sender = facts.sender
    if not sender.isascii():
        from dma_runtime.policy.exchangers import ascii_domain  # for few, and nothing a submission should pay for

        sender = ascii_domain(sender)
    return (
        f"Received: from {who}\n\tby {facts.mailname} ({version})\n\twith local id {facts.id}\n"
        f"\t(envelope-from <{_in_comment(sender)}>);\n\t{facts.stamp}"
    ).encode("utf-8", "surrogateescape")


def _atom(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "_" for c in text) or "unknown"


def _in_comment(text: str) -> str:
    return "".join("\\" + c if c in "()\\" else c for c in text)


def date(local: tuple[int, ...], offset: int) -> str:
    """RFC 5322 3.3, from the first seven of time.localtime's figures and its tm_gmtoff in seconds."""
    year, month, day, hour, minute, second, weekday = local
    sign, minutes = ("-", -offset // 60) if offset < 0 else ("+", offset // 60)
    return (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year} {hour:02}:{minute:02}:{second:02}"
        f" {sign}{minutes // 60:02}{minutes % 60:02}"
    )


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _new_message_id(facts: Facts) -> str:
    return f"<{int(facts.now):x}.{facts.id}.{facts.dice(4).hex()}@{facts.mailname}>"


def _shown_id(field: Field) -> str:
    return shown(address.from_bytes(b" ".join(field.value.split())), 250)


def _author(facts: Facts) -> bytes:
    """The value of a From that was missing: the sender, with the name of -F."""
    author = facts.sender if facts.author is None else facts.author
    mailbox = address.to_wire(author or f"MAILER-DAEMON@{facts.mailname}")
    name = _phrase(facts.full_name)
    if not name:
        return b"<" + mailbox + b">"
    return name + (b"\n <" if b"\n" in name else b" <") + mailbox + b">"


def _phrase(name: str) -> bytes:
    """A display name: as it is, quoted, or encoded (RFC 2047) when it is not ASCII. Controls become blanks."""
    flat = " ".join("".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else " " for c in name).split())
    if not flat.isascii():
        import binascii

        data = flat.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        words, word = [], ""
        for c in data:  # an encoded word is at most 75 characters (RFC 2047 2), its line 76 with the field's name
            if len((word + c).encode()) > 39:
                words.append(word)
                word = ""
            word += c
        words.append(word)
        return b"\n ".join(b"=?utf-8?B?" + binascii.b2a_base64(w.encode(), newline=False) + b"?=" for w in words)
    if all(c.isalnum() or c in "!#$%&'*+-/=?^_`{|}~ " for c in flat) and "=?" not in flat:
        return flat.encode()
    return b'"' + flat.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


def _missing_resent(block: list[Field], facts: Facts) -> list[bytes]:
    """What a resent message must have and has not (RFC 5322 3.6.6), on top of its block."""
    have = [field.name for field in block]
    out = []
    if b"resent-date" not in have:
        out.append(b"Resent-Date: " + facts.stamp.encode())
    if b"resent-message-id" not in have:
        out.append(b"Resent-Message-Id: " + _new_message_id(facts).encode())
    if b"resent-from" not in have:
        out.append(b"Resent-From: " + _author(facts))
    return out


# ---------------------------------------------------------------- rewriting


def _rewritten(field: Field, facts: Facts) -> list[bytes]:
    """The field with its addresses made complete and masqueraded, and the original when that changed who wrote."""
    spans = address.scan(field.value) if _may_change(field, facts) else []
    value = field.value
    head = field.raw[: len(field.raw) - len(value)]
    pieces: list[bytes] = []
    done = 0
    changed = False
    for span in spans:
        local, domain = address.split(span.address)
        new = span.address
        if address.fault(new):
            continue
        own = is_own(domain, facts.mailname, facts.hostname)
        if field.name in _OURS and facts.masquerade and (own or (facts.rewrite_from and field.name == b"from")):
            new = masqueraded(f"{local}@{domain or facts.mailname}", facts.masquerade)
            changed = changed or new != span.address
        elif not domain:
            new = f"{local}@{facts.mailname}"
        if new != span.address:
            pieces += [value[done : span.start], address.to_wire(new)]
            done = span.end
    if not pieces:
        return [field.raw]
    out = [head + b"".join(pieces) + value[done:]]
    if changed and field.name == b"from":
        out.append(b"X-Original-From:" + value)
    return out


def _may_change(field: Field, facts: Facts) -> bool:
    """Cheaply: whether any address of the field could be bare or ours."""
    if field.name in _OURS and facts.masquerade:
        return True
    value = field.value
    return value.count(b"@") < value.count(b",") + 1 or any(c in value for c in b'"(<:;')


def _signed(fields: list[Field]) -> tuple[bytes, ...] | None:
    """The names of the fields that a DKIM-Signature covers; None when there is none."""
    found: list[bytes] = []
    any_signature = False
    for field in fields:
        if field.name == b"dkim-signature":
            any_signature = True
            for tag in field.value.split(b";"):
                name, _, value = tag.partition(b"=")
                if name.strip() == b"h":
                    found += [part.strip().lower() for part in value.split(b":")]
    return tuple(found) if any_signature else None
