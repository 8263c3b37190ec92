"""Where passwords come from: the references of auth.conf, read when they are needed and kept for an hour.

`keyring:` and `command:` are read by a short-lived child (10 s, 4 KB, fixed environment), because a keyring library inside
the daemon would cost it its memory goal and put foreign code where the internet is parsed. The secret comes back
over a pipe; it is in no command line, no environment, no log and no error text.

- `keyring:`    the entry of (dma:HOST, login) in the keyring that dma.conf names; never detected, never prompted for. In
                system mode the credential dma.HOST.LOGIN, which a process of its own reads anew each time (`cmd.credential`)
- `command:`    words as shlex splits them, no shell, the first one absolute; the first line printed; must exit 0
- `file:`       the first line of a regular file that others cannot read: no permission for group and others, except that
                root:dma 0640 is accepted, as for auth.conf itself; what system.trust distrusts is refused
- `credential:` the first line of that file in $CREDENTIALS_DIRECTORY
- `literal:`    the text itself

A secret that cannot be read is a state of this machine: mail waits, the operator is told, nothing bounces.
Nothing here writes a keyring: setup does, through the keyring library.
"""

from __future__ import annotations

import asyncio
import errno
import grp
import os
import shlex
import socket
import stat
import sys

from dma_runtime import keyrings
from dma_runtime.authconf import COMMAND, CREDENTIAL, FILE, KEYRING
from dma_runtime.errors import EX_TEMPFAIL, DmaError
from dma_runtime.secret import Secret
from dma_runtime.shown import shown
from dma_runtime.system.account import Identity
from dma_runtime.system.localsocket import peer_uid
from dma_runtime.system.shortlived import TooMuch, TooSlow, run
from dma_runtime.system.trust import distrust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dma_runtime.authconf import Login
    from dma_runtime.config import Config

    Reader = Callable[[Login, Config], Awaitable[Secret]]

DEADLINE = 10.0  # seconds for a child
LIMIT = 4096  # bytes of a secret
KEPT = 3600.0  # seconds

SETUP = "dma-setup secret set"
CREDS = "systemd-creds"
READER = "secret.sock"  # beside the submission socket

# What the reader child (cmd.secret) says by its exit status, and what to do about it.
OTHER, NO_ENTRY, LOCKED, NO_SERVICE, NO_BACKEND = 1, 10, 11, 12, 13
_HINTS = {
    OTHER: "see what `dma-setup doctor` says",
    NO_ENTRY: f"store the password with `{SETUP}`",
    LOCKED: "unlock the keyring (sign in to the desktop, or unlock it by hand); mail goes out by itself then",
    NO_SERVICE: f"start the keyring service, or keep the password elsewhere: `{SETUP}`",
    NO_BACKEND: "install what it needs, or name another KEYRING in dma.conf",
}

_SEE_READER = "see `systemctl status dma-secret.socket' and its log"
_ENTER_AGAIN = (
    f"enter the password again with `{SETUP}`; a copied machine, a changed machine-id or TPM makes a credential unreadable, "
    "and the log of dma-secret@.service says which it is"
)

# -I: nothing from the caller's environment or directory; -S: site-packages only where the child asks for them.
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from dma_runtime.cmd.secret import main; sys.exit(main(sys.argv[2:]))"
_LIBRARY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class SecretUnreadable(DmaError):
    """The password of a login cannot be read now. `text` says which and why, `hint` what to do, in one sentence."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text, EX_TEMPFAIL)
        self.hint = hint


class _Because(Exception):
    """Why a reference cannot be read, and what to do."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


async def read(
    login: Login, config: Config, *, environ: Mapping[str, str] | None = None, identity: Identity | None = None
) -> Secret:
    """The password of `login`. `environ` is what this process was started with, `identity` who it works for.

    Raises SecretUnreadable; takes no longer than DEADLINE for a keyring or command.
    """
    given = os.environ if environ is None else environ
    who = Identity.of(os.getuid()) if identity is None else identity
    kind, value = login.reference.kind, login.reference.value.reveal()
    try:
        if kind == KEYRING:
            return await _keyring(login, config, given, who)
        if kind == COMMAND:
            return await _command(value, given, who)
        if kind == FILE:
            return await asyncio.to_thread(_file, value)
        if kind == CREDENTIAL:
            return await asyncio.to_thread(_credential, value, given)
        return _fit(value.encode("utf-8", "surrogateescape"), "the password")
    except _Because as because:
        where = f"{config.AUTHPATH or 'auth.conf'}:{login.line}: the password of {login.user} at {login.host} cannot be read"
        raise SecretUnreadable(f"{where}: {because.reason}", because.hint) from None


# ---------------------------------------------------------------- the references


