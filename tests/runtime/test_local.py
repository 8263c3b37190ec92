"""Local delivery in user mode: into the owner's own mailbox, from a real spool; each trouble is an Outcome."""

import errno
import mailbox
import os
import pwd

import pytest

from dma_runtime import config
from dma_runtime.delivery import local
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.spool import Spool

UID = os.geteuid()
try:
    ME = pwd.getpwuid(UID).pw_name
except KeyError:
    pytest.skip("needs a passwd entry for the user who runs the tests", allow_module_level=True)
OTHER = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_uid != UID)
MESSAGE = b"Subject: hello\nFrom: a@x.test\n\n" + b"From the disk \xfc\n" * 10_000


@pytest.fixture
def spool(tmp_path):
    found = Spool(str(tmp_path / "spool"))
    found.prepare(own_only=True)
    return found


@pytest.fixture
def place(tmp_path):
    """A mail drop and a home."""
    (tmp_path / "drop").mkdir()
    (tmp_path / "home").mkdir()
    return tmp_path


def spooled(spool, *recipients, sender="a@x.test"):
    envelope = Envelope("", sender, [Recipient(name) for name in recipients], 1_795_375_321.0)
    draft = spool.draft(envelope)
    draft.write(MESSAGE)
    return draft.commit(envelope)


def deliver(spool, place, name=ME, conf="MAILNAME box.test", message="", **more):
    message = message or spooled(spool, name)
    before = set(os.listdir("/proc/self/fd"))
    outcome = local.deliver(
        spool,
        message,
        Recipient(name),
        config.parse(conf, "t"),
        maildrop=str(place / "drop"),
        home=str(place / "home"),
        **more,
    )
    assert set(os.listdir("/proc/self/fd")) == before
    return outcome


def test_into_the_mailbox_file(spool, place):
    outcome = deliver(spool, place)
    assert (outcome.kind, outcome.status, outcome.code) == (DELIVERED, "2.0.0", 0)
    (message,) = mailbox.mbox(str(place / "drop" / ME))
    assert message["Delivered-To"] == f"{ME}@box.test"
    assert message["Return-Path"] == "<a@x.test>"
    assert b">From the disk" in bytes(message)
    assert message.get_from().startswith("a@x.test ")


def test_names_match_whatever_their_case(spool, place):
    assert deliver(spool, place, ME.upper()).kind == DELIVERED
    assert os.listdir(place / "drop") == [ME]


def test_into_the_home_where_the_mail_drop_cannot_be_written(spool, place, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *arguments, **keywords: False)  # root may write everywhere
    message = spooled(spool, ME)
    for _ in range(2):  # repeated after a crash
        assert deliver(spool, place, message=message).kind == DELIVERED
    (message,) = mailbox.Maildir(str(place / "home" / "Maildir"), create=False)
    text = bytes(message)
    assert text == b"Return-Path: <a@x.test>\nDelivered-To: " + f"{ME}@box.test\n".encode() + MESSAGE
    assert os.listdir(place / "drop") == []


def test_a_directory_in_the_mail_drop_is_a_maildir(spool, place):
    (place / "drop" / ME).mkdir(mode=0o700)
    assert deliver(spool, place).kind == DELIVERED
    assert len(mailbox.Maildir(str(place / "drop" / ME), create=False)) == 1


def test_two_recipients_of_one_message_are_two_deliveries(spool, place):
    (place / "drop" / ME).mkdir(mode=0o700)
    message = spooled(spool, ME, ME.upper())
    assert deliver(spool, place, message=message).kind == DELIVERED
    assert deliver(spool, place, ME.upper(), message=message).kind == DELIVERED
    assert len(mailbox.Maildir(str(place / "drop" / ME), create=False)) == 2


def test_nobody_else_s_mailbox(spool, place):
    outcome = deliver(spool, place, OTHER)
    assert (outcome.kind, outcome.status) == (FAILED, "5.7.1")
    outcome = deliver(spool, place, "no-such-user-here")
    assert (outcome.kind, outcome.status) == (FAILED, "5.1.1")
    assert "no-such-user-here" in outcome.text
    assert os.listdir(place / "drop") == []


def test_what_is_no_mailbox_is_told_and_does_not_expire(spool, place):
    os.symlink("/nowhere", place / "drop" / ME)
    outcome = deliver(spool, place)
    assert (outcome.kind, outcome.tell, outcome.answered) == (DEFERRED, True, False)
    assert "symbolic link" in outcome.text
    assert str(place / "drop" / ME) in outcome.hint


def test_a_held_lock_defers_and_is_nobody_s_fault(spool, place):
    with open(place / "drop" / f"{ME}.lock", "w"):
        pass
    outcome = deliver(spool, place, wait=0)
    assert (outcome.kind, outcome.status, outcome.tell) == (DEFERRED, "4.2.0", False)


class Full(FileSystem):
    def __init__(self, number):
        self.number = number

    def pwrite(self, fd, data, at):
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.ENOSPC, "4.3.1"), (errno.EDQUOT, "4.2.2"), (errno.EFBIG, "4.3.1"), (errno.EIO, "4.3.0"), (errno.EROFS, "4.3.0")],
)
def test_disk_trouble_defers(spool, place, number, status):
    outcome = deliver(spool, place, fs=Full(number))
    assert (outcome.kind, outcome.status, outcome.tell) == (DEFERRED, status, True)
    assert os.strerror(number) in outcome.text
    assert outcome.hint


def test_no_place_at_all(spool, place, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *arguments, **keywords: False)
    message = spooled(spool, ME)
    outcome = local.deliver(spool, message, Recipient(ME), config.parse("", "t"), maildrop=str(place / "drop"), home="")
    assert (outcome.kind, outcome.tell) == (DEFERRED, True)


def test_a_mailbox_that_may_be_written_wins(place):
    drop, home = str(place / "drop"), str(place / "home")
    assert local.mailbox_of("alice", home, drop) == ("mbox", f"{drop}/alice")
    (place / "drop" / "alice").write_bytes(b"")
    assert local.mailbox_of("alice", home, drop) == ("mbox", f"{drop}/alice")
    if UID != 0:
        (place / "drop" / "alice").chmod(0o400)
        assert local.mailbox_of("alice", home, drop) == ("maildir", f"{home}/Maildir")
    assert local.mailbox_of("alice", home, str(place / "missing")) == ("maildir", f"{home}/Maildir")
