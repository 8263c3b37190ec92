"""An owner among everything that can happen to it at once, at random: relays that break at any step, mailboxes that are busy or
run into a bug of ours, a disk that refuses, an operator who holds, releases, retries and removes, reloads, suspends, stops.

Promises: when the trouble is over the queue becomes empty; each recipient was delivered, told of, or removed by the operator;
where nothing made a delivery doubtful (no lost reply, no refused record), nobody got a message twice.
"""

import asyncio
import errno
import os
import random
import time

import pytest
from owner_room import InAThread, Room

from dma_runtime.config import parse
from dma_runtime.delivery import local, mailroom, record, signon
from dma_runtime.delivery import owner as owner_module
from dma_runtime.delivery.habits import Habits
from dma_runtime.delivery.owner import Owner
from dma_runtime.delivery.runs import Goal
from dma_runtime.outcome import DEFERRED, DELIVERED, Outcome
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.ownership import Ownership

VERBS = ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "final", "QUIT")
OFFERS = [
    (),
    ("PIPELINING",),
    ("CHUNKING",),
    ("PIPELINING", "CHUNKING", "8BITMIME"),
    ("PIPELINING", "CHUNKING", "LIMITS MAILMAX=3 RCPTMAX=2"),
]
HARMLESS = ("451 4.3.0 later", "452 4.5.3 too many recipients", "delay")
DOUBTFUL = ("close", "reset", "garbage", "half", "hang", "421 4.3.2 closing", "554 5.7.1 no")
DEEDS = ("put", "put", "hold", "release", "release", "remove", "retry", "look", "reload", "run", "sleep")
MOST = 50  # messages
IN_DOUBT = "may have been delivered"
TOLD = ("bouncing as", "discarding", "kept as failed")


class Trouble:
    """`on`: something may go wrong. `doubtful`: also what leaves a delivery in doubt, or refuses it for good."""

    def __init__(self, dice, doubtful):
        self.dice = dice
        self.doubtful = doubtful
        self.on = True


class Scripts:
    """What a relay does on each connection."""

    def __init__(self, trouble):
        self.trouble = trouble

    def __len__(self):
        return 1 << 30

    def __getitem__(self, number):
        dice, faults = self.trouble.dice, {}
        if self.trouble.on and dice.random() < 0.8:
            rate = dice.choice((0.02, 0.05, 0.15))
            kinds = HARMLESS + (DOUBTFUL if self.trouble.doubtful else ())
            faults = {(verb, nth): dice.choice(kinds) for verb in VERBS for nth in range(10) if dice.random() < rate}
        return [("serve", {"offers": dice.choice(OFFERS), "faults": faults})]


class Disk(FileSystem):
    def __init__(self, dice):
        self.dice = dice
        self.on = False

    def _maybe(self, chance):
        if self.on and self.dice.random() < chance:
            number = self.dice.choice((errno.EIO, errno.ENOSPC, errno.EROFS))
            raise OSError(number, os.strerror(number))

    def pwrite(self, fd, data, at):
        self._maybe(0.05)
        return super().pwrite(fd, data, at)

    def fsync(self, fd):
        self._maybe(0.03)
        super().fsync(fd)

    def unlink(self, path):
        if "/queue/" in path or "/log/" in path:
            self._maybe(0.05)
        super().unlink(path)


