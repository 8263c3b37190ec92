"""The owner's bell: the socket `SPOOLDIR/control`, one JSON object a line, both ways.

    {"do": "look", "id": ID}                       a message was spooled; no answer
    {"do": "run", "ids": null|[ID…], "wait": true} one attempt of each, answered {"done": true} when all had it
    {"do": "due"}                                  attempt what is due, messages only queued included
    {"do": "list"}                                 answered {"items": […]}
    {"do": "hold"|"release"|"retry"|"remove", "id": ID}   answered {"ok": true} or {"error": TEXT}
    {"do": "adopt"}                                the spool is this machine's from now on
    {"do": "reload"}                               read configuration and secrets again
    {"do": "leave"}                                give the spool up, for one who is to stay; refused by one who is

The socket is 0600 in a directory of 0700: whoever reaches it is the owner of the queue or root. A client that talks
nonsense gets an error and its connection is closed; one that says nothing costs a file descriptor.
"""

from __future__ import annotations

import asyncio
import json
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Answer = Callable[[dict[str, object]], Awaitable[dict[str, object] | None]]

LINE_LIMIT = 1 << 20


class Control:
    """Serves the socket; `answer(request)` gives the reply object, or None for none."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def open(self, listening: socket.socket) -> None:
        self._server = await asyncio.start_unix_server(self._client, sock=listening, limit=LINE_LIMIT)

    async def close(self) -> None:
        """Take no new connection; let the ones being answered finish for a moment."""
        if self._server is not None:
            self._server.close()
        if self._clients:
            await asyncio.wait(self._clients, timeout=0.2)
        for task in list(self._clients):
            task.cancel()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            while line := await reader.readline():
                reply = await self._reply(line)
                if reply is not None:
                    writer.write(json.dumps(reply).encode() + b"\n")
                    await writer.drain()
        except (OSError, ValueError, asyncio.CancelledError):
            pass  # the client went away, sent an endless line, or we are leaving
        finally:
            self._clients.discard(task)
            writer.close()

    async def _reply(self, line: bytes) -> dict[str, object] | None:
        try:
            request = json.loads(line)
        except ValueError:
            return {"error": "not a JSON object"}
        if not isinstance(request, dict):
            return {"error": "not a JSON object"}
        return await self._answer(request)
