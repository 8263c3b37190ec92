"""Local delivery in system mode: the message is given to the mailbox process, which may write that mailbox.

One connection to `mailbox.sock`, beside the submission socket, is one process and one append (`cmd.mailbox`). What it says is
the outcome. A socket that is not there, a process that ends without an answer: DEFERRED, and the operator is told.
The listener must be root's or ours: nobody else is given mail.

A `.forward` is asked for while somebody waits for his submission, so it has FORWARD_WAIT seconds only; after a home that did
not answer in that time (a network file system, or its owner's own) it is not asked for again for a minute.

A command or a file of the aliases or a `.forward` (PIPES) goes the same way, over `command.sock`, whose process has a network
and the homes; where there is none, as without systemd, the mailbox process does that too.

Blocks, and belongs into a worker thread. Raises what the spool raises for the message itself.
"""

from __future__ import annotations

import os
import time

from dma_runtime import frames, posting
from dma_runtime.delivery import errand
from dma_runtime.envelope import Recipient
from dma_runtime.outcome import DEFERRED, Outcome
from dma_runtime.posting import Posting
from dma_runtime.shown import shown
from dma_runtime.system import identity, localsocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from dma_runtime.config import Config
    from dma_runtime.envelope import Envelope
    from dma_runtime.system.spool import Spool
    from dma_runtime.system.stored import StoredMessage

NAME = "mailbox.sock"
COMMANDS = "command.sock"
LET_IN = 30.0  # seconds to be let in
WAIT = 120.0  # seconds for a piece to be taken, and for the answer; it may wait 30 s for the mailbox's lock
FORWARD_WAIT = 10.0  # seconds for a .forward
UNASKED = 60.0  # seconds
COMMAND_WAIT = WAIT + errand.SECONDS


def socket_path(config: Config, name: str = NAME) -> str:
    """Where the mailbox process is reached."""
    return f"{os.path.dirname(config.SOCKET)}/{name}"


def deliver(spool: Spool, id: str, recipient: Recipient, config: Config) -> Outcome:
    """Have message `id` put into the mailbox of the local `recipient`."""
    name = recipient.address.rpartition("@")[0] or recipient.address
    stored = spool.open(id)
    try:
        asked = posting_of(stored.envelope, recipient, identity.account(name) or name, config)
        return _outcome(socket_path(config), asked, stored, WAIT)
    finally:
        stored.close()


def run(spool: Spool, id: str, recipient: Recipient, user: str, config: Config) -> Outcome:
    """Have message `id` given to a command or file of the `.forward` of `user`, "" for the aliases."""
    path = socket_path(config, COMMANDS)
    stored = spool.open(id)
    try:
        asked = posting_of(stored.envelope, Recipient(recipient.original), user, config)
        asked.do, asked.errand = posting.RUN, recipient.address
        asked.part = part_of(stored.envelope, recipient)
        return _outcome(path if os.path.exists(path) else socket_path(config), asked, stored, COMMAND_WAIT)
    finally:
        stored.close()


def _outcome(path: str, asked: Posting, stored: StoredMessage, wait: float) -> Outcome:
    try:
        return posting.decode_outcome(_ask(path, asked, stored, wait))
    except frames.BadFrame as bad:
        text = f"the mailbox process does not speak our protocol: {bad}"
    except _Unreachable as problem:
        text = str(problem)
    unit = os.path.basename(path).removesuffix(".sock")
    if os.path.isdir("/run/systemd/system"):
        hint = f"see `systemctl status dma-{unit}.socket' and the log"
    else:
        hint = f"let a supervisor run `dma-mailbox --listen {path}' as root"
    return Outcome(DEFERRED, text, status="4.3.0", tell=True, hint=hint)


_silent: dict[str, float] = {}  # login -> until when its .forward is not asked for


def forward_of(login: str, config: Config, *, clock: Callable[[], float] = time.monotonic) -> tuple[str | None, str]:
    """(the text of the user's .forward or None, why it is not used or ""). Raises OSError when nobody can say."""
    if clock() < _silent.get(login, 0.0):
        raise OSError("it did not answer a moment ago")
    try:
        found = posting.decode_forward(_ask(socket_path(config), Posting(posting.FORWARD, login), None, FORWARD_WAIT))
    except _Silent as problem:
        _silent[login] = clock() + UNASKED
        raise OSError(str(problem)) from None
    except (frames.BadFrame, _Unreachable) as problem:
        raise OSError(str(problem)) from None
    _silent.pop(login, None)
    return found


def posting_of(envelope: Envelope, recipient: Recipient, login: str, config: Config) -> Posting:
    """What the mailbox of `login` is told of the message."""
    asked = Posting(posting.APPEND, login)
    asked.sender = envelope.sender
    name = recipient.address
    asked.address = name if "@" in name else f"{name}@{identity.mail_name(config)}"
    asked.id = envelope.id
    asked.accepted_at = envelope.accepted_at
    asked.part = part_of(envelope, recipient)
    return asked


def part_of(envelope: Envelope, recipient: Recipient) -> int:
    """The recipient's number."""
    return next((i for i, r in enumerate(envelope.recipients) if r is recipient or r == recipient), 0)


class _Unreachable(Exception):
    """No mailbox process, or none that answers."""


class _Silent(_Unreachable):
    """It is there, and gave no answer in time."""


def _connected(path: str, wait: float) -> _socket.socket:
    try:
        connection = localsocket.connect(path, let_in=min(LET_IN, wait), timeout=wait)
    except OSError as error:
        raise _Unreachable(f"no mailbox process at {path}: {error.strerror or error}") from None
    uid = localsocket.peer_uid(connection)
    if uid not in (0, os.geteuid()):
        connection.close()
        raise _Unreachable(f"uid {uid} listens at {path}, neither root nor we")
    return connection


def _ask(path: str, asked: Posting, stored: StoredMessage | None, wait: float) -> bytes:
    """The payload of the result; `wait` seconds for each step. Raises _Unreachable, BadFrame."""
    connection = _connected(path, wait)
    try:
        try:
            _send(connection, asked, stored)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it went
        parser = frames.Parser()
        while data := connection.recv(65536):
            for kind, payload in parser.feed(data):
                if kind == frames.RESULT:
                    return payload
    except ConnectionResetError:
        pass
    except TimeoutError:
        raise _Silent(f"the mailbox process gave no answer within {wait:.0f} s") from None
    except OSError as error:
        raise _Unreachable(f"the mailbox process does not answer: {shown(str(error), 100)}") from None
    finally:
        connection.close()
    raise _Unreachable("the mailbox process ended without an answer")


def _send(connection: _socket.socket, asked: Posting, stored: StoredMessage | None) -> None:
    connection.sendall(posting.encode(asked))
    if stored is None:
        return
    at = 0
    while chunk := stored.pread(frames.CHUNK, at):
        connection.sendall(frames.frame(frames.DATA, chunk))
        at += len(chunk)
    connection.sendall(frames.frame(frames.COMMIT, b"%d" % at))
