"""The append to a mailbox: whole or not at all, past no link, never beside another program that holds a lock."""

import errno
import fcntl
import mailbox
import os
import stat
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from dma_runtime.message import mboxrd
from dma_runtime.system import mbox
from dma_runtime.system.fs import FileSystem

UID = os.geteuid()
WHEN = time.gmtime(1_795_375_321)
BODY = b"Subject: hello\nFrom: a@x.test\n\nFrom here to there\n>From me\nbye"


def entry(body=BODY, sender="a@x.test"):
    return mboxrd.mbox_entry(sender, "root@box.test", WHEN, [body])


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "alice")


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def reader(path):
    found = mailbox.mbox(path, create=False)
    found.lock()
    try:
        return [(message.get_from(), bytes(message)) for message in found]
    finally:
        found.unlock()


# ---------------------------------------------------------------- what readers find


def test_two_messages_are_two_messages(path):
    mbox.append(path, entry(), uid=UID)
    mbox.append(path, entry(sender=""), uid=UID)
    (first, text), (second, _) = reader(path)
    assert first == "a@x.test Sun Nov 22 19:22:01 2026"
    assert second.startswith("MAILER-DAEMON ")
    assert text.startswith(b"Return-Path: <a@x.test>\nDelivered-To: root@box.test\nSubject: hello\n")
    assert b"\n>From here" in text
    assert b"\n>>From me" in text
    assert contents(path).endswith(b"\nbye\n\n")
    assert contents(path).count(b"\n\nFrom ") == 1
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert not os.path.exists(path + ".lock")


@pytest.mark.parametrize("torn", [b"From x\n\nhalf a mess", b"From x\n\nbody\n"])
def test_a_mailbox_without_its_last_empty_line_gets_one(path, torn):
    with open(path, "wb") as file:
        file.write(torn)
    mbox.append(path, entry(), uid=UID)
    assert contents(path).startswith(torn.rstrip(b"\n") + b"\n\nFrom a@x.test ")


# ---------------------------------------------------------------- locks

HOLD = {
    "fcntl": "f = open(path, 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX)",
    "dotlock": "open(path + '.lock', 'x').close(); release = lambda: os.unlink(path + '.lock')",
    "python's mailbox": "m = mailbox.mbox(path); m.lock(); release = m.unlock",
    "hard-linked dotlock": "open(path + '.tmp', 'x').close(); os.link(path + '.tmp', path + '.lock'); "
    "release = lambda: os.unlink(path + '.lock')",
}


@pytest.fixture
def holder(path):
    """Start a program that takes a lock; gives back the function that ends it."""
    children = []

    def hold(how):
        code = f"""
            import fcntl, mailbox, os, sys
            path = {path!r}
            release = lambda: None
            {HOLD[how]}
            print("held", flush=True)
            sys.stdin.read()
            release()
        """
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        children.append(child)
        assert child.stdout.readline() == b"held\n"
        return lambda: (child.stdin.close(), child.wait())

    yield hold
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize("how", HOLD)
def test_a_held_lock_is_waited_for(path, holder, how):
    mbox.append(path, entry(), uid=UID)
    release = holder(how)
    before = contents(path)
    naps = []

    def sleep(seconds):
        assert contents(path) == before
        naps.append(seconds)
        if len(naps) == 3:
            release()

    mbox.append(path, entry(), uid=UID, sleep=sleep)
    assert len(naps) == 3
    assert len(reader(path)) == 2


@pytest.mark.parametrize("how", HOLD)
def test_the_wait_is_bounded(path, holder, how):
    mbox.append(path, entry(), uid=UID)
    holder(how)
    before = contents(path)
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    with pytest.raises(mbox.MailboxBusy, match="30 seconds"):
        mbox.append(path, entry(), uid=UID, clock=lambda: now[0], sleep=sleep)
    assert 29 < now[0] < 31
    assert contents(path) == before


def test_both_locks_are_held_while_we_write(path):
    seen = []

    def chunks():
        with open(path, "r+b") as other:
            try:
                fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                seen.append("free")
            except BlockingIOError:
                seen.append("locked")
        seen.append(os.path.exists(path + ".lock"))
        yield b"From x\n\n\n"

    mbox.append(path, chunks(), uid=UID)
    assert seen == ["locked", True]


