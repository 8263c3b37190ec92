"""An SMTP server for measuring: it answers at once and throws the mail away. One process, one loop, no threads.

    python -m tests.bench.sink STATS [--tls CERT] [--auth] [--no-chunking] [--most N] [--delay MS]

Listens on a free port of 127.0.0.1 and prints it. STATS is a file of eight 64-bit numbers that whoever measures maps into
memory (`Stats`). PIPELINING, SIZE, 8BITMIME, SMTPUTF8 always; STARTTLS with `--tls` (a PEM file with key and certificate);
`--auth`: no MAIL before AUTH PLAIN or LOGIN, any password does; `--most`: 421 above so many connections at once.

`--delay`: the round trip in milliseconds. What goes out is held back for that long, which a client cannot tell from the
same delay cut in two halves; the greeting two round trips, the first for the SYN. Nothing is lost or reordered, and
bandwidth is not limited.
"""

import argparse
import collections
import mmap
import selectors
import socket
import ssl
import struct
import time

NAMES = ("messages", "bytes", "connections", "tls", "logins", "open", "most_open", "recipients")


class Stats:
    """The counters, shared through a file."""

    def __init__(self, path):
        with open(path, "a+b") as file:
            file.truncate(8 * len(NAMES))
            self._map = mmap.mmap(file.fileno(), 8 * len(NAMES))
        self._view = memoryview(self._map).cast("Q")

    def add(self, name, number=1):
        self._view[NAMES.index(name)] += number

    def read(self):
        return dict(zip(NAMES, struct.unpack(f"{len(NAMES)}Q", self._map[:]), strict=True))

    def __getitem__(self, name):
        return self._view[NAMES.index(name)]

    def clear(self):
        for index, name in enumerate(NAMES):
            if name != "open":
                self._view[index] = 0


