"""The aliases file: names of this machine and where their mail goes.

The grammar is sendmail's (aliases(5)), which takes in C dma's: `name: destination, …`, continued on lines that start with
a blank or after a backslash at the line's end; `#` starts a comment at the start of a line or after a blank. Names and
destinations may be quoted. Destinations are separated by commas or blanks:

    user  user@host  Name <user@host>     an address
    \\user                                 the user's own mailbox, no further aliases
    :include:/path                        the addresses in a file
    |command   "|command words"  |"..."    a command: understood, off unless PIPES
    /file  "/file with blanks"            a file: the same (/dev/null needs nothing)

A command or file as a recipient's address in the envelope is its sign and, behind a blank, its text; in between whose
`.forward` said so, nothing for the aliases file: `| /usr/bin/filter -x`, `|alice /usr/bin/filter -x`, `>alice /home/alice/box`.
No mail address has that shape: a blank in one is inside quotes, and quotes come first (`address.fault`).

Rules:
- Names ignore case; several lines of one name add up; the last line needs no end.
- A bad line is a problem with its true number, and the others still work (C dma refused all mail).

What becomes of a name is `policy.expansion`'s. Pure.
"""

from __future__ import annotations

from dma_runtime import address
from dma_runtime.config import BOM
from dma_runtime.shown import shown

ADDRESS, LOCAL, PIPE, FILE, INCLUDE = "address", "local", "pipe", "file", "include"


class Target:
    """One destination. `kind` is one of the constants above, `text` the address, name, command or path without its sign."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.text = text

    def __repr__(self) -> str:
        return f"Target({self.kind}, {self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and (other.kind, other.text) == (self.kind, self.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))


class Aliases:
    """`entries`: lower-case name to its destinations. `problems`: `FILE:LINE: TEXT`, one for each bad line."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.entries: dict[str, list[Target]] = {}
        self.problems: list[str] = []


def as_address(kind: str, text: str, user: str = "") -> str:
    """A PIPE or FILE as it stands in the envelope; `user`: whose .forward said it."""
    return f"{'|' if kind == PIPE else '>'}{user} {text}"


def of_address(whole: str) -> tuple[str, str, str] | None:
    """(kind, text, user) of an address that `as_address` made; None for any other."""
    if not whole.startswith(("|", ">")):
        return None
    user, blank, text = whole[1:].partition(" ")
    return (PIPE if whole[0] == "|" else FILE, text, user) if blank else None


class BadLine(Exception):
    """A line that cannot be understood; the text says why."""


def parse(text: str, source: str) -> Aliases:
    """Read the text of an aliases file. Never raises: see `Aliases.problems`."""
    aliases = Aliases(source)
    lines, indented = _logical_lines(text.removeprefix(BOM))
    aliases.problems += [f"{source}:{number}: begins with a blank, and is taken as an alias all the same" for number in indented]
    for number, line in lines:
        try:
            name, rest = _name(line)
            listed = destinations(rest)
            if not listed:
                raise BadLine(f"alias {shown(name, 60)} has no destination")
        except BadLine as bad:
            aliases.problems.append(f"{source}:{number}: {bad}")
            continue
        aliases.entries.setdefault(name.lower(), []).extend(listed)
    return aliases


def _logical_lines(text: str) -> tuple[list[tuple[int, str]], list[int]]:
    """((number of its first line, text) of each line with its continuations, comments removed; the numbers of lines that begin
    with a blank and go on with nothing: an indented file would otherwise be one alias)."""
    found: list[tuple[int, str]] = []
    indented: list[int] = []
    open_line = False  # the line before ended in a backslash
    for number, raw in enumerate(text.split("\n"), 1):
        line = _uncommented(raw.removesuffix("\r"))
        continued = open_line or (line[:1] in (" ", "\t") and bool(found))
        if continued and not open_line and not found[-1][1].endswith(",") and _starts_alias(line):
            continued = False
            indented.append(number)
        open_line = line.endswith("\\")
        line = line.removesuffix("\\")
        if not line.strip():
            continue
        if continued and found:
            first, before = found[-1]
            found[-1] = (first, before + " " + line.strip())
        else:
            found.append((number, line.strip()))
    return found, indented


def _starts_alias(line: str) -> bool:
    name, colon, _ = line.partition(":")
    name = name.strip()
    return bool(colon and name and name.lower() != "error") and all(c.isalnum() or c in "-_.+*" for c in name)


def listed(text: str) -> tuple[list[Target], list[tuple[int, str]]]:
    """(destinations, problems as (line, text)) of an included file or a .forward: destinations, comments, one or more a line."""
    found: list[Target] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = _uncommented(line.strip())
        try:
            found += destinations(line) if line else []
        except BadLine as bad:
            problems.append((number, str(bad)))
    return found, problems


