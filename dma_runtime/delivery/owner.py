"""The owner of a spool at work: takes the lock, works through the queue, leaves when there is nothing to do.

One asyncio process per spool; everybody else spools and rings its bell (`delivery.control`).

Rules:
- Sleeps are cut in slices of at most 60 s. A wall clock that was set moves the schedule with it; after a suspend the
  queue is looked at again (hard-parts.md, Time).
- Leaving: close the bell, release the lock, then list `queue/` once more; somebody may have spooled in between.
- An owner whose spool was removed, or replaced, begins nothing more and leaves: the spool that is there now may have its own.
- A spool of another machine (a clone, a shared home) is not worked on until `dma-queue adopt`.
- SIGHUP, for a resident one: configuration and secrets are read again.
- SIGTERM: nothing new is begun; what is under way has `GRACE` seconds to reach its end, a message that was sent to its end and
  not answered yet, and a command that runs, a minute more (`rounds.DOUBT`).
"""

from __future__ import annotations

import asyncio
import signal

from dma_runtime.config import Config
from dma_runtime.delivery import bounce, listing, plainlist, rootmail
from dma_runtime.delivery.control import Control
from dma_runtime.delivery.queue import Queue
from dma_runtime.delivery.record import Recorder
from dma_runtime.delivery.rounds import Rounds
from dma_runtime.delivery.runs import Goal, Runs, Waiter
from dma_runtime.delivery.settings import Settings
from dma_runtime.delivery.watch import Watch
from dma_runtime.errors import BrokenMessage, CannotSpool
from dma_runtime.policy import telling
from dma_runtime.system import clock, notice, takeover
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.maillog import MailLog
from dma_runtime.system.ownership import Ownership
from dma_runtime.system.secrets import SecretStore
from dma_runtime.system.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    class Attendant(Protocol):
        """What runs beside the owner, in its loop: `begin` when the queue is known, `end` before anything is closed."""

        def begin(self, owner: Owner) -> None: ...
        async def end(self) -> None: ...
        @property
        def busy(self) -> bool: ...


SLICE = 60.0  # seconds; the longest sleep
LOADING = 0.001  # seconds of reading the spool between two turns of everything else: a sign-on takes some twenty of them
ASK_C_DMA = 300.0  # seconds until a message that a process of C dma holds is asked for again
GRACE = 25.0  # seconds for what is under way when we are told to stop
ROUNDS_WITHOUT_NETWORK = 3  # then an owner that is not resident gives the spool up


