"""The report to a sender: what could not be delivered (or is late, or was delivered), to whom, and what the relay said.

Rules:
- `multipart/report; report-type=delivery-status` (RFC 6522) of three parts: text for people, `message/delivery-status`
  (RFC 3464) for programs, and the header of the message or, when asked for, the whole message.
- One report covers all recipients that failed in one round of attempts. What the sender gave to recognise it by (ENVID,
  ORCPT) comes back (RFC 3461 6.3).
- The text for people holds C dma's sentences, subject and Received line word for word: programs that read bounces look
  for them (corecode/dma mail.c, bounce.c; sisimai's DragonFly module).
- The server's reply is quoted in full, up to `REPLY_LIMIT` characters for each recipient.
- Nothing from outside can break the form: control characters are escaped, over-long lines are folded or encoded, text
  outside ASCII is encoded. Except for a returned message that has 8-bit bytes itself, and addresses that need SMTPUTF8
  anyway, a report is 7-bit.
- The report goes out with the null sender (`delivery.bounce` does that), so none is ever made for a report.

`report()` yields pieces with LF line ends and reads the message in steps of 64 KB, so that returning a message of any
size takes constant memory. Dates are in UTC. Raises BrokenMessage if the message turns out shorter than its envelope says.

Limits: a returned message with NULs or lines above 998 bytes is labelled `binary` and left as it is; `message.wire`
makes it fit for the relay. Non-ASCII addresses are shown by RFC 6533's ASCII form in the status part.
"""

from __future__ import annotations

import binascii
import time

from dma_runtime import __version__
from dma_runtime.errors import BrokenMessage
from dma_runtime.outcome import DEFERRED
from dma_runtime.shown import escape, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dma_runtime.envelope import Envelope, Recipient
    from dma_runtime.outcome import Outcome

FAILED, DELAYED, RELAYED, DELIVERED = "failed", "delayed", "relayed", "delivered"  # RFC 3464 2.3.3
_SUBJECTS = {
    FAILED: "Mail delivery failed", DELAYED: "Mail delivery delayed", RELAYED: "Mail relayed", DELIVERED: "Mail delivered",
}  # fmt: skip

PROGRAM = "DragonFly Mail Agent"  # bounce parsers look for this name
REPLY_LIMIT = 16384  # characters of one reply
LINE_LIMIT = 998  # RFC 5322 2.1.1, bytes without the line end
CHUNK = 65536


class Fate:
    """One recipient's part of a report: its last `outcome`, and what is to be said about time.

    `given_up_after`: seconds the message was tried for in vain; 0 when the outcome itself is final.
    `attempted_at`: wall clock of the last attempt, 0 when unknown.
    """

    __slots__ = ("attempted_at", "given_up_after", "outcome", "recipient")

    def __init__(
        self, recipient: Recipient, outcome: Outcome, *, given_up_after: float = 0, attempted_at: float = 0
    ) -> None:
        self.recipient = recipient
        self.outcome = outcome
        self.given_up_after = given_up_after
        self.attempted_at = attempted_at


