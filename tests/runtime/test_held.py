"""A message held until it is whole: in memory, in a nameless file, in a memfd; nothing is left behind."""

import errno
import os

import pytest

from dma_runtime import posixos
from dma_runtime.system import held
from dma_runtime.system.held import SMALL, Held

PIECE = bytes(range(256)) * 256  # 64 KB


def everything(message):
    message.rewind()
    return b"".join(iter(message.read, b""))


def test_a_small_one_stays_in_memory(tmp_path):
    message = Held(str(tmp_path / "missing"))
    for _ in range(SMALL // len(PIECE)):
        message.write(PIECE)
    assert not message.in_file
    assert everything(message) == everything(message) == PIECE * (SMALL // len(PIECE))
    with pytest.raises(FileNotFoundError):
        message.write(b"x")


@pytest.mark.parametrize("size", [1, 1000, SMALL - 1, SMALL, SMALL + 1])
def test_an_empty_piece_ends_nothing(tmp_path, size):
    message = Held(str(tmp_path))
    for piece in (b"", b"a" * size, b"", b"b" * 10, b""):
        message.write(piece)
    assert everything(message) == b"a" * size + b"b" * 10


@pytest.mark.parametrize("tmpfile", [True, False])
def test_a_large_one_is_in_a_file_without_a_name(tmp_path, monkeypatch, tmpfile):
    if not tmpfile:
        monkeypatch.setattr(held, "O_TMPFILE", 0)
    message = Held(str(tmp_path))
    for _ in range(9):
        message.write(PIECE)
    assert message.in_file
    assert os.listdir(tmp_path) == []
    assert os.fstat(message._fd).st_mode & 0o777 == 0o600
    assert everything(message) == PIECE * 9
    assert message.size == 9 * len(PIECE)
    message.close()
    message.close()


def test_without_a_directory_it_is_in_a_memfd(tmp_path):
    message = Held(str(tmp_path / "missing"), memory=True)
    for _ in range(6):
        message.write(PIECE)
    assert everything(message) == PIECE * 6


def test_a_full_directory_is_left_for_a_memfd_once(tmp_path, monkeypatch):
    message = Held(str(tmp_path), memory=True)
    for _ in range(5):
        message.write(PIECE)
    real, full = os.pwrite, message._fd

    def no_space(fd, data, at):
        if fd == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(posixos, "pwrite", no_space)
    message.write(PIECE)
    message.write(b"end")
    assert everything(message) == PIECE * 6 + b"end"
    only_files = Held(str(tmp_path))
    for _ in range(4):
        only_files.write(PIECE)
    monkeypatch.setattr(posixos, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        only_files.write(PIECE)


def test_writes_that_are_cut_short_are_continued(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(posixos, "pwrite", lambda fd, data, at: real(fd, data[:1000], at))
    message = Held(str(tmp_path))
    for _ in range(5):
        message.write(PIECE)
    assert everything(message) == PIECE * 5
