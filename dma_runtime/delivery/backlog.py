"""What waits for one relay, and whose turn it is.

Rules:
- Two lanes: messages handed in just now, and those that waited before. A fresh message does not wait behind ten thousand
  that became due together: of `FRESH_IN_A_ROW` + 1 turns the first are the fresh lane's, the last is the other's, so
  neither starves.
- Within a lane the users of the machine have turns, and of one user's messages it is first come, first served: nobody waits
  behind the thousand messages of another.
- What comes back untried goes to the front of its lane.
- Where a route has several hosts, a session takes only what its host has not tried; the rest keeps its place.
- Whoever comes or goes costs the same whatever waits.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import chain

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

    def part(self, indices: list[int]) -> Work:
        """The same for some of its recipients."""
        part = Work(self.item, indices, self.tried)
        part.known = {index: self.known[index] for index in indices if index in self.known}
        return part

    def close(self) -> None:
        if self.stored is not None:
            self.stored.close()
            self.stored = None


class _Lot:
    """What waits of one user, by the hosts that have tried it: of fifty thousand that one host deferred, another finds its own
    without looking at each. No deque is empty. What came back last is first."""

    def __init__(self) -> None:
        self._groups: OrderedDict[frozenset[Hop], deque[Work]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __iter__(self) -> Iterator[Work]:
        return chain.from_iterable(self._groups.values())

    def add(self, work: Work) -> None:
        self._groups.setdefault(work.tried, deque()).append(work)

    def put_back(self, work: Work) -> None:
        self._groups.setdefault(work.tried, deque()).appendleft(work)
        self._groups.move_to_end(work.tried, last=False)

    def has(self, hop: Hop) -> bool:
        return any(hop not in tried for tried in self._groups)

    def next(self, hop: Hop) -> Work | None:
        for tried, works in self._groups.items():
            if hop not in tried:
                work = works.popleft()
                if not works:
                    del self._groups[tried]
                return work
        return None

    def remove(self, work: Work) -> bool:
        try:
            self._groups[work.tried].remove(work)
        except (KeyError, ValueError):
            return False
        if not self._groups[work.tried]:
            del self._groups[work.tried]
        return True

    def take_tried(self, hops: frozenset[Hop]) -> list[Work]:
        return [work for tried in list(self._groups) if tried >= hops for work in self._groups.pop(tried)]


class _Lane:
    """What waits, by uid; the first uid has the next turn. No user's lot is empty."""

    def __init__(self) -> None:
        self._users: OrderedDict[int, _Lot] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._users)

    def __iter__(self) -> Iterator[Work]:
        """In the order of the turns."""
        rest = [iter(works) for works in self._users.values()]
        while rest:
            still = []
            for works in rest:
                for work in works:
                    yield work
                    still.append(works)
                    break
            rest = still

    @property
    def head(self) -> Work:
        return next(iter(next(iter(self._users.values()))))

    def add(self, work: Work) -> None:
        self._users.setdefault(work.item.envelope.uid, _Lot()).add(work)

    def put_back(self, work: Work) -> None:
        uid = work.item.envelope.uid
        self._users.setdefault(uid, _Lot()).put_back(work)
        self._users.move_to_end(uid, last=False)

    def has(self, hop: Hop) -> bool:
        return any(works.has(hop) for works in self._users.values())

    def next(self, hop: Hop) -> Work | None:
        for uid, works in self._users.items():
            if (work := works.next(hop)) is not None:
                if works:
                    self._users.move_to_end(uid)
                else:
                    del self._users[uid]
                return work
        return None

    def remove(self, work: Work) -> bool:
        uid = work.item.envelope.uid
        works = self._users.get(uid)
        if works is None or not works.remove(work):
            return False
        if not works:
            del self._users[uid]
        return True

    def take_tried(self, hops: frozenset[Hop]) -> list[Work]:
        found = []
        for uid, works in list(self._users.items()):
            found += works.take_tried(hops)
            if not works:
                del self._users[uid]
        return found

    def clear(self) -> None:
        self._users.clear()


class Backlog:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._fresh = _Lane()
        self._older = _Lane()
        self._row = 0  # turns of the fresh lane since the other had one
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Work]:
        yield from self._fresh
        yield from self._older

    def add(self, work: Work) -> None:
        (self._fresh if work.fresh else self._older).add(work)
        self._count += 1

    def put_back(self, works: Iterable[Work]) -> None:
        """To the front, the first of them first."""
        for work in reversed(list(works)):
            (self._fresh if work.fresh else self._older).put_back(work)
            self._count += 1

    @property
    def head(self) -> Work | None:
        """Whose turn is next, at whatever host."""
        lanes = self._lanes()
        return lanes[0].head if lanes else None

    def has(self, hop: Hop) -> bool:
        """Whether something waits that `hop` has not tried."""
        return self._fresh.has(hop) or self._older.has(hop)

    def next(self, hop: Hop) -> Work | None:
        """Take whose turn it is at `hop`, None when nobody's."""
        for lane in self._lanes():
            if (work := lane.next(hop)) is not None:
                self._row = self._row + 1 if lane is self._fresh else 0
                self._count -= 1
                return work
        return None

    def remove(self, work: Work) -> bool:
        """Take it out; False when it is not here any more."""
        found = self._fresh.remove(work) or self._older.remove(work)
        self._count -= found
        return found

    def take_tried(self, hops: frozenset[Hop]) -> list[Work]:
        """Take out what all of these hosts have tried."""
        found = self._fresh.take_tried(hops) + self._older.take_tried(hops)
        self._count -= len(found)
        return found

    def take_all(self) -> list[Work]:
        """Everything, in the order of the turns but for the mixing of the lanes."""
        works = list(self)
        self._fresh.clear()
        self._older.clear()
        self._count = 0
        return works

    def _lanes(self) -> list[_Lane]:
        lanes = [self._fresh, self._older]
        if self._row >= FRESH_IN_A_ROW:
            lanes.reverse()
        return [lane for lane in lanes if lane]
