"""Run one program for what it prints: a fixed environment, a deadline, a limit on its output, and nothing left behind.

The program gets /dev/null as input, / as directory, umask 077 and a session of its own, so that it has no terminal to
ask on and everything it started can be ended with it. Its output is read through pipes made here, not through those
of asyncio, because a background process that keeps a pipe open must not delay the answer of a program that has ended.
At the deadline, when too much is printed, on cancellation and after a regular end, its whole process group is killed;
what made a session of its own (gpg-agent does) is a service and stays.

Limits: the deadline is for all of start, run and reading.
"""

from __future__ import annotations

import asyncio
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AFTERWARDS = 0.2  # seconds for what an ended program has printed to arrive, when something else holds the pipe open


class TooSlow(Exception):
    """The deadline passed; the program was killed."""


class TooMuch(Exception):
    """The program printed more than allowed; it was killed."""


class Printed:
    """What a program said: exit `status` (negative: the signal that ended it), and the bytes of both outputs."""

    __slots__ = ("err", "out", "status")

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status = status
        self.out = out
        self.err = err


async def run(words: Sequence[str], environment: Mapping[str, str], *, seconds: float, limit: int) -> Printed:
    """Start `words` and wait for its end. At most `limit` bytes of output; of errors the last are kept.

    Raises OSError when it cannot be started, TooSlow, TooMuch.
    """
    out, err = _Pipe(limit, strict=True), _Pipe(limit, strict=False)
    try:
        async with asyncio.timeout(seconds):
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out.write_end,
                stderr=err.write_end,
                env=dict(environment),
                cwd="/",
                start_new_session=True,
                umask=0o077,
            )
            try:
                out.listen()
                err.listen()
                ended = asyncio.ensure_future(process.wait())
                try:
                    await asyncio.wait({ended, out.full}, return_when=asyncio.FIRST_COMPLETED)
                    if out.full.done():
                        raise TooMuch
                    await asyncio.wait([out.closed, err.closed], timeout=AFTERWARDS)
                    if out.full.done():
                        raise TooMuch
                    return Printed(ended.result(), bytes(out.data), bytes(err.data))
                finally:
                    ended.cancel()
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
    except TimeoutError:
        raise TooSlow from None
    finally:
        out.close()
        err.close()


class _Pipe:
    """One output. `closed` is done at its end, `full` when a strict one has more than `limit` bytes."""

    def __init__(self, limit: int, *, strict: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.write_end, True)
        self.limit = limit
        self.strict = strict
        self.data = bytearray()
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self.full: asyncio.Future[int] = self.loop.create_future()

    def listen(self) -> None:
        """The program has its copy of the write end; ours goes."""
        os.close(self.write_end)
        self.write_end = -1
        self.loop.add_reader(self.read_end, self._readable)

    def _readable(self) -> None:
        try:
            chunk = os.read(self.read_end, 65536)
        except BlockingIOError:
            return
        if not chunk:
            self.loop.remove_reader(self.read_end)
            self.closed.set_result(None)
            return
        self.data += chunk
        if len(self.data) > self.limit:
            del self.data[: -self.limit]  # of complaints the last words are kept
            if self.strict and not self.full.done():
                self.full.set_result(self.limit)

    def close(self) -> None:
        self.loop.remove_reader(self.read_end)
        os.close(self.read_end)
        if self.write_end >= 0:
            os.close(self.write_end)
