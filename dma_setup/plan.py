"""From a recipe, answers and facts to the list of changes: what is compared with what should be, nothing is written.

Each step is planned against the view, which already holds the changes of the steps before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dma_runtime import config
from dma_setup import journal as journals
from dma_setup import render, threeway
from dma_setup.answers import Answers, Known, default
from dma_setup.changes import Change
from dma_setup.changes.path import HIDE_ALL, PathChange
from dma_setup.errors import SetupError
from dma_setup.place import Place
from dma_setup.recipe import Recipe
from dma_setup.relay import Relay
from dma_setup.system import FILE, System
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
    """`changes` in the order they are made; `right`: what needs none; `config`: dma.conf as it will be.

    `seen`: the journals as they were when this was planned (see `journal.state`). `asks`: the notes that want something done even
    where nothing changes.
    """

    changes: tuple[Change, ...]
    right: tuple[str, ...]
    notes: tuple[str, ...]
    config: config.Config
    seen: str = ""
    asks: tuple[str, ...] = ()

    @property
    def replaces(self) -> tuple[Change, ...]:
        """The changes that replace something which is not ours."""
        return tuple(change for change in self.changes if change.replaces)


def left_empty(recipe: Recipe, answers: dict[str, str], values: dict[str, Any]) -> list[str]:
    """Questions whose empty answer was chosen: left out, it would be another, the default."""
    empty = [question for question in recipe.questions if question.id in answers and not answers[question.id]]
    return [question.id for question in empty if not question.is_secret and default(question, values)[0]]


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
    values["left_empty"] = left_empty(recipe, answers.values, values)
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
    """The plan that a view holds; what somebody else wrote and would lose is marked and said."""
    _mark_losses(view)
    conf = view.text(view.resolve(view.place.dma_conf)) or ""
    parsed = config.parse(conf, view.place.dma_conf)
    parsed.system = not view.place.is_user and view.place.is_live
    changes = sorted(view.changes, key=lambda change: change.last)
    return Plan(tuple(changes), tuple(view.right), tuple(view.notes), parsed, journals.state(view.place), tuple(view.asks))


def _mark_losses(view: View) -> None:
    differing = [
        change
        for change in view.changes
        if isinstance(change, PathChange) and change.sign == "~" and change.before is not None and change.before.kind == FILE
    ]
    if not differing:
        return
    left = journals.left(view.place, view.system)
    for change in differing:
        assert change.before is not None
        assert change.after is not None
        ours = left.get(change.path)
        if ours is not None and ours.is_still(change.before.content):
            continue
        before = change.compared(ours.content) if ours is not None and ours.content is not None else None
        now = change.compared(change.after.content) if change.after.kind == FILE else []
        goes, back = threeway.lost(before, change.compared(change.before.content), now)
        if change.hides == HIDE_ALL:
            goes = ["***"]  # of a secret no line is compared
        if goes or back:
            marked = replace(change, overwrites=(*(f"-{line}" for line in goes), *(f"+{line}" for line in back)))
            view.changes[view.changes.index(change)] = marked
            view.note(threeway.sentence(change.subject, goes, back, is_ours=ours is not None))
