"""Sessions with hosts found by MX under random schedules: takers of several users come, are refused, cancelled, lose interest or
their connection, give back; hosts let in or not, time passes, the configuration changes, the owner is told to stop.

Looked at whenever everything has come to rest: no host, no user and the whole have more than they may; nobody waits while
there is room for him; a session carries the mail of one. And in the end nothing is left over.
"""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dma_runtime.delivery import pool as pools
from dma_runtime.delivery.berths import Berths
from dma_runtime.delivery.pool import NotNow, Pool
from dma_runtime.delivery.session import Refused, Target
from dma_runtime.outcome import DEFERRED, FAILED, RELAY, Outcome
from dma_runtime.policy.tls import NONE, OPPORTUNISTIC, TlsPolicy

ONE, TWO, THREE = "one.test", "two.test", "three.test"
HOSTS = ((ONE, OPPORTUNISTIC), (ONE, OPPORTUNISTIC), (TWO, OPPORTUNISTIC), (ONE, NONE), (THREE, NONE))
TARGETS = [Target(host, 25, TlsPolicy(level, "test"), None, smarthost=False) for host, level in HOSTS]
DEEDS = ("come", "come", "come", "let in", "let in", "refuse", "fail", "give back", "give back", "lose", "lose interest")
DEEDS += ("cancel", "cancel", "breathe", "breathe", "wait", "dismiss", "forget")


class Clock(asyncio.SelectorEventLoop):
    """Its time passes when somebody says so."""

    now = 0.0

    def time(self):
        return self.now


class Connection:
    def __init__(self, target):
        self.target = target
        self.usable = True
        self.carries = None
        self.goodbyes = 0
        self.open = True

    async def quit(self):
        self.goodbyes += 1
        self.usable = False
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.open = False


class Taker:
    """A domain with mail of one user. It is its own claim."""

    def __init__(self, world, uid, target):
        self.world = world
        self.uid = uid
        self.target = target
        self.wanted = True
        self.answer = None  # what the host says to the connection that is being opened
        self.session = None
        self.enough = asyncio.get_running_loop().create_future()
        self.end = ""
        self.task = asyncio.create_task(self.run())
        self.task.add_done_callback(self.over)

    def ask(self, berths):
        return berths.ask({self.uid} if self.wanted else set())

    async def open(self):
        assert self.answer is None
        self.answer = asyncio.get_running_loop().create_future()
        try:
            if (said := await self.answer) is not None:
                raise Refused(said)
            made = Connection(self.target)
            self.world.made.append(made)
            return made
        finally:
            self.answer = None

    async def run(self):
        pool = self.world.pool
        try:
            with pool.expecting():
                session = await pool.take(self.target, self, self.open)
        except Refused:
            self.end = "refused"
        except NotNow:
            assert self.world.closed or not self.wanted
            self.end = "not now"
        else:
            assert session.usable
            assert session.carries is None
            assert session.target == self.target
            session.carries = self
            self.session = session
            await self.enough
            self.session = session.carries = None
            await pool.give_back(session)
            self.end = "done"

    def over(self, task):
        self.end = "cancelled" if task.cancelled() else self.end or repr(task.exception())

    @property
    def connected(self):
        return self.answer is not None or self.session is not None


