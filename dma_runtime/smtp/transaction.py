"""What next for this message, and what was each recipient told?

One transaction carries one message to some recipients: MAIL, RCPTs, then DATA, body, final dot, or BDAT parts (RFC
3030). `next` gives the next command whether or not earlier ones are answered; the engine's `may_send` decides if it
may go now. So the same code speaks to a serial and to a pipelining server.

Rules (hard-parts.md, Speaking SMTP ahead of the replies):
- `reset`: a group behind an unanswered end of message starts with RSET (RFC 2920 3.1); so does the group after a
  transaction that ended half-way.
- MAIL refused, yet DATA answered 354: `fatal`, the connection is closed and nothing sent.
- All RCPT refused, yet 354: a lone dot, whose 250 counts for nobody (RFC 2920 3.1).
- BDAT ahead of the replies to MAIL and RCPT only when `ahead`; else it waits until they are all there and one was
  accepted.
- BDAT answered as an unknown command is no verdict on the message: `misled`, and `fatal`.
- A reply of a class its command does not know (354 to MAIL, 250 to DATA) is `fatal`: who is out of step cannot be
  trusted with a body.

`answers[i]` is (stage, Reply) of recipient i when it is settled, else None. Pure: no clock, no socket.
"""

from __future__ import annotations

from dma_runtime.smtp import command
from dma_runtime.smtp.command import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.smtp.reply import Reply

    Settled = tuple[str, Reply]

# What is to be done about the body.
NOT_YET = 0
BODY = 1  # send it: by DATA with dots, or in BDAT parts
LONE_DOT = 2  # answer 354 with a dot and nothing else
NO_BODY = 3  # nothing (more) of it goes out

_BODIES = (command.BDAT, command.LAST)
_UNKNOWN = (500, 501, 502, 503, 504)  # RFC 5321 4.2.4: of commands, not of messages