def report(
    *,
    id: str,
    to: str,
    original: Envelope,
    fates: list[Fate],
    mailname: str,
    hostname: str,
    now: float,
    read: Callable[[int, int], bytes],
    full: bool = False,
    action: str = FAILED,
    retry_until: float | None = None,
) -> Iterator[bytes]:
    """The report `id` on the message `original`, addressed to `to`.

    `read(n, at)` gives up to n bytes of that message from offset `at`. `full` returns the whole message, not only its
    header. `action` is what happened to the recipients, by default that delivery failed; DELAYED goes with `retry_until`
    (wall clock), the time until which it is tried.
    """
    boundary = f"=_dma.{id}"
    returned = _Returned(original, read, full)
    head = [
        f"Received: by {mailname} ({PROGRAM} v{__version__} on {hostname})",
        f"\tid {id};",
        f"\t{date(now)}",
        *(f"X-Original-To: <{a}>" for a in (shown(f.recipient.original) for f in fates) if a.isascii()),
        f"From: Mail Delivery Subsystem <MAILER-DAEMON@{mailname}>",
        f"To: {_mailbox(to, mailname)}",
        f"Subject: {_SUBJECTS[action]}",
        f"Message-ID: <{id}@{mailname}>",
        *_thread(original.message_id),
        f"Date: {date(now)}",
        "MIME-Version: 1.0",
        "Auto-Submitted: auto-replied",  # RFC 3834 5
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        *([] if returned.encoding == "7bit" or not full else [f"Content-Transfer-Encoding: {returned.encoding}"]),
        "",
        "This is a report in MIME form.",
        "",
    ]
    yield "\n".join(head).encode("utf-8", "surrogateescape")
    yield _part(boundary, "Notification") + _for_people(fates, mailname, full, action, retry_until)
    yield _part(boundary, "Delivery report") + b"Content-Type: message/delivery-status\n\n"
    if original.envid:
        yield _field("Original-Envelope-Id", shown(original.envid))  # RFC 3464 2.2.1
    yield f"Reporting-MTA: dns; {mailname}\n".encode()
    yield f"X-DMA-Queue-ID: {original.id}\nArrival-Date: {date(original.accepted_at)}\n".encode()
    for fate in fates:
        yield b"\n" + _for_programs(fate, mailname, action, retry_until)
    arrived = action in (RELAYED, DELIVERED)
    yield _part(boundary, "Message header" if arrived else f"Undelivered message{'' if full else ' header'}")
    yield from returned.pieces()
    yield f"\n--{boundary}--\n".encode()


def date(when: float) -> str:
    """RFC 5322 3.3, in UTC; not strftime, whose names follow the locale."""
    t = time.gmtime(max(0, when))
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[t.tm_wday]
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[t.tm_mon - 1]
    return f"{day}, {t.tm_mday} {month} {t.tm_year} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} +0000"


def _mailbox(address: str, mailname: str) -> str:
    address = _qualified(address, mailname)
    if any(c.isspace() or not (c.isprintable() or "\udc80" <= c <= "\udcff") for c in address) or len(address) > 320:
        return "undisclosed-recipients:;"
    return f"<{address}>"


def _qualified(address: str, mailname: str) -> str:
    return address if "@" in address else f"{address}@{mailname}"


def _thread(message_id: str) -> list[str]:
    """RFC 3834 3.1.5: name the message that caused the report, if its id can stand in a header."""
    if not (message_id.startswith("<") and message_id.endswith(">") and message_id.isascii() and message_id.isprintable()):
        return []
    if len(message_id) > 250 or " " in message_id:
        return []
    return [f"In-Reply-To: {message_id}", f"References: {message_id}"]


def _part(boundary: str, description: str) -> bytes:
    return f"\n--{boundary}\nContent-Description: {description}\n".encode()


# ---------------------------------------------------------------- part 1: for people


def _for_people(fates: list[Fate], mailname: str, full: bool, action: str, retry_until: float | None) -> bytes:
    said = [f"This is the {PROGRAM} v{__version__} at {mailname}.", ""]
    for fate in fates:
        address = shown(fate.recipient.named)
        if action == FAILED:
            said.append(f"There was an error delivering your mail to <{address}>.")
        elif action == DELAYED:
            said.append(f"Your mail to <{address}> has not been delivered yet.")
        elif action == RELAYED:
            said.append(f"Your mail to <{address}> was handed to {shown(fate.outcome.relay)}, which reports no delivery.")
        else:
            said.append(f"Your mail to <{address}> was delivered.")
        if fate.recipient.original != fate.recipient.named:
            said.append(f"(You wrote to <{shown(fate.recipient.original)}>.)")
        said += ["", *_reason(fate), ""] if action in (FAILED, DELAYED) else [""]
    if retry_until is not None:
        said += [f"You need not send it again: it is tried until {date(retry_until)}.", ""]
    said.append("Original message follows." if full else "Message headers follow.")
    text = "\n".join(said) + "\n"
    data = text.encode("utf-8", "backslashreplace")
    if text.isascii() and max(map(len, data.split(b"\n"))) <= LINE_LIMIT:
        return b"Content-Type: text/plain; charset=us-ascii\n\n" + data
    encoded = binascii.b2a_qp(data, istext=True)
    return b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n" + encoded


