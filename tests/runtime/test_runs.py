"""The queue read piece by piece, runs that want what is not read yet, and mailq's text from the index and from the files."""

import asyncio
import os

import pytest
from agent import Agent
from owner_room import InAThread, Room

from dma_runtime.cmd import mailq as door
from dma_runtime.config import parse
from dma_runtime.delivery import owner, plainlist
from dma_runtime.delivery.owner import Owner
from dma_runtime.delivery.queue import Queue
from dma_runtime.delivery.runs import Goal, Runs
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.history import attempt_event, fold
from dma_runtime.outcome import DEFERRED, DELIVERED, Outcome
from dma_runtime.system import clock
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.maillog import MailLog
from dma_runtime.system.ownership import Ownership
from dma_runtime.system.spool import Spool, new_id

NOW = 1800000000.0


@pytest.fixture
def spool(tmp_path):
    made = Spool(str(tmp_path / "spool"))
    made.prepare(own_only=True)
    return made


def put(spool, number, *addresses, sender="s@x.test", queue_only=False):
    envelope = Envelope(new_id(NOW + number, os.urandom), sender, [Recipient(a) for a in addresses or ("r@x.test",)], NOW)
    envelope.queue_only = queue_only
    draft = spool.draft(envelope)
    draft.write(b"Subject: x\n\nx\n")
    return draft.commit(envelope)


class TestReading:
    def test_oldest_first_and_no_more_than_there_is_time_for(self, spool):
        ids = [put(spool, number) for number in range(5)]
        queue = Queue(spool, Ledger(spool))
        queue.begin()
        assert (len(queue), queue.loading, list(queue.items)) == (5, True, [])
        assert [item.id for item in queue.read(0)] == ids[:1]
        assert [item.id for item in queue.read(0)] == ids[1:2]
        assert queue.loading
        assert [item.id for item in queue.read(60)] == ids[2:]
        assert (len(queue), queue.loading) == (5, False)

    def test_what_is_known_already_is_not_read_again(self, spool):
        first = put(spool, 0)
        queue = Queue(spool, Ledger(spool))
        queue.load()
        second = put(spool, 1)
        queue.begin()
        assert len(queue) == 2
        assert [item.id for item in queue.read(60)] == [second]
        assert list(queue.items) == [first, second]

    def test_a_fresh_message_need_not_wait_until_all_are_read(self, spool):
        for number in range(3):
            put(spool, number)
        queue = Queue(spool, Ledger(spool))
        queue.begin()
        fresh = put(spool, 9)
        assert queue.add(fresh) is not None
        assert [item.id for item in queue.read(60)] != [fresh]
        assert len(queue.items) == 4


class TestRuns:
    def run(self, spool, goal, story):
        async def all_of_it():
            queue = Queue(spool, Ledger(spool))
            queue.begin()
            runs = Runs(queue)
            waiter = runs.begin(goal, NOW + 100)
            return story(queue, runs, waiter)

        return asyncio.run(all_of_it())

    def test_it_wants_what_is_read_later_and_ends_with_the_last(self, spool):
        ids = [put(spool, number, queue_only=True) for number in range(3)]

        def story(queue, runs, waiter):
            runs.read(queue.read(0), NOW + 100)
            assert queue.take(NOW + 100).id == ids[0]
            runs.had(ids[0])
            assert not waiter.done.done()  # there is more to come
            runs.read(queue.read(60), NOW + 100)
            runs.had(ids[1])
            assert not waiter.done.done()
            runs.had(ids[2])
            return waiter.done.done(), bool(runs)

        assert self.run(spool, Goal(run=True), story) == (True, False)

    def test_of_an_empty_queue_it_is_over_at_once(self, spool):
        assert self.run(spool, Goal(run=True), lambda queue, runs, waiter: waiter.done.done())

    def test_of_some_it_does_not_wait_for_the_rest_to_be_read(self, spool):
        ids = [put(spool, number) for number in range(3)]

        def story(queue, runs, waiter):
            assert list(queue.items) == [ids[2]]
            runs.had(ids[2])
            return waiter.done.done()

        assert self.run(spool, Goal(run=True, ids=[ids[2]]), story)

    def test_what_was_only_queued_and_no_run_wanted_stays(self, spool):
        put(spool, 0, queue_only=True)

        def story(queue, runs, waiter):
            runs.read(queue.read(60), NOW + 100)
            return queue.take(NOW + 100)

        assert self.run(spool, Goal(run=True, ids=[]), story) is None

    def test_only_what_is_due(self, spool):
        later, now = put(spool, 0), put(spool, 1)
        ledger = Ledger(spool)
        moment = clock.now()
        outcome = Outcome(DEFERRED, "451 later", code=451, stage="RCPT TO", relay="r", answered=True)
        ledger.append(later, [attempt_event(outcome, [0], moment, due=moment.wall + 5000, backoff=300)])
        ledger.sync([later])

        def story(queue, runs, waiter):
            runs.read(queue.read(60), moment.wall)
            assert waiter.ids == {now}
            return True

        assert self.run(spool, Goal(run=True, due_only=True), story)


