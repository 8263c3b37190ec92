"""`os`, as far as the way of a submission needs it: the interpreter's own `posix`, and seven small functions.

`import os` brings collections.abc, posixpath and stat with it, which is a fifth of what a bare interpreter takes to start.
Everything that is imported before a message is safe takes its system calls from here, under the name `os`; where `os` is
loaded anyway nothing is lost. Names and meanings are those of `os` and `os.path`; what is missing here is not needed there.

Built-in modules only.
"""

from __future__ import annotations

import posix
import sys
from posix import *  # noqa: F403
from posix import _exit as _exit

devnull = "/dev/null"


def fsencode(text: str) -> bytes:
    """The bytes that an argument, a path or a variable was before Python made text of it."""
    return text.encode(sys.getfilesystemencoding(), "surrogateescape")


def environment() -> dict[str, str]:
    """The environment: that of `os` where it is loaded, for it may have been changed there."""
    if (loaded := sys.modules.get("os")) is not None:
        return dict(loaded.environ)
    charset = sys.getfilesystemencoding()
    return {
        name.decode(charset, "surrogateescape"): value.decode(charset, "surrogateescape")
        for name, value in posix.environ.items()
    }


def exists(path: str) -> bool:
    try:
        posix.stat(path)
    except (OSError, ValueError):
        return False
    return True


def isfile(path: str) -> bool:
    try:
        return posix.stat(path).st_mode & 0o170000 == 0o100000
    except (OSError, ValueError):
        return False


def basename(path: str) -> str:
    return path[path.rfind("/") + 1 :]


def dirname(path: str) -> str:
    head = path[: path.rfind("/") + 1]
    return head.rstrip("/") or head


def abspath(path: str) -> str:
    """Without `.`, `..` and doubled slashes; links are not looked at."""
    if not path.startswith("/"):
        path = posix.getcwd() + "/" + path
    slashes = "//" if path.startswith("//") and not path.startswith("///") else "/"  # POSIX: two may mean something else
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return slashes + "/".join(parts)
