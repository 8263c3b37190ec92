"""Answers given beforehand: a file in YAML, TOML or JSON (`-` is standard input, in any of them) and `--set KEY=VALUE`, which wins.

`collect` goes through a recipe's questions with these answers and their defaults and reports everything that is missing
or wrong at once (`Incomplete`), with the lines one would have to add.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dma_setup import derive, render, yamlfile
from dma_setup.errors import FileProblem, SetupError, UsageProblem
from dma_setup.question import Question, Refused
from dma_setup.recipe import Recipe
from dma_setup.secret import PLAIN, SecretAnswer, Sources

TOML = re.compile(r"(?:\s*#.*\n)*\s*(?:\[[^]\n]+\]\s*\n|[\w.\"'-]+[ \t]*=)")  # how standard input in TOML begins
_AT_LINE = re.compile(r" \(at line ([0-9]+), column [0-9]+\)")


@dataclass
class Given:
    """What was given. `path` is for messages, `folder` is where relative `{file: …}` start, `stdin_is_taken` for `-`."""

    values: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    folder: str = "."
    stdin_is_taken: bool = False
    lines: Callable[[str], int] = lambda _: 0

    def where(self, name: str) -> str:
        line = self.lines(name)
        return f"  ({self.path}:{line})" if line else ""


@dataclass(frozen=True)
class Wrong:
    question: Question | None
    id: str
    reason: str


class Incomplete(UsageProblem):
    """Answers are missing or wrong; all are listed."""


@dataclass
class Answers:
    """`values`: id -> text; the secret's is "" (it is in `secret`, with `secret_id`). `warnings`: what looks odd."""

    values: dict[str, str] = field(default_factory=dict)
    secret: SecretAnswer | None = None
    secret_id: str = ""
    warnings: list[str] = field(default_factory=list)


# ---------------------------------------------------------------- reading


def read(path: str | None, settings: list[str], recipe: Recipe) -> Given:
    """Raises FileProblem and UsageProblem."""
    given = _file(path) if path is not None else Given()
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageProblem(f"--set needs KEY=VALUE, not {name}")
        question = recipe.question(name)
        if question is not None and question.is_secret:
            raise UsageProblem(
                f"--set {name}: a secret is never taken from the command line, where others can see it", skeleton([question])
            )
        given.values[name] = value
    return given


