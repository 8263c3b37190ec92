"""The first session with a relay, as those see it that are opened beside it.

Rules:
- When the relay has greeted the probe, others may come up to its sign-in: connection, EHLO, TLS, EHLO. What they say then,
  AUTH or the first MAIL, they say when the probe is through; if it is refused they say QUIT. So a wrong password is tried
  once whatever waits, and at a distance the others are ready two round trips behind the probe instead of seven.
- What the relay says to one of them is heard only when the probe is through: before that it is the probe that decides.
"""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.policy.route import Hop


class Probe:
    """One attempt to get through sign-in at `hop`. `greeted(probe)` is called when that host has greeted it."""

    def __init__(self, hop: Hop, greeted: Callable[[Probe], None]) -> None:
        self.hop = hop
        self._told = greeted
        self._end: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def greeted(self) -> None:
        self._told(self)

    def over(self, *, through: bool) -> None:
        """It is through sign-in, or refused; what is said first counts."""
        if not self._end.done():
            self._end.set_result(through)

    async def through(self) -> bool:
        """Whether it came through sign-in, when that is known."""
        return await asyncio.shield(self._end)
