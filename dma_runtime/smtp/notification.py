"""What a relay is told of the reports a sender asked for: RET, ENVID, NOTIFY, ORCPT (RFC 3461), for relays that offer DSN.

Nothing is said for a sender who said nothing. ORCPT is what was given to us, else the recipient as the sender wrote it
where an alias led elsewhere (RFC 3461 5.2.1 d); one that would be too long, or is not ASCII, is left out. Pure.
"""

from __future__ import annotations

from dma_runtime.smtp.command import xtext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.envelope import Envelope, Recipient

_ORCPT_LIMIT = 500  # RFC 3461 4.2


def of_mail(envelope: Envelope) -> bytes:
    """Parameters of MAIL, each with a blank before it."""
    said = b""
    if envelope.ret in ("full", "hdrs"):
        said += b" RET=" + envelope.ret.upper().encode()  # RFC 3461 4.3
    if envelope.envid and len(wrapped := xtext(envelope.envid)) <= 100:
        said += b" ENVID=" + wrapped  # RFC 3461 4.4
    return said


def of_recipient(recipient: Recipient, mailname: str) -> bytes:
    """Parameters of RCPT; `mailname` completes a local name."""
    said = b""
    if recipient.notify and recipient.notify.isascii() and recipient.notify.replace(",", "").isalpha():
        said += b" NOTIFY=" + recipient.notify.upper().encode()  # RFC 3461 4.1
    kind, _, address = recipient.orcpt.partition(";")
    if not address and said and recipient.original != recipient.address:
        kind, address = "rfc822", recipient.original if "@" in recipient.original else f"{recipient.original}@{mailname}"
    if address and address.isascii() and kind.isascii() and kind.replace("-", "").isalnum():
        original = kind.encode() + b";" + xtext(address)  # RFC 3461 4.2
        if len(original) <= _ORCPT_LIMIT:
            said += b" ORCPT=" + original
    return said
