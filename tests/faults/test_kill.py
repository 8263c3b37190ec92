"""The real `dma`, killed at every system call, and failing at every call that writes: not accepted, or there whole, once.

The points are those from the first look at the spool to the end of the process, as strace saw them in a run without
faults; each is then played, the program killed as it enters the call. Needs strace.
"""

import os
import subprocess

import pytest
import sendmail_program
import strace

from dma_runtime.errors import BrokenMessage
from dma_runtime.system.spool import Spool

CHUNKS = 4  # for pytest -n
BODY = b"Subject: x\nTo: a@one.test, b@two.test\n\n" + b"0123456789\n" * 7
LONG = BODY + b"x" * 70 * 10_000
WRITING = ("mkdir", "openat", "pwrite64", "fsync", "linkat", "fchmod", "link", "unlink", "flock")


@pytest.fixture(autouse=True)
def _strace():
    strace.needed()


class Room:
    """A fresh folder with a configuration, for one run."""

    def __init__(self, directory, *, prepared=False):
        directory.mkdir()
        self.mail = sendmail_program.Sendmail(directory, conf="MINFREE 0\nSMARTHOST relay.invalid\n")
        self.spool = Spool(str(self.mail.spool))
        self.trace = directory / "trace"
        if prepared:
            self.spool.prepare(own_only=True)

    def run(self, data, *, inject=(), calls=None):
        argv = [self.mail.program, "-bq", "-t", "-f", "me@here.test"]
        return strace.run(
            argv, trace=self.trace, inject=inject, calls=calls, input=data, env=self.mail.environment, timeout=60
        )

    def messages(self):
        """The messages in the spool, each whole (else this fails)."""
        try:
            ids = self.spool.ids()
        except FileNotFoundError:
            return []
        found = []
        for name in ids:
            try:
                stored = self.spool.open(name)
            except BrokenMessage as problem:
                raise AssertionError(f"{name} is damaged: {problem}") from None
            found.append(stored.pread(stored.size, 0))
            assert len(stored.envelope.recipients) == 2
            stored.close()
        return found


def warm_up(tmp_path):
    """Python writes its compiled files in the first run, with calls that the next one does not make."""
    room = Room(tmp_path / "first")
    assert room.run(BODY, calls=["fsync"]).returncode == 0


def points(tmp_path, data, *, prepared=False, inject=()):
    """The calls from the first look at the spool on."""
    warm_up(tmp_path)
    room = Room(tmp_path / "dry", prepared=prepared)
    ran = room.run(data, inject=inject, calls=["all"])
    assert ran.returncode == 0, ran.stderr
    (whole,) = room.messages()
    assert whole.endswith(data[-50:])
    return strace.since(strace.read(room.trace), f'"{room.mail.spool}')


def check_usable(room, before):
    """After any fault the next submission is accepted."""
    ran = room.mail.run("-bq", "-t", stdin=BODY)
    assert ran.returncode == 0, ran.stderr
    assert len(room.messages()) == before + 1


def killed_everywhere(tmp_path, calls, data, *, chunk=0, chunks=1, prepared=False, also=()):
    """Kill at each of `calls`; returns (times killed, times the message was there)."""
    killed = there = 0
    for index, call in enumerate(calls):
        if index % chunks != chunk:
            continue
        room = Room(tmp_path / str(index), prepared=prepared)
        ran = room.run(data, inject=[f"{call.name}:signal=KILL:when={call.nth}", *also])
        found = room.messages()
        what = f"killed at {call}: {ran.returncode}, {ran.stderr!r}"
        assert len(found) <= 1, what
        assert all(message.endswith(data[data.index(b"\n\n") :]) for message in found), what
        if ran.returncode == 0:
            assert found, what
        else:
            assert ran.returncode in (-9, 137), what
            killed += 1
        there += len(found)
        if index % 5 == 0:
            check_usable(room, len(found))
    return killed, there


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize(("data", "prepared"), [(BODY, False), (LONG, True)], ids=["fresh spool", "long message"])
def test_killed_at_every_call(tmp_path, data, prepared, chunk):
    calls = points(tmp_path, data, prepared=prepared)
    assert {"pwrite64", "fsync", "linkat"} <= {call.name for call in calls}
    killed, there = killed_everywhere(tmp_path, calls, data, chunk=chunk, chunks=CHUNKS, prepared=prepared)
    assert killed >= len(calls) // CHUNKS * 0.8
    assert 0 < there < killed  # both ends of the story were met


