"""The lock, the bell and whose machine it is; the interleavings of hand-over are in tests/faults."""

import os
import stat
import threading
import time

import pytest

from dma_runtime import machineid
from dma_runtime.system import ownership
from dma_runtime.system.ownership import Ownership, ask, ring
from dma_runtime.system.spool import Spool


@pytest.fixture
def spool(tmp_path):
    made = Spool(str(tmp_path / ("long" * 30) / "spool"))  # longer than a socket's 108 bytes
    made.prepare(own_only=True)
    return made


def served(bell, answer=None):
    """Accept one caller in a thread; returns (lines, thread)."""
    lines = []

    def serve():
        bell.setblocking(True)
        bell.settimeout(10)
        caller, _ = bell.accept()
        with caller:
            lines.append(caller.makefile("rb").readline())
            if answer is not None:
                caller.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return lines, thread


def test_one_owner_at_a_time(spool):
    first = Ownership.take(spool)
    assert first is not None
    assert Ownership.take(spool) is None
    first.release()
    second = Ownership.take(spool)
    assert second is not None
    first.release()  # a second release is nobody else's
    assert Ownership.take(spool) is None
    second.release()


def test_the_lock_file_stays_the_same(spool):
    inode = os.stat(spool.path + "/lock").st_ino
    held = Ownership.take(spool)
    held.listen().close()
    held.release()
    assert os.stat(spool.path + "/lock").st_ino == inode


def test_a_forked_child_does_not_keep_the_lock(spool):
    held = Ownership.take(spool)
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        held.release()
        again = Ownership.take(spool)
        assert again is not None
        again.release()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_ringing(spool):
    assert not ring(spool, b"early\n")
    held = Ownership.take(spool)
    bell = held.listen()
    assert stat.S_IMODE(os.stat(spool.path + "/control").st_mode) == 0o600
    assert bell.getblocking() is False
    lines, thread = served(bell)
    assert ring(spool, b'{"do":"look"}\n')
    thread.join()
    assert lines == [b'{"do":"look"}\n']
    bell.close()
    assert not ring(spool, b"late\n")
    held.release()
    assert not os.path.exists(spool.path + "/control")


def test_ringing_does_not_wait_for_the_owner(spool):
    held = Ownership.take(spool)
    bell = held.listen()
    begun = time.monotonic()
    assert all(ring(spool, b"x\n") for _ in range(300))
    assert time.monotonic() - begun < 5
    bell.close()
    held.release()


def test_a_socket_left_behind_is_replaced(spool):
    held = Ownership.take(spool)
    held.listen().close()  # killed: the name stays
    assert not ring(spool, b"x\n")
    os.close(held._fd)
    again = Ownership.take(spool)
    bell = again.listen()
    assert ring(spool, b"x\n")
    bell.close()
    again.release()


def test_asking(spool):
    assert ask(spool, {"do": "list"}, timeout=5) is None
    held = Ownership.take(spool)
    bell = held.listen()
    lines, thread = served(bell, b'{"items": [' + b'"x",' * 100_000 + b"1]}\n")
    answer = ask(spool, {"do": "list"}, timeout=5)
    thread.join()
    assert len(answer["items"]) == 100_001
    assert lines == [b'{"do": "list"}\n']
    for nonsense in (b"", b"{", b"[]\n", b"}{\n"):
        _, thread = served(bell, nonsense)
        assert ask(spool, {"do": "list"}, timeout=5) is None
        thread.join()
    with pytest.raises(TimeoutError):
        ask(spool, {"do": "list"}, timeout=0.05)
    bell.close()
    held.release()


# ---------------------------------------------------------------- whose machine


def test_a_clone_is_noticed_until_adopted(spool, monkeypatch):
    held = Ownership.take(spool)
    monkeypatch.setattr(ownership, "machine_id", lambda: "a" * 32)
    assert held.machine_matches()
    assert held.machine_matches()
    monkeypatch.setattr(ownership, "machine_id", lambda: "b" * 32)
    assert not held.machine_matches()
    held.adopt()
    assert held.machine_matches()
    assert stat.S_IMODE(os.stat(spool.path + "/owner").st_mode) == 0o600
    held.release()


def test_a_machine_without_a_name_is_no_other(spool, monkeypatch):
    held = Ownership.take(spool)
    monkeypatch.setattr(ownership, "machine_id", lambda: "")
    assert held.machine_matches()
    assert not os.path.exists(spool.path + "/owner")
    held.release()


def test_an_owner_file_torn_by_a_power_loss_is_written_again(spool, monkeypatch):
    open(spool.path + "/owner", "w").close()
    monkeypatch.setattr(ownership, "machine_id", lambda: "a" * 32)
    held = Ownership.take(spool)
    assert held.machine_matches()
    monkeypatch.setattr(ownership, "machine_id", lambda: "b" * 32)
    assert not held.machine_matches()
    held.release()


@pytest.mark.parametrize(("first", "second", "said"), [("x\n", "y\n", "x"), ("uninitialized\n", "y\n", "y"), ("", None, "")])
def test_the_machines_id(tmp_path, monkeypatch, first, second, said):
    paths = (tmp_path / "one", tmp_path / "two")
    paths[0].write_text(first)
    if second is not None:
        paths[1].write_text(second)
    monkeypatch.setattr(machineid, "FILES", tuple(map(str, paths)))
    assert machineid.machine_id() == said
