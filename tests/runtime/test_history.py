"""The fold: what became of each recipient, and how long it takes when clocks lie."""

import json

import pytest

from dma_runtime.envelope import Envelope, Moment, Recipient
from dma_runtime.history import QUEUED, attempt_event, elapsed, fold, outcome_of
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, MACHINE, RELAY, Outcome

T = 1_790_000_000.0
SOFT = Outcome(
    DEFERRED, "451 4.2.0 later\nmore", scope=RELAY, code=451, status="4.2.0", stage="RCPT TO", relay="r [::1]", answered=True
)
GOOD = Outcome(DELIVERED, "250 ok", code=250, answered=True)
BAD = Outcome(FAILED, "550 no", code=550, status="5.1.1", answered=True, tell=True, hint="Ask.")
NO_ROUTE = Outcome(DEFERRED, "no route", scope=MACHINE)


def envelope(count=3):
    return Envelope("m", "me@x", [Recipient(f"r{number}@x") for number in range(count)], T)


def at(seconds, boot="b1"):
    return Moment(T + seconds, 100 + seconds, 90 + seconds, boot)


def tried(outcome, indices, seconds, wait=None, boot="b1"):
    event = attempt_event(
        outcome, indices, at(seconds, boot), due=None if wait is None else T + seconds + wait, backoff=wait or 0.0
    )
    return json.loads(json.dumps(event))  # as it comes back from the log


def test_nothing_happened_yet():
    state = fold(envelope(), [])
    assert [r.state for r in state.recipients] == [QUEUED] * 3
    assert state.open == [0, 1, 2]
    assert state.due == 0.0
    assert not state.tried
    assert not state.held


def test_mixed_outcomes():
    state = fold(envelope(), [tried(GOOD, [0], 1), tried(BAD, [2], 1), tried(SOFT, [1], 2, 300)])
    assert [r.state for r in state.recipients] == [DELIVERED, DEFERRED, FAILED]
    assert state.open == [1]
    assert state.due == T + 302
    assert state.tried
    assert state.recipients[1].backoff == 300
    assert state.recipients[1].last == SOFT
    assert state.recipients[2].last == BAD


def test_the_earliest_of_those_left_counts():
    state = fold(envelope(), [tried(SOFT, [0], 1, 900), tried(SOFT, [1, 2], 1, 300), tried(GOOD, [1, 2], 301)])
    assert state.due == T + 901
    assert fold(envelope(), [tried(GOOD, [0, 1, 2], 1)]).due is None


def test_outcomes_come_back_equal():
    for outcome in (SOFT, GOOD, BAD, NO_ROUTE):
        assert outcome_of(tried(outcome, [0], 1)) == outcome


def test_attempts_for_want_of_network_are_not_counted():
    recipient = fold(envelope(), [tried(NO_ROUTE, [0], 1, 60), tried(SOFT, [0], 61, 300)]).recipients[0]
    assert (recipient.attempts, recipient.answers) == (1, 1)


def test_hold_and_release():
    held = [tried(SOFT, [0], 1, 300), {"do": "hold", "at": T}]
    assert fold(envelope(), held).held
    assert not fold(envelope(), [*held, {"do": "release", "at": T}]).held


def test_kept_stays_in_sight():
    assert fold(envelope(1), [tried(BAD, [0], 1), {"do": "kept", "at": T, "why": "nobody"}]).kept == "nobody"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"do": "sing"},
        {"do": "attempt"},
        {"do": "attempt", "r": [99, -1, "0", None], "kind": "delivered"},
        {"do": "attempt", "r": 7, "at": "x", "next": [], "kind": "delivered"},
    ],
)
def test_events_of_another_version_are_passed_over(event):
    state = fold(envelope(), [event])
    assert state.open == [0, 1, 2]


def test_an_outcome_that_cannot_be_read_is_a_deferral():
    state = fold(envelope(1), [{"do": "attempt", "r": [0], "kind": "exploded", "code": "x", "next": T + 5}])
    assert state.recipients[0].state == DEFERRED
    assert state.open == [0]


