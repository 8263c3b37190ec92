"""Hand-over of the spool: all interleavings of submitters, owners that come and go, and an operator's command.

The real code: `ownership.announce` (what a submitter does after the link), `Ownership`, `tenure.hold`, `tenure.request`,
on a model of lock, socket and directory. The owner's own loop (asyncio) is stood in for by its order of steps: listen,
list, serve, and close the socket when there is nothing left. Promise: when nobody goes on by himself, no message waits.

Leaving out any of the rules of `system.ownership` breaks it.
"""

import types

import interleave
import pytest

from dma_runtime.delivery import tenure
from dma_runtime.system import ownership
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.spool import Spool


class Left(AssertionError):
    """A message waits and nobody is awake."""


class World(FileSystem):
    """What the processes share: the queue's names, the lock, the bell."""

    def __init__(self, run):
        self.run = run
        self.queue = set()
        self.holder = None
        self.bell = None
        self.blind = False  # mutation: nobody sees the queue without the lock

    def describe(self):
        return (frozenset(self.queue), self.holder, None if self.bell is None else tuple(self.bell.lines))

    # ------------------------------------------------------------ the seam

    def open(self, path, flags, mode=0o600):
        assert path.endswith("/lock")
        return 3

    def close(self, fd):
        pass

    def unlink(self, path):
        pass  # of control: what counts is whether somebody listens

    def lock(self, fd):
        self.run.gate()
        if self.holder is None:
            self.holder = self.run.current.name
            return True
        return False

    def unlock(self, fd):
        self.run.gate()
        assert self.holder == self.run.current.name
        self.holder = None

    def listdir(self, path):
        self.run.gate()
        blind = self.blind and self.holder != self.run.current.name
        return [] if blind else sorted(self.queue)

    def listen(self, directory, name):
        self.run.gate()
        self.bell = Bell(self)
        return self.bell

    def connect(self, directory, name, timeout):
        self.run.gate()
        if self.bell is None:
            raise ConnectionRefusedError
        return Call(self.run, self.bell)


class Bell:
    def __init__(self, world):
        self.world = world
        self.lines = []

    def as_seen(self):
        return self.world.bell is self

    def take(self, wait=False):
        """What was rung; with `wait`, when there is something."""
        self.world.run.gate((lambda: bool(self.lines)) if wait else (lambda: True))
        lines, self.lines = self.lines, []
        return lines

    def close(self):
        self.world.run.gate()
        self.world.bell = None  # lines nobody took are lost


class Call:
    """A connection; what was sent to an owner who closes meanwhile is lost."""

    def __init__(self, run, bell):
        self.run = run
        self.bell = bell

    def as_seen(self):
        return self.bell.as_seen()

    def send(self, line):
        self.run.gate()
        if self.bell.world.bell is not self.bell:
            raise BrokenPipeError
        self.bell.lines.append(line)
        return len(line)

    def sendall(self, line):
        self.send(line)

    def recv(self, length):
        self.run.gate(lambda: not self.bell.lines or self.bell.world.bell is not self.bell)
        return b'{"ok":true}\n' if self.bell.world.bell is self.bell else b""

    def close(self):
        pass


class Owner:
    """Stands in for delivery.owner.Owner: the same order of steps, deliveries that succeed at once."""

    resident = False
    late_listening = False

    def __init__(self, held, spool, config, log, *, trace=None, attendants=()):
        self.held = held
        self.spool = spool
        self.stopping = self.foreign = self.lost = False
        self.queue = types.SimpleNamespace(items={}, broken={}, unfinished=False)

    def as_seen(self):
        return tuple(self.queue.items), self.queue.unfinished

    def serve(self, goal):
        return self._serve

    def _serve(self):
        if self.late_listening:
            self._deliver()
            bell = self.held.listen()
        else:
            bell = self.held.listen()
            self._deliver()
        while rung := bell.take(wait=self.resident):
            del rung
            self._deliver()
        self._leave(bell)

    def _leave(self, bell):
        bell.close()

    def _deliver(self):
        for name in self.spool.ids():
            self.spool.fs.queue.discard(name)

    def answer_once(self, question):
        return self._answer

    def _answer(self):
        self.queue.items = dict.fromkeys(self.spool.ids())
        self.queue.unfinished = bool(self.queue.items)
        return {"ok": True}


def submitter(world, name):
    def live():
        world.run.gate()
        world.queue.add(name)  # linked and synced
        ownership.announce(Spool("/s", world), b"look", lambda: start(world))

    world.run.spawn(name, live)


def start(world):
    names = {process.name for process in world.run.processes if not process.ended}
    owner(world, next(name for number in range(9) if (name := f"owner{number}") not in names))


def owner(world, name):
    world.run.spawn(name, lambda: tenure.hold(Spool("/s", world), None, None, tenure.Goal()))


