"""Results made to last: a disk that refuses one loses nothing and repeats nothing in this owner."""

import asyncio
import errno

import pytest

from dma_runtime.config import Config
from dma_runtime.delivery import bounce, record
from dma_runtime.delivery.news import News, delayed_event
from dma_runtime.delivery.queue import Queue
from dma_runtime.delivery.record import Recorder, Step
from dma_runtime.envelope import Envelope, Moment, Recipient
from dma_runtime.history import attempt_event
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, Outcome
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.spool import Spool


class Refusing(FileSystem):
    """Refuses the next `times` calls of one kind."""

    def __init__(self):
        self.refuse = {}

    def _maybe(self, call):
        if self.refuse.get(call, 0) > 0:
            self.refuse[call] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")

    def pwrite(self, fd, data, at):
        self._maybe("pwrite")
        return super().pwrite(fd, data, at)

    def fsync(self, fd):
        self._maybe("fsync")
        super().fsync(fd)

    def unlink(self, path):
        self._maybe("unlink")
        super().unlink(path)


@pytest.fixture
def fs():
    return Refusing()


@pytest.fixture
def spool(tmp_path, fs):
    spool = Spool(str(tmp_path / "spool"), fs)
    spool.prepare(own_only=True)
    return spool


def bugs(error):
    raise error


def submit(spool, *addresses):
    envelope = Envelope("", "me@example.org", [Recipient(a) for a in addresses], 1_800_000_000.0)
    draft = spool.draft(envelope)
    draft.write(b"Subject: x\n\nhello\n")
    return draft.commit(envelope)


def run(spool, steps_of, monkeypatch, pause=0.01):
    """Record the steps `steps_of(item)` makes for one message; returns (ledger, applied, refused)."""
    monkeypatch.setattr(record, "PAUSE", pause)
    id = submit(spool, "a@x", "b@x")
    ledger = Ledger(spool)
    queue = Queue(spool, ledger)
    (item,) = queue.load()
    applied, refused = [], []

    async def main():
        recorder = Recorder(spool, ledger, bounce.Reports(spool, Config), applied.append, refused.append, bugs)
        for step in steps_of(item):
            recorder.add(step)
        await recorder.settled()
        for _ in range(200):
            if not (recorder.pending or recorder.busy):
                break
            await asyncio.sleep(0.01)
        await recorder.close()

    asyncio.run(main())
    return id, ledger, applied, refused


def moment():
    return Moment(1_800_000_100.0, 10.0, 10.0, "boot")


def deferral(item):
    outcome = Outcome(DEFERRED, "451 later", code=451, answered=True)
    return [Step(item, [attempt_event(outcome, [0, 1], moment(), due=1_800_000_400.0, backoff=300.0)], [], False)]


def delivery(item):
    return [Step(item, [attempt_event(Outcome(DELIVERED, "250 ok", code=250), [0, 1], moment())], [], True)]


def failure(item):
    failed = Outcome(FAILED, "550 5.1.1 no", code=550, status="5.1.1", stage="RCPT TO", answered=True)
    return [Step(item, [], [(0, failed), (1, failed)], True)]


def test_a_delivered_message_leaves_no_trace(spool, monkeypatch):
    _, _, applied, refused = run(spool, delivery, monkeypatch)
    assert (len(applied), refused, spool.ids()) == (1, [], [])


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_deferral_the_disk_refuses_is_written_later(spool, fs, monkeypatch, call):
    def steps(item):
        fs.refuse[call] = 2
        return deferral(item)

    id, ledger, applied, refused = run(spool, steps, monkeypatch)
    assert (len(applied), len(refused)) == (1, 2)
    assert len(ledger.events(id)) == 1
    assert spool.ids() == [id]


@pytest.mark.parametrize("call", ["fsync", "unlink"])
def test_a_removal_the_disk_refuses_is_done_later(spool, fs, monkeypatch, call):
    def steps(item):
        fs.refuse[call] = 1
        return delivery(item)

    _, _, applied, refused = run(spool, steps, monkeypatch)
    assert (len(applied), len(refused), spool.ids()) == (1, 1, [])


