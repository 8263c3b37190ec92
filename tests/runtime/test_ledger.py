"""The attempt log: what is synced stays, what is torn is cut, what is damaged is said."""


import errno
import os
import time

import pytest

from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.errors import BrokenMessage
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.ledger import STALE, Ledger, NotRecorded
from dma_runtime.system.spool import Spool

ID = "msg1"


@pytest.fixture
def spool(tmp_path):
    made = Spool(str(tmp_path / "spool"), Faulty())
    made.prepare(own_only=True)
    return made


class Faulty(FileSystem):
    """Fails what a test asks for, and notes the order of what matters."""

    def __init__(self):
        self.failing = {}
        self.calls = []

    def _may(self, call, path):
        self.calls.append((call, os.path.basename(path)))
        number = self.failing.get((call, os.path.basename(path)))
        if number:
            raise OSError(number, os.strerror(number))

    def fsync(self, fd):
        self._may("fsync", os.readlink(f"/proc/self/fd/{fd}"))
        super().fsync(fd)

    def unlink(self, path):
        self._may("unlink", path)
        super().unlink(path)

    def pwrite(self, fd, data, at):
        path = os.readlink(f"/proc/self/fd/{fd}")
        if ("short", os.path.basename(path)) in self.failing:
            if self.failing[("short", os.path.basename(path))] <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.failing[("short", os.path.basename(path))] -= 1
            return super().pwrite(fd, data[:5], at)
        return super().pwrite(fd, data, at)


def put(spool, id):
    made = Envelope(id, "me@x", [Recipient("a@b")], time.time())
    draft = spool.draft(made)
    draft.write(b"x\n")
    return draft.commit(made)


def raw(spool, id=ID):
    with open(f"{spool.log}/{id}", "rb") as file:
        return file.read()


def write_raw(spool, data, id=ID):
    with open(f"{spool.log}/{id}", "wb") as file:
        file.write(data)


def event(n):
    return {"do": "attempt", "n": n}


def test_events_come_back_in_order(spool):
    ledger = Ledger(spool)
    assert ledger.events(ID) == []
    ledger.append(ID, [event(1)])
    ledger.append(ID, [event(2), event(3)])
    ledger.append("other", [event(9)])
    ledger.sync([ID, "other"])
    assert Ledger(spool).events(ID) == [event(1), event(2), event(3)]
    ledger.append(ID, [event(4)])
    ledger.sync([ID])
    assert Ledger(spool).events(ID) == [event(1), event(2), event(3), event(4)]
    assert raw(spool).count(b"\n") == 3


def test_undecodable_text_survives(spool):
    ledger = Ledger(spool)
    ledger.append(ID, [{"text": "\udcff\n\x00é"}])
    ledger.sync([ID])
    assert ledger.events(ID) == [{"text": "\udcff\n\x00é"}]


def test_a_second_append_syncs_the_first(spool):
    ledger = Ledger(spool)
    ledger.append(ID, [event(1)])
    assert ("fsync", ID) not in spool.fs.calls
    ledger.append(ID, [event(2)])
    assert ("fsync", ID) in spool.fs.calls


def test_a_new_log_syncs_its_directory_and_an_old_one_does_not(spool):
    ledger = Ledger(spool)
    ledger.append(ID, [event(1)])
    ledger.append("other", [event(1)])
    ledger.sync([ID, "other"])
    assert spool.fs.calls.count(("fsync", "log")) == 1
    ledger.append(ID, [event(2)])
    ledger.sync([ID])
    assert spool.fs.calls.count(("fsync", "log")) == 1
    heir = Ledger(spool)  # cannot know whether the one before it came to that sync
    heir.append(ID, [event(3)])
    heir.sync([ID])
    assert spool.fs.calls.count(("fsync", "log")) == 2


@pytest.mark.parametrize(
    "tail", [b'{"do":"att', b"\n", b"\0\0\0\0", b'\0\0\0\0\0"n":7}\n', b'{"do":"x"}', b"[]\n", b"7\n", b"[7]\n"]
)
def test_a_torn_tail_is_passed_over_and_cut(spool, tail):
    good = b'{"do":"attempt","n":1}\n'
    write_raw(spool, good + tail)
    ledger = Ledger(spool)
    assert ledger.events(ID) == [event(1)]
    ledger.append(ID, [event(2)])
    ledger.sync([ID])
    assert raw(spool) == good + b'{"do":"attempt","n":2}\n'


@pytest.mark.parametrize("bad", [b"\0\0\0\n", b"{}}\n", b'"text"\n', b"\n", b"[]\n"])
def test_a_bad_line_in_the_middle_is_damage(spool, bad):
    write_raw(spool, bad + b'{"do":"attempt","n":1}\n')
    with pytest.raises(BrokenMessage):
        Ledger(spool).events(ID)
    with pytest.raises(BrokenMessage):
        Ledger(spool).append(ID, [event(2)])
    assert raw(spool) == bad + b'{"do":"attempt","n":1}\n'


def test_a_failed_write_is_taken_back(spool):
    ledger = Ledger(spool)
    ledger.append(ID, [event(1)])
    ledger.sync([ID])
    before = raw(spool)
    spool.fs.failing[("short", ID)] = 2
    with pytest.raises(OSError, match="No space"):
        ledger.append(ID, [event(2)])
    assert raw(spool) == before
    del spool.fs.failing[("short", ID)]
    ledger.append(ID, [event(3)])
    ledger.sync([ID])
    assert Ledger(spool).events(ID) == [event(1), event(3)]


