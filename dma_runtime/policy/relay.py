"""What is known about a relay that takes no mail: down until when, since when, why, and how often it answered.

A relay that is down costs one attempt, not one per message: the outcome of that attempt is kept here, beside the
queue, and every message behind the relay waits with it. The answers counted here count for the expiry of those
messages too (hard-parts.md, Time). Pure: the clock and the dice are arguments.
"""

from __future__ import annotations

from dma_runtime.outcome import MACHINE, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MACHINE_RETRY = 60  # seconds; no route or no resolver is a state of this machine and counts no back-off


class RelayState:
    """down_until: wall clock seconds, 0 when it takes mail. backoff: seconds of the last step. rounds: attempts in a row
    that failed. answers, first_answer, last_answer: as for a recipient. code, text, stage, hint: of the last outcome."""

    __slots__ = ("answers", "backoff", "code", "down_until", "first_answer", "hint", "last_answer", "rounds", "stage", "text")

    def __init__(self) -> None:
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

    def refused(self, outcome: Outcome, now: float, next_backoff: Callable[[float], float]) -> float:
        """Record an attempt that the relay, or this machine, refused. Returns the seconds to the next one."""
        self.rounds += 1
        if outcome.scope == MACHINE:
            wait = float(MACHINE_RETRY)
        else:
            wait = self.backoff = next_backoff(self.backoff)
        if outcome.answered:
            self.answers += 1
            self.first_answer = self.first_answer or now
            self.last_answer = now
        self.code, self.text, self.stage, self.hint = outcome.code, outcome.text, outcome.stage, outcome.hint
        self.down_until = now + wait
        return wait

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> RelayState:
        """Tolerant: a field of the wrong type keeps its default."""
        state = cls()
        for name in cls.__slots__:
            value = values.get(name)
            if isinstance(getattr(state, name), str):
                if isinstance(value, str):
                    setattr(state, name, value)
            elif isinstance(value, (int, float)):
                setattr(state, name, type(getattr(state, name))(value))
        return state