def without_tmpfile(tmp_path):
    """An injection that refuses O_TMPFILE."""
    (tmp_path / "find").mkdir()
    warm_up(tmp_path / "find")
    room = Room(tmp_path / "find/dry", prepared=True)
    assert room.run(BODY, calls=["openat"]).returncode == 0
    (call,) = [call for call in strace.read(room.trace) if "O_TMPFILE" in call.text]
    return f"openat:error=EOPNOTSUPP:when={call.nth}"


def test_killed_at_every_call_without_tmpfile(tmp_path):
    refused = without_tmpfile(tmp_path)
    calls = [call for call in points(tmp_path, BODY, prepared=True, inject=[refused]) if call.name != "openat"]
    assert {"link", "unlink", "flock"} <= {call.name for call in calls}
    killed, there = killed_everywhere(tmp_path, calls, BODY, prepared=True, also=[refused])
    assert killed >= len(calls) * 0.8
    assert 0 < there < killed


# ---------------------------------------------------------------- calls that fail


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS", "EDQUOT", "EMFILE"])
def test_failing_at_every_call_that_writes(tmp_path, error):
    calls = [call for call in points(tmp_path, LONG) if call.name in WRITING]
    statuses = {}
    for index, call in enumerate(calls):
        room = Room(tmp_path / str(index))
        ran = room.run(LONG, inject=f"{call.name}:error={error}:when={call.nth}")
        what = f"{error} at {call}: {ran.returncode}, {ran.stderr!r}"
        found = room.messages()
        assert b"Traceback" not in ran.stderr, what
        assert len(ran.stderr.splitlines()) == (1 if ran.returncode else 0), what
        if b"may have been queued" in ran.stderr:
            assert (ran.returncode, len(found)) == (75, 1), what
        else:
            assert bool(found) == (ran.returncode == 0), what
        statuses.setdefault(ran.returncode, []).append(call)
        check_usable(room, len(found))
    wanted = 73 if error == "EROFS" else 75
    assert set(statuses) <= {0, wanted, 75}, statuses
    assert len(statuses[wanted]) >= 5
    # What may fail without harm: closing, and looking for the name of this boot.
    assert all("/proc/" in call.text or "boot_id" in call.text for call in statuses.get(0, [])), statuses[0]


def test_a_really_full_disk(tmp_path):
    """A tiny tmpfs: what was accepted is whole, what was not left nothing, and room makes it work again."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a tmpfs")
    room = Room(tmp_path / "room")
    room.mail.spool.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k,mode=700", "tmpfs", room.mail.spool]
    mounted = subprocess.run(mount, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount: {mounted.stderr.decode().strip()}")
    try:
        data = BODY + b"y" * 30_000 + b"\n"
        accepted = 0
        for _ in range(20):
            ran = room.mail.run("-bq", "-t", stdin=data)
            if ran.returncode:
                break
            accepted += 1
        assert ran.returncode == 75
        assert b"No space left on device" in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
        assert 2 <= accepted < 7
        found = room.messages()
        assert len(found) == accepted
        assert all(message.endswith(data[-30_000:]) for message in found)
        os.unlink(f"{room.spool.queue}/{room.spool.ids()[0]}")
        assert room.mail.run("-bq", "-t", stdin=data).returncode == 0
    finally:
        subprocess.run(["umount", room.mail.spool], check=True)
