"""A conversation with one relay: wire and engine joined, with the deadline of the oldest unanswered command and the
trace.

Rules:
- A command is counted before its bytes are written, so its reply always finds it.
- The deadline is the oldest unanswered verb's wait, counted from the last sign of life; while a body leaves and
  nothing is asked it is RFC 5321's three minutes a block. There is one timer, moved only when it would be late.
- Whatever ends the conversation (lost, silent, nonsense) ends it once: `failed` is set and `on_failed` told.
- The trace shows `C: ` and `S: ` lines; a secret is never in it, a body is shown as its size. A relay that repeats what it
  did not understand (sendmail does) repeats no secret: `hide`.

On failure `failed` is a sentence for people; `failed_reply` the reply that came uncalled for, if that was it (421 as
a rule).
"""

from __future__ import annotations

import asyncio

from dma_runtime.smtp.command import Verb
from dma_runtime.smtp.engine import Engine, Unexpected
from dma_runtime.smtp.reply import BadReply, Reply
from dma_runtime.smtp.timeouts import Timeouts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.smtp.engine import Answer
    from dma_runtime.system.net import Wire

    Trace = Callable[[str], None]


class Broken(Exception):
    """The conversation ended while a reply was awaited. `verb` is whose; the text is for people."""

    def __init__(self, text: str, verb: Verb) -> None:
        super().__init__(text)
        self.verb = verb


def _nothing() -> None:
    """Nobody is interested."""


def _go_on() -> str:
    """Nobody objects."""
    return ""


class Line:
    """The owner of a Wire.

    `on_reply` is called after each reply; why it wants the conversation to end, or "". `on_turn` is called after each
    batch of replies, and when the wire takes bytes again; `on_failed` once, at the end.
    """

    def __init__(self, timeouts: Timeouts, trace: Trace | None) -> None:
        self.engine = Engine()
        self.timeouts = timeouts
        self.wire: Wire | None = None
        self.failed = ""
        self.failed_reply: Reply | None = None
        self.on_reply: Callable[[], str] = _go_on
        self.on_turn: Callable[[], None] = _nothing
        self.on_failed: Callable[[], None] = _nothing
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False
        self._hidden: list[bytes] = []
        self._early = b""  # a greeting that was faster than the loop: it came before it was asked for

    # ------------------------------------------------------------ speaking

    def expect(self, verb: Verb, answer: Answer) -> None:
        """The next bytes written hold `verb`; `answer` gets its reply."""
        engine = self.engine
        if not engine.outstanding:
            self._since = self._loop.time()
        if self._trace is not None:
            answer = self._traced(answer)
        engine.sent(verb, self._censored(answer) if self._hidden else answer)

    def write(self, data: bytes) -> None:
        """One piece, one packet if it fits."""
        assert self.wire is not None
        self.wire.write(data)
        self._watch()

    def show(self, text: str) -> None:
        if self._trace is not None:
            self._trace("C: " + text)

    def hide(self, *secrets: bytes) -> None:
        """Show none of these where the relay says them; without any, the danger is over."""
        self._hidden = [*self._hidden, *(secret for secret in secrets if len(secret) > 3)] if secrets else []

    def _clean(self, data: bytes) -> bytes:
        for secret in self._hidden:
            data = data.replace(secret, b"***")
        return data

    def _clean_reply(self, reply: Reply) -> Reply:
        return Reply(reply.code, [line[:4] + self._clean(line[4:]) for line in reply.lines])

    def _censored(self, answer: Answer) -> Answer:
        return lambda verb, reply: answer(verb, self._clean_reply(reply))

    @property
    def tracing(self) -> bool:
        return self._trace is not None

    def _traced(self, answer: Answer) -> Answer:
        def shown(verb: Verb, reply: Reply) -> None:
            assert self._trace is not None
            for text in reply.text.split("\n"):
                self._trace("S: " + text)
            answer(verb, reply)

        return shown

    async def ask(self, verb: Verb, data: bytes, shown: str, wait: float | None = None) -> Reply:
        """Send one command and wait for its reply. Raises Broken. `wait` replaces the verb's own timeout."""
        answer: asyncio.Future[Reply] = self._loop.create_future()

        def told(_: Verb, reply: Reply) -> None:
            if not answer.done():
                answer.set_result(reply)

        def broken() -> None:
            if not answer.done():
                answer.set_exception(Broken(self.failed, verb))

        if self.failed:
            raise Broken(self.failed, verb)
        self.expect(verb, told)
        self.on_failed = broken
        if data:
            self.show(shown)
            self.write(data)
        else:
            self._watch()
        if not self._asked:
            self._asked = True
            if self._early:
                self.received(self._early)
        timer = self._loop.call_later(wait, self._silent, verb, wait) if wait is not None else None
        try:
            return await answer
        finally:
            self.on_failed = _nothing
            if timer is not None:
                timer.cancel()

    # ------------------------------------------------------------ the wire's owner

    def received(self, data: bytes) -> None:
        if self.failed:
            return
        self._since = self._loop.time()
        if not self._asked:
            self._early += data
            return
        try:
            self.engine.feed(data)
            while self.engine.answer_one():
                if why := self.on_reply():
                    self.fail(why)
                    return
        except Unexpected as fault:
            reply = self.failed_reply = self._clean_reply(fault.reply)
            if self._trace is not None:
                self._trace("S: " + reply.text)
            closing = reply.code == 421  # RFC 5321 3.8
            self.fail(f"the relay closes: {reply.text}" if closing else f"the relay sent {Unexpected(reply)}")
            return
        except BadReply as fault:
            what = "something that is no reply" if self._hidden else fault  # its words may be cut within a secret
            self.fail(f"the relay sent {what}")
            return
        self._watch()
        self.on_turn()

    def lost(self, reason: str) -> None:
        self.fail(reason)

    def writable(self) -> None:
        self._since = self._loop.time()
        self.on_turn()

    # ------------------------------------------------------------ the end

    def fail(self, text: str) -> None:
        """End the conversation; what is outstanding will not be answered."""
        if self.failed:
            return
        if self._hidden:
            text = self._clean(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
        self.failed = text
        if self._trace is not None:
            self._trace(f"-- {text}")
        self._stop()
        if self.wire is not None:
            self.wire.abort()
        self.on_failed()

    def close(self) -> None:
        """An orderly end: what was written still leaves."""
        if not self.failed:
            self.failed = "closed"
            self._stop()
            if self.wire is not None:
                self.wire.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------ the deadline

    def _limit(self) -> float | None:
        """Seconds the relay has from the last sign of life; None when nothing is expected of it."""
        verb = self.engine.waiting_for
        if verb is not None:
            limit: float = getattr(self.timeouts, verb.wait)
            return limit
        if self.wire is not None and self.wire.paused:
            return self.timeouts.block  # RFC 5321 4.5.3.2.5
        return None

    def _watch(self) -> None:
        if self.failed:
            return
        limit = self._limit()
        if limit is None:
            return
        due = self._since + limit
        timer = self._timer
        if timer is None or timer.when() > due:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        limit = self._limit()
        if limit is None:
            return
        if self._loop.time() < self._since + limit:
            self._watch()
            return
        verb = self.engine.waiting_for
        if verb is not None:
            self._silent(verb, limit)
        else:
            self.fail(f"the relay took no more of the message for {limit:g} seconds")

    def _silent(self, verb: Verb, limit: float) -> None:
        self.fail(f"the relay was silent for {limit:g} seconds while {verb.says} was awaited")