class Owner:
    """Made by the holder of the lock; `serve` returns when it is time to leave."""

    def __init__(
        self,
        ownership: Ownership,
        spool: Spool,
        config: Config,
        log: MailLog,
        *,
        trace: Callable[[str], None] | None = None,
        attendants: Sequence[Attendant] = (),
    ) -> None:
        self.ownership = ownership
        self.spool = spool
        self.log = log
        self._attendants = attendants
        self.settings = Settings(config, log)
        self.ledger = Ledger(spool)
        self.queue = Queue(spool, self.ledger)
        self.secrets = SecretStore(lambda: clock.now().awake)
        self.recorder = Recorder(
            spool,
            self.ledger,
            bounce.Reports(spool, lambda: self.settings.config),
            lambda step: self.rounds.applied(step),
            lambda step: self.rounds.refused(step),
            lambda error: self.rounds.bug(error),
        )
        self.rounds = Rounds(
            self.queue,
            self.settings,
            log,
            self.secrets,
            self.recorder,
            had=lambda one: self._runs.had(one),
            wake=self._ring,
            trace=trace,
        )
        self._watch = Watch(clock.now())
        self._looked = self._looked_for_old = float("-inf")
        self._old_left = False  # C dma had something that could not be taken over
        self._bell = asyncio.Event()
        self._runs = Runs(self.queue)
        self.stopping = False  # told to stop
        self.lost = False  # the spool that is there now is not the one we own
        self._leaving = False  # what is rung from now on is left to the last look of `tenure.hold`
        self.resident = False
        self.foreign = False  # the spool belongs to another machine
        self._letter: asyncio.Task[None] | None = None  # being written to root
        self._noted: set[str] = set()  # damaged messages that the log knows of

    # ------------------------------------------------------------ the loop

    async def serve(self, goal: Goal) -> None:
        """Work until the goal is reached: the queue is empty, the run is over, or somebody says stop."""
        self.resident = goal.resident
        self.rounds.stays = goal.resident or bool(self._attendants)
        control = Control(self._answer)
        await control.open(self.ownership.listen())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        if goal.resident:
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            self.ledger.sweep()
            self._take_over()
            self.queue.begin()
            self.foreign = not self.ownership.machine_matches()
            if self.foreign:
                self.rounds.standing.raise_(telling.of_foreign_spool(clock.now().wall))
            else:
                self.rounds.standing.withdraw([telling.FOREIGN])
            waiter = self._run(goal) if goal.run and not self.foreign else None
            for attendant in self._attendants:
                attendant.begin(self)
            while not self.stopping and not self._is_lost():
                self._read(LOADING)
                self._look_around()
                if goal.once and self._finished(goal, waiter):
                    break  # what came in meanwhile is not ours to begin
                if not self._idle:
                    self.rounds.dispatch()
                else:
                    self._runs.end()
                if self._finished(goal, waiter):
                    break
                await self._sleep()
        finally:
            self._leaving = True
            for attendant in reversed(self._attendants):
                await attendant.end()
            await control.close()
            await self._settle()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def answer_once(self, request: dict[str, object]) -> dict[str, object]:
        """Answer one request without serving the queue (`delivery.tenure.request`)."""
        self._load()
        answer = await self._answer(request)
        await self._settle()
        return answer or {}

    def _is_lost(self) -> bool:
        if not self.lost and not self.ownership.holds():
            self.lost = True
            self.log.warning(f"{self.spool.path} was removed or replaced by another; what was queued there is gone")
        return self.lost

    def _finished(self, goal: Goal, waiter: Waiter | None) -> bool:
        if goal.resident:
            return False
        if self.foreign or any(attendant.busy for attendant in self._attendants):
            return self.foreign
        if self.queue.loading:
            return False
        if goal.once:
            if self.recorder.stuck:
                return True  # the attempt that is waited for may not begin
            return waiter is None or (waiter.done.done() and not self.recorder.busy)
        if self.rounds.without_network >= ROUNDS_WITHOUT_NETWORK and not self.rounds.busy:
            self.log.info("no network; the queue is left until somebody runs it")
            return True
        idle = not self.rounds.busy and not self.recorder.pending and not self._runs
        return idle and self.queue.next_due() is None

    @property
    def _idle(self) -> bool:
        """Nothing is begun, whatever is due: the spool is another machine's, or results cannot be recorded."""
        return self.foreign or self.rounds.stuck

    async def _sleep(self) -> None:
        """Until the bell rings, an item is due, or a slice is over. Always lets the sessions have their turn."""
        if self.queue.loading:
            await asyncio.sleep(0)
            return
        due = None if self._idle else self.queue.next_due()
        wait = SLICE if due is None else min(SLICE, max(0.0, due - clock.now().wall))
        try:
            await asyncio.wait_for(self._bell.wait(), wait)
        except TimeoutError:
            pass
        self._bell.clear()

    def _look_around(self) -> None:
        """What may have changed while we slept: the clocks, the configuration."""
        moment = clock.now()
        jump, slept = self._watch.look(moment)
        if jump:
            self.log.info(f"the clock was set by {jump:.0f}s; the schedule moves with it")
            self.queue.shift(jump)
            self.rounds.shift(jump)
        if slept:
            self.rounds.slept()
        if moment.awake - self._looked > SLICE and not self.queue.loading:
            self._looked = moment.awake
            self._look_at_notices()
            self._look_for_unannounced()
            self._tell_root()
        if self._old_left and moment.awake - self._looked_for_old > ASK_C_DMA:
            self._take_over()
            self.queue.begin()
        if self.settings.refresh():
            self.secrets.clear()
            self._wake_deferred()
            self._look_at_notices()

    def _look_at_notices(self) -> None:
        """What somebody has to see to, as far as the whole queue is known."""
        if not self.queue.loading and not self.foreign and not self.lost:
            self.rounds.look_at_notices()

    def _tell_root(self) -> None:
        """The machine's own queue: what has stood for a day is told by mail, too."""
        if self.settings.config.by_socket and not self.foreign and self._letter is None:
            self._letter = asyncio.create_task(self._write_to_root())

    async def _write_to_root(self) -> None:
        try:
            if id := await asyncio.to_thread(rootmail.write, self.spool, self.settings.config, clock.now().wall):
                self.log.info("root is told by mail of what has stood for a day", id)
                self.take_in(id)
        except (CannotSpool, OSError) as problem:
            self.log.warning(f"root can not be told by mail: {problem}")
        except Exception as error:  # ours; whoever waits for the letter at the end has results to record
            self.rounds.bug(error)
        finally:
            self._letter = None

    def _look_for_unannounced(self) -> None:
        """A submitter may have been killed between the link and the ring, or found our backlog full."""
        try:
            self.queue.begin()
        except OSError as error:
            self.log.warning(f"can not list the queue: {error.strerror or error}")

    def _wake_deferred(self) -> None:
        """The configuration or a secret changed: whatever was deferred may leave now."""
        self.rounds.try_all()
        self.rounds.reroute()
        now = clock.now().wall
        for item in self.queue.items.values():
            if item.due is not None and item.due > now:
                self.queue.wake(item, now)

    def _ring(self) -> None:
        self._bell.set()

    def wake(self) -> None:
        """Look again whether there is something to do, or nothing any more."""
        self._ring()

    def _stop(self) -> None:
        self.stopping = True
        self._bell.set()

    def _reload(self) -> None:
        """Read configuration and secrets again."""
        self.settings.refresh()
        self.secrets.clear()
        self._wake_deferred()
        self._ring()

    async def _settle(self) -> None:
        """Let what is under way come to its end, then make every result safe."""
        if self._letter is not None:
            await self._letter
        await self.rounds.close(GRACE)
        await self.recorder.close()
        self._look_at_notices()
        self.rounds.relay_book.close()

    def _take_over(self) -> takeover.Found:
        """Move what C dma left in SPOOLDIR into the queue; what it still works on is asked for again."""
        self._looked_for_old = clock.now().awake
        self._old_left = False
        if not takeover.waits(self.spool.path, self.spool.fs):
            return takeover.Found()
        try:
            found = takeover.take_over(self.spool)
        except (CannotSpool, OSError) as error:
            self._old_left = True
            problem = f"the queue that C dma left can not be taken over now: {error}"
            self.log.warning(problem)
            found = takeover.Found()
            found.problems.append(problem)
            return found
        self._old_left = found.busy > 0
        if found.taken:
            self.log.info(f"took over {len(found.taken)} messages that C dma left, with their age")
        if found.busy:
            self.log.info(f"{found.busy} messages are still held by processes of C dma; they are asked for again")
        for problem in found.problems:
            self.log.warning(f"left by C dma and not taken over: {problem}")
        return found

    def _read(self, seconds: float) -> None:
        """Go on taking in what the spool holds."""
        if self.queue.loading:
            self._runs.read(self.queue.read(seconds), clock.now().wall)
            if not self.queue.loading:
                self._note_broken()

    def _load(self) -> None:
        """Know everything that is in the spool now. Raises OSError."""
        self.queue.begin()
        self._read(float("inf"))

    def _note_broken(self) -> None:
        for id, problem in self.queue.broken.items():
            if id not in self._noted:
                self._noted.add(id)
                self.log.write(3, f"damaged message kept as failed: {problem}", id)

    # ------------------------------------------------------------ runs

    def _run(self, goal: Goal) -> Waiter:
        """Attempt messages now."""
        if not goal.due_only:
            self.rounds.try_all()
        self._ring()
        return self._runs.begin(goal, clock.now().wall)

    def take_in(self, id: str) -> None:
        """A message was spooled."""
        item = self.queue.add(id)
        if item is not None:
            item.fresh = True
        self._ring()

    def attempt(self, ids: list[str] | None) -> asyncio.Future[None]:
        """Attempt these messages, or all, now; done when each had its attempt."""
        if ids is None:
            self.queue.begin()
        return self._run(Goal(run=True, ids=ids)).done

    # ------------------------------------------------------------ the bell

    async def _answer(self, request: dict[str, object]) -> dict[str, object] | None:
        if self._leaving:
            raise ConnectionResetError  # taken in now it would count as known, and nobody would begin it
        match request:
            case {"do": "look", "id": str(one)}:
                self.take_in(one)
                return None
            case {"do": "leave"}:
                if self.resident or self._attendants:
                    return {"error": "this owner is here to stay"}
                self._stop()
                return {"ok": True}
            case {"do": "run", **rest}:
                ids = rest.get("ids")
                chosen = [str(one) for one in ids] if isinstance(ids, list) else None
                if chosen is None:
                    self.queue.begin()
                waiter = self._run(Goal(run=True, ids=chosen, due_only=bool(rest.get("due"))))
                if rest.get("wait"):
                    await waiter.done
                    await self.recorder.settled()
                return {"done": True}
            case {"do": "list"}:
                return {"items": self.rows()}
            case {"do": "mailq"}:
                return {"text": self.mailq()}
            case {"do": "adopt"}:
                return self._adopt()
            case {"do": "reload"}:
                self._reload()
                return {"ok": True}
            case {"do": "hold" | "release" | "remove" | "retry" as verb, "id": str(one)}:
                return await self._change(verb, one)
        return {"error": f"not understood: {str(request)[:100]}"}

    def rows(self) -> list[listing.Row]:
        """The queue as it is shown."""
        self._load()
        now = clock.now().wall
        config = self.settings.config
        down, relay_map = self.rounds.relays, self.settings.relays
        rows = [listing.row(i.envelope, i.state, config, down, now, relay_map) for i in self.queue.items.values()]
        return rows + [listing.broken_row(*broken) for broken in self.queue.broken.items()]

    def mailq(self, uid: int | None = None) -> str:
        """mailq's text, of one user's messages or of all."""
        self._load()
        shown = sorted(
            (item for item in self.queue.items.values() if uid in (None, item.envelope.uid)), key=lambda item: item.id
        )
        return plainlist.text(plainlist.blocks(item.envelope, item.state) for item in shown)

    def _adopt(self) -> dict[str, object]:
        """The spool is this machine's from now on, and what C dma left in it is ours."""
        try:
            self.ownership.adopt()
        except OSError as problem:
            return {"error": f"can not be recorded: {problem.strerror or problem}"}
        notice.withdraw(self.spool.path, [telling.FOREIGN])
        self.foreign = False
        found = self._take_over()
        self.queue.begin()
        self._ring()
        said = {"taken": len(found.taken), "busy": found.busy, "problems": found.problems}
        return {"ok": True, **{name: value for name, value in said.items() if value}}

    async def _change(self, verb: str, id: str) -> dict[str, object]:
        """One of the operator's verbs on one message."""
        await self.recorder.settled()
        try:
            answer = self._changed(verb, id)
            self._look_at_notices()
            return answer
        except (OSError, BrokenMessage) as problem:
            return {"error": f"can not be recorded: {getattr(problem, 'strerror', None) or problem}"}

    def _changed(self, verb: str, id: str) -> dict[str, object]:
        """The same, when nothing is being written; it does not let anything begin meanwhile. Raises OSError, BrokenMessage."""
        item = self.queue.items.get(id) or self.queue.add(id)
        if item is None and id not in self.queue.broken:
            return {"error": "no such message"}
        if item is not None and item.round is not None:
            return {"error": "being delivered"}
        if verb == "remove":
            try:
                self.ledger.bury([id])
            except OSError:
                if self.spool.there(id):
                    raise
                # It has gone; only a power loss now could bring it back, to be seen and removed again.
            self.queue.broken.pop(id, None)
            if item is not None:
                self.queue.forget(item)
            self.log.info("removed by the operator", id)
            self._runs.had(id)
            self._ring()
            return {"ok": True}
        if item is None:
            return {"error": "damaged; it can only be removed"}
        if verb == "retry" and item.state.held:
            return {"error": "held; release it first"}
        if verb != "retry" or item.state.kept:
            event: dict[str, object] = {"do": verb, "at": clock.now().wall}
            self.ledger.append(id, [event])
            self.ledger.sync([id])
            item.state.apply(event)
            self.queue.schedule(item)
        if verb == "retry":
            self._run(Goal(run=True, ids=[id]))
        else:
            self._runs.had(id)  # whoever waited for its attempt waits for nothing now
        self._ring()
        return {"ok": True}
