"""Sessions with hosts found by MX, whatever domain their mail is for.

Delivering directly every domain is a relay of its own (`delivery.remote`), and many of them have the same host. So sessions
with such hosts are had from here, for one domain after another.

Rules:
- With one host at most MAXCONNECTIONS at a time, by turns of the users whose mail waits for it; in all as many as there are
  berths (`delivery.berths`). Who waits for a host keeps no berth, so a slow one holds up no other; and who waits for a berth
  has no turn at a host, so he holds up nobody there.
- A session that a domain has nothing left for stays open for a while where the owner stays or other domains are on their way:
  it carries their mail when theirs is the same host, port, TLS policy and login.
- Who waited for a host while it refused somebody else hears the same, and so does who comes just behind (the spool is read
  piece by piece), so it is asked once and not once for each domain. One that refuses a further session and has some has as
  many as it wants: there one waits for those, and asks for no other. A refused login means nothing of that kind.

Belongs to the loop's thread.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import Protocol

from dma_runtime.delivery.berths import Berths, Ticket
from dma_runtime.delivery.session import Refused, Session, Target
from dma_runtime.outcome import DEFERRED
from dma_runtime.smtp.command import S_AUTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dma_runtime.outcome import Outcome

KEPT = 5.0  # seconds
SPARE = 20  # sessions kept at most
SAME = 1.0  # seconds for which a refusal is told to who comes


class NotNow(Exception):
    """Nobody is let in any more, or there is nothing left to send."""


class Claim(Protocol):
    """Who wants a session: on whose account, and whether there is still something to send."""

    def ask(self, berths: Berths) -> Ticket: ...
    @property
    def wanted(self) -> bool: ...


class _Place:
    """One host. `turns`: for the sessions it may have; `used`: those that carry somebody's mail, or are being opened.
    `refusals`: how often it refused; what it said last, to whom, and until when who comes is told (the loop's time)."""

    __slots__ = ("most", "refusal", "refusals", "told_until", "turns", "used", "where")

    def __init__(self, where: tuple[str, int], most: int, berths: Berths) -> None:
        self.where = where
        self.most = most
        self.turns = Berths(most, most, berths)
        self.used = 0
        self.refusals = 0
        self.refusal: tuple[Target, Outcome] | None = None
        self.told_until = 0.0


class Pool:
    """`stays`: whether the owner does not leave when the queue is empty."""

    def __init__(self, berths: Berths, most: Callable[[], int], stays: Callable[[], bool]) -> None:
        self._berths = berths
        self._most = most
        self._stays = stays
        self._places: dict[tuple[str, int], _Place] = {}
        self._held: dict[Session, tuple[_Place, Ticket]] = {}
        self._spare: list[tuple[_Place, Session]] = []  # they carry nobody's mail; the newest last
        self._expected = 0  # domains that are on their way to a session
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """A domain is on its way to a session."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1

    async def take(self, target: Target, claim: Claim, open: Callable[[], Awaitable[Session]]) -> Session:
        """A session with the target, perhaps one that is there already; `give_back` is owed for it.

        `open` makes one. Raises Refused, NotNow.
        """
        where = (target.host.lower(), target.port)
        place = self._places.get(where)
        if place is None:
            place = self._places[where] = _Place(where, self._most(), self._berths)
            if self._closed:
                place.turns.close()
        heard = place.refusals - (asyncio.get_running_loop().time() < place.told_until)
        while True:
            try:
                turn = await self._granted(place, claim)
            except BaseException:
                self._forget(place)
                raise
            if place.refusals != heard and place.refusal is not None and place.refusal[0] == target:
                self._free(place, turn)
                raise Refused(place.refusal[1])
            place.used += 1
            try:
                session = self._find(place, target) or await open()
            except Refused as refused:
                place.used -= 1
                enough = refused.outcome.kind == DEFERRED and refused.outcome.stage != S_AUTH
                if enough and place.used:
                    place.turns.withhold(turn)
                    continue
                if enough and self._spare_of(place, target):
                    self._free(place, turn)
                    continue
                if refused.outcome.kind == DEFERRED:
                    place.refusals += 1
                    place.refusal = target, refused.outcome
                    self._tell(place)
                self._free(place, turn)
                raise
            except BaseException:
                place.used -= 1
                self._free(place, turn)
                raise
            self._held[session] = place, turn
            return session

    async def give_back(self, session: Session) -> None:
        """It has nothing left to send. Waits for its end where it is not kept."""
        place, turn = self._held.pop(session)
        try:
            if session.usable and not self._closed and (self._expected or self._stays()) and len(self._spare) < SPARE:
                self._spare.append(kept := (place, session))
                asyncio.get_running_loop().call_later(KEPT, self._expired, kept)
            else:
                await session.quit()
        finally:
            place.used -= 1
            self._free(place, turn)

    def forget_refusals(self) -> None:
        """Somebody runs the queue, or the configuration changed: who comes asks for himself."""
        for place in list(self._places.values()):
            place.told_until = 0.0
            self._forget(place)

    def dismiss(self) -> None:
        """Those that carry nobody's mail end: it is to go over other connections, or nothing more will come."""
        for place, session in list(self._spare):
            self._end(place, session)

    def close(self) -> None:
        """Nobody gets one any more."""
        self._closed = True
        self._berths.close()
        for place in self._places.values():
            place.turns.close()
        self.dismiss()

    async def ended(self) -> None:
        """Those that were let go are gone."""
        if self._leaving:
            await asyncio.wait(self._leaving)

    # ------------------------------------------------------------ within

    async def _granted(self, place: _Place, claim: Claim) -> Ticket:
        """Raises NotNow."""
        if not claim.wanted:
            raise NotNow  # nobody's ticket would never be granted
        turn = claim.ask(place.turns)
        try:
            if await turn.granted and claim.wanted:
                return turn
        except BaseException:
            place.turns.leave(turn)
            raise
        place.turns.leave(turn)
        raise NotNow

    def _find(self, place: _Place, target: Target) -> Session | None:
        """A spare one; where there is none of use, the host has room for a new one."""
        if useful := self._spare_of(place, target):
            self._spare.remove((place, useful[-1]))
            return useful[-1]
        spare = [session for one, session in self._spare if one is place]
        for session in spare[: max(0, place.used + len(spare) - place.most)]:
            self._end(place, session)
        return None

    def _spare_of(self, place: _Place, target: Target) -> list[Session]:
        return [session for one, session in self._spare if one is place and session.target == target and session.usable]

    def _tell(self, place: _Place) -> None:
        loop = asyncio.get_running_loop()
        place.told_until = loop.time() + SAME
        loop.call_at(place.told_until, self._forget, place)

    def _free(self, place: _Place, turn: Ticket) -> None:
        place.turns.leave(turn)
        self._forget(place)

    def _forget(self, place: _Place) -> None:
        """Of a host that we have no session with nothing is known: it may let us have more now. And a daemon meets a new host
        every day."""
        if place.used or any(one is place for one, _ in self._spare):
            return
        place.turns.restore()
        if place.turns.idle and asyncio.get_running_loop().time() >= place.told_until:
            if self._places.get(place.where) is place:  # it may be another by now
                del self._places[place.where]

    def _expired(self, kept: tuple[_Place, Session]) -> None:
        if any(one is kept for one in self._spare):  # it may have been used since, and be kept again
            self._end(*kept)

    def _end(self, place: _Place, session: Session) -> None:
        """A spare one ends."""
        self._spare.remove((place, session))
        self._quit(session)
        self._forget(place)

    def _quit(self, session: Session) -> None:
        task = asyncio.create_task(session.quit())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
