"""Prompts on a terminal, through questionary. Everything a person types comes through here; secrets are not echoed.

Prompts go to standard error. Ctrl-C raises KeyboardInterrupt (`unsafe_ask`), which the door handles once.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import questionary
from prompt_toolkit.output import create_output

from dma_runtime.secret import Secret
from dma_setup.plan import Plan
from dma_setup.question import Question, Refused
from dma_setup.report import Report
from dma_setup.secret import clean

# Asking the terminal where its cursor is only helps menus that fill the screen, and confuses terminals that do not answer.
os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")

STYLE = questionary.Style([("qmark", "bold"), ("question", "bold"), ("answer", ""), ("instruction", "")])


def _where() -> dict[str, Any]:
    return {"output": create_output(stdout=sys.stderr), "style": STYLE, "qmark": "?"}


def answer(report: Report, question: Question, default: str, source: str, note: str) -> str:
    """An answer to any question but a secret, asked until it can be accepted."""
    title = f"{question.ask} ({note})" if note else question.ask
    if default:
        title += f" [{default}]"
    if question.help and not note:
        report.advice(question.help.splitlines())
    if default and source:
        report.advice([f"Default: {source}."])
    while True:
        said = str(questionary.text(title, **_where()).unsafe_ask())
        try:
            return question.accept(said.strip() or default)
        except Refused as refused:
            report.warn(f"That {refused}.")


def secret(report: Report, question: Question, note: str) -> Secret:
    """A password, not echoed. What does not look like one is asked about once, then used."""
    title = f"{question.ask} ({note}):" if note else f"{question.ask}:"
    if not note:
        report.advice(question.help.splitlines())
    while True:
        said = str(questionary.password(title, **_where()).unsafe_ask())
        try:
            found = clean(question, said)
        except Refused as refused:
            report.warn(f"That {refused}.")
            continue
        warning = question.warning(found.reveal())
        if not warning:
            return found
        report.warn(f"{warning}.")
        if yes("Use it anyway?", default=False):
            return found


def yes(title: str, *, default: bool) -> bool:
    return bool(questionary.confirm(title, default=default, **_where()).unsafe_ask())


def choose(title: str, choices: dict[str, str], default: str = "") -> str:
    """One of `choices` (value -> what it means), by the arrow keys."""
    width = max(len(value) for value in choices)
    shown = [questionary.Choice(f"{value:<{width}}  {says}", value) for value, says in choices.items()]
    first = next((choice for choice in shown if choice.value == default), None)
    return str(questionary.select(title, shown, default=first, instruction=" ", **_where()).unsafe_ask())


def confirm(plan: Plan) -> str:
    """Asks "Apply?": `yes`, `no` or `diff`. The default is No when something of somebody else's is replaced."""
    default = "no" if plan.replaces else "yes"
    shown = "[y/N/diff]" if plan.replaces else "[Y/n/diff]"
    what = f" {', '.join(change.subject for change in plan.replaces)} will be replaced." if plan.replaces else ""
    while True:
        said = str(questionary.text(f"Apply?{what} {shown}", **_where()).unsafe_ask()).strip().lower()
        if not said:
            return default
        for word in ("yes", "no", "diff"):
            if word.startswith(said):
                return word
