"""From a recipe, answers and facts to the list of changes: what is compared with what should be, nothing is written.

Each step is planned against the view, which already holds the changes of the steps before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dma_runtime import config
from dma_setup import render
from dma_setup.answers import Answers, Known
from dma_setup.changes import Change
from dma_setup.errors import SetupError
from dma_setup.place import Place
from dma_setup.recipe import Recipe
from dma_setup.relay import Relay
from dma_setup.system import System
from dma_setup.verbs import (
    account,
    alias,
    directory,
    launcher,
    library,
    link,
    login,
    mailer,
    oldqueue,
    saved,
    secret,
    service,
    settings,
    stop,
    wake,
)
from dma_setup.view import Verb, View

VERBS: dict[str, Verb] = {
    "account": account.plan,
    "alias": alias.plan,
    "directory": directory.plan,
    "launcher": launcher.plan,
    "library": library.plan,
    "link": link.plan,
    "login": login.plan,
    "mailer": mailer.plan,
    "oldqueue": oldqueue.plan,
    "saved": saved.plan,
    "secret": secret.plan,
    "service": service.plan,
    "settings": settings.plan,
    "stop": stop.plan,
    "wake": wake.plan,
}


@dataclass(frozen=True)
class Plan:
    """`changes` in the order they are made; `right`: what needs none; `config`: dma.conf as it will be."""

    changes: tuple[Change, ...]
    right: tuple[str, ...]
    notes: tuple[str, ...]
    config: config.Config

    @property
    def replaces(self) -> tuple[Change, ...]:
        """The changes that replace something which is not ours."""
        return tuple(change for change in self.changes if change.replaces)


def context(
    recipe: Recipe,
    place: Place,
    facts: dict[str, Any],
    answers: dict[str, str],
    relay: Relay | None,
    saved_values: dict[str, Any],
) -> dict[str, Any]:
    """What recipe strings may name."""
    empty = Relay("", "", "none", "", "")
    return {
        **{question.id: "" for question in recipe.questions if not question.is_secret},
        **answers,
        "recipe": recipe.name,
        "guided": False,
        "place": place,
        "facts": Known(facts),
        "saved": Known(saved_values),
        "relay": relay or empty,
        "secret_id": recipe.relay.password if recipe.relay is not None else "",
        "number_ids": [question.id for question in recipe.questions if question.type == "port"],
    }


def make(
    recipe: Recipe,
    place: Place,
    system: System,
    facts: dict[str, Any],
    answers: Answers,
    relay: Relay | None,
    more: Callable[[View], None] | None = None,
) -> Plan:
    """The plan. `more` plans what no recipe knows, behind its steps. Raises SetupError when none can be made."""
    values = context(recipe, place, facts, answers.values, relay, {})
    view = View(place, system, facts, values, answers.secret, answers.values)
    for step in recipe.steps:
        try:
            if step.when and not render.truth(step.when, values):
                continue
            for change in VERBS[step.verb](render.fill(step.arguments, values), view):
                view.add(change)
        except KeyError as error:
            raise SetupError(f"{step.where}: {step.verb} needs {error}") from None
    if more is not None:
        more(view)
    if place.is_user and place.uid == 0:
        needed = f"DMA_CONF={place.shown(place.dma_conf)}"
        view.note(f"root never reads user-mode files by itself: its programs need {needed} in their environment")
    return finish(view)


def finish(view: View) -> Plan:
    """The plan that a view holds."""
    conf = view.text(view.resolve(view.place.dma_conf)) or ""
    parsed = config.parse(conf, view.place.dma_conf)
    parsed.system = not view.place.is_user and view.place.is_live
    return Plan(tuple(view.changes), tuple(view.right), tuple(view.notes), parsed)
