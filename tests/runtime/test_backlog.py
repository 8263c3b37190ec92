"""Whose turn it is at a relay: a fresh message does not wait behind ten thousand, and neither lane starves."""

import time

import pytest

from dma_runtime.delivery.backlog import FRESH_IN_A_ROW, Backlog, Work
from dma_runtime.delivery.queue import Item
from dma_runtime.envelope import Envelope, Moment, Recipient
from dma_runtime.history import fold
from dma_runtime.outcome import DEFERRED, PACE, RELAY, Outcome
from dma_runtime.policy.relay import RelayState
from dma_runtime.policy.route import Hop
from dma_runtime.system import relays

ONE, OTHER = Hop("one.test", 25), Hop("other.test", 25)
MOMENT = Moment(1_800_000_000.0, 1.0, 1.0, "b")


def work(name, *, waited=False, tried=(), uid=0):
    envelope = Envelope(name, "a@x", [Recipient("b@x")], MOMENT.wall)
    envelope.uid = uid
    item = Item(envelope, fold(envelope, [], MOMENT))
    item.fresh = not waited
    return Work(item, [0], frozenset(tried))


def taken(backlog, hop=ONE):
    names = []
    while (found := backlog.next(hop)) is not None:
        names.append(found.item.id)
    return names


def test_first_come_first_served():
    backlog = Backlog()
    for name in "abc":
        backlog.add(work(name))
    assert backlog.head.item.id == "a"
    assert taken(backlog) == ["a", "b", "c"]
    assert not backlog
    assert backlog.head is None


def test_a_fresh_message_passes_ten_thousand_deferred_ones():
    backlog = Backlog()
    for number in range(10_000):
        backlog.add(work(f"old{number}", waited=True))
    backlog.add(work("fresh"))
    assert "fresh" in [backlog.next(ONE).item.id for _ in range(2)]


def test_neither_lane_starves():
    backlog = Backlog()
    for number in range(40):
        backlog.add(work(f"old{number}", waited=True))
        backlog.add(work(f"new{number}"))
    first = [backlog.next(ONE).item.id[:3] for _ in range(20)]
    assert first.count("old") == 20 // (FRESH_IN_A_ROW + 1)
    assert len(taken(backlog)) == 60


@pytest.mark.parametrize("waited", [False, True])
def test_nobody_waits_behind_the_thousand_messages_of_another(waited):
    backlog = Backlog()
    for number in range(1000):
        backlog.add(work(f"mallory{number}", uid=1003, waited=waited))
    for name in ("alice0", "alice1"):
        backlog.add(work(name, uid=1001, waited=waited))
    backlog.add(work("bob0", uid=1002, waited=waited))
    assert len(backlog) == 1003
    expected = ["mallory0", "alice0", "bob0", "mallory1", "alice1", "mallory2", "mallory3"]
    assert [one.item.id for one in backlog][:7] == expected
    assert [backlog.next(ONE).item.id for _ in range(7)] == expected
    backlog.add(work("alice2", uid=1001, waited=waited))
    assert [backlog.next(ONE).item.id for _ in range(3)] == ["mallory4", "alice2", "mallory5"]


def test_what_comes_back_of_one_user_is_next():
    backlog = Backlog()
    for name, uid in (("a", 1), ("b", 2), ("c", 1)):
        backlog.add(work(name, uid=uid))
    first, second = backlog.next(ONE), backlog.next(ONE)
    backlog.put_back([first, second])
    assert backlog.head is first
    assert taken(backlog) == ["a", "b", "c"]


def test_what_comes_back_is_next():
    backlog = Backlog()
    for name in "ab":
        backlog.add(work(name))
    first = backlog.next(ONE)
    second = backlog.next(ONE)
    backlog.add(work("c"))
    backlog.put_back([first, second])
    assert taken(backlog) == ["a", "b", "c"]


