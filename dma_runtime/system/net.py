"""Reaching a relay: names to addresses, a connection, and the bytes on it, in clear or in TLS.

Rules:
- Names are looked up by `getaddrinfo` (hosts file, mDNS, search list, DNS64) in a thread of its own with a deadline;
  a thread that hangs is left behind and never waited for.
- A host that is an absolute path is a socket of this machine.
- Addresses are tried in their order, the families by turns (RFC 8305 4), the next one started when one fails or after
  a short while (RFC 8305 5); the first connection wins. So a family that is broken costs a quarter of a second.
- `Wire` is an asyncio.Protocol, not a StreamReader: bytes that came before TLS are never handed out as if they had
  come inside it. It decides nothing; who owns it is told `received`, `lost`, `writable`.
- TLS runs over memory buffers here, so that a session can be resumed and memory stays small: at most one block of
  plain text and its cipher text above what the socket takes. TLS 1.2 is the least, renegotiation is off.
- TCP_NODELAY; a group of commands is one `write`.

Failures: `NoAddress`, `NoConnection`, `TlsFailed`, each with a text for people.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from itertools import zip_longest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from dma_runtime.system.tlswrap import TlsLayer

    class Owner(Protocol):
        def received(self, data: bytes) -> None: ...
        def lost(self, reason: str) -> None: ...
        def writable(self) -> None: ...


STAGGER = 0.25  # seconds before the next address is tried beside the first (RFC 8305 5: 250 ms)

# (family, address as the socket wants it)
Address = tuple[int, tuple[str, int] | tuple[str, int, int, int] | str]
Found = tuple[int, int, int, str, tuple[object, ...]]  # as getaddrinfo says it

_NO_ROUTE = (errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)


class NoAddress(Exception):
    """`unknown`: the resolver knows no such host. Otherwise the resolver could not be asked."""

    def __init__(self, text: str, unknown: bool) -> None:
        super().__init__(text)
        self.unknown = unknown


class NoConnection(Exception):
    """No address could be reached.

    `no_route`: this machine has no network there; `spoke`: some host answered by refusing.
    """

    def __init__(self, text: str, no_route: bool, spoke: bool) -> None:
        super().__init__(text)
        self.no_route = no_route
        self.spoke = spoke


async def resolve(host: str, port: int, deadline: float) -> list[Address]:
    """The addresses of `host` in the resolver's order. `deadline` in seconds. Raises NoAddress."""
    if host.startswith("/"):
        return [(socket.AF_UNIX, host)]
    try:
        found: list[Found] = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:
        found = await _look_up(host, port, deadline)
    addresses: list[Address] = []
    for family, _, _, _, address in found:
        if family in (socket.AF_INET, socket.AF_INET6) and (family, address) not in addresses:
            addresses.append((family, address))  # type: ignore[arg-type]  # the stubs allow for raw sockets too
    if not addresses:
        raise NoAddress(f"host {host} has no address", unknown=True)
    return addresses