def test_a_short_write_is_gone_on_with(spool):
    ledger = Ledger(spool)
    spool.fs.failing[("short", ID)] = 100
    ledger.append(ID, [event(1)])
    ledger.sync([ID])
    assert ledger.events(ID) == [event(1)]


def test_a_failed_sync_names_its_messages_and_takes_their_events_back(spool):
    ledger = Ledger(spool)
    for id in (ID, "other"):
        ledger.append(id, [event(1)])
    ledger.sync([ID, "other"])
    for id in (ID, "other"):
        ledger.append(id, [event(2)])
    spool.fs.failing[("fsync", ID)] = errno.EIO
    with pytest.raises(NotRecorded) as caught:
        ledger.sync([ID, "other"])
    assert caught.value.ids == [ID]
    assert caught.value.errno == errno.EIO
    assert ledger.events(ID) == [event(1)]
    assert ledger.events("other") == [event(1), event(2)]
    spool.fs.failing.clear()
    ledger.append(ID, [event(2)])
    ledger.sync([ID])
    assert Ledger(spool).events(ID) == [event(1), event(2)]


def test_what_a_second_append_cannot_sync_is_told_at_the_sync(spool):
    ledger = Ledger(spool)
    ledger.append("other", [event(1)])
    ledger.append(ID, [event(1)])
    spool.fs.failing[("fsync", ID)] = errno.EIO
    with pytest.raises(NotRecorded):
        ledger.append(ID, [event(2)])
    spool.fs.failing.clear()
    with pytest.raises(NotRecorded) as caught:
        ledger.sync(["other", ID])  # of a batch with both: the first event is not there either
    assert caught.value.ids == [ID]
    assert ledger.events(ID) == []
    assert ledger.events("other") == [event(1)]
    ledger.append(ID, [event(1)])
    ledger.sync([ID])
    assert ledger.events(ID) == [event(1)]


def test_a_failed_directory_sync_takes_back_the_new_logs(spool):
    ledger = Ledger(spool)
    ledger.append("old", [event(1)])
    ledger.sync(["old"])
    ledger.append("old", [event(2)])
    ledger.append("new", [event(1)])
    spool.fs.failing[("fsync", "log")] = errno.EIO
    with pytest.raises(NotRecorded) as caught:
        ledger.sync(["old", "new"])
    assert caught.value.ids == ["new"]
    assert ledger.events("new") == []
    spool.fs.failing.clear()
    ledger.append("new", [event(1)])
    ledger.sync(["new"])
    assert spool.fs.calls.count(("fsync", "log")) == 3  # the name is not yet safe, so it is synced again


# ---------------------------------------------------------------- death


def test_burial_in_order_one_sync_a_batch(spool):
    ledger = Ledger(spool)
    ids = [put(spool, f"m{number}") for number in range(5)]
    for id in ids[:3]:
        ledger.append(id, [event(1)])
    ledger.sync(ids)
    spool.fs.calls.clear()
    ledger.bury([*ids[:4], "nosuch"])
    assert spool.ids() == ["m4"]
    assert os.listdir(spool.log) == []
    calls = spool.fs.calls
    assert calls.count(("fsync", "queue")) == 1
    half = calls.index(("fsync", "queue"))
    assert [name for call, name in calls[:half] if call == "unlink"] == [*ids[:4], "nosuch"]


def test_logs_stay_when_the_queue_cannot_be_synced(spool):
    ledger = Ledger(spool)
    put(spool, ID)
    ledger.append(ID, [event(1)])
    ledger.sync([ID])
    spool.fs.failing[("fsync", "queue")] = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        ledger.bury([ID])
    assert os.listdir(spool.log) == [ID]
    spool.fs.failing.clear()
    ledger.bury([ID])
    assert os.listdir(spool.log) == []


def test_a_buried_id_begins_anew(spool):
    ledger = Ledger(spool)
    ledger.append(ID, [event(1)])
    ledger.sync([ID])
    ledger.bury([ID])
    ledger.append(ID, [event(2)])
    ledger.sync([ID])
    assert ledger.events(ID) == [event(2)]


def test_no_descriptor_stays_open(spool):
    before = len(os.listdir("/proc/self/fd"))
    ledger = Ledger(spool)
    for id in ("a1", "a2", "a3"):
        ledger.append(id, [event(1)])
    ledger.sync(["a1"])
    ledger.bury(["a2"])
    ledger.close()
    assert len(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- sweeping


def test_logs_without_a_message_are_swept_after_a_sync(spool):
    put(spool, "alive")
    ledger = Ledger(spool)
    for id in ("alive", "dead"):
        ledger.append(id, [event(1)])
    ledger.sync(["alive", "dead"])
    spool.fs.calls.clear()
    Ledger(spool).sweep()
    assert os.listdir(spool.log) == ["alive"]
    assert spool.fs.calls == [("fsync", "queue"), ("unlink", "dead")]


def test_only_stale_unlocked_temporaries_are_swept(spool):
    held = FileSystem()
    for name in ("young", "stale", "busy"):
        open(f"{spool.tmp}/{name}", "w").close()
        if name != "young":
            os.utime(f"{spool.tmp}/{name}", (1, time.time() - STALE - 60))
    os.symlink("/etc/passwd", f"{spool.tmp}/link")
    os.utime(f"{spool.tmp}/link", (1, 1), follow_symlinks=False)
    fd = held.open(f"{spool.tmp}/busy", os.O_RDWR)
    assert held.lock(fd)
    Ledger(spool).sweep()
    assert sorted(os.listdir(spool.tmp)) == ["busy", "link", "young"]
    held.close(fd)
    Ledger(spool).sweep()
    assert sorted(os.listdir(spool.tmp)) == ["link", "young"]
