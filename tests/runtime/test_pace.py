"""RATE: never more than so many in any stretch of time, and as soon as that allows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dma_runtime.config import rate
from dma_runtime.policy.pace import Pace

NOW = 1_800_000_000.0


def test_so_many_at_once_and_then_one_by_one():
    pace, rates = Pace(), rate("30/m")
    for _ in range(30):
        assert pace.free(rates, NOW) > 0
        pace.took(rates, NOW)
    assert pace.free(rates, NOW) == 0
    assert pace.free(rates, NOW + 59) == 0
    assert pace.free(rates, NOW + 61) == 30


def test_nothing_said_is_no_limit():
    pace = Pace()
    pace.took((), NOW, 1000)
    assert pace.free((), NOW) > 1000
    assert pace.when((), NOW, 5000) == NOW
    assert not pace.counts(NOW)


def test_each_that_waits_has_its_own_time():
    pace, rates = Pace(), rate("2/m 5/h")
    assert [pace.when(rates, NOW, place) for place in range(2)] == [NOW, NOW]
    assert [round(pace.when(rates, NOW, place) - NOW) for place in range(2, 5)] == [60, 60, 120]
    assert pace.when(rates, NOW, 5) - NOW == 3600
    pace.took(rates, NOW, 2)
    assert 60 <= pace.when(rates, NOW) - NOW <= 61
    assert pace.when(rates, NOW, 3) - NOW >= 3600


def test_what_did_not_go_is_free_again():
    pace, rates = Pace(), rate("3/m")
    pace.took(rates, NOW, 3)
    pace.took(rates, NOW, -2)
    assert pace.free(rates, NOW) == 2


def test_the_next_owner_goes_on_counting():
    pace, rates = Pace(), rate("30/m 500/d")
    pace.took(rates, NOW, 30)
    again = Pace.from_json(json.loads(json.dumps(pace.to_json())))
    assert again.free(rates, NOW + 1) == 0
    assert again.free(rates, NOW + 62) == 30
    assert again.free(rate("500/d"), NOW + 62) == 470
    assert again.counts(NOW + 62)
    assert not again.counts(NOW + 2 * 86400)


@pytest.mark.parametrize("said", [None, [], {"60": 3}, {"60": [[1]]}, {"x": [[1, 2]]}, {"60": [["a", "b"]]}, {"0": [[1, 2]]}])
def test_a_file_that_makes_no_sense_counts_for_nothing(said):
    assert Pace.from_json(said).free(rate("1/m"), NOW) == 1


def test_a_clock_set_back_frees_nothing_and_locks_nothing():
    pace, rates = Pace(), rate("10/m")
    pace.took(rates, NOW, 10)
    earlier = NOW - 86400
    assert pace.free(rates, earlier) == 0
    assert pace.free(rates, earlier + 62) == 10


@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4)), max_size=80),
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from([1, 60, 3600])), min_size=1, max_size=3).map(tuple),
)
def test_no_stretch_of_time_holds_more(steps, rates):
    """Whoever sends only what `free` allows, and comes again when `when` says, keeps every rate and is never stuck."""
    pace, now, sent = Pace(), NOW, []
    for wait, wanted in steps:
        now += wait
        may = min(wanted, pace.free(rates, now))
        if may <= 0:
            due = pace.when(rates, now)
            assert now < due
            assert pace.free(rates, due - 0.01) <= 0  # not a moment too late
            assert pace.free(rates, due) > 0
            now, may = due, 1
        for _ in range(may):
            sent.append(now)
        pace.took(rates, now, may)
        for number, seconds in rates:
            assert sum(1 for at in sent if at > now - seconds) <= number
