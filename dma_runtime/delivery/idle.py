"""Sessions that have nothing to send and stay open for a while, for the next message often comes soon.

A message that finds an open session costs one round trip instead of seven. The newest is woken first, so that those that
are not needed reach the end of their time (RFC 5321 lets a server close an idle connection; what it closed is seen when the
session is woken, and a new one takes its place).
"""

from __future__ import annotations

import asyncio

SECONDS = 5.0


class Idlers:
    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[bool]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self) -> bool:
        """Until there is work (True), or no longer is to be waited (False)."""
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            return await asyncio.wait_for(place, SECONDS)
        except TimeoutError:
            return False
        finally:
            if place in self._waiting:
                self._waiting.remove(place)

    def wake(self) -> bool:
        """There is work for one more; False when none waits."""
        while self._waiting:
            place = self._waiting.pop()
            if not place.done():
                place.set_result(True)
                return True
        return False

    def dismiss(self) -> None:
        """Nothing more will come, or it is to go over other connections."""
        while self._waiting:
            place = self._waiting.pop()
            if not place.done():
                place.set_result(False)