class World:
    def __init__(self, directory, seed, relays, monkeypatch, *, doubtful):
        self.dice = dice = random.Random(seed)
        self.trouble = Trouble(dice, doubtful)
        self.relays = relays
        for relay in relays:
            relay.server.scripts = Scripts(self.trouble)
        self.room = Room(directory, relays[0].port)
        self.disk = self.room.spool.fs = Disk(dice)
        text = f"SPOOLDIR {self.room.spool.path}\nMAILNAME here.test\nSMARTHOST 127.0.0.1:{relays[0].port}\n"
        text += f"RETRY 1s 1s\nTIMEOUT 1s\nMAXRECIPIENTS 2\nMAXMESSAGES 3\nMAXCONNECTIONS 3\nALIASES {directory}/aliases\n"
        text += f"FALLBACK 127.0.0.1:{relays[1].port}\n" * (dice.random() < 0.5) + "RATE 20/s\n" * (dice.random() < 0.3)
        (directory / "aliases").write_text("postmaster: boss\n")
        self.room.config = parse(text, "x")
        self.messages = {}  # id -> addresses
        self.removed = set()
        self.boxes = {}  # (id, name) -> how often
        monkeypatch.setattr(local, "deliver", self.deliver)

    def deliver(self, spool, id, recipient, config, *, stopped):
        time.sleep(self.dice.random() * 0.01)
        chance = self.dice.random() if self.trouble.on else 1.0
        if chance < 0.15:
            return Outcome(DEFERRED, "busy", status="4.2.0")
        if chance < 0.2:
            raise ZeroDivisionError("a bug")
        if chance < 0.25:
            raise OSError(errno.EIO, "Input/output error")
        self.boxes[id, recipient.address] = self.boxes.get((id, recipient.address), 0) + 1
        return Outcome(DELIVERED, "delivered", status="2.0.0")

    def put(self):
        dice, number = self.dice, len(self.messages)
        found = [f"r{number}.{n}@{dice.choice('yz')}.test" for n in range(dice.choice((0, 1, 1, 2, 5)))]
        found += dice.sample(("u1", "u2", "u3", "u4"), dice.choice((0, 0, 1, 3)))
        found = found or ["u1"]
        refusing, self.disk.on = self.disk.on, False
        id = self.room.put(*found, sender=dice.choice(("s@x.test", "", "t@x.test", "u4")))
        self.disk.on = refusing
        self.messages[id] = found
        return id

    async def meddle(self, owner):
        """Somebody at the machine."""
        while not owner._leaving:
            await asyncio.sleep(self.dice.random() * 0.05)
            self.consistent(owner)
            what = self.dice.choice(DEEDS)
            ids = list(owner.queue.items)
            try:
                if what == "put" and len(self.messages) < MOST:
                    owner.take_in(self.put())
                elif what in ("hold", "release", "retry", "remove") and ids:
                    id = self.dice.choice(ids)
                    answer = await owner._answer({"do": what, "id": id})
                    if what == "remove" and answer.get("error") != "being delivered":
                        self.removed.add(id)
                elif what == "look":
                    owner.rows()
                    owner.mailq()
                elif what == "reload":
                    owner._reload()
                elif what == "run":
                    await owner._answer({"do": "run", "ids": None})
                elif what == "sleep":
                    owner.rounds.slept()
                    jump = self.dice.choice((-100.0, 50.0))
                    owner.queue.shift(jump)
                    owner.rounds.shift(jump)
            except ConnectionResetError:
                return

    def consistent(self, owner, *, over=False):
        """What waits at a relay belongs to a round; when all is over, a round that is not has something that waits."""
        waiting = [work for relay in owner.rounds._relays.values() for work in relay.waiting]
        for work in waiting:
            assert work.item.round is not None, work.item.envelope
            assert work.item.round.out > 0, work.item.envelope
        if over:
            held_up = {work.item.id for work in waiting} | {step.item.id for step in owner.recorder._pending}
            for id, item in owner.queue.items.items():
                local_ones = any("@" not in one.address for one in item.envelope.recipients)  # the rest is the next owner's
                assert item.round is None or id in held_up or local_ones, item.envelope

    def turn(self, seconds):
        """An owner for some time."""
        ownership = Ownership.take(self.room.spool)
        owner = Owner(ownership, self.room.spool, self.room.config, self.room.log)

        async def serve():
            meddler = asyncio.create_task(self.meddle(owner)) if self.trouble.on else None
            asyncio.get_running_loop().call_later(seconds, owner._stop)
            # A clock that was said to jump leaves waits of a minute behind.
            await owner.serve(Goal(resident=True, run=not self.trouble.on))
            if meddler is not None:
                await meddler

        try:
            asyncio.run(serve())
        finally:
            ownership.release()
        self.consistent(owner, over=True)
        return owner

    def let_go(self):
        """The operator releases what is held, and removes what can be neither delivered nor returned."""
        ownership = Ownership.take(self.room.spool)
        owner = Owner(ownership, self.room.spool, self.room.config, self.room.log)

        async def all_of_it():
            owner._load()
            for id, item in list(owner.queue.items.items()):
                if item.state.held:
                    await owner._answer({"do": "release", "id": id})
                if item.state.kept:
                    await owner._answer({"do": "remove", "id": id})
                    self.removed.add(id)
            await owner._settle()

        asyncio.run(all_of_it())
        ownership.release()


def play(world, turns):
    dice, room = world.dice, world.room
    for _ in range(dice.choice((3, 15, 30))):
        world.put()
    world.turn(0.0)  # the spool is this machine's
    for _ in range(turns):
        if dice.random() < 0.5:
            signon.HABITS = Habits()
        world.disk.on = world.trouble.doubtful and dice.random() < 0.5
        world.turn(dice.choice((0.3, 1.0, 2.0)))
        world.disk.on = False
    world.trouble.on = False
    for _ in range(20):
        world.let_go()
        owner = world.turn(1.2)
        if not room.spool.ids():
            break
    assert room.spool.ids() == []
    assert owner.queue.broken == {}
    bugs = [line for line in room.log.lines if "internal error" in line and "ZeroDivisionError" not in line]
    assert bugs == []
    arrived = dict(world.boxes)
    for relay in world.relays:
        for _, recipients, _ in relay.server.envelopes:
            for address in recipients:
                arrived[address] = arrived.get(address, 0) + 1
    said = [(line.partition(" ")[0], line) for line in room.log.lines]
    # A report's id begins with that of the message it is about.
    told = {name[:18] for name, line in said if any(word in line for word in TOLD) or name[18:19] == "b"}
    for id, addresses in world.messages.items():
        for address in addresses:
            times = arrived.get(address if "@" in address else (id, address), 0)
            assert times or id in world.removed or id in told, (id, address)
            # A session that is dropped for the machine's sleep, or at the end of our patience, leaves its message in doubt.
            doubts = sum(name == id and f"<{address}>" in line and IN_DOUBT in line for name, line in said)
            assert times <= 1 + doubts or world.trouble.doubtful, (id, address, times, doubts)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "PAUSE", 0.05)
    monkeypatch.setattr(mailroom, "OFTEN", 0.02)
    monkeypatch.setattr(mailroom, "LOOK", 0.02)
    monkeypatch.setattr(owner_module, "GRACE", 1.0)
    monkeypatch.setattr(signon, "HABITS", Habits())
    with InAThread([[]]) as one, InAThread([[]]) as two:
        yield lambda seed, **more: World(tmp_path, seed, (one, two), monkeypatch, **more)


@pytest.mark.parametrize("doubtful", [False, True])
def test_once(world, doubtful):
    play(world(1, doubtful=doubtful), turns=2)


@pytest.mark.campaign
@pytest.mark.parametrize("doubtful", [False, True])
@pytest.mark.parametrize("seed", range(10, 40))
def test_often(world, seed, doubtful):
    play(world(seed, doubtful=doubtful), turns=4)
