"""What setup tells people when it cannot go on, with the exit status of interface.md, section 5.

A `SetupError` is one sentence, perhaps with `details`: further lines shown below it, already laid out.
"""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
WOULD_CHANGE = 3
INTERRUPTED = 130


class SetupError(Exception):
    """Something failed. `text` is one line without the program's name; `status` the exit status."""

    def __init__(self, text: str, status: int = FAILED, details: list[str] | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.details = details or []


class UsageProblem(SetupError):
    """The command line or the answers cannot be used; nothing was touched."""

    def __init__(self, text: str, details: list[str] | None = None) -> None:
        super().__init__(text, USAGE, details)


class FileProblem(UsageProblem):
    """A recipe or an answers file is wrong at `path`:`line` (1-based; 0 for the whole file)."""

    def __init__(self, path: str, line: int, text: str) -> None:
        super().__init__(f"{path}:{line}: {text}" if line else f"{path}: {text}")
        self.path = path
        self.line = line


class Stopped(SetupError):
    """Ctrl-C, a closed terminal or a signal before anything was written."""

    def __init__(self) -> None:
        super().__init__("stopped; nothing was changed", INTERRUPTED)