def test_no_lock_is_held_while_waiting(path, holder):
    mbox.append(path, entry(), uid=UID)
    release = holder("dotlock")

    def sleep(_):
        with open(path, "r+b") as other:
            fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # free, else this raises
        release()

    mbox.append(path, entry(), uid=UID, sleep=sleep)
    assert len(reader(path)) == 2


def test_threads_of_one_process_take_turns(path):
    mbox.append(path, entry(), uid=UID)
    big = b"x" * 200_000

    def slow():
        yield b"From x\n\n"
        for _ in range(20):
            yield big
            time.sleep(0.001)
        yield b"\n\n"

    workers = [threading.Thread(target=mbox.append, args=(path, slow()), kwargs={"uid": UID}) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    data = contents(path)
    assert data.count(b"x" * 4_000_000 + b"\n\n") == 3


def test_a_dotlock_that_somebody_removed_does_not_undo_the_delivery(path):
    """Taken for stale, or swept at boot. Deferred for that, the message would be appended again."""

    class Sweeper(FileSystem):
        def fsync(self, fd):
            super().fsync(fd)
            if os.path.exists(path + ".lock"):
                os.unlink(path + ".lock")

    mbox.append(path, [b"From a\n\nx\n\n"], uid=os.geteuid(), fs=Sweeper())
    assert os.listdir(os.path.dirname(path)).count(os.path.basename(path) + ".lock") == 0
    with open(path, "rb") as file:
        assert file.read() == b"From a\n\nx\n\n"


def test_a_stale_dotlock_is_removed_and_a_fresh_one_is_not(path):
    for age, expected in ((301, True), (290, False)):
        with open(path + ".lock", "w"):
            pass
        os.utime(path + ".lock", (time.time() - age,) * 2)
        try:
            mbox.append(path, entry(), uid=UID, wait=0.3, sleep=time.sleep)
            worked = True
        except mbox.MailboxBusy:
            worked = False
        assert worked is expected


def test_a_lock_of_ours_whose_process_was_killed_goes_at_once(path, monkeypatch):
    monkeypatch.setattr(mbox, "machine_id", lambda: "0123")
    child = os.fork()
    if child == 0:
        try:
            mbox._Dotlock(mbox.REAL, path)
        finally:
            os._exit(0)  # without taking it away
    os.waitpid(child, 0)
    assert open(path + ".lock").read() == f"{child}\ndma 0123\n"
    naps = []
    mbox.append(path, entry(), uid=UID, sleep=naps.append)
    assert len(naps) == 1
    assert len(reader(path)) == 1


@pytest.mark.parametrize(
    ("text", "here"),
    [
        ("{dead}\ndma 0123\n", "4567"),  # made on another machine
        ("{dead}\ndma \n", ""),  # a machine without a name cannot be told from another
        ("{dead}\n", "0123"),  # another program's
        ("{alive}\ndma 0123\n", "0123"),
        ("1\ndma 0123\n", "0123"),
        ("-1\ndma 0123\n", "0123"),
        ("", "0123"),
    ],
)
def test_any_other_lock_has_its_five_minutes(path, monkeypatch, text, here):
    monkeypatch.setattr(mbox, "machine_id", lambda: here)
    ended = subprocess.Popen(["true"])
    ended.wait()
    with open(path + ".lock", "w") as lock:
        lock.write(text.format(dead=ended.pid, alive=os.getpid()))
    with pytest.raises(mbox.MailboxBusy):
        mbox.append(path, entry(), uid=UID, wait=0)
    assert os.path.exists(path + ".lock")


class NoDotlocks(FileSystem):
    """A directory like /var/mail is for a plain user: nothing can be created in it."""

    def open(self, path, flags, mode=0o600):
        if path.endswith(".lock"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return super().open(path, flags, mode)


def test_without_the_right_to_a_dotlock_the_record_lock_is_enough(path, holder):
    mbox.append(path, entry(), uid=UID, fs=NoDotlocks())
    mbox.append(path, entry(), uid=UID, fs=NoDotlocks())
    assert len(reader(path)) == 2
    holder("fcntl")
    with pytest.raises(mbox.MailboxBusy):
        mbox.append(path, entry(), uid=UID, fs=NoDotlocks(), wait=0)


def test_a_mailbox_that_a_reader_replaces_meanwhile_is_opened_again(path):
    mbox.append(path, entry(), uid=UID)

    class Replaced(FileSystem):
        done = False

        def open(self, name, flags, mode=0o600):
            fd = super().open(name, flags, mode)
            if name == path and not self.done:
                self.done = True
                os.rename(path, path + ".old")
                with open(path, "wb") as file:
                    file.write(b"From new\n\n\n")
            return fd

    old = contents(path)
    mbox.append(path, entry(), uid=UID, fs=Replaced(), sleep=lambda s: None)
    assert contents(path + ".old") == old
    assert contents(path).startswith(b"From new\n\n\nFrom a@x.test")


# ---------------------------------------------------------------- what is no mailbox


def test_a_symbolic_link_is_refused(path, tmp_path):
    target = tmp_path / "target"
    os.symlink(target, path)
    with pytest.raises(mbox.NotAMailbox, match="symbolic link"):
        mbox.append(path, entry(), uid=UID)
    assert not target.exists()
    target.write_bytes(b"mine")
    with pytest.raises(mbox.NotAMailbox, match="symbolic link"):
        mbox.append(path, entry(), uid=UID)
    assert target.read_bytes() == b"mine"


def test_a_hard_link_is_refused(path, tmp_path):
    (tmp_path / "precious").write_bytes(b"mine")
    os.link(tmp_path / "precious", path)
    with pytest.raises(mbox.NotAMailbox, match="hard link"):
        mbox.append(path, entry(), uid=UID)
    assert (tmp_path / "precious").read_bytes() == b"mine"


@pytest.mark.timeout(10)
def test_a_fifo_is_refused_without_waiting(path):
    os.mkfifo(path)
    with pytest.raises(mbox.NotAMailbox, match="not a regular file"):
        mbox.append(path, entry(), uid=UID)


def test_a_directory_is_refused(path):
    os.mkdir(path)
    with pytest.raises(mbox.NotAMailbox, match="directory"):
        mbox.append(path, entry(), uid=UID)


def test_another_s_file_is_refused(path):
    with open(path, "wb") as file:
        file.write(b"theirs")
    with pytest.raises(mbox.NotAMailbox, match=f"belongs to uid {UID}"):
        mbox.append(path, entry(), uid=UID + 1)
    assert contents(path) == b"theirs"


# ---------------------------------------------------------------- failures


class Failing(FileSystem):
    """Fails the n-th call of one kind; writes half of what is asked before that, as a full disk does. What is said in a lock
    file is never written."""

    def __init__(self, call, at, number):
        self.call, self.at, self.number, self.count = call, at, number, 0
        self.calls = []
        self.locks = set()

    def open(self, path, flags, mode=0o777):
        fd = super().open(path, flags, mode)
        (self.locks.add if path.endswith(".lock") else self.locks.discard)(fd)
        return fd

    def _step(self, call):
        self.calls.append(call)
        if call == self.call:
            self.count += 1
            if self.count == self.at:
                raise OSError(self.number, os.strerror(self.number))

    def pwrite(self, fd, data, at):
        if fd in self.locks:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._step("pwrite")
        return super().pwrite(fd, data[: max(1, len(data) // 2)], at)

    def fsync(self, fd):
        self._step("fsync")
        super().fsync(fd)

    def unlink(self, path):
        super().unlink(path)
        self._step("unlink")

    def close(self, fd):
        directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        super().close(fd)
        if not directory:
            self._step("close")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
@pytest.mark.parametrize(("call", "at"), [("pwrite", 1), ("pwrite", 2), ("pwrite", 9), ("fsync", 1)])
def test_a_failed_append_leaves_the_mailbox_as_it_was(path, call, at, number):
    mbox.append(path, entry(), uid=UID)
    before = contents(path)
    with pytest.raises(OSError) as raised:  # noqa: PT011 the number is looked at
        mbox.append(path, entry(), uid=UID, fs=Failing(call, at, number))
    assert raised.value.errno == number
    assert contents(path) == before
    assert not os.path.exists(path + ".lock")


def test_a_new_mailbox_whose_name_cannot_be_synced_holds_nothing(path):
    # Not delivered: what is tried again must not be there already.
    with pytest.raises(OSError, match="error"):
        mbox.append(path, entry(), uid=UID, fs=Failing("fsync", 2, errno.EIO))
    assert contents(path) == b""
    mbox.append(path, entry(), uid=UID)
    assert len(reader(path)) == 1


@pytest.mark.parametrize(("call", "at"), [("unlink", 1), ("close", 1), ("close", 2)])
def test_trouble_behind_the_sync_does_not_make_the_message_come_twice(path, call, at):
    mbox.append(path, entry(), uid=UID, fs=Failing(call, at, errno.EIO))
    assert len(reader(path)) == 1


def test_a_dotlock_that_others_took_for_stale_is_theirs(path):
    # A writer on a slow disk, a machine that slept: somebody removed our lock, and perhaps has one now.
    for theirs in (False, True):

        def chunks(theirs=theirs):
            yield b"From a\n\nx\n\n"
            other = path + ".new"
            with open(other, "w") as file:  # made before ours is removed, so that it is another file
                file.write("1")
            os.replace(other, path + ".lock")
            if not theirs:
                os.unlink(path + ".lock")

        mbox.append(path, chunks(), uid=UID)
        assert os.path.exists(path + ".lock") == theirs
    assert contents(path) == b"From a\n\nx\n\n" * 2


def test_short_writes_are_continued(path):
    mbox.append(path, entry(), uid=UID, fs=Failing("none", 0, 0))
    assert len(reader(path)) == 1


def test_a_message_that_cannot_be_read_to_its_end_leaves_nothing(path):
    mbox.append(path, entry(), uid=UID)
    before = contents(path)

    def chunks():
        yield b"From x\n\n" + b"y" * 100_000
        raise OSError(errno.EIO, "spool")

    with pytest.raises(OSError, match="spool"):
        mbox.append(path, chunks(), uid=UID)
    assert contents(path) == before


def test_what_another_program_appended_without_our_lock_is_not_cut_away(path):
    mbox.append(path, entry(), uid=UID)
    before = contents(path)

    def chunks():
        with open(path, "ab") as other:
            other.write(b"From c-dma\n\n" + b"z" * 1000 + b"\n\n")
        raise OSError(errno.EIO, "spool")
        yield

    with pytest.raises(OSError, match="spool"):
        mbox.append(path, chunks(), uid=UID)
    assert contents(path) == before + b"From c-dma\n\n" + b"z" * 1000 + b"\n\n"


def test_it_is_synced_before_it_counts(path):
    fs = Failing("none", 0, 0)
    mbox.append(path, entry(), uid=UID, fs=fs)
    calls = [call for call in fs.calls if call in ("pwrite", "fsync")]
    assert calls[-2:] == ["fsync", "fsync"]  # the file, and the directory of a new file
    fs = Failing("none", 0, 0)
    mbox.append(path, entry(), uid=UID, fs=fs)
    assert [call for call in fs.calls if call in ("pwrite", "fsync")][-2:] == ["pwrite", "fsync"]


@pytest.mark.optional("a container may forbid mounting")
def test_a_really_full_disk(tmp_path):
    if UID != 0:
        pytest.skip("needs root: a tiny tmpfs is mounted")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        path = str(small / "alice")
        mbox.append(path, entry(), uid=UID)
        before = contents(path)
        with pytest.raises(OSError) as raised:  # noqa: PT011 the number is looked at
            mbox.append(path, entry(b"x\n" * 100_000), uid=UID)
        assert raised.value.errno == errno.ENOSPC
        assert contents(path) == before
        mbox.append(path, entry(), uid=UID)
        assert len(reader(path)) == 2
    finally:
        subprocess.run(["umount", str(small)], check=True)