def _reason(fate: Fate) -> list[str]:
    outcome = fate.outcome
    said = []
    if fate.given_up_after:
        said += [f"Could not deliver for the last {int(fate.given_up_after)} seconds. Giving up.", ""]
    if outcome.code:
        said += [f"{shown(outcome.relay)} did not like our {outcome.stage}:", *_lines(_reply(outcome))]
    else:
        place = shown(outcome.relay)
        words = _lines(outcome.text) or ["unknown bounce reason"]
        said += words if not place or place in words[0] else [f"{place}: {words[0]}", *words[1:]]
    if outcome.hint:
        said += ["", *_lines(outcome.hint)]
    return said


def _reply(outcome: Outcome) -> str:
    """The reply with its code, as the server sent it."""
    text = outcome.text.strip("\r\n")
    return text if text.startswith(str(outcome.code)) else f"{outcome.code} {text}"


def _lines(text: str) -> list[str]:
    """Lines fit for a text part: control characters escaped, the whole at most REPLY_LIMIT characters.

    A line that starts with `--` is indented: the relay knows our queue id, so it could write our boundary.
    """
    if len(text) > REPLY_LIMIT:
        text = text[:REPLY_LIMIT] + " [...]"
    lines = text.strip("\r\n").replace("\r\n", "\n").replace("\t", " ").split("\n")
    lines = ["".join(c if c.isprintable() else escape(c) for c in line) for line in lines]
    return [" " + line if line.startswith("--") else line for line in lines]


# ---------------------------------------------------------------- part 2: for programs


def _for_programs(fate: Fate, mailname: str, action: str, retry_until: float | None) -> bytes:
    """One group of per-recipient fields (RFC 3464 2.3)."""
    outcome = fate.outcome
    fields = []
    if fate.recipient.orcpt:
        kind, _, address = fate.recipient.orcpt.partition(";")
        fields.append(_field("Original-Recipient", f"{shown(kind)}; {shown(address)}"))  # RFC 3464 2.3.1
    elif fate.recipient.original != fate.recipient.named:
        fields.append(_field("Original-Recipient", _typed_address(_qualified(fate.recipient.original, mailname))))
    fields.append(_field("Final-Recipient", _typed_address(_qualified(fate.recipient.named, mailname))))
    fields.append(_field("Action", action))
    fields.append(_field("Status", _status(fate, action)))
    remote = shown(outcome.relay).partition(" ")[0]
    if remote:
        fields.append(_field("Remote-MTA", f"dns; {remote}"))
    # RFC 3464 2.3.6: the type `smtp` is for what a server really said.
    if outcome.code:
        fields.append(_field("Diagnostic-Code", "smtp; " + " ".join(_lines(_reply(outcome)))))
    elif action in (FAILED, DELAYED):
        fields.append(_field("Diagnostic-Code", "X-DMA; " + " ".join(_lines(outcome.text) or ["unknown"])))
    if fate.attempted_at:
        fields.append(_field("Last-Attempt-Date", date(fate.attempted_at)))
    if retry_until is not None:
        fields.append(_field("Will-Retry-Until", date(retry_until)))
    return b"".join(fields)


def _status(fate: Fate, action: str) -> str:
    """RFC 3463: the server's own triple if its class fits what happened, else the least that is known."""
    outcome = fate.outcome
    arrived = action in (RELAYED, DELIVERED)
    temporary = action == DELAYED or outcome.kind == DEFERRED or 400 <= outcome.code < 500
    # An address that was given up keeps the class of its last answer.
    classes = "2" if arrived else "4" if action == DELAYED else "5" if outcome.code >= 500 else "45"
    parts = outcome.status.split(".")
    if len(parts) == 3 and parts[0] in [*classes] and all(p.isascii() and p.isdigit() and len(p) <= 3 for p in parts):
        return outcome.status
    if arrived:
        return "2.0.0"
    if fate.given_up_after:
        return "4.4.7"  # RFC 3463 3.5: delivery time expired
    return "4.0.0" if temporary else "5.0.0"


