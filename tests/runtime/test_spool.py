"""Birth and reading of messages on the real file system; the faults are in tests/faults."""


import errno
import os
import pathlib
import stat
import tempfile
import time

import pytest

from dma_runtime import posixos
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.errors import BrokenMessage, CannotSpool, ConfigError
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.spool import Spool, is_id, new_id

NOBODY = 65534


def envelope(id="", recipients=("a@example.org",)):
    return Envelope(id, "me@example.org", [Recipient(address) for address in recipients], time.time())


def put(spool, data=b"Subject: x\n\nbody\n", id="", pieces=1 << 30):
    made = envelope(id)
    draft = spool.draft(made)
    for at in range(0, len(data), pieces):
        draft.write(data[at : at + pieces])
    return draft.commit(made)


class NoTmpfile(FileSystem):
    def open(self, path, flags, mode=0o600):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return super().open(path, flags, mode)


class NoProc(FileSystem):
    def lstat(self, path):
        return super().lstat("/nonexistent" if path.startswith("/proc") else path)


@pytest.fixture(params=[FileSystem, NoTmpfile, NoProc])
def spool(request, tmp_path):
    made = Spool(str(tmp_path / "spool"), request.param())
    assert made.prepare(own_only=True) == []
    return made


def body(spool, id):
    stored = spool.open(id)
    try:
        data, at = b"", 0
        while piece := stored.pread(1000, at):
            data, at = data + piece, at + len(piece)
        assert len(data) == stored.size
        return data
    finally:
        stored.close()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


# ---------------------------------------------------------------- birth


@pytest.mark.parametrize("size", [0, 1, 4000, 300_000, 1_000_000])
def test_a_message_is_there_whole(spool, size):
    data = (b"0123456789" * 7 + b"\n") * (size // 71 + 1)
    before = descriptors()
    id = put(spool, data[:size], pieces=70_001)
    assert spool.ids() == [id]
    assert body(spool, id) == data[:size]
    assert descriptors() == before
    assert os.listdir(spool.tmp) == []
    assert stat.S_IMODE(os.stat(f"{spool.queue}/{id}").st_mode) == 0o600
    assert os.stat(f"{spool.queue}/{id}").st_nlink == 1


def test_the_umask_takes_nothing_from_the_owner(spool):
    before = os.umask(0o777)
    try:
        id = put(spool)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(f"{spool.queue}/{id}").st_mode) == 0o600


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_the_draft_measures(spool, pieces):
    data = b"short\n" + b"x" * 998 + b"\n" + b"h\xe4ll\0\nlast"
    read = spool.read(put(spool, data, pieces=pieces))
    assert (read.size, read.longest_line, read.has_8bit, read.has_nul) == (len(data), 998, True, True)
    read = spool.read(put(spool, b"one\n\ntwo"))
    assert (read.size, read.longest_line, read.has_8bit, read.has_nul) == (8, 3, False, False)


def test_a_last_line_without_end_counts(spool):
    assert spool.read(put(spool, b"a\n" + b"y" * 50, pieces=7)).longest_line == 50


def test_discarded_leaves_nothing(spool):
    before = descriptors()
    draft = spool.draft(envelope())
    draft.write(b"x" * 500_000)
    draft.discard()
    draft.discard()
    assert spool.ids() == []
    assert os.listdir(spool.tmp) == []
    assert descriptors() == before


def test_an_id_is_never_overwritten(spool):
    put(spool, b"first\n", id="samesame")
    with pytest.raises(FileExistsError):
        put(spool, b"second\n", id="samesame")
    assert body(spool, "samesame") == b"first\n"
    assert os.listdir(spool.tmp) == []


