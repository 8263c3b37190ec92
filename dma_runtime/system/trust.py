"""May this process act on what that file says?

Rules (hard-parts.md, Submitting):
- Root honours a file only if the file and every directory above it (links resolved, and the links themselves) belong to
  root and are not writable by others. A directory with the sticky bit, such as /tmp, counts as not writable: nobody but
  root can replace root's entry in it.
- Anyone else honours only files of their own or of root, not writable by everyone.

The walk goes from the top down, so what was found trustworthy cannot be changed by those who are not trusted
while the rest is looked at. Built-in modules only: the submit path may use it.
"""

from __future__ import annotations

import stat

from dma_runtime import posixos as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LINKS = 40  # as many as the kernel follows, path_resolution(7)


def distrust(path: str, uid: int, *, lstat: Callable[[str], os.stat_result] = os.lstat) -> str:
    """Why a process of user `uid` must not act on the file at `path` (absolute); "" when it may.

    Raises OSError when a part of the path cannot be examined.
    """
    if uid != 0:
        return _file(path, os.stat(path), {0, uid})
    done = "/"
    if reason := _directory(done, lstat(done)):
        return reason
    waiting = [part for part in path.split("/") if part][::-1]
    links = 0
    while waiting:
        part = waiting.pop()
        if part in (".", ".."):
            done = os.dirname(done) if part == ".." else done
            continue
        here = done.rstrip("/") + "/" + part
        status = lstat(here)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if status.st_uid != 0:
                return f"{here} belongs to uid {status.st_uid}, not to root"
            if links > LINKS:
                return f"{path} is a loop of links"
            target = os.readlink(here)
            if target.startswith("/"):
                done = "/"
            waiting += [piece for piece in target.split("/") if piece][::-1]
            continue
        reason = _directory(here, status) if stat.S_ISDIR(status.st_mode) else _file(here, status, {0})
        if reason:
            return reason
        done = here
    return ""


def doubt(path: str, uid: int) -> str:
    """`distrust` of any path; what cannot be examined is not trusted."""
    try:
        return distrust(os.abspath(path), uid)
    except OSError as error:
        return f"{path}: {error.strerror or error}"


def _directory(path: str, status: os.stat_result) -> str:
    if status.st_uid != 0:
        return f"the directory {path} belongs to uid {status.st_uid}, not to root"
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        return f"the directory {path} can be written by others"
    return ""


def _file(path: str, status: os.stat_result, owners: set[int]) -> str:
    if status.st_uid not in owners:
        return f"{path} belongs to uid {status.st_uid}"
    if status.st_mode & (0o022 if owners == {0} else 0o002):
        return f"{path} can be written by others"
    return ""
