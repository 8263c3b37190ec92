"""`service: {resident}`: what runs mail on a machine: units of systemd, or without systemd a line for cron and a note.

With systemd: the sockets, the daemon, the secret reader, the mailbox process and who runs commands, the account for
systemd-sysusers and the directory of the sockets for systemd-tmpfiles. `resident`: the daemon stays; else it comes when mail
is handed in, leaves when the queue is empty, and a timer wakes it while mail waits. What the other way needs goes. Below
--root the files and their links are written and nothing is started. In user mode there is no service: `wake` looks after the
queue.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable
from typing import Any

from dma_runtime import keyrings
from dma_setup import render
from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.changes.command import CommandChange
from dma_setup.system import System
from dma_setup.verbs import library
from dma_setup.view import View

UNITS = "/etc/systemd/system"
FRAGMENTS = {"sysusers.conf": "/etc/sysusers.d/dma.conf", "tmpfiles.conf": "/etc/tmpfiles.d/dma.conf"}
CRON = "/etc/cron.d/dma-queue"
CREDENTIALS = "/etc/dma/credentials"

COMMANDS = "dma-command.socket"

# Unit -> (what wants it, what it is).
ALWAYS = {
    "dma.socket": ("sockets.target", "where programs hand in mail"),
    "dma.service": ("multi-user.target", "the daemon that owns the queue"),
    "dma-secret.socket": ("sockets.target", "where the daemon asks for a password"),
    "dma-secret@.service": ("", "reads one password, without network"),
    "dma-mailbox.socket": ("sockets.target", "where the daemon hands over local mail"),
    "dma-mailbox@.service": ("", "delivers one message, without network"),
    COMMANDS: ("sockets.target", "where the daemon asks for a command (PIPES)"),
    "dma-command@.service": ("", "gives one message to a user's command"),
}
TIMER = {"dma-queue.service": ("", ""), "dma-queue.timer": ("timers.target", "wakes the queue every 15 minutes")}
SOCKETS = ("dma.socket", "dma-secret.socket", "dma-mailbox.socket", COMMANDS)
RUNNING = (*SOCKETS, "dma.service", "dma-queue.timer")
RESTART = "systemctl restart dma.service"
PATHS = ("/run/dma/submit.sock", "/run/dma/secret.sock", "/run/dma/mailbox.sock", "/run/dma/command.sock")


def plan(step: dict[str, Any], view: View) -> list[Change]:
    if view.place.is_user:
        return []
    if view.place.is_live and not view.facts.get("systemd"):
        return _without_systemd(view)
    resident = str(step.get("resident", "true")).lower() != "false"
    units = ALWAYS if resident else {**ALWAYS, **TIMER}
    values = {"library": view.place.library, "spool": view.place.spool, "resident": resident}
    files: list[Change] = []

    def add(change: Change) -> None:
        files.append(change)
        view.add(change)

    live = view.place.is_live
    known = len(view.changes)
    active = [unit for unit in RUNNING if _is_active(view, unit)] if live else []
    for name, path in FRAGMENTS.items():
        text = render.template(f"system/{name}.j2", values)
        says = "the account, for systemd-sysusers" if name == "sysusers.conf" else "the directory of the sockets"
        add(view.path_change(path, views.file(text, 0o644), says, drains=True))
    for name, (wanted_by, says) in units.items():
        path = f"{UNITS}/{name}"
        add(view.path_change(path, views.file(render.template(f"system/{name}.j2", values), 0o644), says, drains=True))
        if wanted_by and (resident or name != "dma.service"):
            add(view.path_change(f"{UNITS}/{wanted_by}.wants/{name}", views.link(path), "enabled", drains=True))
    stopped = _ended(view, add, resident)
    if not live:
        return []
    programs = [at for at, change in enumerate(view.changes) if change.subject.startswith(f"{view.place.library}/")]
    changed = bool(programs) or any(change.is_needed for change in files) or _credential_changed(view)
    started = [name for name in units if name.endswith((".socket", ".timer"))] + (["dma.service"] if resident else [])
    running = view.run(["systemctl", "is-active", *started])[0] == 0
    if not changed and running:
        if "dma.service" in active and outdated(view.system, library.path(view)):
            view.note(f"the program is another one since the daemon was started; it takes it up with: {RESTART}", asks=True)
        return []
    if changed:
        at = min([known, *programs]) if "dma.service" in active else known  # undone behind what it starts then
        view.changes[at:at] = [*stopped, _reads_again(active)]
    return [_directory(is_new=view.entry("/run/dma") is None), _start(started, changed, active)]


def _is_active(view: View, unit: str) -> bool:
    return view.run(["systemctl", "is-active", unit])[1].strip() == "active"


def outdated(system: System, library: str) -> bool:
    """Whether the library was upgraded in place since the daemon started: it goes on with what it read then."""
    words = ["systemctl", "show", "--timestamp=unix", "--property=ExecMainStartTimestamp", "--value", "dma.service"]
    started = system.run(words, seconds=5).output.strip().removeprefix("@")
    files = glob.iglob(f"{glob.escape(library)}/dma_runtime/**/*.py", recursive=True)
    newest = max((int(os.stat(path).st_mtime) for path in files), default=0)
    return started.isdigit() and int(started) < newest <= time.time()


def _reads_again(active: list[str]) -> Change:
    """Undone last of all, when the units are as they were: a daemon that ran then goes on by them."""
    again = (("systemctl", "restart", "dma.service"),) if "dma.service" in active else ()
    return CommandChange((), (("systemctl", "daemon-reload"), *again), "systemd", "reads its units again", drains=True)


def _ended(view: View, add: Callable[[Change], None], resident: bool) -> list[Change]:
    """Take away what only the other way needs; the change that stops it before its files go."""
    others = [*TIMER, "timers.target.wants/dma-queue.timer"] if resident else ["multi-user.target.wants/dma.service"]
    there = [name for name in others if view.entry(f"{UNITS}/{name}") is not None]
    for name in there:
        add(view.path_change(f"{UNITS}/{name}", None, "the daemon stays" if resident else "the daemon comes when it is needed"))
    if "dma-queue.timer" not in there:
        return []
    timer = ("dma-queue.timer",)
    return [CommandChange((("systemctl", "stop", *timer),), (("systemctl", "start", *timer),), *timer, "stopped", is_new=False)]


# It may never have been made, by a run that was cut off.
_GONE_OR_EMPTIED = "test ! -d /run/dma || rmdir --ignore-fail-on-non-empty /run/dma"


def _directory(*, is_new: bool) -> Change:
    return CommandChange(
        do=(("systemd-tmpfiles", "--create", FRAGMENTS["tmpfiles.conf"]),),
        undo=(("rm", "-f", *PATHS), ("sh", "-c", _GONE_OR_EMPTIED)) if is_new else (),
        subject="/run/dma",
        says="where the sockets are",
        drains=True,
    )


def _start(units: list[str], changed: bool, active: list[str]) -> Change:
    """Sockets first. A daemon that runs already is started anew when the files changed. Undo stops what did not run before."""
    restart = (("systemctl", "try-restart", "dma.service"),) if changed else ()
    # One that does not stay is started too: it looks what another mail agent left in the queue, and leaves.
    start = ("systemctl", "start", *units, *(["dma.service"] if "dma.service" not in units else []))
    new = [unit for unit in dict.fromkeys(("dma.service", *units)) if unit not in active]
    return CommandChange(
        do=(("systemctl", "daemon-reload"), *restart, start),
        undo=(("systemctl", "stop", *new),) if new else (),
        subject="dma.service",
        says="started, with its sockets",
        drains=True,
    )


def _credential_changed(view: View) -> bool:
    return any(change.subject.startswith(f"{LINES}/") for change in view.changes)


def credential(view: View, host: str, user: str) -> list[Change]:
    """The line that lets the secret reader have the credential of (host, user)."""
    name = keyrings.credential(host, user)
    text = render.template("system/dma-secret.conf.j2", {"name": name, "path": f"{CREDENTIALS}/{name}.cred"})
    path = f"{LINES}/{name}.conf"
    return [view.path_change(path, views.file(text, 0o644), "the secret reader may read this password", drains=True)]


LINES = f"{UNITS}/dma-secret@.service.d"


def credentials(listing: list[str]) -> list[str]:
    """The credentials that the secret reader loads, by the names of the files in LINES."""
    return [name.removesuffix(".conf") for name in listing if name.startswith("dma.") and name.endswith(".conf")]


def unreadable_credentials(view: View, but: str) -> list[Change]:
    """The lines of other credentials that cannot be read any more: systemd starts no secret reader as long as one of those
    it is to load cannot be decrypted, and so they would keep every password from being read."""
    made: list[Change] = []
    for name in credentials(view.listing(LINES)) if view.place.is_live else []:
        if name == but or not (reason := view.unreadable(name)):
            continue
        view.note(f"the credential {name} cannot be read any more ({reason}); it would keep the others from being read")
        made.append(view.path_change(f"{LINES}/{name}.conf", None, "of a password that cannot be read any more", drains=True))
    return made


def reload() -> Change:
    """For the line of a credential that was not there before."""
    return CommandChange((("systemctl", "daemon-reload"),), (), "systemd", "reads its units again", drains=True)


def _without_systemd(view: View) -> list[Change]:
    """Any supervisor runs `dmad` in the foreground; cron wakes the queue where nothing stays."""
    view.note(
        f"there is no systemd here: let your supervisor run {view.place.library}/dmad as root, in the foreground;"
        " it binds the socket and becomes the account dma"
    )
    view.note(
        f"and beside it, for mail to people of this machine: {view.place.library}/dma-mailbox --listen {PATHS[2]}, as root too"
    )
    if view.entry("/etc/cron.d") is None:
        view.note(f"there is no /etc/cron.d either; without a daemon run now and then: {view.place.library}/dma-queue run --due")
        return []
    text = render.template("system/cron.j2", {"library": view.place.library})
    return [view.path_change(CRON, views.file(text, 0o644), "wakes the queue every 15 minutes, and after a boot", drains=True)]
