"""Where a recipient's mail goes next: a pure function of the address and the configuration.

- No `@`: local delivery (aliases were expanded at submission).
- LOCALONLY: nothing leaves.
- SMARTHOST: its host and port, for every domain.
- Otherwise the recipient's domain itself, port 25, by MX records (RFC 5321 5.1).
"""

from __future__ import annotations

LOCAL = "local"
RELAY = "relay"  # the smarthost
DIRECT = "direct"  # by MX
REFUSED = "refused"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config


class Route:
    """`kind` as above; `host` and `port` for RELAY, the domain and 25 for DIRECT; `why` for people."""

    __slots__ = ("host", "kind", "port", "why")

    def __init__(self, kind: str, host: str, port: int, why: str) -> None:
        self.kind = kind
        self.host = host
        self.port = port
        self.why = why

    @property
    def key(self) -> str:
        """What recipients are grouped by, and the name a relay has in the log."""
        return f"{self.host}:{self.port}" if self.kind in (RELAY, DIRECT) else self.kind


def route(address: str, config: Config) -> Route:
    """The route of one recipient address. Raises nothing: a recipient that may not leave is REFUSED, with the reason."""
    _, at, domain = address.rpartition("@")
    if not at:
        return Route(LOCAL, "", 0, f"{address} is a name of this machine")
    if config.nothing_leaves:
        return Route(REFUSED, "", 0, "mail for other machines is switched off here (LOCALONLY)")
    if config.SMARTHOST is not None:
        relay = config.SMARTHOST
        return Route(RELAY, relay.name, relay.port or config.PORT, f"SMARTHOST {relay}")
    return Route(DIRECT, domain.lower().rstrip("."), 25, f"no SMARTHOST: mail exchangers of {domain}")
