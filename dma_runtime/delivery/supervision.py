"""The owner's signs of life to its supervisor: READY=1 when mail is taken, WATCHDOG=1 from the loop itself, STOPPING=1.

The loop beats, nobody else: a loop that hangs is restarted (hard-parts.md, "File syncs run in one worker thread; the loop
beats the watchdog itself"). It beats to the very end, so that draining is not taken for hanging.
"""

from __future__ import annotations

import asyncio

from dma_runtime.system.systemd import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.delivery.owner import Owner


class Supervision:
    """An attendant of the owner."""

    busy = False

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def begin(self, owner: Owner) -> None:
        waiting = len(owner.queue)
        self._supervisor.say(f"READY=1\nSTATUS={waiting} message{'s' if waiting != 1 else ''} queued")
        if self._supervisor.beat:
            self._beat()

    def _beat(self) -> None:
        self._supervisor.say("WATCHDOG=1")
        asyncio.get_running_loop().call_later(self._supervisor.beat, self._beat)

    async def end(self) -> None:
        self._supervisor.say("STOPPING=1\nSTATUS=finishing what is under way")
