"""`launcher: {}`: the programs behind the links, `dma` and `dma-queue`, rendered from `launcher.j2`.

`#!INTERPRETER -IS`: isolated, no site, our library directory put on `sys.path` by the launcher itself. The kernel wants
the interpreter's path without blanks and the line short (execve(2): 256 bytes, 127 before Linux 5.1).
"""

from __future__ import annotations

import os
import sys
from typing import Any

from dma_setup import render, resources
from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.errors import SetupError
from dma_setup.view import View

DOORS = {"dma": "dma_runtime.cmd.sendmail", "dma-queue": "dma_runtime.cmd.queue"}


def plan(_step: dict[str, Any], view: View) -> list[Change]:
    python = interpreter(view)
    made: list[Change] = []
    for name, door in DOORS.items():
        path = f"{view.place.library}/{name}"
        text = render.template("launcher.j2", {"python": python, "library": resources.library(), "door": door})
        says = "the mail agent" if name == "dma" else "the queue, for the timer"
        made.append(view.path_change(path, views.file(text, 0o755), says, drains=True))
        view.add(made[-1])
    return made


def interpreter(view: View) -> str:
    """The Python that mail will run under. Raises SetupError when the kernel could not start it from a `#!` line."""
    python = sys.executable if view.place.is_user else "/usr/bin/python3"
    if not python or not os.path.isabs(python):
        raise SetupError("the path of this Python is not known; start dma-setup by a Python with an absolute path")
    if any(c.isspace() for c in python) or len(os.fsencode(python)) + len("#! -IS\n") >= 256:
        raise SetupError(f"{python}: a path with blanks or longer than 250 bytes cannot start a program; install dma elsewhere")
    return python
