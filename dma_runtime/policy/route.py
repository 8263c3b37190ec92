"""Where a recipient's mail goes next: a pure function of the addresses and the configuration.

First that applies:
- No `@`, or a command or file of the aliases: local delivery (aliases were expanded at submission).
- LOCALONLY, DELIVERY LOCALONLY: nothing leaves.
- RELAYMAP has a line for the sender: that relay, with that login.
- SMARTHOST: its host and port, for every domain; then those of FALLBACK, in their order, while it takes no mail. With
  LMTP the smarthost speaks LMTP, over TCP (port 24 unless said otherwise) or the socket whose path it is.
- Otherwise the recipient's domain itself, port 25, by MX records (RFC 5321 5.1; `policy.exchangers`).
"""

from __future__ import annotations

from dma_runtime.aliases import of_address
from dma_runtime.envelope import OPTIONAL, REQUIRE

LOCAL = "local"
RELAY = "relay"  # the smarthost, or a relay of RELAYMAP
DIRECT = "direct"  # by MX
REFUSED = "refused"

SMTP_PORT = 25
LMTP_PORT = 24  # RFC 2033 5: never 25

_MARKS = {REQUIRE: " (REQUIRETLS)", OPTIONAL: " (TLS-Required: No)"}  # mail that wants more, or less, has sessions of its own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config, Host
    from dma_runtime.policy.relaymap import RelayMap


class Hop:
    """One host that may take the mail: `host` (name, address, or the path of a socket) and `port` (0 for a path).

    `login`: which line of auth.conf; a name, "-" for none, "" for the line there is for the host. `main`: it is the
    smarthost that the TLS keys of dma.conf were written for. `direct`: found by MX. A value.
    """

    __slots__ = ("direct", "host", "lmtp", "login", "main", "port")

    def __init__(
        self, host: str, port: int, login: str = "", *, main: bool = False, direct: bool = False, lmtp: bool = False
    ) -> None:
        self.host = host
        self.port = port
        self.login = login
        self.main = main
        self.direct = direct
        self.lmtp = lmtp

    @property
    def key(self) -> str:
        """Its name in the log."""
        place = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{place}:{self.port}" if self.port else place
        return f"{place} as {self.login}" if self.login else place

    def __repr__(self) -> str:
        return f"Hop({self.key})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hop) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.host, self.port, self.login))


class Route:
    """`kind` as above; `host` and `port` for RELAY, the domain and its port for DIRECT; `why` for people.

    `hops`: for RELAY the hosts in the order they are tried. For DIRECT they are found by MX when a session is opened.
    `tls`: what its mail wants of TLS beyond the configuration (envelope.REQUIRE, OPTIONAL), "" as a rule.
    """

    __slots__ = ("hops", "host", "kind", "port", "tls", "why")

    def __init__(self, kind: str, host: str, port: int, why: str, hops: tuple[Hop, ...] = (), tls: str = "") -> None:
        self.kind = kind
        self.host = host
        self.port = port
        self.why = why
        self.hops = hops
        self.tls = tls

    @property
    def key(self) -> str:
        """What recipients are grouped by, and the name a relay has in the log."""
        return self.place + _MARKS.get(self.tls, "")

    @property
    def place(self) -> str:
        """The same without what its mail wants of TLS."""
        return self.hops[0].key if self.hops else self.host if self.kind == DIRECT else self.kind


def route(
    address: str,
    config: Config,
    sender: str = "",
    relays: RelayMap | None = None,
    *,
    port: int = SMTP_PORT,
    tls: str = "",
) -> Route:
    """The route of one recipient address. Raises nothing: a recipient that may not leave is REFUSED, with the reason.

    `port` is where hosts found by MX are reached; `tls` what the message wants of TLS. That counts for nothing where there
    is no sender: a report goes without what it should have rather than not at all (RFC 8689 5).
    """
    require = REQUIRE if tls == REQUIRE and sender else ""
    _, at, domain = address.rpartition("@")
    if not at or of_address(address) is not None:
        return Route(LOCAL, "", 0, f"{address} is a name of this machine")
    if config.nothing_leaves:
        return Route(REFUSED, "", 0, "mail for other machines is switched off here (LOCALONLY)")
    if relays is not None and (entry := relays.find(sender)) is not None:
        return _relay(f"RELAYMAP line {entry.line}", [_hop(entry.relay, config, entry.login)], require)
    if config.SMARTHOST is not None:
        hops = [_smarthost(config.SMARTHOST, config), *(_hop(host, config) for host in config.FALLBACK)]
        return _relay(f"SMARTHOST {config.SMARTHOST}", list(dict.fromkeys(hops)), require)
    why = f"no SMARTHOST: mail exchangers of {domain}"
    return Route(DIRECT, domain.lower().rstrip("."), port, why, tls=tls if tls == OPTIONAL else require)


def named(config: Config, relays: RelayMap | None = None) -> set[str]:
    """The names, as the log has them, of all relays that the configuration knows."""
    found = {_hop(entry.relay, config, entry.login).key for entry in relays.entries.values()} if relays is not None else set()
    if config.SMARTHOST is not None:
        found |= {_smarthost(config.SMARTHOST, config).key, *(_hop(host, config).key for host in config.FALLBACK)}
    return found


def _relay(why: str, hops: list[Hop], tls: str) -> Route:
    return Route(RELAY, hops[0].host, hops[0].port, why, tuple(hops), tls)


def _smarthost(host: Host, config: Config) -> Hop:
    if host.name.startswith("/"):
        return Hop(host.name, 0, main=True, lmtp=True)
    ordinary = LMTP_PORT if config.LMTP and "PORT" not in config.values else config.PORT
    return Hop(host.name, host.port or ordinary, main=True, lmtp=config.LMTP)


def _hop(host: Host, config: Config, login: str = "") -> Hop:
    """A relay of FALLBACK or RELAYMAP. One that is the smarthost itself has the smarthost's TLS and protocol."""
    if config.SMARTHOST is not None and not config.SMARTHOST.name.startswith("/"):
        main = _smarthost(config.SMARTHOST, config)
        if (host.name.lower(), host.port or config.PORT) == (main.host.lower(), main.port):
            return Hop(main.host, main.port, login, main=True, lmtp=main.lmtp)
    return Hop(host.name, host.port or config.PORT, login)
