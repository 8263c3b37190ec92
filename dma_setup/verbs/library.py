"""`library: {}`: which interpreter and which copy of `dma_runtime` root's mail runs by; root's own copy where it must be.

In system mode programs of root call the launchers, and every user does. So before anything is planned it is proved that the
interpreter, the library and every directory above both (links resolved) belong to root, cannot be written by others, and
can be entered by any user. Otherwise `pipx install` as alice and `sudo dma-setup` would run root's cron through alice's
files. What is not so is replaced: the interpreter by the distribution's, the library by a copy below /usr/local/lib/dma.
Below --root the library is always copied, for the image does not have it.
"""

from __future__ import annotations

import os
import stat
import sys

from dma_runtime import __version__
from dma_runtime.system.trust import distrust
from dma_setup import resources
from dma_setup.changes import Change
from dma_setup.changes.tree import TreeChange, digest_of
from dma_setup.errors import SetupError
from dma_setup.view import View

PYTHON = "/usr/bin/python3"
OLDEST = (3, 11)


def plan(_step: dict[str, object], view: View) -> list[Change]:
    if view.place.is_user or path(view) == resources.library():
        return []
    wanted = path(view)
    if view.place.is_live and (reason := _above(wanted)):
        raise SetupError(f"root's own copy of the program cannot be kept in {view.place.library}: {reason}")
    return [
        TreeChange(
            path=wanted,
            root=view.place.root,
            packages=_packages(),
            digest=digest_of(_packages()),
            subject=wanted,
            says="root's own copy of the mail agent: what is installed now is not root's alone, or not in the image",
            parents=view.missing_above(wanted),
            is_new=view.entry(wanted) is None,
            python=interpreter(view) if view.place.is_live else "",
        )
    ]


def path(view: View) -> str:
    """The directory that the launchers put on `sys.path`."""
    installed = resources.library()
    if view.place.is_user:
        return installed
    if view.place.is_live and os.path.dirname(_packages()[1]) == installed and not proof(installed):
        return installed
    return f"{view.place.library}/python-{__version__}-{digest_of(_packages())[:12]}"


def _packages() -> tuple[str, ...]:
    """`dma_runtime`, and the resolver library that direct delivery needs, which a `-S` interpreter does not find by itself."""
    import dns

    assert dns.__file__ is not None
    return f"{resources.library()}/dma_runtime", os.path.dirname(os.path.abspath(dns.__file__))


def interpreter(view: View) -> str:
    """The Python of the machine. Raises SetupError, naming the command, when there is none that root may use."""
    if not view.place.is_live:
        if view.entry(PYTHON) is None:
            view.note(f"the image has no {PYTHON}; mail needs Python {OLDEST[0]}.{OLDEST[1]} or newer there")
        return PYTHON
    reasons = []
    for candidate in dict.fromkeys((PYTHON, os.path.realpath(sys.executable))):
        reason = _unfit(candidate, view)
        if not reason:
            return candidate
        reasons.append(reason)
    command = "apt install python3" if os.path.exists("/usr/bin/apt") else "install Python with the system's packages"
    raise SetupError(
        f"no Python {OLDEST[0]}.{OLDEST[1]} or newer that belongs to root alone; mend it with: {command}",
        details=[f"  {reason}" for reason in reasons],
    )


def _unfit(python: str, view: View) -> str:
    if not os.path.exists(python):
        return f"{python} is not there"
    if reason := _reachable(python):
        return reason
    status, printed = view.run([python, "-IS", "-c", "import sys; print(*sys.version_info[:2])"])
    if status != 0 or tuple(map(int, printed.split())) < OLDEST:
        return f"{python} is older"
    return ""


def proof(library: str) -> str:
    """Why root and everybody must not run `dma_runtime` from the directory `library`; "" when they may."""
    package = f"{library}/dma_runtime"
    if reason := _reachable(f"{package}/__init__.py"):
        return reason
    for folder, folders, names in os.walk(package):
        for name in [*folders, *names]:
            where = os.path.join(folder, name)
            found = os.lstat(where)
            if found.st_uid != 0 or (not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o022):
                return f"{where} does not belong to root alone"
            if name.endswith(".py") and not found.st_mode & stat.S_IROTH:
                return f"{where} cannot be read by every user"
            if stat.S_ISDIR(found.st_mode) and name != "__pycache__" and found.st_mode & 0o005 != 0o005:
                return f"{where} cannot be entered by every user"
    return ""


def _reachable(file: str) -> str:
    """Why a file is not root's alone, or not within everybody's reach, through every link and directory on the way."""
    try:
        if reason := distrust(file, 0):
            return reason
        real = os.path.realpath(file)
        if not os.stat(real).st_mode & stat.S_IROTH:
            return f"{real} cannot be read by every user"
        for way in (os.path.dirname(os.path.abspath(file)), os.path.dirname(real)):
            while way != "/":
                if not os.stat(way).st_mode & stat.S_IXOTH:
                    return f"{way} cannot be entered by every user"
                way = os.path.dirname(way)
    except OSError as error:
        return f"{error.filename or file}: {error.strerror}"
    return ""


def _above(wanted: str) -> str:
    """Why a directory of root's cannot be made at `wanted`: the first that exists above it must be root's alone."""
    folder = os.path.dirname(wanted)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        return distrust(folder, 0)
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
