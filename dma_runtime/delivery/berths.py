"""Berths: how many sessions with hosts found by MX there may be at a time, in all and with one host, and whose turn it is.

Delivering directly, every domain is a relay of its own, and who writes the addresses decides how many there are and how slow
they answer. So there are MOST berths in all, and of the machine's daemon one user has half of them at most: a thousand
tarpits of one user keep neither the others' mail waiting nor every descriptor of the process. Who waits is let in by turns
of the users. What waits in one queue for several users (`also`) goes in by the turn of whoever comes first. The turns at one
host are berths below those: who has no further berth is not let in there either, and so is in nobody's way.

Belongs to the loop's thread. No deadline: a berth is free when a session has ended, and each of its steps has a limit.
"""

from __future__ import annotations

import asyncio
from collections import deque

MOST = 100


class Ticket:
    """A place in the queue. `granted` is done when there is a berth (True), or when nobody is let in any more (False)."""

    __slots__ = ("_berths", "_uids", "granted", "uid")

    def __init__(self, berths: Berths) -> None:
        self.granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.uid = -1  # on whose account, once it is granted
        self._berths = berths
        self._uids: set[int] = set()

    def also(self, uid: int) -> None:
        """This user waits for it too."""
        if not self.granted.done() and uid not in self._uids:
            self._uids.add(uid)
            self._berths.queue(uid, self)


class Berths:
    """`each`: how many of `most` one user may have. `above`: each of these is one of those, too, and nobody has the one who
    has not the other."""

    def __init__(self, most: int = MOST, each: int = MOST // 2, above: Berths | None = None) -> None:
        self._free = most
        self._each = each
        self._above = above
        self._withheld = 0
        self._used: dict[int, int] = {}
        self._waiting: dict[int, deque[Ticket]] = {}  # by uid; the first has the next turn
        self._below: dict[int, dict[Berths, None]] = {}  # by uid: those that would let him in if there was one here for him
        self._closed = False

    def ask(self, uids: set[int]) -> Ticket:
        """A ticket for whoever is in `uids`; perhaps granted already. `leave` is owed for one that was."""
        ticket = Ticket(self)
        if self._closed:
            ticket.granted.set_result(False)
        for uid in uids:
            ticket.also(uid)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The berth is free again; or the ticket is given back."""
        if not ticket.granted.done():
            ticket.granted.set_result(False)
        elif ticket.uid >= 0:
            self._free += 1
            self._left(ticket)

    def withhold(self, ticket: Ticket) -> None:
        """Nobody gets this one, nor those that are free, before `restore`."""
        self._withheld += self._free + 1
        self._free = 0
        self._left(ticket)

    def restore(self) -> None:
        self._free += self._withheld
        self._withheld = 0
        self._let_in()

    @property
    def idle(self) -> bool:
        """Nobody has one, or waits for one."""
        return not self._used and not any(not ticket.granted.done() for queue in self._waiting.values() for ticket in queue)

    def close(self) -> None:
        """Nobody is let in any more."""
        self._closed = True
        for waiting in self._waiting.values():
            for ticket in waiting:
                if not ticket.granted.done():
                    ticket.granted.set_result(False)
        self._waiting.clear()

    def queue(self, uid: int, ticket: Ticket) -> None:
        """For `Ticket.also`."""
        self._waiting.setdefault(uid, deque()).append(ticket)
        self._let_in()

    def _left(self, ticket: Ticket) -> None:
        uid, ticket.uid = ticket.uid, -1
        self._count(uid, -1)
        if self._above is not None:
            self._above._free += 1
            self._above._count(uid, -1)
            self._above._let_in()
        self._let_in()

    def _count(self, uid: int, one: int) -> None:
        self._used[uid] = self._used.get(uid, 0) + one
        if not self._used[uid]:
            del self._used[uid]

    def _has_room(self, uid: int) -> bool:
        return self._free > 0 and self._used.get(uid, 0) < self._each

    def _let_in(self) -> None:
        """By turns, until nobody can be."""
        again = True
        while again and self._free:
            again = any(self._let_in_one(uid) for uid in list(self._waiting))
        again = True
        while again and self._free:
            again = any(self._let_in_below(uid) for uid in list(self._below))

    def _let_in_one(self, uid: int) -> bool:
        """The next ticket of this user, who then goes behind the others."""
        waiting = self._waiting[uid]
        while waiting and waiting[0].granted.done():
            waiting.popleft()
        if not waiting:
            del self._waiting[uid]
            return False
        if not self._has_room(uid):
            return False
        if self._above is not None:
            if not self._above._has_room(uid):
                self._above._below.setdefault(uid, {})[self] = None
                return False
            self._above._free -= 1
            self._above._count(uid, 1)
        self._free -= 1
        self._count(uid, 1)
        ticket = waiting.popleft()
        ticket.uid = uid
        ticket.granted.set_result(True)
        del self._waiting[uid]
        if waiting:
            self._waiting[uid] = waiting
        return True

    def _let_in_below(self, uid: int) -> bool:
        """Where this user waits only for a berth here; then others have a turn."""
        if not self._has_room(uid):
            return False
        there = self._below.pop(uid)
        first = next(iter(there))
        del there[first]
        if there:
            self._below[uid] = there
        first._let_in()
        return True
