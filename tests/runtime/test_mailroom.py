"""Local deliveries side by side: a mailbox that is locked keeps its own mail waiting, and nobody else's."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from dma_runtime.config import Config
from dma_runtime.delivery import local, mailroom
from dma_runtime.delivery.mailroom import THREADS, Mailroom
from dma_runtime.delivery.queue import Item, Round
from dma_runtime.delivery.remote import Work
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.outcome import DEFERRED, DELIVERED, Outcome
from dma_runtime.system.spool import Spool

LOCKED = Outcome(DEFERRED, "/var/mail/mallory was locked by another program for 30 seconds", status="4.2.0")


class Office:
    """A mailroom with messages in a spool. `slow`: seconds a delivery to mallory takes; `done`: (address, kind) in order."""

    def __init__(self, directory, monkeypatch, slow=0.3):
        self.spool = Spool(str(directory))
        self.spool.prepare(own_only=True)
        self.settings = SimpleNamespace(config=Config())
        self.slow, self.stuck, self.parts = slow, False, 0
        self.tried, self.done, self.count = [], [], 0
        monkeypatch.setattr(local, "deliver", self._deliver)
        monkeypatch.setattr(mailroom.local, "deliver", self._deliver)

    def open(self):
        self.room = Mailroom(self)

    def _deliver(self, spool, id, recipient, config, *, stopped):
        self.tried.append((id, recipient.address))
        if recipient.address == "mallory":
            time.sleep(self.slow)
            return LOCKED
        if recipient.address.startswith("|"):
            time.sleep(self.slow)
        return Outcome(DELIVERED, "delivered")

    def split(self, item):
        self.parts += 1

    def finished(self, item, pairs):
        self.done += [(item.envelope.recipients[index].address, outcome.kind) for index, outcome in pairs]

    def take(self, *names, forced=False):
        self.count += 1
        envelope = Envelope(f"m{self.count}", "a@x", [Recipient(name) for name in names], 1.0)
        envelope.header_end = 1
        draft = self.spool.draft(envelope)
        draft.write(b"x: y\n\nz\n")
        draft.commit(envelope)
        item = Item(envelope, None)
        item.round = Round(forced)
        self.room.take(Work(item, list(range(len(names)))))

    async def until(self, wish):
        async with asyncio.timeout(10):
            while not wish():
                await asyncio.sleep(0.01)

    async def close(self):
        while self.room.tasks:
            await asyncio.wait(self.room.tasks)
        self.room.close()


@pytest.fixture
def office(tmp_path, monkeypatch):
    return Office(tmp_path / "spool", monkeypatch)


def test_a_locked_mailbox_keeps_nobody_else_waiting(office):
    async def story():
        office.open()
        office.slow = 2.0
        for _ in range(3 * THREADS):
            office.take("mallory")
        office.take("alice")
        began = time.monotonic()
        await office.until(lambda: ("alice", DELIVERED) in office.done)
        assert time.monotonic() - began < office.slow
        await office.close()
        assert [kind for name, kind in office.done if name == "mallory"] == [DEFERRED] * 3 * THREADS

    asyncio.run(story())


def test_a_mailbox_that_stayed_locked_is_not_waited_for_again_at_once(office):
    async def story():
        office.open()
        for _ in range(5):
            office.take("mallory")
        await office.close()
        assert [kind for _, kind in office.done] == [DEFERRED] * 5
        assert len(office.tried) == 1

    asyncio.run(story())


def test_but_when_somebody_asks_for_the_attempt(office, monkeypatch):
    async def story():
        office.open()
        office.slow = 0
        office.take("mallory")
        office.take("mallory", forced=True)
        await office.close()
        assert len(office.tried) == 2
        monkeypatch.setattr(mailroom, "PATIENCE", 0.0)
        office.open()
        office.take("mallory")
        office.take("mallory")
        await office.close()
        assert len(office.tried) == 4  # time has passed

    asyncio.run(story())


def test_messages_to_one_mailbox_arrive_in_their_order(office):
    async def story():
        office.open()
        for _ in range(20):
            office.take("alice")
        await office.close()
        assert [id for id, _ in office.tried] == [f"m{number}" for number in range(1, 21)]

    asyncio.run(story())


def test_commands_keep_no_mailbox_waiting(office):
    async def story():
        office.open()
        office.slow = 1.0
        for number in range(THREADS):
            office.take(f"| command {number}")
        office.take("|mallory command", "alice", "|mallory other")
        await office.until(lambda: ("alice", DELIVERED) in office.done)
        assert office.done == [("alice", DELIVERED)], "before any command has ended, and told at once"
        await office.close()
        assert len(office.done) == THREADS + 3

    asyncio.run(story())


def test_one_users_commands_are_run_one_after_another(office):
    async def story():
        office.open()
        office.slow = 0.2
        for number in range(THREADS):
            office.take(f"|mallory command {number}")
        office.take("|alice command")
        await office.until(lambda: any(address.startswith("|alice") for address, _ in office.done))
        assert sum(address.startswith("|mallory") for _, address in office.tried) <= 2
        await office.close()
        assert len(office.done) == THREADS + 1

    asyncio.run(story())


def test_stopping_begins_nothing_new_and_reports_what_was_done(office, monkeypatch):
    monkeypatch.setattr(mailroom, "OFTEN", 60.0)
    async def story():
        office.open()
        office.take("alice", "mallory", "bob")
        office.take("mallory")
        await office.until(lambda: len(office.tried) == 2)
        office.room.leave()
        await office.close()
        assert sorted(office.done) == [("alice", DELIVERED), ("mallory", DEFERRED)]
        assert sorted(office.tried) == [("m1", "alice"), ("m2", "mallory")]
        assert office.parts == 1, "the rest of the first message is the next owner's"

    asyncio.run(story())
