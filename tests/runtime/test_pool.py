"""Sessions with hosts found by MX go from one domain to the next: by real servers, and by sessions that only count."""

import asyncio
import time

import pytest
from exchange import Exchange
from mail_server import CLOSE, HANG

from dma_runtime.delivery import owner, pool, rounds
from dma_runtime.delivery.berths import Berths
from dma_runtime.delivery.pool import NotNow, Pool
from dma_runtime.delivery.session import Refused, Target
from dma_runtime.outcome import DEFERRED, RELAY, Outcome
from dma_runtime.policy.tls import NONE, OPPORTUNISTIC, TlsPolicy

DOMAINS = 30
ALICE, BOB, MALLORY = 1001, 1002, 1003


# ---------------------------------------------------------------- domains with one host


@pytest.fixture
def exchange(tmp_path, monkeypatch):
    zone = "".join(f"domain{number}.test. 300 MX 10 mx2.test.\n" for number in range(DOMAINS)) + "other.test. 300 MX 10 mx3.test."
    with Exchange(tmp_path, monkeypatch, zone) as exchange:
        exchange.host(2)
        yield exchange


def one_for_each(exchange, count=DOMAINS):
    for number in range(count):
        exchange.send(f"bob@domain{number}.test")


def test_many_domains_share_the_sessions_with_their_host(exchange):
    one_for_each(exchange)
    exchange.run()
    assert sorted(exchange.got(2)) == sorted([f"bob@domain{number}.test"] for number in range(DOMAINS))
    assert exchange.host(2).connections == exchange.host(2).most_open == 4
    assert [verb for _, verb, _ in exchange.host(2).commands].count("QUIT") == 4
    assert not exchange.agent.files()


def test_of_what_is_kept_leave_is_taken_at_the_end(exchange):
    async def stay(one):
        one.rounds.stays = True

    one_for_each(exchange, 1)
    exchange.run(beside=stay)
    assert len(exchange.got(2)) == 1
    assert [verb for _, verb, _ in exchange.host(2).commands][-1] == "QUIT"


def test_a_connection_carries_as_much_as_one_may_whatever_the_domains(exchange):
    exchange.agent.configure("MAXMESSAGES 3\nMAXCONNECTIONS 1")
    one_for_each(exchange, 9)
    exchange.run()
    assert [message.connection for message in exchange.host(2).messages] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert exchange.host(2).most_open == 1


@pytest.mark.parametrize("reply", ["421 4.3.2 not now", "554 5.7.1 not you", CLOSE])
def test_a_host_that_is_down_is_asked_once_and_not_for_each_domain(exchange, reply):
    exchange.host(2).refuse("connect", reply)
    one_for_each(exchange)
    exchange.run()
    assert exchange.host(2).connections <= 4
    reasons = {one["last_error"] for one in exchange.recipients().values()}
    assert len(reasons) == 1
    assert reasons != {None}
    assert len(exchange.recipients()) == DOMAINS


def test_one_that_lets_no_further_session_in_carries_all_over_those_it_has(exchange):
    exchange.host(2).refuse("connect", "421 4.7.0 too many connections", after=1)
    one_for_each(exchange)
    exchange.run()
    assert len(exchange.got(2)) == DOMAINS
    assert {message.connection for message in exchange.host(2).messages} == {1}
    assert exchange.host(2).connections <= 4


def test_what_waits_for_a_slow_host_keeps_no_berth(exchange, monkeypatch):
    """Two berths, and thirty domains of a host that says nothing."""
    monkeypatch.setattr(rounds.berths, "MOST", 2)
    monkeypatch.setattr(owner, "GRACE", 0.2)
    exchange.agent.configure("MAXCONNECTIONS 1")
    exchange.host(2).refuse("connect", HANG)
    exchange.host(3)
    one_for_each(exchange)
    exchange.send("bob@other.test")

    async def once_the_other_has_it(one):
        until = time.monotonic() + 10
        while not exchange.host(3).messages and time.monotonic() < until:
            await asyncio.sleep(0.02)
        one._stop()

    exchange.run(beside=once_the_other_has_it)
    assert exchange.got(3) == [["bob@other.test"]]
    assert exchange.host(2).connections == 1


def test_told_to_stop_nothing_is_left_that_is_still_being_opened(exchange, monkeypatch):
    """It may come back when results can not be recorded any more."""
    monkeypatch.setattr(owner, "GRACE", 0.2)
    exchange.host(2).refuse("connect", HANG)
    one_for_each(exchange, 8)
    left = []

    async def stop(one):
        while not exchange.host(2).connections:
            await asyncio.sleep(0.02)
        one._stop()
        await asyncio.sleep(1)
        left.extend(task for relay in one.rounds._relays.values() for task in relay.sessions)

    exchange.run(beside=stop)
    assert left == []
    assert len(exchange.recipients()) == 8
    assert not [line for line in exchange.log if "internal error" in line]


# ---------------------------------------------------------------- the rules


class Line:
    """A session that only counts."""

    made = 0

    def __init__(self, target):
        self.target = target
        self.usable = True
        self.left = False

    async def quit(self):
        await asyncio.sleep(0)
        self.usable = False
        self.left = True


