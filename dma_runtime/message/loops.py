"""Whether a message goes in a circle, told by its header.

- `MOST` lines of `Received` are a circle: each host on the way adds one, and no way is that long. 50 is Postfix's
  hopcount_limit; RFC 5321 6.3 only asks for a large number, and 100 where relays of the whole Internet are counted, which
  a message on its first or last hop has not seen.
- A mailbox that the message is for, and that a `Delivered-To` says it has been in already: it was forwarded from there and
  came back. Local delivery here writes that line, as Postfix's and qmail's do.

Pure. The header is bytes with LF line ends; folded lines do not matter.
"""

from __future__ import annotations

MOST = 50


def of_hops(header: bytes) -> str:
    """Why the message is to be stopped, "" to let it go on."""
    hops = (b"\n" + header).lower().count(b"\nreceived:")
    return f"too many hops: {hops} Received lines, {MOST} are taken for a mail loop" if hops >= MOST else ""


def of_delivery(header: bytes, address: str) -> str:
    """The same for a message that is to be delivered to the mailbox of `address`, with its domain."""
    wanted = address.encode("utf-8", "surrogateescape").lower()
    for line in header.split(b"\n"):
        if line[:13].lower() == b"delivered-to:" and line[13:].strip(b" \t\r").lower() == wanted:
            return f"mail forwarding loop for {address}"
    return ""