class Transaction:
    """`mail` is the MAIL command, `rcpts` the RCPT commands, whole lines."""

    __slots__ = (
        "_accepted", "_data_sent", "_mail", "_mail_refusal", "_mail_sent", "_outstanding", "_part_refusal", "_rcpt_answered",
        "_rcpt_sent", "_rcpts", "_reset", "ahead", "answered", "answers", "body", "chunking", "closing", "committed",
        "fatal", "final", "misled",
    )  # fmt: skip

    def __init__(self, mail: bytes, rcpts: list[bytes], *, chunking: bool = False, reset: bool = False, ahead: bool = False):
        self._mail = mail
        self._rcpts = rcpts
        self._reset = reset
        self.chunking = chunking
        self.ahead = ahead and chunking
        self.answers: list[Settled | None] = [None] * len(rcpts)
        self._mail_sent = False
        self._mail_refusal: Reply | None = None
        self._rcpt_sent = 0
        self._rcpt_answered = 0
        self._accepted: list[int] = []
        self._part_refusal: Reply | None = None  # of a BDAT that was not the last
        self._data_sent = False
        self._outstanding = 0
        self.body = NOT_YET
        self.answered = False  # a reply to one of its own commands came (RSET belongs to what was before)
        self.closing: Reply | None = None  # 421: no further reply will come (RFC 5321 3.8)
        self.committed = False  # the end of the message is on the wire: from here on it may be delivered
        self.final: Reply | None = None  # the reply to the end of the message
        self.misled = False  # the relay offered CHUNKING and does not know BDAT
        self.fatal = ""  # why the connection cannot be used any more

    # ------------------------------------------------------------ what next

    def next(self) -> tuple[Verb, bytes] | None:
        """The next command and its line, counted as sent.

        None: wait for replies, send the body (`body`), or nothing is left.
        """
        step = self._step()
        if step is not None:
            self._outstanding += 1
        return step

    def _step(self) -> tuple[Verb, bytes] | None:
        if self._reset:
            self._reset = False
            return command.RSET, command.RSET_LINE
        if not self._mail_sent:
            self._mail_sent = True
            return command.MAIL, self._mail
        if self._mail_refusal is not None or self.fatal:
            return None
        at = self._rcpt_sent
        if at < len(self._rcpts):
            self._rcpt_sent = at + 1
            return command.RCPT, self._rcpts[at]
        if self._data_sent or self.body:
            return None
        if self._rcpt_answered == len(self._rcpts) and not self._accepted:
            return None  # nobody to send it to
        if not self.chunking:
            self._data_sent = True
            return command.DATA, command.DATA_LINE
        if self.ahead or self.accepted_by_some:
            self.body = BODY
        return None

    @property
    def finals(self) -> int:
        """How many replies the end of the message brings."""
        return 1

    def part_sent(self, last: bool) -> None:
        """A BDAT part, or with `last` the end of the message (dot or BDAT LAST), was put on the wire."""
        self._outstanding += self.finals if last else 1
        if last:
            self.body = NO_BODY
            self._data_sent = True
            self.committed = True

    @property
    def sent_all(self) -> bool:
        """Nothing more will be put on the wire for this transaction, as far as is known now."""
        if self.body == BODY or self.body == LONE_DOT:
            return False
        if self.committed or self.body == NO_BODY or self.fatal or self._mail_refusal is not None:
            return True
        return self._rcpt_answered == len(self._rcpts) and not self._accepted and not self._data_sent

    @property
    def over(self) -> bool:
        """All sent, all answered."""
        return not self._outstanding and self.sent_all

    @property
    def clean(self) -> bool:
        """The server is where a new MAIL needs no RSET: it took the whole message, or nothing was begun.

        Not a matter of taste: Exim counts every RSET that follows no message, and drops the connection at the eleventh.
        """
        return self._mail_refusal is not None if self.final is None else self.final.positive

    @property
    def delivered(self) -> bool:
        return self.final is not None and self.final.positive and bool(self._accepted)

    @property
    def mail_refused(self) -> bool:
        return self._mail_refusal is not None

    @property
    def accepted_by_some(self) -> bool:
        """Every RCPT is answered and one was accepted: the body is no speculation any more."""
        return self._rcpt_answered == len(self._rcpts) and bool(self._accepted)

    @property
    def refused_whole(self) -> bool:
        """MAIL, or every RCPT, was refused: speculation on this connection ends (hard-parts.md)."""
        return self._mail_refusal is not None or (self._rcpt_answered == len(self._rcpts) and not self._accepted)

    def withdraw(self) -> None:
        """The body cannot be read any more. Only between BDATs: what 354 asked for ends with the connection."""
        assert self.chunking
        self._withdraw()

    def refused_early(self, reply: Reply) -> None:
        """The server spoke up while the body was on its way and nothing was asked: it does not want it."""
        self.body = NO_BODY
        self._settle(command.S_DATA, reply)

    def too_many(self) -> list[int]:
        """Recipients refused only for their number (RFC 5321 4.5.3.1.10)."""
        return [at for at, answer in enumerate(self.answers) if answer is not None and _is_too_many(*answer)]

    # ------------------------------------------------------------ what was said

    def reply(self, verb: Verb, reply: Reply) -> None:
        """The reply to a verb of this transaction. `body` and `fatal` say what follows from it."""
        self._outstanding -= 1
        kind = reply.code // 100
        if reply.code == 421:
            self.closing = reply
        if verb is command.RSET:
            if kind != 2:
                self.fatal = f"the relay refused RSET: {reply.text}"
            return
        self.answered = True
        if verb in _BODIES and reply.code in _UNKNOWN and self._accepted and self._part_refusal is None:
            # No verdict on the message: it goes again, without BDAT.
            self.misled, self.committed = True, False
            self.fatal = f"the relay offers CHUNKING and does not know BDAT: {reply.text}"
        elif verb is command.RCPT:
            self._on_rcpt(reply, kind)
        elif verb is command.DOT or verb is command.LAST:
            self._on_final(reply, kind)
        elif verb is command.DATA:
            self._on_data(reply, kind)
        elif verb is command.MAIL:
            if kind == 3:
                self._out_of_step(verb, reply)
            elif kind != 2:
                self._mail_refusal = reply
                self._settle(command.S_MAIL, reply)
                self._withdraw()
        elif verb is command.BDAT:
            if kind == 3:
                self._out_of_step(verb, reply)
            elif kind != 2 and self._part_refusal is None:
                self._part_refusal = reply
                if not self.committed:
                    self.body = NO_BODY  # the rest would be refused as well (RFC 3030 2)
                    self._settle(command.S_DATA, reply)

    def _on_rcpt(self, reply: Reply, kind: int) -> None:
        at = self._rcpt_answered
        self._rcpt_answered = at + 1
        if kind == 3:
            self._out_of_step(command.RCPT, reply)
        elif kind != 2:
            if self.answers[at] is None:  # a refused MAIL settled them all
                self.answers[at] = (command.S_RCPT, reply)
        elif self._mail_refusal is None:
            self._accepted.append(at)
        if self._rcpt_answered == len(self._rcpts) and not self._accepted:
            self._withdraw()

    def _on_data(self, reply: Reply, kind: int) -> None:
        if kind == 3:
            if self._mail_refusal is not None:
                self.fatal = "the relay refused MAIL and then asked for the message"
            elif not self._accepted:
                self.body = LONE_DOT
            else:
                self.body = BODY
        elif kind == 2:
            self._out_of_step(command.DATA, reply)
        else:
            self.body = NO_BODY
            self._settle(command.S_DATA, reply)

    def _on_final(self, reply: Reply, kind: int) -> None:
        if kind == 3:
            self._out_of_step(command.DOT, reply)
            return
        self.final = reply
        if self._part_refusal is not None:
            self._settle(command.S_DATA, self._part_refusal)  # the first refusal is the reason
        else:
            # From here on the mail is the relay's.
            self._settle(command.S_FINAL, reply)

    def _withdraw(self) -> None:
        """Nobody is left to send it to. By BDAT the rest can stay away; what 354 asked for cannot (see `_on_data`)."""
        if self.chunking and not self.committed:
            self.body = NO_BODY

    def _settle(self, stage: str, reply: Reply) -> None:
        """The same answer for all who have none yet."""
        settled = (stage, reply)
        for at, answer in enumerate(self.answers):
            if answer is None:
                self.answers[at] = settled

    def _out_of_step(self, verb: Verb, reply: Reply) -> None:
        self.fatal = f"out of step: {verb.name} was answered {reply.text}"


def _is_too_many(stage: str, reply: Reply) -> bool:
    if stage != command.S_RCPT or reply.code not in (452, 552):  # 552 from servers older than RFC 5321
        return False
    return reply.status.endswith(".5.3") or (not reply.status and "too many" in reply.text.lower())
