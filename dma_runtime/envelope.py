"""The envelope: who sent a message, who is to get it, and what has become of that so far.

The envelope is written once, with the message, as one JSON object on line 1 of `queue/<id>`; what happens later is a
list of events in `log/<id>`, one JSON object a line. The present state is `fold(envelope, events)`: pure and replayable.

The folding is in `history`; this file holds the value and line 1 (`encode`, `decode`).

Addresses are `str`; bytes of the command line that are not UTF-8 are kept as surrogate escapes, and go out as they came.

Line 1 is ASCII, ends in a line end, and is padded with blanks in steps of 256 bytes, so that it can be written again in
place when the message has been read and its numbers are known. A line of a later version, without a needed key, or with
a value of the wrong kind raises BrokenMessage; keys that are not known are passed over. This file is on the submit path.
"""

from __future__ import annotations

from dma_runtime.errors import BrokenMessage

VERSION = 1
REQUIRE, OPTIONAL = "require", "optional"  # what a message may want of TLS
STEP = 256  # line 1 is padded to a multiple of this


class Recipient:
    """`address` is where the mail goes; `original` what was asked for before aliases (RFC 3461 ORCPT), often the same.

    `refused`: why it was not accepted at submission, "" for a good one. Such a recipient is never tried, only reported.
    `notify`: what the sender asked to be told of, `never` or a list of `success,failure,delay`, "" when nothing was said
    (RFC 3461 4.1). `orcpt`: the original recipient as it was given to us, `type;address`, "" when it was not.
    """

    __slots__ = ("address", "notify", "orcpt", "original", "refused")

    def __init__(self, address: str, original: str = "", refused: str = "", notify: str = "", orcpt: str = "") -> None:
        self.address = address
        self.original = original or address
        self.refused = refused
        self.notify = notify
        self.orcpt = orcpt

    @property
    def named(self) -> str:
        """The address for lists and reports. A command or file (`aliases.as_address`) is its owner's affair: who that is, or
        for one of the aliases what was asked for."""
        user, blank, _ = self.address[1:].partition(" ")
        return (user or self.original) if blank and self.address[0] in "|>" else self.address

    def asks(self, event: str) -> bool:
        """Whether the sender wants to hear of `success`, `failure` or `delay`. Who said nothing hears of the last two."""
        return event in (self.notify.split(",") if self.notify else ("failure", "delay"))  # RFC 3461 4.1

    def __repr__(self) -> str:
        return f"Recipient({self.address!r}, {self.original!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipient) and all(getattr(other, n) == getattr(self, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # compared, never a key


class Envelope:
    """All that is known when the message is accepted. Immutable from then on."""

    __slots__ = (
        "accepted_at",  # seconds since the epoch, wall clock
        "boot",  # which boot of the machine `up` belongs to, "" when not known
        "bounce_of",  # id of the message this one reports on, "" for ordinary mail
        "envid",  # the sender's own name for this sending, for reports (RFC 3461 4.4), "" without
        "has_8bit",  # some byte of the message is above 127
        "has_nul",
        "header_end",  # length of the header in bytes, without the empty line behind it
        "id",
        "login",  # of the submitter
        "longest_line",  # bytes, without the line end
        "message_id",  # the header field with its angle brackets, for the log
        "queue_only",  # asked for with -bq: waits until somebody runs the queue
        "recipients",
        "ret",  # what a report returns: `full`, `hdrs`, or "" when the sender said nothing (RFC 3461 4.3)
        "sender",  # "" is the null sender
        "size",  # bytes of the message, LF line ends, line 1 not counted
        "tls",  # REQUIRE: no hop without TLS (RFC 8689), OPTIONAL: it says `TLS-Required: No', "" when nothing was said
        "uid",  # of the submitter
        "up",  # CLOCK_BOOTTIME at acceptance, in seconds: tells age from a wall clock that jumped
        "version",
    )

    def __init__(self, id: str, sender: str, recipients: list[Recipient], accepted_at: float) -> None:
        self.version = VERSION
        self.id = id
        self.sender = sender
        self.recipients = recipients
        self.accepted_at = accepted_at
        self.uid = 0
        self.login = ""
        self.message_id = ""
        self.bounce_of = ""
        self.size = 0
        self.header_end = 0
        self.has_8bit = False
        self.has_nul = False
        self.longest_line = 0
        self.up = 0.0
        self.boot = ""
        self.queue_only = False
        self.ret = ""
        self.envid = ""
        self.tls = ""

    def __repr__(self) -> str:
        return f"Envelope({self.id}, <{self.sender}> -> {[r.address for r in self.recipients]})"


class Moment:
    """A reading of the clocks, all in seconds: `wall` since the epoch, `up` since boot (CLOCK_BOOTTIME, suspend counted),
    `awake` since boot (CLOCK_MONOTONIC, suspend not counted). `boot` names the boot `up` and `awake` belong to, "" unknown.
    """

    __slots__ = ("awake", "boot", "up", "wall")

    def __init__(self, wall: float, up: float = 0.0, awake: float = 0.0, boot: str = "") -> None:
        self.wall = wall
        self.up = up
        self.awake = awake
        self.boot = boot

    def __repr__(self) -> str:
        return f"Moment({self.wall:.3f}, up {self.up:.3f}, awake {self.awake:.3f}, boot {self.boot!r})"


# ---------------------------------------------------------------- line 1