async def _keyring(login: Login, config: Config, environ: Mapping[str, str], who: Identity) -> Secret:
    if config.by_socket and (config.KEYRING or CREDS).lower() in (CREDS, keyrings.CLASSES[CREDS].lower()):
        return await _credential_of_the_machine(keyrings.credential(login.host, login.user), config, environ)
    if not config.KEYRING:
        raise _Because("dma.conf does not say which KEYRING is meant", f"run `{SETUP}`, or add KEYRING to dma.conf")
    try:
        backend = keyrings.backend(config.KEYRING)
    except ValueError as expected:
        name = shown(config.KEYRING)
        raise _Because(f"KEYRING {name} is not known", f"let KEYRING in dma.conf be {expected}") from None
    if backend == keyrings.CLASSES["systemd-creds"]:
        return await asyncio.to_thread(_credential, keyrings.credential(login.host, login.user), environ)
    python = sys.executable or "/usr/bin/python3"
    words = [python, "-IS", "-c", _BOOT, _LIBRARY, backend, keyrings.service(login.host), login.user]
    return await _child(words, environ, who, f"keyring {shown(config.KEYRING)}", _HINTS)


async def _credential_of_the_machine(name: str, config: Config, environ: Mapping[str, str]) -> Secret:
    """System mode: the secret reader has it decrypted anew for each read (`cmd.credential`); where there is none, and we were
    started with credentials, our own copy."""
    path = f"{os.path.dirname(config.SOCKET)}/{READER}"
    try:
        async with asyncio.timeout(DEADLINE):
            data = await _ask_reader(path, name)
    except TimeoutError:
        raise _Because(f"credential {name}: no answer at {path} within {DEADLINE:.0f} s", _SEE_READER) from None
    except OSError as error:
        if isinstance(error, FileNotFoundError) and environ.get("CREDENTIALS_DIRECTORY"):
            return await asyncio.to_thread(_credential, name, environ)
        raise _Because(f"credential {name}: nobody gives it out at {path}: {error.strerror or error}", _SEE_READER) from None
    if not data:
        raise _Because(f"credential {name}: it is not there or cannot be decrypted", _ENTER_AGAIN)
    return _fit(data, f"credential {name}")


async def _ask_reader(path: str, name: str) -> bytes:
    """What the secret reader prints. Raises OSError."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as line:
        line.setblocking(False)
        await loop.sock_connect(line, path)
        uid = peer_uid(line)
        if uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, f"uid {uid} listens there, neither root nor we")
        await loop.sock_sendall(line, name.encode("ascii") + b"\n")
        data = b""
        try:
            while len(data) <= LIMIT and (more := await loop.sock_recv(line, LIMIT + 1)):
                data += more
        except ConnectionResetError:
            return b""  # it ended without reading the question: systemd could not decrypt, and started nothing
        return data


async def _command(text: str, environ: Mapping[str, str], who: Identity) -> Secret:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _Because(f"command: {error}", "mend the quotes of command: in auth.conf") from None
    if not words or not words[0].startswith("/"):
        raise _Because("command: needs the absolute path of a program", "write command:/usr/bin/... in auth.conf")
    program = shown(words[0])
    try:
        reason = distrust(words[0], os.geteuid())
    except OSError as error:
        raise _Because(f"{program}: {error.strerror}", "mend command: in auth.conf") from None
    if reason:
        raise _Because(shown(reason), "let the program and its directories belong to who runs it, not writable by others")
    return await _child(words, environ, who, program, {})


async def _child(words: list[str], environ: Mapping[str, str], who: Identity, what: str, hints: dict[int, str]) -> Secret:
    try:
        printed = await run(words, who.environment(environ), seconds=DEADLINE, limit=LIMIT)
    except OSError as error:
        raise _Because(f"{what}: {error.strerror}", f"see whether {shown(words[0])} can be run") from None
    except TooSlow:
        hint = "see what it waits for; it must not ask questions"
        raise _Because(f"{what}: no answer within {DEADLINE:.0f} s", hint) from None
    except TooMuch:
        raise _Because(f"{what}: printed more than {LIMIT} bytes", "let it print the password alone") from None
    if printed.status != 0:
        reason = _reason(printed.err, printed.out) or _ended(printed.status)
        raise _Because(f"{what}: {reason}", hints.get(printed.status, "run it by hand and see"))
    return _fit(printed.out, what)


def _reason(err: bytes, out: bytes) -> str:
    """The last line of a child's standard error, fit to be shown, without what may be the secret."""
    lines = [line for line in err.decode("utf-8", "surrogateescape").splitlines() if line.strip()]
    if not lines:
        return ""
    secret = out.split(b"\n", 1)[0].decode("utf-8", "surrogateescape").strip()
    last = lines[-1].strip()
    return shown(last.replace(secret, "***") if secret else last, 200)


def _ended(status: int) -> str:
    return f"ended by signal {-status}" if status < 0 else f"exit status {status}"


