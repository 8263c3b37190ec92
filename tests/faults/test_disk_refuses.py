"""Results that the disk does not take: written later and told once, and meanwhile nothing is sent whose result would be lost."""

import asyncio
import errno
import os
import signal
import time

import pytest
from mail_server import MailServer
from owner_room import Room

from dma_runtime.config import Config
from dma_runtime.delivery import bounce, local, mailroom, record
from dma_runtime.delivery.owner import Owner
from dma_runtime.delivery.queue import Queue
from dma_runtime.delivery.record import Recorder, Step
from dma_runtime.delivery.runs import Goal
from dma_runtime.delivery.tenure import hold
from dma_runtime.envelope import Envelope, Moment, Recipient
from dma_runtime.history import attempt_event, fold
from dma_runtime.outcome import DELIVERED, FAILED, Outcome
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.spool import Spool

MOMENT = Moment(1_800_000_100.0, 10.0, 10.0, "boot")


class Refusing(FileSystem):
    """Refuses the next `times` calls of one kind on paths or files below `part`."""

    def __init__(self):
        self.times = {}
        self.number = errno.EROFS
        self.calls = 0

    def _maybe(self, call, path=""):
        if self.times.get(call, 0) > 0 and ("/queue/" in path or not path):
            self.times[call] -= 1
            self.calls += 1
            raise OSError(self.number, os.strerror(self.number))

    def pwrite(self, fd, data, at):
        self._maybe("pwrite")
        return super().pwrite(fd, data, at)

    def fsync(self, fd):
        self._maybe("fsync")
        super().fsync(fd)

    def unlink(self, path):
        self._maybe("unlink", path)
        super().unlink(path)


@pytest.fixture
def fs():
    return Refusing()


@pytest.fixture
def spool(tmp_path, fs):
    spool = Spool(str(tmp_path / "spool"), fs)
    spool.prepare(own_only=True)
    return spool


class Recording:
    """One message and a recorder; `steps(item)` is recorded, with `between()` called before what was refused is tried again."""

    def __init__(self, spool, steps, monkeypatch, between=lambda: None, pause=0.02, seconds=1.0):
        monkeypatch.setattr(record, "PAUSE", pause)
        envelope = Envelope("", "me@example.org", [Recipient("a@x"), Recipient("b@x")], 1_800_000_000.0)
        draft = spool.draft(envelope)
        draft.write(b"Subject: x\n\nhello\n")
        self.id = draft.commit(envelope)
        self.ledger = Ledger(spool)
        self.ledger.sweep()
        (item,) = Queue(spool, self.ledger).load()
        self.applied, self.refused = [], []
        self.pending = 0

        async def main():
            recorder = Recorder(spool, self.ledger, bounce.Reports(spool, Config), self.applied.append, self.again, self.bug)
            for step in steps(item):
                recorder.add(step)
            await recorder.settled()
            between()
            until = time.monotonic() + seconds
            while (recorder.pending or recorder.busy) and time.monotonic() < until:
                await asyncio.sleep(0.005)
            self.pending = recorder.pending
            await recorder.close()

        asyncio.run(main())

    def again(self, step):
        self.refused.append(step.error)

    def bug(self, error):
        raise error


def failure(item):
    failed = Outcome(FAILED, "550 5.1.1 no", code=550, status="5.1.1", stage="RCPT TO", answered=True)
    return [Step(item, [], [(0, failed), (1, failed)], True)]


def delivery(item):
    return [Step(item, [attempt_event(Outcome(DELIVERED, "250 ok", code=250), [0, 1], MOMENT)], [], True)]


