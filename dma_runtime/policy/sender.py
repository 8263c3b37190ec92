"""Who a message is from: the envelope's sender, and what MASQUERADE makes of an address.

Rules (C dma dma.c:98-162; docs/compatibility.md):
- `-f`/`-r` wins, then $EMAIL, then the login. `-f ''` and `-f '<>'` are the null sender (C dma could not say it).
- Without a user part it is the login's, without a host the mail name's.
- MASQUERADE overrides user and host, each if it has one, also for `-f`; never for the null sender.

Pure; built-in modules only.
"""

from __future__ import annotations

from dma_runtime import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    Masquerade = tuple[str, str] | None


def envelope_sender(option: str | None, email: str, login: str, mailname: str, masquerade: Masquerade) -> str:
    """The sender's address; "" is the null sender.

    `option` is the text of -f, None without it; `email` that of $EMAIL; both may be `Name <address>` or `address (Name)`.
    Raises DataError for an option that cannot be an address; an $EMAIL that cannot is not used.
    """
    if option is not None:
        said = address.check_argument(_whole(_address(option), login, mailname), "sender")
        if not said:
            return ""
    else:
        said = _whole(_address(email), login, mailname)
        if said and address.fault(said):
            said = ""
    local, domain = address.split(said)
    return masqueraded(f"{local or login}@{domain.removesuffix('.') or mailname}", masquerade)


def _whole(said: str, login: str, mailname: str) -> str:
    """`@host` and `user@` with the part they lack."""
    if said.count("@") != 1 or len(said) == 1:
        return said
    return f"{login}{said}" if said.startswith("@") else f"{said}{mailname}" if said.endswith("@") else said


def _address(text: str) -> str:
    """The one address of `Name <address>`, `address (Name)` and the like, or the text as it is."""
    if any(c < " " or c == "\x7f" for c in text):
        return text
    found = address.addresses(address.to_wire(text))
    return found[0] if len(found) == 1 else text


def masqueraded(whole: str, masquerade: Masquerade) -> str:
    """`local@domain` with the parts that MASQUERADE gives."""
    if masquerade is None:
        return whole
    local, domain = address.split(whole)
    return f"{masquerade[0] or local}@{masquerade[1] or domain}"


def is_own(domain: str, mailname: str, hostname: str) -> bool:
    """Whether an address with this domain is one of this machine's own: bare, localhost, the host's or the mail name."""
    name = domain.lower().rstrip(".")
    return name in ("", "localhost", "localhost.localdomain", mailname.lower(), hostname.lower())
