"""What a service and systemd say to each other: sockets handed in, readiness, the watchdog. Nothing of it needs systemd.

Follows sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3); the variables are removed from the environment when they
are read, so that children do not take them for theirs. A notification that cannot be sent is not sent.
"""

from __future__ import annotations

import os
import socket

FIRST = 3  # SD_LISTEN_FDS_START


def listening() -> list[socket.socket]:
    """The sockets we were started with, non-blocking, close-on-exec. What is no listening AF_UNIX stream is closed."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for fd in range(FIRST, FIRST + int(count)):
        try:
            given = socket.socket(fileno=fd)
        except OSError:
            continue
        os.set_inheritable(fd, False)
        stream = given.family == socket.AF_UNIX and given.type == socket.SOCK_STREAM
        if stream and given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            given.setblocking(False)
            found.append(given)
        else:
            given.close()
    return found


class Supervisor:
    """Whoever started us, if it listens: `say` a notification such as READY=1; `beat`: seconds between two signs of life,
    0.0 when none are wanted."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        usec, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        wanted = usec.isdigit() and pid in ("", str(os.getpid()))
        self.beat = int(usec) / 2_000_000 if wanted else 0.0

    def say(self, text: str) -> None:
        """Never raises, never waits."""
        if self._address[:1] not in ("/", "@"):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), address)
        except OSError:
            pass
