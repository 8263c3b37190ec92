"""What waits for one relay, and whose turn it is.

Rules:
- Two lanes: messages handed in just now, and those that waited before. A fresh message does not wait behind ten thousand
  that became due together: of `FRESH_IN_A_ROW` + 1 turns the first are the fresh lane's, the last is the other's, so
  neither starves.
- Within a lane the users of the machine have turns, and of one user's messages it is first come, first served: nobody waits
  behind the thousand messages of another.
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


class _Lane:
    """What waits, by uid; the first uid has the next turn. No user's deque is empty."""

    def __init__(self) -> None:
        self._users: dict[int, deque[Work]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._users.values()))

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
        return next(iter(self._users.values()))[0]

    def add(self, work: Work) -> None:
        self._users.setdefault(work.item.envelope.uid, deque()).append(work)

    def put_back(self, work: Work) -> None:
        uid = work.item.envelope.uid
        works = self._users.pop(uid, deque())
        works.appendleft(work)
        self._users = {uid: works, **self._users}

    def next(self, hop: Hop) -> Work | None:
        for uid, works in self._users.items():
            for at, work in enumerate(works):
                if hop not in work.tried:
                    del works[at]
                    del self._users[uid]
                    if works:
                        self._users[uid] = works  # last now
                    return work
        return None

    def remove(self, work: Work) -> bool:
        uid = work.item.envelope.uid
        try:
            self._users[uid].remove(work)
        except (KeyError, ValueError):
            return False
        if not self._users[uid]:
            del self._users[uid]
        return True

    def take_tried(self, hops: frozenset[Hop]) -> list[Work]:
        found, users = [], {}
        for uid, works in self._users.items():
            found += [work for work in works if work.tried >= hops]
            if left := deque(work for work in works if not work.tried >= hops):
                users[uid] = left
        self._users = users
        return found

    def clear(self) -> None:
        self._users.clear()


class Backlog:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._fresh = _Lane()
        self._older = _Lane()
        self._row = 0  # turns of the fresh lane since the other had one

    def __len__(self) -> int:
        return len(self._fresh) + len(self._older)

    def __iter__(self) -> Iterator[Work]:
        yield from self._fresh
        yield from self._older

    def add(self, work: Work) -> None:
        (self._fresh if work.fresh else self._older).add(work)

    def put_back(self, works: Iterable[Work]) -> None:
        """To the front, the first of them first."""
        for work in reversed(list(works)):
            (self._fresh if work.fresh else self._older).put_back(work)

    @property
    def head(self) -> Work | None:
        """Whose turn is next, at whatever host."""
        lanes = self._lanes()
        return lanes[0].head if lanes else None

    def has(self, hop: Hop) -> bool:
        """Whether something waits that `hop` has not tried."""
        return any(hop not in work.tried for work in self)

    def next(self, hop: Hop) -> Work | None:
        """Take whose turn it is at `hop`, None when nobody's."""
        for lane in self._lanes():
            if (work := lane.next(hop)) is not None:
                self._row = self._row + 1 if lane is self._fresh else 0
                return work
        return None

    def remove(self, work: Work) -> bool:
        """Take it out; False when it is not here any more."""
        return self._fresh.remove(work) or self._older.remove(work)

    def take_tried(self, hops: frozenset[Hop]) -> list[Work]:
        """Take out what all of these hosts have tried."""
        return self._fresh.take_tried(hops) + self._older.take_tried(hops)

    def take_all(self) -> list[Work]:
        """Everything, in the order of the turns but for the mixing of the lanes."""
        works = list(self)
        self._fresh.clear()
        self._older.clear()
        return works

    def _lanes(self) -> list[_Lane]:
        lanes = [self._fresh, self._older]
        if self._row >= FRESH_IN_A_ROW:
            lanes.reverse()
        return [lane for lane in lanes if lane]
