"""Who calls sendmail: identity, what may be believed of the environment, and the configuration that applies.

When real and effective ids differ, -C, DMA_CONF and the environment are ignored, and a file named by the caller counts only
if `system.trust` says so (hard-parts.md, Submitting). Built-in modules only.
"""

from __future__ import annotations

from dma_runtime import posixos as os
from dma_runtime.config import SYSTEM_CONF, Config, find
from dma_runtime.errors import EX_IOERR, ConfigError, DmaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.cmd.options import Options
    from dma_runtime.system.maillog import MailLog


def say(text: str) -> None:
    """Write to standard error; never raises."""
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody to tell


def put(data: bytes) -> None:
    """Write all of `data` to standard output. Raises BrokenPipeError when nobody reads it, DmaError (74) else."""
    while data:
        try:
            data = data[os.write(1, data) :]
        except BlockingIOError:  # the caller made the pipe so
            import select

            select.select([], [1], [])
        except BrokenPipeError:
            raise
        except OSError as error:
            raise DmaError(f"standard output: {error.strerror}", EX_IOERR) from None


def check_trust(config: Config, uid: int) -> None:
    """Raises ConfigError when a process of `uid` must not act on the file of `config`, which the caller named."""
    source = config.source
    if not source or source == SYSTEM_CONF:
        return
    from dma_runtime.system.trust import distrust

    try:
        reason = distrust(os.abspath(source), uid)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(source, 0, f"file not used: {reason}")


class Caller:
    """Who calls, what for, and by which configuration. `trusted`: real and effective ids are the same.

    `config_path`: the file of -C or DMA_CONF if that is in force, absolute, else None. `log` writes syslog.
    """

    def __init__(self, program: str, options: Options, log: MailLog) -> None:
        self.program = program
        self.options = options
        self.log = log
        self.uid, euid = os.getuid(), os.geteuid()
        self.trusted = self.uid == euid and os.getgid() == os.getegid()
        # Whoever controls the environment of a privileged process must not control the process (hard-parts.md, Submitting).
        self.environ = os.environment() if self.trusted else {}
        option = os.abspath(options.config) if options.config and self.trusted else None
        if self.environ.get("DMA_CONF"):
            self.environ["DMA_CONF"] = os.abspath(self.environ["DMA_CONF"])  # the owner runs in another directory
        self.config: Config = find(option, self.environ, self.uid, euid if self.trusted else -1)
        self.config_path = self._in_force(option) or self._in_force(self.environ.get("DMA_CONF"))
        check_trust(self.config, self.uid)
        for warning in self.config.warnings:
            self.warn(warning)

    def _in_force(self, named: str | None) -> str | None:
        """`named` if it is the file that applies; one that does not exist applies too, and means the defaults."""
        if not named or self.config.user_mode:
            return None
        source = self.config.source
        return named if source == named or (not source and not os.exists(named)) else None

    @property
    def system_mode(self) -> bool:
        """No configuration of the caller's own: mail goes to the machine's daemon."""
        return self.config.by_socket

    def may_name_sender(self) -> bool:
        """Whether -f is taken without a remark in the header: in a queue of one's own always."""
        return True

    def check_count(self, recipients: int) -> None:
        """Whether one message may ask for so many recipients: in a queue of one's own always. Raises DmaError."""

    def warn(self, text: str) -> None:
        """To the log, and to a person at a terminal."""
        self.log.warning(text)
        if os.isatty(2):
            line = "".join(c if c.isprintable() else "?" for c in text)
            say(f"{self.program}: warning: {line}\n")

    def leave_owner(self, *, run: bool) -> None:
        """Start an owner in the background. Never raises: the mail is safe, and the next run finds it."""
        from dma_runtime.system.starter import start_owner

        try:
            start_owner(self.config_path, self.config, run=run)
        except OSError as error:
            self.warn(f"can not start the delivering process: {error.strerror or error}; mail waits for the next queue run")
