"""The reception: where the programs of this machine hand in mail and ask about it (`frames`, `request`).

Rules:
- Who asks is the kernel's to say (SO_PEERCRED), when the connection was made. A peer with the overflow uid comes from a user
  namespace that has no name here: it has the rights of nobody, and sees no messages at all.
- A conversation is one request. A client that is silent for 30 s, sends garbage or lies about lengths is answered, if it
  listens, and closed; what it sent is gone. "Silent" is: not 64 KB more, and not the end.
- Limits are those of `policy.limits`. Beyond MOST connections the oldest of whoever has most is closed for the new one.
- A message is held outside the queue until its commit frame (`system.held`), 256 KB in memory, more in a file without a
  name; then `accept` makes it a message of the spool, in a worker thread like all file work here. Only then "accepted" is
  said. One user's messages have half of the threads at most: what is slow for him (his home, his 100 MB) keeps no other
  waiting.
- Stopping: nobody new is let in (they wait in the socket's backlog for the successor); who is inside may finish, for a
  while.

Failures are DmaError, told to the client as status and line; anything else is logged as a bug of ours and 75 to the client.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

from dma_runtime import frames, request
from dma_runtime.delivery import listing, plainlist
from dma_runtime.errors import EX_OK, EX_SOFTWARE, EX_TEMPFAIL, EX_UNAVAILABLE, DmaError
from dma_runtime.policy import telling
from dma_runtime.policy.limits import MESSAGE, QUESTION, RUN, Limits, on_disk
from dma_runtime.shown import shown
from dma_runtime.system import notice, space
from dma_runtime.system.held import SMALL, Held
from dma_runtime.system.maillog import ERR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from dma_runtime.config import Config
    from dma_runtime.delivery.owner import Owner
    from dma_runtime.envelope import Envelope
    from dma_runtime.request import Request

    T = TypeVar("T")

    # Blocking; raise DmaError. The lists are lines for the client's standard error, or output.
    Accept = Callable[[Request, int, Config, Callable[[], bytes]], tuple[list[Envelope], list[str]]]
    Verify = Callable[[Request, int, Config], tuple[bytes, int]]

MOST = 512  # connections
SILENCE = 30.0  # seconds
PROGRESS = 1 << 16  # bytes that end a silence
GRACE = 10.0  # seconds for who is inside when we are told to stop
LINGER = 20.0  # seconds an on-demand daemon waits for more
WORKERS = 8  # threads that write the spool
EACH = 4  # of them for one user
_CHECKED = 8 << 20  # bytes between two looks at the room that is left
_KNOWN_FOR = 5.0  # seconds what is queued is not counted again
_OUTPUT = 1 << 16


class Client:
    """One conversation. `uid` is the kernel's."""

    def __init__(self, connection: socket.socket, uid: int, pid: int) -> None:
        self.connection = connection
        self.uid = uid
        self.pid = pid
        self.since = time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.storing = False  # its message is being written: it will be answered
        self.size = 0  # bytes of message held for it


class _Gone(Exception):
    """The client went away, or does not listen: nobody to answer."""


class _Hearing:
    """What one client sends, frame by frame."""

    def __init__(self, connection: socket.socket, silence: float) -> None:
        self._connection = connection
        self._silence = silence
        self._loop = asyncio.get_running_loop()
        self._parser = frames.Parser()
        self._heard: list[tuple[bytes, bytes]] = []
        self._deadline = self._loop.time() + silence
        self._came = 0

    async def frame(self) -> tuple[bytes, bytes]:
        """The next frame. Raises _Gone at the end, DmaError (75) when the client is too slow, BadFrame."""
        while not self._heard:
            try:
                async with asyncio.timeout_at(self._deadline):
                    data = await self._loop.sock_recv(self._connection, 1 << 16)
            except TimeoutError:
                raise DmaError(f"no complete request within {self._silence:.0f} s", EX_TEMPFAIL) from None
            if not data:
                raise _Gone
            self._came += len(data)
            if self._came >= PROGRESS:
                self._deadline, self._came = self._loop.time() + self._silence, 0
            self._heard = list(self._parser.feed(data))
        return self._heard.pop(0)


