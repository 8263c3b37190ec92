"""Which hosts take a domain's mail: the choice among its MX records.

Rules (RFC 5321 5.1):
- The lowest preference first; hosts of equal preference in random order, so that they share the load. `dice` is an
  argument.
- No MX record: the domain itself is its only host (implicit MX).
- A single MX whose host is the root is a domain that takes no mail (null MX, RFC 7505): final, 5.1.10. Beside other
  records it means nothing.
- Finding ourselves among the hosts, we leave out our own preference and all above it: mail would come back. When nobody
  is left, that is final, 5.4.6.
- At most `MOST_HOSTS` are tried in one attempt.

A recipient's domain becomes A-labels before it is looked up (RFC 5890), and may be an address literal in brackets
(RFC 5321 4.1.3), which has no MX records. Pure.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST_HOSTS = 5
LONGEST_NAME = 253  # RFC 1035 2.3.4, in its written form
LONGEST_LABEL = 63

_NOT_SEEN = "\u00ad\u200b\u2060\ufeff"  # soft hyphen and spaces without width; UTS 46 ignores them

Record = tuple[int, str]  # (preference, host in lower case without the final dot; "" is the root)


class NoExchanger(Exception):
    """Nobody takes this domain's mail, and that is final. `status`: RFC 3463."""

    def __init__(self, text: str, status: str) -> None:
        super().__init__(text)
        self.status = status


def choose(domain: str, records: list[Record], ours: frozenset[str], dice: Callable[[], float]) -> list[str]:
    """The hosts to try, in order. `ours`: this host's names in lower case; `dice` gives a number in [0, 1).

    Raises NoExchanger.
    """
    if len(records) == 1 and not records[0][1]:
        raise NoExchanger(f"{domain} takes no mail (null MX)", "5.1.10")  # RFC 7505 4.2
    named = [record for record in records if record[1]] or [(0, domain)]  # RFC 5321 5.1: implicit MX
    own = min((preference for preference, host in named if host in ours), default=None)
    useful = [record for record in named if own is None or record[0] < own]
    if not useful:
        raise NoExchanger(f"mail for {domain} loops back to this machine: it is the domain's best mail exchanger", "5.4.6")
    hosts: list[str] = []
    # Sorted first: in what order an answer names its records is chance already, and the dice alone should decide.
    for _, _, host in sorted((preference, dice(), host) for preference, host in sorted(useful)):
        if host not in hosts:
            hosts.append(host)
    return hosts[:MOST_HOSTS]


def literal(domain: str) -> str:
    """The address in an address literal such as `[192.0.2.1]` or `[IPv6:2001:db8::1]`, "" for any other domain.

    Raises NoExchanger (5.1.3) for brackets around something else.
    """
    if not domain.startswith("["):
        return ""
    from ipaddress import AddressValueError, IPv4Address, IPv6Address

    inner = domain[1:-1] if domain.endswith("]") else ""
    try:
        if inner[:5].lower() == "ipv6:":
            return str(IPv6Address(inner[5:]))
        return str(IPv4Address(inner))
    except AddressValueError:
        raise NoExchanger(f"{domain} is not an address", "5.1.3") from None


def a_labels(domain: str) -> str:
    """The domain as DNS knows it: lower case, ASCII, without a final dot. Raises NoExchanger (5.1.2) when it cannot be one.

    Labels beyond ASCII are composed, folded to lower case and written in Punycode (RFC 5891 5, with the mapping of RFC 5895
    2; `ß` and `ς` keep their meaning). Whether a registry would accept the label is the registry's to say.
    """
    if domain.isascii():
        domain = domain.lower()
    else:
        import unicodedata

        for _ in range(2):  # what is composed may need folding, and what is folded composing
            domain = unicodedata.normalize("NFKC", _fold(domain))
        domain = domain.replace("\u3002", ".")
    labels = domain.removesuffix(".").split(".")
    found = [label if label.isascii() else _punycode(label) for label in labels]
    name = ".".join(found)
    if len(name) > LONGEST_NAME or not all(0 < len(label) <= LONGEST_LABEL for label in found):
        raise NoExchanger(f"{domain} is not a domain name", "5.1.2")
    return name


def ascii_domain(address: str) -> str:
    """The address with A-labels, where a relay without SMTPUTF8 can then take it: the local part is ASCII (RFC 6531 3.2)."""
    if address.isascii():
        return address
    local, at, domain = address.rpartition("@")
    if not at or not local.isascii() or domain.startswith("["):
        return address
    try:
        return f"{local}@{a_labels(domain)}"
    except NoExchanger:
        return address


def _fold(text: str) -> str:
    """Without case, but for what would become another name; Cherokee folds to capitals, which Python's casefold does not."""
    return "".join(
        c.lower() if c in "\u1e9e\u00df\u03c2" else c if "\u13a0" <= c <= "\u13f5" else c.casefold()
        for c in text
        if c not in _NOT_SEEN
    )


def _punycode(label: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in label):  # bytes that were no UTF-8
        return ""
    return "xn--" + label.encode("punycode").decode("ascii")
