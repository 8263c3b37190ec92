"""Prompts on a terminal. Everything a person types comes through here; secrets are not echoed.

Two ways of asking: questionary's, with line editing and menus by arrow keys; and plain lines, where nothing on the screen
is ever drawn anew and every choice has a number. Plain is for TERM=dumb, and for screen readers by ACCESSIBLE=1.

Prompts go to standard error. Ctrl-C, and the end of the input (Ctrl-D), raise KeyboardInterrupt, which the door handles once.
"""

from __future__ import annotations

import getpass
import os
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from dma_runtime.secret import Secret
from dma_setup.plan import Plan
from dma_setup.question import Question, Refused
from dma_setup.report import WIDTH, Report
from dma_setup.secret import clean

# Asking the terminal where its cursor is only helps menus that fill the screen, and confuses terminals that do not answer.
os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")


def is_plain(environ: Mapping[str, str] = os.environ) -> bool:
    return environ.get("TERM", "dumb") in ("dumb", "") or environ.get("ACCESSIBLE", "") not in ("", "0")


def _where() -> dict[str, Any]:
    import questionary
    from prompt_toolkit.output import create_output

    style = questionary.Style([("qmark", "bold"), ("question", "bold"), ("answer", ""), ("instruction", "")])
    return {"output": create_output(stdout=sys.stderr), "style": style, "qmark": "?"}


# ---------------------------------------------------------------- the ways of asking


def _line(title: str) -> str:
    if is_plain():
        sys.stderr.write(f"? {title} ")
        sys.stderr.flush()
        return _ended(sys.stdin.readline()).rstrip("\n")
    import questionary

    return str(_until_the_end(questionary.text(title, **_where())))


def _hidden(title: str) -> str:
    if is_plain():
        try:
            return getpass.getpass(f"? {title} (not shown) ", sys.stderr)
        except EOFError:
            raise KeyboardInterrupt from None
    import questionary

    return str(_until_the_end(questionary.password(title, **_where())))


def yes(title: str, *, default: bool) -> bool:
    if not is_plain():
        import questionary

        return bool(_until_the_end(questionary.confirm(title, default=default, **_where())))
    while True:
        said = _line(f"{title} [{'Y/n' if default else 'y/N'}]").strip().lower()
        if not said:
            return default
        if said in ("y", "yes", "n", "no"):
            return said.startswith("y")


def choose(title: str, choices: dict[str, str], default: str = "") -> str:
    """One of `choices` (value -> what it means), by the arrow keys, or by its number."""
    width = max(len(value) for value in choices)
    if not is_plain():
        import questionary

        room = WIDTH - width - 6
        short = {value: textwrap.shorten(says, room, placeholder=" ...") for value, says in choices.items()}
        shown = [questionary.Choice(f"{value:<{width}}  {says}", value) for value, says in short.items()]
        first = next((choice for choice in shown if choice.value == default), None)
        # A long list is searched by typing.
        is_long = len(shown) > 9
        more: dict[str, Any] = {"use_search_filter": True, "use_jk_keys": False} if is_long else {}
        instruction = "(type to search)" if is_long else " "
        return str(_until_the_end(questionary.select(title, shown, default=first, instruction=instruction, **more, **_where())))
    names = list(choices)
    sys.stderr.write(f"? {title}\n")
    for number, (value, says) in enumerate(choices.items(), 1):
        lines = textwrap.wrap(says, WIDTH - width - 8, break_long_words=False, break_on_hyphens=False) or [""]
        sys.stderr.write(f"  {number:>2}  {value:<{width}}  " + f"\n{'':{width + 8}}".join(lines) + "\n")
    first_number = names.index(default) + 1 if default in names else 1
    while True:
        said = _line(f"Number or name [{first_number}]").strip() or str(first_number)
        if said in choices:
            return said
        if said.isdecimal() and 1 <= int(said) <= len(names):
            return names[int(said) - 1]


def _until_the_end(question: Any) -> Any:
    try:
        return question.unsafe_ask()
    except EOFError:
        raise KeyboardInterrupt from None


def _ended(line: str) -> str:
    if not line:
        raise KeyboardInterrupt
    return line


# ---------------------------------------------------------------- what is asked


def _title(ask: str, note: str) -> str:
    said = f"{ask} ({note})" if note else ask
    return said if said.endswith("?") else said + ":"


def answer(report: Report, question: Question, default: str, source: str, note: str) -> str:
    """An answer to any question but a secret, asked until it can be accepted."""
    title = _title(question.ask, note)
    fits = len(title) + len(default) < WIDTH - 5
    if default:
        title += f" [{default}]" if fits else " [default]"
    if question.help and not note:
        report.advice(question.help.splitlines())
    if default and (source or not fits):
        report.advice([f"Default: {', '.join(text for text in (source, '' if fits else default) if text)}."])
    while True:
        said = _line(title)
        try:
            return question.accept(said.strip() or default)
        except Refused as refused:
            report.warn(f"That {refused}.")


def secret(report: Report, question: Question, note: str, *, may_be_empty: bool = False) -> Secret:
    """A password, not echoed. What does not look like one is asked about once, then used."""
    if not note:
        report.advice(question.help.splitlines())
    while True:
        said = _hidden(_title(question.ask, note))
        if may_be_empty and not said.strip():
            return Secret("")
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


def _some(subjects: list[str]) -> str:
    return subjects[0] if len(subjects) == 1 else f"{subjects[0]} and {len(subjects) - 1} more"


def confirm(plan: Plan) -> str:
    """Asks "Apply?": `yes`, `no` or `diff`. The default is No when something of somebody else's is replaced."""
    default = "no" if plan.replaces else "yes"
    shown = "[y/N/diff]" if plan.replaces else "[Y/n/diff]"
    what = f" {_some([change.subject for change in plan.replaces])} will be replaced." if plan.replaces else ""
    while True:
        said = _line(f"Apply?{what} {shown}").strip().lower()
        if not said:
            return default
        for word in ("yes", "no", "diff"):
            if word.startswith(said):
                return word
