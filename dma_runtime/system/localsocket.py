"""Connecting to a socket of this machine. On the submit path: built-in modules only."""

from __future__ import annotations

import time

from dma_runtime import posixos as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

_LONGEST = 107  # bytes; sun_path ends at 108
_PAUSE = 0.05  # seconds
_PEER = 17  # SO_PEERCRED, which not every Python has in _socket


def connect(path: str, *, let_in: float, timeout: float) -> _socket.socket:
    """A connected stream, whatever the length of the path. A full backlog is waited for, `let_in` seconds; each later call
    takes at most `timeout`. Raises OSError; BlockingIOError when nobody let us in."""
    import _socket

    deadline = time.monotonic() + let_in
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    directory = -1
    try:
        name = path
        if len(os.fsencode(path)) > _LONGEST:
            directory = os.open(os.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            name = f"/proc/self/fd/{directory}/{os.basename(path)}"
        made.settimeout(timeout)
        while True:
            try:
                made.connect(name)
                return made
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
    except BaseException:
        made.close()
        raise
    finally:
        if directory >= 0:
            os.close(directory)


def silent(path: str, seconds: float) -> str:
    """Why nobody can be reached at `path`, "" when somebody listens; who listens for a daemon starts it. Takes so long at most."""
    try:
        connect(path, let_in=seconds, timeout=seconds).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def peer_uid(connection: _socket.socket) -> int:
    """Who is at the other end: who connected, or, seen from there, who began to listen. Raises OSError."""
    import _socket

    found = connection.getsockopt(_socket.SOL_SOCKET, getattr(_socket, "SO_PEERCRED", _PEER), 12)  # struct ucred
    import sys

    return int.from_bytes(found[4:8], sys.byteorder)
