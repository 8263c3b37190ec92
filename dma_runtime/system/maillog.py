"""The log: one function per fact. Only this file knows how a line looks.

Rules:
- Lines go to syslog's mail facility as C dma wrote them (`dma[ID]: …`; compatibility.md, section 7), with what makes a
  message traceable at the provider added: Message-ID, relay, full reply, delay.
- A line is one non-blocking datagram to /dev/log. A full or absent log never delays anything and never changes an exit
  status. With `stderr` (foreground, or no syslog at all) the line goes there too.
- Text from outside is shown by `shown()`: one line, 512 bytes, controls escaped.
"""

from __future__ import annotations

import time

from dma_runtime import posixos as os
from dma_runtime.outcome import DEFERRED, DELIVERED, MESSAGE, RECIPIENT, Outcome
from dma_runtime.shown import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from dma_runtime.envelope import Envelope

DEVICE = "/dev/log"
FACILITY_MAIL = 2 << 3
CRIT, ERR, WARNING, NOTICE, INFO, DEBUG = 2, 3, 4, 5, 6, 7


class MailLog:
    """`tag` is syslog's ident (-L); `stderr` repeats each line on standard error."""

    def __init__(self, tag: str = "dma", *, stderr: bool = False, device: str = DEVICE) -> None:
        self.tag = shown(tag, 32) or "dma"
        self.stderr = stderr
        self.device = device
        self._socket: _socket.socket | None = None

    # ------------------------------------------------------------ facts

    def queued(self, envelope: Envelope) -> None:
        """A message was accepted and is safe."""
        text = f"new mail from user={envelope.login} uid={envelope.uid} envelope_from=<{envelope.sender}>"
        self.write(INFO, f"{text} message-id={envelope.message_id} size={envelope.size}", envelope.id)
        for recipient in envelope.recipients:
            self.write(INFO, f"mail to=<{recipient.address}> queued as {envelope.id}", envelope.id)

    def outcome(self, envelope: Envelope, address: str, outcome: Outcome, delay: float, wait: float | None) -> None:
        """What became of one recipient that was tried; `wait` is the time to the next attempt, in seconds."""
        relay, text = outcome.relay, shown(outcome.text)
        about = f"message-id={envelope.message_id}, delay={delay:.1f}s"
        if outcome.kind == DELIVERED:
            self.write(INFO, f"<{address}> delivery successful: {relay or 'local'}: {text}; {about}", envelope.id)
            return
        away = relay or outcome.stage or outcome.scope not in (RECIPIENT, MESSAGE)
        if place := " ".join(filter(None, (relay, outcome.stage and f"failed after {outcome.stage}"))):
            text = f"{place}: {text}"
        hint = f"; {outcome.hint}" if outcome.hint else ""
        if outcome.kind == DEFERRED:
            again = f"next attempt in {wait:.0f}s, " if wait is not None else ""
            said = f"{'remote' if away else 'local'} delivery deferred: {text}{hint}; {again}{about}"
            self.write(INFO, f"<{address}> {said}", envelope.id)
        else:
            said = f"{'remote delivery to' if away else 'local delivery failed:'} {text}{hint}; {about}"
            self.write(ERR, f"<{address}> {said}", envelope.id)

    def bounced(self, envelope: Envelope, report: str) -> None:
        self.write(ERR, f"delivery failed, bouncing as {report}", envelope.id)

    def undeliverable(self, envelope: Envelope, why: str) -> None:
        """It can be neither delivered nor returned: it stays in the queue as failed."""
        self.write(ERR, f"delivery failed and {why}; the message is kept as failed", envelope.id)

    def relay_down(self, relay: str, outcome: Outcome, waiting: int, wait: float) -> None:
        """One line for all messages behind a relay that takes none."""
        hint = f"; {outcome.hint}" if outcome.hint else ""
        self.write(
            WARNING,
            f"relay {relay} takes no mail: {_staged(outcome)}{hint}; "
            f"{waiting} message{'s' if waiting != 1 else ''} waiting, next attempt in {wait:.0f}s",
        )

    def hop_down(self, relay: str, outcome: Outcome, wait: float) -> None:
        """One host of several takes no mail."""
        hint = f"; {outcome.hint}" if outcome.hint else ""
        text = f"relay {relay} takes no mail: {_staged(outcome)}{hint}"
        self.write(WARNING, f"{text}; other hosts are preferred for {wait:.0f}s")

    def paced(self, relay: str, outcome: Outcome, waiting: int, wait: float) -> None:
        """One line for all messages that wait for their turn."""
        text = f"relay {relay}: {outcome.text}; {waiting} message{'s' if waiting != 1 else ''} waiting"
        self.write(INFO, f"{text}, the next goes in {wait:.0f}s")

    def relay_up(self, relay: str, waiting: int) -> None:
        self.write(NOTICE, f"relay {relay} takes mail again; {waiting} message{'s' if waiting != 1 else ''} waiting")

    def operator(self, text: str) -> None:
        """Somebody has to do something."""
        self.write(CRIT, text)

    def warning(self, text: str) -> None:
        self.write(WARNING, text)

    def info(self, text: str, id: str = "") -> None:
        self.write(INFO, text, id)

    # ------------------------------------------------------------ the hand

    def write(self, priority: int, text: str, id: str = "") -> None:
        """Send one line; never raises, never waits."""
        ident = f"{self.tag}[{id}]" if id else self.tag
        line = shown(text, 2048)
        if self.stderr:
            _to_stderr(f"{ident}: {line}\n")
        stamp = time.strftime("%b %e %H:%M:%S")
        data = f"<{FACILITY_MAIL | priority}>{stamp} {ident}: {line}".encode("utf-8", "backslashreplace")
        import _socket

        try:
            if self._socket is None:
                self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            self._socket.sendto(data, self.device)
        except OSError:
            return  # no log, or a full one: mail is what counts


def _staged(outcome: Outcome) -> str:
    """What happened, after where in the dialogue; what failed on this machine has no stage."""
    stage = f"{outcome.stage}: " if outcome.stage else ""
    return stage + shown(outcome.text)


def _to_stderr(line: str) -> None:
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass
