"""`dma-setup show RECIPE`: its questions as an answers file to fill in, each with what it means."""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import Any

from dma_setup import answers, recipe
from dma_setup.question import Question
from dma_setup.recipe import Recipe


def register(verbs: Any) -> None:
    parser = verbs.add_parser("show", help="a recipe's questions, as an answers file to fill in")
    parser.add_argument("recipe", metavar="RECIPE")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    sys.stdout.write(skeleton(recipe.read(options.recipe)))
    return 0


def skeleton(found: Recipe) -> str:
    """An answers file: required answers stand open, the others are comments with their defaults."""
    about = [f"Answers for: dma-setup {found.name} --answers THIS FILE", f"{found.summary}."]
    if found.limits:
        about.append("Limits: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.limits.items()) + ".")
    lines = [f"# {line}" for text in about for line in textwrap.wrap(text, 77)]
    for question in found.questions:
        lines.append("")
        lines += _comment(question)
        lines.append(_line(question))
    return "\n".join(lines) + "\n"


def _comment(question: Question) -> list[str]:
    text = question.ask.rstrip(" :?") + ("?" if question.ask.endswith("?") else ".")
    lines = textwrap.wrap(text, 77)
    lines += [part for line in question.help.splitlines() for part in textwrap.wrap(line, 77)]
    for value, says in question.choices.items():
        lines += textwrap.wrap(f"{value}: {says}", 77, initial_indent="  ", subsequent_indent="    ")
    if question.is_secret:
        lines.append("A reference: {env: NAME}, {file: PATH}, {command: WORDS}, {credential: NAME},")
        lines.append("{stdin: true}, or {keyring: true} for the one that is stored already.")
    if question.when:
        lines.append(f"Asked only when {question.when}.")
    sources = [
        default.says
        for default in question.defaults
        if default.says and "saved." not in default.value and "guided" not in default.value
    ]
    if sources:
        lines.append(f"Default: {', else '.join(dict.fromkeys(sources))}.")
    return [f"# {line}" for line in lines]


def is_required(question: Question) -> bool:
    """Whether an unattended run has no other answer: suggestions to a person, such as what was answered last, are none."""
    return not question.optional and all("saved." in each.value or "guided" in each.value for each in question.defaults)


def _line(question: Question) -> str:
    if question.is_secret:
        return f"{question.id}: {{env: DMA_{question.id.upper()}}}"
    if not is_required(question):
        return f"#{question.id}: {answers.example(question)}"
    return f"{question.id}: {answers.example(question)}"
