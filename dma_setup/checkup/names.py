"""DNS: whether the relay's name, or anybody's mail exchanger, can be found from here."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from dma_setup.checkup.finding import FAIL, OK, WARN, Diagnosis, Patient
from dma_setup.facts.provider import mail_exchangers

SLOW = 3.0  # seconds; every attempt waits that long again


def check(patient: Patient) -> Iterator[Diagnosis]:
    if not patient.online:
        return
    relay = patient.present.relay
    if relay is not None:
        yield _host(relay.host)
    elif patient.direct:
        yield _exchangers(patient.sender_domain()[0])


def _host(host: str) -> Diagnosis:
    began = time.monotonic()
    try:
        found = {item[4][0] for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        text = f"{host} cannot be found: mail to it waits"
        evidence = f"{error.strerror or error}; resolvers: {', '.join(resolvers()) or 'none in /etc/resolv.conf'}"
        return Diagnosis("dns", FAIL, text, evidence, f"getent ahosts {host}    # then look at /etc/resolv.conf")
    took = time.monotonic() - began
    if took > SLOW:
        text = f"looking up {host} took {took:.0f} seconds; a resolver does not answer"
        return Diagnosis("dns", WARN, text, f"resolvers: {', '.join(resolvers())}", "cat /etc/resolv.conf")
    return Diagnosis("dns", OK, f"{host} is found: {len(found)} address{'es' if len(found) != 1 else ''}")


def _exchangers(domain: str) -> Diagnosis:
    if mail_exchangers(domain) is None:
        text = "no resolver answers: mail cannot find its recipients' servers, and waits"
        evidence = f"resolvers: {', '.join(resolvers()) or 'none in /etc/resolv.conf'}"
        return Diagnosis("dns", FAIL, text, evidence, "cat /etc/resolv.conf")
    return Diagnosis("dns", OK, "the resolvers answer")


def resolvers() -> list[str]:
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