def _typed_address(address: str) -> str:
    """`rfc822; a@b`, or for an address outside ASCII RFC 6533's `utf-8; …` with \\x{HEX} for each such character."""
    if address.isascii():
        return f"rfc822; {shown(address)}"
    safe = "".join(
        c if "!" <= c <= "~" and c not in "+=\\" else escape(c) if "\ud800" <= c <= "\udfff" else f"\\x{{{ord(c):X}}}"
        for c in address
    )
    return f"utf-8; {safe}"


def _field(name: str, value: str) -> bytes:
    """One field in ASCII, folded at blanks; a word too long for a line is cut by a fold."""
    value = value.encode("ascii", "backslashreplace").decode("ascii")
    lines, line = [], f"{name}:"
    for word in value.split():
        while len(word) > LINE_LIMIT - 100:
            lines.append(line)
            line, word = " " + word[: LINE_LIMIT - 100], word[LINE_LIMIT - 100 :]
        if len(line) + 1 + len(word) > 76 and line.strip() and not line.endswith(":"):
            lines.append(line)
            line = ""
        line += " " + word
    lines.append(line)
    return ("\n".join(lines) + "\n").encode()


# ---------------------------------------------------------------- part 3: the message, or its header


class _Returned:
    """What is sent back, and how it is labelled."""

    def __init__(self, original: Envelope, read: Callable[[int, int], bytes], full: bool) -> None:
        self._read = read
        self._full = full
        self._size = original.size if full else original.header_end
        if full:
            odd = original.has_nul or original.longest_line > LINE_LIMIT
            self.encoding = "binary" if odd else "8bit" if original.has_8bit else "7bit"
        else:
            plain = not original.has_8bit and not original.has_nul and original.longest_line <= LINE_LIMIT
            self.encoding = "7bit" if plain or self._is_plain() else "quoted-printable"

    def pieces(self) -> Iterator[bytes]:
        # RFC 6522 4: the header alone is text/rfc822-headers; only identity encodings are allowed for message/rfc822.
        kind = "message/rfc822" if self._full else "text/rfc822-headers"
        label = "" if self.encoding == "7bit" else f"Content-Transfer-Encoding: {self.encoding}\n"
        yield f"Content-Type: {kind}\n{label}\n".encode()
        for chunk in self._chunks():
            yield chunk if self.encoding != "quoted-printable" else _quoted(chunk)

    def _chunks(self) -> Iterator[bytes]:
        at = 0
        while at < self._size:
            chunk = self._read(min(CHUNK, self._size - at), at)
            if not chunk:
                raise BrokenMessage(f"the message ends after {at} of {self._size} bytes")
            yield chunk
            at += len(chunk)

    def _is_plain(self) -> bool:
        """Whether the header alone needs no encoding, though the message does."""
        length = 0
        for chunk in self._chunks():
            if not chunk.isascii() or b"\0" in chunk:
                return False
            lines = chunk.split(b"\n")
            if max(length + len(lines[0]), *map(len, lines)) > LINE_LIMIT:
                return False
            length = len(lines[-1]) + (length if len(lines) == 1 else 0)
        return True


def _quoted(chunk: bytes) -> bytes:
    """Quoted-printable of one chunk; a chunk that ends inside a line ends in a soft line break.

    Carriage returns are taken out first: b2a_qp would otherwise guess that all line ends are CRLF.
    """
    encoded = b"=\n=0D=\n".join(binascii.b2a_qp(part, istext=True) for part in chunk.split(b"\r"))
    return encoded if chunk.endswith(b"\n") else encoded + b"=\n"
