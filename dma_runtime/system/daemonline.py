"""A conversation with the machine's daemon over its socket (`frames`), from the side of whoever asks.

Rules:
- Nothing counts as accepted before the daemon says so, not even by the status 0; and whatever goes wrong behind that, it was
  accepted. When the line is lost before the commit frame was sent, nothing was
  accepted and the conversation is begun again, at most `TRIES` times; behind it, "may have been queued" and exit 75.
- A daemon that refuses early (too many at once, too large) has answered although we could not send everything: its answer is
  read before any complaint is made.
- `NobodyListens`: the socket is not there, or refuses. Root may then go on without the daemon (`cmd.handover`).

Limits: 60 s to be let in, 120 s for each piece to be taken, 300 s for the answer.
On the submit path: built-in modules only.
"""

from __future__ import annotations

import time

from dma_runtime import frames
from dma_runtime.errors import EX_TEMPFAIL, DmaError
from dma_runtime.shown import shown
from dma_runtime.system import localsocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterable

LET_IN, TAKEN, ANSWER = 60.0, 120.0, 300.0  # seconds
TRIES, PAUSE = 4, 0.5
_SMALL = 1 << 17  # bytes that are sent in one piece


class NobodyListens(DmaError):
    """There is no daemon, and no systemd that would start one."""


class Answer:
    """`status` and `text` as the daemon gives them; `id` of the message when one was accepted, else ""."""

    __slots__ = ("id", "status", "text")

    def __init__(self, status: int, text: str, accepted: str) -> None:
        self.status = status
        self.text = text
        self.id = accepted


class _Lost(Exception):
    """The connection ended before anything was accepted."""


def converse(
    path: str,
    header: bytes,
    message: Callable[[], Iterable[bytes]] | None = None,
    *,
    output: Callable[[bytes], None],
    line: Callable[[str], None],
    patient: bool = False,
) -> Answer:
    """Send the header frame, then the pieces of `message`, called anew for each try; give the answer.

    `output` gets what goes to standard output, `line` each line for standard error. `patient`: wait for the answer without
    limit. Raises DmaError (75), NobodyListens; BrokenPipeError when `output` does.
    """
    for left in range(TRIES, 0, -1):
        connection = connect(path)
        conversation = _Conversation(connection, output, line)
        try:
            return conversation.run(header, message, patient)
        except _Lost:
            if left == 1:
                break
        except (OSError, frames.BadFrame) as error:
            if conversation.accepted:
                return Answer(0, "", conversation.accepted)
            if conversation.unread:
                raise
            trouble = " does not answer; try again later" if isinstance(error, TimeoutError) else f": {shown(str(error), 200)}"
            raise DmaError(f"the mail service at {path}{trouble}", EX_TEMPFAIL) from None
        finally:
            connection.close()
        time.sleep(PAUSE)
    raise DmaError(f"the mail service at {path} ended {TRIES} conversations without an answer; try again later", EX_TEMPFAIL)


def connect(path: str) -> _socket.socket:
    """A connected socket. Raises NobodyListens, DmaError (75)."""
    try:
        return localsocket.connect(path, let_in=LET_IN, timeout=TAKEN)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise NobodyListens(
            f"no mail service listens at {path}; start it, or have a configuration of your own (`dma-setup --user')",
            EX_TEMPFAIL,
        ) from None
    except BlockingIOError:
        raise DmaError(f"the mail service at {path} is busy; try again later", EX_TEMPFAIL) from None
    except OSError as error:
        raise DmaError(f"can not use the mail service at {path}: {error.strerror or error}", EX_TEMPFAIL) from None


class _Conversation:
    def __init__(self, connection: _socket.socket, output: Callable[[bytes], None], line: Callable[[str], None]) -> None:
        self._connection = connection
        self._output = output
        self._line = line
        self._committed = False
        self.accepted = ""  # the id
        self.unread = False  # nobody reads our output any more

    def run(self, header: bytes, message: Callable[[], Iterable[bytes]] | None, patient: bool) -> Answer:
        try:
            self._send(header, message)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it went
        self._connection.settimeout(None if patient else ANSWER)
        parser = frames.Parser()
        while True:
            try:
                data = self._connection.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return self._ended()
            for kind, payload in parser.feed(data):
                if kind == frames.STATUS:
                    status, text = frames.read_status(payload)
                    if message is not None and not status and not self.accepted:
                        raise frames.BadFrame("it ended without having accepted the message")
                    return Answer(0 if self.accepted else status, text, self.accepted)
                self._take(kind, payload)

    def _send(self, header: bytes, message: Callable[[], Iterable[bytes]] | None) -> None:
        if message is None:
            self._committed = True
            self._connection.sendall(header)
            return
        waiting, length, size = [header], len(header), 0
        for piece in message():
            waiting.append(frames.frame(frames.DATA, piece))
            length += len(piece)
            size += len(piece)
            if length > _SMALL:
                self._connection.sendall(b"".join(waiting))
                waiting, length = [], 0
        waiting.append(frames.frame(frames.COMMIT, b"%d" % size))
        self._committed = True  # part of it may arrive
        self._connection.sendall(b"".join(waiting))

    def _take(self, kind: bytes, payload: bytes) -> None:
        if kind == frames.ACCEPTED:
            self.accepted = payload.decode("ascii", "replace") or "?"
        elif kind == frames.OUTPUT:
            try:
                self._output(payload)
            except BrokenPipeError:
                self.unread = True
                raise
        elif kind == frames.LINE:
            self._line(shown(payload.decode("utf-8", "replace"), 1000))

    def _ended(self) -> Answer:
        """The line was lost before the end."""
        if self.accepted:
            return Answer(0, "", self.accepted)
        if not self._committed:
            raise _Lost
        text = "the mail service ended the conversation without an answer; the message may have been queued"
        raise DmaError(text, EX_TEMPFAIL)
