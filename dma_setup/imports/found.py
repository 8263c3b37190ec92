"""What another program's settings say, in our words.

A reader is a function `read(files: Files) -> Imported`. It raises ImportProblem for a file that is not of its program; what
it understands but cannot carry over is a note, and so is every key it does not know: nothing is dropped silently.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from dma_runtime.secret import Secret
from dma_setup.errors import UsageProblem
from dma_setup.relay import IMPLICIT, OPPORTUNISTIC, STARTTLS

MAILNAME = "/etc/mailname"  # where Debian's mail programs have the machine's name for mail; MAILNAME may name the file


class ImportProblem(UsageProblem):
    """A file cannot be read, or is not what it was taken for."""


@dataclass
class Account:
    """A relay and how to sign in there. `tls`: implicit, starttls, opportunistic, none or "" (by the port).

    `command`: the words that print the password, "" when it is `secret` or there is none. `pattern`: the senders it is
    for, as in RELAYMAP; "" for the ordinary one.
    """

    host: str
    port: str = ""
    tls: str = ""
    login: str = ""
    secret: Secret | None = None
    command: str = ""
    fingerprint: str = ""
    sender: str = ""
    pattern: str = ""

    @property
    def where(self) -> str:
        return written(self.host, self.port)

    def usual_tls(self) -> str:
        """`tls` as the recipe names it, made safe for a login: what is not encrypted is never used with one."""
        if self.login and self.tls in ("none", OPPORTUNISTIC):
            return IMPLICIT if self.port == "465" else STARTTLS
        return self.tls or "auto"


@dataclass
class Imported:
    """`program` as people call it. `accounts`: the ordinary one first. `settings`: further keys of dma.conf."""

    program: str
    accounts: list[Account] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    root_mail: str = ""
    null_client: bool = False
    local_only: bool = False
    direct: bool = False
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class Files:
    """The files given, by their base names, and those that lie beside them."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = {os.path.basename(path.rstrip("/")): path for path in paths}
        self.first = paths[0]

    def text(self, name: str, *, elsewhere: str = "") -> str | None:
        """The text of a file: as given, else beside the first, else at `elsewhere`; None when it is nowhere."""
        folder = self.first if os.path.isdir(self.first) else os.path.dirname(os.path.abspath(self.first))
        for path in (self.paths.get(name, ""), os.path.join(folder, name), elsewhere):
            if path and os.path.isfile(path):
                return content(path)
        return None


def content(path: str) -> str:
    """Raises ImportProblem."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        raise ImportProblem(f"{path}: {error.strerror}") from None


def settings(text: str) -> list[tuple[int, str]]:
    """(line number, line) of the lines that say something, `#` comments at their start left out."""
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def written(host: str, port: str) -> str:
    """`host`, `host:port` or `[address]:port`, as dma.conf writes them."""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def host_port(text: str, between: str = ":") -> tuple[str, str]:
    """(host, port) of `host`, `host:port`, `[host]:port`; the port "" when there is none."""
    text = text.strip()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(between)
    host, found, port = text.rpartition(between)
    return (host, port) if found and host and ":" not in host else (text, "")