def test_a_report_the_disk_refuses_is_made_once(spool, fs, monkeypatch):
    def steps(item):
        fs.refuse["fsync"] = 1
        return failure(item)

    id, _, applied, refused = run(spool, steps, monkeypatch)
    assert (len(applied), len(refused)) == (1, 1)
    (report,) = spool.ids()
    assert report.startswith(id + "b")


def test_a_refused_result_does_not_touch_its_neighbour(spool, fs, monkeypatch):
    other = submit(spool, "c@x")

    def steps(item):
        ledger_item = Queue(spool, Ledger(spool))
        ledger_item.load()
        fs.refuse["pwrite"] = 1
        return deferral(item) + deferral_of(ledger_item.items[other])

    def deferral_of(item):
        outcome = Outcome(DEFERRED, "451 later", code=451, answered=True)
        return [Step(item, [attempt_event(outcome, [0], moment(), due=1.0, backoff=300.0)], [], False)]

    monkeypatch.setattr(record, "PAUSE", 0.01)
    # The first one's write is refused; the second one's is not delayed by that.
    id = submit(spool, "a@x", "b@x")
    queue = Queue(spool, Ledger(spool))
    queue.load()
    applied, refused = [], []

    async def main():
        recorder = Recorder(spool, queue.ledger, bounce.Reports(spool, Config), applied.append, refused.append, bugs)
        for step in steps(queue.items[id]):
            recorder.add(step)
        await recorder.settled()
        assert [step.item.id for step in applied] == [other]
        while recorder.pending or recorder.busy:
            await asyncio.sleep(0.01)
        await recorder.close()

    asyncio.run(main())
    assert [step.item.id for step in refused] == [id]
    assert [step.item.id for step in applied] == [other, id]


LATE = Outcome(DEFERRED, "451 later", code=451, answered=True)
GOOD = Outcome(DELIVERED, "250 ok", code=250)


def late(item):
    events = [attempt_event(LATE, [0, 1], moment(), due=1.0), delayed_event(moment())]
    return [Step(item, events, [], False, [News("delayed", [(0, LATE), (1, LATE)], 2_000_000_000.0)])]


def good(item):
    return [Step(item, [attempt_event(GOOD, [0, 1], moment())], [], True, [News("relayed", [(0, GOOD), (1, GOOD)])])]


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_a_delay_is_told_once_and_before_the_log_says_so(spool, fs, monkeypatch, call, times):
    def steps(item):
        fs.refuse[call] = times
        return late(item)

    id, ledger, applied, _ = run(spool, steps, monkeypatch)
    assert [step.told for step in applied] == [[id + "w"]]
    assert spool.ids() == [id, id + "w"]
    assert [event["do"] for event in ledger.events(id)] == ["attempt", "delayed"]


@pytest.mark.parametrize("call", ["pwrite", "fsync", "unlink"])
def test_a_success_that_was_asked_for_is_told_before_the_message_ends(spool, fs, monkeypatch, call):
    def steps(item):
        fs.refuse[call] = 1
        return good(item)

    id, _, applied, refused = run(spool, steps, monkeypatch)
    assert (len(applied), len(refused)) == (1, 1)
    assert not refused[0].error  # repeated, and then it worked
    (report,) = spool.ids()
    assert report.startswith(id + "d")


def test_the_log_says_that_a_delay_was_told_only_behind_the_report(spool, fs, monkeypatch):
    order = []
    real_tell, real_append = bounce.Reports.tell, Ledger.append
    monkeypatch.setattr(bounce.Reports, "tell", lambda *words: order.append("report") or real_tell(*words))
    monkeypatch.setattr(Ledger, "append", lambda *words: order.append("log") or real_append(*words))
    run(spool, late, monkeypatch)
    assert order == ["report", "log"]
