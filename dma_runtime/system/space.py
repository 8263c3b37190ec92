"""Room in the spool: MINFREE, and one in a hundred of its files. On the submit path: built-in modules only."""

from __future__ import annotations

from dma_runtime import posixos as os
from dma_runtime.errors import EX_TEMPFAIL, CannotSpool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config

MANY = 1 << 60
LEAST_FILES = 100  # one free in so many; a file system that does not count them has enough
LEAST_FREE = 100 << 20, 5  # bytes, percent: the smaller is MINFREE's default


def check(config: Config, path: str) -> None:
    """Raises CannotSpool (75) when less than MINFREE is free in the file system of `path`."""
    try:
        found = os.statvfs(path)
    except OSError:
        return  # writing will tell
    total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    size, percent = config.MINFREE
    if "MINFREE" not in config.values:
        size = min(LEAST_FREE[0], total * LEAST_FREE[1] // 100)
    least = max(size, total * percent // 100)
    if free < least:
        raise CannotSpool(
            f"{free >> 20} MB free in {path}, less than MINFREE ({least >> 20} MB); try again later", EX_TEMPFAIL
        )
    if found.f_files and found.f_favail < found.f_files // LEAST_FILES:
        raise CannotSpool(f"{found.f_favail} files free in {path}, less than 1 % of them; try again later", EX_TEMPFAIL)


def free(path: str) -> int:
    """Bytes free for ordinary users; a great many when nobody can say."""
    try:
        found = os.statvfs(path)
    except OSError:
        return MANY
    return found.f_bavail * found.f_frsize


def free_files(path: str) -> int:
    """Files that ordinary users can still make; a great many when nobody can say, or counts them."""
    try:
        found = os.statvfs(path)
    except OSError:
        return MANY
    return found.f_favail if found.f_files else MANY