class TestMailq:
    def test_one_block_for_each_recipient_still_due(self):
        envelope = Envelope("m1", "s@x", [Recipient("a@x"), Recipient("b@x"), Recipient("c@x")], NOW)
        outcome = Outcome(DELIVERED, "250 ok", code=250, stage="final DATA", relay="r")
        state = fold(envelope, [attempt_event(outcome, [1], clock.now())])
        assert plainlist.blocks(envelope, state) == "ID\t: m1\nFrom\t: s@x\nTo\t: a@x\n--\nID\t: m1\nFrom\t: s@x\nTo\t: c@x\n"
        assert plainlist.text(["one\n", "", "two\n"]) == "one\n--\ntwo\n"
        assert plainlist.text([""]) == "Mail queue is empty\n"

    def test_the_owner_and_the_files_say_the_same(self, spool, capsysbinary):
        ids = [put(spool, number, f"u{number}@x.test", "b\udcff@x.test") for number in range(3)]
        ledger = Ledger(spool)
        outcome = Outcome(DELIVERED, "250 ok", code=250, stage="final DATA", relay="r")
        ledger.append(ids[1], [attempt_event(outcome, [0], clock.now())])
        ledger.sync([ids[1]])
        put(spool, 8)
        (damaged,) = {*spool.ids()} - {*ids}
        with open(f"{spool.queue}/{damaged}", "r+b") as file:
            file.write(b"no envelope")
        config = parse(f"SPOOLDIR {spool.path}\n", "x")
        assert door.mailq(config) == 0
        from_files = capsysbinary.readouterr().out
        owner = Owner(Ownership.take(spool), spool, config, MailLog())
        assert owner.mailq().encode("utf-8", "surrogateescape") == from_files
        assert from_files.count(b"ID\t: ") == 5
        assert b"b\xff@x.test" in from_files
        assert owner.mailq(uid=12345) == "Mail queue is empty\n"

    def test_asked_of_a_running_owner(self, tmp_path):
        agent = Agent(tmp_path, conf="SMARTHOST 127.0.0.1:1")
        try:
            agent.send("bob@example.org")
            agent.until(agent.owners, what="an owner")
            first, second = agent.run("-bp").stdout, agent.run("-bp").stdout
            (id,) = agent.files()
            assert first == second == f"ID\t: {id}\nFrom\t: root@here.test\nTo\t: bob@example.org\n".encode()
        finally:
            agent.close()


def test_a_run_asks_a_relay_that_is_down_once_however_slowly_the_queue_is_read(tmp_path, monkeypatch):
    """Each piece of the queue that was read asked it once more: with 50,000 messages and a refused login, that often."""
    monkeypatch.setattr(owner, "LOADING", 0)
    with InAThread([[("serve", {"faults": {("greeting", 0): "554 5.7.1 not you"}})]]) as relay:
        room = Room(tmp_path, relay.port)
        ids = [room.put("bob@y.test") for _ in range(20)]
        room.run()
        assert relay.server.connections == 1
        assert [room.state(id).tried for id in ids].count(True) == 1
        room.run()  # asked for again, it is asked again
        assert relay.server.connections == 2
