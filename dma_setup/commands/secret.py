"""`dma-setup secret set|rotate|check|remove`: the password alone, without touching the rest.

`set` asks at a terminal; otherwise the first line of standard input is the password. It is tried at the relay first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dma_runtime.secret import Secret
from dma_setup import itself, modes, password, present, verify
from dma_setup.errors import DONE, FAILED, SetupError, UsageProblem
from dma_setup.place import Place
from dma_setup.present import Present
from dma_setup.question import Refused
from dma_setup.report import Report
from dma_setup.secret import clean
from dma_setup.stores import NAMES
from dma_setup.system import System
from dma_setup.verbs.secret import IN_FILE


def register(verbs: Any) -> None:
    parser = verbs.add_parser("secret", help="set, rotate, check or remove the password alone")
    inner = parser.add_subparsers(dest="what", metavar="set|rotate|check|remove", required=True)
    for name, run, says in (
        ("set", _set, "store a new password; asked for, or the first line of standard input"),
        ("rotate", _rotate, "replace the password where it is kept now; the old one stays in use until the new one signs in"),
        ("check", _check, "read the password as delivery does, and sign in with it"),
        ("remove", _remove, "take the stored password away"),
    ):
        verb = inner.add_parser(name, help=says)
        if name != "rotate":
            verb.add_argument("--no-verify", action="store_false", dest="verify", help="do not sign in at the relay")
        if name == "set":
            verb.add_argument("--keyring", choices=(*NAMES, IN_FILE), help="keep it there from now on")
        verb.add_argument("--json", action="store_true", help="the result as JSON on standard output")
        verb.add_argument("--yes", action="store_true", help="nothing is asked but the password; for who types it out of habit")
        modes.options(verb)
        verb.set_defaults(run=_door(run, f"secret {name}"))


def no_words(options: argparse.Namespace) -> UsageProblem:
    """What is said of further words. They are not shown: most likely one is a password."""
    text = f"secret {options.what} takes no password on the command line, where others can see it"
    how = "  It is asked for, or is the first line of standard input."
    return UsageProblem(text, [how] if options.what in ("set", "rotate") else [])


@dataclass(frozen=True)
class Here:
    """What a verb works on."""

    options: argparse.Namespace
    place: Place
    system: System
    found: Present
    report: Report


def _door(run: Callable[[Here], int], words: str) -> Callable[[argparse.Namespace], int]:
    def door(options: argparse.Namespace) -> int:
        report = Report(sys.stdout, sys.stderr, as_json=options.json)

        def work() -> int:
            place = modes.place(options, words)
            system = System()
            here = Here(options, place, system, present.read(place, system), report)
            report.document["secret"] = {"action": words.rpartition(" ")[2], **_facts(here.found)}
            return run(here)

        return report.conclude(work)

    return door


def _facts(found: Present) -> dict[str, Any]:
    """Whose password it is and where it is kept, for --json; `signed_in` is added by who tries it."""
    login = found.login
    where = {"reference": repr(login.reference), "keyring": found.keyring} if login is not None else {}
    return {"host": login.host if login else "", "login": login.user if login else "", **where, "signed_in": None}


def _set(here: Here) -> int:
    found = here.found
    password.signed_on(found)
    new = _new(found, here.report)
    if here.options.verify and here.place.is_live:
        _try(found, new, here.report)
    return _store(here, new)


def _store(here: Here, new: Secret) -> int:
    found, report = here.found, here.report
    relay = password.signed_on(found)
    applied = password.change(here.place, here.system, found, new, getattr(here.options, "keyring", None) or "")
    for change in applied.made:
        report.ok(f"{change.subject}: {change.says}")
    if not applied.made:
        report.line("It is the password that was stored already; nothing was changed.")
        return DONE
    for path in applied.old_secrets:
        report.warn(f"the old password is kept for undo; delete it with: rm {path}")
    if password.tell_owner(here.place):
        report.ok("the queue's owner reads it again; held mail goes out now")
    report.line(f"Mail to {relay.host} is signed in as {relay.login} with the new password.")
    return DONE


def _rotate(here: Here) -> int:
    """As `set`, but only another password than the stored one is taken, and never without having signed in with it."""
    found = here.found
    password.signed_on(found)
    try:
        old: Secret | None = password.check(found, here.place, here.system)
    except SetupError as problem:
        here.report.warn(f"the password in use cannot be read: {problem.text}")
        old = None
    new = _new(found, here.report)
    if new == old:
        raise SetupError("that is the password in use already; nothing was changed")
    if here.place.is_live:
        _try(found, new, here.report)
    return _store(here, new)


def _new(found: Present, report: Report) -> Secret:
    question = found.question
    if sys.stdin.isatty():
        from dma_setup import prompt

        return prompt.secret(report, question, "")
    try:
        new = clean(question, sys.stdin.readline(8192))
    except Refused as refused:
        raise UsageProblem(f"the password on standard input {refused}") from None
    if warning := question.warning(new.reveal()):
        report.warn(warning)
    return new


def _try(found: Present, secret: Secret, report: Report) -> None:
    """Sign in with what is configured and `secret`. Raises SetupError."""
    relay = password.signed_on(found)
    tried = verify.sign_in(found.config, relay, secret)
    report.document["secret"]["signed_in"] = tried.refusal is None
    if tried.refusal is None:
        report.ok(f"signed in at {relay.host}:{relay.port} as {relay.login}")
        return
    outcome = tried.refusal
    meaning = found.recipe.meaning(outcome.code, outcome.status, outcome.text) if found.recipe is not None else None
    details = [meaning.says, *meaning.advice] if meaning is not None else [outcome.hint] if outcome.hint else []
    raise SetupError(f"signing in did not work: {verify.words(outcome)}", FAILED, ["  " + line for line in details])


def _check(here: Here) -> int:
    found, report = here.found, here.report
    secret = password.check(found, here.place, here.system)
    assert found.login is not None
    report.ok(f"the password of {found.login.user} at {found.login.host} can be read ({found.login.reference!r})")
    if here.options.verify:
        _try(found, secret, report)
    return DONE


def _remove(here: Here) -> int:
    found, report = here.found, here.report
    applied = password.remove(here.place, here.system, found)
    for change in applied.made:
        report.ok(f"{change.subject}: removed")
    for path in applied.old_secrets:
        report.warn(f"the old password is kept for undo; delete it with: rm {path}")
    password.tell_owner(here.place)
    report.line(f"Mail waits in the queue until a password is set again: {itself.command(here.place, 'secret set')}")
    return DONE
