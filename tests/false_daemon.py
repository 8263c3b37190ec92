"""A false daemon at the submission socket: one that accepts, dies, refuses or talks nonsense, connection by connection."""

import socket
import threading

from dma_runtime import frames, request


class Daemon:
    """A false one: `parts` are functions that serve one connection each, in order."""

    def __init__(self, path, *parts):
        self.bell = socket.socket(socket.AF_UNIX)
        self.bell.bind(path)
        self.bell.listen(10)
        self.heard = []
        self.thread = threading.Thread(target=self._serve, args=(parts,), daemon=True)
        self.thread.start()

    def _serve(self, parts):
        for part in parts:
            connection, _ = self.bell.accept()
            with connection:
                part(self, connection)
        self.bell.close()

    def whole(self, connection):
        """Read one hand-over to its end: (request, message)."""
        parser, text, asked = frames.Parser(), b"", None
        body = frames.Body()
        while data := connection.recv(65536):
            for kind, payload in parser.feed(data):
                if kind == frames.HEADER:
                    asked = request.decode(payload)
                    if asked.do != request.SUBMIT:
                        self.heard.append((asked, None))
                        return
                    continue
                text += body.take(kind, payload)
                if body.whole:
                    self.heard.append((asked, text))
                    return


def accepts(daemon, connection):
    daemon.whole(connection)
    connection.sendall(frames.frame(frames.ACCEPTED, b"m1") + frames.status(0))


def says(data):
    def part(daemon, connection):
        daemon.whole(connection)
        connection.sendall(data)

    return part


def at_once(data):
    def part(daemon, connection):
        connection.sendall(data)

    return part


def dies_inside(daemon, connection):
    connection.recv(20_000)


def dies_behind_the_commit(daemon, connection):
    daemon.whole(connection)
