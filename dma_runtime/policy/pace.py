"""How fast mail may go to a relay: `RATE 30/m 500/d` says so many messages in any minute and in any day.

Rules:
- In no stretch of time of a rate's length more than its number go out. What went is counted in sixtieths of that length, and
  a count leaves when the whole of its sixtieth has become too old: never too fast, and too slow by a sixtieth at most.
- What has to wait is given the moment its turn comes, each message its own, so that a thousand that wait do not all wake
  for one place.
- The counts live with what is known of the relay (`policy.relay`), beside the queue: an owner that comes later goes on
  counting where the last one stopped.
- A wall clock that was set back makes the counts younger, never free.

Pure: the clock is an argument, in wall clock seconds.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Rates = tuple[tuple[int, int], ...]  # (messages, seconds), as `config.rate` reads them

_PARTS = 60  # of the length of a rate


_UNITS = {1: "s", 60: "m", 3600: "h", 86400: "d", 604800: "w"}


def said(rates: Rates) -> str:
    """As in dma.conf: `30/m 500/d`."""
    return " ".join(f"{number}/{_UNITS.get(seconds, seconds)}" for number, seconds in rates)


class Pace:
    """What went to one relay lately, for each length of time that a rate speaks of."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, list[tuple[float, int]]] = {}  # seconds -> (beginning of a part, messages), oldest first

    def counts(self, now: float) -> bool:
        """Whether anything that went still counts."""
        return any(self._current(seconds, now) for seconds in list(self._counts))

    def free(self, rates: Rates, now: float) -> int:
        """How many messages may go now; large where nothing is said."""
        return min((number - self._used(seconds, now) for number, seconds in rates), default=1 << 30)

    def when(self, rates: Rates, now: float, place: int = 0) -> float:
        """When the message may go that has `place` others before it."""
        return max((self._when(number, seconds, now, place) for number, seconds in rates), default=now)

    def took(self, rates: Rates, now: float, messages: int = 1) -> None:
        """So many more went, or (a negative number) did not go after all."""
        for _, seconds in rates:
            counts = self._current(seconds, now)
            part = seconds / _PARTS
            begins = now - now % part
            if counts and counts[-1][0] == begins:
                messages_there = max(0, counts[-1][1] + messages)
                counts[-1] = (begins, messages_there)
            elif messages > 0:
                counts.append((begins, messages))

    def _used(self, seconds: int, now: float) -> int:
        return sum(count for _, count in self._current(seconds, now))

    def _current(self, seconds: int, now: float) -> list[tuple[float, int]]:
        """The counts that still count."""
        counts = self._counts.setdefault(seconds, [])
        part = seconds / _PARTS
        if counts and (ahead := counts[-1][0] - (now - now % part)) > 0:  # the clock was set back
            counts[:] = [(begins - ahead, count) for begins, count in counts]
        while counts and counts[0][0] + part + seconds <= now:
            del counts[0]
        return counts

    def _when(self, number: int, seconds: int, now: float, place: int) -> float:
        counts = self._current(seconds, now)
        again, place = divmod(place, number)  # the same places come again, one length later
        place -= number - sum(count for _, count in counts)
        found = now
        if place >= 0:
            part = seconds / _PARTS
            for begins, count in counts:
                found = begins + part + seconds
                place -= count
                if place < 0:
                    break
        return found + again * seconds

    # ------------------------------------------------------------ kept beside the queue

    def to_json(self) -> dict[str, list[list[float]]]:
        return {str(seconds): [[begins, count] for begins, count in counts] for seconds, counts in self._counts.items() if counts}

    @classmethod
    def from_json(cls, said: object) -> Pace:
        """Tolerant: what makes no sense counts for nothing."""
        pace = cls()
        if isinstance(said, dict):
            for seconds, counts in said.items():
                if isinstance(seconds, str) and seconds.isdigit() and int(seconds) and isinstance(counts, list):
                    pace._counts[int(seconds)] = sorted(_pairs(counts))
        return pace


def _pairs(counts: Iterable[object]) -> list[tuple[float, int]]:
    return [
        (float(pair[0]), int(pair[1]))
        for pair in counts
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(number, (int, float)) for number in pair)
    ]
