"""Local delivery with each file system call failing in turn: what was not delivered is not there, and tried again comes once."""

import errno
import mailbox
import os
import time

import pytest

from dma_runtime.message import mboxrd
from dma_runtime.system import maildir, mbox
from dma_runtime.system.fs import FileSystem

UID = os.geteuid()
BODY = [b"Subject: new\n\n", b"x" * 70_000, b"\nend\n"]
CALLS = ("open", "close", "pread", "pwrite", "fsync", "ftruncate", "fstat", "lstat", "mkdir", "link", "unlink")
ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS]


class Counting(FileSystem):
    """Fails call number `at`; a `pwrite` that fails has written half before, a `close` or `unlink` has done its work."""

    def __init__(self, at, number):
        self.at, self.number, self.calls = at, number, []

    def error(self):
        return OSError(self.number, os.strerror(self.number))


def counted(name):
    real = getattr(FileSystem, name)

    def call(self, *arguments, **keywords):
        self.calls.append(name)
        if len(self.calls) - 1 != self.at:
            return real(self, *arguments, **keywords)
        if name in ("close", "unlink"):
            real(self, *arguments)
        elif name == "pwrite":
            fd, data, at = arguments
            real(self, fd, data[: len(data) // 2], at)
        raise self.error()

    return call


for name in CALLS:
    setattr(Counting, name, counted(name))


class Mbox:
    def __init__(self, directory, *, there):
        self.path = str(directory / "alice")
        self.before = b""
        if there:
            mbox.append(self.path, mboxrd.mbox_entry("a@x", "alice@x", time.gmtime(0), [b"Subject: old\n\nold\n"]), uid=UID)
            self.before = self.whole()

    def whole(self):
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def deliver(self, fs):
        entry = mboxrd.mbox_entry("a@x", "alice@x", time.gmtime(0), BODY)
        mbox.append(self.path, entry, uid=UID, wait=0, fs=fs)

    def untouched(self):
        return self.whole() == self.before

    def subjects(self):
        return sorted(message["Subject"] for message in mailbox.mbox(self.path, create=False))


class Maildir:
    def __init__(self, directory, *, there):
        self.path = str(directory / "Maildir")
        if there:
            maildir.deliver(self.path, [b"Subject: old\n\nold\n"], uid=UID, name="1.old_0.h")

    def deliver(self, fs):
        maildir.deliver(self.path, BODY, uid=UID, name="2.new_0.h", fs=fs)

    def untouched(self):
        return True  # a link that is there is found again: see what `subjects` says in the end

    def subjects(self):
        found = mailbox.Maildir(self.path, create=False)
        return sorted(message["Subject"] for message in found)


@pytest.mark.parametrize("there", [False, True], ids=["a new one", "one with mail"])
@pytest.mark.parametrize("kind", [Mbox, Maildir])
@pytest.mark.parametrize("number", ERRORS, ids=[errno.errorcode[number] for number in ERRORS])
def test_each_call_that_fails(tmp_path, kind, there, number):
    dry = Counting(-1, 0)
    (tmp_path / "dry").mkdir()
    kind(tmp_path / "dry", there=there).deliver(dry)
    assert len(dry.calls) > 10
    descriptors = set(os.listdir("/proc/self/fd"))
    told = 0
    for at, call in enumerate(dry.calls):
        directory = tmp_path / str(at)
        directory.mkdir()
        box = kind(directory, there=there)
        what = f"{errno.errorcode[number]} at call {at}, {call}"
        try:
            box.deliver(Counting(at, number))
            delivered = True
        except (OSError, mbox.MailboxBusy):
            delivered = False
            told += 1
            assert box.untouched(), what
        assert set(os.listdir("/proc/self/fd")) == descriptors, what
        if not delivered:
            for lock in directory.glob("*.lock"):  # one that could not be looked at is left for stale
                os.utime(lock, (0, 0))
            try:
                box.deliver(FileSystem())
            except mbox.MailboxBusy:
                box.deliver(FileSystem())
        assert box.subjects() == (["new", "old"] if there else ["new"]), what
    assert told >= len(dry.calls) // 3
