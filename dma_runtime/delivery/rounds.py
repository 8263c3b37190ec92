"""A round: one attempt of every recipient of a message that is due.

An item that is due is split by next hop and handed on; each part comes back through `finished` (it was tried), or
`waits` (its relay is known to be down). When the last part is back the round is over: what failed is reported to the
sender in one report, and the item is scheduled again or removed. Deliveries and deferrals are recorded as they come in,
failures at the end of the round.

- A deferral that made the message older than EXPIRE, by the rules of `policy.retry`, is a failure.
- An attempt that was asked for (`-q`) keeps the schedule the message had.
- MACHINE outcomes (no route, no resolver) count for nobody: 60 s, no back-off.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from functools import partial

from dma_runtime.delivery import berths, news
from dma_runtime.delivery.backlog import Work
from dma_runtime.delivery.berths import Berths
from dma_runtime.delivery.mailroom import Mailroom
from dma_runtime.delivery.news import News
from dma_runtime.delivery.pool import Pool
from dma_runtime.delivery.queue import Item, Queue, Round
from dma_runtime.delivery.record import PAUSE, Recorder, Step
from dma_runtime.delivery.relaybook import RelayBook
from dma_runtime.delivery.remote import Relay
from dma_runtime.delivery.settings import Settings
from dma_runtime.delivery.standing import Standing
from dma_runtime.envelope import REQUIRE
from dma_runtime.history import attempt_event
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, MACHINE, Outcome
from dma_runtime.policy import retry, route, telling, tls
from dma_runtime.policy.helo import greeting
from dma_runtime.policy.relay import MACHINE_RETRY, RelayState
from dma_runtime.system import clock, identity
from dma_runtime.system.maillog import ERR, MailLog
from dma_runtime.system.resolver import Resolver
from dma_runtime.system.secrets import SecretStore
from dma_runtime.system.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.envelope import Moment
    from dma_runtime.system.ledger import Event

BUG_RETRY = 3600.0  # seconds; a fault of ours is not mended by trying often
DOUBT = 60.0  # seconds
LEAVE = 2.0  # seconds for what is being opened, and will carry nothing, to take its leave
MOST_RELAYS = 200  # kept in memory, as long as they can be forgotten
BETWEEN_LOOKS = 1.0  # seconds awake; of thousands at work each turn of the loop would look at all

Pairs = list[tuple[int, Outcome]]


class Rounds:
    """Hands items to relays and mailboxes and takes the outcomes back.

    `had(id)` is called when a message had its attempt (or need not have one); `wake()` when the loop has to look again."""

    def __init__(
        self,
        queue: Queue,
        settings: Settings,
        log: MailLog,
        secrets: SecretStore,
        recorder: Recorder,
        *,
        had: Callable[[str], None],
        wake: Callable[[], None],
        trace: Callable[[str], None] | None = None,
        now: Callable[[], Moment] = clock.now,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.queue = queue
        self.spool: Spool = queue.spool
        self.settings = settings
        self.log = log
        self.secrets = secrets
        self.recorder = recorder
        self.our_names = frozenset((identity.host_name().lower(),))
        self.resolver = Resolver()
        each = berths.MOST // 2 if settings.config.by_socket else berths.MOST
        self.pool = Pool(Berths(each=each), lambda: self.settings.config.MAXCONNECTIONS, lambda: self.stays)
        self.exchange_port = route.SMTP_PORT  # where hosts found by MX listen
        self.dice = dice
        self.trace = trace
        self.wake = wake
        self.now = now
        self.relay_book = RelayBook(self.spool.path, lambda: now().wall)
        self.relays = self.relay_book.states
        self.stays = False  # the owner does not leave when the queue is empty
        self._no_network_at = 0.0  # seconds awake
        self.without_network = 0  # rounds in a row that failed for want of a network
        self.standing = Standing(self.spool.path, log, lambda: now().wall)
        self._had = had
        self._relays: dict[str, Relay] = {}
        self._looked_at_relays = float("-inf")
        self._mailroom = Mailroom(self)

    @property
    def helo(self) -> str:
        """The name we greet relays with, as it is now: MAILNAME may be what was corrected."""
        return greeting(identity.mail_name(self.settings.config), identity.host_name())

    # ------------------------------------------------------------ out

    def dispatch(self) -> None:
        """Begin a round for every item that is due."""
        if self.stuck:
            return
        moment = self.now()
        touched: set[str] = set()
        while (item := self.queue.take(moment.wall)) is not None:
            try:
                self._begin(item, moment.wall, touched)
            except Exception as error:  # ours: this message waits, and no other because of it
                self.bug(error)
                if item.round is None:
                    self.queue.schedule(item, moment.wall + BUG_RETRY)
                self._had(item.id)
        for key in touched:
            self._relays[key].start()
        if len(self._relays) > MOST_RELAYS and moment.awake - self._looked_at_relays >= BETWEEN_LOOKS:
            self._looked_at_relays = moment.awake
            self._forget_idle()

    @property
    def stuck(self) -> bool:
        """Results cannot be recorded: what would be delivered now would be delivered again."""
        return self.recorder.stuck

    def _forget_idle(self) -> None:
        """A daemon that delivers directly meets a new domain every day: those that have nothing to do are not kept."""
        for key, relay in list(self._relays.items()):
            if relay.route.kind == route.DIRECT and not relay.busy and not relay.sessions:
                del self._relays[key]
                if not relay.state.worth_keeping(self.now().wall):
                    self.relays.pop(key, None)

    def _begin(self, item: Item, now: float, touched: set[str]) -> None:
        if not item.state.open:
            # Everything was recorded before a crash, only the removal was not.
            item.round = Round(False)
            self._record(item, item.round, [], [], last=True)
            return
        groups: dict[str, tuple[route.Route, list[int]]] = {}
        for index in item.state.open:
            recipient = item.envelope.recipients[index]
            found = self._route(item, recipient.address)
            if recipient.refused:
                found = route.Route(route.REFUSED, "", 0, recipient.refused)
            groups.setdefault(found.key, (found, []))[1].append(index)
        item.round = Round(item.forced)
        item.round.out = len(groups)
        item.forced = False
        for key, (found, indices) in groups.items():
            if found.kind == route.REFUSED:
                refused = Outcome(FAILED, found.why, status="5.1.2")
                self.finished(item, [(index, refused) for index in indices])
            elif found.kind == route.LOCAL:
                self._mailroom.take(Work(item, indices))
            else:
                relay = self._relay(found)
                if relay.state.waits(now):  # in a run that was asked for, it said so since that began (`try_all`)
                    self.waits(item, indices, relay.state.outcome, relay.state.down_until, relay.state)
                else:
                    relay.add(Work(item, indices))
                    touched.add(key)

    def _route(self, item: Item, address: str) -> route.Route:
        config, relay_map = self.settings.config, self.settings.relays
        sender, wish = item.envelope.sender, item.envelope.tls
        found = route.route(address, config, sender, relay_map, port=self.exchange_port, tls=wish)
        if found.kind == route.RELAY and found.tls and all(self._is_strict(hop) for hop in found.hops):
            found.tls = ""
        return found

    def _is_strict(self, hop: route.Hop) -> bool:
        """Whether all mail to a relay gets the TLS that REQUIRETLS asks for: then it has no sessions of its own there."""
        if self.settings.logins.find(hop.host, hop.port, hop.login) is None:
            return False  # what has no TLS there comes back, and other mail may go
        config = self.settings.config
        ordinary, strict = (
            tls.decide(config, hop.port, will_authenticate=True, main=hop.main, wish=wish) for wish in ("", REQUIRE)
        )
        return ordinary == strict

    def _relay(self, found: route.Route) -> Relay:
        relay = self._relays.get(found.key)
        if relay is None or relay.route.kind != found.kind:
            state = self.relays.setdefault(found.key, RelayState())
            state.pace = self.relays.setdefault(found.place, RelayState()).pace  # it counts whatever the mail wants of TLS
            relay = self._relays[found.key] = Relay(found, self, state)
        relay.route = found  # FALLBACK may have changed
        return relay

    # ------------------------------------------------------------ back

    def finished(self, item: Item, pairs: Pairs, relay: Relay | None = None, *, told: bool = False) -> None:
        """Recipients of an item were tried. `told`: the relay knows what reports the sender asked for."""
        if item.round is None:
            return  # another part of it found the message gone or damaged
        moment = self.now()
        events: list[Event] = []
        tidings: list[News] = []
        for outcome, indices in _grouped(pairs):
            self._count_network(outcome)
            if outcome.kind == DEFERRED and self._expired(item, indices[0], moment, outcome.answered):
                outcome = retry.given_up(outcome, self.settings.config.EXPIRE)
            wait = None
            if outcome.kind == FAILED:
                item.round.failures.extend((index, outcome) for index in indices)
            else:
                due, backoff = self._next(item, item.round, outcome, indices[0], moment.wall, relay)
                wait = due - moment.wall if due is not None else None
                events.append(attempt_event(outcome, indices, moment, due=due, backoff=backoff))
                if outcome.kind == DELIVERED:
                    item.round.closed.update(indices)
                    handed_on = relay is not None and not any(hop.lmtp for hop in relay.route.hops)
                    if not told and (good := news.of_delivery(item, outcome, indices, handed_on=handed_on)):
                        tidings.append(good)
                else:
                    item.round.deferred.update(dict.fromkeys(indices, outcome))
            for index in indices:
                address = item.envelope.recipients[index].address
                self.log.outcome(item.envelope, address, outcome, moment.wall - item.envelope.accepted_at, wait)
                self.standing.heard(outcome, relay.route.key if relay is not None else "", item.envelope.sender, address)
        self._part_is_back(item, item.round, events, tidings)

    def _expired(
        self, item: Item, index: int, moment: Moment, answered: bool, state: RelayState | None = None
    ) -> bool:
        expire = self.settings.config.EXPIRE
        return retry.expired(item.envelope, item.state, index, moment, expire, answered=answered, relay=state)

    def look_at_notices(self) -> None:
        """What somebody has to see to. To be called when the whole queue is known."""
        self.standing.look(
            self.queue, lambda: route.named(self.settings.config, self.settings.relays), self._waited_for
        )

    def _waited_for(self) -> set[str]:
        """The subjects of notices that mail in the queue waits for."""
        found: set[str] = set()
        for item in self.queue.items.values():
            sender = item.envelope.sender
            for index in item.state.open:
                address = item.envelope.recipients[index].address
                where = self._route(item, address)
                found.update(telling.waiting_for(sender, "" if where.kind == route.LOCAL else where.key, address))
        return found

    def split(self, item: Item) -> None:
        """A part comes back in two: some of its recipients still wait for their turn."""
        if item.round is not None:
            item.round.out += 1

    def _count_network(self, outcome: Outcome) -> None:
        if outcome.scope != MACHINE:
            self.without_network = 0
        elif not self.without_network or self.now().awake - self._no_network_at >= MACHINE_RETRY / 2:
            self.without_network += 1  # not once more for each domain of the same round
            self._no_network_at = self.now().awake

    def _next(
        self, item: Item, round: Round, outcome: Outcome, index: int, now: float, relay: Relay | None
    ) -> tuple[float | None, float]:
        """(time of the next attempt, its back-off); (None, 0) when there is none."""
        if outcome.kind != DEFERRED:
            return None, 0.0
        before = item.state.recipients[index]
        if outcome.scope == MACHINE:
            return now + MACHINE_RETRY, before.backoff
        if round.forced and before.next_attempt > now:
            return before.next_attempt, before.backoff
        if outcome.holds_relay and relay is not None and relay.state.waits(now):
            return relay.state.down_until, relay.state.backoff
        backoff = self.next_backoff(before.backoff)
        return now + backoff, backoff

    def waits(self, item: Item, indices: list[int], why: Outcome, until: float, state: RelayState) -> None:
        """Recipients were not tried, their relay takes no mail at present: due again at `until` (wall clock)."""
        if item.round is None:
            return
        moment = self.now()
        for index in indices:
            if self._expired(item, index, moment, False, state):
                item.round.failures.append((index, retry.given_up(why, self.settings.config.EXPIRE)))
            else:
                item.round.waiting[index] = until
                item.round.deferred[index] = why
        self._part_is_back(item, item.round, [], [])

    def _part_is_back(self, item: Item, round: Round, events: list[Event], tidings: list[News]) -> None:
        round.out -= 1
        failures: Pairs = []
        if round.out == 0:
            failures, round.failures = round.failures, []
            round.closed.update(index for index, _ in failures)
            moment = self.now()
            if late := news.of_delay(item, self.settings.config, moment):
                events, tidings = [*events, news.delayed_event(moment)], [*tidings, late]
        last = round.out == 0 and round.closed.issuperset(item.state.open)
        if events or failures:
            self._record(item, round, events, failures, last=last, tidings=tidings)
        elif round.out == 0 and round.steps == 0:
            self._over(item, round)

    def _record(
        self,
        item: Item,
        round: Round,
        events: list[Event],
        failures: Pairs,
        *,
        last: bool,
        tidings: list[News] | None = None,
    ) -> None:
        round.steps += 1
        self.recorder.add(Step(item, events, failures, last, tidings))

    def applied(self, step: Step) -> None:
        """A step is safe on disk: the index follows."""
        item = step.item
        if step.refused and not self.stuck:
            for relay in self._relays.values():
                relay.start()
            self.wake()
        if item.round is None:
            return
        item.round.steps -= 1
        for event in step.recorded:
            item.state.apply(event)
        for id in step.told:
            self.log.info(f"its sender is told as {id}", item.id)
            self.queue.add(id)
            self.wake()
        if step.returned is not None:
            if step.returned.id:
                self.log.bounced(item.envelope, step.returned.id)
                self.queue.add(step.returned.id)
                self.wake()
            elif step.returned.dropped:
                self.log.info(step.returned.dropped, item.id)
            elif step.returned.why:
                self.log.undeliverable(item.envelope, step.returned.why)
        if step.removed:
            self.queue.forget(item)
            self._had(item.id)
            self.wake()
        elif item.round.out == 0 and item.round.steps == 0:
            self._over(item, item.round)

    def refused(self, step: Step) -> None:
        """The disk does not take a result at present; whoever waits for the attempt has had it."""
        self.log.write(ERR, f"{step.error}; tried again in {PAUSE:.0f}s", step.item.id)
        self._had(step.item.id)
        self.wake()

    def _over(self, item: Item, round: Round) -> None:
        """The round is over and the item stays: when is it due again?"""
        item.round = None
        item.fresh = False
        state, now = item.state, self.now().wall
        dues = [max(state.recipients[index].next_attempt, round.waiting.get(index, 0.0)) for index in state.open]
        if round.again and dues:
            item.forced = True
            self.queue.schedule(item, now)
            self.wake()
            return  # whoever waits for an attempt waits for the next one
        if dues and not state.held:
            # A result that could not be recorded leaves a time in the past; the pause keeps that from becoming a loop.
            self.queue.schedule(item, max(min(dues), now + 1))
        self._had(item.id)
        self.wake()

    def gone(self, item: Item) -> None:
        """Its file is not there any more: somebody removed it by hand."""
        self.log.info("the message has gone from the spool", item.id)
        item.round = None
        self.queue.forget(item)
        self._had(item.id)

    def damaged(self, item: Item, problem: str) -> None:
        """Its file cannot be trusted: in sight, never sent."""
        self.log.undeliverable(item.envelope, problem)
        item.round = None
        self.queue.forget(item)
        self.queue.broken[item.id] = problem
        self._had(item.id)

    # ------------------------------------------------------------ what relays tell

    def next_backoff(self, last: float) -> float:
        return retry.next_backoff(last, self.settings.config.RETRY, self.dice)

    def relay_is_down(self, relay: Relay, outcome: Outcome) -> None:
        self.relay_book.changed()
        self.standing.heard(outcome, relay.route.key)

    def hop_is_down(self, hop: route.Hop, outcome: Outcome, wait: float) -> None:
        """One host of several takes no mail; the others are used meanwhile."""
        self.log.hop_down(hop.key, outcome, wait)
        if not hop.direct:
            self.standing.hop_is_down(hop.key, outcome)

    def hop_works(self, hop: route.Hop) -> None:
        self.standing.hop_works(hop.key)

    def relay_changed(self) -> None:
        self.relay_book.changed()

    def shift(self, seconds: float) -> None:
        """The wall clock was set: relays are down, and hosts passed over, for as long as was meant."""
        for state in self.relays.values():
            state.shift(seconds)
        for relay in self._relays.values():
            relay.approach.shift(seconds)
        self.relay_book.write()

    def slept(self) -> None:
        """The machine was asleep: connections are gone whatever they look like."""
        self.pool.dismiss()
        for relay in self._relays.values():
            relay.abort()

    async def close(self, grace: float) -> None:
        """Begin nothing new; wait until what is under way is over, at most `grace` seconds, and DOUBT more for the reply to a
        message that was written to its end and for the end of a command: it would be sent, or run, twice."""
        self.pool.close()
        for relay in self._relays.values():
            relay.close()
        self._mailroom.leave()
        tasks = [task for relay in self._relays.values() for task in relay.sessions] + list(self._mailroom.tasks)
        if opening := [task for relay in self._relays.values() for task in relay.opening]:
            await asyncio.wait(opening, timeout=min(grace, LEAVE))
            for relay in self._relays.values():
                relay.give_up_opening()
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for relay in self._relays.values():
            relay.abort(but_in_doubt=True)
        until = asyncio.get_running_loop().time() + DOUBT
        while asyncio.get_running_loop().time() < until:
            doubtful = [task for relay in self._relays.values() if relay.in_doubt for task in relay.sessions]
            doubtful += self._mailroom.tasks
            if not doubtful:
                break
            await asyncio.wait(doubtful, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        for relay in self._relays.values():
            relay.abort()
        await self._mailroom.stop()
        self._mailroom.close()
        await self.pool.ended()

    def bug(self, error: BaseException) -> None:
        """Something of ours failed: say so where it can be found, lose nothing."""
        text = "".join(traceback.format_exception(error))
        self.log.write(ERR, f"internal error, please report it: {text[-1500:]}")

    @property
    def busy(self) -> bool:
        return bool(self._mailroom.tasks) or any(relay.busy for relay in self._relays.values()) or self.recorder.busy

    def reroute(self) -> None:
        """The configuration changed: what waits for a relay by the old one is begun anew, and what was just deferred by it, its
        result not yet safe, has another round."""
        self.pool.dismiss()
        for item in self.queue.items.values():
            if item.round is not None and item.round.deferred:
                item.round.again = True
        for relay in list(self._relays.values()):
            for work in relay.let_go(partial(self._leads, relay.route)):
                if (round := work.item.round) is not None:
                    round.again = True
                    self._part_is_back(work.item, round, [], [])

    def _leads(self, there: route.Route, work: Work) -> bool:
        """Whether the recipients of a work still go there."""
        found = [self._route(work.item, work.item.envelope.recipients[index].address) for index in work.indices]
        return all((one.kind, one.key, one.hops) == (there.kind, there.key, there.hops) for one in found)

    def try_all(self) -> None:
        """Somebody runs the queue or the configuration changed: no relay's verdict holds any more."""
        self.pool.forget_refusals()
        for relay in self._relays.values():
            relay.forget_verdicts()
        for state in self.relays.values():
            state.down_until = 0.0


def _grouped(pairs: Pairs) -> list[tuple[Outcome, list[int]]]:
    """Recipients with the same outcome share one event."""
    groups: list[tuple[Outcome, list[int]]] = []
    for index, outcome in pairs:
        for known, indices in groups:
            if known is outcome or known == outcome:
                indices.append(index)
                break
        else:
            groups.append((outcome, [index]))
    return groups
