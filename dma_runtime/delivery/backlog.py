"""What waits for one relay, and whose turn it is.

Rules:
- Two lanes: messages handed in just now, and those that waited before. A fresh message does not wait behind ten thousand
  that became due together: of `FRESH_IN_A_ROW` + 1 turns the first are the fresh lane's, the last is the other's, so
  neither starves. Within a lane it is first come, first served.
- What comes back untried goes to the front of its lane.
- Where a route has several hosts, a session takes only what its host has not tried; the rest keeps its place.
"""

from __future__ import annotations

from collections import deque

from dma_runtime.delivery.queue import Item
from dma_runtime.outcome import Outcome
from dma_runtime.policy.route import Hop
from dma_runtime.system.stored import StoredMessage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FRESH_IN_A_ROW = 4


class Work:
    """One message's recipients behind one relay.

    `tried`: the hosts that deferred them in this attempt, `known`: with what outcome, by index. `told`: the relay was told
    what reports the sender asked for, and sees to them."""

    __slots__ = ("indices", "item", "known", "stored", "told", "tried")

    def __init__(self, item: Item, indices: list[int], tried: frozenset[Hop] = frozenset()) -> None:
        self.item = item
        self.indices = indices
        self.tried = tried
        self.known: dict[int, Outcome] = {}
        self.stored: StoredMessage | None = None
        self.told = False

    @property
    def fresh(self) -> bool:
        return self.item.fresh

    def close(self) -> None:
        if self.stored is not None:
            self.stored.close()
            self.stored = None


class Backlog:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._fresh: deque[Work] = deque()
        self._older: deque[Work] = deque()
        self._row = 0  # turns of the fresh lane since the other had one

    def __len__(self) -> int:
        return len(self._fresh) + len(self._older)

    def __iter__(self) -> Iterator[Work]:
        yield from self._fresh
        yield from self._older

    def add(self, work: Work) -> None:
        (self._fresh if work.fresh else self._older).append(work)

    def put_back(self, works: Iterable[Work]) -> None:
        """To the front, the first of them first."""
        for work in reversed(list(works)):
            (self._fresh if work.fresh else self._older).appendleft(work)

    @property
    def head(self) -> Work | None:
        """Whose turn is next, at whatever host."""
        lanes = self._lanes()
        return lanes[0][0] if lanes else None

    def has(self, hop: Hop) -> bool:
        """Whether something waits that `hop` has not tried."""
        return any(hop not in work.tried for work in self)

    def next(self, hop: Hop) -> Work | None:
        """Take whose turn it is at `hop`, None when nobody's."""
        for lane in self._lanes():
            for at, work in enumerate(lane):
                if hop not in work.tried:
                    del lane[at]
                    self._row = self._row + 1 if lane is self._fresh else 0
                    return work
        return None

    def remove(self, work: Work) -> bool:
        """Take it out; False when it is not here any more."""
        for lane in (self._fresh, self._older):
            try:
                lane.remove(work)
            except ValueError:
                continue
            return True
        return False

    def take_all(self) -> list[Work]:
        """Everything, in the order of the turns but for the mixing of the lanes."""
        works = list(self)
        self._fresh.clear()
        self._older.clear()
        return works

    def _lanes(self) -> list[deque[Work]]:
        lanes = [self._fresh, self._older]
        if self._row >= FRESH_IN_A_ROW:
            lanes.reverse()
        return [lane for lane in lanes if lane]
