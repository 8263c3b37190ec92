"""`wake: {}`: what looks after the queue when nobody sends mail: after a reboot, and after a crash.

With `systemd --user`: a timer, and lingering so that it runs while nobody is logged in. Else a line in the crontab. Else a
note. Below --root the timer's files are written and nothing is started. In system mode this is the service's business.
"""

from __future__ import annotations

from typing import Any

from dma_setup import render
from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.changes.command import CommandChange
from dma_setup.view import View

UNITS = ("dma-queue.service", "dma-queue.timer")
TIMER = "dma-queue.timer"


def plan(_step: dict[str, Any], view: View) -> list[Change]:
    if not view.place.is_user:
        return []
    if not view.place.is_live or view.facts.get("systemd_user"):
        return _timer(view)
    if view.facts.get("crontab"):
        return _crontab(view)
    view.note(
        "there is neither systemd --user nor crontab: mail that is still queued after a reboot waits until the next"
        " message is sent, or until you run: sendmail -q"
    )
    return []


def _queue_run(view: View) -> list[str]:
    return [f"{view.place.library}/dma-queue", "run", "--due"]


def _timer(view: View) -> list[Change]:
    made: list[Change] = []
    for name in UNITS:
        values = {"words": _queue_run(view), "environment": view.place.environment}
        text = render.template(f"{name}.j2", values)
        says = "looks after the queue, also after a reboot" if name == TIMER else ""
        made.append(view.path_change(f"{view.place.units}/{name}", views.file(text, 0o644), says))
        view.add(made[-1])
    wants = f"{view.place.units}/timers.target.wants/{TIMER}"
    made.append(view.path_change(wants, views.link(f"{view.place.units}/{TIMER}"), "the timer is enabled"))
    view.add(made[-1])
    if not view.place.is_live:
        return made
    if any(change.is_needed for change in made):
        made.append(
            CommandChange(
                do=(("systemctl", "--user", "daemon-reload"), ("systemctl", "--user", "start", TIMER)),
                undo=(("systemctl", "--user", "stop", TIMER),),
                subject=TIMER,
                says="started",
                optional=True,
            )
        )
    if not view.facts.get("linger"):
        login = view.place.login
        made.append(
            CommandChange(
                do=(("loginctl", "enable-linger", login),),
                undo=(("loginctl", "disable-linger", login),),
                subject=f"lingering for {login}",
                says="your timers run while you are logged out",
                optional=True,
            )
        )
    return made


def crontab_line(view: View) -> str:
    environment = "".join(f"{name}={render.environment().filters['sh'](value)} " for name, value in view.place.environment.items())
    words = " ".join(render.environment().filters["sh"](word) for word in _queue_run(view))
    return f"*/15 * * * * {environment}{words} >/dev/null 2>&1".replace("%", "\\%")


def _crontab(view: View) -> list[Change]:
    status, old = view.run(["crontab", "-l"])
    if status != 0:
        old = ""
    line = crontab_line(view)
    if line in old.split("\n"):
        return []
    own = f"{view.place.library}/dma-queue"
    kept = [text for text in old.split("\n") if text.startswith("#") or own not in text]
    while kept and not kept[-1]:
        kept.pop()
    new = "\n".join([*kept, line]) + "\n"
    return [
        CommandChange(
            do=(("crontab", "-"),),
            undo=(("crontab", "-"),) if old else (("crontab", "-r"),),
            subject="crontab",
            says="looks after the queue every 15 minutes, also after a reboot",
            given=new,
            given_back=old,
            check=("crontab", "-l"),
            line=line,
            is_new=not old,
            optional=True,
        )
    ]
