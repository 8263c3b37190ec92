"""`-bs`: SMTP on standard input and output, for callers that speak it to a program instead of a port.

What MAIL, RCPT and DATA say goes the way of a message on standard input: the same sender rules, aliases, header and limits,
into the spool, or in system mode to the machine's daemon. 250 behind the message means that it is synced to disk. A refused
recipient is said at RCPT, where the queue is the caller's own; the daemon says it behind the message.

A configuration that cannot be used is 421 instead of the greeting, one line on standard error, and its exit status. Else the
status is 0, when the client says QUIT or closes; what it had not finished is not accepted. Limits: PATIENCE seconds without
a byte from the client (421) or with none of ours taken by it, and those of `smtp.server`.
"""

from __future__ import annotations

import select

from dma_runtime import posixos as os
from dma_runtime.cmd.caller import Caller, put
from dma_runtime.cmd.options import Options
from dma_runtime.cmd.submit import Submission, accepted, argument, resolver
from dma_runtime.config import NO_LIMIT
from dma_runtime.errors import (
    EX_DATAERR,
    EX_NOHOST,
    EX_NOINPUT,
    EX_NOUSER,
    EX_OK,
    EX_UNAVAILABLE,
    EX_USAGE,
    CannotSpool,
    DmaError,
)
from dma_runtime.message.intake import Intake
from dma_runtime.policy.sender import envelope_sender
from dma_runtime.smtp.arguments import Mail, Rcpt, Refused
from dma_runtime.smtp.server import RECIPIENTS, Server
from dma_runtime.system import identity
from dma_runtime.system.held import Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.policy.recipients import Resolver

CHUNK = 1 << 16
PIECE = 4096  # bytes that a pipe takes at once when it takes any (PIPE_BUF)
PATIENCE = 3600.0  # seconds; RFC 5321 4.5.3.2.7 asks for at least 300

# What an exit status of sysexits means to an SMTP client; any other is "try again" (451).
_CODES = {
    EX_USAGE: (554, "5.5.4"), EX_DATAERR: (554, "5.6.0"), EX_NOINPUT: (554, "5.1.3"), EX_NOUSER: (550, "5.1.1"),
    EX_NOHOST: (550, "5.1.2"), EX_UNAVAILABLE: (552, "5.3.4"),
}  # fmt: skip


def serve(caller: Caller) -> int:
    """Hold the conversation. Returns 0; raises DmaError when the configuration cannot be used, BrokenPipeError when the
    client has gone without waiting for its replies."""
    name = identity.mail_name(caller.config)
    try:
        caller.config.sound()
    except DmaError:
        _say(f"421 4.3.5 {name} mail is not set up properly here; try again later\r\n".encode())
        raise
    server = Server(name, Desk(caller), recipients=_most_recipients(caller))
    try:
        _say(server.greeting())
        while not server.closed:
            if not select.select([0], [], [], PATIENCE)[0]:
                _say(f"421 4.4.2 {name} nothing heard for {PATIENCE:.0f} s\r\n".encode())
                break
            try:
                data = os.read(0, CHUNK)
            except BlockingIOError:
                continue  # somebody else who shares it was faster
            if not data:
                break
            _say(server.feed(data))
    finally:
        server.end()
    return EX_OK


def _say(data: bytes) -> None:
    """Raises BrokenPipeError when nobody reads it, DmaError (74) else."""
    for at in range(0, len(data), PIECE):
        if not select.select([], [1], [], PATIENCE)[1]:
            raise BrokenPipeError
        put(data[at : at + PIECE])


def _most_recipients(caller: Caller) -> int:
    """For one message; a client that is told 452 sends it again to those that are left (RFC 5321 4.5.3.1.10)."""
    if not caller.system_mode:
        return RECIPIENTS
    from dma_runtime.policy.limits import most_recipients

    return min(RECIPIENTS, most_recipients(caller.uid))


