"""Whether the relay answers, at which of its ports, and what its certificate is worth: no credential is involved.

A port is `open` when a TCP connection is made. TLS is looked at where it starts with the first byte (465 and its like);
for STARTTLS the signing in that follows looks at it.
"""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

from dma_setup.facts.look import FAIL, OK, WARN, Found
from dma_setup.relay import IMPLICIT, Relay

SECONDS = 6.0
UNRESOLVED = "unresolved"  # for `_try`: no address is known


def probe(relays: list[Relay]) -> Found:
    """`relays`: one relay with each of its ports. Values: `open_ports`, in the order of `relays`; `unresolved`: whether its
    name could not be found.
    """
    found = Found()
    with ThreadPoolExecutor(max_workers=len(relays) or 1) as pool:
        answers = list(pool.map(_try, relays))
    found.values["open_ports"] = [relay.port for relay, answer in zip(relays, answers, strict=True) if answer[0] in (OK, WARN)]
    found.values["unresolved"] = any(mark == UNRESOLVED for mark, _ in answers)
    if found.values["unresolved"]:
        found.say(FAIL, answers[0][1])
        return found
    first_bad = ""
    for relay, (mark, text) in zip(relays, answers, strict=True):
        if mark == FAIL:
            first_bad = first_bad or text
            continue
        if first_bad:
            found.say(WARN, f"{first_bad}; using port {relay.port} instead")
        found.say(mark, text)
        return found
    if relays:
        others = " or ".join(relay.port for relay in relays[1:])
        found.say(FAIL, first_bad + (f"; nor does port {others}" if others else ""))
    return found


def _try(relay: Relay) -> tuple[str, str]:
    name = f"{relay.host}:{relay.port}"
    try:
        connection = socket.create_connection((relay.host, int(relay.port)), SECONDS)
    except socket.gaierror as error:
        return UNRESOLVED, f"{relay.host} cannot be found: {error.strerror}"
    except OSError as error:
        return FAIL, f"{name} does not answer: {error.strerror or error}"
    with connection:
        if relay.tls != IMPLICIT:
            return OK, f"{name} answers"
        context = ssl.create_default_context()
        if relay.fingerprint:
            return OK, f"{name} answers"
        try:
            with context.wrap_socket(connection, server_hostname=relay.host) as secured:
                return OK, f"{name} answers, {(secured.version() or 'TLS').replace('TLSv', 'TLS ')}, certificate valid"
        except ssl.SSLCertVerificationError as error:
            return WARN, f"{name} answers, but its certificate is not valid: {error.verify_message}"
        except (OSError, ValueError) as error:
            return WARN, f"{name} answers, but not with TLS: {getattr(error, 'reason', '') or error}"
