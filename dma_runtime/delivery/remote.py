"""One relay: the messages waiting for it and the sessions that carry them.

Rules:
- The first session is a probe: others sign in only when it is through sign-in, and are opened only as the backlog justifies,
  up to MAXCONNECTIONS. So a relay that is down costs one attempt, whatever waits behind it. To a smarthost of which nothing
  bad is known they are opened beside the probe once it has been greeted (`delivery.probe`). One that signed us in before and
  then took no mail has to take some before it gets a second session. One that works and lets no further session in has as
  many as it wants.
- An outcome that is a verdict on the relay, or on this machine, defers everything that waits; what was not tried leaves
  no trace of its own, the relay's state says why it waits (`system.relays`).
- Where a route has several hosts (FALLBACK, MX), what one of them defers is offered to the next in the same attempt
  (RFC 5321 5.1): what waits when a smarthost takes no mail, and with MX whatever is deferred. Not what may have been
  delivered, its connection having been lost behind the end of the message.
- A refused sender is a pair (sender, relay): its other messages are deferred with the same words, untried, for half of the
  first back-off. What is due after that is tried: the relay may have changed its mind, and nothing expires unasked.
- Where the owner stays, a session with nothing to send waits a while for the next message (`delivery.idle`).
- RATE holds towards the relay, whatever host of it takes the mail: what has to wait is given the time of its turn
  (`policy.pace`).
- The body is read while it is sent; a message is open only while it is under way.
- A session with a host found by MX is had from the pool (`delivery.pool`), on the account of somebody whose mail waits here,
  and given back to it.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, nullcontext
from typing import Protocol

from dma_runtime.address import needs_smtputf8
from dma_runtime.delivery.approach import Approach
from dma_runtime.delivery.backlog import Backlog, Work
from dma_runtime.delivery.berths import Berths, Ticket
from dma_runtime.delivery.idle import Idlers
from dma_runtime.delivery.pool import NotNow, Pool
from dma_runtime.delivery.probe import Probe
from dma_runtime.delivery.queue import Item
from dma_runtime.delivery.session import Job, Refused, Session, Unwanted
from dma_runtime.envelope import REQUIRE
from dma_runtime.errors import BrokenMessage
from dma_runtime.message import loops
from dma_runtime.message.wire import goes_binary, wire
from dma_runtime.outcome import DEFERRED, FAILED, MESSAGE, RELAY, SENDER, Outcome
from dma_runtime.policy import pace, verdict
from dma_runtime.policy.exchangers import ascii_domain
from dma_runtime.policy.relay import RelayState
from dma_runtime.policy.route import DIRECT, Hop, Route
from dma_runtime.smtp import notification
from dma_runtime.system import identity
from dma_runtime.system.stored import StoredMessage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from dma_runtime.delivery.settings import Settings
    from dma_runtime.envelope import Moment
    from dma_runtime.smtp.capabilities import Capabilities
    from dma_runtime.system.maillog import MailLog
    from dma_runtime.system.resolver import Resolver
    from dma_runtime.system.secrets import SecretStore
    from dma_runtime.system.spool import Spool

BACKLOG_PER_SESSION = 8  # messages waiting that justify one more connection
TELL_OF_PACE = 600.0  # seconds between two lines of the log about RATE


class Desk(Protocol):
    """What a relay needs from whoever hands it work (`delivery.rounds`), and where it brings results back."""

    settings: Settings
    secrets: SecretStore
    log: MailLog
    spool: Spool
    resolver: Resolver
    pool: Pool
    our_names: frozenset[str]  # of this host, in lower case
    dice: Callable[[], float]
    trace: Callable[[str], None] | None
    now: Callable[[], Moment]
    wake: Callable[[], None]
    relays: dict[str, RelayState]
    stays: bool  # it does not leave when the queue is empty

    @property
    def stuck(self) -> bool: ...  # nothing new is to be sent, for its result could not be recorded
    @property
    def helo(self) -> str: ...
    def finished(
        self, item: Item, pairs: list[tuple[int, Outcome]], relay: Relay | None = None, *, told: bool = False
    ) -> None: ...
    def waits(self, item: Item, indices: list[int], why: Outcome, until: float, state: RelayState) -> None: ...
    def split(self, item: Item) -> None: ...
    def gone(self, item: Item) -> None: ...
    def damaged(self, item: Item, problem: str) -> None: ...
    def next_backoff(self, last: float) -> float: ...
    def relay_is_down(self, relay: Relay, outcome: Outcome) -> None: ...
    def hop_is_down(self, hop: Hop, outcome: Outcome, wait: float) -> None: ...
    def hop_works(self, hop: Hop) -> None: ...
    def relay_changed(self) -> None: ...
    def bug(self, error: BaseException) -> None: ...


class Relay:
    """See the module's docstring. `state` is what outlives the owner."""

    def __init__(self, route: Route, desk: Desk, state: RelayState) -> None:
        self.route = route
        self.desk = desk
        self.state = state
        self.approach = Approach(desk)
        self.waiting = Backlog()
        self._refused_senders: dict[str, tuple[Outcome, float]] = {}  # and until when (wall clock)
        self.sessions: set[asyncio.Task[None]] = set()
        self.opening: set[asyncio.Task[None]] = set()  # those of `sessions` that are not through sign-in
        self._open_sessions: dict[Session, Hop] = {}
        self._idle = Idlers()
        self._tickets: set[Ticket] = set()  # for sessions that wait for their turn
        self._closing = False
        self._proved = False  # a session of this run got through sign-in
        self._enough = False  # the relay lets no more of them in
        self._rcptmax = 0  # recipients it takes at once, 0 when it does not say
        self._told_of_pace = float("-inf")  # when the log last heard of it (wall clock)

    @property
    def busy(self) -> bool:
        return bool(self.waiting) or len(self.sessions) > len(self._idle) + len(self.opening)

    def add(self, work: Work) -> None:
        """Let a message wait here; `start` opens what is needed."""
        self.waiting.add(work)
        self._waits_too(work)

    def _put_back(self, works: list[Work]) -> None:
        """They wait again, before the others."""
        self.waiting.put_back(works)
        for work in works:
            self._waits_too(work)

    def _waits_too(self, work: Work) -> None:
        for ticket in self._tickets:
            ticket.also(work.item.envelope.uid)

    def start(self) -> None:
        """Have as many sessions at work as the backlog justifies; before one has got through sign-in, a single one."""
        if not self.waiting or self._stopped or not self._in_pace():
            return
        wanted = self._justified if self._proved and not self.state.rounds else 1
        while len(self.sessions) - len(self._idle) < wanted and self._idle.wake():
            pass
        while len(self.sessions) < wanted and not self._enough:
            self._begin(self._session())

    @property
    def _justified(self) -> int:
        """How many sessions the backlog justifies."""
        return min(self.desk.settings.config.MAXCONNECTIONS, 1 + len(self.waiting) // BACKLOG_PER_SESSION)

    def _begin(self, session: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(session)
        self.sessions.add(task)
        task.add_done_callback(self._ended)

    def _greeted(self, probe: Probe) -> None:
        """A session was greeted: where it is the first, others may be opened beside it. Not where bad was heard of the relay
        lately, nor with hosts found by MX: those share berths."""
        if self._stopped or self._proved or self.state.rounds or self.route.kind == DIRECT:
            return
        while len(self.sessions) < self._justified:
            self._begin(self._beside(probe))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.sessions.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Ours, not the relay's: nothing waiting may be forgotten because of it.
            self.desk.bug(error)
            self._all_wait(Outcome(DEFERRED, f"internal error: {error!r}", scope=RELAY), [])
        if not self.sessions:
            self._proved = self._enough = False
        self.start()
        self.desk.wake()

    # ------------------------------------------------------------ one session

    async def _session(self) -> None:
        """One connection from its opening to its end, or to where it is given back."""
        head = self.waiting.head
        tried: frozenset[Hop] = head.tried if head is not None else frozenset()
        serving = set(self._open_sessions.values())
        try:
            with self._is_opening(), self.desk.pool.expecting() if self.route.kind == DIRECT else nullcontext():
                session, hop = await self.approach.open(self.route, tried, serving, self._greeted, self)
        except Refused as refused:
            if not self._is_further(refused.outcome, others=bool(serving)):
                self._not_opened(refused.outcome, head, tried)
        except NotNow:
            pass
        else:
            await self._carry(session, hop)

    async def _beside(self, probe: Probe) -> None:
        """One connection that is opened while the probe is on its way, from its opening to its end."""
        try:
            with self._is_opening():
                session = await self.approach.beside(probe, self.route.tls)
        except Refused as refused:
            if not self._is_further(refused.outcome, others=True):
                self._not_opened(refused.outcome, None, frozenset())
        except Unwanted:
            pass
        else:
            await self._carry(session, probe.hop)

    @contextmanager
    def _is_opening(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self.opening.add(task)
        try:
            yield
        finally:
            self.opening.discard(task)

    async def _carry(self, session: Session, hop: Hop) -> None:
        """Send what waits over a connection, until its end."""
        self._works(hop)
        self._open_sessions[session] = hop
        self._rcptmax = session.capabilities.rcptmax
        under_way: set[Work] = set()

        def pull() -> Job | None:
            job = self._next_job(hop)
            if job is not None:
                under_way.add(_work(job))
            return job

        def done(job: Job, outcomes: list[Outcome]) -> None:
            self._done(job, outcomes, hop)
            under_way.discard(_work(job))

        try:
            while session.usable and not self._stopped and not self.approach.is_paused(hop):
                if self.waiting.has(hop):
                    await session.run(pull, done)
                elif not self.desk.stays or hop.direct or self.waiting or not await self._idle.wait():
                    break
        finally:
            del self._open_sessions[session]
            self._dropped(under_way)
            await (self.desk.pool.give_back(session) if hop.direct else session.quit())

    def _dropped(self, works: set[Work]) -> None:
        """A fault of ours ended a session: what it carried may not be forgotten with it."""
        for work in works:
            try:
                self._back(work, Outcome(DEFERRED, "an internal error ended the session; the message may have been delivered"))
            except Exception as error:
                self.desk.bug(error)

    def _is_further(self, outcome: Outcome, *, others: bool) -> bool:
        """Whether what was refused is no more than a further session: the relay works for others, or did when this one was
        begun. Where it does no more, the next one is a probe and is told."""
        if outcome.kind != DEFERRED or not (others or self._open_sessions):
            return False
        self._enough = self._enough or bool(self._open_sessions)
        return True

    def _not_opened(self, outcome: Outcome, head: Work | None, tried: frozenset[Hop]) -> None:
        """No host but those in `tried` takes the message at the head. It was the one tried; the rest wait with it."""
        if tried:  # what they said is what counts, for each that they deferred; to the rest they are still open
            for work in self.waiting.take_tried(tried):
                self._back(work, outcome)
            return
        if head is not None and not self.waiting.remove(head):
            head = None  # another session took it meanwhile
        heads = [head] if head is not None else []
        if outcome.kind == FAILED:  # a verdict on the domain
            for work in [*heads, *self.waiting.take_all()]:
                self._back(work, outcome)
        else:
            self._all_wait(outcome, heads)

    def ask(self, berths: Berths) -> Ticket:
        """A turn, on the account of those whose mail waits here."""
        self._tickets = {ticket for ticket in self._tickets if not ticket.granted.done()}
        ticket = berths.ask({work.item.envelope.uid for work in self.waiting})
        self._tickets.add(ticket)
        return ticket

    @property
    def wanted(self) -> bool:
        """Whether a session has something to do here."""
        return bool(self.waiting) and not self._stopped

    @property
    def _stopped(self) -> bool:
        """Nothing new is begun."""
        return self._closing or self.desk.stuck

    def _works(self, hop: Hop) -> None:
        """A session is through sign-in."""
        self._proved = True
        if self.state.stage in ("", *verdict.SESSION_STAGES):  # what held the relay is behind us
            self._flows(hop)
        self.start()

    def _flows(self, hop: Hop) -> None:
        """The relay takes mail. What was on its way when another session heard that it takes none does not end the wait for that:
        who waits goes on waiting, and is shown why."""
        if self.state.waits(self.desk.now().wall):
            return
        was_down = bool(self.state.rounds)
        self.state.works()
        if was_down:
            self.desk.log.relay_up(hop.key, len(self.waiting))
            self.desk.relay_changed()

    # ------------------------------------------------------------ pace

    def _in_pace(self) -> bool:
        """Whether one more message may go now; where not, each that waits is told when its turn comes."""
        rates = self.desk.settings.config.RATE
        if not rates:
            return True
        now = self.desk.now().wall
        if self.state.pace.free(rates, now) > 0:
            return True
        works = self.waiting.take_all()
        why = Outcome(DEFERRED, f"waits for its turn: RATE {pace.said(rates)} is reached", scope=RELAY)
        place = 0
        for work in works:
            until = self.state.pace.when(rates, now, place)
            place += self._messages(len(work.indices))
            if work.known:  # a host was asked in this attempt, and what it said counts
                self._back(work, why)
            else:
                self.desk.waits(work.item, work.indices, why, until, self.state)
        if works and now - self._told_of_pace >= TELL_OF_PACE:
            self._told_of_pace = now
            self.desk.log.paced(self.route.key, why, len(works), self.state.pace.when(rates, now) - now)
        return False

    @property
    def _at_once(self) -> int:
        """How many recipients go in one transaction."""
        most = self.desk.settings.config.MAXRECIPIENTS
        return min(most, self._rcptmax or most)

    def _messages(self, recipients: int) -> int:
        """In how many transactions a message to so many goes."""
        return -(-recipients // self._at_once)

    def _within_pace(self, work: Work) -> Work:
        """As much of it as may go now; the rest waits for its turn."""
        if not (rates := self.desk.settings.config.RATE):
            return work
        room = self._at_once * self.state.pace.free(rates, self.desk.now().wall)
        if not 0 < room < len(work.indices):
            return work
        self._put_back([work.part(work.indices[room:])])
        self.desk.split(work.item)
        return work.part(work.indices[:room])

    def _went(self, recipients: int, sign: int = 1) -> None:
        """A message to so many goes now, or (-1) it did not go to so many after all."""
        if rates := self.desk.settings.config.RATE:
            self.state.pace.took(rates, self.desk.now().wall, sign * self._messages(recipients))
            self.desk.relay_changed()

    # ------------------------------------------------------------ one message

    def _next_job(self, hop: Hop) -> Job | None:
        """The next message for a session, or None when nothing waits or nothing may go."""
        while not self._stopped and not self.approach.is_paused(hop) and self._in_pace():
            work = self.waiting.next(hop)
            if work is None:
                return None
            work = self._within_pace(work)
            if (known := self._refused(work.item.envelope.sender)) is not None:
                self._back(work, known)
                continue
            try:
                stored = work.stored = self.desk.spool.open(work.item.id, work.item.envelope)
                loop = loops.of_hops(stored.pread(work.item.envelope.header_end, 0))
                job = self._job(work, stored, hop)
            except FileNotFoundError:
                self.desk.gone(work.item)
                continue
            except BrokenMessage as problem:
                self.desk.damaged(work.item, str(problem))
                continue
            except OSError as problem:
                outcome = Outcome(DEFERRED, f"can not read the message: {problem.strerror}")
                self._back(work, outcome)
                continue
            except Exception as error:  # ours: this message waits, and no other because of it
                self.desk.bug(error)
                self._back(work, Outcome(DEFERRED, f"internal error: {error!r}", scope=MESSAGE))
                continue
            if loop:
                self._back(work, Outcome(FAILED, loop, scope=MESSAGE, status="5.4.6"))  # RFC 3463 3.5
                continue
            self._went(len(work.indices))
            return job
        return None

    def _refused(self, sender: str) -> Outcome | None:
        """What the relay said of this sender a moment ago, if it does not take it."""
        outcome, until = self._refused_senders.get(sender, (None, 0.0))
        if outcome is not None and self.desk.now().wall >= until:
            del self._refused_senders[sender]
            return None
        return outcome

    def _job(self, work: Work, stored: StoredMessage, hop: Hop) -> Job:
        envelope = work.item.envelope
        sender = ascii_domain(envelope.sender)
        recipients = [ascii_domain(envelope.recipients[index].address) for index in work.indices]
        utf8 = any(needs_smtputf8(address) for address in (sender, *recipients))
        binary = goes_binary(stored.pread, envelope)

        def chunks(capabilities: Capabilities) -> Iterator[bytes]:
            work.told = capabilities.dsn
            return wire(
                stored.pread,
                envelope,
                eightbit=capabilities.eightbitmime,
                bdat=capabilities.chunking,
                binary=binary and capabilities.binarymime,
                utf8=utf8,
            )

        return Job(
            envelope.id,
            sender,
            recipients,
            envelope.size,
            chunks,
            needs_smtputf8=utf8,
            eightbit=envelope.has_8bit,
            binary=binary,
            requiretls=envelope.tls == REQUIRE and bool(hop.port),  # a socket of this machine is no hop
            most=self.desk.settings.config.MAXRECIPIENTS,
            key=work,
            wishes=self._wishes(work),
        )

    def _wishes(self, work: Work) -> tuple[bytes, list[bytes]] | None:
        """What a relay that speaks DSN is told (RFC 3461)."""
        envelope = work.item.envelope
        recipients = [envelope.recipients[index] for index in work.indices]
        if not envelope.ret and not envelope.envid and not any(one.notify or one.orcpt for one in recipients):
            return None
        mailname = identity.mail_name(self.desk.settings.config)
        return notification.of_mail(envelope), [notification.of_recipient(one, mailname) for one in recipients]

    def _done(self, job: Job, outcomes: list[Outcome], hop: Hop) -> None:
        """A transaction is over: one outcome per recipient."""
        work = _work(job)
        work.close()
        pairs = list(zip(work.indices, outcomes, strict=True))
        if self.state.rounds and any(verdict.was_tried(outcome) and not outcome.holds_relay for outcome in outcomes):
            self._flows(hop)
            self.start()
        if all(outcome.kind != DEFERRED for outcome in outcomes):
            self.desk.finished(work.item, pairs, self, told=work.told)
        else:
            self._deferred(work, pairs, hop)

    def _deferred(self, work: Work, pairs: list[tuple[int, Outcome]], hop: Hop) -> None:
        """A transaction some of whose recipients are deferred: to the next host, to another session, or for now."""
        answered = [pair for pair in pairs if verdict.was_tried(pair[1])]
        down = next((outcome for _, outcome in answered if outcome.holds_relay), None)
        if down is not None and len(self.approach.hops) > 1:
            self.approach.pause(hop, down)
        tried = work.tried | {hop}
        onward = [pair for pair in answered if self._may_go_on(pair[1])] if self.approach.another(tried) else []
        stays = [pair for pair in answered if not self._may_go_on(pair[1])] if onward else answered
        again: list[Work] = []
        if onward:
            again.append(Work(work.item, [index for index, _ in onward], tried))
            again[0].known = dict(onward)
        # The session ended before their turn came: the next one begins with them.
        if untried := [index for index, outcome in pairs if not verdict.was_tried(outcome)]:
            self._went(len(untried), -1)
            again.append(work.part(untried))
        self._put_back(again)
        for _ in range(len(again) - (0 if stays else 1)):
            self.desk.split(work.item)
        for _, outcome in stays:
            if outcome.scope == SENDER and outcome.kind == DEFERRED:
                until = self.desk.now().wall + self.desk.settings.config.RETRY[0] / 2
                self._refused_senders[work.item.envelope.sender] = outcome, until
        if down is not None and self.approach.exhausted:
            self._all_wait(down, [])  # first, so that what was tried waits as long as the rest
        if stays:
            self.desk.finished(work.item, stays, self, told=work.told)

    def _may_go_on(self, outcome: Outcome) -> bool:
        """Whether the next host is to be tried with what this one answered."""
        if outcome.kind != DEFERRED or (outcome.stage == "final DATA" and not outcome.code):
            return False
        return self.route.kind == DIRECT or outcome.holds_relay

    def _all_wait(self, outcome: Outcome, tried: list[Work]) -> None:
        """The relay takes nothing: what was tried is recorded, the rest waits with the relay's own state."""
        now = self.desk.now()
        waiting = [*tried, *self.waiting.take_all()]
        news = not self.state.waits(now.wall)  # else another session was told it in this round, and that counts once
        if news:
            wait = self.state.refused(outcome, now, self.desk.next_backoff)
            self.desk.log.relay_down(self.route.key, outcome, len(waiting), wait)
        for work in waiting:
            if work in tried or work.tried:
                self._back(work, outcome)
            else:
                self.desk.waits(work.item, work.indices, self.state.outcome, self.state.down_until, self.state)
        if news:
            self.desk.relay_is_down(self, outcome)

    def _back(self, work: Work, outcome: Outcome) -> None:
        """One outcome for all recipients of a work; what a host said of one before is what counts."""
        work.close()
        self.desk.finished(work.item, [(index, work.known.get(index, outcome)) for index in work.indices], self)

    def close(self) -> None:
        """Begin nothing new; what is under way goes on."""
        self._closing = True
        self._idle.dismiss()

    def let_go(self, belongs: Callable[[Work], bool]) -> list[Work]:
        """The configuration changed: give back what does not belong here any more, and, where a session is being opened by the
        old one (which may take as long as its timeouts), drop that and give back all that waits."""
        works = [work for work in self.waiting if self.opening or not belongs(work)]
        for work in works:
            self.waiting.remove(work)
        self.give_up_opening()
        return works

    def give_up_opening(self) -> None:
        for task in self.opening:
            task.cancel()

    @property
    def in_doubt(self) -> bool:
        """Whether a message waits for its last reply."""
        return any(session.in_doubt for session in self._open_sessions)

    def abort(self, *, but_in_doubt: bool = False) -> None:
        """Drop every connection, those too that are only being opened, but perhaps those where a message waits for its last reply;
        what was under way comes back as deferred or untried."""
        self._idle.dismiss()
        self.give_up_opening()
        for session in list(self._open_sessions):
            if not (but_in_doubt and session.in_doubt):
                session.abort()

    def forget_verdicts(self) -> None:
        """Somebody runs the queue, or the configuration changed: try again whatever was refused."""
        self._refused_senders.clear()
        self.approach.forget()
        self._idle.dismiss()
        self.state.down_until = 0.0


def _work(job: Job) -> Work:
    assert isinstance(job.key, Work)
    return job.key