def operator(world, start=start):
    def live():
        tenure.request(Spool("/s", world), None, None, {"do": "hold"}, timeout=1, start=lambda: start(world))

    world.run.spawn("operator", live)


def nobody_left_waiting(run):
    waiting = [process.name for process in run.processes if not process.ended]
    if run.world.queue:
        raise Left(f"{run.world.queue} in the queue, {waiting} asleep")
    assert all(name.startswith("owner") and Owner.resident for name in waiting), f"{waiting} wait for ever"


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(tenure, "Owner", Owner)
    monkeypatch.setattr(tenure, "asyncio", types.SimpleNamespace(run=lambda function: function()))
    # No deadline passes here; and the time, held by a process, would make each of its states a new one, without end.
    monkeypatch.setattr(tenure, "time", types.SimpleNamespace(monotonic=lambda: 0.0))


def world_of(*people, submitters=2, **facts):
    """A set-up for `explore`: submitters, and those who `people` add."""

    def setup(run):
        world = World(run)
        for name, value in facts.items():
            setattr(world, name, value)
        for person in people:
            person(world)
        for number in range(submitters):
            submitter(world, f"m{number}")

        def pause(_seconds):
            run.gate(lambda: world.holder is None or world.bell is not None)

        ownership.time = types.SimpleNamespace(sleep=pause)
        return world

    return setup


@pytest.fixture(autouse=True)
def real_time():
    kept = ownership.time
    yield
    ownership.time = kept


def leaving(world):
    owner(world, "owner0")


# ---------------------------------------------------------------- the promise


def test_two_submitters_and_nobody():
    assert interleave.explore(world_of(), nobody_left_waiting) > 100


def test_two_submitters_and_a_leaving_owner():
    assert interleave.explore(world_of(leaving), nobody_left_waiting) > 500


def test_two_submitters_and_a_resident_owner(monkeypatch):
    monkeypatch.setattr(Owner, "resident", True)
    assert interleave.explore(world_of(leaving), nobody_left_waiting) > 100


def test_a_submitter_and_an_operator():
    assert interleave.explore(world_of(operator, submitters=1), nobody_left_waiting) > 50


def test_a_submitter_an_operator_and_a_leaving_owner():
    assert interleave.explore(world_of(leaving, operator, submitters=1), nobody_left_waiting) > 1000


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_everybody():
    assert interleave.explore(world_of(leaving, operator), nobody_left_waiting) > 5000


# ---------------------------------------------------------------- each rule is necessary


def test_without_the_last_look(monkeypatch):
    with pytest.raises(Left):
        interleave.explore(world_of(leaving, blind=True), nobody_left_waiting)


def test_without_trying_the_lock(monkeypatch):
    monkeypatch.setattr(ownership, "announce", lambda spool, line, start: ownership.ring(spool, line))
    with pytest.raises(Left):
        interleave.explore(world_of(leaving), nobody_left_waiting)


def test_without_ringing(monkeypatch):
    monkeypatch.setattr(Owner, "resident", True)
    monkeypatch.setattr(ownership, "ring", lambda spool, line: False)
    with pytest.raises(Left):
        interleave.explore(world_of(leaving), nobody_left_waiting)


def test_without_starting_an_owner():
    def idle(world):
        pass

    with pytest.raises(Left):
        interleave.explore(world_of(lambda world: operator(world, idle), submitters=1), nobody_left_waiting)


def test_listing_before_listening(monkeypatch):
    monkeypatch.setattr(Owner, "resident", True)
    monkeypatch.setattr(Owner, "late_listening", True)
    with pytest.raises(Left):
        interleave.explore(world_of(leaving), nobody_left_waiting)


def test_taking_in_while_leaving(monkeypatch):
    """What is known and not begun hides from the last look."""

    def leave(self, bell):
        self.queue.items = dict.fromkeys(bell.take()) and dict.fromkeys(self.spool.ids())
        bell.close()

    monkeypatch.setattr(Owner, "_leave", leave)
    with pytest.raises(Left):
        interleave.explore(world_of(leaving), nobody_left_waiting)


def test_releasing_before_the_bell_is_closed(monkeypatch):
    """The bell then rings for somebody who has already looked for the last time."""
    real = tenure.hold

    def hold(spool, *arguments, **keywords):
        served = real(spool, *arguments, **keywords)
        if served is not None and spool.fs.bell is getattr(served, "bell", None):
            spool.fs.run.gate()
            spool.fs.bell = None
        return served

    def keep(self, bell):
        self.bell = bell

    monkeypatch.setattr(Owner, "_leave", keep)
    monkeypatch.setattr(tenure, "hold", hold)
    with pytest.raises(Left):
        interleave.explore(world_of(leaving), nobody_left_waiting)
