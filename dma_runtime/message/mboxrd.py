"""A message as it lies in a mailbox: the lines put before it, and mboxrd's quoting.

Rules:
- `From SENDER DATE`, then the message, every line that matches `^>*From ` with one more `>` before it (mboxrd: reversible),
  then an empty line. Follows corecode/dma local.c and qmail's mbox(5).
- Return-Path (RFC 5321 4.4) and Delivered-To stand first in the header; both are made here, in ASCII or as the bytes of
  the address; a control character in an address is shown as `?`, so no address can add a line.

Pure and streaming: memory does not depend on the length of the message or of a line.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    import time
    from collections.abc import Iterable, Iterator

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_MAY_BECOME = re.compile(rb">*(F|Fr|Fro|From)?\Z")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def from_line(sender: str, when: time.struct_time) -> bytes:
    """`From alice@x.test Sun Nov 22 19:22:01 2026` (asctime, as C dma and Postfix). The null sender is MAILER-DAEMON."""
    who = "".join("_" if c.isspace() else c for c in sender) or "MAILER-DAEMON"  # readers split at the blank
    clock = f"{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02}"
    day = f"{_DAYS[when.tm_wday]} {_MONTHS[when.tm_mon - 1]} {when.tm_mday:2}"
    return b"From " + _address(who) + f" {day} {clock} {when.tm_year}\n".encode()


def trace(sender: str, recipient: str) -> bytes:
    """The two header lines of final delivery."""
    return b"Return-Path: <" + _address(sender) + b">\nDelivered-To: " + _address(recipient) + b"\n"


def quoted(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The message with every `>*From ` line quoted once more, however the chunks are cut.

    All that is inserted is one `>` among others, so those that open a line need not be held back, only `From`.
    """
    fresh = True  # the next byte stands where a line starts, or behind nothing but `>`
    held = b""  # the beginning of `From ` there
    for chunk in chunks:
        data = held + chunk
        held = b""
        if not data:
            continue
        start = 0 if fresh else data.find(b"\n") + 1
        if not fresh and not start:
            yield data
            continue
        body = data[:start] + _FROM.sub(rb">\1", data[start:])
        last = data[max(data.rfind(b"\n") + 1, start) :]
        found = _MAY_BECOME.match(last)
        fresh = found is not None
        if found is not None and found[1]:
            held = found[1]
            body = body[: -len(held)]
        yield body
    yield held


def mbox_entry(sender: str, recipient: str, when: time.struct_time, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """One message as it is appended to a mailbox file: it ends in an empty line, whatever the message ends in."""
    yield from_line(sender, when) + trace(sender, recipient)
    last = b"\n"
    for piece in quoted(chunks):
        if piece:
            last = piece[-1:]
            yield piece
    yield b"\n" if last == b"\n" else b"\n\n"


def _address(text: str) -> bytes:
    shown = "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else "?" for c in text)
    return shown.encode("utf-8", "surrogateescape")
