"""Standard input, output and error as a tool for people may find them: closed, full, or of a charset without our letters.

`prepare` comes before the first word is written: what is closed becomes /dev/null, so that no file of ours takes its number,
and what the charset does not have is escaped. `settle` comes after the last one: what is still in the buffer goes out where
the failure can be told; whoever stopped reading has seen enough, and that is no failure.

`carry_on` is for programs that do more than print: from then on a word that cannot be written there ends nothing. What
standard output lost is told by `settle`.
"""

from __future__ import annotations

import io
import sys

from dma_runtime import posixos as os
from dma_runtime.errors import EX_IOERR, DmaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def prepare() -> None:
    """Make the three streams usable. Raises nothing."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # it stays open as long as we run
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Patient(io.FileIO):
    """A descriptor that takes everything; what became of it is in `problem`."""

    problem: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.problem = error
            return memoryview(data).nbytes


def carry_on(*names: str) -> None:
    """The streams of these names take everything from here on. What somebody put in their place stays."""
    for name in names:
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            raw = _Patient(stream.fileno(), "w", closefd=False)
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True))


def settle() -> None:
    """Write out what standard output still holds. Raises DmaError (74) when it cannot be written; it is /dev/null then."""
    try:
        sys.stdout.flush()
        raw = getattr(sys.stdout.buffer, "raw", None)
        if isinstance(raw, _Patient) and raw.problem is not None:
            raise raw.problem
    except BrokenPipeError:
        silence()
    except OSError as error:
        silence()
        raise DmaError(f"standard output: {error.strerror}", EX_IOERR) from None


def silence() -> None:
    """Standard output goes to /dev/null from here on: nobody reads it."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