async def _look_up(host: str, port: int, deadline: float) -> list[Found]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Found]] = loop.create_future()

    def deliver(found: object, error: Exception | None) -> None:
        if not answer.done():
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found)  # type: ignore[arg-type]  # what getaddrinfo returns

    def ask() -> None:
        found, error = None, None
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as trouble:
            error = trouble
        try:
            loop.call_soon_threadsafe(deliver, found, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    # A daemon thread of its own: a resolver that hangs must not keep the process from ending, as a pool's thread would.
    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    try:
        return await asyncio.wait_for(answer, deadline)
    except TimeoutError:
        raise NoAddress(f"host {host}: no answer from the resolver within {deadline:g} seconds", unknown=False) from None
    except socket.gaierror as error:
        unknown = error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        raise NoAddress(f"host {host}: {error.strerror}", unknown) from None
    except UnicodeError:
        raise NoAddress(f"host {host} is not a host name", unknown=True) from None
    except OSError as error:
        raise NoAddress(f"host {host}: {error.strerror}", unknown=False) from None


async def connect(addresses: list[Address], within: float) -> tuple[socket.socket, Address]:
    """A connected socket and which address it is. `within` (seconds) holds for all together. Raises NoConnection."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    waiting = by_turns(addresses)
    tried: dict[asyncio.Task[socket.socket], Address] = {}
    errors: list[tuple[Address, OSError]] = []
    try:
        while waiting or tried:
            if waiting:
                address = waiting.pop(0)
                tried[loop.create_task(_connect_one(address))] = address
            left = end - loop.time()
            if left <= 0:
                break
            done, _ = await asyncio.wait(
                tried, timeout=min(left, STAGGER) if waiting else left, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                address = tried.pop(task)
                error = task.exception()
                if error is None:
                    return task.result(), address
                if not isinstance(error, OSError):
                    raise error
                errors.append((address, error))
    finally:
        for task in tried:
            task.add_done_callback(_close_late)
            task.cancel()
    # asyncio puts its own words into strerror; the number says it better.
    texts = [f"{_shown(address)}: {os.strerror(error.errno) if error.errno else error}" for address, error in errors]
    texts += [f"{_shown(address)}: no answer within {within:g} seconds" for address in tried.values()]
    no_route = not tried and all(error.errno in _NO_ROUTE for _, error in errors)
    spoke = any(error.errno == errno.ECONNREFUSED for _, error in errors)
    raise NoConnection("; ".join(texts), no_route, spoke)


def by_turns(addresses: list[Address]) -> list[Address]:
    """The resolver's order, but that of the families one address each comes in turn (RFC 8305 4)."""
    families = {family: [address for address in addresses if address[0] == family] for family, _ in addresses}
    return [address for turn in zip_longest(*families.values()) for address in turn if address is not None]


async def _connect_one(address: Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a group waits 40 ms for an ACK otherwise
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """An attempt that lost the race."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _shown(address: Address) -> str:
    where = address[1]
    return where if isinstance(where, str) else f"[{where[0]}]:{where[1]}"


class Wire(asyncio.Protocol):
    """One connection.

    `write` never blocks; `paused` says that the peer does not keep up and no body should be written now.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.paused = False
        self.closed = False
        self._over = False  # the peer has ended it: what it said last is still told, nothing is written any more
        self._transport: asyncio.Transport | None = None
        self._tls: TlsLayer | None = None

    # ------------------------------------------------------------ for the owner

    def write(self, data: bytes) -> None:
        if self._transport is None or self.closed or self._over:
            return
        self._transport.write(self._tls.encrypt(data) if self._tls is not None else data)

    def start_tls(self, layer: TlsLayer, done: Callable[[str | None], None]) -> None:
        """Go over to TLS. `done(None)` when it is up, else `done(reason)`. What comes from now on is TLS or nothing."""
        self._tls = layer
        layer.begin(done)
        self._flush()

    @property
    def tls(self) -> TlsLayer | None:
        return self._tls

    @property
    def local_address(self) -> str:
        name = self._transport.get_extra_info("sockname") if self._transport is not None else None
        return str(name[0]) if name else ""

    def close(self) -> None:
        """Close after what was written has left. The owner hears nothing any more."""
        if not self.closed and self._transport is not None:
            if self._tls is not None:
                self._transport.write(self._tls.close())
            self._transport.close()
        self.closed = True

    def abort(self) -> None:
        """Close now; what was not sent yet stays unsent."""
        if self._transport is not None:
            self._transport.abort()
        self.closed = True

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        if self._tls is None:
            self.owner.received(data)
            return
        plain, reason = self._tls.decrypt(data)
        self._over = reason is not None  # OpenSSL refuses to encrypt behind an alert
        self._flush()
        if plain:
            self.owner.received(plain)
        if reason is not None and not self.closed:
            self.abort()
            self.owner.lost(reason)

    def eof_received(self) -> None:
        """The transport closes itself, then calls `connection_lost`."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.closed:
            return
        self.closed = True
        reason = (getattr(exc, "strerror", None) or str(exc)) if exc is not None else "the relay closed the connection"
        if self._tls is not None and self._tls.fail(reason):
            return  # whoever waits for the TLS handshake was told
        self.owner.lost(reason)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if not self.closed:
            self.owner.writable()

    def _flush(self) -> None:
        """TLS has something of its own to send: the handshake, a key update."""
        if self._tls is not None and self._transport is not None and not self.closed:
            data = self._tls.outgoing()
            if data:
                self._transport.write(data)


async def wire(sock: socket.socket, owner: Owner) -> Wire:
    """A Wire on a connected socket."""
    made = Wire(owner)
    await asyncio.get_running_loop().create_connection(lambda: made, sock=sock)
    return made
