"""What C dma left in its spool: moved with its age, left where it is not whole, and the same after a crash at any step."""

import fcntl
import os
import time

import powerloss
import pytest
from c_dma import MESSAGE, Left

from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.errors import CannotSpool
from dma_runtime.history import fold
from dma_runtime.policy import retry
from dma_runtime.system import clock
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.spool import Spool
from dma_runtime.system.takeover import take_over, waits


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    return spool


@pytest.fixture
def left(spool):
    return Left(spool.path)


def old_files(spool):
    return sorted(name for name in os.listdir(spool.path) if name[0] in "QM" or name.startswith("tmp_") or name == "flush")


def content(spool, name):
    stored = spool.open(name)
    try:
        return stored.pread(1 << 20, 0)
    finally:
        stored.close()


class TestWhatIsTaken:
    def test_a_pair_becomes_a_message_with_its_bytes_and_its_age(self, spool, left):
        left.message("me@old.test", ["bob@example.org"], age=7200)
        found = take_over(spool)
        (name,) = spool.ids()
        assert (found.taken, found.busy, found.problems) == ([name], 0, [])
        envelope = spool.read(name)
        assert (envelope.sender, envelope.recipients) == ("me@old.test", [Recipient("bob@example.org")])
        assert 7199 < time.time() - envelope.accepted_at < 7260
        assert 7199 < retry.age(envelope, fold(envelope, []), clock.now()) < 7260
        assert envelope.message_id == "<6b03931e.21205a.41fd47ce@old.test>"
        assert content(spool, name) == MESSAGE
        assert MESSAGE[: envelope.header_end].endswith(b"From: <me@old.test>\n")
        assert old_files(spool) == []

    def test_each_pair_of_a_submission_is_a_message(self, spool, left):
        left.message("me@old.test", ["a@x.test", "b@y.test", "root"])
        take_over(spool)
        found = [spool.read(name) for name in spool.ids()]
        assert sorted(e.recipients[0].address for e in found) == ["a@x.test", "b@y.test", "root"]
        assert all(content(spool, e.id) == MESSAGE for e in found)
        assert old_files(spool) == []

    def test_the_oldest_is_first(self, spool, left):
        for age in (100, 90000, 5000):
            left.message(recipients=[f"{age}@x.test"], age=age)
        take_over(spool)
        found = [spool.read(name).recipients[0].address for name in spool.ids()]
        assert found == ["90000@x.test", "5000@x.test", "100@x.test"]

    @pytest.mark.parametrize("sender", ["", "@old.test"])
    def test_the_null_sender(self, spool, left, sender):
        left.message(sender)
        take_over(spool)
        assert spool.read(spool.ids()[0]).sender == ""

    def test_addresses_that_are_not_utf_8_keep_their_bytes(self, spool, left):
        (name,) = left.message()
        left.queue_file(name, b"ID: x\nSender: m\xe9@old.test\nRecipient: b@x.test\n")
        take_over(spool)
        assert os.fsencode(spool.read(spool.ids()[0]).sender) == b"m\xe9@old.test"

    def test_unknown_fields_are_passed_over(self, spool, left):
        (name,) = left.message()
        left.queue_file(name, b"ID: x\nFuture: 1\nSender: me@old.test\nRecipient: b@x.test\n")
        assert take_over(spool).problems == []
        assert len(spool.ids()) == 1

    def test_crlf_lines_become_lines_and_a_message_without_a_body_is_all_header(self, spool, left):
        left.message(text=b"Subject: x\r\nFrom: a@b.test\r\n")
        take_over(spool)
        (name,) = spool.ids()
        assert content(spool, name) == b"Subject: x\nFrom: a@b.test\n"
        assert spool.read(name).header_end == len(b"Subject: x\nFrom: a@b.test\n")

    def test_a_large_message(self, spool, left):
        text = MESSAGE + b"x" * 70 + b"\n" + os.urandom(700000)
        text = text.replace(b"\r", b"?")
        left.message(text=text)
        take_over(spool)
        assert content(spool, spool.ids()[0]) == text

    @pytest.mark.parametrize("length", [50, 250, 400, 490, 5000])
    def test_a_long_message_id(self, spool, left, length):
        # Line 1 was written with room for none, and the ValueError ended the owner: no mail moved any more.
        text = MESSAGE.replace(b"6b03931e", b"m" * length)
        left.message(text=text)
        found = take_over(spool)
        assert (len(found.taken), found.problems, old_files(spool)) == (1, [], [])
        envelope = spool.read(spool.ids()[0])
        assert envelope.message_id.startswith("<" + "m" * min(length, 499))
        assert content(spool, envelope.id) == text

    @pytest.mark.parametrize("size", [100, (1 << 17) - 3, 1 << 17, 400_000])
    def test_the_header_ends_where_it_ends_however_it_is_read(self, spool, left, size):
        header = b"Subject: x\n" + b"X-Long: " + b"y" * size + b"\nMessage-Id: <late@x>\n"
        left.message(text=header + b"\nbody\n")
        take_over(spool)
        envelope = spool.read(spool.ids()[0])
        assert (envelope.header_end, envelope.message_id) == (len(header), "<late@x>")
        assert content(spool, envelope.id) == header + b"\nbody\n"

    def test_the_same_name_again_is_another_message(self, spool, left):
        (name,) = left.message(recipients=["first@x.test"], age=100)
        take_over(spool)
        left.queue_file(name, f"ID: {name}\nSender: s@x.test\nRecipient: second@x.test\n".encode(), age=50)
        with open(f"{spool.path}/M{name}", "wb") as file:
            file.write(MESSAGE)
        take_over(spool)
        assert [spool.read(one).recipients[0].address for one in spool.ids()] == ["first@x.test", "second@x.test"]

    def test_another_directory(self, spool, tmp_path):
        old = tmp_path / "old"
        old.mkdir()
        Left(old).message()
        assert len(take_over(spool, str(old)).taken) == 1
        assert os.listdir(old) == []


