"""The envelope: who sent a message, who is to get it, and what has become of that so far.

The envelope is written once, with the message, as one JSON object on line 1 of `queue/<id>`; what happens later is a
list of events in `log/<id>`, one JSON object a line. The present state is `fold(envelope, events)`: pure and replayable.

Addresses are `str`; bytes of the command line that are not UTF-8 are kept as surrogate escapes, and go out as they came.
"""

from __future__ import annotations

VERSION = 1


class Recipient:
    """`address` is where the mail goes; `original` what was asked for before aliases (RFC 3461 ORCPT), often the same."""

    __slots__ = ("address", "original")

    def __init__(self, address: str, original: str = "") -> None:
        self.address = address
        self.original = original or address

    def __repr__(self) -> str:
        return f"Recipient({self.address!r}, {self.original!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipient) and (other.address, other.original) == (self.address, self.original)

    __hash__ = None  # type: ignore[assignment]  # compared, never a key


class Envelope:
    """All that is known when the message is accepted. Immutable from then on."""

    __slots__ = (
        "accepted_at",  # seconds since the epoch, wall clock
        "bounce_of",  # id of the message this one reports on, "" for ordinary mail
        "has_8bit",  # some byte of the message is above 127
        "has_nul",
        "header_end",  # length of the header in bytes, without the empty line behind it
        "id",
        "login",  # of the submitter
        "longest_line",  # bytes, without the line end
        "message_id",  # the header field with its angle brackets, for the log
        "recipients",
        "sender",  # "" is the null sender
        "size",  # bytes of the message, LF line ends, line 1 not counted
        "uid",  # of the submitter
        "version",
    )

    def __init__(self, id: str, sender: str, recipients: list[Recipient], accepted_at: float) -> None:  # noqa: A002 the field's name
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

    def __repr__(self) -> str:
        return f"Envelope({self.id}, <{self.sender}> -> {[r.address for r in self.recipients]})"
