"""How this program is called: the commands in advice and in findings are there to be copied, so they must be found.

`dma-setup` where the shell finds this very program by that name (behind sudo: on the path that sudo searches); else its
path. It is found elsewhere than on PATH after `python3 -m venv` and pip, as the README has it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from dma_setup.place import Place

NAME = "dma-setup"
SUDO_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # secure_path of sudoers(5), as distributions ship it


def name(*, by_root: bool) -> str:
    """The word to type. `by_root`: behind sudo, or in a root shell."""
    started = os.path.abspath(sys.argv[0]) if sys.argv and sys.argv[0] else ""
    if os.path.basename(started) != NAME or not os.path.exists(started):
        return NAME  # started in another way, such as python -m: there is nothing better to say
    found = shutil.which(NAME, path=SUDO_PATH if by_root else os.environ.get("PATH", ""))
    if found is not None and os.path.realpath(found) == os.path.realpath(started):
        return NAME
    home = os.path.expanduser("~")
    if started.startswith(home + "/") and shlex.quote(started) == started:
        return "~" + started[len(home) :]
    return shlex.quote(started)


def command(place: Place, words: str) -> str:
    """The command `dma-setup WORDS` for this place."""
    flag = " --user" if place.is_user else ""
    root = f" --root {shlex.quote(place.root)}" if place.root else ""
    sudo = "" if place.is_user else "sudo "
    return f"{sudo}{name(by_root=not place.is_user)} {words}{flag}{root}"