def test_what_it_accepted_is_stamped_with_this_boot(spool):
    read = spool.read(put(spool))
    assert read.boot
    assert abs(read.up - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
    old = envelope()
    old.accepted_at = 5.0
    draft = spool.draft(old)
    assert spool.read(draft.commit(old)).boot == ""


def test_short_writes_are_gone_on_with(tmp_path):
    class Short(FileSystem):
        def pwrite(self, fd, data, at):
            return super().pwrite(fd, data[:1009], at)

    spool = Spool(str(tmp_path / "s"), Short())
    spool.prepare(own_only=True)
    data = os.urandom(400_000).replace(b"\n", b"")
    assert body(spool, put(spool, data)) == data


@pytest.mark.parametrize("call", ["open", "pwrite", "fsync", "link_open", "fchmod"])
@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOSPC, 75), (errno.EDQUOT, 75), (errno.EIO, 75), (errno.EROFS, 73), (errno.EACCES, 73)]
)
def test_a_failure_leaves_nothing_behind(tmp_path, call, number, status):
    class Failing(FileSystem):
        armed = False

    def fail(self, *arguments, **keywords):
        if self.armed:
            raise OSError(number, os.strerror(number))
        return getattr(FileSystem, call)(self, *arguments, **keywords)

    setattr(Failing, call, fail)
    spool = Spool(str(tmp_path / "s"), Failing())
    spool.prepare(own_only=True)
    before = descriptors()
    spool.fs.armed = True
    with pytest.raises(CannotSpool, match=os.strerror(number)) as caught:
        put(spool)
    assert caught.value.status == status
    assert "queued" not in caught.value.text
    assert spool.ids() == []
    assert descriptors() == before


def test_a_failed_last_sync_keeps_the_message_and_says_so(tmp_path):
    class Failing(FileSystem):
        armed = False

        def fsync(self, fd):
            if self.armed and stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, "Input/output error")
            super().fsync(fd)

    spool = Spool(str(tmp_path / "s"), Failing())
    spool.prepare(own_only=True)
    spool.fs.armed = True
    with pytest.raises(CannotSpool, match="may have been queued as someid") as caught:
        put(spool, id="someid")
    assert caught.value.status == 75
    assert spool.ids() == ["someid"]


def test_a_close_that_fails_behind_the_sync_changes_nothing(tmp_path):
    """Told 75 the caller would send it again."""

    class Failing(FileSystem):
        armed = False

        def close(self, fd):
            super().close(fd)
            if self.armed:
                raise OSError(errno.EIO, "Input/output error")

    spool = Spool(str(tmp_path / "s"), Failing())
    spool.prepare(own_only=True)
    spool.fs.armed = True
    assert put(spool, id="someid") == "someid"
    assert spool.ids() == ["someid"]


# ---------------------------------------------------------------- reading


def test_oldest_first_and_nothing_else(spool):
    ids = [put(spool, id=new_id(when, os.urandom)) for when in (300.0, 1.5, 2e9, 1.7e9)]
    for stranger in (".nfs0001", "README", "a.b", "lost+found"):
        open(f"{spool.queue}/{stranger}", "w").close()
    assert spool.ids() == [ids[1], ids[0], ids[3], ids[2]]


def test_a_long_envelope(spool):
    many = [f"somebody{number}@example{number}.org" for number in range(5000)]
    made = envelope(recipients=many)
    draft = spool.draft(made)
    draft.write(b"body\n")
    id = draft.commit(made)
    assert [r.address for r in spool.read(id).recipients] == many
    assert body(spool, id) == b"body\n"


@pytest.mark.parametrize("id", ["", "..", "../lock", "a/b", "ABC", "a\0b", "a" * 300, "é"])
def test_a_name_that_cannot_be_an_id_is_not_looked_for(spool, id):
    assert not is_id(id)
    with pytest.raises(FileNotFoundError):
        spool.read(id)
    with pytest.raises(FileNotFoundError):
        spool.open(id)


def test_gone_is_gone(spool):
    with pytest.raises(FileNotFoundError):
        spool.read("nosuchid")


def test_links_are_not_followed(spool, tmp_path):
    put(spool, id="real")
    os.rename(f"{spool.queue}/real", tmp_path / "real")
    os.symlink(tmp_path / "real", f"{spool.queue}/real")
    with pytest.raises(BrokenMessage, match="a link"):
        spool.read("real")


@pytest.mark.parametrize("cut", [0, 1, 200, 520, -1])
def test_a_file_that_is_not_whole_is_broken(spool, cut):
    id = put(spool, b"x" * 3000)
    with open(f"{spool.queue}/{id}", "r+b") as file:
        file.truncate(os.path.getsize(file.name) + cut if cut < 0 else cut)
    before = descriptors()
    with pytest.raises(BrokenMessage):
        spool.open(id)
    assert descriptors() == before


def test_a_file_under_another_name_is_broken(spool):
    id = put(spool)
    os.link(f"{spool.queue}/{id}", f"{spool.queue}/other")
    with pytest.raises(BrokenMessage, match=id):
        spool.read("other")


# ---------------------------------------------------------------- ids