def reserved(envelope: Envelope) -> int:
    """Bytes to keep for line 1 while the numbers known only after the body are still missing."""
    # The three sizes may grow to 15 digits, the two times to 20, the boot has 8; `false` is the longer boolean.
    return -(-(len(encode(envelope)) + 3 * 15 + 2 * 20 + 8) // STEP) * STEP


def text(value: str) -> str:
    """A JSON string in ASCII."""
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    # `import json` costs 5.8 ms on the bare path, this 0.3 (hard-parts.md, Spool).
    from _json import encode_basestring_ascii

    return encode_basestring_ascii(value)


def encode(envelope: Envelope, length: int = 0) -> bytes:
    """Line 1 with its line end, padded to `length` bytes (0: not padded). Raises ValueError when it does not fit."""
    recipients = ",".join(
        f"[{text(r.address)},{text(r.original)},{text(r.refused)}]" if r.refused
        else f"[{text(r.address)}]" if r.original == r.address
        else f"[{text(r.address)},{text(r.original)}]"
        for r in envelope.recipients
    )  # fmt: skip
    queue_only = ',"queue_only":true' if envelope.queue_only else ""
    line = (
        f'{{"v":{envelope.version},"id":{text(envelope.id)},"sender":{text(envelope.sender)},"recipients":[{recipients}]'
        f',"accepted_at":{float(envelope.accepted_at)!r},"up":{float(envelope.up)!r},"boot":{text(envelope.boot)}'
        f',"uid":{int(envelope.uid)},"login":{text(envelope.login)},"message_id":{text(envelope.message_id)}'
        f',"bounce_of":{text(envelope.bounce_of)},"size":{int(envelope.size)},"header_end":{int(envelope.header_end)}'
        f',"longest_line":{int(envelope.longest_line)},"has_8bit":{"true" if envelope.has_8bit else "false"}'
        f',"has_nul":{"true" if envelope.has_nul else "false"}{queue_only}{_wishes(envelope)}}}'
    ).encode("ascii")
    if length and len(line) + 1 > length:
        raise ValueError(f"line 1 takes {len(line) + 1} bytes where {length} are kept")
    return line.ljust(length - 1) + b"\n" if length else line + b"\n"


def _wishes(envelope: Envelope) -> str:
    """What the sender said about reports and TLS; nothing for most messages, and passed over by versions that do not know it."""
    said = f',"ret":{text(envelope.ret)}' if envelope.ret else ""
    said += f',"envid":{text(envelope.envid)}' if envelope.envid else ""
    said += f',"tls":{text(envelope.tls)}' if envelope.tls else ""
    if any(r.notify for r in envelope.recipients):
        said += f',"notify":[{",".join(text(r.notify) for r in envelope.recipients)}]'
    if any(r.orcpt for r in envelope.recipients):
        said += f',"orcpt":[{",".join(text(r.orcpt) for r in envelope.recipients)}]'
    return said


def beginning(envelope: Envelope) -> bytes:
    """What line 1 of this envelope begins with."""
    return b'{"v":%d,"id":"%s",' % (envelope.version, envelope.id.encode())


_KINDS: dict[str, type | tuple[type, ...]] = {
    "id": str, "sender": str, "accepted_at": (int, float), "up": (int, float), "boot": str, "uid": int, "login": str,
    "message_id": str, "bounce_of": str, "size": int, "header_end": int, "longest_line": int, "has_8bit": bool,
    "has_nul": bool,
}  # fmt: skip


def decode(line: bytes) -> Envelope:
    """The envelope of line 1, with or without its line end. Raises BrokenMessage."""
    import json

    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise BrokenMessage("line 1 is not an envelope") from None
    if not isinstance(said, dict):
        raise BrokenMessage("line 1 is not an envelope")
    version = said.get("v")
    if not isinstance(version, int) or version > VERSION:
        raise BrokenMessage(f"envelope of version {version}, this program knows {VERSION}")
    for name, kind in _KINDS.items():
        if not isinstance(value := said.get(name), kind) or (isinstance(value, int) and abs(value) >> 63):
            raise BrokenMessage(f"envelope without a usable {name}")
    listed = said.get("recipients")
    if not isinstance(listed, list) or not listed or not all(_is_recipient(item) for item in listed):
        raise BrokenMessage("envelope without usable recipients")
    envelope = Envelope(said["id"], said["sender"], [Recipient(*item) for item in listed], float(said["accepted_at"]))
    envelope.version = version
    for name in _KINDS:
        setattr(envelope, name, said[name])
    envelope.queue_only = said.get("queue_only") is True
    for name in ("ret", "envid", "tls"):
        if not isinstance(wish := said.get(name, ""), str):
            raise BrokenMessage(f"envelope without a usable {name}")
        setattr(envelope, name, wish)
    for name in ("notify", "orcpt"):
        wishes = said.get(name, [""] * len(listed))
        if not isinstance(wishes, list) or len(wishes) != len(listed) or not all(isinstance(wish, str) for wish in wishes):
            raise BrokenMessage(f"envelope without a usable {name}")
        for recipient, wish in zip(envelope.recipients, wishes, strict=True):
            setattr(recipient, name, wish)
    return envelope


def _is_recipient(item: object) -> bool:
    return isinstance(item, list) and len(item) in (1, 2, 3) and all(isinstance(part, str) for part in item)