def _uncommented(line: str) -> str:
    """The line up to a `#` at its start or after a blank, outside quotes."""
    quoted = False
    for at, c in enumerate(line):
        if c == '"' and (at == 0 or line[at - 1] != "\\"):
            quoted = not quoted
        elif c == "#" and not quoted and (at == 0 or line[at - 1] in " \t"):
            return line[:at].rstrip()
    return line


def _name(line: str) -> tuple[str, str]:
    """(name, what stands behind the colon)."""
    if line.startswith('"'):
        end = line.find('"', 1)
        name, rest = line[1:end], line[end + 1 :].lstrip()
        if end < 0 or not rest.startswith(":"):
            raise BadLine('syntax error, expected "name": destination')
        rest = rest[1:]
    else:
        name, colon, rest = line.partition(":")
        name = name.strip()
        if not colon:
            raise BadLine("syntax error, expected name: destination")
    if not name or any(c in " \t<>(),;" or not c.isprintable() for c in name if not line.startswith('"')):
        raise BadLine("syntax error, expected name: destination")
    if "@" in name:
        raise BadLine(f"alias {shown(name, 60)} has a domain; a name of this machine has none")
    return name, rest


def destinations(text: str) -> list[Target]:
    """The destinations of a list. Raises BadLine."""
    found: list[Target] = []
    for item in _items(text):
        found += _destination(item)
    return found


def _items(text: str) -> list[str]:
    """Split at commas outside quotes, comments and angle brackets."""
    items: list[str] = []
    start, quoted, depth = 0, False, 0
    at = 0
    while at < len(text):
        c = text[at]
        if c == "\\":
            at += 1
        elif c == '"':
            quoted = not quoted
        elif not quoted and c in "(<":
            depth += 1
        elif not quoted and c in ")>":
            depth = max(0, depth - 1)
        elif c == "," and not quoted and not depth:
            items.append(text[start:at])
            start = at + 1
        at += 1
    if quoted:
        raise BadLine("quote without an end")
    items.append(text[start:])
    return [item.strip() for item in items if item.strip()]


_QUOTED = ('"|', '"/', '":', '"\\')  # what begins a destination in quotes that is no mail address


def _quote_end(text: str, at: int) -> int:
    """Where the quote that begins at `at` ends; behind the text when it does not."""
    at += 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at + 1


def _unquoted(item: str) -> str:
    """What is in the quotes, when they are around all of it."""
    if item.startswith('"') and _quote_end(item, 0) == len(item) > 1:
        return item[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return item


def _words(item: str) -> list[str]:
    """Parted by blanks outside quotes."""
    words: list[str] = []
    start = at = 0
    while at < len(item):
        if item[at] == '"':
            at = _quote_end(item, at)
        elif item[at].isspace():
            words.append(item[start:at])
            start = at = at + 1
        else:
            at += 1
    return [word for word in [*words, item[start:]] if word]


def _destination(item: str) -> list[Target]:
    """One item between commas; several when blanks part them."""
    inner = _unquoted(item)
    if inner.startswith("|"):
        command = _unquoted(inner[1:].strip()).strip()
        if not command:
            raise BadLine("a pipe without a command")
        return [Target(PIPE, command)]
    if inner.startswith("/"):
        return [Target(FILE, inner)]
    if inner.lower().startswith(":include:"):
        return [Target(INCLUDE, inner[9:].strip())]
    if inner.startswith(":") or item.lower().startswith("error:"):
        raise BadLine(f"`{shown(item, 60)}' is not understood")
    words = _words(inner)
    if len(words) > 1 and (not any(c in inner for c in '"<(:;') or any(word.startswith(_QUOTED) for word in words)):
        return [target for word in words for target in _destination(word)]
    if inner.startswith("\\"):
        if why := address.fault(inner[1:]):
            raise BadLine(f"`{shown(item, 60)}': {why}")
        return [Target(LOCAL, inner[1:])]
    if _has_colon(item):
        raise BadLine(f"`{shown(item, 60)}': a colon among the destinations")
    listed = address.addresses(address.to_wire(item))
    if not listed or not inner:
        raise BadLine(f"`{shown(item, 60)}' is not an address")
    for one in listed:
        if why := address.fault(one):
            raise BadLine(f"`{shown(one, 60)}': {why}")
    return [Target(ADDRESS, one) for one in listed]


def _has_colon(item: str) -> bool:
    """Whether there is a colon that does not belong to a quoted string, a literal, a comment or what is in angle brackets."""
    at = 0
    while at < len(item):
        c = item[at]
        if c == '"':
            at += 1
            while at < len(item) and item[at] != '"':
                at += 2 if item[at] == "\\" else 1
        elif c in "[(<":
            at = item.find({"[": "]", "(": ")", "<": ">"}[c], at)
            if at < 0:
                return False
        elif c == ":":
            return True
        at += 1
    return False
