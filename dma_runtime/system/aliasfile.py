"""Reading the aliases file and the files it includes. The grammar is in `aliases`."""

from __future__ import annotations

import errno
import os
import stat

from dma_runtime.aliases import Aliases, parse
from dma_runtime.errors import EX_SOFTWARE, DmaError

LARGEST = 16 << 20  # bytes of a file of addresses


def load(path: str) -> Aliases:
    """The aliases of `path`; a missing file has none. Raises DmaError (70) when it is there and cannot be read."""
    try:
        return parse(read(path), path)
    except FileNotFoundError:
        return Aliases(path)
    except OSError as error:
        raise DmaError(f"can not open aliases file `{path}': {error.strerror or error}", EX_SOFTWARE) from None


def read(path: str) -> str:
    """The text of a regular file. Raises OSError, also when it is something else (a FIFO would make the caller wait)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) and path != "/dev/null":
            raise OSError(errno.EINVAL, "Not a regular file")
        if found.st_size > LARGEST:
            raise OSError(errno.EFBIG, "File too large")
        data = b""
        while chunk := os.read(fd, 1 << 20):
            data += chunk
        return data.decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)
