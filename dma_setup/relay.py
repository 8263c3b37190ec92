"""The relay of a recipe with everything filled in: where mail goes, how, and as whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dma_runtime import config
from dma_setup import render
from dma_setup.errors import SetupError
from dma_setup.recipe import Recipe

IMPLICIT = "implicit"
STARTTLS = "starttls"
OPPORTUNISTIC = "opportunistic"
NONE = "none"

IMPLICIT_PORTS = ("465", "2465", "8465", "443")


@dataclass(frozen=True)
class Relay:
    host: str
    port: str
    tls: str
    login: str
    fingerprint: str

    @property
    def says(self) -> str:
        """What is said of the connection, in the plan."""
        if self.tls == NONE:
            return "not encrypted"
        if self.tls == OPPORTUNISTIC:
            return "TLS where it is offered"
        return "TLS, certificate pinned" if self.fingerprint else "TLS verified" if self.login else "TLS"


def login(recipe: Recipe, values: Mapping[str, Any]) -> str:
    """The login name, "" while the answers it is made of are missing, or when there is none."""
    if recipe.relay is None:
        return ""
    try:
        return render.text(recipe.relay.login, dict(values))
    except SetupError:
        return ""


def candidates(recipe: Recipe, values: Mapping[str, Any], now: config.Config | None) -> list[Relay]:
    """The relay with each port it may be reached at, best first. A port in use for the same host now comes first."""
    if recipe.relay is None:
        return []
    known = dict(values)
    text = render.text(recipe.relay.host, known)
    try:
        host = config.host(text)
    except config.BadValue as bad:
        raise SetupError(f"{text}: {bad}") from None
    filled = " ".join(render.text(port, known) for port in recipe.relay.ports)
    ports = [str(host.port)] if host.port else filled.replace(",", " ").split() or ["25"]
    user = render.text(recipe.relay.login, known)
    wanted = render.text(recipe.relay.tls, known)
    if user and wanted in (NONE, OPPORTUNISTIC):
        raise SetupError(f"a password is never sent over a connection that may not be encrypted: tls: {wanted} needs no login")
    present = now.SMARTHOST if now is not None else None
    if now is not None and present is not None and present.name == host.name:
        used = str(present.port or now.PORT)
        if used in ports:
            ports = [used, *(port for port in ports if port != used)]
    fingerprint = render.text(recipe.relay.fingerprint, known)
    return [Relay(host.name, port, wanted or _tls(port, bool(user)), user, fingerprint) for port in ports]


def _tls(port: str, has_login: bool) -> str:
    if port in IMPLICIT_PORTS:
        return IMPLICIT
    return STARTTLS if has_login else OPPORTUNISTIC
