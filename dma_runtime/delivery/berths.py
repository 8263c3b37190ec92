"""Berths: how many sessions with hosts found by MX there may be at a time, in all and with one host, and whose turn it is.

Delivering directly, every domain is a relay of its own, and who writes the addresses decides how many there are and how slow
they answer. So there are MOST berths in all, and of the machine's daemon one user has half of them at most: a thousand
tarpits of one user keep neither the others' mail waiting nor every descriptor of the process. Who waits is let in by turns
of the users. What waits in one queue for several users (`also`) goes in by the turn of whoever comes first.

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
    """`each`: how many of `most` one user may have."""

    def __init__(self, most: int = MOST, each: int = MOST // 2) -> None:
        self._free = most
        self._each = each
        self._used: dict[int, int] = {}
        self._waiting: dict[int, deque[Ticket]] = {}  # by uid; the first has the next turn
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
            self._used[ticket.uid] -= 1
            if not self._used[ticket.uid]:
                del self._used[ticket.uid]
            ticket.uid = -1
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

    def _let_in(self) -> None:
        for uid in list(self._waiting):
            if not self._free:
                return
            if self._used.get(uid, 0) < self._each:
                self._let_in_one(uid)

    def _let_in_one(self, uid: int) -> None:
        """The next ticket of this user, who then goes behind the others."""
        waiting = self._waiting.pop(uid)
        while waiting:
            ticket = waiting.popleft()
            if not ticket.granted.done():
                self._free -= 1
                self._used[uid] = self._used.get(uid, 0) + 1
                ticket.uid = uid
                ticket.granted.set_result(True)
                break
        if waiting:
            self._waiting[uid] = waiting
