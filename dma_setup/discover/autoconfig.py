"""The autoconfig format of Thunderbird and others (draft-ietf-mailmaint-autoconfig-04): the outgoing SMTP servers of it.

Read by expat with DTDs and entities refused: a document that declares any is no configuration. Servers without TLS, and
such as take neither a password nor anything else known here, are left out; so are names that are no host names and
logins with characters that a terminal would obey.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat

from dma_setup.discover.candidate import Candidate, host_name
from dma_setup.discover.network import NothingThere
from dma_setup.relay import IMPLICIT, STARTTLS

_TLS = {"SSL": IMPLICIT, "STARTTLS": STARTTLS}
_PASSWORD = {"password-cleartext", "password-encrypted", "plain", "secure"}  # the last two are older spellings


@dataclass
class _Server:
    texts: dict[str, str] = field(default_factory=dict)
    ways: set[str] = field(default_factory=set)


def servers(body: bytes, address: str, source: str) -> list[Candidate]:
    """In the document's order. Raises NothingThere for what is no such document, or names no server of use."""
    found = []
    for server in _read(body):
        tls = _TLS.get(server.texts.get("socketType", ""))
        host, port = host_name(_fill(server.texts.get("hostname", ""), address)), server.texts.get("port", "")
        login = _fill(server.texts.get("username", "%EMAILADDRESS%"), address)
        is_port = re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) < 65536
        takes_passwords = not server.ways or server.ways & _PASSWORD
        if tls is not None and host and is_port and takes_passwords and login and login.isprintable():
            found.append(Candidate(host, str(int(port)), tls, login, source))
    if not found:
        raise NothingThere("names no server with TLS and a password")
    return found


def _fill(text: str, address: str) -> str:
    local, _, domain = address.rpartition("@")
    for name, value in (("%EMAILADDRESS%", address), ("%EMAILLOCALPART%", local), ("%EMAILDOMAIN%", domain)):
        text = text.replace(name, value)
    return text.strip()


def _read(body: bytes) -> list[_Server]:
    found: list[_Server] = []
    path: list[str] = []
    text: list[str] = []

    def refuse(*_: object) -> None:
        raise NothingThere("declares a document type; that is not read")

    def start(name: str, attributes: dict[str, str]) -> None:
        path.append(name)
        text.clear()
        if name == "outgoingServer" and attributes.get("type") == "smtp" and path[:-1] == ["clientConfig", "emailProvider"]:
            found.append(_Server())

    def end(name: str) -> None:
        if path[:3] == ["clientConfig", "emailProvider", "outgoingServer"] and len(path) == 4 and found:
            value = "".join(text).strip()
            if name == "authentication":
                found[-1].ways.add(value)
            else:
                found[-1].texts.setdefault(name, value)
        path.pop()
        text.clear()

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise NothingThere(f"is not XML: {error}") from None
    return found
