"""dmad as the machine's service: what root does before it stops being root, the socket, the company the owner works in.

- Started as root it makes what only root can make (the socket in its directory, an empty spool for the account), then
  becomes the account `dma`, before any network and before the spool is opened (hard-parts.md, System mode).
- The socket comes from systemd (LISTEN_FDS), else it is bound here and may be used by everybody (0666). It is left behind:
  who connects meanwhile is refused, and comes again.
- An upgrade in place puts another version's files under a daemon that runs. So all of ours that it may ever need is imported
  when it starts, also what a submission in user mode imports only with its first local recipient.

Raises DmaError: 75 when another daemon listens, 73 and 78 for what will not pass by itself.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import stat

import dma_runtime.policy.expansion  # noqa: F401 see "An upgrade"
from dma_runtime.cmd import peer
from dma_runtime.delivery.reception import Reception
from dma_runtime.delivery.supervision import Supervision
from dma_runtime.errors import EX_CANTCREAT, EX_TEMPFAIL, ConfigError, DmaError
from dma_runtime.system import privilege
from dma_runtime.system.systemd import Supervisor, listening
from dma_runtime.system.trust import distrust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config
    from dma_runtime.delivery.owner import Attendant
    from dma_runtime.system.maillog import MailLog

BACKLOG = 1024


def enter(config: Config, log: MailLog, *, resident: bool) -> list[Attendant]:
    """Take up the service that `config` describes: who runs beside the owner, nobody when there is no socket to serve. On
    return this process is not root any more. Raises DmaError."""
    if resident:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the owner listens to it
    given = listening()
    bound = given or ([listen(config.SOCKET)] if resident else [])
    if os.getuid() == 0:
        account = privilege.account()
        provide_spool(config.SPOOLDIR, account)
        privilege.become(account)
    if not bound:
        return []
    supervision = Supervision(Supervisor())
    me = os.geteuid()
    accept, verify = functools.partial(peer.accept, log=log), functools.partial(peer.verify, log=log)
    return [Reception(bound, accept, verify, me=me), supervision]


def listen(path: str, mode: int = 0o666) -> socket.socket:
    """A socket bound at `path`, non-blocking, for everybody. Its directory is made if it is missing.

    Raises DmaError: 75 when somebody listens there, 73 when it cannot be made, 78 when root may not use the place."""
    directory, name = os.path.split(path)
    try:
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o755)
        if os.getuid() == 0 and (reason := distrust(directory, 0)):
            raise ConfigError(path, 0, f"SOCKET not used: {reason}")
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot(path, error) from None
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0)
    try:
        there = f"/proc/self/fd/{place}/{name}"  # sun_path ends at 108 bytes
        _remove_stale(there, path)
        os.fchmod(made.fileno(), mode)  # Linux: the mode bind() gives the name
        made.bind(there)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise _cannot(path, error) from None
    except DmaError:
        made.close()
        raise
    finally:
        os.umask(mask)
        os.close(place)
    return made


def _remove_stale(there: str, path: str) -> None:
    """Remove a socket that nobody listens on. Raises DmaError (75) when somebody does, OSError."""
    try:
        if not stat.S_ISSOCK(os.lstat(there).st_mode):
            raise DmaError(f"{path} is there and is no socket; remove it", EX_CANTCREAT)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(there)
        except ConnectionRefusedError:
            os.unlink(there)
            return
        except BlockingIOError:
            pass  # its backlog is full
    raise DmaError(f"another process listens at {path}", EX_TEMPFAIL)


def _cannot(path: str, error: OSError) -> DmaError:
    return DmaError(f"can not listen at {path} (SOCKET): {error.strerror}", EX_CANTCREAT)


def provide_spool(path: str, account: privilege.Account) -> None:
    """Root's part of making the spool: the directory, if it is missing or empty, for the account. What is in it is never
    touched. Raises DmaError (73, 78)."""
    path = os.path.realpath(path)
    above = os.path.dirname(path)
    try:
        os.makedirs(above, 0o755, exist_ok=True)
        if reason := distrust(above, 0):
            raise ConfigError(path, 0, f"SPOOLDIR not used: {reason}")
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(place).st_uid == 0 and not os.listdir(place):
                os.fchown(place, account.uid, account.gid)
                os.fchmod(place, 0o700)
        finally:
            os.close(place)
    except OSError as error:
        raise DmaError(f"can not make the spool {path}: {error.strerror}", EX_CANTCREAT) from None
