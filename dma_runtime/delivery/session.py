"""Messages over one signed-on connection, as fast as the relay's capabilities allow.

`Session.open` signs on; `run` pulls jobs and sends them until there is none or the session ends; `quit` says goodbye.
A job is one message to some recipients; its result is one `Outcome` per recipient, handed over exactly once.

Rules (hard-parts.md, Speaking SMTP ahead of the replies):
- With PIPELINING the next message's MAIL rides behind the final dot; with CHUNKING whole messages follow each other,
  as far ahead of the replies as `delivery.window` allows, and BDAT ahead of its own MAIL and RCPT only once a message of the
  same sender went through on this session; a refused MAIL, or all RCPT refused, ends that.
- A group behind an unanswered end of message starts with RSET. A group is written in one piece.
- QUIT rides behind the last message (RFC 2920 3.1: the end of a group) once a message went through here, so the relay has
  room for the next session as soon as it has answered.
- RCPTMAX and a relay's 452 "too many recipients" split a job; MAILMAX, or what the caller sets (`most` transactions), and
  RCPTDOMAINMAX end the session without a refused command (RFC 9422).
- A body that cannot be read to its end is never closed with a dot: the connection is.
- What a lost connection leaves unanswered: where the end of the message was written, deferred (it may have been
  delivered); else deferred, or `untried` (policy.verdict.was_tried is False) when the session had worked before and
  not one reply to this job was read.

No await in the middle of a message: replies call back, and each batch of replies ends in one write.
"""

from __future__ import annotations

import asyncio
from collections import deque

from dma_runtime.delivery import signon, window
from dma_runtime.delivery.aftermath import End
from dma_runtime.delivery.job import Job, Part, Work, divide, parameters, recipient_parameters
from dma_runtime.delivery.line import Broken, Line
from dma_runtime.delivery.signon import Refused, Target, Unwanted, sign_on
from dma_runtime.delivery.window import Window
from dma_runtime.outcome import Outcome
from dma_runtime.policy import tls, verdict
from dma_runtime.smtp import command, transaction
from dma_runtime.smtp.lmtp import LmtpTransaction
from dma_runtime.smtp.timeouts import Timeouts
from dma_runtime.smtp.transaction import Transaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dma_runtime.delivery.line import Trace
    from dma_runtime.smtp.handshake import Handshake
    from dma_runtime.smtp.reply import Reply

__all__ = ["Job", "Refused", "Session", "Target", "Timeouts", "Unwanted"]

_PIECE = 65536  # bytes gathered before they are written


