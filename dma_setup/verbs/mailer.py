"""`mailer: {}`: the mail service that is here already: its queue must be empty, then it is stopped and no longer started.

Nothing of it is removed; undo starts it again. Only services of systemd on the running machine; what else listens is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dma_setup.changes import Change
from dma_setup.changes.command import CommandChange
from dma_setup.errors import SetupError
from dma_setup.view import View


@dataclass(frozen=True)
class Mailer:
    """`queued(output)`: how many messages the output of `lists` shows. `flush`: the command that sends them."""

    units: tuple[str, ...]
    lists: tuple[str, ...]
    queued: Callable[[str], int]
    flush: str


def _lines(output: str) -> int:
    return len([line for line in output.splitlines() if line.strip()])


def _number(output: str) -> int:
    words = output.split()
    return int(words[0]) if words and words[0].isdigit() else 0


def _total(output: str) -> int:
    """sendmail's mailq: `Total requests: N`."""
    return _number(output.rpartition("Total requests:")[2]) if "Total requests:" in output else 0


KNOWN = {
    "postfix": Mailer(("postfix.service", "postfix@-.service"), ("/usr/sbin/postqueue", "-j"), _lines, "postqueue -f"),
    "exim": Mailer(("exim4.service",), ("/usr/sbin/exim4", "-bpc"), _number, "exim4 -qff"),
    "sendmail": Mailer(("sendmail.service",), ("/usr/bin/mailq",), _total, "sendmail -q"),
    "opensmtpd": Mailer(("opensmtpd.service",), ("/usr/sbin/smtpctl", "show", "queue"), _lines, "smtpctl schedule all"),
    "nullmailer": Mailer(("nullmailer.service",), ("/usr/bin/mailq",), _lines, "systemctl start nullmailer"),
}


def plan(_step: dict[str, object], view: View) -> list[Change]:
    if view.place.is_user or not view.place.is_live or not view.facts.get("systemd"):
        return []
    made: list[Change] = []
    for name, mailer in KNOWN.items():
        active = [unit for unit in mailer.units if _says(view, "is-active", unit) == "active"]
        enabled = [unit for unit in mailer.units if _says(view, "is-enabled", unit) == "enabled"]
        if not active and not enabled:
            continue
        _must_be_empty(view, name, mailer)
        made.append(
            CommandChange(
                do=(*_each("disable", enabled), *_each("stop", active)),
                undo=(*_each("enable", enabled), *_each("start", active)),
                subject=name,
                says="stopped, and not started at boot; it stays installed",
                is_new=False,
                foreign=True,
            )
        )
    return made


def _each(verb: str, units: list[str]) -> tuple[tuple[str, ...], ...]:
    return (("systemctl", verb, *units),) if units else ()


def _says(view: View, verb: str, unit: str) -> str:
    return view.run(["systemctl", verb, unit])[1].strip()


def _must_be_empty(view: View, name: str, mailer: Mailer) -> None:
    status, output = view.run(list(mailer.lists))
    waiting = mailer.queued(output)
    if status != 0:
        raise SetupError(
            f"the queue of {name} cannot be looked at; nothing was changed",
            details=[f"  Its mail would be left behind. See why this fails: {' '.join(mailer.lists)}"],
        )
    if waiting:
        raise SetupError(
            f"{name} still holds {waiting} message{'s' if waiting != 1 else ''}; nothing was changed",
            details=[f"  Let it send them first: {mailer.flush}", f"  See them with: {' '.join(mailer.lists)}"],
        )
