"""One relay: the messages waiting for it and the sessions that carry them.

Rules:
- The first session is a probe: others are opened only when it is through sign-in, and only as the backlog justifies,
  up to MAXCONNECTIONS. So a relay that is down costs one attempt, whatever waits behind it. One that works and lets no
  further session in has as many as it wants.
- An outcome that is a verdict on the relay, or on this machine, defers everything that waits; what was not tried leaves
  no trace of its own, the relay's state says why it waits (`system.relays`).
- Where a route has several hosts (FALLBACK, MX), what one of them defers is offered to the next in the same attempt
  (RFC 5321 5.1): what waits when a smarthost takes no mail, and with MX whatever is deferred. Not what may have been
  delivered, its connection having been lost behind the end of the message.
- A refused sender is a pair (sender, relay): its other messages are deferred with the same words, untried.
- The body is read while it is sent; a message is open only while it is under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from dma_runtime.address import needs_smtputf8
from dma_runtime.delivery.approach import Approach
from dma_runtime.delivery.queue import Item
from dma_runtime.delivery.session import Job, Refused, Session
from dma_runtime.envelope import REQUIRE
from dma_runtime.errors import BrokenMessage
from dma_runtime.message import loops
from dma_runtime.message.wire import wire
from dma_runtime.outcome import DEFERRED, FAILED, MACHINE, MESSAGE, RELAY, SENDER, Outcome
from dma_runtime.policy import verdict
from dma_runtime.policy.exchangers import ascii_domain
from dma_runtime.policy.relay import RelayState
from dma_runtime.policy.route import DIRECT, Hop, Route
from dma_runtime.smtp import notification
from dma_runtime.system import identity
from dma_runtime.system.stored import StoredMessage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dma_runtime.delivery.settings import Settings
    from dma_runtime.envelope import Moment
    from dma_runtime.smtp.capabilities import Capabilities
    from dma_runtime.system.maillog import MailLog
    from dma_runtime.system.resolver import Resolver
    from dma_runtime.system.secrets import SecretStore
    from dma_runtime.system.spool import Spool

BACKLOG_PER_SESSION = 8  # messages waiting that justify one more connection


class Desk(Protocol):
    """What a relay needs from whoever hands it work (`delivery.rounds`), and where it brings results back."""

    settings: Settings
    secrets: SecretStore
    log: MailLog
    spool: Spool
    resolver: Resolver
    our_names: frozenset[str]  # of this host, in lower case
    dice: Callable[[], float]
    trace: Callable[[str], None] | None
    now: Callable[[], Moment]
    wake: Callable[[], None]
    relays: dict[str, RelayState]

    @property
    def helo(self) -> str: ...

    def finished(
        self, item: Item, pairs: list[tuple[int, Outcome]], relay: Relay | None = None, *, told: bool = False
    ) -> None: ...
    def waits(self, item: Item, indices: list[int], state: RelayState) -> None: ...
    def split(self, item: Item) -> None: ...
    def gone(self, item: Item) -> None: ...
    def damaged(self, item: Item, problem: str) -> None: ...
    def next_backoff(self, last: float) -> float: ...
    def relay_is_down(self, relay: Relay, outcome: Outcome) -> None: ...
    def hop_is_down(self, hop: Hop, outcome: Outcome, wait: float) -> None: ...
    def hop_works(self, hop: Hop) -> None: ...
    def relay_works(self) -> None: ...
    def bug(self, error: BaseException) -> None: ...


class Work:
    """One message's recipients behind one relay.

    `tried`: the hosts that deferred them in this attempt, `known`: with what outcome, by index. `told`: the relay was told
    what reports the sender asked for, and sees to them."""

    __slots__ = ("indices", "item", "known", "stored", "told", "tried")

    def __init__(self, item: Item, indices: list[int], tried: frozenset[Hop] = frozenset()) -> None:
        self.item = item
        self.indices = indices
        self.tried = tried
        self.known: dict[int, Outcome] = {}
        self.stored: StoredMessage | None = None
        self.told = False

    def close(self) -> None:
        if self.stored is not None:
            self.stored.close()
            self.stored = None


class Relay:
    """See the module's docstring. `state` is what outlives the owner."""

    def __init__(self, route: Route, desk: Desk, state: RelayState) -> None:
        self.route = route
        self.desk = desk
        self.state = state
        self.approach = Approach(desk)
        self.waiting: deque[Work] = deque()
        self._refused_senders: dict[str, Outcome] = {}
        self.sessions: set[asyncio.Task[None]] = set()
        self._open_sessions: dict[Session, Hop] = {}
        self._closing = False
        self._proved = False  # a session of this run got through sign-in
        self._enough = False  # the relay lets no more of them in

    @property
    def busy(self) -> bool:
        return bool(self.sessions or self.waiting)

    def add(self, work: Work) -> None:
        """Let a message wait here; `start` opens what is needed."""
        self.waiting.append(work)

    def start(self) -> None:
        """Open as many sessions as the backlog justifies; before one has got through sign-in, a single one."""
        if not self.waiting or self._closing:
            return
        most = 1 if not self._proved else self.desk.settings.config.MAXCONNECTIONS
        wanted = min(most, 1 + len(self.waiting) // BACKLOG_PER_SESSION) if not self._enough else 0
        while len(self.sessions) < wanted:
            task = asyncio.create_task(self._serve())
            self.sessions.add(task)
            task.add_done_callback(self._ended)

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

    async def _serve(self) -> None:
        """One connection from its opening to its end."""
        head = self.waiting[0] if self.waiting else None
        try:
            tried = head.tried if head is not None else frozenset()
            session, hop = await self.approach.open(self.route, tried, set(self._open_sessions.values()))
        except Refused as refused:
            self._not_opened(refused.outcome, head)
            return
        self._works(hop)
        self._open_sessions[session] = hop
        left = [self.desk.settings.config.MAXMESSAGES]  # jobs this connection may still take
        try:
            while session.usable and left[0] > 0 and not self._closing and self._has_work_for(hop):
                await session.run(lambda: self._next_job(left, hop), lambda job, outcomes: self._done(job, outcomes, hop))
        finally:
            del self._open_sessions[session]
            await session.quit()

    def _not_opened(self, outcome: Outcome, head: Work | None) -> None:
        """No host takes the message at the head. It was the one tried; the rest wait with it."""
        if self._open_sessions and outcome.kind == DEFERRED:
            self._enough = True
            return
        if head not in self.waiting:
            head = None  # another session took it meanwhile
        if head is not None and head.tried:  # what the hosts tried before said is what counts
            self.waiting.remove(head)
            self._back(head, outcome)
        elif outcome.kind == FAILED:  # a verdict on the domain
            works, self.waiting = self.waiting, deque()
            for work in works:
                self._back(work, outcome)
        else:
            if head is not None:
                self.waiting.remove(head)
            self._all_wait(outcome, [head] if head is not None else [])

    def _has_work_for(self, hop: Hop) -> bool:
        return not self.approach.is_paused(hop) and any(hop not in work.tried for work in self.waiting)

    def _works(self, hop: Hop) -> None:
        """A session is through sign-in: the relay takes mail."""
        if self.state.rounds:
            self.desk.log.relay_up(hop.key, len(self.waiting))
            self.desk.relay_works()
        self.state = self.desk.relays[self.route.key] = RelayState()
        self._proved = True
        self.start()

    # ------------------------------------------------------------ one message

    def _next_job(self, left: list[int], hop: Hop) -> Job | None:
        """The next transaction for a session, or None when it has done its share or nothing waits."""
        while left[0] > 0 and not self._closing and self._has_work_for(hop):
            work = self.waiting.popleft()
            if hop in work.tried:
                self.waiting.append(work)
                continue
            if (known := self._refused_senders.get(work.item.envelope.sender)) is not None:
                self._back(work, known)
                continue
            try:
                work.stored = self.desk.spool.open(work.item.id, work.item.envelope)
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
            if loop := loops.of_hops(work.stored.pread(work.item.envelope.header_end, 0)):
                self._back(work, Outcome(FAILED, loop, scope=MESSAGE, status="5.4.6"))  # RFC 3463 3.5
                continue
            left[0] -= 1
            return self._job(work, work.stored, hop)
        return None

    def _job(self, work: Work, stored: StoredMessage, hop: Hop) -> Job:
        envelope = work.item.envelope

        def chunks(capabilities: Capabilities) -> Iterator[bytes]:
            work.told = capabilities.dsn
            return wire(stored.pread, envelope, eightbit=capabilities.eightbitmime, bdat=capabilities.chunking)

        sender = ascii_domain(envelope.sender)
        recipients = [ascii_domain(envelope.recipients[index].address) for index in work.indices]
        return Job(
            envelope.id,
            sender,
            recipients,
            envelope.size,
            chunks,
            needs_smtputf8=any(needs_smtputf8(address) for address in (sender, *recipients)),
            eightbit=envelope.has_8bit,
            requiretls=envelope.tls == REQUIRE and bool(hop.port),  # a socket of this machine is no hop
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
        work = job.key
        assert isinstance(work, Work)
        work.close()
        pairs = list(zip(work.indices, outcomes, strict=True))
        if all(outcome.kind != DEFERRED for outcome in outcomes):
            self.desk.finished(work.item, pairs, self, told=work.told)
        else:
            self._deferred(work, pairs, hop)

    def _deferred(self, work: Work, pairs: list[tuple[int, Outcome]], hop: Hop) -> None:
        """A transaction some of whose recipients are deferred: to the next host, to another session, or for now."""
        answered = [pair for pair in pairs if verdict.was_tried(pair[1])]
        down = next((o for _, o in answered if o.scope in (RELAY, MACHINE) and o.kind == DEFERRED), None)
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
            rest = Work(work.item, untried, work.tried)
            rest.known = {index: work.known[index] for index in untried if index in work.known}
            again.append(rest)
        self.waiting.extendleft(again)
        for _ in range(len(again) - (0 if stays else 1)):
            self.desk.split(work.item)
        for _, outcome in stays:
            if outcome.scope == SENDER and outcome.kind == DEFERRED:
                self._refused_senders[work.item.envelope.sender] = outcome
        if stays:
            self.desk.finished(work.item, stays, self, told=work.told)
        if down is not None and self.approach.exhausted:
            self._all_wait(down, [])

    def _may_go_on(self, outcome: Outcome) -> bool:
        """Whether the next host is to be tried with what this one answered."""
        if outcome.kind != DEFERRED or (outcome.stage == "final DATA" and not outcome.code):
            return False
        return self.route.kind == DIRECT or outcome.scope in (RELAY, MACHINE)

    def _all_wait(self, outcome: Outcome, tried: list[Work]) -> None:
        """The relay takes nothing: what was tried is recorded, the rest waits with the relay's own state."""
        now = self.desk.now()
        waiting = [*tried, *self.waiting]
        self.waiting.clear()
        wait = self.state.refused(outcome, now, self.desk.next_backoff)
        self.desk.log.relay_down(self.route.key, outcome, len(waiting), wait)
        for work in waiting:
            if work in tried or work.tried:
                self._back(work, outcome)
            else:
                self.desk.waits(work.item, work.indices, self.state)
        self.desk.relay_is_down(self, outcome)

    def _back(self, work: Work, outcome: Outcome) -> None:
        """One outcome for all recipients of a work; what a host said of one before is what counts."""
        work.close()
        self.desk.finished(work.item, [(index, work.known.get(index, outcome)) for index in work.indices], self)

    def close(self) -> None:
        """Begin nothing new; what is under way goes on."""
        self._closing = True

    def abort(self) -> None:
        """Drop every connection; what was under way comes back as deferred or untried."""
        for session in list(self._open_sessions):
            session.abort()

    def forget_verdicts(self) -> None:
        """Somebody runs the queue, or the configuration changed: try again whatever was refused."""
        self._refused_senders.clear()
        self.approach.forget()
        self.state.down_until = 0.0
