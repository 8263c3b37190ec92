"""One message, or one file, that something is wrong with stops nobody else's mail, and is itself neither lost nor sent twice."""

import errno
import json
import os

import pytest
from agent import Agent
from mail_server import MailServer

from dma_runtime.delivery.queue import Queue
from dma_runtime.envelope import Envelope, Recipient, decode, encode
from dma_runtime.errors import BrokenMessage
from dma_runtime.history import fold
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.spool import Spool


@pytest.fixture
def server():
    with MailServer() as server:
        yield server


@pytest.fixture
def agent(tmp_path, server):
    agent = Agent(tmp_path, server)
    yield agent
    agent.close()


def put(spool, *addresses):
    envelope = Envelope("", "s@x.test", [Recipient(a) for a in addresses or ("r@x.test",)], 1_800_000_000.0)
    draft = spool.draft(envelope)
    draft.write(b"Subject: x\n\nx\n")
    return draft.commit(envelope)


class Unreadable(FileSystem):
    """The files of `ids` are on a bad sector."""

    def __init__(self):
        self.ids = []
        self.number = errno.EIO

    def open(self, path, flags, mode=0o600):
        if os.path.basename(path) in self.ids:
            raise OSError(self.number, os.strerror(self.number), path)
        return super().open(path, flags, mode)


class TestThatCannotBeRead:
    @pytest.fixture
    def spool(self, tmp_path):
        spool = Spool(str(tmp_path / "spool"), Unreadable())
        spool.prepare(own_only=True)
        return spool

    @pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE])
    def test_the_others_are_read_and_it_is_tried_again(self, spool, number):
        first, second = put(spool), put(spool)
        spool.fs.ids, spool.fs.number = [first], number
        queue = Queue(spool, Ledger(spool))
        assert [item.id for item in queue.load()] == [second]
        assert queue.broken == {first: f"can not be read: {os.strerror(number)}"}
        assert queue.add(first) is None
        spool.fs.ids = []
        assert [item.id for item in queue.load()] == [first]
        assert queue.broken == {}

    def test_one_that_is_gone_meanwhile_is_forgotten(self, spool):
        spool.fs.ids = [put(spool)]
        queue = Queue(spool, Ledger(spool))
        queue.load()
        os.unlink(f"{spool.queue}/{spool.fs.ids[0]}")
        assert queue.add(spool.fs.ids.pop()) is None
        assert (queue.broken, queue.items) == ({}, {})

    def test_delivery_goes_on_beside_it_and_it_is_in_sight(self, agent, server):
        # A log that is a directory is read by nobody, root included.
        agent.send("-bq", "first@y.test")
        (bad,) = agent.files()
        (agent.spool / "log" / bad).mkdir()
        agent.send("-bq", "second@y.test")
        rows = {row["id"]: row for row in agent.queue()}
        assert rows[bad]["problem"] == "can not be read: Is a directory"
        assert b"second@y.test" in agent.run("-bp").stdout
        agent.run("-q", "-D")
        assert [m.recipients for m in server.messages] == [["second@y.test"]]
        assert agent.files() == [bad]
        (agent.spool / "log" / bad).rmdir()
        agent.run("-q", "-D")
        assert [m.recipients for m in server.messages] == [["second@y.test"], ["first@y.test"]]


    def test_a_log_of_no_message_that_cannot_be_removed_ends_no_owner(self, agent, server):
        agent.send("-bq", "a@y.test")
        (agent.spool / "log" / "01abc").mkdir()
        agent.run("-q", "-D")
        assert len(server.messages) == 1
        assert agent.files() == []


class TestDamage:
    @pytest.mark.parametrize("name", ["accepted_at", "up", "size", "header_end", "longest_line", "uid"])
    def test_a_number_beyond_all_measure_is_damage(self, name):
        said = json.loads(encode(Envelope("1", "a@x", [Recipient("b@x")], 1.0)))
        said[name] = 10**400
        with pytest.raises(BrokenMessage):
            decode(json.dumps(said).encode())

    @pytest.mark.parametrize("name", ["at", "up", "awake", "next", "backoff"])
    def test_and_in_an_event_it_is_none(self, name):
        event = {"do": "attempt", "at": 1.0, "r": [0], "kind": "deferred", "answered": True, name: 10**400}
        state = fold(Envelope("1", "a@x", [Recipient("b@x")], 1.0), [event, dict(event)])
        assert state.recipients[0].attempts == 2
