"""Who gives the answers: a file and the command line beforehand, or a person at a terminal.

Both drive the same `wizard`; a driver decides nothing about what is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dma_runtime.secret import Secret
from dma_setup import answers as given_answers
from dma_setup import render
from dma_setup.answers import Answers, Given, Wrong
from dma_setup.errors import SetupError
from dma_setup.plan import Plan
from dma_setup.question import Question, Refused
from dma_setup.recipe import Recipe
from dma_setup.report import Report
from dma_setup.secret import KEYRING, TYPED, SecretAnswer, Sources

Context = Callable[[Answers], dict[str, Any]]


class Driver:
    """`guided`: a person is led through it. `confirms`: "Apply?" is asked. `has_stored`: whether the password that these answers
    need is stored already, so that it need not be typed again.
    """

    guided = False
    confirms = False
    has_stored: Callable[[Answers], bool] = staticmethod(lambda _: False)

    def collect(self, recipe: Recipe, context: Context) -> Answers:
        """All answers. Raises UsageProblem."""
        raise NotImplementedError

    def again(self, recipe: Recipe, question: Question, answers: Answers, context: Context, attempt: str) -> bool:
        """Ask one question once more, into `answers`; False when nobody can be asked."""
        raise NotImplementedError

    def confirm(self, plan: Plan) -> str:
        """`yes`, `no` or `diff`."""
        raise NotImplementedError

    def needs(self, identifier: str) -> bool:
        """Whether the question has no answer yet, so that facts for its default are worth finding."""
        raise NotImplementedError


class Beforehand(Driver):
    def __init__(self, given: Given, sources: Sources) -> None:
        self._given = given
        self._sources = sources

    def collect(self, recipe: Recipe, context: Context) -> Answers:
        return given_answers.collect(recipe, self._given, self._sources, context)

    def again(self, *_: object) -> bool:
        return False

    def confirm(self, plan: Plan) -> str:
        from dma_setup import prompt

        return prompt.confirm(plan)

    def needs(self, identifier: str) -> bool:
        return identifier not in self._given.values


class Terminal(Driver):
    """A person. What was given beforehand is not asked."""

    guided = True

    def __init__(self, given: Given, sources: Sources, report: Report) -> None:
        self._given = given
        self._sources = sources
        self._report = report

    def collect(self, recipe: Recipe, context: Context) -> Answers:
        wrong = [Wrong(None, name, "is no question of this recipe") for name in self._given.values if recipe.question(name) is None]
        if wrong:
            raise given_answers.incomplete([], wrong, self._given)
        answers = Answers()
        if how_many := self._how_many(recipe, context):
            self._report.title(f"{how_many}. Enter takes the [default]. Ctrl-C leaves all as it is.")
            self._report.line()
        for question in recipe.questions:
            values = context(answers)
            if not given_answers.applies(question, values):
                continue
            answers.values[question.id] = ""
            if question.id in self._given.values:
                self._take(question, answers, values)
            else:
                self._ask(question, answers, context)
        return answers

    def _how_many(self, recipe: Recipe, context: Context) -> str:
        """`Three questions`; `Up to six` when some depend on the answers to others; "" for none."""
        every, least = (self._asked(recipe, context, optional) for optional in ("x", ""))
        number = {1: "One", 2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six"}.get(every, str(every))
        if not every:
            return ""
        if every != least:
            number = f"Up to {number.lower()}"
        return f"{number} question{'s' if every != 1 else ''}"

    def _asked(self, recipe: Recipe, context: Context, optional: str) -> int:
        """How many questions would be asked if every answer was `x`, and every optional one `optional`."""
        imagined = Answers({question.id: optional if question.optional else "x" for question in recipe.questions})
        values = context(imagined)
        count = 0
        for question in recipe.questions:
            if question.id not in self._given.values and given_answers.applies(question, values):
                count += question.asked or not (question.optional or given_answers.has_default(question, values))
        return count

    def _take(self, question: Question, answers: Answers, values: dict[str, Any]) -> None:
        """An answer given beforehand."""
        try:
            if question.is_secret:
                answers.secret_id = question.id
                found = self._sources.read(question, self._given.values[question.id])
                answers.secret = given_answers.derived(question, found, values)
            else:
                answers.values[question.id] = question.accept(self._given.values[question.id])
        except Refused as refused:
            raise given_answers.incomplete([], [Wrong(question, question.id, str(refused))], self._given) from None

    def _ask(self, question: Question, answers: Answers, context: Context, note: str = "") -> None:
        from dma_setup import prompt

        if question.is_secret:
            stored = not note and self.has_stored(answers)
            if stored:
                self._report.advice(["Enter keeps the one that is stored."])
            typed = prompt.secret(self._report, question, note, may_be_empty=stored)
            if typed.reveal():
                self._take_secret(question, typed, answers, context)
            else:
                answers.secret_id, answers.secret = question.id, SecretAnswer(KEYRING, "", None)
            return
        value, source = given_answers.default(question, context(answers))
        if not question.asked and not note and (value or question.optional):
            answers.values[question.id] = value
            return
        if question.choices:
            offered = _offered(question, context(answers))
            answers.values[question.id] = prompt.choose(question.ask, offered, value)
            return
        answers.values[question.id] = prompt.answer(self._report, question, value, source, note)

    def _take_secret(self, question: Question, found: Secret, answers: Answers, context: Context) -> None:
        answers.secret_id = question.id
        try:
            answers.secret = given_answers.derived(question, SecretAnswer(TYPED, "", found), context(answers))
        except Refused as refused:
            raise SetupError(f"{question.id} {refused}") from None

    def again(self, recipe: Recipe, question: Question, answers: Answers, context: Context, attempt: str) -> bool:
        """A refused password may be that of another login: an empty answer asks for the login first."""
        from dma_setup import prompt

        login = recipe.login_question()
        if not question.is_secret or login is None:
            self._ask(question, answers, context, attempt)
            return True
        self._report.advice([f"Enter alone goes back to the {login.id}."])
        found = prompt.secret(self._report, question, attempt, may_be_empty=True)
        if not found.reveal():
            before = answers.values[login.id]
            answers.values[login.id] = prompt.answer(self._report, login, before, "", "")
            for name, value in answers.values.items():
                if value == before and name != question.id:  # what was taken from it: the sender, who reads root's mail
                    answers.values[name] = answers.values[login.id]
            self._ask(question, answers, context, attempt)
        else:
            self._take_secret(question, found, answers, context)
        return True

    def confirm(self, plan: Plan) -> str:
        from dma_setup import prompt

        return prompt.confirm(plan)

    def needs(self, identifier: str) -> bool:
        return identifier not in self._given.values


def _offered(question: Question, values: dict[str, Any]) -> dict[str, str]:
    """The choices that are worth showing here."""
    return {
        value: says
        for value, says in question.choices.items()
        if value not in question.offered or render.truth(question.offered[value], values)
    }


def choose_recipe(recipes: list[Recipe]) -> str:
    """One of the recipes, from a list on the terminal."""
    from dma_setup import prompt

    return prompt.choose("What should this machine do with its mail?", {one.name: one.summary for one in recipes})
