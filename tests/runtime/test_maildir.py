"""Delivery into a Maildir: through tmp/, synced, never over another message, never twice for one delivery."""

import errno
import mailbox
import os

import pytest

from dma_runtime.system import maildir
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.mbox import NotAMailbox

UID = os.geteuid()
NAME = "1795375321.01hq3kabcde4f5g6h7_0.box"
BODY = [b"Subject: hello\n", b"\nFrom here\n"]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "Maildir")


def listing(path):
    return {part: sorted(os.listdir(f"{path}/{part}")) for part in ("tmp", "new", "cur")}


class Watching(FileSystem):
    def __init__(self):
        self.calls = []

    def fsync(self, fd):
        self.calls.append(("fsync", os.readlink(f"/proc/self/fd/{fd}").rpartition("Maildir")[2]))
        super().fsync(fd)

    def link_open(self, fd, target):
        self.calls.append(("link", ""))
        super().link_open(fd, target)


def test_a_maildir_is_made_and_readers_find_the_message(path):
    maildir.deliver(path, BODY, uid=UID, name=NAME)
    assert listing(path) == {"tmp": [], "new": [NAME], "cur": []}
    (message,) = mailbox.Maildir(path, create=False)
    assert bytes(message) == b"".join(BODY)
    assert message.get_subdir() == "new"
    for part in ("", "/tmp", "/new", "/cur"):
        assert os.stat(path + part).st_mode & 0o777 == 0o700
    assert os.stat(f"{path}/new/{NAME}").st_mode & 0o777 == 0o600


def test_synced_then_linked_then_synced(path):
    maildir.deliver(path, BODY, uid=UID, name="1.a.b")
    fs = Watching()
    maildir.deliver(path, BODY, uid=UID, name=NAME, fs=fs)
    assert fs.calls[-3:] == [("fsync", f"/tmp/{NAME}"), ("link", ""), ("fsync", "/new")]


def test_a_file_of_another_attempt_is_never_linked(path):
    """The daemon gave this one up, not it itself (a hanging disk), and began a second."""
    maildir.deliver(path, BODY, uid=UID, name="1.a.b")

    def hanging():
        yield b"whole "
        os.unlink(f"{path}/tmp/{NAME}")
        with open(f"{path}/tmp/{NAME}", "wb") as other:
            other.write(b"who")  # the second attempt, so far
        yield b"message\n"

    with pytest.raises(FileNotFoundError):
        maildir.deliver(path, hanging(), uid=UID, name=NAME)
    assert listing(path)["new"] == ["1.a.b"]


def test_a_repeated_delivery_is_one_message(path):
    maildir.deliver(path, BODY, uid=UID, name=NAME)
    maildir.deliver(path, [b"again"], uid=UID, name=NAME)
    assert listing(path) == {"tmp": [], "new": [NAME], "cur": []}
    with open(f"{path}/new/{NAME}", "rb") as file:
        assert file.read() == b"".join(BODY)


def test_what_a_dead_attempt_left_is_replaced(path):
    maildir.deliver(path, BODY, uid=UID, name="1.a.b")
    with open(f"{path}/tmp/{NAME}", "wb") as file:
        file.write(b"half")
    maildir.deliver(path, BODY, uid=UID, name=NAME)
    assert listing(path) == {"tmp": [], "new": ["1.a.b", NAME], "cur": []}
    with open(f"{path}/new/{NAME}", "rb") as file:
        assert file.read() == b"".join(BODY)


class Full(FileSystem):
    def __init__(self, number, call):
        self.number, self.call = number, call

    def pwrite(self, fd, data, at):
        if self.call == "pwrite" and at > 0:
            raise OSError(self.number, os.strerror(self.number))
        return super().pwrite(fd, data, at)

    def fsync(self, fd):
        if self.call == "fsync" and os.readlink(f"/proc/self/fd/{fd}").endswith(NAME):
            raise OSError(self.number, os.strerror(self.number))
        super().fsync(fd)


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failed_delivery_leaves_nothing(path, call, number):
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as raised:  # noqa: PT011 the number is looked at
        maildir.deliver(path, BODY, uid=UID, name=NAME, fs=Full(number, call))
    assert raised.value.errno == number
    assert listing(path) == {"tmp": [], "new": [], "cur": []}
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("call", ["unlink", "close"])
def test_trouble_behind_the_link_does_not_make_the_message_come_twice(path, call):
    class Late(FileSystem):
        def unlink(self, path):
            super().unlink(path)
            if call == "unlink":
                raise FileNotFoundError(errno.ENOENT, "swept")

        def close(self, fd):
            late = call == "close" and os.readlink(f"/proc/self/fd/{fd}").endswith(NAME)
            super().close(fd)
            if late:
                raise OSError(errno.EIO, "late")

    maildir.deliver(path, BODY, uid=UID, name=NAME, fs=Late())
    assert listing(path) == {"tmp": [], "new": [NAME], "cur": []}


def test_links_and_others_directories_are_refused(path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(NotAMailbox, match="symbolic link"):
        maildir.deliver(path, BODY, uid=UID, name=NAME)
    assert os.listdir(tmp_path / "elsewhere") == []
    os.unlink(path)
    os.mkdir(path)
    os.symlink(tmp_path / "elsewhere", f"{path}/new")
    with pytest.raises(NotAMailbox, match="Maildir/new"):
        maildir.deliver(path, BODY, uid=UID, name=NAME)
    assert os.listdir(tmp_path / "elsewhere") == []
    os.unlink(f"{path}/new")
    with pytest.raises(NotAMailbox, match=f"belongs to uid {UID}"):
        maildir.deliver(path, BODY, uid=UID + 1, name=NAME)
    os.rename(path, path + ".away")
    with open(path, "w") as file:
        file.write("a file")
    with pytest.raises(NotAMailbox):
        maildir.deliver(path, BODY, uid=UID, name=NAME)


def test_names_are_the_same_for_one_delivery_and_hold_no_separator():
    assert maildir.file_name(1795375321.7, "01hq", 3, "box.test") == "1795375321.01hq_3.box.test"
    assert maildir.file_name(1.0, "a", 0, "x/y:z") == "1.a_0.x\\057y\\072z"
