"""One message to some recipients in LMTP: what differs from SMTP (RFC 2033).

- The end of the message brings one reply for each recipient that RCPT accepted, in their order (4.2); each is that
  recipient's own. There is none when nobody was accepted, so a server that asks for the message then (it must say 503)
  is out of step.
- The body goes by DATA. CHUNKING would be the same with a reply a recipient behind BDAT LAST (RFC 2033 4.3); between two
  programs of one machine it saves nothing.
"""

from __future__ import annotations

from dma_runtime.smtp import command
from dma_runtime.smtp.transaction import Transaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.smtp.reply import Reply


class LmtpTransaction(Transaction):
    __slots__ = ("_told",)

    def __init__(self, mail: bytes, rcpts: list[bytes], *, chunking: bool = False, reset: bool = False, ahead: bool = False):
        assert not chunking, "LMTP is spoken with DATA"
        super().__init__(mail, rcpts, reset=reset, ahead=ahead)
        self._told = 0  # recipients who have their final reply

    @property
    def finals(self) -> int:
        return len(self._accepted)

    def _on_data(self, reply: Reply, kind: int) -> None:
        if kind == 3 and not self._accepted:
            self._out_of_step(command.DATA, reply)
        else:
            super()._on_data(reply, kind)

    def _on_final(self, reply: Reply, kind: int) -> None:
        if kind == 3:
            self._out_of_step(command.DOT, reply)
            return
        at = self._accepted[self._told]
        self._told += 1
        if self.final is None or reply.positive:
            self.final = reply
        # From here on this recipient's mail is the server's.
        self.answers[at] = (command.S_FINAL, reply)