class Claim:
    def __init__(self, uid=ALICE):
        self.uid = uid
        self.wanted = True

    def ask(self, of):
        return of.ask({self.uid} if self.wanted else set())


class World:
    """A pool of `most` sessions a host; `refusing`: what the host says now instead of letting us in."""

    def __init__(self, most=2, berths=100, stays=False):
        self.berths = Berths(berths, berths)
        self.pool = Pool(self.berths, lambda: most, lambda: stays)
        self.made = []
        self.refusing = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def take(self, target, claim=None):
        async def open():
            await self.answers.wait()
            if self.refusing is not None:
                raise Refused(self.refusing)
            self.made.append(Line(target))
            return self.made[-1]

        return await self.pool.take(target, claim or Claim(), open)

    def idle(self):
        """Nothing is held that nobody uses."""
        return not self.pool._places and not self.pool._spare and not self.pool._held and self.berths._used == {}


def target(host="mx.test", port=25, level=OPPORTUNISTIC, login=None):
    return Target(host, port, TlsPolicy(level, "test"), login, smarthost=False)


def story(told):
    def test():
        asyncio.run(asyncio.wait_for(told(), 10))

    test.__name__ = told.__name__
    test.__doc__ = told.__doc__
    return test


@story
async def test_a_session_is_kept_while_somebody_is_on_the_way():
    world = World()
    with world.pool.expecting():
        first = await world.take(target())
        await world.pool.give_back(first)
        assert not first.left
        assert await world.take(target("MX.test")) is first
        await world.pool.give_back(first)
    second = await world.take(target())
    assert second is first
    await world.pool.give_back(second)  # nobody is on the way any more
    assert first.left
    assert world.idle()


@story
async def test_and_only_for_who_would_have_opened_the_same():
    world = World(most=4)
    with world.pool.expecting():
        first = await world.take(target())
        await world.pool.give_back(first)
        others = [target(level=NONE), target(port=26), target("other.test"), target(login=("alice", object()))]
        taken = [await world.take(other) for other in others]
        assert first not in taken
        assert not first.left
        assert len(world.made) == 5
        for one in taken:
            await world.pool.give_back(one)
    world.pool.close()
    await world.pool.ended()
    assert all(one.left for one in world.made)
    assert world.idle()


@story
async def test_a_spare_one_makes_room_for_one_of_another_kind():
    world = World(most=1)
    with world.pool.expecting():
        first = await world.take(target())
        await world.pool.give_back(first)
        second = await world.take(target(level=NONE))
        await asyncio.sleep(0.01)
        assert first.left
        await world.pool.give_back(second)


@story
async def test_one_that_the_host_closed_meanwhile_is_not_given_to_anybody():
    world = World()
    with world.pool.expecting():
        first = await world.take(target())
        await world.pool.give_back(first)
        first.usable = False
        assert await world.take(target()) is not first


@story
async def test_a_spare_one_ends_after_a_while():
    world = World(stays=True)
    kept, pool.KEPT = pool.KEPT, 0.05
    try:
        first = await world.take(target())
        await world.pool.give_back(first)
        assert not first.left
        await asyncio.sleep(0.2)
        assert first.left
        assert world.idle()
    finally:
        pool.KEPT = kept


@story
async def test_one_that_was_used_meanwhile_is_kept_as_long():
    world = World(stays=True)
    kept, pool.KEPT = pool.KEPT, 0.3
    try:
        first = await world.take(target())
        await world.pool.give_back(first)
        await asyncio.sleep(0.2)
        assert await world.take(target()) is first
        await world.pool.give_back(first)
        await asyncio.sleep(0.2)
        assert not first.left
        await asyncio.sleep(0.2)
        assert first.left
    finally:
        pool.KEPT = kept


@story
async def test_few_are_kept():
    world = World(stays=True)
    for number in range(pool.SPARE + 5):
        await world.pool.give_back(await world.take(target(f"mx{number}.test")))
    assert sum(not one.left for one in world.made) == pool.SPARE


@story
async def test_a_host_has_no_more_than_it_may_and_its_users_take_turns():
    world = World(most=1)
    first = await world.take(target(), Claim(MALLORY))
    order = []

    async def want(uid):
        session = await world.take(target(), Claim(uid))
        order.append(uid)
        await world.pool.give_back(session)

    tasks = [asyncio.create_task(want(uid)) for uid in [MALLORY] * 10 + [ALICE, BOB]]
    await asyncio.sleep(0.01)
    assert order == []
    await world.pool.give_back(first)
    await asyncio.wait(tasks)
    assert {ALICE, BOB} <= set(order[:4])
    assert world.idle()


@story
async def test_who_waited_hears_what_the_first_was_told():
    world = World(most=1)
    world.refusing = Outcome(DEFERRED, "421 not now", scope=RELAY)
    asked = 0

    async def want():
        nonlocal asked
        asked += 1
        try:
            await world.take(target())
        except Refused as refused:
            return refused.outcome
        raise AssertionError("let in")

    said = await asyncio.gather(*(want() for _ in range(10)))
    assert said == [world.refusing] * 10
    world.pool.forget_refusals()
    assert world.idle()


