"""Which `.forward` is read: only one that nobody but the user or root can have put there."""

import os

import pytest

from dma_runtime.system import forward

ME = os.geteuid()
OTHER = ME + 1


@pytest.fixture
def home(tmp_path):
    found = tmp_path / "home"
    found.mkdir()
    write(found)
    return found


def write(home, data=b"me@far.test\n", mode=0o644):
    path = home / ".forward"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def read(home, uid=ME):
    return forward.read(str(home), uid)


def unused(home, why, uid=ME):
    text, said = read(home, uid)
    assert text is None
    assert why in said
    assert str(home) in said or "home" in said


def test_a_safe_one_is_read(home):
    assert read(home) == ("me@far.test\n", "")
    write(home, b"a\xff@x\n", 0o600)
    assert read(home) == ("a\udcff@x\n", "")


def test_none_is_no_trouble(home, tmp_path):
    (home / ".forward").unlink()
    assert read(home) == (None, "")
    assert read(tmp_path / "missing") == (None, "")
    assert read(home / ".forward" / "x") == (None, "")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_one_that_others_can_write(home, mode):
    (home / ".forward").chmod(mode)
    unused(home, "others can write it")


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_home_that_others_can_write(home, mode):
    home.chmod(mode)
    unused(home, "others can write")
    home.chmod(mode | 0o1000)  # sticky: nobody else can replace what is there
    assert read(home)[0]


def test_a_directory_above_that_others_can_write(tmp_path, home):
    tmp_path.chmod(0o777)
    unused(home, f"others can write {tmp_path}")


def test_another_s(home, tmp_path):
    if ME == 0:
        os.chown(home / ".forward", 12345, -1)
        unused(home, "it belongs to uid 12345")
        os.chown(home / ".forward", 0, -1)
        os.chown(home, 12345, -1)
        unused(home, "belongs to uid 12345")
    else:
        unused(home, f"belongs to uid {ME}", uid=OTHER)


@pytest.mark.skipif(ME != 0, reason="needs root to give files away")
def test_root_s_file_in_a_user_s_home_is_good(home):
    os.chown(home, 12345, -1)
    assert read(home, uid=12345)[0]


def test_links_and_what_is_no_file(home, tmp_path):
    (home / ".forward").rename(tmp_path / "real")
    (home / ".forward").symlink_to(tmp_path / "real")
    unused(home, "symbolic links")
    (home / ".forward").unlink()
    os.link(tmp_path / "real", home / ".forward")
    unused(home, "not a regular file with one name")
    (home / ".forward").unlink()
    os.mkfifo(home / ".forward", 0o600)
    unused(home, "not a regular file")
    (home / ".forward").unlink()
    (home / ".forward").mkdir()
    unused(home, "not a regular file")


def test_a_home_that_is_a_link_is_looked_at_where_it_is(home, tmp_path):
    (tmp_path / "link").symlink_to(home)
    assert read(tmp_path / "link")[0]
    home.chmod(0o777)
    assert read(tmp_path / "link")[0] is None


def test_the_size_on_both_sides_of_the_line(home):
    write(home, b"x" * forward.LARGEST)
    assert len(read(home)[0]) == forward.LARGEST
    write(home, b"x" * (forward.LARGEST + 1))
    unused(home, f"larger than {forward.LARGEST} bytes")


def test_the_largest_fits_the_frame_of_the_mailbox_process():
    from dma_runtime import posting

    for byte in (b"\xff", b"\0", b'"'):
        text = (byte * forward.LARGEST).decode("utf-8", "surrogateescape")
        frame = posting.encode_forward(text)
        assert posting.decode_forward(frame[5:]) == (text, "")
