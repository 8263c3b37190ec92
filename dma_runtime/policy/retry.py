"""When to try again, and when to give up. Pure: clock and dice are arguments.

- Back-off is C dma's (dma.c:341-400): 5 minutes, then 1.5 times the last plus up to once the last by chance; at most
  3 hours.
- Age alone never ends a message. It expires when it is older than EXPIRE *and* at least `ANSWERS` attempts got an answer
  from a relay or resolver, the last at least an hour of awake time after the first (hard-parts.md, Time). A laptop that
  slept through five days, or a clock set wrong, bounces nothing.
- Age is told by the clock that runs through suspend while the boot is the same one. Otherwise by the wall clock, if it
  can be believed: a time in the future, or before this program was written, is replaced by that of the first event.
"""

from __future__ import annotations

from dma_runtime.envelope import Envelope, Moment
from dma_runtime.history import Progress, State, elapsed
from dma_runtime.outcome import FAILED, Outcome
from dma_runtime.policy import relay as relays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.policy.relay import RelayState

ANSWERS = relays.ANSWERS
ANSWERING = 3600.0  # seconds
WRITTEN = 1763769600.0  # 22 November 2025; no message is older than the program that took it


def next_backoff(last: float, schedule: tuple[int, int], dice: Callable[[], float]) -> float:
    """Seconds to the next attempt. `last` is the step before, 0 for the first; `dice` gives a number in [0, 1)."""
    first, longest = schedule
    if not last:
        return float(first)
    return min(float(longest), last * 1.5 + dice() * last)


def age(envelope: Envelope, state: State, now: Moment) -> float:
    """Seconds since the message was accepted, as far as the clocks can be believed."""
    if envelope.boot and envelope.boot == now.boot:
        return max(0.0, now.up - envelope.up)
    for since in (envelope.accepted_at, state.first_at):
        if WRITTEN <= since <= now.wall:
            return now.wall - since
    return 0.0


def expired(
    envelope: Envelope,
    state: State,
    index: int,
    now: Moment,
    expire: float,
    *,
    answered: bool,
    relay: RelayState | None = None,
) -> bool:
    """Whether recipient `index` is to be given up after the attempt at `now`; `answered`: that attempt got an answer.

    `relay`: the state of a relay the message waits behind. Its answers since the message came in are the message's too:
    one attempt is made for all (policy.relay).
    """
    old = age(envelope, state, now)
    if old <= expire:
        return False
    progress: Progress = state.recipients[index]
    answers, answering = progress.answers, progress.answering
    if answered:
        after = Progress()
        after.answers, after.answering = answers, answering
        after._heard, after._boot = progress._heard, progress._boot
        after.heard(now)
        answers, answering = after.answers, after.answering
    if relay is not None and len(relay.heard) >= ANSWERS and elapsed(relay.heard[0], now) <= old:
        return True
    return answers >= ANSWERS and answering >= ANSWERING


def given_up(outcome: Outcome, expire: float) -> Outcome:
    """The deferral `outcome` as a failure, in C dma's words, with the last reply."""
    text = f"Could not deliver for the last {expire:.0f} seconds. Giving up.\n{outcome.text}"
    status = "5.4.7" if not outcome.status else "5" + outcome.status[1:]  # RFC 3463 3.5: delivery time expired
    return Outcome(
        FAILED, text, code=outcome.code, status=status, stage=outcome.stage, relay=outcome.relay, answered=outcome.answered
    )