@pytest.mark.parametrize("asked_for", [False, True])
def test_and_who_comes_just_behind_hears_the_same_and_who_comes_later_asks_himself(asked_for, monkeypatch):
    monkeypatch.setattr(pool, "SAME", 10.0 if asked_for else 0.05)

    @story
    async def told():
        world = World(most=1)
        world.refusing = Outcome(DEFERRED, "421 not now", scope=RELAY)
        with pytest.raises(Refused):
            await world.take(target())
        world.refusing = None
        with pytest.raises(Refused) as refused:
            await world.take(target())
        assert refused.value.outcome.text == "421 not now"
        await world.pool.give_back(await world.take(target(login=("alice", object()))))  # to him it said nothing
        if asked_for:
            world.pool.forget_refusals()
        else:
            await asyncio.sleep(0.1)
        assert world.idle()
        await world.pool.give_back(await world.take(target()))
        assert len(world.made) == 2
        assert world.idle()

    told()


@story
async def test_a_refusal_while_it_has_some_means_enough():
    world = World(most=3)
    first = await world.take(target())
    world.refusing = Outcome(DEFERRED, "421 too many", scope=RELAY)
    tasks = [asyncio.create_task(world.take(target())) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in tasks)
    with world.pool.expecting():
        await world.pool.give_back(first)
        assert await tasks[0] is first
        await world.pool.give_back(first)
        assert await tasks[1] is first
    world.refusing = None
    await world.pool.give_back(first)
    assert world.idle()


@story
async def test_and_then_it_is_asked_for_no_other_however_many_it_might_have():
    world = World(most=4)
    first = await world.take(target())
    asked = 0

    async def open():
        nonlocal asked
        asked += 1
        raise Refused(Outcome(DEFERRED, "421 too many", scope=RELAY))

    task = asyncio.create_task(world.pool.take(target(), Claim(), open))
    await asyncio.sleep(0.01)
    assert asked == 1
    with world.pool.expecting():
        await world.pool.give_back(first)
        assert await task is first
    await world.pool.give_back(first)
    assert world.idle()


@story
async def test_when_it_has_none_it_may_have_as_many_as_ever():
    world = World(most=3)
    first = await world.take(target())
    world.refusing = Outcome(DEFERRED, "421 too many", scope=RELAY)
    tasks = [asyncio.create_task(world.take(target())) for _ in range(3)]
    await asyncio.sleep(0.01)
    world.refusing = None
    await world.pool.give_back(first)
    assert first.left
    await asyncio.wait(tasks, timeout=1)
    for task in tasks:
        await world.pool.give_back(task.result())
    assert world.idle()


@story
async def test_a_refused_login_is_not_tried_again_in_the_same_attempt():
    world = World(most=3)
    first = await world.take(target())
    world.refusing = Outcome(DEFERRED, "535 no", scope=RELAY, stage="AUTH")
    with pytest.raises(Refused):
        await world.take(target(login=("alice", object())))
    await world.pool.give_back(first)


@story
async def test_nor_is_it_down_when_it_had_one_just_now():
    world = World()
    first = await world.take(target())
    world.refusing = Outcome(DEFERRED, "421 too many", scope=RELAY)
    world.answers.clear()
    with world.pool.expecting():
        task = asyncio.create_task(world.take(target()))
        await asyncio.sleep(0.01)
        await world.pool.give_back(first)
        world.answers.set()
        assert await task is first
    await world.pool.give_back(first)
    assert world.idle()


@story
async def test_a_claim_that_is_not_wanted_any_more_opens_nothing():
    world = World(most=1)
    first = await world.take(target())
    late = Claim()
    task = asyncio.create_task(world.take(target(), late))
    await asyncio.sleep(0.01)
    late.wanted = False
    await world.pool.give_back(first)
    for attempt in (task, world.take(target(), late)):
        with pytest.raises(NotNow):
            await attempt
    assert len(world.made) == 1
    assert world.idle()


@story
async def test_one_that_is_given_up_in_the_middle_keeps_nobody_waiting():
    world = World(most=1, berths=1)
    first = await world.take(target())
    waits_for_the_host = asyncio.create_task(world.take(target()))
    waits_for_a_berth = asyncio.create_task(world.take(target("other.test")))
    await asyncio.sleep(0.01)
    for task in (waits_for_the_host, waits_for_a_berth):
        task.cancel()
    await asyncio.wait([waits_for_the_host, waits_for_a_berth])
    await world.pool.give_back(first)
    assert world.idle()
    last = await world.take(target("other.test"))
    await world.pool.give_back(last)


@story
async def test_at_the_end_nobody_is_let_in():
    world = World(most=1)
    first = await world.take(target())
    tasks = [asyncio.create_task(world.take(target(host))) for host in ("mx.test", "other.test")]
    await asyncio.wait(tasks[1:])
    world.pool.close()
    with pytest.raises(NotNow):
        await tasks[0]
    with pytest.raises(NotNow):
        await world.take(target("third.test"))
    for one in (first, tasks[1].result()):
        await world.pool.give_back(one)
        assert one.left
    assert world.idle()
