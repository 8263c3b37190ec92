"""`launcher: {}`: the programs behind the links and the units, rendered from `launcher.j2`.

`#!INTERPRETER -IS`: isolated, no site, our library directory put on `sys.path` by the launcher itself. The kernel wants
the interpreter's path without blanks and the line short (execve(2): 256 bytes, 127 before Linux 5.1).
System mode: the interpreter is the distribution's, so its upgrades do not stop mail, and must be proved (`proof`).
"""

from __future__ import annotations

import os
import sys
from typing import Any

from dma_setup import render
from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.errors import SetupError
from dma_setup.verbs import library
from dma_setup.view import View

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
        text = render.template("launcher.j2", {"python": python, "library": library.path(view), "door": door})
        made.append(view.path_change(path, views.file(text, 0o755), says, drains=True))
        view.add(made[-1])
    return made


def interpreter(view: View) -> str:
    """The Python that mail will run under. Raises SetupError when the kernel could not start it from a `#!` line."""
    python = sys.executable if view.place.is_user else library.interpreter(view)
    if not python or not os.path.isabs(python):
        raise SetupError("the path of this Python is not known; start dma-setup by a Python with an absolute path")
    if any(c.isspace() for c in python) or len(os.fsencode(python)) + len("#! -IS\n") >= 256:
        raise SetupError(f"{python}: a path with blanks or longer than 250 bytes cannot start a program; install dma elsewhere")
    return python