def _file(path: str) -> Secret:
    if not path.startswith("/"):
        raise _Because("file: needs an absolute path", "mend file: in auth.conf")
    name = shown(path)
    try:
        if reason := distrust(path, os.geteuid()):
            raise _Because(shown(reason), "let it belong to who reads it, and be writable by nobody else")
        data = _first_bytes(path, private=True)
    except OSError as error:
        raise _Because(f"{name}: {error.strerror}", f"write the password into {name}, mode 0600") from None
    return _fit(data, name)


def _credential(name: str, environ: Mapping[str, str]) -> Secret:
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory:
        raise _Because(
            "there is no CREDENTIALS_DIRECTORY: this process was not started with credentials",
            f"let the unit load the credential {shown(name)}, or keep the password elsewhere: `{SETUP}`",
        )
    if not name or "/" in name or name in (".", ".."):
        raise _Because("credential: needs the name of a credential, not a path", "mend credential: in auth.conf")
    try:
        data = _first_bytes(f"{directory}/{name}", private=False)
    except OSError as error:
        hint = f"let the unit load the credential {shown(name)}, or keep the password elsewhere: `{SETUP}`"
        raise _Because(f"credential {shown(name)}: {error.strerror}", hint) from None
    return _fit(data, f"credential {shown(name)}")


def _first_bytes(path: str, *, private: bool) -> bytes:
    """What a secret's file begins with. Raises OSError, and _Because for a file that is none or that others can read."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _Because(f"{shown(path)} is not a regular file", "write the password into a file")
        if private and status.st_mode & 0o077 and not _for_the_daemon(status):
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise _Because(f"{shown(path)} can be read by others (mode {mode})", f"chmod 600 {shlex.quote(shown(path))}")
        data = b""
        while len(data) <= LIMIT and (chunk := os.read(fd, LIMIT + 1 - len(data))):
            data += chunk
        return data
    finally:
        os.close(fd)


def _for_the_daemon(status: os.stat_result) -> bool:
    """root:dma 0640, the owner and mode of auth.conf in system mode: readable by the daemon's group alone."""
    if status.st_uid != 0 or status.st_mode & 0o037:
        return False
    try:
        return grp.getgrnam("dma").gr_gid == status.st_gid
    except KeyError:
        return False


def _fit(data: bytes, what: str) -> Secret:
    """The first line as a secret. Raises _Because when it is empty, too long, or holds a NUL, which no AUTH can carry."""
    line = data.split(b"\n", 1)[0].removesuffix(b"\r")
    if not line:
        raise _Because(f"{what}: empty", f"store the password with `{SETUP}`")
    if len(line) > LIMIT:
        raise _Because(f"{what}: more than {LIMIT} bytes in the first line", "let the first line be the password alone")
    if b"\0" in line:
        raise _Because(f"{what}: a NUL byte in the password", "store it again as text")
    return Secret(line.decode("utf-8", "surrogateescape"))


# ---------------------------------------------------------------- kept for an hour


class SecretStore:
    """Secrets that were read, kept until `forget` (AUTH was refused), `clear` (auth.conf changed) or KEPT seconds passed.

    `clock` gives seconds that never go back, and should count time asleep (CLOCK_BOOTTIME). Failures are not kept:
    the pace of attempts is the queue's business. Several sessions that want the same login share one read.
    """

    def __init__(self, clock: Callable[[], float], reader: Reader = read) -> None:
        self._clock = clock
        self._read = reader
        self._kept: dict[tuple[object, ...], tuple[Secret, float]] = {}
        self._reading: dict[tuple[object, ...], asyncio.Task[Secret]] = {}

    async def get(self, login: Login, config: Config) -> Secret:
        """The password of `login`, kept or read now. Raises SecretUnreadable."""
        key = _key(login, config)
        if key in self._kept:
            secret, since = self._kept[key]
            if 0 <= self._clock() - since < KEPT:
                return secret
            del self._kept[key]
        task = self._reading.get(key)
        if task is None:
            task = asyncio.ensure_future(self._fetch(key, login, config))
            self._reading[key] = task
        return await asyncio.shield(task)

    async def _fetch(self, key: tuple[object, ...], login: Login, config: Config) -> Secret:
        mine = asyncio.current_task()
        try:
            secret = await self._read(login, config)
            if self._reading.get(key) is mine:  # not forgotten meanwhile
                self._kept[key] = (secret, self._clock())
            return secret
        finally:
            if self._reading.get(key) is mine:
                del self._reading[key]

    def forget(self, login: Login) -> None:
        """The relay refused this login: the next `get` reads again."""
        for table in (self._kept, self._reading):
            for key in [key for key in table if key[:3] == (login.user, login.host, login.port)]:
                del table[key]

    def clear(self) -> None:
        """auth.conf or dma.conf changed: everything is read again."""
        self._kept.clear()
        self._reading.clear()


def _key(login: Login, config: Config) -> tuple[object, ...]:
    return (login.user, login.host, login.port, login.reference.kind, login.reference.value, config.KEYRING)
