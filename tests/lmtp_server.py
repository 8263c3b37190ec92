"""A small LMTP server for tests, on loopback or at a path, in threads (RFC 2033).

    with LmtpServer(path=tmp_path / "socket", replies={"full": "452 4.2.2 mailbox full"}) as server: ...

`replies`: local part -> the reply behind the end of the message; `at_rcpt`: local part -> the reply to RCPT. After `cut` final
replies of a message the connection is dropped. `messages` are (sender, recipients accepted in the end, content); `commands`
all lines.
"""

import contextlib
import os
import socket
import threading


class LmtpServer:
    def __init__(self, path=None, *, replies=(), at_rcpt=(), cut=None, pipelining=True, hello="250"):
        self.path = path and str(path)
        self.replies = dict(replies)
        self.at_rcpt = dict(at_rcpt)
        self.cut = cut
        self.pipelining = pipelining
        self.hello = hello
        self.messages = []
        self.commands = []
        self.connections = 0
        if self.path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.path)
            self._listener.listen()
            self.port = 0
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self.path:
            os.unlink(self.path)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, connection.makefile("rwb") as stream, contextlib.suppress(OSError, ValueError):
            self._converse(stream)

    def _converse(self, stream):
        def say(*lines):
            stream.write(b"".join(line.encode() + b"\r\n" for line in lines))
            stream.flush()

        say("220 lmtp.test LMTP ready")
        sender, accepted = None, []
        while line := stream.readline():
            text = line.decode().rstrip("\r\n")
            self.commands.append(text)
            verb = text.upper().split(" ")[0].split(":")[0]
            local = text.partition("<")[2].partition("@")[0]
            if verb == "LHLO":
                extensions = ["PIPELINING"] if self.pipelining else []
                names = ["lmtp.test", *extensions, "CHUNKING", "8BITMIME", "ENHANCEDSTATUSCODES"]
                say(*(f"{self.hello}{'-' if name != names[-1] else ' '}{name}" for name in names))
            elif verb in ("MAIL", "RSET"):
                sender, accepted = text.partition("<")[2].partition(">")[0], []
                say("250 2.1.0 ok")
            elif verb == "RCPT":
                reply = self.at_rcpt.get(local, "250 2.1.5 ok")
                if reply.startswith("2"):
                    accepted.append((local, text.partition("<")[2].partition(">")[0]))
                say(reply)
            elif verb == "DATA" and not accepted:
                say("503 5.5.1 no valid recipients")
            elif verb == "DATA":
                say("354 go on")
                if not self._take(stream, say, sender, accepted):
                    return
                accepted = []
            elif verb == "QUIT":
                say("221 2.0.0 bye")
                return
            else:
                say("500 5.5.2 unknown, this is LMTP")

    def _take(self, stream, say, sender, accepted):
        content = b""
        while (line := stream.readline()) != b".\r\n":
            if not line:
                return False
            content += line.removeprefix(b".")
        good = []
        for number, (local, address) in enumerate(accepted):
            if number == self.cut:
                self.messages.append((sender, good, content))
                return False
            reply = self.replies.get(local, f"250 2.0.0 <{address}> kept")
            if reply.startswith("2"):
                good.append(address)
            say(reply)
        self.messages.append((sender, good, content))
        return True
