"""`--user`, `--system`, `--root DIR`: which place a command works on."""

from __future__ import annotations

import argparse
import os

from dma_setup import itself
from dma_setup import place as places
from dma_setup.errors import UsageProblem
from dma_setup.place import Place


def options(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--user", action="store_true", help="only me: files in my home, no daemon; the default when not root")
    which.add_argument("--system", action="store_true", help="this machine; the default for root")
    parser.add_argument("--root", metavar="DIR", default="", help="every absolute path lies below DIR; no service is started")


def place(given: argparse.Namespace, words: str, *, guided: bool = False) -> Place:
    """The place to work on. `words` is the command as typed after `dma-setup`, for advice.

    A guided run that is neither root nor told `--user` is not guessed at: there are two ways on, and both are named.
    """
    uid = os.getuid()
    root = ""
    if given.root:
        root = os.path.abspath(given.root)
        if not os.path.isdir(root):
            raise UsageProblem(f"--root {given.root}: there is no such directory")
        root = "" if root == "/" else root
    if given.system or (not given.user and (uid == 0 or root)):
        if uid != 0 and not root:
            raise UsageProblem(f"--system needs root: sudo {itself.name(by_root=True)} {words}")
        return places.for_system(root)
    if guided and not given.user:
        login = places.login_name(uid)
        user, system = f"for {login} only (no daemon, your desktop's keyring)", "for this machine"
        raise UsageProblem(
            "You are not root. Two ways on:",
            [
                f"  {user}  {itself.name(by_root=False)} {words} --user",
                f"  {system:<{len(user)}}  sudo {itself.name(by_root=True)} {words}",
            ],
        )
    return places.for_user(uid, dict(os.environ), root)
