"""What is known about a relay: whether it takes mail, and if not until when, since when, why, and how often it answered; and
how much went to it lately (`policy.pace`).

A relay that is down costs one attempt, not one per message: the outcome of that attempt is kept here, beside the
queue, and every message behind the relay waits with it. The answers noted here count for the expiry of those messages too
(hard-parts.md, Time): of five answers, each a quarter of an hour awake behind the one before, the last is an hour behind
the first. Only such are noted, and the last five of them are enough to tell for a message of any age.

Pure: the clocks and the dice are arguments.
"""

from __future__ import annotations

from dma_runtime.envelope import Moment
from dma_runtime.outcome import DEFERRED, MACHINE, PACE, Outcome
from dma_runtime.policy.pace import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MACHINE_RETRY = 60  # seconds; no route or no resolver is a state of this machine and counts no back-off
PACE_RETRY = 60  # seconds; the first wait when a relay asks for a slower pace: most count by the minute

ANSWERS = 5
APART = 900.0  # awake seconds between two of them

_TEXTS = ("text", "stage", "hint")
_NUMBERS = ("down_until", "backoff", "rounds", "code")


class RelayState:
    """down_until: wall clock seconds, 0 when it takes mail. backoff: seconds of the last step. rounds: attempts in a row
    that failed. heard: when it answered, the oldest first. code, text, stage, hint: of the last outcome. pace:
    what went to it lately."""

    __slots__ = ("backoff", "code", "down_until", "heard", "hint", "pace", "rounds", "stage", "text")

    def __init__(self) -> None:
        self.pace = Pace()
        self.works()

    def works(self) -> None:
        """It takes mail: what spoke against it is forgotten."""
        self.down_until = 0.0
        self.backoff = 0.0
        self.rounds = 0
        self.heard: list[Moment] = []
        self.code = 0
        self.text = ""
        self.stage = ""
        self.hint = ""

    def waits(self, now: float) -> bool:
        return self.down_until > now

    @property
    def outcome(self) -> Outcome:
        """Why it takes no mail, as it is told of a message that was not tried."""
        return Outcome(DEFERRED, self.text, code=self.code, stage=self.stage)

    def refused(self, outcome: Outcome, now: Moment, next_backoff: Callable[[float], float]) -> float:
        """Record an attempt that the relay, or this machine, refused. Returns the seconds to the next one.

        `next_backoff(last)` gives the step after `last`, the first one for 0.
        """
        self.rounds += 1
        if outcome.scope == MACHINE:
            wait = float(MACHINE_RETRY)
        elif outcome.scope == PACE and not self.backoff:
            wait = self.backoff = min(float(PACE_RETRY), next_backoff(0.0))
        else:
            wait = self.backoff = next_backoff(self.backoff)
        if outcome.answered:
            self._answered(now)
        self.code, self.text, self.stage, self.hint = outcome.code, outcome.text, outcome.stage, outcome.hint
        self.down_until = now.wall + wait
        return wait

    def _answered(self, now: Moment) -> None:
        last = self.heard[-1] if self.heard else None
        # Across a restart nobody knows how long the machine was awake: what it is since then.
        awake = now.awake - (last.awake if last is not None and last.boot == now.boot else 0.0)
        if last is None or awake >= APART:
            self.heard = [*self.heard, now][-ANSWERS:]

    def shift(self, seconds: float) -> None:
        """The wall clock was set: the wait stays as long as it was meant."""
        if self.down_until:
            self.down_until += seconds

    def believe(self, now: float) -> None:
        """No wait is longer than its last step; one that seems so was noted under another clock."""
        self.down_until = min(self.down_until, now + max(self.backoff, MACHINE_RETRY))

    def worth_keeping(self, now: float) -> bool:
        """Whether another owner should know of it."""
        return bool(self.rounds) or self.pace.counts(now)

    def to_json(self) -> dict[str, object]:
        heard = [[moment.wall, moment.up, moment.awake, moment.boot] for moment in self.heard]
        values = {name: getattr(self, name) for name in (*_NUMBERS, *_TEXTS)}
        return {"heard": heard, "pace": self.pace.to_json(), **values}

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> RelayState:
        """Tolerant: a field of the wrong type keeps its default."""
        state = cls()
        state.pace = Pace.from_json(values.get("pace"))
        for name in _TEXTS:
            if isinstance(value := values.get(name), str):
                setattr(state, name, value)
        for name in _NUMBERS:
            if isinstance(value := values.get(name), (int, float)) and _sound(value):
                setattr(state, name, type(getattr(state, name))(value))
        listed = values.get("heard")
        for item in listed if isinstance(listed, list) else ():
            match item:
                case [int() | float() as wall, int() | float() as up, int() | float() as awake, str() as boot] if (
                    _sound(wall) and _sound(up) and _sound(awake)
                ):
                    state.heard.append(Moment(float(wall), float(up), float(awake), boot))
        return state


def _sound(number: float) -> bool:
    """No infinity, no NaN, and nothing that a float cannot hold."""
    return abs(number) < 1 << 53
