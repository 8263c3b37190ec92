"""Connecting: addresses by turns, a family that is broken, sockets of this machine."""

import asyncio
import contextlib
import errno
import os
import socket
import time

import pytest

from dma_runtime.system import net

V4, V6 = socket.AF_INET, socket.AF_INET6


def address(host, port):
    return (V6, (host, port, 0, 0)) if ":" in host else (V4, (host, port))


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@contextlib.contextmanager
def mute(host):
    """(host, port) of a socket that lets no further connection through: its queue is full, as behind a filter that drops."""
    family = V6 if ":" in host else V4
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family))
        try:
            listening.bind((host, 0))
        except OSError:
            pytest.skip("needs IPv6 on loopback")
        listening.listen(0)
        while True:
            filler = stack.enter_context(socket.socket(family))
            filler.settimeout(0.2)
            try:
                filler.connect(listening.getsockname())
            except TimeoutError:
                break
        yield listening.getsockname()[1]


def connect(addresses, within=5):
    async def run():
        begun = time.monotonic()
        sock, where = await net.connect(addresses, within)
        with sock:
            return where, time.monotonic() - begun

    return asyncio.run(run())


class TestRace:
    def test_a_family_without_a_listener_costs_nothing(self, listener, monkeypatch):
        monkeypatch.setattr(net, "STAGGER", 20.0)
        port = listener.getsockname()[1]
        where, seconds = connect([address("::1", port), address("127.0.0.1", port)])
        assert where == address("127.0.0.1", port)
        assert seconds < 10

    def test_a_family_that_drops_everything_costs_a_quarter_of_a_second(self, listener):
        with mute("::1") as port:
            where, seconds = connect([address("::1", port), address("127.0.0.1", listener.getsockname()[1])])
        assert where == address("127.0.0.1", listener.getsockname()[1])
        assert 0.2 < seconds < 2

    def test_all_hang(self):
        with mute("127.0.0.1") as port, pytest.raises(net.NoConnection, match=rf"\[127.0.0.1\]:{port}: no answer") as error:
            connect([address("127.0.0.1", port)], within=0.5)
        assert not error.value.no_route
        assert not error.value.spoke

    def test_the_loser_is_closed(self, monkeypatch):
        """Two that come up in the same moment: one is handed out, the other does not stay open."""
        made = []

        async def run():
            both = asyncio.Event()

            async def connecting(_):
                await both.wait()
                made.append(socket.socket())
                return made[-1]

            monkeypatch.setattr(net, "_connect_one", connecting)
            asyncio.get_running_loop().call_later(net.STAGGER + 0.1, both.set)
            sock, _ = await net.connect([address("::1", 1), address("127.0.0.1", 2)], 5)
            await asyncio.sleep(0)
            return [one for one in made if one is not sock and one.fileno() != -1]

        assert asyncio.run(run()) == []
        assert len(made) == 2
        for one in made:
            one.close()


class TestOrder:
    def test_by_turns(self):
        six = [address(f"2001:db8::{n}", 25) for n in range(3)]
        four = [address(f"192.0.2.{n}", 25) for n in range(2)]
        assert net.by_turns(six + four) == [six[0], four[0], six[1], four[1], six[2]]
        assert net.by_turns(four + six) == [four[0], six[0], four[1], six[1], six[2]]
        assert net.by_turns(four) == four
        assert net.by_turns([]) == []

    def test_connect_takes_turns(self, monkeypatch):
        asked = []

        async def refuse(where):
            asked.append(where)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

        monkeypatch.setattr(net, "_connect_one", refuse)
        six = [address(f"2001:db8::{n}", 25) for n in range(2)]
        with pytest.raises(net.NoConnection) as error:
            connect([*six, address("192.0.2.1", 25)])
        assert asked == [six[0], address("192.0.2.1", 25), six[1]]
        assert error.value.spoke


class TestFailures:
    @pytest.mark.parametrize(
        ("numbers", "no_route"),
        [
            ([errno.ENETUNREACH, errno.ENETUNREACH], True),
            ([errno.ENETUNREACH, errno.EADDRNOTAVAIL], True),
            ([errno.ENETUNREACH, errno.ECONNREFUSED], False),
            ([errno.EHOSTUNREACH, errno.ENETUNREACH], False),
        ],
    )
    def test_whose_fault(self, monkeypatch, numbers, no_route):
        left = list(numbers)

        async def fail(_):
            number = left.pop(0)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(net, "_connect_one", fail)
        with pytest.raises(net.NoConnection) as error:
            connect([address("2001:db8::1", 25), address("192.0.2.1", 25)])
        assert error.value.no_route == no_route
        assert all(os.strerror(number) in str(error.value) for number in numbers)


class TestSockets:
    def test_a_path_is_a_socket_of_this_machine(self, tmp_path):
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            addresses = asyncio.run(net.resolve(path, 0, 5))
            assert addresses == [(socket.AF_UNIX, path)]
            assert connect(addresses)[0] == addresses[0]

    @pytest.mark.parametrize("name", ["missing", "x" * 200])
    def test_one_that_is_not_there(self, tmp_path, name):
        with pytest.raises(net.NoConnection, match=name[:20]) as error:
            connect([(socket.AF_UNIX, str(tmp_path / name))])
        assert not error.value.no_route
