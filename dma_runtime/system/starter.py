"""Leave an owner behind for a spool in user mode, one that owes nothing to whoever happened to submit first.

Rules (hard-parts.md, Submitting, "User-mode owner"):
- `systemd --user` is asked when its bus is there: a transient service is outside the submitter's sandbox and control
  group. When that fails, or there is none: double fork and setsid.
- File descriptors 0-2 are /dev/null, all others closed; directory /, umask 077, every signal's action the default (a
  child whose SIGCHLD is ignored looks successful when it failed) and none blocked; the environment is the account's own.
- The owner's program is this very installation: the same interpreter, isolated (-IS), with the module path we have.

`start_owner` returns at once. Nothing about the owner's success is known to the caller: the message is safe, and the next
submission, a timer or `dma -q` starts another. Raises OSError when no process can be made.
"""

from __future__ import annotations

import os
import sys

from dma_runtime.system import compiled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config

SYSTEMD_RUN = "/usr/bin/systemd-run"
_SYSTEMD_WAIT = 20  # seconds for systemd-run to answer
_DIRECTORIES = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME")


def start_owner(config_path: str | None, config: Config, *, run: bool = False) -> None:
    """Start `dmad --leave-when-empty` in the background. `config_path` (absolute) is that of -C or DMA_CONF, else None.

    `run`: attempt everything at once, whatever its back-off says (`dma -q`).
    """
    arguments = ["--leave-when-empty", *(["--run"] if run else []), *(["-C", config_path] if config_path else [])]
    words = command(arguments)
    environment = owner_environment(config)
    child = os.fork()
    if child:
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            pass  # who ignores SIGCHLD (and its children inherit that) has nobody to wait for
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _become_owner(words, environment)
    finally:
        os._exit(0)


def command(arguments: list[str]) -> list[str]:
    """The command line of an owner: `python -IS -c BOOT`, with the module path of this process, and its modules from one
    compiled file where there is one."""
    library = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = [library, *(place for place in sys.path if place.startswith("/") and place != library)]
    boot = [
        "import gc, sys",
        "gc.disable()",
        f"sys.path[:] = {path!r}",
        compiled.take(compiled.stem(library, "owner")),
        "from dma_runtime.cmd.daemon import main",
        "gc.enable()",
        f"sys.exit(main({arguments!r}))",
    ]
    return [sys.executable or "/usr/bin/python3", "-IS", "-c", "\n".join(boot)]


def owner_environment(config: Config) -> dict[str, str]:
    """The account's own environment; where user mode looks for its files stays as the submitter has it."""
    from dma_runtime.system.account import Identity

    environment = Identity.of(os.getuid()).environment(os.environ)
    if config.user_mode:
        for name in _DIRECTORIES:
            if os.environ.get(name, "").startswith("/"):
                environment[name] = os.environ[name]
            elif name != "HOME":
                environment.pop(name, None)
    return environment


def _become_owner(words: list[str], environment: dict[str, str]) -> None:
    """In the grandchild: clean up, then ask systemd or be the owner. Does not return."""
    try:
        os.chdir("/")
        os.umask(0o077)
        _default_signals()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, _highest_descriptor())
        if not _by_systemd(words, environment):
            os.execve(words[0], words, environment)
    finally:
        os._exit(71)


def _default_signals() -> None:
    import signal

    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals():
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass  # KILL, STOP and those the C library keeps


def _highest_descriptor() -> int:
    try:
        return max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    except (OSError, ValueError):
        return os.sysconf("SC_OPEN_MAX")


def _by_systemd(words: list[str], environment: dict[str, str]) -> bool:
    """Start it as a transient service of the user's systemd; whether that worked. Not a scope: a scope is our child."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if not runtime or not os.path.exists(runtime + "/systemd/private") or not os.path.exists(SYSTEMD_RUN):
        return False
    settings = [f"--setenv={name}={value}" for name, value in environment.items()]
    ask = [
        SYSTEMD_RUN, "--user", "--collect", "--quiet", "--no-ask-password", "--description=Delivers this user's mail queue",
        "--property=KillMode=mixed", "--property=UMask=0077", "--property=TimeoutStartSec=10", *settings, "--", *words,
    ]  # fmt: skip
    child = os.fork()
    if child == 0:
        try:
            import signal

            signal.alarm(_SYSTEMD_WAIT)
            os.execve(SYSTEMD_RUN, ask, environment)
        finally:
            os._exit(71)
    return os.waitpid(child, 0)[1] == 0
