"""RELAYMAP: which relay, and which login there, takes the mail of which sender.

A line is `PATTERN RELAY [LOGIN]`, parted by blanks:

    # pattern             relay                    login
    alice@example.org     smtp.example.org:587     alice@example.org
    @example.net          mail.example.net
    @.example.net         [192.0.2.25]:2525        -
    backup@               relay.example.com        backup
    *                     smtp.example.com:465     me@example.com

PATTERN is compared with the envelope sender, without case. The most specific one wins, whatever the order of the lines:
an address; `@domain`; `@.domain`, which is every domain below it, the longest first; `local@`, in any domain; `*`,
everybody. `<>` is the null sender of reports, which only `<>` and `*` mean. Of two lines for one pattern the later wins.
A sender that no line means goes the ordinary way: SMARTHOST, or direct.

RELAY is `host`, `host:port`, `[address]` or `[address]:port`; without a port it is that of PORT. LOGIN chooses among the
lines of auth.conf for that relay: a name is that login's line and no other, `-` is no login at all, and without a third
word it is the line auth.conf has for the relay. A named login that auth.conf does not have there holds the mail.

`#` starts a comment at the start of a line or after a blank. A bad line is a problem with file:line, the others work.
Pure: `system.relayfile` reads the file.
"""

from __future__ import annotations

from dma_runtime import config
from dma_runtime.address import split
from dma_runtime.errors import ConfigError

NO_LOGIN = "-"
NULL = "<>"
EVERYBODY = "*"


class Entry:
    """`relay` (its port 0 when the line gave none); `login`: a name, NO_LOGIN, or "" for auth.conf's own choice; `line`."""

    __slots__ = ("line", "login", "pattern", "relay")

    def __init__(self, pattern: str, relay: config.Host, login: str, line: int) -> None:
        self.pattern = pattern
        self.relay = relay
        self.login = login
        self.line = line

    def __repr__(self) -> str:
        return f"Entry({self.pattern} {self.relay} {self.login}".rstrip() + ")"


class RelayMap:
    """The lines of a file by their pattern, and the problems met."""

    def __init__(self, source: str = "") -> None:
        self.source = source
        self.entries: dict[str, Entry] = {}
        self.problems: list[ConfigError] = []

    def find(self, sender: str) -> Entry | None:
        """The entry for an envelope sender ("" is the null sender), None when no line means it."""
        for pattern in _patterns(sender.lower()):
            if (found := self.entries.get(pattern)) is not None:
                return found
        return None


def _patterns(sender: str) -> list[str]:
    """The patterns that mean a sender, the most specific first."""
    if not sender:
        return [NULL, EVERYBODY]
    local, domain = split(sender)
    found = [sender, f"@{domain}"]
    above = domain
    while "." in above:
        above = above.partition(".")[2]
        found.append(f"@.{above}")
    return [*found, f"{local}@", EVERYBODY]


def parse(text: str, source: str) -> RelayMap:
    """Read the text of a RELAYMAP. Never raises: see `RelayMap.problems`."""
    found = RelayMap(source)
    for number, line in enumerate(text.removeprefix(config.BOM).split("\n"), 1):
        pattern, rest = config.split_line(line)
        if not pattern:
            continue
        relay, *login = rest.split(None, 1)[:2] or [""]
        try:
            entry = Entry(_pattern(pattern), config.host(relay), "".join(login).strip(), number)
        except config.BadValue as bad:
            found.problems.append(ConfigError(source, number, f"{bad}; expected PATTERN RELAY [LOGIN]"))
            continue
        found.entries[entry.pattern] = entry
    return found


def _pattern(text: str) -> str:
    """The pattern as it is looked up. Raises BadValue."""
    if text in (NULL, EVERYBODY):
        return text
    local, at, domain = text.rpartition("@")
    if not at or not (local or domain) or any(c in "<>(),;" for c in text) or domain.endswith(".") or domain == ".":
        raise config.BadValue("the sender pattern needs address, @domain, @.domain, local@, <> or *")
    return text.lower()
