"""What we say to a server: each verb with its place in a group, its timeout and its phrase, and the lines themselves.

Rules:
- A line built here never holds CR, LF or NUL inside: `Unspeakable` (a bug or an attack upstream) instead.
- An address goes out as the bytes it came as (UTF-8, surrogate escapes undone).
- A verb that `ends_group` must be the last of a pipelined group (RFC 2920 3.1); the end of the message does not.

Follows RFC 5321 4.1.1, RFC 2920, RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3030 (CHUNKING).
"""

from __future__ import annotations

from dma_runtime.outcome import STAGES

S_CONNECT, S_EHLO, S_STARTTLS, S_AUTH, S_MAIL, S_RCPT, S_DATA, S_FINAL = STAGES


class Unspeakable(ValueError):
    """Something that cannot be part of an SMTP command line."""


class Verb:
    """name; stage (one of outcome.STAGES); ends_group (RFC 2920 3.1); wait: the attribute of Timeouts; says: for people."""

    __slots__ = ("ends_group", "name", "says", "stage", "wait")

    def __init__(self, name: str, stage: str, ends_group: bool, wait: str, says: str) -> None:
        self.name = name
        self.stage = stage
        self.ends_group = ends_group
        self.wait = wait
        self.says = says

    def __repr__(self) -> str:
        return f"Verb({self.name})"


#                     name          stage       ends   timeout     what we were waiting for
GREETING = Verb("greeting", S_CONNECT, True, "greeting", "its greeting")
EHLO = Verb("EHLO", S_EHLO, True, "ehlo", "the reply to EHLO")
LHLO = Verb("LHLO", S_EHLO, True, "ehlo", "the reply to LHLO")  # RFC 2033 4.1
HELO = Verb("HELO", S_EHLO, True, "ehlo", "the reply to HELO")
STARTTLS = Verb("STARTTLS", S_STARTTLS, True, "starttls", "the reply to STARTTLS")
AUTH = Verb("AUTH", S_AUTH, True, "auth", "the reply to AUTH")
RSET = Verb("RSET", S_MAIL, False, "rset", "the reply to RSET")
MAIL = Verb("MAIL", S_MAIL, False, "mail", "the reply to MAIL FROM")
RCPT = Verb("RCPT", S_RCPT, False, "rcpt", "the reply to RCPT TO")
DATA = Verb("DATA", S_DATA, True, "data", "the reply to DATA")
DOT = Verb("final dot", S_FINAL, False, "final", "the reply to the end of the message")
BDAT = Verb("BDAT", S_DATA, False, "final", "the reply to a part of the message")
LAST = Verb("BDAT LAST", S_FINAL, False, "final", "the reply to the end of the message")
QUIT = Verb("QUIT", S_FINAL, True, "quit", "the reply to QUIT")

RSET_LINE = b"RSET\r\n"
DATA_LINE = b"DATA\r\n"
DOT_LINE = b".\r\n"
QUIT_LINE = b"QUIT\r\n"
STARTTLS_LINE = b"STARTTLS\r\n"


def line(text: bytes) -> bytes:
    """One command line with its end. Raises Unspeakable."""
    if b"\r" in text or b"\n" in text or b"\0" in text:
        raise Unspeakable("a control character in an SMTP command")
    return text + b"\r\n"


def path(address: str) -> bytes:
    """An address in angle brackets; "" is the null sender. Raises Unspeakable for what would end the path early."""
    raw = address.encode("utf-8", "surrogateescape")
    # A quoted local part may hold brackets and blanks (RFC 5321 4.1.2); outside they would start a second word.
    if b">" in raw or b"<" in raw or b" " in raw or b'"' in raw:
        quoted = skip = False
        for byte in raw:
            if skip:
                skip = False
            elif byte == 0x5C and quoted:
                skip = True
            elif byte == 0x22:
                quoted = not quoted
            elif byte in b"<> " and not quoted:
                raise Unspeakable("a blank or bracket in an address")
        if quoted:
            raise Unspeakable("an open quote in an address")
    return b"<" + raw + b">"


def xtext(text: str) -> bytes:
    """RFC 3461 4: printable ASCII as it is, `+`, `=` and all else as `+XX`."""
    return b"".join(
        bytes((byte,)) if 0x21 <= byte <= 0x7E and byte not in b"+=" else b"+%02X" % byte
        for byte in text.encode("utf-8", "surrogateescape")
    )


def mail(sender: str, parameters: bytes = b"") -> bytes:
    """MAIL FROM; `parameters` start with a blank, as `mail_parameters` makes them."""
    return line(b"MAIL FROM:" + path(sender) + parameters)


def rcpt(address: str, parameters: bytes = b"") -> bytes:
    return line(b"RCPT TO:" + path(address) + parameters)


def bdat(size: int, last: bool) -> bytes:
    return b"BDAT %d LAST\r\n" % size if last else b"BDAT %d\r\n" % size  # RFC 3030 2


def hello(verb: str, name: str) -> bytes:
    return line(f"{verb} {name}".encode("ascii", "backslashreplace"))


def hello_name(name: str, local_address: str) -> str:
    """The argument of EHLO: `name` if it is a domain with a dot in it, else the address literal of our end.

    Relays refuse short names and underscores with 501 or 504 (RFC 5321 2.3.5, 4.1.3).
    """
    plain = name.rstrip(".")
    try:
        plain = plain.encode("idna").decode("ascii") if not plain.isascii() else plain
    except UnicodeError:
        plain = ""
    labels = plain.split(".")
    if len(labels) > 1 and len(plain) < 254 and all(_is_label(label) for label in labels):
        if not labels[-1].isdigit():
            return plain
    if name.startswith("[") and name.endswith("]"):
        return name
    address = local_address.partition("%")[0]
    if not address:
        return "localhost.localdomain"  # a socket without an address; nobody checks it there
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _is_label(label: str) -> bool:
    return 0 < len(label) < 64 and label.replace("-", "a").isalnum() and label[0] != "-" and label[-1] != "-"