class TestAReport:
    @pytest.mark.parametrize("call", ["unlink", "fsync"])
    def test_that_was_made_and_has_left_is_not_made_again(self, spool, fs, monkeypatch, call):
        def steps(item):
            # The report needs two syncs, the log two; then comes the removal.
            fs.times[call] = 0 if call == "fsync" else 1
            return failure(item)

        real = Ledger.bury

        def bury(ledger, ids):
            if call == "fsync" and not fs.calls:
                fs.times["fsync"] = 1
            real(ledger, ids)

        monkeypatch.setattr(Ledger, "bury", bury)
        made = []

        def between():
            made.extend(name for name in spool.ids() if "b" in name[18:])
            for name in made:
                os.unlink(f"{spool.queue}/{name}")  # delivered

        done = Recording(spool, steps, monkeypatch, between)
        assert (len(done.refused), len(done.applied), done.pending) == (1, 1, 0)
        assert len(made) == 1
        assert (spool.ids(), os.listdir(spool.log)) == ([], [])

    def test_of_a_message_that_somebody_removed_by_hand(self, spool, monkeypatch):
        def steps(item):
            os.unlink(f"{spool.queue}/{item.id}")
            return failure(item)

        done = Recording(spool, steps, monkeypatch)
        assert (done.refused, done.pending) == ([], 0)
        assert "gone from the spool" in done.applied[0].returned.dropped
        assert (spool.ids(), os.listdir(spool.log)) == ([], [])


class TestARemoval:
    def test_that_is_refused_is_on_record_once_so_that_the_next_owner_does_not_send_it_again(self, spool, fs, monkeypatch):
        fs.number = errno.EPERM  # chattr +i
        fs.times["unlink"] = 1 << 30
        done = Recording(spool, delivery, monkeypatch, seconds=0.2)
        assert len(done.refused) > 3
        assert len(done.ledger.events(done.id)) == 1
        assert fold(spool.read(done.id), Ledger(spool).events(done.id)).open == []

    @pytest.mark.parametrize(("call", "number"), [("unlink", errno.EIO), ("fsync", errno.ENOSPC)])
    def test_that_was_refused_is_tried_once_more_at_the_end(self, spool, fs, monkeypatch, call, number):
        def steps(item):
            fs.number, fs.times[call] = number, 1
            return delivery(item)

        done = Recording(spool, steps, monkeypatch, pause=1000.0, seconds=0.0)
        assert (len(done.refused), len(done.applied)) == (1, 1)
        assert spool.ids() == []


class TestAFileSystemThatBecameReadOnly:
    @pytest.fixture
    def server(self):
        with MailServer() as server:
            yield server

    @pytest.fixture
    def room(self, tmp_path, server, fs):
        room = Room(tmp_path, server.port)
        room.spool.fs = fs
        room.run()  # an owner was here before
        return room

    def test_stops_what_was_not_begun(self, room, server, fs, monkeypatch):
        for number in range(40):
            room.put(f"{number}@y.test")
        fs.times = {"unlink": 1 << 30, "pwrite": 1 << 30}
        room.run()  # and a run that is waited for ends
        begun = len(server.messages)
        assert begun < 20
        fs.times = {}
        room.run()
        assert room.spool.ids() == []
        assert len(server.messages) <= 40 + begun
        assert {m.recipients[0] for m in server.messages} == {f"{number}@y.test" for number in range(40)}

    def test_costs_the_daemon_no_time_and_keeps_nobody_waiting(self, room, server, fs, monkeypatch):
        """What is due and may not begin made the owner look without a pause; who asked for a run waited for days."""
        for number in range(40):
            room.put(f"{number}@y.test")
        fs.times = {"unlink": 1 << 30, "pwrite": 1 << 30}
        later = []

        def stuck(owner):
            if owner.recorder.stuck and not later:
                times, fs.times = fs.times, {}
                later.append(room.put("later@y.test"))
                owner.take_in(later[0])
                fs.times = times
            return owner.recorder.stuck

        looks, runs = watch(monkeypatch, seconds=0.5, when=stuck)
        hold(room.spool, room.config, room.log, Goal(resident=True))
        assert later[0] in room.spool.ids()
        assert 0 < len(looks) < 20
        assert [run.done() for run in runs] == [True]

    def test_and_goes_on_when_it_is_mended_without_sending_anything_twice(self, room, server, fs, monkeypatch):
        monkeypatch.setattr(record, "PAUSE", 0.05)
        for number in range(20):
            room.put(f"{number}@y.test")
        fs.times = {"unlink": 5, "pwrite": 5}
        hold(room.spool, room.config, room.log, Goal())
        assert fs.calls >= 5
        assert room.spool.ids() == []
        assert sorted(m.recipients[0] for m in server.messages) == sorted(f"{number}@y.test" for number in range(20))

    @pytest.mark.parametrize("call", ["pwrite", "fsync"])
    def test_the_first_owner_of_a_spool_on_a_full_disk(self, tmp_path, server, fs, call):
        room = Room(tmp_path / "other", server.port)
        room.spool.fs = fs
        room.put("a@y.test")
        fs.number, fs.times[call] = errno.ENOSPC, 1
        room.run()
        assert fs.calls == 1
        assert (len(server.messages), room.spool.ids()) == (1, [])

    def test_a_full_disk_does_not_stop_what_makes_room(self, room, server, fs):
        fs.number = errno.ENOSPC
        server.refuse("RCPT TO", "451 4.7.1 later", when="slow")
        room.put("slow@y.test")
        for number in range(5):
            room.put(f"{number}@y.test")
        fs.times["pwrite"] = 1 << 30
        room.run()
        assert len(server.messages) == 5
        assert len(room.spool.ids()) == 1


