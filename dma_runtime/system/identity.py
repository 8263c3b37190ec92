"""Who we are: the caller's login name, this host's name, and the name mail carries (MAILNAME).

Rules, as C dma's (dma.c:98-162, util.c:55-108, util.c:212-243):
- MAILNAME is a name, or, starting with `/`, a file whose first line is cut at the first character outside
  `[A-Za-z0-9_.-]`. Unreadable, empty or not a name: the host's name.
- The login is that of $LOGNAME or $USER if its uid is the caller's, else the passwd entry, else `uid=N`.

Nothing here raises: a machine without a passwd entry or a host name still sends mail. Built-in modules only.
"""

from __future__ import annotations

from dma_runtime import posixos as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config

_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


def host_name() -> str:
    """The host's own name as the kernel has it; `localhost` when it has none."""
    return _cut(os.uname().nodename) or "localhost"


def mail_name(config: Config) -> str:
    """The name this machine's addresses carry. Never empty, only letters, digits, `_`, `.` and `-`."""
    said = config.MAILNAME or config.MAILNAMEFILE or ""
    if said.startswith("/"):
        said = _first_line(said)
    return _cut(said) or host_name()


def _cut(text: str) -> str:
    """The leading part that can be a name."""
    for at, c in enumerate(text):
        if c not in _NAME:
            text = text[:at]
            break
    return text.strip(".")


def _first_line(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return os.read(fd, 1024).partition(b"\n")[0].strip().decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def login_name(uid: int, environ: dict[str, str]) -> str:
    """The caller's login; `environ` is empty when it is not to be trusted."""
    import pwd

    for variable in ("LOGNAME", "USER"):
        name = environ.get(variable, "")
        if name:
            try:
                if pwd.getpwnam(name).pw_uid == uid:
                    return name
            except (KeyError, ValueError):
                pass
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid={uid}"


def account(name: str) -> str:
    """The login a local name means, whatever its case; "" when there is none. An exact match wins."""
    import pwd

    for candidate in (name, name.lower()):
        try:
            return pwd.getpwnam(candidate).pw_name
        except (KeyError, ValueError, UnicodeError):
            continue
    return ""
