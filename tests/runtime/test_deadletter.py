"""dead.letter: appended only to a file of the caller's own."""

import errno
import mailbox
import os

import pytest

from dma_runtime.system.deadletter import save

UID = os.getuid()


def test_appended_private_and_complete(tmp_path):
    assert save([b"one\n", b"two"], UID, str(tmp_path)) == f"{tmp_path}/dead.letter"
    save([b"three"], UID, str(tmp_path))
    path = tmp_path / "dead.letter"
    text = path.read_bytes()
    assert text.count(b"From dead.letter ") == 2
    assert b"one\ntwo\n\n" in text
    assert text.endswith(b"three\n\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_would_start_a_message_does_not(tmp_path):
    save([b"Subject: s\n\nFr", b"om here\n"], UID, str(tmp_path))
    assert [message.get_payload() for message in mailbox.mbox(tmp_path / "dead.letter")] == [">From here\n\n"]


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "dead.letter").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match=r".*") as caught:
        save([b"x"], UID, str(tmp_path))
    assert caught.value.errno == errno.ELOOP
    assert (tmp_path / "target").read_text() == "precious"


def test_a_file_with_two_names_and_one_of_another_owner_are_refused(tmp_path):
    (tmp_path / "dead.letter").write_text("precious")
    os.link(tmp_path / "dead.letter", tmp_path / "other")
    with pytest.raises(OSError, match="Not a file of your own"):
        save([b"x"], UID, str(tmp_path))
    os.unlink(tmp_path / "other")
    with pytest.raises(OSError, match="Not a file of your own"):
        save([b"x"], UID + 1, str(tmp_path))
    assert (tmp_path / "dead.letter").read_text() == "precious"


def test_a_fifo_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "dead.letter", 0o600)
    with pytest.raises(OSError, match=r".*"):
        save([b"x"], UID, str(tmp_path))


def test_what_fails_half_way_leaves_nothing(tmp_path):
    (tmp_path / "dead.letter").write_text("before\n")

    def chunks():
        yield b"half"
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        save(chunks(), UID, str(tmp_path))
    assert (tmp_path / "dead.letter").read_text() == "before\n"
