"""Results made to last: events appended, reports spooled, finished messages removed, in the order that loses nothing.

The death of a message (hard-parts.md, Spool): (1) its report is spooled and synced; (2) the final events are synced in
`log/`; (3) `queue/<id>` is unlinked; (4) `queue/` is synced; (5) `log/<id>` is unlinked. Until (4) a crash repeats a
delivery, never loses one. A message whose recipients were all delivered needs no events: its removal is the record.

A result that the disk refuses is written again later; what of it is done by then, the reports, is not done again. While
the reason is not that the disk is full, nothing new is to be begun (`stuck`): on a file system that has become read-only
all that is delivered would be delivered once more by the next owner.

All file work happens in one worker thread, a batch at a time: what came in while the last batch was synced is the next
batch, so a busy queue shares its syncs and an idle one waits for none. A batch is cut at `MOST` messages, whose removals
take the 50 ms that hard-parts.md allows between a result and its sync; cut shorter, on a disk that syncs slowly, results
would only wait longer for their turn.
"""

from __future__ import annotations

import asyncio
import errno
import traceback
from concurrent.futures import ThreadPoolExecutor

from dma_runtime.delivery import bounce
from dma_runtime.delivery.news import News
from dma_runtime.delivery.queue import Item
from dma_runtime.errors import BrokenMessage
from dma_runtime.outcome import Outcome
from dma_runtime.system.ledger import Event, Ledger, NotRecorded
from dma_runtime.system.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1000  # messages a batch
_FULL = (errno.ENOSPC, errno.EDQUOT)
PAUSE = 30.0  # seconds before a result that the disk refused is written again


class Step:
    """What is to be recorded for one message in one batch.

    events: to append. failures: (index, outcome) the sender is told of now. last: nobody is left to try after this.
    news: what else the sender is told now, and was not told yet. returned: what became of the report of failures, told: the
    ids of the other reports, filled in by the worker. error: why it is not recorded, "" when it is; refused: how often that
    was so; stuck: it is not for want of room; written: its events are in the log."""

    __slots__ = ("error", "events", "failures", "item", "last", "news", "refused", "returned", "stuck", "told", "written")

    def __init__(
        self,
        item: Item,
        events: list[Event],
        failures: list[tuple[int, Outcome]],
        last: bool,
        news: list[News] | None = None,
    ) -> None:
        self.item = item
        self.events = events
        self.failures = failures
        self.last = last
        self.news = news or []
        self.returned: bounce.Returned | None = None
        self.told: list[str] = []
        self.error = ""
        self.refused = 0
        self.stuck = False
        self.written = False

    def fails(self, problem: Exception) -> None:
        """It could not be recorded."""
        self.error = _why(problem)
        self.refused += 1
        self.stuck = isinstance(problem, OSError) and problem.errno not in _FULL

    @property
    def recorded(self) -> list[Event]:
        """All events of the step, those of the report included."""
        return self.events + (self.returned.events if self.returned is not None else [])

    @property
    def removed(self) -> bool:
        """Nothing keeps the message in the queue: nobody is left to try, and every failure, in this round or an earlier
        one, was told or need not be."""
        kept = self.item.state.kept or (self.returned is not None and self.returned.kept)
        return self.last and not self.error and not kept


class Recorder:
    """`applied` is called in the loop for each step once it is safe, `refused` for one that the disk does not take now.
    What one of them raises is given to `bug`."""

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        reports: bounce.Reports,
        applied: Callable[[Step], None],
        refused: Callable[[Step], None],
        bug: Callable[[Exception], None],
    ) -> None:
        self.spool = spool
        self.ledger = ledger
        self.reports = reports
        self.applied = applied
        self.refused = refused
        self.bug = bug
        self._pending: dict[Step, asyncio.TimerHandle] = {}  # steps the disk refused, waiting to be written again
        self._waiting: list[Step] = []
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None

    @property
    def pending(self) -> int:
        """How many results the disk does not take at present."""
        return len(self._pending)

    @property
    def stuck(self) -> bool:
        """Results cannot be made to last, and nothing that is delivered now will make room for them."""
        return any(step.stuck for step in self._pending)

    def add(self, step: Step) -> None:
        self._waiting.append(step)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def settled(self) -> None:
        """Return when everything added so far is safe."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """The end: what the disk refused is tried once more."""
        await self.settled()
        for step, timer in self._pending.items():
            timer.cancel()
            self.add(step)
        await self.settled()
        for timer in self._pending.values():
            timer.cancel()
        self._worker.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await loop.run_in_executor(self._worker, self._record, batch)
                for step in batch:
                    if step.error:
                        # What happened has happened, only the disk does not take it: the message stays under way, so
                        # that it is not sent twice, and the result is written down later.
                        self._pending[step] = loop.call_later(PAUSE, self.add, step)
                    else:
                        self._pending.pop(step, None)
                    try:
                        (self.refused if step.error else self.applied)(step)
                    except Exception as error:  # ours, and the other steps are none the worse for it
                        self.bug(error)
        finally:
            self._task = None

    # ------------------------------------------------------------ in the worker thread

    def _record(self, batch: list[Step]) -> None:
        """Never raises: a step that could not be recorded says so in `error`."""
        logged: list[Step] = []
        for step in batch:
            step.error = ""
            try:
                # Repeated in another process, both find the reports they made; in this one they may have left since.
                while step.news:
                    if id := self.reports.tell(step.item.envelope, step.news[0]):
                        step.told.append(id)
                    del step.news[0]
                if step.failures and step.returned is None:
                    step.returned = self.reports.spool(step.item.envelope, step.item.state, step.failures)
                events = step.recorded
                # The removal is the record, unless it was refused: then the log may take what `queue/` does not.
                needless = step.last and not step.failures and not step.item.state.tried and not step.refused
                if events and not step.written and not needless:
                    self.ledger.append(step.item.id, events)
                    logged.append(step)
            except Exception as problem:
                step.fails(problem)
        try:
            if logged:
                self.ledger.sync([step.item.id for step in logged])
        except NotRecorded as problem:
            for step in logged:
                if step.item.id in problem.ids:
                    step.fails(problem)
        for step in logged:
            step.written = not step.error
        if gone := [step.item.id for step in batch if step.removed]:
            try:
                self.ledger.bury(gone)
            except OSError as problem:
                for step in batch:
                    if step.removed:
                        step.fails(problem)
                        step.stuck = True  # to remove something takes no room


def _why(problem: Exception) -> str:
    if isinstance(problem, (OSError, BrokenMessage)):
        return f"can not record the result: {getattr(problem, 'strerror', None) or problem}"
    text = "".join(traceback.format_exception(problem))  # ours: of one message, and the results of others are recorded
    return f"can not record the result: internal error, please report it: {text[-1500:]}"
