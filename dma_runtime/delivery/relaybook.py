"""What is known of relays, by key, and when it is written down (`system.relays`).

Rules:
- At once when nothing was written for a while; else when that is over, whatever changes meanwhile. A queue for ten thousand
  domains that cannot be reached changes ten thousand times, and the file grows with each: so the while is PAUSE, and longer
  where writing takes long.
- At the end once more (`close`). What a crash takes is the last second, and costs an attempt.
"""

from __future__ import annotations

import asyncio

from dma_runtime.system import relays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.policy.relay import RelayState

PAUSE = 1.0  # seconds
_SHARE = 20  # of the time at most a twentieth is spent with writing


class RelayBook:
    """`wall`: the wall clock. Belongs to the loop's thread."""

    def __init__(self, spool_path: str, wall: Callable[[], float]) -> None:
        self.path = spool_path
        self._wall = wall
        self.states: dict[str, RelayState] = relays.read(spool_path, wall())
        self._next: asyncio.TimerHandle | None = None
        self._waits = False  # something changed since it was written

    def changed(self) -> None:
        """Something another owner should know."""
        if self._next is not None:
            self._waits = True
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.write()
        self._next = loop.call_later(max(PAUSE, _SHARE * (loop.time() - began)), self._over)

    def _over(self) -> None:
        self._next = None
        if self._waits:
            self.changed()

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self.write()

    def write(self) -> None:
        """Now."""
        self._waits = False
        relays.write(self.path, self.states, self._wall())
