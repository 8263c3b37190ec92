"""`launcher: {}`: the programs behind the links and the units, rendered from `launcher.j2`.

`#!INTERPRETER -IS`: isolated, no site, our library directory put on `sys.path` by the launcher itself. That of `dma`, which
every message starts, also has the image of `prelink`, and text in UTF-8 whatever the locale (`-X utf8`), which Python then
need not find out; the owner that it leaves behind in user mode has an image of its own. The kernel wants the interpreter's
path without blanks and the line short (execve(2): 256 bytes, 127 before Linux 5.1).
System mode: the interpreter is the distribution's, so its upgrades do not stop mail, and must be proved (`proof`).
"""

from __future__ import annotations

import os
import sys
from typing import Any

from dma_runtime.system import compiled
from dma_setup import prelink, reader, render
from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.errors import SetupError
from dma_setup.place import Place
from dma_setup.system import System
from dma_setup.verbs import library
from dma_setup.view import View

OPTIONS = "-ISXutf8"  # the kernel gives the interpreter one word
# Name -> (module, whether system mode alone has it, what it is).
DOORS = {
    "dma": ("dma_runtime.cmd.sendmail", False, "the mail agent"),
    "dma-queue": ("dma_runtime.cmd.queue", False, "the queue, for the timer"),
    "dmad": ("dma_runtime.cmd.daemon", True, "the daemon that owns the queue"),
    "dma-secret": ("dma_runtime.cmd.credential", True, "reads one password for the daemon"),
    "dma-mailbox": ("dma_runtime.cmd.mailbox", True, "delivers one message on this machine"),
}


def plan(_step: dict[str, Any], view: View) -> list[Change]:
    python = interpreter(view)
    made: list[Change] = []
    for name, (door, system_only, says) in DOORS.items():
        if system_only and view.place.is_user:
            continue
        path = f"{view.place.library}/{name}"
        text = render.template("launcher.j2", _words(name, python, door, view))
        made.append(view.path_change(path, views.file(text, 0o755), says, drains=True))
        view.add(made[-1])
    return made


def _words(name: str, python: str, door: str, view: View) -> dict[str, str]:
    where = library.path(view)
    words = {"python": python, "library": where, "door": door, "options": "-IS", "take": ""}
    if name == "dma":
        words |= {"options": OPTIONS, "take": compiled.take(compiled.stem(where, _images(view.place)[0]))}
    return words


def refresh(place: Place, system: System) -> None:
    """Make the images of the installed launcher, where they are missing or made of older sources and the library can be written."""
    if (found := reader.library(place, system)) is not None:
        python, where = found
        system.run(prelink.command(python, where, *_images(place)))


def forget(place: Place, system: System, before: tuple[str, str] | None) -> str:
    """The images go when the installed launcher has another library than `before` (as of `reader.library`), or is gone. Only in
    system mode: a person's library may have launchers in other homes too. Returns what could not be done, "" for nothing."""
    if before is None or place.is_user or not place.is_live:
        return ""
    after = reader.library(place, system)
    if after is not None and after[1] == before[1]:
        return ""
    try:
        prelink.remove(before[1], *_images(place))
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""


def _images(place: Place) -> tuple[str, ...]:
    """That of `dma` first."""
    return ("submit", "owner") if place.is_user else ("handover",)


def interpreter(view: View) -> str:
    """The Python that mail will run under. Raises SetupError when the kernel could not start it from a `#!` line."""
    python = sys.executable if view.place.is_user else library.interpreter(view)
    if not python or not os.path.isabs(python):
        raise SetupError("the path of this Python is not known; start dma-setup by a Python with an absolute path")
    if any(c.isspace() for c in python) or len(os.fsencode(python)) + len(f"#! {OPTIONS}\n") >= 256:
        raise SetupError(f"{python}: a path with blanks or longer than 245 bytes cannot start a program; install dma elsewhere")
    return python