def test_a_host_takes_only_what_it_has_not_tried():
    backlog = Backlog()
    backlog.add(work("a", tried=[ONE]))
    backlog.add(work("b"))
    assert backlog.has(ONE)
    assert backlog.next(ONE).item.id == "b"
    assert not backlog.has(ONE)
    assert backlog.next(ONE) is None
    assert len(backlog) == 1
    assert taken(backlog, OTHER) == ["a"]


def test_taking_out_what_some_hosts_have_tried():
    backlog = Backlog()
    works = [work("a", tried=[ONE]), work("b"), work("c", tried=[ONE, OTHER], uid=1), work("d", tried=[OTHER], waited=True)]
    for one in works:
        backlog.add(one)
    assert backlog.take_tried(frozenset([ONE])) == [works[0], works[2]]
    assert list(backlog) == [works[1], works[3]]
    assert len(backlog) == 2


def test_taking_out():
    backlog = Backlog()
    one, other = work("a"), work("b", waited=True)
    backlog.add(one)
    backlog.add(other)
    assert backlog.remove(other)
    assert not backlog.remove(other)
    assert backlog.take_all() == [one]
    assert not backlog


def test_an_item_is_fresh_no_more_and_is_found_all_the_same():
    """`fresh` is the item's, and ends with its round, while another part of it may wait here still."""
    backlog = Backlog()
    one = work("a")
    backlog.add(one)
    one.item.fresh = False
    assert backlog.remove(one)
    assert len(backlog) == 0


@pytest.mark.parametrize("users", [1, 500])
def test_what_one_host_deferred_is_not_looked_at_again_for_each_that_follows(users):
    """Ten thousand took half a minute, the square of their number."""
    backlog = Backlog()
    for number in range(10_000):
        backlog.add(work(f"m{number}", uid=number % users))
    began = time.monotonic()
    for _ in range(10_000):
        deferred = backlog.next(ONE)
        backlog.put_back([Work(deferred.item, [0], frozenset([ONE]))])
        assert backlog.has(OTHER)
        assert backlog.head.tried
    assert not backlog.has(ONE)
    assert len(backlog) == 10_000
    assert len(taken(backlog, OTHER)) == 10_000
    assert time.monotonic() - began < 5


# ---------------------------------------------------------------- the relay's own state


def down(scope, text="4 later"):
    state = RelayState()
    outcome = Outcome(DEFERRED, text, scope=scope, stage="MAIL FROM", answered=True)
    state.refused(outcome, MOMENT, lambda last: last * 2 or 300.0)
    return state


def test_a_clock_that_is_set_back_holds_nobody_for_a_day():
    state = down(RELAY)
    state.shift(-86400)
    assert state.down_until - (MOMENT.wall - 86400) == 300
    untouched = RelayState()
    untouched.shift(1000)
    assert not untouched.waits(MOMENT.wall)


def test_a_slower_pace_is_a_minute_then_the_back_off():
    state = down(PACE)
    assert state.down_until - MOMENT.wall == 60
    again = state.refused(Outcome(DEFERRED, "slow down", scope=PACE), MOMENT, lambda last: last * 2 or 300.0)
    assert again == 120
    state.works()
    assert (state.rounds, state.backoff, state.waits(MOMENT.wall)) == (0, 0.0, False)


def test_what_went_is_remembered_when_the_relay_works_again(tmp_path):
    states = {"relay.test:25": down(RELAY), "other.test:25": RelayState()}
    states["relay.test:25"].pace.took(((5, 3600),), MOMENT.wall, 5)
    states["relay.test:25"].works()
    relays.write(str(tmp_path), states, MOMENT.wall)
    found = relays.read(str(tmp_path), MOMENT.wall)
    assert list(found) == ["relay.test:25"]
    assert found["relay.test:25"].pace.free(((5, 3600),), MOMENT.wall) == 0
    assert not found["relay.test:25"].rounds
    relays.write(str(tmp_path), found, MOMENT.wall + 7200)
    assert not (tmp_path / "relays").exists()
