"""A server that may be the right one, and how it came to be known."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dma_runtime.policy.exchangers import NoExchanger, a_labels
from dma_setup.relay import IMPLICIT


@dataclass(frozen=True)
class Candidate:
    """`tls`: implicit or starttls; nothing without TLS is ever a candidate. `login`: what signs in there, as an address or
    a name. `recipe`: the recipe that knows the server, "" when none does. `guessed`: nobody but the name says it is right.
    """

    host: str
    port: str
    tls: str
    login: str
    source: str
    recipe: str = ""
    guessed: bool = False

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def says(self) -> str:
        return f"{self.where}, {'TLS' if self.tls == IMPLICIT else 'STARTTLS'}"


_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")


def host_name(text: str) -> str:
    """A host name as DNS knows it, lower case; "" for what is none. It came from the net, and is shown and written down."""
    try:
        name = a_labels(text)
    except NoExchanger:
        return ""
    return name if text.isprintable() and _NAME.fullmatch(name) else ""


def is_inside(host: str, domain: str) -> bool:
    """Whether a server belongs to the domain of the address (RFC 6186 6: others have to be confirmed)."""
    host, domain = host.lower().rstrip("."), domain.lower().rstrip(".")
    return host == domain or host.endswith("." + domain)
