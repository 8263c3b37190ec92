"""The secret reader of the machine: prints one credential to whoever asks, which is the daemon alone.

    dma-credential        serves the connection on standard input (dma-secret@.service, Accept=yes, User=dma, no network)

The request is one line, the name of a credential as `keyrings.credential` makes it (`dma.HOST.LOGIN`); the answer is its bytes
and the end. systemd has decrypted it into $CREDENTIALS_DIRECTORY for this one run, so what is read is never stale, and a
credential that cannot be decrypted fails this process alone (hard-parts.md, Secrets). On any failure nothing is printed, and
one line goes to the log. 10 s in all. Built-in modules only: it is started for each read.
"""

from __future__ import annotations

import os
import sys

from dma_runtime.shown import shown
from dma_runtime.system.localsocket import peer_uid
from dma_runtime.system.maillog import WARNING, MailLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

LIMIT = 4096  # bytes of a secret
LINE = 600  # bytes of a request
SECONDS = 10


def main() -> int:
    """Returns the exit status: 0 when the secret was printed. Never raises."""
    import resource
    import signal

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        pass  # in a sandbox that has limits of its own
    signal.alarm(SECONDS)
    log = MailLog()
    try:
        return serve(os.dup(0), os.environ.get("CREDENTIALS_DIRECTORY", ""), log)
    except OSError as error:
        log.write(WARNING, f"secret reader: {error.strerror or error}")
        return 75


def serve(connection: int, directory: str, log: MailLog) -> int:
    """Answer the request on the socket `connection`, which is closed. Raises OSError."""
    import _socket

    line = _socket.socket(fileno=connection)
    try:
        uid = peer_uid(line)
        if uid not in (0, os.geteuid()):
            log.write(WARNING, f"secret reader: uid {uid} asked and was not answered")
            return 77
        name = _name(line)
        if not name:
            log.write(WARNING, "secret reader: not a credential's name")
            return 65
        secret = _read(directory, name, log)
        if not secret:
            return 66
        line.sendall(secret)
        return 0
    finally:
        line.close()


def _name(line: _socket.socket) -> str:
    asked = b""
    while not asked.endswith(b"\n") and len(asked) < LINE:
        more = line.recv(LINE)
        if not more:
            break
        asked += more
    name = asked.removesuffix(b"\n").decode("ascii", "replace")
    plain = all(c.isascii() and (c.isalnum() or c in ".@+-_") for c in name)
    return name if plain and name.startswith("dma.") and asked.endswith(b"\n") else ""


def _read(directory: str, name: str, log: MailLog) -> bytes:
    if not directory:
        log.write(WARNING, "secret reader: started without credentials (CREDENTIALS_DIRECTORY)")
        return b""
    try:
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        log.write(WARNING, f"secret reader: credential {shown(name)}: {error.strerror}")
        return b""
    try:
        return os.read(fd, LIMIT)
    finally:
        os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