def test_ids_sort_by_time():
    dice = iter([b"\xff" * 5, b"\0" * 5, b"\0" * 5])
    first, second, third = (new_id(when, lambda n: next(dice)) for when in (1700000000.001, 1700000000.002, 4e9))
    assert first < second < third
    assert len(first) == 18
    assert is_id(first)


def test_ids_before_1970_are_ids():
    assert new_id(-5.0, os.urandom).startswith("0000000000")


# ---------------------------------------------------------------- preparing


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_prepare_makes_everything_private(tmp_path):
    before = os.umask(0)
    try:
        spool = Spool(str(tmp_path / "a/b/spool"))
        assert spool.prepare(own_only=True) == []
    finally:
        os.umask(before)
    assert [mode(path) for path in (spool.path, spool.queue, spool.log, spool.tmp)] == [0o700] * 4
    assert mode(tmp_path / "a") == 0o700
    assert mode(spool.path + "/lock") == 0o600
    assert spool.prepare(own_only=True) == []


def test_prepare_makes_what_somebody_removed(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    os.rmdir(spool.queue)
    spool.prepare(own_only=True)
    put(spool)


def test_writable_by_others_is_mended_with_a_warning(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    os.chmod(spool.path, 0o2770)
    assert "writable by others" in spool.prepare(own_only=True)[0]
    assert mode(spool.path) == 0o700
    os.chmod(spool.path, 0o755)
    assert spool.prepare(own_only=True) == []
    assert mode(spool.path) == 0o700


def test_not_a_directory(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(CannotSpool) as caught:
            Spool(str(path)).prepare(own_only=True)
        assert caught.value.status == 73


def test_a_part_that_is_no_directory(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    os.rmdir(spool.queue)
    os.symlink(tmp_path, spool.queue)
    with pytest.raises(CannotSpool) as caught:
        spool.prepare(own_only=True)
    assert caught.value.status == 73


class Foreign(FileSystem):
    """The spool belongs to somebody else."""

    def stat(self, path):
        found = list(super().stat(path))
        found[4] = os.geteuid() + 1
        return os.stat_result(found)


def test_not_the_callers_own_is_a_matter_of_configuration(tmp_path):
    Spool(str(tmp_path / "spool")).prepare(own_only=True)
    with pytest.raises(ConfigError) as caught:
        Spool(str(tmp_path / "spool"), Foreign()).prepare(own_only=True)
    assert caught.value.status == 78


def test_root_does_not_write_anothers_spool(tmp_path, monkeypatch):
    Spool(str(tmp_path / "spool")).prepare(own_only=True)
    monkeypatch.setattr(posixos, "geteuid", lambda: 0)
    monkeypatch.setattr(Foreign, "stat", lambda self, path: os.stat_result([0o40700, 1, 1, 1, 1234, 0, 0, 0, 0, 0]))
    with pytest.raises(CannotSpool, match="uid 1234") as caught:
        Spool(str(tmp_path / "spool"), Foreign()).prepare(own_only=False)
    assert caught.value.status == 73


@pytest.fixture
def ordinary(tmp_path):
    """A directory that an ordinary user may enter and not write, as that user: root may write everywhere."""
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        yield tmp_path
        tmp_path.chmod(0o700)
        return
    with tempfile.TemporaryDirectory() as directory:  # pytest's own directories are closed to others
        os.chown(directory, NOBODY, NOBODY)
        os.chmod(directory, 0o500)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            yield pathlib.Path(directory)
        finally:
            os.seteuid(0)
            os.setegid(0)


def test_no_permission_is_73(ordinary):
    assert os.access(ordinary, os.X_OK, effective_ids=True)
    with pytest.raises(CannotSpool) as caught:
        Spool(str(ordinary / "spool")).prepare(own_only=True)
    assert caught.value.status == 73
    assert "Permission denied" in str(caught.value)


@pytest.mark.parametrize("make", [lambda path: os.symlink("/etc/passwd", path), os.mkfifo, os.mkdir])
def test_what_is_no_file_is_damaged_and_holds_nobody_up(tmp_path, make):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=False)
    make(spool.queue + "/01m8328r84cjj4vr5j")
    with pytest.raises(BrokenMessage):
        spool.read("01m8328r84cjj4vr5j")
    with pytest.raises(BrokenMessage):
        spool.open("01m8328r84cjj4vr5j").close()
