"""Which command does this reply answer, and may another be sent yet?

A FIFO of what was sent and not answered. Replies come in the order of commands (RFC 2920 3.1), so pairing needs no more
than that, and pipelining is not a feature: a serial server is the case where `may_send` is False more often.

Rules:
- Without PIPELINING: one command, one reply.
- With it: a verb that ends its group (EHLO, STARTTLS, AUTH, DATA, QUIT) is followed by nothing until it is answered;
  the end of a message is not such a verb, so the next MAIL rides behind the final dot.
- A reply nobody waits for is a fault of the server (`Unexpected`), a notice that it closes (421) included.

Who asked is told by calling `answer(verb, reply)`, in order, each before the next reply is even parsed. Who drives the
engine may stop between two of them; so nothing depends on how the bytes were cut.
"""

from __future__ import annotations

from collections import deque

from dma_runtime.smtp.reply import Reply, ReplyParser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.smtp.command import Verb

    Answer = Callable[[Verb, Reply], None]


class Unexpected(Exception):
    """The server sent a reply to no command; `reply` is it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"a reply to no command: {reply.text}")
        self.reply = reply


class Engine:
    """`pipelining` is set from the capabilities, and unset for a server that advertised it and then broke."""

    __slots__ = ("_parser", "_pending", "pipelining")

    def __init__(self) -> None:
        self.pipelining = False
        self._pending: deque[tuple[Verb, Answer]] = deque()
        self._parser = ReplyParser()

    def may_send(self) -> bool:
        pending = self._pending
        return not pending or (self.pipelining and not pending[-1][0].ends_group)

    def sent(self, verb: Verb, answer: Answer) -> None:
        """`verb` was put on the wire; `answer` gets its reply."""
        self._pending.append((verb, answer))

    @property
    def waiting_for(self) -> Verb | None:
        """The oldest verb without an answer."""
        return self._pending[0][0] if self._pending else None

    @property
    def outstanding(self) -> int:
        return len(self._pending)

    @property
    def surplus(self) -> bool:
        """Bytes of the server lie here that answer nothing. At the switch to TLS that is an attack (RFC 3207 4.2)."""
        return self._parser.surplus

    def feed(self, data: bytes) -> None:
        """Bytes from the server; `answer_one` hands out what they hold."""
        self._parser.feed(data)

    def answer_one(self) -> bool:
        """Hand the next whole reply to who waits for it. False: more bytes are needed. Raises BadReply and Unexpected."""
        reply = self._parser.next()
        if reply is None:
            return False
        if not self._pending:
            raise Unexpected(reply)
        verb, answer = self._pending.popleft()
        answer(verb, reply)
        return True
