"""`auth.conf`: which login and which password, or reference to one, belongs to which relay.

A line is `login|host<sep>password`; the separator is the first of `:` `|` blank tab after the first `|`. A numeric first
part after the host is a port (`user|host:587:password`). `#` in column 1 is a comment. Later lines win.
Unlike C dma, a bad line is a problem with file:line and the others still work.

References (interface.md, section 2): `keyring:`, `credential:NAME`, `file:PATH`, `command:WORDS`, `literal:TEXT`;
anything else is the password itself.

Follows corecode/dma conf.c:93-142.
"""

from __future__ import annotations

from dma_runtime.config import BOM
from dma_runtime.errors import ConfigError
from dma_runtime.secret import Secret

KEYRING = "keyring"
CREDENTIAL = "credential"
FILE = "file"
COMMAND = "command"
LITERAL = "literal"


class Reference:
    """Where a password is: `kind` is one of the constants above; `value` is its text (a password for LITERAL)."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: str, value: Secret) -> None:
        self.kind = kind
        self.value = value

    def __repr__(self) -> str:
        return f"{self.kind}:" if self.kind in (KEYRING, LITERAL) else f"{self.kind}:{self.value.reveal()}"


class Login:
    """One line of auth.conf. `port` is 0 when the line holds for every port; `line` is its 1-based number."""

    __slots__ = ("host", "line", "port", "reference", "user")

    def __init__(self, user: str, host: str, port: int, reference: Reference, line: int) -> None:
        self.user = user
        self.host = host
        self.port = port
        self.reference = reference
        self.line = line

    def __repr__(self) -> str:
        return f"Login({self.user}|{self.host}:{self.port} {self.reference!r})"


class AuthFile:
    """The logins of a file in their order, and the problems met."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.logins: list[Login] = []
        self.problems: list[ConfigError] = []

    def find(self, host: str, port: int, user: str = "") -> Login | None:
        """The login for a relay: the last line for host and port, else the last for the host. Names ignore case.

        `user`: only lines with this login (RELAYMAP has several at one host)."""
        wanted = host.lower().rstrip(".")
        found: Login | None = None
        for login in self.logins:
            if login.host == wanted and login.port in (0, port) and user in ("", login.user):
                if found is None or login.port or not found.port:
                    found = login
        return found


def reference(text: str) -> Reference:
    """What the password column says."""
    if text == "keyring:":
        return Reference(KEYRING, Secret(""))
    for kind in (CREDENTIAL, FILE, COMMAND, LITERAL):
        if text.startswith(kind + ":"):
            return Reference(kind, Secret(text[len(kind) + 1 :]))
    return Reference(LITERAL, Secret(text))


def parse(text: str, source: str) -> AuthFile:
    """Read the text of an auth.conf. Never raises: see `AuthFile.problems`. No problem's text shows a password."""
    found = AuthFile(source)
    for number, raw in enumerate(text.removeprefix(BOM).split("\n"), 1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        user, bar, rest = line.partition("|")
        user = user.strip()
        host, password = _split_host(rest.lstrip())
        host = host.lower().rstrip(".")
        if not bar or not user or not host:
            found.problems.append(ConfigError(source, number, "syntax error, expected login|host:password"))
            continue
        head, separator, tail = password.partition(":")
        port = 0
        if separator and head.isascii() and head.isdigit() and 0 < int(head) < 65536:
            port, password = int(head), tail
        if not password:
            found.problems.append(ConfigError(source, number, f"no password for {user} at {host}"))
            continue
        found.logins.append(Login(user, host, port, reference(password), number))
    return found


def _split_host(rest: str) -> tuple[str, str]:
    """(host, password). An address in brackets may hold colons."""
    start = rest.find("]") + 1 if rest.startswith("[") else 0
    for at in range(start, len(rest)):
        if rest[at] in ":| \t":
            return rest[:at].strip("[]"), rest[at + 1 :]
    return rest.strip("[]"), ""
