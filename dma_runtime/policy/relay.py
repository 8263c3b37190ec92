"""What is known about a relay: whether it takes mail and if not until when, since when, why, and how often it answered; and
how much went to it lately (`policy.pace`).

A relay that is down costs one attempt, not one per message: the outcome of that attempt is kept here, beside the
queue, and every message behind the relay waits with it. The answers counted here count for the expiry of those
messages too (hard-parts.md, Time). Pure: the clock and the dice are arguments.
"""

from __future__ import annotations

from dma_runtime.outcome import DEFERRED, MACHINE, PACE, Outcome
from dma_runtime.policy.pace import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MACHINE_RETRY = 60  # seconds; no route or no resolver is a state of this machine and counts no back-off
PACE_RETRY = 60  # seconds; the first wait when a relay asks for a slower pace: most count by the minute


class RelayState:
    """down_until: wall clock seconds, 0 when it takes mail. backoff: seconds of the last step. rounds: attempts in a row
    that failed. answers, first_answer, last_answer: as for a recipient. code, text, stage, hint: of the last outcome.
    pace: what went to it lately."""

    _VALUES = ("answers", "backoff", "code", "down_until", "first_answer", "hint", "last_answer", "rounds", "stage", "text")
    __slots__ = (*_VALUES, "pace")

    def __init__(self) -> None:
        self.pace = Pace()
        self.works()

    def works(self) -> None:
        """It takes mail: what spoke against it is forgotten."""
        self.down_until = 0.0
        self.backoff = 0.0
        self.rounds = 0
        self.answers = 0
        self.first_answer = 0.0
        self.last_answer = 0.0
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

    def refused(self, outcome: Outcome, now: float, next_backoff: Callable[[float], float]) -> float:
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
            self.answers += 1
            self.first_answer = self.first_answer or now
            self.last_answer = now
        self.code, self.text, self.stage, self.hint = outcome.code, outcome.text, outcome.stage, outcome.hint
        self.down_until = now + wait
        return wait

    def shift(self, seconds: float) -> None:
        """The wall clock was set: waits stay as long as they were meant."""
        if self.down_until:
            self.down_until += seconds

    def worth_keeping(self, now: float) -> bool:
        """Whether another owner should know of it."""
        return bool(self.rounds) or self.pace.counts(now)

    def to_json(self) -> dict[str, object]:
        values = {name: getattr(self, name) for name in self._VALUES} if self.rounds else {}
        return values | {"pace": self.pace.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> RelayState:
        """Tolerant: a field of the wrong type keeps its default."""
        state = cls()
        state.pace = Pace.from_json(values.get("pace"))
        for name in cls._VALUES:
            value = values.get(name)
            if isinstance(getattr(state, name), str):
                if isinstance(value, str):
                    setattr(state, name, value)
            elif isinstance(value, (int, float)):
                setattr(state, name, type(getattr(state, name))(value))
        return state