def test_a_spool_of_another_machine_costs_the_daemon_no_time(tmp_path, monkeypatch):
    room = Room(tmp_path, 1)
    room.put("a@y.test")
    (tmp_path / "spool" / "owner").write_text("0123456789abcdef0123456789abcdef\n")
    looks, runs = watch(monkeypatch, seconds=0.5, when=lambda owner: owner.foreign)
    hold(room.spool, room.config, room.log, Goal(resident=True))
    assert room.spool.ids()
    assert 0 < len(looks) < 20
    assert [run.done() for run in runs] == [True]


def watch(monkeypatch, *, seconds, when):
    """(how often the owner looked around once `when(owner)` was so, the run that was asked for then); stopped after `seconds`."""
    looks, runs = [], []
    real = Owner._look_around

    def look(owner):
        if when(owner):
            looks.append(time.monotonic())
            if not runs:
                runs.append(owner.attempt(None))
                asyncio.get_running_loop().call_later(seconds, owner._stop)
        real(owner)

    monkeypatch.setattr(Owner, "_look_around", look)
    return looks, runs


class TestManyMailboxes:
    @pytest.fixture
    def room(self, tmp_path):
        return Room(tmp_path, 1)

    @pytest.mark.parametrize("often", [0.0, 1000.0])
    def test_an_owner_that_is_stopped_among_them_delivers_to_none_again(self, room, monkeypatch, often):
        delivered = []

        def deliver(spool, id, recipient, config, *, stopped):
            delivered.append(recipient.address)
            if len(delivered) == 4:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.2)
            return Outcome(DELIVERED, "delivered", status="2.0.0")

        monkeypatch.setattr(mailroom, "OFTEN", often)
        monkeypatch.setattr(local, "deliver", deliver)
        id = room.put(*(f"u{number}" for number in range(10)))
        room.run()
        assert delivered == ["u0", "u1", "u2", "u3"]
        assert room.spool.ids() == [id]
        room.run()
        assert delivered == [f"u{number}" for number in range(10)]
        assert room.spool.ids() == []

    def test_results_are_on_record_while_others_are_still_to_come(self, room, monkeypatch):
        seen = []

        def deliver(spool, id, recipient, config, *, stopped):
            time.sleep(0.05)
            seen.append(len(Ledger(room.spool).events(id)))
            return Outcome(DELIVERED, "delivered", status="2.0.0")

        monkeypatch.setattr(mailroom, "OFTEN", 0.1)
        monkeypatch.setattr(local, "deliver", deliver)
        room.put(*(f"u{number}" for number in range(12)))
        room.run()
        assert max(seen) >= 2
        assert room.spool.ids() == []

    def test_no_room_for_a_temporary_file_is_no_message_that_is_gone(self, room, monkeypatch):
        """tempfile says FileNotFoundError when every directory is full; the mailboxes before it were delivered to again."""
        delivered = []

        def deliver(spool, id, recipient, config, *, stopped):
            if recipient.address == "pipe":
                raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
            delivered.append(recipient.address)
            return Outcome(DELIVERED, "delivered", status="2.0.0")

        monkeypatch.setattr(local, "deliver", deliver)
        id = room.put("one", "pipe")
        room.run()
        room.run()
        assert delivered == ["one"]
        assert "No usable temporary directory" in room.state(id).recipients[1].last.text
