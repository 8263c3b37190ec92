"""What can go wrong for a caller, each with its exit status.

Every error a person or program is meant to see is a `DmaError`; its text is one line that says what happened,
where, and what to do. A door prints `PROGRAM: TEXT` and exits with `status`. Any other exception is a bug.

Exit statuses are those of sysexits(3); compatibility.md, section 3, says which case has which.
"""

EX_OK = 0
EX_USAGE = 64
EX_DATAERR = 65
EX_NOINPUT = 66
EX_NOUSER = 67
EX_NOHOST = 68
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_OSERR = 71
EX_CANTCREAT = 73  # will not pass by itself: no permission, not a directory
EX_IOERR = 74
EX_TEMPFAIL = 75  # may pass by itself: disk full, no daemon
EX_NOPERM = 77
EX_CONFIG = 78


class DmaError(Exception):
    """A failure with a one-line `text` for people and an exit `status` (sysexits) for programs."""

    def __init__(self, text: str, status: int = EX_SOFTWARE) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def status_of(error: OSError) -> int:
    """Of a queue that cannot be read or written: 73 for what will not pass by itself, else 75."""
    return EX_CANTCREAT if isinstance(error, (PermissionError, NotADirectoryError)) else EX_TEMPFAIL


class UsageError(DmaError):
    """The command line cannot be understood."""

    def __init__(self, text: str) -> None:
        super().__init__(text, EX_USAGE)


class DataError(DmaError):
    """The message or an address in it cannot be sent as it is."""

    def __init__(self, text: str) -> None:
        super().__init__(text, EX_DATAERR)


class ConfigError(DmaError):
    """A configuration file cannot be used; `path` and `line` (1-based, 0 for the whole file) say where."""

    def __init__(self, path: str, line: int, text: str) -> None:
        super().__init__(f"{path}:{line}: {text}" if line else f"{path}: {text}", EX_CONFIG)
        self.path = path
        self.line = line
        self.reason = text


class CannotSpool(DmaError):
    """The message was not accepted. `status` is 73 when that will not pass by itself, 75 when it may."""


class BrokenMessage(Exception):
    """A spool file or its attempt log is damaged: the message is shown as failed, never sent, never guessed at."""
