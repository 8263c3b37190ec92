"""What is set up at a place now: the relay of dma.conf, the login of auth.conf, and where its password is."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dma_runtime import authconf
from dma_runtime import config as configs
from dma_setup import recipe as recipes
from dma_setup.errors import SetupError
from dma_setup.facts import keyrings
from dma_setup.place import Place
from dma_setup.question import SECRET, Question
from dma_setup.recipe import Recipe
from dma_setup.relay import IMPLICIT, NONE, OPPORTUNISTIC, STARTTLS, Relay
from dma_setup.system import System

SYSTEM_CONF = configs.SYSTEM_CONF


@dataclass(frozen=True)
class Present:
    """`login` is None when the relay needs none; `keyring` is a value of the question of that name, "" when unknown."""

    config: configs.Config
    relay: Relay | None
    login: authconf.Login | None
    keyring: str
    recipe: Recipe | None  # whose relay this is, when one is known

    @property
    def who(self) -> str:
        return self.recipe.provider.name if self.recipe is not None else ""

    @property
    def question(self) -> Question:
        """The question for the password: the recipe's, else a plain one."""
        if self.recipe is not None and self.recipe.relay is not None:
            found = self.recipe.question(self.recipe.relay.password)
            if found is not None:
                return found
        return Question("password", SECRET, "Password")


def read(place: Place, system: System) -> Present:
    """Raises SetupError when nothing is set up."""
    entry = system.look(place.at(place.dma_conf, follow=True))
    if entry is None:
        text = f"nothing is set up here: there is no {place.shown(place.dma_conf)}; see dma-setup list"
        raise SetupError(text, details=_others(place))
    config = configs.parse(entry.content.decode("utf-8", "surrogateescape"), place.dma_conf)
    config.system = not place.is_user and place.is_live
    if config.SMARTHOST is None:
        return Present(config, None, None, "", None)
    host, port = config.SMARTHOST.name, config.SMARTHOST.port or config.PORT
    auth = system.look(place.at(config.AUTHPATH or place.auth_conf, follow=True))
    text = auth.content.decode("utf-8", "surrogateescape") if auth is not None else ""
    login = authconf.parse(text, config.AUTHPATH or place.auth_conf).find(host, port)
    relay = Relay(host, str(port), _tls(config), login.user if login is not None else "", config.FINGERPRINT or "")
    now = str(keyrings.now(place, system).values["keyring_now"])
    recipe = recipes.by_host(host)
    if recipe is not None and host.startswith("127.") and recipe.name != last_recipe(place, system)[0]:
        recipe = None  # every relay on this very machine is at that address
    return Present(config, relay, login, now, recipe)


def last_recipe(place: Place, system: System) -> tuple[str, str]:
    """(the recipe that was applied last, its saved answers), by the newest of these; empty when there are none."""
    start, end = "answers.", ".yml"
    inside = system.listing(place.at(place.config))
    names = [name for name in inside if name.startswith(start) and name.endswith(end)]
    if not names:
        return "", ""
    newest = max(names, key=lambda name: os.lstat(place.at(f"{place.config}/{name}")).st_mtime)
    return newest.removeprefix(start).removesuffix(end), f"{place.config}/{newest}"


def _others(place: Place) -> list[str]:
    """Where something is set up that may have been meant."""
    if place.is_user and place.is_live and os.path.exists(SYSTEM_CONF):
        return ["  This machine is set up as a whole; that is seen as root: sudo, or --system."]
    return []


def _tls(config: configs.Config) -> str:
    if not config.SECURETRANSFER:
        return NONE
    if not config.STARTTLS:
        return IMPLICIT
    return OPPORTUNISTIC if config.OPPORTUNISTIC_TLS else STARTTLS
