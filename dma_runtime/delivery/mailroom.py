"""The local recipients of messages: in threads of their own, for mailboxes have locks to wait for.

- One delivery at a time to each mailbox, in the order of the messages: whoever holds the lock of his own mailbox keeps his
  own mail waiting, and nobody else's. A mailbox that stayed locked is not waited for again for PATIENCE seconds, unless
  somebody asks for the attempt.
- Commands and files of the aliases and `.forward` (PIPES) have threads of their own, those of one user one after another.
- A message that goes in a circle is stopped here (5.4.6); `delivery.local` does the rest.

What was tried comes back through `desk.finished`, of many recipients every now and then, so that who ends us in the middle
has few of them delivered to again; a message that is gone or damaged through `gone` and `damaged`.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

from dma_runtime.aliases import of_address
from dma_runtime.delivery import local
from dma_runtime.delivery.backlog import Work
from dma_runtime.delivery.local import LOCKED
from dma_runtime.delivery.remote import Desk
from dma_runtime.errors import BrokenMessage
from dma_runtime.message import loops
from dma_runtime.outcome import DEFERRED, FAILED, MESSAGE, Outcome
from dma_runtime.system import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.envelope import Recipient

THREADS = 8  # mailboxes side by side, and commands; dma-mailbox.socket lets 32 in, dma-command.socket 16
PATIENCE = 60.0  # seconds
OFTEN = 1.0  # seconds after which results are handed over
LAST = 5.0  # seconds for what is under way when everything must end
LOOK = 1.0  # seconds between two looks whether results can be recorded again


class Mailroom:
    """`tasks`: messages under way."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mailbox")
        self._commands = ThreadPoolExecutor(THREADS, thread_name_prefix="command")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by mailbox, while somebody waits
        self._locked: dict[str, tuple[float, Outcome]] = {}  # mailbox -> until when it is not tried, and why
        self._leaving = False
        self._stopped = False

    def take(self, work: Work) -> None:
        """Deliver a message to its local recipients."""
        task = asyncio.create_task(self._deliver(work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def leave(self) -> None:
        """Begin no further mailbox; the one under way comes to its end."""
        self._leaving = True

    async def stop(self) -> None:
        """What is still under way must end now; a few seconds are given for it to say so."""
        self._stopped = True
        if self.tasks:
            await asyncio.wait(list(self.tasks), timeout=LAST)

    def close(self) -> None:
        self._threads.shutdown(wait=False)
        self._commands.shutdown(wait=False)

    async def _deliver(self, work: Work) -> None:
        loop = asyncio.get_running_loop()
        pairs: list[tuple[int, Outcome]] = []
        since = loop.time()
        errands = {i for i in work.indices if of_address(work.item.envelope.recipients[i].address) is not None}
        for index in sorted(work.indices, key=errands.__contains__):  # who waits for nothing does not wait for a command
            if pairs and (index in errands or loop.time() - since >= OFTEN):
                self._some(work, pairs)
                pairs, since = [], loop.time()
            while self.desk.stuck and not self._leaving:  # noqa: ASYNC110 a broken disk gives no notice when it is mended
                await asyncio.sleep(LOOK)
            recipient = work.item.envelope.recipients[index]
            try:
                outcome = await self._in_turn(work, recipient)
            except FileNotFoundError as problem:
                if problem.filename == f"{self.desk.spool.queue}/{work.item.id}":
                    return self.desk.gone(work.item)
                outcome = Outcome(DEFERRED, f"{problem.filename or 'not delivered'}: {problem.strerror or problem}")
            except BrokenMessage as problem:
                return self.desk.damaged(work.item, str(problem))
            except OSError as problem:
                outcome = Outcome(DEFERRED, f"can not read the message: {problem.strerror}")
            except Exception as error:  # ours: what was delivered to others of them is known all the same
                self.desk.bug(error)
                outcome = Outcome(DEFERRED, f"internal error: {error!r}")
            if outcome is None:  # the rest is the next owner's
                return self._some(work, pairs) if pairs else None
            pairs.append((index, outcome))
        return self.desk.finished(work.item, pairs)

    def _some(self, work: Work, pairs: list[tuple[int, Outcome]]) -> None:
        """Some of its recipients were tried, others are still to come."""
        self.desk.split(work.item)
        self.desk.finished(work.item, pairs)

    async def _in_turn(self, work: Work, recipient: Recipient) -> Outcome | None:
        """One mailbox, when it is this message's turn there; None when we leave before that."""
        box = recipient.address
        errand = of_address(box)
        threads = self._threads if errand is None else self._commands
        turn = self._turns.setdefault(box if errand is None or not errand[2] else f"|{errand[2]}", asyncio.Lock())
        async with turn:
            if self._leaving:
                return None
            asked_for = work.item.round is not None and work.item.round.forced
            if (known := self._known(box)) is not None and not asked_for:
                return known
            outcome = await asyncio.get_running_loop().run_in_executor(threads, self._one, work.item.id, recipient)
            if outcome.status == LOCKED:
                self._locked[box] = asyncio.get_running_loop().time() + PATIENCE, outcome
            return outcome

    def _known(self, box: str) -> Outcome | None:
        """What the last delivery came to, if that mailbox was locked a moment ago."""
        until, outcome = self._locked.get(box, (0.0, None))
        if asyncio.get_running_loop().time() < until:
            return outcome
        self._locked.pop(box, None)
        return None

    def _one(self, id: str, recipient: Recipient) -> Outcome:
        """In a thread: one mailbox. Raises what the spool raises for the message."""
        config = self.desk.settings.config
        stored = self.desk.spool.open(id)
        try:
            header = stored.pread(stored.envelope.header_end, 0)
        finally:
            stored.close()
        name = recipient.address if of_address(recipient.address) is None else recipient.original
        address = name if "@" in name else f"{name}@{identity.mail_name(config)}"
        if loop := loops.of_hops(header) or loops.of_delivery(header, address):
            return Outcome(FAILED, loop, scope=MESSAGE, status="5.4.6")  # RFC 3463 3.5
        return local.deliver(self.desk.spool, id, recipient, config, stopped=lambda: self._stopped)