# ---------------------------------------------------------------- clocks


def test_awake_time_of_answers_adds_up_within_a_boot():
    recipient = fold(envelope(), [tried(SOFT, [0], s, 300) for s in (0, 1000, 5000)]).recipients[0]
    assert (recipient.answers, recipient.answering) == (3, 5000)


def test_awake_time_does_not_count_suspend():
    first, second = tried(SOFT, [0], 0, 300), tried(SOFT, [0], 90000, 300)
    second["awake"] = first["awake"] + 40
    assert fold(envelope(), [first, second]).recipients[0].answering == 40


def test_awake_time_across_a_restart_is_not_made_up():
    events = [tried(SOFT, [0], 0, 300), tried(SOFT, [0], 1000, 300, boot="b2"), tried(SOFT, [0], 1500, 300, boot="b2")]
    assert fold(envelope(), events).recipients[0].answering == 500


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (at(100), 301),  # nothing special: as it was meant
        (Moment(T + 100 + 10**7, 200, 190, "b1"), 10**7 + 301),  # the clock was set forward: still 201 s to wait
        (Moment(T + 100 - 10**7, 200, 190, "b1"), -(10**7) + 301),  # and backward
        (Moment(T - 10**7, 5, 5, "b2"), -(10**7) + 300),  # restarted with a clock behind: at most the whole wait
        (Moment(T + 5000, 5, 5, "b2"), 5000),  # restarted later: at once
    ],
)
def test_waits_are_as_long_as_they_were_meant(now, due):
    state = fold(envelope(1), [tried(SOFT, [0], 1, 300)], now)
    assert state.due == pytest.approx(T + due)


def test_what_was_never_tried_stays_due_at_once():
    assert fold(envelope(1), [], at(5)).due == 0.0


def test_elapsed():
    assert elapsed(at(0), at(70)) == 70
    assert elapsed(at(0), Moment(T + 999_999, 105, 95, "b1")) == 5
    assert elapsed(at(0), Moment(T - 50, 1, 1, "b2")) == 0
    assert elapsed(at(0), Moment(T + 50, 1, 1, "b2")) == 50
    assert elapsed(Moment(T), Moment(T + 5)) == 5


class TestRetryOfWhatWasKept:
    KEPT = {"do": "kept", "at": T, "why": "nobody", "r": [1]}
    RETRY = {"do": "retry", "at": T + 1}

    def test_those_nobody_was_told_of_are_open_again(self):
        state = fold(envelope(3), [tried(BAD, [0], 1), tried(GOOD, [2], 2), tried(BAD, [1], 3), self.KEPT, self.RETRY])
        assert (state.open, state.kept) == ([1], "")
        assert (state.recipients[1].state, state.recipients[1].next_attempt) == (QUEUED, 0.0)
        assert (state.recipients[0].state, state.recipients[2].state) == (FAILED, DELIVERED)

    def test_a_log_of_before_does_not_name_them(self):
        kept = {"do": "kept", "at": T, "why": "nobody"}
        state = fold(envelope(2), [tried(GOOD, [0], 1), tried(BAD, [1], 2), kept, self.RETRY])
        assert (state.open, state.kept) == ([1], "")

    def test_it_may_fail_and_be_kept_again(self):
        events = [tried(BAD, [0, 1], 1), {**self.KEPT, "r": [0, 1]}, self.RETRY, tried(GOOD, [0], 2), tried(BAD, [1], 3), self.KEPT]
        state = fold(envelope(2), events)
        assert (state.open, state.kept, state.untold) == ([], "nobody", [1])
        assert fold(envelope(2), [*events, self.RETRY]).open == [1]

    def test_what_was_not_kept_stays_as_it_is(self):
        state = fold(envelope(2), [tried(BAD, [0], 1), self.RETRY])
        assert state.open == [1]