class Session:
    """See the module. `usable`: more may be sent. `messages`: transactions begun, at most `most` (0: any number). `peer`:
    `host [address]`."""

    def __init__(self, line: Line, handshake: Handshake, target: Target, peer: str, most: int = 0) -> None:
        self.target = target
        self.peer = peer
        self.capabilities = handshake.capabilities
        self.authenticated = handshake.authenticated
        self.verified = handshake.encrypted and target.tls.verify != tls.ANY
        self.messages = 0
        self.most = min((limit for limit in (most, handshake.capabilities.mailmax) if limit), default=0)
        wire = line.wire
        self.tls = wire.tls.description if wire is not None and wire.tls is not None else ""
        self.resumed = wire is not None and wire.tls is not None and wire.tls.resumed
        self._line = line
        self._engine = line.engine
        self._closing = False  # nothing new is started
        self._given_up = False
        self._accepted = 0  # messages the relay took
        self._domains: set[str] = set()
        self._senders: set[str] = set()  # a message of theirs went through here
        self._window = Window(target.host, target.port, signon.HABITS)
        self._speculate = True
        self._last_job = False  # what was pulled is still sent, nothing else
        self._parting: asyncio.Future[None] | None = None  # QUIT was sent; done when it was answered
        self._needs_reset = False
        self._flight: deque[Part] = deque()  # begun and not over, oldest first
        self._unanswered = 0  # bytes of their bodies
        self._current: Part | None = None  # the newest, while it has something to send
        self._backlog: deque[Part] = deque()  # of pulled jobs, not begun
        self._next_job: Callable[[], Job | None] | None = None
        self._done: Callable[[Job, list[Outcome]], None] | None = None
        self._finished: asyncio.Future[None] | None = None
        line.on_reply = self._replied
        line.on_turn = self._turn
        line.on_failed = self._end

    @classmethod
    async def open(
        cls,
        target: Target,
        *,
        helo: str,
        limits: Timeouts,
        trace: Trace | None = None,
        most: int = 0,
        greeted: Callable[[], None] = lambda: None,
        wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> Session:
        """Connected, greeted, in TLS and signed in as the target says. Raises Refused; for `greeted`, `wanted` and Unwanted see
        `signon.sign_on`."""
        line, handshake, peer = await sign_on(target, helo, limits, trace, greeted=greeted, wanted=wanted)
        return cls(line, handshake, target, peer, most)

    @property
    def usable(self) -> bool:
        return not self._closing and not self._line.failed

    @property
    def in_doubt(self) -> bool:
        """Whether a message was written to its end and is not answered yet."""
        known = [part.transaction for part in self._flight if part.transaction is not None]
        return any(transaction.committed and not transaction.over for transaction in known)

    # ------------------------------------------------------------ the caller's side

    async def run(self, next_job: Callable[[], Job | None], done: Callable[[Job, list[Outcome]], None]) -> None:
        """Send what `next_job` gives until it gives None or the session ends. `done` is called exactly once for each
        pulled job.

        Both are called from the loop's callbacks and must not block. An exception out of either ends the session and
        comes out here.
        """
        assert self._finished is None, "one run at a time"
        if not self.usable:
            return
        self._next_job, self._done = next_job, done
        self._finished = asyncio.get_running_loop().create_future()
        try:
            self._turn()
            await self._finished
        except asyncio.CancelledError:
            self._give_up("given up by dma")
            raise
        finally:
            self._finished = self._next_job = self._done = None

    async def quit(self) -> None:
        """Say goodbye and close. Never raises, never waits longer than the QUIT timeout."""
        self._closing = True
        line = self._line
        if self._parting is not None and not line.failed:
            await asyncio.wait((self._parting,), timeout=line.timeouts.quit)
        elif not line.failed and not self._engine.outstanding:
            try:
                await line.ask(command.QUIT, command.QUIT_LINE, "QUIT", line.timeouts.quit)
            except Broken:
                pass
        line.close()

    def abort(self) -> None:
        """Drop the connection now. A `run` under way hands its jobs back."""
        self._give_up("dropped by dma")

    def _give_up(self, text: str) -> None:
        """It is we who end it: nothing is learnt about the relay."""
        self._given_up = True
        self._line.fail(text)

    # ------------------------------------------------------------ turning replies into the next write

    def _turn(self) -> None:
        """A batch of replies was read, or the wire takes bytes again: send what may be sent."""
        if self._finished is None or self._finished.done():
            return
        try:
            self._pump()
            self._settle()  # a body that could not be read may leave nothing to wait for
            if not self._flight and not self._line.failed and (self._closing or self._next_job is None):
                while self._backlog:  # the session ends, the rest of a split job is for another
                    self._hand_back(self._backlog.popleft(), self._not_begun)
                self._finished.set_result(None)
        except Exception as bug:  # the caller's callbacks run here; their exception belongs to the caller of run
            self._crash(bug)

    def _replied(self) -> str:
        """One reply was read: settle what is over before the next is looked at. Why the session ends, or ""."""
        try:
            return self._settle()
        except Exception as bug:  # as in _turn
            self._crash(bug)
            return ""

    def _settle(self) -> str:
        """Hand over what is complete, in order. Returns why the connection cannot be used any more, or ""."""
        flight = self._flight
        while flight:
            head = flight[0].transaction
            assert head is not None
            if head.fatal:
                return head.fatal
            if head.closing is not None:
                return f"the relay closes: {head.closing.text}"
            if head.refused_whole:
                self._speculate = False
            if not head.over:
                return ""
            part = flight.popleft()
            if part is self._current:
                self._current = None
            self._unanswered -= part.size
            self._over(part, head)
        return ""

    def _over(self, part: Part, over: Transaction) -> None:
        """All of a transaction was answered."""
        if over.delivered:
            self._accepted += 1
            self._window.taken()
            self._senders.add(part.work.job.sender)
        else:
            self._window.not_taken()
        if not self._flight:
            self._needs_reset = not over.clean
        again: list[int] = []
        if over.delivered:  # RFC 5321 4.5.3.1.10: those refused for their number get a transaction of their own, at once
            again = [part.indices[at] for at in over.too_many()]
        if again:
            self._backlog.append(Part(part.work, again))
        self._tell(part, over, again)

    def _tell(self, part: Part, over: Transaction, but: list[int], unanswered: Outcome | None = None) -> None:
        """Give each recipient of a part its outcome, `unanswered` to those without a reply; those in `but` wait for
        another part.
        """
        meanings: dict[int, Outcome] = {}
        if part.error:
            unanswered = verdict.unreadable(part.error, relay=self.peer)
        for index, answer in zip(part.indices, over.answers, strict=True):
            if index in but:
                continue
            if answer is None:
                assert unanswered is not None
                part.work.outcomes[index] = unanswered
                continue
            stage, reply = answer
            meaning = meanings.get(id(reply))
            if meaning is None:
                meaning = meanings[id(reply)] = self._judge(stage, reply, null_sender=not part.work.job.sender)
            part.work.outcomes[index] = meaning
        self._part_done(part.work)

    def _judge(self, stage: str, reply: Reply, *, null_sender: bool = False) -> Outcome:
        target = self.target
        return verdict.judge(
            stage, reply, smarthost=target.smarthost, relay=self.peer, quota=target.quota, null_sender=null_sender
        )

    def _part_done(self, work: Work) -> None:
        work.parts -= 1
        if not work.parts:
            self._report(work)

    def _report(self, work: Work) -> None:
        outcomes = [outcome for outcome in work.outcomes if outcome is not None]
        assert len(outcomes) == len(work.outcomes)
        assert self._done is not None
        self._done(work.job, outcomes)

    # ------------------------------------------------------------ sending

    def _pump(self) -> None:
        """Put on the wire all that may go now, in as few writes as possible."""
        line, engine = self._line, self._engine
        assert line.wire is not None
        wire = line.wire
        out: list[bytes] = []
        while not wire.paused and not line.failed:
            part = self._current
            if part is None:
                part = self._begin()
                if part is None:
                    self._part_company(out)
                    break
                self._current = part
            now = part.transaction
            assert now is not None
            if now.body == transaction.BODY:
                if not self._send_body(part, now, out):
                    break
            elif now.body == transaction.LONE_DOT:
                self._end_of_message(now, command.DOT, command.DOT_LINE, out)
            elif now.sent_all:
                self._current = None
            elif not engine.may_send():
                break
            else:
                step = now.next()
                if step is not None:
                    verb, text = step
                    line.expect(verb, now.reply)
                    out.append(text)
                    if line.tracing:
                        line.show(text[:-2].decode("utf-8", "backslashreplace"))
                elif now.body != transaction.BODY and not now.sent_all:
                    break  # its replies decide
        if out and not line.failed:
            line.write(b"".join(out))

    def _part_company(self, out: list[bytes]) -> None:
        """QUIT behind the last message, ahead of its replies."""
        if not self._closing or self._parting is not None or not self._accepted or not self._flight or self._backlog:
            return
        if self._engine.may_send():
            self._parting = asyncio.get_running_loop().create_future()
            self._line.expect(command.QUIT, self._parted)
            self._line.show("QUIT")
            out.append(command.QUIT_LINE)

    def _parted(self, verb: command.Verb, reply: Reply) -> None:  # noqa: ARG002  # whatever it says, this is the end
        assert self._parting is not None
        self._parting.set_result(None)

    def _end_of_message(self, now: Transaction, verb: command.Verb, text: bytes, out: list[bytes]) -> None:
        # From here until its result is synced in our log the message may be delivered without our knowing: a duplicate
        # is possible. With a window of BDATs that holds for each message in it.
        for _ in range(now.finals):
            self._line.expect(verb, now.reply)
        now.part_sent(last=True)
        out.append(text)
        self._line.show(verb.name)

    def _send_body(self, part: Part, now: Transaction, out: list[bytes]) -> bool:
        """Send more of the body. False when no more can go now."""
        line = self._line
        assert line.wire is not None
        held = 0
        try:
            if part.body is None:
                part.body = part.work.job.chunks(self.capabilities)
                if now.chunking:
                    part.pending = next(part.body, b"")
            while True:
                if now.chunking:
                    piece = part.pending
                    assert piece is not None
                    if not self._engine.may_send():
                        return False  # RFC 3030 4.2: without PIPELINING each part waits for its reply
                    if part.size and not now.accepted_by_some and self._unanswered + len(piece) > window.BYTES:
                        return False  # this far and no farther ahead of the replies
                    part.pending = next(part.body, None)
                    last = part.pending is None
                    out.append(command.bdat(len(piece), last))
                else:
                    following = next(part.body, None)  # an empty piece is not the end
                    last = following is None
                    piece = following or b""
                out.append(piece)
                part.size += len(piece)
                self._unanswered += len(piece)
                if last:
                    break
                if now.chunking:
                    line.expect(command.BDAT, now.reply)
                    now.part_sent(last=False)
                held += len(piece)
                if held >= _PIECE:
                    line.write(b"".join(out))
                    out.clear()
                    held = 0
                    if line.wire.paused:
                        return False
        except Exception as error:  # whatever the spool or the conversion ran into
            self._unreadable(part, error)
            return True
        if now.chunking:
            self._end_of_message(now, command.LAST, b"", out)
        else:
            self._end_of_message(now, command.DOT, command.DOT_LINE, out)
        part.body = None
        return True

    def _unreadable(self, part: Part, error: Exception) -> None:
        """The body cannot be read to its end. It must not look whole to the relay."""
        now = part.transaction
        assert now is not None
        part.error = f"the message could not be read: {error}"
        part.body = None
        if now.chunking:
            now.withdraw()  # RSET, with the next message's group, makes the relay forget it
        else:
            self._line.fail(part.error)  # hard-parts.md: after 354 close, never dot

    # ------------------------------------------------------------ beginning

    def _begin(self) -> Part | None:
        """The next transaction, if one may begin now."""
        flight = self._flight
        if self._closing:
            return None
        if flight:
            if not self._engine.may_send() or not self._window.has_room(len(flight), self._unanswered):
                return None
        while not self._backlog:
            if self._last_job:
                self._closing = True
            if self._closing or self._next_job is None:
                return None
            job = self._next_job()
            if job is None:
                self._next_job = None
                return None
            self._take(job)
        part = self._backlog.popleft()
        work, capabilities = part.work, self.capabilities
        kind = LmtpTransaction if self.target.lmtp else Transaction
        part.transaction = kind(
            command.mail(work.job.sender, parameters(work.job, capabilities, self.verified)),
            [
                command.rcpt(work.job.recipients[index], recipient_parameters(work.job, index, capabilities))
                for index in part.indices
            ],
            chunking=capabilities.chunking,
            reset=self._unsettled(flight[-1]) if flight else self._needs_reset,
            ahead=self._speculate and self._engine.pipelining and work.job.sender in self._senders,
        )
        self._needs_reset = False
        flight.append(part)
        self.messages += 1
        if self.messages == self.most:
            self._closing = True  # RFC 9422 4.1: QUIT comes next, not one MAIL too many
        return part

    @staticmethod
    def _unsettled(before: Part) -> bool:
        """Something of the part before may still stand at the server. A MAIL that is known to be refused began nothing."""
        now = before.transaction
        return now is None or now.committed or not now.mail_refused

    def _take(self, job: Job) -> None:
        """A pulled job becomes parts, or is answered at once when this relay cannot take it."""
        work, parts, fits = divide(job, self.capabilities, self._domains, self.peer, self.verified)
        self._last_job = self._last_job or not fits
        self._backlog.extend(parts)
        if not parts:
            self._report(work)

    # ------------------------------------------------------------ the end

    def _end(self) -> None:
        """The line failed: settle whatever is in flight."""
        self._closing = True
        if self._parting is not None and not self._parting.done():
            self._parting.set_result(None)
        if self._done is None:
            return
        line, engine, flight, worked = self._line, self._engine, self._flight, self._accepted > 0
        end = End(line.failed, engine.waiting_for, engine.outstanding, line.failed_reply, self.peer)
        head = flight[0].transaction if flight else None
        if not self._given_up and (kept := end.habit(head, pipelining=engine.pipelining, worked=worked)):
            signon.HABITS.broke(self.target.host, self.target.port, asyncio.get_running_loop().time(), kept)
        if flight and not self._given_up:
            self._window.not_taken()
        try:
            first = True
            while flight:
                part = flight.popleft()
                now = part.transaction
                assert now is not None
                if end.uncalled is not None and now.body == transaction.BODY and not engine.outstanding:
                    if end.uncalled.code >= 400:  # a yes to what is not finished is no answer
                        now.refused_early(end.uncalled)  # it spoke while the body was on its way, then closed
                outcome, whole = end.unanswered(now, first=first, worked=worked, judge=self._judge)
                if whole:
                    self._hand_back(part, outcome)
                else:
                    self._tell(part, now, [], outcome)
                first = False
            while self._backlog:
                self._hand_back(self._backlog.popleft(), self._not_begun)
        except Exception as bug:  # as in _turn
            self._crash(bug)
            return
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    @property
    def _not_begun(self) -> Outcome:
        return verdict.untried("the session ended before its turn", relay=self.peer)

    def _hand_back(self, part: Part, untried: Outcome) -> None:
        for index in part.indices:
            part.work.outcomes[index] = untried
        self._part_done(part.work)

    def _crash(self, bug: Exception) -> None:
        """The caller's callback failed: no more of them."""
        self._done = None
        self._give_up("given up by dma")
        if self._finished is not None and not self._finished.done():
            self._finished.set_exception(bug)
