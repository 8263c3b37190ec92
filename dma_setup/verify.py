"""Signing in at the relay with the engine that will deliver, before anything is written; and reading the secret back after.

The configuration used is the planned dma.conf as the runtime will parse it, so what is tried is what will be in force.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

from dma_runtime import authconf
from dma_runtime.config import Config
from dma_runtime.outcome import Outcome
from dma_runtime.policy import tls
from dma_runtime.policy.helo import greeting
from dma_runtime.secret import Secret
from dma_setup import reader
from dma_setup.errors import SetupError
from dma_setup.place import Place
from dma_setup.relay import Relay
from dma_setup.system import System

CONNECT_SECONDS = 10
ANSWER_SECONDS = 30


@dataclass(frozen=True)
class Tried:
    """`refusal` is None when the relay is ready to take mail. `peer` and `tls` describe the connection."""

    relay: Relay
    peer: str = ""
    tls: str = ""
    refusal: Outcome | None = None

    @property
    def unreachable(self) -> bool:
        """No server spoke at this port: another port may work."""
        return self.refusal is not None and self.refusal.code == 0 and self.refusal.stage == "connect"

    @property
    def unresolved(self) -> bool:
        """Nobody could say where the relay is."""
        return self.unreachable and self.refusal is not None and self.refusal.text.startswith(f"host {self.relay.host}")


def sign_in(config: Config, relay: Relay, secret: Secret | None) -> Tried:
    """One session up to where MAIL could be sent. Never raises for what the relay says or does."""
    return asyncio.run(_sign_in(config, relay, secret))


async def _sign_in(config: Config, relay: Relay, secret: Secret | None) -> Tried:
    from dma_runtime.delivery.session import Refused, Session, Target, Timeouts

    login = (relay.login, secret) if relay.login and secret is not None else None
    port = int(relay.port)
    policy = tls.decide(config, port, will_authenticate=login is not None)
    limits = Timeouts(connect=CONNECT_SECONDS, ceiling=ANSWER_SECONDS, resolve=CONNECT_SECONDS)
    try:
        session = await Session.open(Target(relay.host, port, policy, login), helo=greeting(socket.getfqdn()), limits=limits)
    except Refused as refused:
        return Tried(relay, refusal=refused.outcome)
    try:
        return Tried(relay, session.peer, _tls_name(session.tls))
    finally:
        await session.quit()


def _tls_name(text: str) -> str:
    """`TLS 1.3` from OpenSSL's `TLSv1.3 TLS_AES_256_GCM_SHA384`."""
    return text.split(" ")[0].replace("TLSv", "TLS ")


def words(outcome: Outcome) -> str:
    """What the relay said, as one sentence: the codes of a reply of several lines once."""
    if not outcome.code:
        return " ".join(outcome.text.split())
    lines = [re.sub(r"^[0-9]{3}[- ]|^[0-9]{3}$", "", line.strip()) for line in outcome.text.split("\n")]
    lines = [line.removeprefix(outcome.status).strip() for line in lines]
    text = " ".join(" ".join(lines).split())
    return " ".join(part for part in (str(outcome.code), outcome.status, text[:300]) if part)


def codes(text: str) -> tuple[int, str]:
    """(550, "5.7.60") of a sentence that quotes a reply; (0, "") when it quotes none."""
    found = re.search(r"\b([45][0-9][0-9])[ -](?:([45]\.[0-9]+\.[0-9]+)\b)?", text)
    return (int(found[1]), found[2] or "") if found else (0, "")


def first_that_answers(relays: list[Relay], attempt: Callable[[Relay], Tried]) -> list[Tried]:
    """Try the ports in order until a server speaks; the last element is the result, those before were unreachable."""
    tried: list[Tried] = []
    for relay in relays:
        tried.append(attempt(relay))
        if not tried[-1].unreachable:
            return tried
    if len(tried) > 1:
        tried.append(tried.pop(0))  # none answers: the first port is the one to talk about
    return tried


def read_back(place: Place, system: System, config: Config, relay: Relay, expected: Secret) -> None:
    """Prove that what delivers will read the very password. Raises SetupError."""
    entry = system.look(place.at(place.auth_conf, follow=True))
    text = entry.content.decode("utf-8", "surrogateescape") if entry is not None else ""
    login = authconf.parse(text, place.auth_conf).find(relay.host, int(relay.port))
    if login is None or login.user != relay.login:
        raise SetupError(f"{place.auth_conf}: another line is in force for {relay.host}; mend it and run again")
    found = reader.read(place, system, config, login)
    if found != expected:
        raise SetupError(f"the password that {place.auth_conf} leads to is not the one just stored")