class Options:
    def __init__(self, found):
        self.auth = found.auth
        self.most = found.most
        self.delay = found.delay / 1000
        self.context = None
        if found.tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(found.tls)
        self.extensions = ["PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if not found.no_chunking:
            self.extensions.append("CHUNKING")


class Conversation:
    """One connection: bytes in, bytes out."""

    def __init__(self, sock, options, stats):
        self.sock = sock
        self.options = options
        self.stats = stats
        self.closing = False  # once what is to be said has been said
        self.gone = False
        self.pending = bytearray()  # what the socket did not take yet
        self.held = 0  # pieces that wait for their time
        self.blocked = False  # the socket takes no more at present
        self._tls = None
        self._handshake = False
        self._authenticated = not options.auth
        self._login = 0  # lines of an AUTH LOGIN still to come
        self._buffer = b""
        self._left = 0  # of a BDAT
        self._last = False
        self._data = False
        self._size = 0

    def received(self, data):
        """What to answer."""
        if self._tls is None:
            return self._answer(data)
        self._in.write(data)
        if self._handshake:
            try:
                self._tls.do_handshake()
                self._handshake = False
                self.stats.add("tls")
            except ssl.SSLWantReadError:
                return self._out.read()
            except ssl.SSLError:
                self.closing = True
                return self._out.read()
        plain = []
        try:
            while chunk := self._tls.read(262144):
                plain.append(chunk)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.closing = True
        said = self._answer(b"".join(plain)) if plain else b""
        if said:
            self._tls.write(said)
        return self._out.read()

    def _answer(self, data):
        buffer = self._buffer + data if self._buffer else data
        at, said = 0, []
        while True:
            if self._left:
                step = min(self._left, len(buffer) - at)
                self._left -= step
                at += step
                if self._left:
                    break
                said.append(self._over() if self._last else b"250 2.0.0 chunk\r\n")
            if self._data:
                # Three bytes back: the end may lie across two reads, or directly behind DATA.
                end = at if buffer.startswith(b".\r\n", at) and not self._size else buffer.find(b"\r\n.\r\n", at)
                if end < 0:
                    keep = max(at, len(buffer) - 4)
                    self._size += keep - at
                    at = keep
                    break
                self._size += end - at
                at = end + (3 if buffer.startswith(b".\r\n", end) else 5)
                self._data = False
                said.append(self._over())
            end = buffer.find(b"\r\n", at)
            if end < 0:
                break
            line = buffer[at:end]
            at = end + 2
            said.append(self._command(line))
            if self._tls is not None and self._handshake:
                at = len(buffer)  # nothing may follow STARTTLS
                break
        self._buffer = buffer[at:]
        return b"".join(said)

    def _over(self):
        self.stats.add("bytes", self._size)
        self.stats.add("messages")
        self._size = 0
        self._last = False
        return b"250 2.0.0 Ok: queued\r\n"

    def _command(self, line):
        verb = line[:4].upper()
        if self._login:
            self._login -= 1
            return b"334 UGFzc3dvcmQ6\r\n" if self._login else self._logged_in()
        if verb == b"MAIL":
            return b"250 2.1.0 Ok\r\n" if self._authenticated else b"530 5.7.0 Authentication required\r\n"
        if verb == b"RCPT":
            self.stats.add("recipients")
            return b"250 2.1.5 Ok\r\n"
        if verb == b"DATA":
            self._data = True
            return b"354 go ahead\r\n"
        if verb == b"BDAT":
            words = line.split()
            self._left, self._last = int(words[1]), len(words) > 2
            self._size += self._left
            return (self._over() if self._last else b"250 2.0.0 chunk\r\n") if not self._left else b""
        if verb == b"EHLO":
            return self._hello()
        if verb == b"STAR" and self.options.context is not None and self._tls is None:
            self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = self.options.context.wrap_bio(self._in, self._out, server_side=True)
            self._handshake = True
            return b"220 go ahead\r\n"
        if verb == b"AUTH":
            words = line.split()
            if words[1].upper() == b"LOGIN":
                self._login = 2 if len(words) == 2 else 1
                return b"334 VXNlcm5hbWU6\r\n" if len(words) == 2 else b"334 UGFzc3dvcmQ6\r\n"
            if len(words) == 2:
                self._login = 1
                return b"334 \r\n"
            return self._logged_in()
        if verb == b"QUIT":
            self.closing = True
            return b"221 2.0.0 Bye\r\n"
        return b"250 2.0.0 Ok\r\n" if verb in (b"RSET", b"NOOP", b"HELO") else b"500 5.5.1 What?\r\n"

    def _hello(self):
        lines = ["sink.test", *self.options.extensions]
        if self.options.context is not None and self._tls is None:
            lines.append("STARTTLS")
        elif self.options.auth:
            lines.append("AUTH PLAIN LOGIN")
        text = [f"250-{line}\r\n" for line in lines[:-1]] + [f"250 {lines[-1]}\r\n"]
        return "".join(text).encode()

    def _logged_in(self):
        self._authenticated = True
        self.stats.add("logins")
        return b"235 2.7.0 Ok\r\n"


class Sink:
    def __init__(self, options, stats):
        self.options = options
        self.stats = stats
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listening.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listening, selectors.EVENT_READ)
        self.held = collections.deque()  # (when, conversation, bytes), in order: the delay is the same for all
        self.greetings = collections.deque()

    def run(self):
        while True:
            for key, events in self.selector.select(self._wait()):
                if key.data is None:
                    self._accept()
                    continue
                if events & selectors.EVENT_WRITE:
                    self._flush(key.data)
                if events & selectors.EVENT_READ and not key.data.gone:
                    self._read(key.data)
            now = time.monotonic()
            for queue in (self.held, self.greetings):
                while queue and queue[0][0] <= now:
                    _, conversation, data = queue.popleft()
                    conversation.held -= 1
                    self._write(conversation, data)

    def _wait(self):
        due = [queue[0][0] for queue in (self.held, self.greetings) if queue]
        return max(0, min(due) - time.monotonic()) if due else None

    def _accept(self):
        while True:
            try:
                sock, _ = self.listening.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conversation = Conversation(sock, self.options, self.stats)
            self.stats.add("connections")
            self.stats.add("open")
            self.stats.add("most_open", max(0, self.stats["open"] - self.stats["most_open"]))
            self.selector.register(sock, selectors.EVENT_READ, conversation)
            if self.options.most and self.stats["open"] > self.options.most:
                conversation.closing = True
                greeting = b"421 4.7.0 sink.test Error: too many connections\r\n"
            else:
                greeting = b"220 sink.test ESMTP\r\n"
            self._say(conversation, greeting, self.greetings, 2 * self.options.delay)

    def _read(self, conversation):
        try:
            data = conversation.sock.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(conversation)
            return
        said = conversation.received(data)
        if said or conversation.closing:
            self._say(conversation, said, self.held, self.options.delay)

    def _say(self, conversation, data, queue, delay):
        if delay:
            conversation.held += 1
            queue.append((time.monotonic() + delay, conversation, data))
        else:
            self._write(conversation, data)

    def _write(self, conversation, data):
        if conversation.gone:
            return
        conversation.pending += data
        self._flush(conversation)

    def _flush(self, conversation):
        pending = conversation.pending
        blocked = False
        try:
            while pending:
                del pending[: conversation.sock.send(pending)]
        except BlockingIOError:
            blocked = True
        except OSError:
            self._close(conversation)
            return
        if conversation.closing and not conversation.held and not blocked:
            self._close(conversation)
        elif blocked != conversation.blocked:
            conversation.blocked = blocked
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
            self.selector.modify(conversation.sock, events, conversation)

    def _close(self, conversation):
        if not conversation.gone:
            conversation.gone = True
            self.selector.unregister(conversation.sock)
            conversation.sock.close()
            self.stats.add("open", -1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("stats")
    parser.add_argument("--tls", metavar="CERT")
    parser.add_argument("--auth", action="store_true")
    parser.add_argument("--no-chunking", action="store_true")
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0)
    found = parser.parse_args()
    sink = Sink(Options(found), Stats(found.stats))
    print(sink.listening.getsockname()[1], flush=True)
    sink.run()


if __name__ == "__main__":
    main()
