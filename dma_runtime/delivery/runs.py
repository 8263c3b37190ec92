"""Runs of the queue: what an owner is there for, and who waits until which messages had one attempt.

A run wants messages as they are read from the spool; whoever waits for it is answered when all of them, those read later
too, had their attempt. A message that is held, or has nobody left to try, has had it. While the owner begins nothing (the
spool is another machine's, results cannot be recorded) nobody is kept waiting.
"""

from __future__ import annotations

import asyncio

from dma_runtime.delivery.queue import Item, Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Goal:
    """What this owner is there for.

    resident: stay until told to stop. run: attempt everything at once when it starts. ids: only those of it, None for all.
    due_only: with `run`, what is due and what was only queued. once: leave when that is done, whatever still waits."""

    __slots__ = ("due_only", "ids", "once", "resident", "run")

    def __init__(
        self,
        *,
        resident: bool = False,
        run: bool = False,
        ids: list[str] | None = None,
        due_only: bool = False,
        once: bool = False,
    ) -> None:
        self.resident = resident
        self.run = run
        self.ids = ids
        self.due_only = due_only
        self.once = once


class Waiter:
    """Somebody waits until each of `ids` had one attempt; more may be added until it is `complete`."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._complete = False

    def complete(self) -> None:
        self._complete = True
        self.had("")

    def had(self, id: str) -> None:
        self.ids.discard(id)
        if self._complete and not self.ids and not self.done.done():
            self.done.set_result(None)

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Runs:
    """The runs of one queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waiters: list[Waiter] = []
        self._reading: list[tuple[Goal, Waiter]] = []  # those that also want what is not read yet

    def __bool__(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiters)

    def begin(self, goal: Goal, now: float) -> Waiter:
        """Attempt messages at `now` (wall clock). All: what `queue.begin` saw and was not read yet is wanted, too."""
        waiter = Waiter()
        self._waiters.append(waiter)
        queue = self._queue
        if goal.ids is None:
            wanted = list(queue.items.values())
        else:
            wanted = [item for id in goal.ids if (item := queue.items.get(id) or queue.add(id)) is not None]
        for item in wanted:
            self._want(goal, item, waiter, now)
        if goal.ids is None and queue.loading:
            self._reading.append((goal, waiter))
        else:
            waiter.complete()
            self._sweep()
        return waiter

    def read(self, items: Iterable[Item], now: float) -> None:
        """These were read from the spool since."""
        if self._reading:
            for item in items:
                for goal, waiter in self._reading:
                    self._want(goal, item, waiter, now)
        if not self._queue.loading:
            for _, waiter in self._reading:
                waiter.complete()
            self._reading.clear()
            self._sweep()

    def had(self, id: str) -> None:
        """A message had its attempt, or need not have one."""
        if self._waiters:
            for waiter in self._waiters:
                waiter.had(id)
            self._sweep()

    def end(self) -> None:
        """Nothing is begun at present: whoever waits for an attempt is answered without."""
        for waiter in self._waiters:
            waiter.end()
        self._waiters, self._reading = [], []

    def _want(self, goal: Goal, item: Item, waiter: Waiter, now: float) -> None:
        if goal.due_only and not (item.due is None or item.due <= now):
            return
        if item.round is not None or self._queue.wake(item, now):
            waiter.ids.add(item.id)

    def _sweep(self) -> None:
        self._waiters = [waiter for waiter in self._waiters if not waiter.done.done()]
