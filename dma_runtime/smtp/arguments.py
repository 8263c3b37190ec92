"""What stands behind MAIL and RCPT: the path, and the parameters of the extensions we offer.

A fault is `Refused`, with the reply it is worth. Paths without angle brackets are read, source routes read and dropped
(RFC 5321 4.1.1.3, appendix C). Pure. Follows RFC 5321 4.1.2, 1870 (SIZE), 3461 (DSN), 6152 (8BITMIME), 6531 (SMTPUTF8),
8689 (REQUIRETLS).
"""

from __future__ import annotations

from dma_runtime import address
from dma_runtime.shown import shown


class Refused(Exception):
    """A desk's no, or a command's fault: reply code, enhanced status (RFC 3463) and words."""

    def __init__(self, code: int, status: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.text = text


class Mail:
    """What MAIL said. `size` 0 when not said; `ret` "full", "hdrs" or ""; `envid` decoded, "" when there is none."""

    __slots__ = ("envid", "requiretls", "ret", "sender", "size", "smtputf8")

    def __init__(self, sender: str) -> None:
        self.sender = sender
        self.size = 0
        self.smtputf8 = False
        self.requiretls = False
        self.ret = ""
        self.envid = ""


class Rcpt:
    """What RCPT said. `notify` as -N has it; `orcpt` is `type;address`, decoded; "" when there is none."""

    __slots__ = ("address", "notify", "orcpt")

    def __init__(self, address: str) -> None:
        self.address = address
        self.notify = ""
        self.orcpt = ""


def mail(argument: bytes, *, dsn: bool) -> Mail:
    """The argument of MAIL. Raises Refused."""
    path, said = _path(_behind(argument, b"FROM:"))
    found = Mail(path)
    for name, value in said:
        if name == "SIZE" and value.isascii() and value.isdigit() and len(value) <= 20:  # RFC 1870 6.1
            found.size = int(value)
        elif name == "BODY" and value.upper() in ("7BIT", "8BITMIME"):
            pass  # whatever is said, all bytes are taken (RFC 6152)
        elif name == "SMTPUTF8" and not value:
            found.smtputf8 = True
        elif name == "REQUIRETLS" and not value:  # RFC 8689 2; from a program of this machine it needs no TLS to come by
            found.requiretls = True
        elif name == "AUTH":
            pass  # RFC 4954 5: who the client believes it came from; the kernel knows better
        elif dsn and name == "RET" and value.upper() in ("FULL", "HDRS"):  # RFC 3461 4.3
            found.ret = value.lower()
        elif dsn and name == "ENVID" and 0 < len(value) <= 100:  # RFC 3461 4.4
            found.envid = _xtext(value)
        else:
            raise _unknown(name, value, ("SIZE", "BODY", "SMTPUTF8", "REQUIRETLS", *(("RET", "ENVID") if dsn else ())))
    return found


def rcpt(argument: bytes, *, dsn: bool) -> Rcpt:
    """The argument of RCPT. Raises Refused."""
    path, said = _path(_behind(argument, b"TO:"))
    if not path:
        raise Refused(501, "5.1.3", "a recipient needs an address")
    found = Rcpt(path)
    for name, value in said:
        if dsn and name == "NOTIFY" and (words := _notify(value)):  # RFC 3461 4.1
            found.notify = words
        elif dsn and name == "ORCPT" and ";" in value[1:] and len(value) <= 500:  # RFC 3461 4.2
            kind, _, original = value.partition(";")
            found.orcpt = f"{kind};{_xtext(original)}"
        else:
            raise _unknown(name, value, ("NOTIFY", "ORCPT") if dsn else ())
    return found


def _behind(argument: bytes, word: bytes) -> bytes:
    if argument[: len(word)].upper() != word:
        raise Refused(501, "5.5.4", f"expected {word.decode()}<address>")
    return argument[len(word) :].strip(b" \t")


def _path(text: bytes) -> tuple[str, list[tuple[str, str]]]:
    """(address, parameters) of `<address> NAME=VALUE …`. Raises Refused."""
    end = _path_end(text)
    inner, rest = text[:end], text[end:]
    if not inner or (rest and rest[:1] not in b" \t"):
        raise Refused(501, "5.5.4", "expected <address>")
    if inner.startswith(b"<"):
        inner = inner[1:-1].strip(b" \t")
    if inner.startswith(b"@") and b":" in inner:
        inner = inner.partition(b":")[2]  # a source route (RFC 5321 4.1.1.3, appendix C)
    said = address.from_bytes(inner)
    if said and (why := address.fault(said)):
        raise Refused(501, "5.1.3", f"<{shown(said, 100)}>: {why}")
    found: list[tuple[str, str]] = []
    for word in rest.split():
        name, _, value = word.decode("utf-8", "backslashreplace").partition("=")
        if any(name.upper() == other for other, _ in found):
            raise Refused(501, "5.5.4", f"{shown(name, 40)} said twice")
        found.append((name.upper(), value))
    return said, found


def _path_end(text: bytes) -> int:
    """Where the path at the start of `text` ends: behind its `>`, or at a blank when it has no brackets; 0 without end."""
    bracket, quoted = text.startswith(b"<"), False
    at = 0
    while at < len(text):
        c = text[at]
        if quoted and c == 0x5C:
            at += 1
        elif c == 0x22:
            quoted = not quoted
        elif not quoted and (c == 0x3E if bracket else c in b" \t"):
            return at + 1 if bracket else at
        at += 1
    return 0 if bracket or quoted else len(text)


def _unknown(name: str, value: str, known: tuple[str, ...]) -> Refused:
    if name in known:
        return Refused(501, "5.5.4", f"{name}: bad value {shown(value, 60)!r}")
    return Refused(555, "5.5.4", f"{shown(name, 40)} is not understood")  # RFC 5321 4.1.1.11


def _notify(value: str) -> str:
    """`never`, or a list of success, failure, delay, in lower case; "" when it is neither (RFC 3461 4.1)."""
    words = value.lower().split(",")
    good = words == ["never"] or all(word in ("success", "failure", "delay") for word in words)
    return ",".join(words) if good else ""


def _xtext(value: str) -> str:
    """RFC 3461 4: `+` and two hexadecimal digits are a byte. Raises Refused."""
    first, *others = value.split("+")
    out = bytearray(first, "utf-8")
    for part in others:
        if len(part) < 2 or any(c not in "0123456789ABCDEF" for c in part[:2]):
            raise Refused(501, "5.5.4", "not xtext (RFC 3461)")
        out.append(int(part[:2], 16))
        out += part[2:].encode()
    text = out.decode("utf-8", "replace")
    if not text.isprintable():
        raise Refused(501, "5.5.4", "control character in a parameter")
    return text
