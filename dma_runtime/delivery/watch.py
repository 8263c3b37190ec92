"""Notices between two looks that the wall clock was set or that the machine slept (hard-parts.md, Time)."""

from __future__ import annotations

from dma_runtime.envelope import Moment

TOLERANCE = 30.0  # seconds


class Watch:
    """Give it a reading of the clocks now and then."""

    def __init__(self, first: Moment) -> None:
        self._last = first

    def look(self, now: Moment) -> tuple[float, float]:
        """(jump, slept) in seconds since the last look; each is 0.0 below the tolerance."""
        last, self._last = self._last, now
        jump = (now.wall - last.wall) - (now.up - last.up)
        slept = (now.up - last.up) - (now.awake - last.awake)
        return (jump if abs(jump) > TOLERANCE else 0.0), (slept if slept > TOLERANCE else 0.0)
