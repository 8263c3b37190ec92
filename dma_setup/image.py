"""Paths of a tree that is not the running machine (--root): a link in it means what it means to programs in there.

An absolute link in an image, `/var/spool -> /data/spool`, leads to the image's own /data; followed as the kernel of the
running machine does it, it would lead out of the image, and into the files of whoever builds it.
"""

from __future__ import annotations

import os

from dma_setup.errors import SetupError

LINKS = 40  # as many as the kernel follows, path_resolution(7)


def inside(root: str, path: str, *, follow: bool = False) -> str:
    """Where `path` (absolute) of the tree `root` really is; `path` itself where `root` is "".

    Links on the way are followed within the tree; one at the very end only with `follow`. Raises SetupError for a loop.
    """
    if not root:
        return path
    done = ""
    waiting = path.split("/")[::-1]
    links = 0
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = os.path.dirname(done).rstrip("/")
            continue
        here = f"{done}/{part}"
        target = _target(root + here) if follow or any(part not in ("", ".") for part in waiting) else ""
        if not target:
            done = here
            continue
        links += 1
        if links > LINKS:
            raise SetupError(f"{path} is a loop of links below {root}")
        if target.startswith("/"):
            done = ""
        waiting += target.split("/")[::-1]
    return root + done


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