class Reception:
    """`listening`: sockets to accept on, non-blocking. `me`: the uid that sees everything, beside root."""

    def __init__(
        self,
        listening: list[socket.socket],
        accept: Accept,
        verify: Verify,
        *,
        me: int,
        silence: float = SILENCE,
        most: int = MOST,
    ) -> None:
        self._listening = listening
        self._accept = accept
        self._verify = verify
        self._me = me
        self._silence = silence
        self._most = most
        self._nobody = _overflow_uid()
        self._limits = Limits()
        self._clients: dict[Client, None] = {}  # oldest first
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()  # by uid, while it has work
        self._storing: set[asyncio.Task[list[Envelope]]] = set()
        self._queued: dict[int, int] = {}  # uid -> bytes in the queue, as of `_counted`
        self._messages: dict[int, int] = {}  # and how many messages that is
        self._counted = float("-inf")
        self._idle_since = time.monotonic()
        self._complained: dict[int, float] = {}

    # ------------------------------------------------------------ coming and going

    def begin(self, owner: Owner) -> None:
        """Let clients in, in the loop that runs."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="reception")  # it may begin again, with another owner
        for listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._let_in, listening)

    async def end(self) -> None:
        """Let nobody in, and those who are inside finish for a moment."""
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        tasks = [client.task for client in self._clients if client.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE)
        for client in list(self._clients):
            if client.task is not None and not client.storing:
                client.task.cancel()
        if self._storing:
            await asyncio.wait(self._storing, timeout=GRACE)
        tasks = [client.task for client in self._clients if client.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        self._workers.shutdown(wait=False)

    @property
    def busy(self) -> bool:
        """Somebody is inside, or was until a moment ago."""
        return bool(self._clients) or time.monotonic() - self._idle_since < LINGER

    def _let_in(self, listening: socket.socket) -> None:
        for _ in range(64):
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:  # no descriptor left: those in the backlog wait
                self._owner.log.warning(f"can not accept a submission: {error.strerror}")
                self._loop.remove_reader(listening.fileno())
                self._loop.call_later(1.0, self._look_again, listening)
                return
            connection.setblocking(False)
            try:
                pid, uid = _peer(connection)
            except OSError:
                connection.close()
                continue
            client = Client(connection, uid, pid)
            if reason := self._limits.enter(uid):
                self._turn_away(client, reason)
                continue
            if len(self._clients) >= self._most:
                self._make_room()
            self._clients[client] = None
            client.task = self._loop.create_task(self._serve(client))

    def _look_again(self, listening: socket.socket) -> None:
        if not self._owner.stopping and listening.fileno() >= 0:
            self._loop.add_reader(listening.fileno(), self._let_in, listening)

    def _turn_away(self, client: Client, reason: str) -> None:
        """Answered without being let in: it costs us nothing more."""
        self._complain(client.uid, reason)
        try:
            client.connection.send(frames.status(EX_TEMPFAIL, reason))
        except OSError:
            pass
        client.connection.close()

    def _complain(self, uid: int, reason: str) -> None:
        """To the log, once a minute for each user."""
        now = time.monotonic()
        if now - self._complained.get(uid, float("-inf")) >= 60:
            self._complained = {who: at for who, at in self._complained.items() if now - at < 60}
            self._complained[uid] = now
            self._owner.log.warning(f"uid {uid}: {reason}")

    def _make_room(self) -> None:
        """Too many connections: whoever has most of them loses the oldest one that only sends."""
        sending = [client for client in self._clients if client.uid != 0 and not client.storing]
        if sending:
            victim = max(sending, key=lambda client: (self._limits.open(client.uid), -client.since))
            if victim.task is not None:
                victim.task.cancel()

    # ------------------------------------------------------------ a conversation

    async def _serve(self, client: Client) -> None:
        try:
            try:
                end = await self._answer(client)
            except DmaError as error:
                if error.status == EX_TEMPFAIL:
                    self._complain(client.uid, error.text)
                end = frames.status(error.status, error.text)
            except frames.BadFrame as bad:
                self._complain(client.uid, f"pid {client.pid} does not speak our protocol: {bad}")
                end = frames.status(EX_SOFTWARE, f"the mail service does not understand: {bad}")
            except asyncio.CancelledError:
                if client.storing:
                    raise
                end = frames.status(EX_TEMPFAIL, "the mail service is stopping or has too much to do; try again later")
            await self._send(client, end)
        except (_Gone, OSError):
            pass
        except Exception as error:
            self._owner.log.write(ERR, f"internal error, please report it: {''.join(traceback.format_exception(error))[-1500:]}")
            try:
                client.connection.send(frames.status(EX_TEMPFAIL, "internal error of the mail service; see its log"))
            except OSError:
                pass
        finally:
            self._clients.pop(client, None)
            self._limits.leave(client.uid)
            client.connection.close()
            self._idle_since = time.monotonic()
            self._loop.call_later(LINGER + 0.1, self._owner.wake)  # an on-demand owner may leave then

    async def _answer(self, client: Client) -> bytes:
        """What the conversation ends with. Raises DmaError, BadFrame, _Gone."""
        heard = _Hearing(client.connection, self._silence)
        kind, payload = await heard.frame()
        if kind != frames.HEADER:
            raise frames.BadFrame(f"a frame {kind.decode()} before the request")
        asked = request.decode(payload)
        del payload
        if asked.do == request.SUBMIT:
            self._permit(client, MESSAGE)
            return await self._take_message(client, asked, heard)
        if asked.do == request.RUN:
            if client.uid != self._me:
                self._permit(client, RUN)
            return await self._run(asked)
        self._permit(client, QUESTION)
        if asked.do == request.LIST:
            return await self._list(client, asked)
        if asked.do == request.ROWS:
            return await self._output(client, json.dumps(self._rows(client)).encode())
        if asked.do == request.VERIFY:
            config = self._owner.settings.config
            said, status = await self._in_turn(client.uid, self._verify, asked, client.uid, config)
            return await self._output(client, said, status)
        raise DmaError(f"the mail service does not know `{shown(asked.do, 40)}'; it is of another version", EX_UNAVAILABLE)

    def _permit(self, client: Client, kind: str) -> None:
        if reason := self._limits.ask(client.uid, kind, time.monotonic()):
            raise DmaError(reason, EX_TEMPFAIL)

    async def _send(self, client: Client, data: bytes) -> None:
        """Raises _Gone when the client does not take it."""
        try:
            async with asyncio.timeout(self._silence):
                await self._loop.sock_sendall(client.connection, data)
        except (TimeoutError, OSError):
            raise _Gone from None

    # ------------------------------------------------------------ a message

    async def _take_message(self, client: Client, asked: Request, heard: _Hearing) -> bytes:
        config = self._owner.settings.config
        message, body, checked = Held(self._owner.spool.path), frames.Body(), 0
        try:
            while True:
                data = body.take(*await heard.frame())
                if body.whole:
                    break
                client.size = body.size
                if body.size > config.MAXSIZE:
                    raise DmaError(f"message larger than MAXSIZE ({config.MAXSIZE} bytes)", EX_UNAVAILABLE)
                if body.size <= SMALL:
                    message.write(data)
                    continue
                if body.size - checked > _CHECKED or not message.in_file:
                    checked = body.size
                    self._check_share(client)
                    await self._in_worker(space.check, config, self._owner.spool.path)
                await self._in_worker(message.write, data)
            self._check_share(client)
            envelopes, notes = await self._store(client, asked, config, message)
        except OSError as error:
            raise DmaError(f"can not hold the message: {error.strerror}", EX_TEMPFAIL) from None
        finally:
            client.size = 0
            message.close()
        # From here on the mail is safe.
        await self._send(client, frames.frame(frames.ACCEPTED, envelopes[0].id.encode()))
        if asked.terminal:
            notes = self._standing(client) + notes
        await self._lines(client, notes)
        if asked.foreground and not envelopes[0].queue_only:
            await self._owner.attempt([envelope.id for envelope in envelopes])
        return frames.status(EX_OK)

    async def _store(self, client: Client, asked: Request, config: Config, message: Held) -> tuple[list[Envelope], list[str]]:
        """Put it into the spool. Whatever becomes of the client, the owner hears of a message that is there."""
        notes: list[str] = []

        async def store() -> list[Envelope]:
            envelopes, said = await self._in_turn(client.uid, self._accept, asked, client.uid, config, message.read)
            notes.extend(said)
            for envelope in envelopes:
                self._count(client.uid, envelope)
                self._owner.log.queued(envelope)
                self._owner.take_in(envelope.id)
            return envelopes

        task = self._loop.create_task(store())
        client.storing = True
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        try:
            return await asyncio.shield(task), notes
        except asyncio.CancelledError:
            await asyncio.wait([task])  # the file is still being read
            raise
        finally:
            client.storing = False

    async def _in_turn(self, uid: int, call: Callable[..., T], *arguments: object) -> T:
        """In a worker, of which this user has no more than EACH."""
        turn = self._turns.setdefault(uid, asyncio.Semaphore(EACH))
        async with turn:
            return await self._in_worker(call, *arguments)

    async def _in_worker(self, call: Callable[..., T], *arguments: object) -> T:
        """The call's result. Whoever is cancelled meanwhile waits for its end all the same: it may be at work on a file that
        is closed next, whose number another message's file would then have."""
        work = self._loop.run_in_executor(self._workers, call, *arguments)
        cancelled = None
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as problem:
                cancelled = problem
        if cancelled is not None:
            work.exception()  # nobody asks for it any more
            raise cancelled
        return work.result()

    def _check_share(self, client: Client) -> None:
        """The user's part of the spool. Raises DmaError (75)."""
        now = time.monotonic()
        if now - self._counted >= _KNOWN_FOR:
            self._counted = now
            self._queued, self._messages = {}, {}
            for item in self._owner.queue.items.values():
                self._count(item.envelope.uid, item.envelope)
        path = self._owner.spool.path
        flying = sum(other.size for other in self._clients if other.uid == client.uid)
        room = sum(self._queued.values()) + space.free(path)
        files = sum(self._messages.values()) + space.free_files(path)
        reason = self._limits.store(client.uid, 0, self._queued.get(client.uid, 0) + flying, room)
        if reason := reason or self._limits.keep(client.uid, self._messages.get(client.uid, 0), files):
            raise DmaError(reason, EX_TEMPFAIL)

    def _count(self, uid: int, envelope: Envelope) -> None:
        self._queued[uid] = self._queued.get(uid, 0) + on_disk(envelope.size)
        self._messages[uid] = self._messages.get(uid, 0) + 1

    # ------------------------------------------------------------ questions

    def _all_seeing(self, client: Client) -> bool:
        return client.uid in (0, self._me)

    def _rows(self, client: Client) -> list[listing.Row]:
        """The messages this client may see."""
        rows = sorted(self._owner.rows(), key=lambda row: str(row["id"]))
        if self._all_seeing(client):
            return rows
        if client.uid == self._nobody:
            return []
        return [row for row in rows if row["uid"] == client.uid]

    def _standing(self, client: Client) -> list[str]:
        """What keeps mail from leaving: in full for those who see everything, for others that it is so."""
        standing = notice.current(self._owner.spool.path)
        if not standing or self._all_seeing(client):
            return telling.lines(standing, time.time())
        return ["mail may be delayed: something keeps it from leaving this machine; root sees what with `mailq'"]

    async def _list(self, client: Client, asked: Request) -> bytes:  # noqa: ARG002 the same shape as the others
        await self._lines(client, self._standing(client))
        if client.uid == self._nobody and not self._all_seeing(client):
            text = plainlist.text([])
        else:
            text = self._owner.mailq(None if self._all_seeing(client) else client.uid)
        return await self._output(client, text.encode("utf-8", "surrogateescape"))

    async def _lines(self, client: Client, lines: list[str]) -> None:
        for line in lines:
            await self._send(client, frames.frame(frames.LINE, shown(line, 1000).encode("utf-8", "backslashreplace")))

    async def _output(self, client: Client, data: bytes, status: int = EX_OK) -> bytes:
        for at in range(0, len(data), _OUTPUT):
            await self._send(client, frames.frame(frames.OUTPUT, data[at : at + _OUTPUT]))
        return frames.status(status)

    async def _run(self, asked: Request) -> bytes:
        attempt = self._owner.attempt(None)
        if asked.foreground:
            await attempt
        return frames.status(EX_OK)


def _peer(connection: socket.socket) -> tuple[int, int]:
    """(pid, uid) of who connected, from the kernel. Raises OSError."""
    pid, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))  # struct ucred
    return pid, uid


def _overflow_uid() -> int:
    """The uid that stands for those without a name in this user namespace."""
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 65534