def _file(path: str) -> Given:
    shown = "standard input" if path == "-" else path
    try:
        if path == "-":
            text = sys.stdin.read()
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read()
    except OSError as error:
        raise FileProblem(shown, 0, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise FileProblem(shown, 0, "is not UTF-8 text") from None
    given = Given(path=shown, folder=os.getcwd() if path == "-" else os.path.dirname(os.path.abspath(path)))
    given.stdin_is_taken = path == "-"
    if path.endswith(".toml") or (path == "-" and TOML.match(text)):
        given.values = _toml(text, shown)
    elif path.endswith(".json") or (path == "-" and text.lstrip()[:1] == "{"):
        given.values = _json(text, shown)
    else:
        data = yamlfile.load(text, shown)
        if data.value is None:
            data.value = {}
        if not isinstance(data.value, dict):
            raise FileProblem(shown, data.at(), "must hold answers, one `key: value` a line")
        given.values = data.value
        given.lines = data.at
    return given


def _toml(text: str, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        place = _AT_LINE.search(str(error))
        raise FileProblem(path, int(place[1]) if place else 0, _AT_LINE.sub("", str(error))) from None


def _json(text: str, path: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FileProblem(path, getattr(error, "lineno", 0), getattr(error, "msg", str(error))) from None
    if not isinstance(found, dict):
        raise FileProblem(path, 1, "must hold one object of answers")
    return found


# ---------------------------------------------------------------- going through the questions


class Known:
    """A namespace for recipe strings in which what is not known is empty text."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._values.get(name, "")

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name, "")


def applies(question: Question, values: Mapping[str, Any]) -> bool:
    return not question.when or render.truth(question.when, dict(values))


def default(question: Question, values: Mapping[str, Any]) -> tuple[str, str]:
    """(value, where it comes from) of the first default that is not empty and acceptable."""
    for candidate in question.defaults:
        text = render.text(candidate.value, dict(values)).strip()
        if text in ("", "None"):
            continue
        try:
            return question.accept(text), candidate.says
        except Refused:
            continue
    return "", ""


def _refusal(question: Question, given: Any) -> str:
    try:
        question.accept(given)
    except Refused as refused:
        return str(refused)
    return ""


def has_default(question: Question, values: Mapping[str, Any]) -> bool:
    """Whether some default is not empty, acceptable or not."""
    return any(render.text(each.value, dict(values)).strip() not in ("", "None") for each in question.defaults)


def derived(question: Question, answer: SecretAnswer, values: Mapping[str, Any]) -> SecretAnswer:
    """The password that is made out of the answer, where the question says so. Raises Refused."""
    try:
        return derive.apply(render.text(question.derive, dict(values)), answer)
    except SetupError as error:
        raise Refused(f"cannot be used: {error.text}") from None


def collect(recipe: Recipe, given: Given, sources: Sources, context: Callable[[Answers], dict[str, Any]]) -> Answers:
    """All answers, or Incomplete. `context` gives the values recipe strings may name, from the answers so far."""
    answers = Answers()
    missing: list[Question] = []
    wrong: list[Wrong] = []
    for question in recipe.questions:
        values = context(answers)
        answers.values[question.id] = ""
        if not applies(question, values):
            del answers.values[question.id]
            if question.id in given.values and not question.is_secret and (reason := _refusal(question, given.values[question.id])):
                wrong.append(Wrong(question, question.id, reason))
            if question.id in given.values and question.is_secret:
                answers.warnings.append(f"{question.id} is not used: nobody signs in with these answers{given.where(question.id)}")
            continue
        if question.id not in given.values:
            if question.is_secret:
                missing.append(question)
                continue
            found, _ = default(question, values)
            answers.values[question.id] = found
            if not found and not question.optional and (question.asked or not (missing or wrong)):
                missing.append(question)  # a default made of other answers is not missing before those are given and right
            continue
        try:
            if question.is_secret:
                answers.secret_id = question.id
                answers.secret = sources.read(question, given.values[question.id])
                if answers.secret.kind == PLAIN:
                    answers.warnings.append(
                        f"{question.id} stands in the answers in plain text; a reference is safer{given.where(question.id)}"
                    )
                if answers.secret.secret is not None and (warning := question.warning(answers.secret.secret.reveal())):
                    answers.warnings.append(warning)
                answers.secret = derived(question, answers.secret, values)
            else:
                answers.values[question.id] = question.accept(given.values[question.id])
        except Refused as refused:
            wrong.append(Wrong(question, question.id, str(refused)))
    for name in given.values:
        if recipe.question(name) is None:
            near = difflib.get_close_matches(name, [question.id for question in recipe.questions], 1)
            wrong.append(Wrong(None, name, "is no question of this recipe" + (f"; did you mean {near[0]}?" if near else "")))
    if missing or wrong:
        raise incomplete(missing, wrong, given)
    return answers


# ---------------------------------------------------------------- telling what is missing


def incomplete(missing: list[Question], wrong: list[Wrong], given: Given, why: str = "") -> Incomplete:
    """`why`: what is to be said of the missing ones."""
    parts = []
    if missing:
        parts.append(f"{len(missing)} answer{'s are' if len(missing) > 1 else ' is'} missing")
    if wrong:
        parts.append(f"{len(wrong)} answer{'s are' if len(wrong) > 1 else ' is'} wrong")
    details = []
    if missing:
        width = max(len(question.id) for question in missing)
        details += [f"  {question.id:<{width}}   {question.type:<8} {question.ask}" for question in missing]
        details += [f"  ({why})"] if why else []
    details += [f"  {item.id} {item.reason}{given.where(item.id)}" for item in wrong]
    asked = missing + [item.question for item in wrong if item.question is not None and item.question not in missing]
    if asked:
        secret = all(question.is_secret for question in asked)
        details.append("Add it by reference, for example:" if secret and missing else "In the answers file, for example:")
        details += skeleton(asked)
    return Incomplete(f"{' and '.join(parts)}; nothing was changed", details)


def skeleton(questions: list[Question]) -> list[str]:
    """One line of an answers file for each question."""
    lines = []
    for question in questions:
        if question.is_secret:
            others = "{file: ...}, {credential: ...}, {stdin: true}"
            lines.append(f"  {question.id}: {{env: DMA_{question.id.upper()}}}      # or {others}")
        elif question.choices:
            others = ", ".join(choice for choice in question.choices if choice != example(question))
            lines.append(f"  {question.id}: {example(question)}      # or {others}")
        else:
            lines.append(f"  {question.id}: {example(question)}")
    return lines


def example(question: Question) -> str:
    if question.choices:
        return "file" if question.id == "keyring" else next(iter(question.choices))
    return {
        "address": "you@example.org",
        "recipient": "you@example.org",
        "host": "smtp.example.org",
        "port": "465",
        "yesno": "true",
        "fingerprint": "ab" * 32,
        "path": "/path",
    }.get(question.type, "...")
