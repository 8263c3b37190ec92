"""The index of the queue: what is waiting, and when each message is due.

Rules:
- Holds per message what scheduling needs: envelope and state. Bodies are never read here.
- The spool is read piece by piece (`begin`, `read`): a queue of 50,000 does not keep the first message, or a fresh one,
  waiting until all are known.
- A heap of (due, accepted, id); an entry is stale when the item's `due` has moved on, and is then passed over.
- A fresh message is due at once and sorts before the deferred ones that became due meanwhile only by time.
- A message that was only queued (-bq) is due when somebody runs the queue, not by itself.
- A damaged message is kept in sight (`broken`) and never sent. So is one whose files cannot be read at present (a bad
  sector, another's file, no descriptor left), but that is looked at again by each `begin`: it stops nobody else's mail.
"""

from __future__ import annotations

import heapq
import time
from collections import deque

from dma_runtime.envelope import Envelope
from dma_runtime.errors import BrokenMessage
from dma_runtime.history import State, fold
from dma_runtime.outcome import Outcome
from dma_runtime.system import clock
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.spool import Spool


class Round:
    """One attempt of a message while it is under way.

    out: parts handed to relays or mailboxes and not yet back. steps: results given to the recorder and not yet safe.
    failures: final outcomes, reported when the round is over. waiting: recipients not tried, and until when their relay is
    down (wall clock). deferred: why recipients wait on. closed: recipients for whom this round was the last. again: the
    configuration changed before it was over: another round follows at once."""

    __slots__ = ("again", "closed", "deferred", "failures", "forced", "out", "steps", "waiting")

    def __init__(self, forced: bool) -> None:
        self.forced = forced  # asked for: the schedule the message had is kept
        self.out = 0
        self.steps = 0
        self.failures: list[tuple[int, Outcome]] = []
        self.waiting: dict[int, float] = {}
        self.deferred: dict[int, Outcome] = {}
        self.closed: set[int] = set()
        self.again = False


class Item:
    """One message. `due`: wall clock seconds, None when nothing is scheduled. `round`: the attempt under way, if any.
    `fresh`: it was handed in while this owner runs, and has had no round yet."""

    __slots__ = ("due", "envelope", "forced", "fresh", "round", "state")

    def __init__(self, envelope: Envelope, state: State) -> None:
        self.envelope = envelope
        self.state = state
        self.due: float | None = None
        self.forced = False
        self.fresh = False
        self.round: Round | None = None

    @property
    def id(self) -> str:
        return self.envelope.id


class Queue:
    """See the module's docstring."""

    def __init__(self, spool: Spool, ledger: Ledger) -> None:
        self.spool = spool
        self.ledger = ledger
        self.items: dict[str, Item] = {}
        self.broken: dict[str, str] = {}  # id -> what is wrong with it
        self._heap: list[tuple[float, float, str]] = []
        self._unread: deque[str] = deque()
        self._unreadable: set[str] = set()  # those of `broken` that may be read another time

    def __len__(self) -> int:
        return len(self.items) + len(self._unread)

    @property
    def loading(self) -> bool:
        """Whether `begin` saw messages that `read` has not come to."""
        return bool(self._unread)

    def begin(self) -> None:
        """See what is in the spool; `read` takes it in. Raises OSError."""
        known = self.items.keys() | (self.broken.keys() - self._unreadable)
        self._unread = deque(id for id in self.spool.ids() if id not in known)

    def read(self, seconds: float) -> list[Item]:
        """Take in what was seen, oldest first, for about so long; returns the items that were not known."""
        until = time.monotonic() + seconds
        found = []
        while self._unread:
            item = self.add(self._unread.popleft())
            if item is not None:
                found.append(item)
            if time.monotonic() >= until:
                break
        return found

    def load(self) -> list[Item]:
        """Take in all that is in the spool now. Raises OSError."""
        self.begin()
        return self.read(float("inf"))

    def add(self, id: str) -> Item | None:
        """Take in one message; None when it is known, gone, damaged or cannot be read. Raises nothing."""
        if id in self.items or (id in self.broken and id not in self._unreadable):
            return None
        self._unreadable.discard(id)
        try:
            envelope = self.spool.read(id)
            state = fold(envelope, self.ledger.events(id), clock.now())
        except FileNotFoundError:
            self.broken.pop(id, None)
            return None
        except BrokenMessage as problem:
            self.broken[id] = str(problem)
            return None
        except OSError as problem:
            self.broken[id] = f"can not be read: {problem.strerror or problem}"
            self._unreadable.add(id)
            return None
        self.broken.pop(id, None)
        item = Item(envelope, state)
        self.items[id] = item
        self.schedule(item)
        return item

    def schedule(self, item: Item, due: float | None = None) -> None:
        """Set when the item is due: `due`, or what its state says."""
        state = item.state
        if due is None and not state.open:
            due = None if state.kept else 0.0  # all was recorded before a crash, only the removal was not
        elif due is None and not state.held:
            due = None if item.envelope.queue_only and not state.tried else state.due
        item.due = due
        if due is not None:
            heapq.heappush(self._heap, (due, item.envelope.accepted_at, item.id))

    def wake(self, item: Item, now: float) -> bool:
        """Make it due now, whatever its back-off says; False when it is held, under way or has nobody left to try."""
        if item.round is not None or item.state.held or not item.state.open:
            return False
        item.forced = True
        self.schedule(item, now)
        return True

    def take(self, now: float) -> Item | None:
        """The next item that is due, removed from the schedule."""
        while self._heap and self._heap[0][0] <= now:
            due, _, id = heapq.heappop(self._heap)
            item = self.items.get(id)
            if item is not None and item.due == due and item.round is None:
                item.due = None
                return item
        return None

    def next_due(self) -> float | None:
        """When the next item is due."""
        while self._heap:
            due, _, id = self._heap[0]
            item = self.items.get(id)
            if item is not None and item.due == due:
                return due
            heapq.heappop(self._heap)
        return None

    @property
    def unfinished(self) -> bool:
        """Whether something is scheduled, or was begun and not brought to an end."""
        return any(item.due is not None or item.round is not None for item in self.items.values())

    def shift(self, seconds: float) -> None:
        """The wall clock was set: move every due time with it, so that waits stay as long as they were meant."""
        self._heap.clear()
        for item in self.items.values():
            item.state.shift(seconds)
            if item.round is not None:
                item.round.waiting = {index: until + seconds for index, until in item.round.waiting.items()}
            if item.due is not None:
                self.schedule(item, item.due + seconds)

    def forget(self, item: Item) -> None:
        item.due = None
        self.items.pop(item.id, None)

    @property
    def oldest(self) -> float | None:
        """When the oldest waiting message was accepted."""
        return min((item.envelope.accepted_at for item in self.items.values()), default=None)
