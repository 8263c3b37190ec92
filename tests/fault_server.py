"""A scripted SMTP server on loopback: the dialogues of tests/dialogue.py over a real socket, one script a connection.

    async with FaultServer([script, ...], certificate) as server:   # the last script serves all further connections
        ... connect to 127.0.0.1, server.port ...
    server.failures       what did not go as a script says
    server.transcript     one list of (b"C"|b"S", bytes) for each connection
    server.bodies         messages accepted by a `serve` script

A script is a list of steps as dialogue.Dialogue.steps has them, and these besides, for scripts written in Python:

    ("accept", n)      swallow n bytes    ("read", seconds)  read as slowly as that between pieces
    ("serve", {...})   be an ordinary server until QUIT: see `Behaviour`
    ("raw tls", b"")   TLS at once, before the greeting

It answers QUIT behind the script and then closes. Everything is loopback; certificates come from trustme.
"""

import asyncio
import contextlib
import ssl
import struct

import trustme


class Certificates:
    """One authority for the tests, and the certificates it gives out."""

    def __init__(self, folder):
        self.authority = trustme.CA()
        self.file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.file))

    def server(self, *names, **more):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*(names or ("localhost", "127.0.0.1")), **more).configure_cert(context)
        return context


class FaultServer:
    def __init__(self, scripts, context=None, receive_buffer=None):
        self.scripts = list(scripts)
        self.context = context
        self.receive_buffer = receive_buffer
        self.failures = []
        self.transcript = []
        self.bodies = []
        self.envelopes = []
        self.connections = 0
        self.most_at_once = 0
        self._now = 0
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 20)
        if self.receive_buffer:
            import socket

            for sock in self._server.sockets:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        said = []
        self.transcript.append(said)
        peer = Peer(self, reader, writer, said)
        try:
            await peer.play(script)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError) as error:
            self.failures.append(f"connection {self.connections}: {error!r}")
        except asyncio.CancelledError:
            pass
        finally:
            self._now -= 1
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.close()