class Desk:
    """The sending side of this machine, as the conversation needs it. See `smtp.server.Desk`."""

    dsn = True

    def __init__(self, caller: Caller) -> None:
        self.largest = caller.config.MAXSIZE if caller.config.MAXSIZE < NO_LIMIT else 0
        self._caller = caller
        self._asked = caller.options  # of the command line; each message has its own
        self._mailname = identity.mail_name(caller.config)
        self._login = identity.login_name(caller.uid, caller.environ)
        self._mail: Mail | None = None
        self._recipients: list[Rcpt] = []
        self._message: Held | None = None
        self._rules: Resolver | None = None

    def sender(self, mail: Mail) -> None:
        try:
            envelope_sender(mail.sender, "", self._login, self._mailname, self._caller.config.MASQUERADE)
        except DmaError as error:
            raise Refused(553, "5.1.7", error.text) from None
        self._mail = mail

    def recipient(self, rcpt: Rcpt) -> None:
        try:
            plain = argument(rcpt.address)
            found = [] if self._caller.system_mode else accepted(self._rules_of_this_message(), plain)
        except DmaError as error:
            raise _refused(error) from None
        if found and all(one.refused for one in found):
            raise Refused(550, "5.1.1", f"<{rcpt.address}>: {found[0].refused}")
        if len(plain) == 1:
            rcpt.address = plain[0]  # without quotes it does not need: what is asked for it (DSN) is found by this
        self._recipients.append(rcpt)

    def _rules_of_this_message(self) -> Resolver:
        """Read once: a message may have thousands of recipients."""
        if self._rules is None:
            self._rules = resolver(self._caller, self._mailname)
        return self._rules

    def take(self, data: bytes) -> None:
        if self._message is None:
            place = self._caller.environ.get("TMPDIR", "")
            self._message = Held(place if place.startswith("/") else "/tmp", memory=True)
        try:
            self._message.write(data)
        except OSError as error:
            raise Refused(452, "4.3.1", f"can not hold the message: {error.strerror or error}") from None

    def finish(self) -> str:
        caller = self._caller
        self.take(b"")
        assert self._message is not None
        caller.options = self._options()
        try:
            if caller.system_mode:
                return self._hand_over(self._message)
            submission = Submission(caller, self._message)
            envelopes = submission.accept()
            # From here on the mail is safe.
            submission.see_to(envelopes)
            return f"queued as {envelopes[0].id}"
        except DmaError as error:
            caller.log.warning(f"not accepted by -bs: {error.text}")
            raise _refused(error) from None
        except OSError as error:
            raise Refused(451, "4.3.0", error.strerror or str(error)) from None

    def _hand_over(self, message: Held) -> str:
        from dma_runtime.cmd import handover

        unix = Held("/tmp", memory=True)
        try:
            intake = Intake(message.read, ignore_dots=True)
            while data := intake.read():
                unix.write(data)
            handover.hand_over(self._caller, handover.request_for(self._caller), unix)
        finally:
            unix.close()
        return ""

    def _options(self) -> Options:
        """The command line that says the same as this conversation."""
        assert self._mail is not None
        options = Options()
        options.config, options.tag, options.full_name = self._asked.config, self._asked.tag, self._asked.full_name
        options.queue_only = self._asked.queue_only
        options.ignore_dots = True
        options.sender = self._mail.sender
        options.operands = [rcpt.address for rcpt in self._recipients]
        if any(rcpt.notify or rcpt.orcpt for rcpt in self._recipients):
            options.dsn_recipients = [f"{rcpt.notify};{rcpt.orcpt}" for rcpt in self._recipients]
        options.dsn_return, options.dsn_envelope = self._mail.ret, self._mail.envid
        options.requiretls = self._mail.requiretls
        return options

    def forget(self) -> None:
        self._mail = None
        self._recipients = []
        self._rules = None
        if self._message is not None:
            self._message.close()
            self._message = None


def _refused(error: DmaError) -> Refused:
    code, status = _CODES.get(error.status, (451, "4.3.0"))
    if isinstance(error, CannotSpool):
        code, status = 452, "4.3.1"  # also what will not pass by itself: the mail must not bounce for a wrong mode
    return Refused(code, status, error.text)
