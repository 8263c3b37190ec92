"""Whoever talks to the daemon, as the submission code sees a caller: identity from the kernel, the rest from the request.

The three functions run in worker threads of `delivery.reception` and do for a peer what `sendmail` does for its caller.
"""

from __future__ import annotations

import os

from dma_runtime.cmd import options as cli
from dma_runtime.cmd.caller import Caller
from dma_runtime.cmd.submit import Submission
from dma_runtime.cmd.verify import verification
from dma_runtime.errors import EX_UNAVAILABLE, DmaError
from dma_runtime.policy.limits import most_recipients

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.config import Config
    from dma_runtime.envelope import Envelope
    from dma_runtime.request import Request
    from dma_runtime.system.maillog import MailLog


class Peer(Caller):
    """`notes`: warnings for somebody at a terminal."""

    def __init__(self, request: Request, uid: int, config: Config, log: MailLog) -> None:
        self.program = "sendmail"
        self.options = cli.Options()
        self.options.operands = request.recipients
        self.options.sender = request.sender
        self.options.full_name = request.name
        self.options.extract = request.extract
        self.options.queue_only = request.queue_only
        self.options.ignore_dots = True  # what ended the message is gone already
        self.options.dsn_notify = request.dsn_notify
        self.options.dsn_return = request.dsn_return
        self.options.dsn_envelope = request.dsn_envelope
        self.options.dsn_recipients = request.dsn_recipients
        self.options.requiretls = request.requiretls
        self.uid = uid
        self.trusted = True
        self.environ = request.environ
        self.config = config
        self.config_path = None
        self.log = log
        self.notes: list[str] = []
        self._terminal = request.terminal

    def warn(self, text: str) -> None:
        self.log.warning(text)
        if self._terminal:
            self.notes.append(f"warning: {text}")

    def leave_owner(self, *, run: bool) -> None:
        """The owner is this process."""

    def check_count(self, recipients: int) -> None:
        most = most_recipients(self.uid)
        if recipients > most:
            text = f"more than {most} recipients for one message; send it in parts, or to a list in the aliases"
            raise DmaError(text, EX_UNAVAILABLE)

    def may_name_sender(self) -> bool:
        """Root, the mail account, and whom TRUSTED names, as sendmail's trusted users."""
        if self.uid in (0, os.geteuid()):
            return True
        import pwd

        for name in self.config.TRUSTED:
            try:
                if pwd.getpwnam(name).pw_uid == self.uid:
                    return True
            except KeyError:
                continue
        return False


def accept(
    request: Request, uid: int, config: Config, read: Callable[[], bytes], *, log: MailLog
) -> tuple[list[Envelope], list[str]]:
    """Put the message that `read` gives into the spool; (its envelopes, lines for the peer). Raises DmaError."""

    class Message:
        def read(self) -> bytes:
            return read()

    peer = Peer(request, uid, config.sound(), log)
    return Submission(peer, Message()).accept(), peer.notes


def verify(request: Request, uid: int, config: Config, *, log: MailLog) -> tuple[bytes, int]:
    """`-bv`: (output, exit status). Raises DmaError."""
    return verification(Peer(request, uid, config.sound(), log))