class Peer:
    """One connection of the server."""

    def __init__(self, server, reader, writer, said):
        self.server = server
        self.reader = reader
        self.writer = writer
        self.said = said

    async def play(self, script):
        steps = list(script)
        for at, (kind, value) in enumerate(steps):
            if kind in ("C", "C*"):
                got = await asyncio.wait_for(self.reader.readline(), 5)
                self.said.append((b"C", got))
                if got != value and not (kind == "C*" and got.startswith(value)):
                    self.server.failures.append(f"expected {value!r}, got {got!r}")
                    return
            elif kind == "quiet":
                await self.writer.drain()
                with contextlib.suppress(TimeoutError):
                    got = await asyncio.wait_for(self.reader.read(1), 0.02)
                    if got:
                        self.server.failures.append(f"nothing was to be said yet, got {got!r}...")
                        return
            elif kind == "S":
                self.said.append((b"S", value))
                self.writer.write(value)
                following = steps[at + 1][0] if at + 1 < len(steps) else ""
                if following != "S":
                    await self.writer.drain()
            elif kind in ("tls", "raw tls"):
                await self.start_tls()
            elif kind == "close":
                self.writer.close()
                return
            elif kind == "reset":
                self.reset()
                return
            elif kind in ("hang", "wait"):
                await asyncio.sleep(float(value or 3600))
            elif kind == "accept":
                left = value
                while left > 0:
                    piece = await self.reader.read(min(left, 65536))
                    if not piece:
                        return
                    left -= len(piece)
            elif kind == "serve":
                await self.serve(Behaviour(**value))
                return
            else:
                raise ValueError(kind)
        await self.goodbye()

    async def goodbye(self):
        """Behind the script only QUIT may come."""
        got = await asyncio.wait_for(self.reader.readline(), 5)
        if got == b"QUIT\r\n":
            self.writer.write(b"221 bye\r\n")
            await self.writer.drain()
        elif got:
            self.server.failures.append(f"behind the script: {got!r}")

    async def start_tls(self):
        # Not StreamWriter.start_tls: in 3.11 it does not know the server's side.
        loop = asyncio.get_running_loop()
        transport = self.writer.transport
        protocol = transport.get_protocol()
        with_tls = await loop.start_tls(transport, protocol, self.server.context, server_side=True, ssl_handshake_timeout=5)
        self.reader._transport = with_tls
        self.writer._transport = with_tls
        protocol._replace_writer(self.writer) if hasattr(protocol, "_replace_writer") else None
        protocol._transport = with_tls
        protocol._over_ssl = True

    def reset(self):
        import socket

        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    # ------------------------------------------------------------ an ordinary server

    async def serve(self, how):
        """Serve until QUIT or the end. `how.at(verb, n)` may name a fault for the n-th command of a verb."""
        if not await self._say(how, "greeting", b"220 relay.example ESMTP\r\n"):
            return
        mail, recipients, refused, chunks = None, [], False, b""
        while line := await self.reader.readline():
            self.said.append((b"C", line))
            verb = line.split()[0].upper().decode()
            if verb == "EHLO":
                mail, recipients, chunks = None, [], b""
                words = ["relay", *how.offers]
                text = "".join(f"250{'-' if n < len(how.offers) else ' '}{word}\r\n" for n, word in enumerate(words))
                going = await self._say(how, verb, text.encode())
            elif verb == "MAIL":
                mail, recipients, chunks, refused = line, [], b"", False
                going = await self._say(how, verb, b"250 2.1.0 ok\r\n")
                mail = None if how.refused_last else mail
            elif verb == "RCPT":
                going = await self._say(how, verb, b"250 2.1.5 ok\r\n" if mail else b"503 5.5.1 MAIL first\r\n")
                if mail and not how.refused_last:
                    recipients.append(line[8:].strip().strip(b"<>").decode())
            elif verb == "DATA":
                going = await self._say(how, verb, b"354 go\r\n" if recipients else b"554 5.5.1 no valid recipients\r\n")
                if going and recipients and not how.refused_last:
                    body = await self._body()
                    if body is None:
                        return
                    going = await self._accepted(how, mail, recipients, body)
                mail, recipients = None, []
            elif verb == "BDAT":
                words = line.split()
                piece = await self.reader.readexactly(int(words[1]))
                refused = refused or not recipients
                if refused:
                    going = await self._say(how, verb, b"503 5.5.1 no valid recipients\r\n")
                elif len(words) == 3:
                    going = await self._accepted(how, mail, recipients, chunks + piece)
                    mail, recipients, chunks = None, [], b""
                else:
                    chunks += piece
                    going = await self._say(how, verb, b"250 ok\r\n")
                    refused = how.refused_last
            elif verb == "RSET":
                mail, recipients, chunks, refused = None, [], b"", False
                going = await self._say(how, verb, b"250 2.0.0 ok\r\n")
            elif verb == "STARTTLS":
                going = await self._say(how, verb, b"220 go\r\n")
                if going and not how.refused_last:
                    await self.start_tls()
            elif verb == "AUTH":
                going = await self._say(how, verb, b"235 2.7.0 ok\r\n")
            elif verb == "QUIT":
                await self._say(how, verb, b"221 bye\r\n")
                return
            else:
                going = await self._say(how, verb, b"500 5.5.1 what?\r\n")
            if not going:
                return

    async def _accepted(self, how, mail, recipients, body):
        # Taken before the reply is sent: a client that does not read it cannot know, which is where duplicates come from.
        if how.next_fault("final") is None or how.peek("final") in how.TAKEN:
            self.server.bodies.append(body)
            self.server.envelopes.append((mail, tuple(recipients), body))
        return await self._say(how, "final", b"250 2.0.0 queued\r\n")

    async def _body(self):
        lines = []
        while line := await self.reader.readline():
            if line == b".\r\n":
                return b"".join(lines)
            lines.append(line.removeprefix(b"."))
        return None

    async def _say(self, how, verb, usual):
        """The usual reply, or the fault that is due. False when the connection is over."""
        fault = how.take_fault(verb)
        how.refused_last = False
        if fault is None:
            how.refused_last = usual[:1] in b"45"
            self.said.append((b"S", usual))
            self.writer.write(usual)
        elif fault == "close":
            self.writer.close()
            return False
        elif fault == "reset":
            self.reset()
            return False
        elif fault == "half":
            self.writer.write(usual[: len(usual) // 2].rstrip(b"\r\n"))
            await self.writer.drain()
            self.writer.close()
            return False
        elif fault == "hang":
            await asyncio.sleep(3600)
        elif fault == "garbage":
            self.writer.write(b"\x16\x03\x01 HTTP/1.1 400 Bad Request\r\n")
            await self.writer.drain()
            self.writer.close()
            return False
        elif fault == "huge":
            self.writer.write(b"550-" + b"x" * 70000 + b"\r\n" + b"550-y\r\n" * 20000 + b"550 z\r\n")
            how.refused_last = True
        elif fault == "delay":
            await asyncio.sleep(0.02)
            how.refused_last = usual[:1] in b"45"
            self.writer.write(usual)
        else:
            how.refused_last = fault[:1] in "45"
            self.writer.write(fault.encode() + b"\r\n")
            if fault.startswith("421"):
                await self.writer.drain()
                self.writer.close()
                return False
        await self.writer.drain()
        return True


class Behaviour:
    """offers: keywords of EHLO. faults: {(verb, n): fault}, n from 0.

    A fault is a reply, or close, reset, half, hang, garbage, huge, delay. The verbs are greeting, EHLO, STARTTLS,
    AUTH, MAIL, RCPT, DATA, BDAT, RSET, QUIT and final (the end of the message).
    """

    # At `final` the message is taken, and the reply does not come or cannot be understood.
    TAKEN = ("close", "reset", "half", "hang", "garbage", "delay", "huge")

    def __init__(self, offers=("PIPELINING", "8BITMIME"), faults=None):
        self.offers = list(offers)
        self.faults = dict(faults or {})
        self.counts = {}
        self.refused_last = False

    def peek(self, verb):
        return self.faults.get((verb, self.counts.get(verb, 0)))

    next_fault = peek

    def take_fault(self, verb):
        fault = self.peek(verb)
        self.counts[verb] = self.counts.get(verb, 0) + 1
        return fault