class TestWhatIsLeft:
    def test_nothing_there(self, spool):
        assert not waits(spool.path, spool.fs)
        assert not waits(spool.path + "/nothing", spool.fs)
        assert (take_over(spool).taken, spool.ids()) == ([], [])

    def test_a_living_c_dma(self, spool, left):
        (name,) = left.message()
        holder = os.open(f"{spool.path}/Q{name}", os.O_RDWR)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX)
            found = take_over(spool)
            assert (found.taken, found.busy, found.problems) == ([], 1, [])
            assert old_files(spool) == ["M" + name, "Q" + name]
        finally:
            os.close(holder)
        assert len(take_over(spool).taken) == 1

    def test_c_dma_delivered_it_before_we_had_the_lock(self, spool, left):
        (name,) = left.message()

        class Late(FileSystem):
            def lock(self, fd):
                os.unlink(f"{spool.path}/M{name}")
                os.unlink(f"{spool.path}/Q{name}")
                return True

        spool.fs = Late()
        found = take_over(spool)
        assert (found.taken, found.problems, spool.ids()) == ([], [], [])

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"ID: x\nSender: a@b.test\nRecipient: \n",
            b"ID: \nSender: a@b.test\nRecipient: b@c.test\n",
            b"ID: x\nRecipient: b@c.test\n",
            b"ID: x\nSender: a@b.test\nRecipient: b@c.test",
            b"ID: x\nSender: a@b.test\nRecipient: b@c.test\nX: y",
            b"ID: x\nSender: a@b.test\nno colon here\nRecipient: b@c.test\n",
            b"ID: x\nSender: a@b.test\nRecipient: b@c.test\n" + b"A: b\n" * 20000,
        ],
    )
    def test_a_queue_file_that_c_dma_could_not_read(self, spool, left, text):
        (name,) = left.message()
        left.queue_file(name, text)
        (problem,) = take_over(spool).problems
        assert problem.startswith(f"{spool.path}/Q{name}: ")
        assert (spool.ids(), old_files(spool)) == ([], ["M" + name, "Q" + name])

    @pytest.mark.parametrize("said", [b"b@x.test>\r", b"\x1b]0;b@x.test", b"b\x00@x.test", b"b\x7f@x.test", b"b@x\xc2\x9b.test"])
    @pytest.mark.parametrize("field", ["Sender", "Recipient"])
    def test_an_address_with_a_control_character(self, spool, left, said, field):
        # `dma $'b@x>\\r\\nRCPT TO:<c@y'` was taken by C dma and is a Q file with one field more.
        (name,) = left.message()
        fields = {"ID": b"x", "Sender": b"a@b.test", "Recipient": b"b@c.test"} | {field: said}
        left.queue_file(name, b"".join(k.encode() + b": " + v + b"\n" for k, v in fields.items()) + b"RCPT TO:<c@y\n")
        (problem,) = take_over(spool).problems
        assert "control character" in problem
        assert problem.isprintable()
        assert (spool.ids(), old_files(spool)) == ([], ["M" + name, "Q" + name])

    def test_a_pair_without_its_message(self, spool, left):
        (name,) = left.message()
        os.unlink(f"{spool.path}/M{name}")
        (problem,) = take_over(spool).problems
        assert f"M{name} can not be opened" in problem
        assert old_files(spool) == ["Q" + name]

    def test_a_message_without_its_queue_file(self, spool, left):
        (name,) = left.message()
        os.unlink(f"{spool.path}/Q{name}")
        (problem,) = take_over(spool).problems
        assert "nobody knows for whom" in problem
        assert old_files(spool) == ["M" + name]

    @pytest.mark.parametrize("part", ["Q", "M"])
    def test_links_are_not_followed(self, spool, left, tmp_path, part):
        (name,) = left.message()
        os.rename(f"{spool.path}/{part}{name}", tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", f"{spool.path}/{part}{name}")
        assert len(take_over(spool).problems) == 1
        assert spool.ids() == []

    @pytest.mark.parametrize("part", ["Q", "M"])
    def test_a_pipe_is_not_waited_for(self, spool, left, part):
        (name,) = left.message()
        os.unlink(f"{spool.path}/{part}{name}")
        os.mkfifo(f"{spool.path}/{part}{name}")
        assert "not a regular file" in take_over(spool).problems[0]
        assert spool.ids() == []

    def test_a_message_of_another_owner(self, spool, left):
        if os.geteuid() != 0:
            pytest.skip("needs root: files of two owners")
        (name,) = left.message()
        os.chown(f"{spool.path}/M{name}", 65534, -1)
        assert "belongs to uid 65534" in take_over(spool).problems[0]
        assert spool.ids() == []

    def test_submissions_in_progress_and_other_files_are_not_touched(self, spool, left):
        for name in ("tmp_Xa81kz", "flush", "Quarantine", "Q", "Q12", "Mxyz.1", "Q12.ZZ"):
            with open(f"{spool.path}/{name}", "w") as file:
                file.write("x")
        before = sorted(os.listdir(spool.path))
        assert not waits(spool.path, spool.fs)
        left.message()
        assert waits(spool.path, spool.fs)
        take_over(spool)
        assert sorted(os.listdir(spool.path)) == before

    def test_one_bad_pair_does_not_stop_the_others(self, spool, left):
        left.queue_file("1.1", b"garbage\n")
        left.message()
        found = take_over(spool)
        assert (len(found.taken), len(found.problems)) == (1, 1)


class Stopping(FileSystem):
    """Dies before its Nth change."""

    def __init__(self, at):
        self.at = at
        self.changes = 0

    def _change(self):
        if self.changes == self.at:
            raise powerloss.PowerLost
        self.changes += 1

    def open(self, path, flags, mode=0o600):
        if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
            self._change()
        return super().open(path, flags, mode)

    def pwrite(self, fd, data, at):
        self._change()
        return super().pwrite(fd, data, at)

    def fsync(self, fd):
        self._change()
        super().fsync(fd)

    def link(self, source, target):
        self._change()
        super().link(source, target)

    def link_open(self, fd, target):
        self._change()
        super().link_open(fd, target)

    def unlink(self, path):
        self._change()
        super().unlink(path)


def test_killed_before_any_step_the_next_run_loses_nothing_and_doubles_nothing(tmp_path):
    at, finished = 0, False
    while not finished:
        path = tmp_path / str(at)
        Spool(str(path)).prepare(own_only=True)
        left = Left(path)
        left.message("me@old.test", ["a@x.test", "b@x.test"], age=100)
        left.message("me@old.test", ["c@x.test"], age=50)
        try:
            take_over(Spool(str(path), Stopping(at)))
            finished = True
        except powerloss.PowerLost:
            pass
        spool = Spool(str(path))
        assert take_over(spool).problems == [], at
        assert sorted(spool.read(name).recipients[0].address for name in spool.ids()) == ["a@x.test", "b@x.test", "c@x.test"]
        assert all(content(spool, name) == MESSAGE for name in spool.ids())
        assert old_files(spool) == [], at
        at += 1
    assert at > 15  # the loop met the steps


class Old(powerloss.Machine):
    """A machine whose files are all of one time."""

    def _stat(self, node):
        about = super()._stat(node)
        return os.stat_result(tuple(about)[:10], {"st_mtime_ns": 1763800000_000000000, "st_mtime": 1763800000.0})


def old_disk():
    """A spool with one pair of C dma's, all safe."""
    disk = powerloss.Disk()
    machine = Old(disk)
    machine.mkdir("/spool", 0o700)
    spool = Spool("/spool", machine)
    spool.prepare(own_only=True)
    for name, text in (("Q1.a", b"ID: 1.a\nSender: s@x.test\nRecipient: a@x.test\n"), ("M1.a", MESSAGE)):
        fd = machine.open(f"/spool/{name}", os.O_CREAT | os.O_RDWR)
        machine.pwrite(fd, text, 0)
        machine.fsync(fd)
    machine.fsync(machine.open("/spool", os.O_RDONLY))
    machine.fsync(machine.open("/", os.O_RDONLY))
    return disk


def test_power_lost_at_any_step_loses_nothing_and_doubles_nothing():
    """Every disk that may be found after the power went: the mail is in one of the two queues, and then in ours, once."""

    looked = 0
    for tmpfile in (True, False):
        at, finished = 0, False
        while not finished:
            disk = old_disk()
            try:
                take_over(Spool("/spool", Old(disk, tmpfile=tmpfile, dies_at=at)))
                finished = True
            except powerloss.PowerLost:
                pass
            for found in disk.outcomes():
                looked += 1
                machine = Old(found, tmpfile=tmpfile)
                spool = Spool("/spool", machine)
                take_over(spool)
                (name,) = spool.ids()
                assert content(spool, name) == MESSAGE
                assert not [one for one in machine.listdir("/spool") if one[0] in "QM"]
            at += 1
    assert looked > 20


def test_what_was_delivered_does_not_come_back_after_a_power_loss():
    disk = old_disk()
    spool = Spool("/spool", Old(disk))
    found = take_over(spool)
    Ledger(spool).bury(found.taken)
    for later in disk.outcomes():
        machine = Old(later)
        assert not [one for one in machine.listdir("/spool") if one[0] in "QM"]
        assert Spool("/spool", machine).ids() == []


class TestTrouble:
    def test_a_full_disk_leaves_everything_to_c_dma(self, spool, left):
        left.message()

        class Full(FileSystem):
            def pwrite(self, fd, data, at):
                raise OSError(28, "No space left on device")

        with pytest.raises(CannotSpool):
            take_over(Spool(spool.path, Full()))
        assert (spool.ids(), len(old_files(spool))) == ([], 2)
        assert len(take_over(spool).taken) == 1

    def test_a_queue_file_that_cannot_be_removed_is_not_kept_twice(self, spool, left):
        (name,) = left.message()

        class Fixed(FileSystem):
            def unlink(self, path):
                if "/Q" in path:
                    raise PermissionError(1, "Operation not permitted")
                super().unlink(path)

        (problem,) = take_over(Spool(spool.path, Fixed())).problems
        assert "can not be taken over: Operation not permitted" in problem
        assert (spool.ids(), old_files(spool)) == ([], ["M" + name, "Q" + name])

    def test_a_message_that_cannot_be_read_does_not_stop_the_others(self, spool, left):
        (bad,) = left.message(text=b"bad", age=10)
        left.message()

        class Damaged(FileSystem):
            def pread(self, fd, length, at):
                data = super().pread(fd, length, at)
                if data == b"bad":
                    raise OSError(5, "Input/output error")
                return data

        found = take_over(Spool(spool.path, Damaged()))
        assert len(found.taken) == 1
        assert "Input/output error" in found.problems[0]
        assert old_files(spool) == ["M" + bad, "Q" + bad]


def test_an_envelope_taken_over_is_not_of_this_boot_by_mistake(spool, left):
    """A message older than the boot has its age from the wall clock."""
    left.message(age=400 * 86400)
    take_over(spool)
    envelope = spool.read(spool.ids()[0])
    assert isinstance(envelope, Envelope)
    assert envelope.boot == ""
