"""Back-off as C dma's, and the conditions without which nothing expires."""

import random

import pytest

from dma_runtime.envelope import Envelope, Moment, Recipient
from dma_runtime.history import attempt_event, fold
from dma_runtime.outcome import DEFERRED, FAILED, Outcome
from dma_runtime.policy import retry
from dma_runtime.policy.relay import RelayState

T = 1_790_000_000.0
DAY = 86400
SOFT = Outcome(DEFERRED, "451 later", code=451, status="4.2.0", stage="RCPT TO", relay="r [::1]", answered=True)
SILENT = Outcome(DEFERRED, "timed out")


def at(seconds, boot="b1", awake=None):
    return Moment(T + seconds, 100 + seconds, 100 + (seconds if awake is None else awake), boot)


def waiting(times, outcome=SOFT, boot="b1", accepted=T):
    """A message tried at `times`: numbers, or moments."""
    made = Envelope("m", "me@x", [Recipient("r@x")], accepted)
    moments = [time if isinstance(time, Moment) else at(time, boot) for time in times]
    return made, fold(made, [attempt_event(outcome, [0], moment, due=moment.wall + 300, backoff=300) for moment in moments])


def expired(message, now, answered=True, expire=5 * DAY, **keywords):
    made, state = message
    return retry.expired(made, state, 0, now, expire, answered=answered, **keywords)


# ---------------------------------------------------------------- back-off


def test_steps_are_c_dmas():
    assert retry.next_backoff(0, (300, 10800), lambda: 0.99) == 300
    assert retry.next_backoff(300, (300, 10800), lambda: 0.0) == 450
    assert retry.next_backoff(300, (300, 10800), lambda: 0.999) == pytest.approx(749.7)
    assert retry.next_backoff(9000, (300, 10800), lambda: 0.0) == 10800
    assert retry.next_backoff(10800, (300, 10800), lambda: 0.5) == 10800


def test_a_schedule_reaches_the_longest_step_and_stays():
    dice = random.Random(1).random
    step, steps = 0.0, []
    for _ in range(12):
        step = retry.next_backoff(step, (300, 10800), dice)
        steps.append(step)
    assert steps == sorted(steps)
    assert steps[-1] == 10800


# ---------------------------------------------------------------- expiry

OFTEN = (0, 1000, 2000, 3000, 4000)


def test_old_and_answered_often_enough_expires():
    assert expired(waiting(OFTEN), at(5 * DAY + 1))


def test_not_before_its_time():
    assert not expired(waiting(OFTEN), at(5 * DAY - 1))


def test_four_answers_are_not_enough():
    assert not expired(waiting(OFTEN[:3]), at(5 * DAY + 1))
    assert expired(waiting(OFTEN[:4]), at(5 * DAY + 1))  # the present one is the fifth
    assert not expired(waiting(OFTEN[:4]), at(5 * DAY + 1), answered=False)


def test_attempts_without_an_answer_do_not_count():
    assert not expired(waiting(range(0, 4 * DAY, 3600), SILENT), at(5 * DAY + 1), answered=False)
    assert not expired(waiting(range(0, 4 * DAY, 3600), SILENT), at(5 * DAY + 1), answered=True)


def test_five_answers_within_an_hour_are_not_enough():
    base = 5 * DAY
    quick = waiting([base + s for s in (0, 900, 1800, 2700)])
    assert not expired(quick, at(base + 3599))
    assert expired(quick, at(base + 3600))


def test_a_notebook_asleep_for_a_week_bounces_nothing():
    moments = [at(s, awake=s) for s in (0, 300, 700)] + [at(7 * DAY + s, awake=701 + s) for s in (1, 60)]
    assert not expired(waiting(moments), at(7 * DAY + 120, awake=821))
    assert expired(waiting(moments), at(7 * DAY + 4000, awake=4701))


def test_a_clock_set_forward_ages_nothing():
    message = waiting(OFTEN)
    message[0].boot, message[0].up = "b1", 100.0
    assert not expired(message, Moment(T + 30 * DAY, 100 + 5000, 100 + 5000, "b1"))
    assert expired(message, Moment(T + 30 * DAY, 101 + 5 * DAY, 100 + 5000, "b1"))


@pytest.mark.parametrize("accepted", [0.0, 1_000_000_000.0, T + 400 * DAY])
def test_an_impossible_time_of_acceptance_is_replaced_by_the_first_attempt(accepted):
    message = waiting(OFTEN, accepted=accepted)
    assert not expired(message, at(5 * DAY - 1))
    assert expired(message, at(5 * DAY + 1))


def test_an_impossible_time_and_no_attempt_is_no_age():
    made, state = waiting([], accepted=5.0)
    assert retry.age(made, state, at(5 * DAY)) == 0.0


def test_age_across_a_restart_is_by_the_wall_clock():
    message = waiting(OFTEN)
    message[0].boot, message[0].up = "b0", 7.0
    assert expired(message, at(5 * DAY + 1))
    assert not expired(message, at(5 * DAY - 1))


def down(moments):
    """A relay that refused at each of `moments`."""
    relay = RelayState()
    for moment in moments:
        relay.refused(SOFT, moment, lambda last: 300.0)
    return relay


def behind(relay, message, now):
    return expired(message, now, answered=False, relay=relay)


def test_answers_of_the_relay_it_waits_behind_count():
    now = at(5 * DAY + 1)
    assert behind(down(at(s) for s in OFTEN), waiting([]), now)
    assert not behind(down(at(s) for s in OFTEN[:4]), waiting([]), now)
    assert not behind(down(at(900 * n - 10) for n in range(5)), waiting([]), now)  # one of the five was before it came


def test_a_relay_that_was_down_before_the_message_came_ends_it_too():
    """Its answers since then are what counts, however long it is down."""
    refused = [at(s, awake=s + 30 * DAY) for s in range(-30 * DAY, 5 * DAY, 10800)]
    assert behind(down(refused), waiting([]), at(5 * DAY + 1))


def test_a_relay_asked_every_minute_is_not_asked_often_in_an_hour():
    refused = [at(s) for s in range(0, 3540, 60)]
    assert not behind(down(refused), waiting([]), at(5 * DAY + 1))
    assert behind(down([*refused, at(3600)]), waiting([]), at(5 * DAY + 1))


def test_a_relay_refused_before_and_after_a_week_asleep():
    asleep = [at(s, awake=s) for s in (0, 300)] + [at(7 * DAY + s, awake=301 + s) for s in (60, 120, 180)]
    assert not behind(down(asleep), waiting([]), at(7 * DAY + 240, awake=541))


def test_a_relay_across_restarts_of_the_machine():
    short = [Moment(T + s, 60, 60, f"b{s}") for s in range(0, 5 * DAY, 3600)]  # each time up for a minute
    assert not behind(down(short), waiting([]), at(5 * DAY + 1))
    longer = [Moment(T + s, 1000, 1000, f"b{s}") for s in range(0, 5 * DAY, 3600)]
    assert behind(down(longer), waiting([]), at(5 * DAY + 1))


def test_given_up_says_so_and_keeps_the_last_reply():
    final = retry.given_up(SOFT, 5 * DAY)
    assert final.kind == FAILED
    assert final.text == "Could not deliver for the last 432000 seconds. Giving up.\n451 later"
    assert (final.code, final.status, final.stage, final.relay) == (451, "5.2.0", "RCPT TO", "r [::1]")
    assert retry.given_up(SILENT, DAY).status == "5.4.7"