class World:
    def __init__(self, most, berths, each):
        self.most, self.all, self.each = most, berths, each
        self.berths = Berths(berths, each)
        self.stays = True
        self.pool = Pool(self.berths, lambda: most, lambda: self.stays)
        self.made = []
        self.takers = []
        self.closed = False

    async def rest(self):
        """Until nothing moves by itself."""
        ready = asyncio.get_running_loop()._ready
        for _ in range(2000):
            await asyncio.sleep(0)
            if not ready:
                return
        raise AssertionError("it never comes to rest")

    def there(self, chosen):
        return [taker for taker in self.takers if not taker.end and chosen(taker)]

    async def do(self, deed, number):
        def one(chosen):
            found = self.there(chosen)
            return found[number % len(found)] if found else None

        if deed == "come":
            self.takers.append(Taker(self, 1000 + number % 3, TARGETS[number // 3 % len(TARGETS)]))
        elif deed in ("let in", "refuse", "fail"):
            if taker := one(lambda taker: taker.answer is not None and not taker.answer.done()):
                kind = FAILED if deed == "fail" else DEFERRED
                taker.answer.set_result(None if deed == "let in" else Outcome(kind, "421 no", scope=RELAY))
        elif deed == "give back":
            if (taker := one(lambda taker: taker.session is not None)) and not taker.enough.done():
                taker.enough.set_result(None)
        elif deed == "lose":
            if made := [session for session in self.made if session.usable]:
                made[number % len(made)].usable = False
        elif deed == "lose interest":
            if taker := one(lambda taker: not taker.connected):
                taker.wanted = False
        elif deed == "cancel":
            if taker := one(lambda taker: taker.session is None):
                taker.task.cancel()
        elif deed == "breathe":
            await asyncio.sleep(0)
        elif deed == "wait":
            asyncio.get_running_loop().now += number / 8
        elif deed == "dismiss":
            self.pool.dismiss()
        elif deed == "forget":
            self.pool.forget_refusals()
        elif deed == "close":
            self.closed = True
            self.pool.close()

    def look(self):
        """Everything is at rest."""
        connected = self.there(lambda taker: taker.connected)
        assert len(connected) <= self.all
        spare = [session for session in self.made if session.open and session.usable and session.carries is None]
        assert len(spare) <= pools.SPARE
        for host in {target.host for target in TARGETS}:
            here = [taker for taker in connected if taker.target.host == host]
            kept = [session for session in spare if session.target.host == host]
            assert len(here) + len(kept) <= self.most, host
        for uid in range(1000, 1003):
            assert sum(taker.uid == uid for taker in connected) <= self.each
        for taker in self.there(lambda taker: not taker.connected and taker.wanted):
            assert not self.closed
            place = self.pool._places[taker.target.host, 25]
            here = sum(other.target.host == taker.target.host for other in connected)
            assert (
                here == self.most
                or (here and place.turns._withheld)
                or len(connected) == self.all
                or sum(other.uid == taker.uid for other in connected) == self.each
            ), f"{taker.uid} waits for {taker.target.host} and nobody is in the way"

    async def end(self):
        """The hosts let everybody in, and whoever is through leaves."""
        self.stays = False
        while self.there(lambda taker: True):
            before = [taker.end for taker in self.takers], len(self.made)
            for taker in self.there(lambda taker: taker.answer is not None):
                taker.answer.set_result(None)
            for taker in self.there(lambda taker: taker.session is not None):
                taker.enough.set_result(None)
            await self.rest()
            assert before != ([taker.end for taker in self.takers], len(self.made)), "somebody waits for ever"
            self.look()
        asyncio.get_running_loop().now += pools.KEPT + 1
        await self.rest()
        await self.pool.ended()
        assert not self.pool._places
        assert not self.pool._spare
        assert not self.pool._held
        assert not self.pool._leaving
        assert self.pool._expected == 0
        assert self.berths._used == {}
        assert self.berths._free == self.all
        assert all(session.goodbyes == 1 for session in self.made)
        assert {taker.end for taker in self.takers} <= {"done", "refused", "not now", "cancelled"}


async def play(most, berths, each, schedule):
    world = World(most, berths, min(each, berths))
    for together in schedule:  # what happens in the same moment
        for deed, number in together:
            await world.do(deed, number)
        await world.rest()
        world.look()
    await world.end()


def run(story):
    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(story)


deed = st.tuples(st.sampled_from(DEEDS), st.integers(0, 60))
moment = st.lists(deed, min_size=1, max_size=6)

stop = st.sampled_from([None, 5, 15])  # behind how many moments


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.lists(moment, min_size=8, max_size=30), stop)
def test_random_schedules(most, berths, each, schedule, close):
    if close is not None:
        schedule.insert(close, [("close", 0)])
    run(play(most, berths, each, schedule))


@pytest.mark.parametrize("most", [1, 3])
def test_the_tarpits_of_one_user_keep_nobodys_mail_from_another_host(most):
    """He has no further session; what he has waiting for the host that others write to is in nobody's way."""

    async def story():
        world = World(most, 4, 2)
        for host in (0, 2, *[4] * most):  # all his berths, then the host of everybody
            world.takers.append(Taker(world, 1000, TARGETS[host]))
        await world.rest()
        assert [taker.connected for taker in world.takers] == [True, True, *[False] * most]
        world.takers.append(Taker(world, 1001, TARGETS[4]))
        await world.rest()
        assert world.takers[-1].connected
        world.look()
        await world.end()

    run(story())
