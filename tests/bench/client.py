"""client.py PORT DIRECTORY CONNECTIONS: send the files of a directory, as a bare Python program would (`raw`)."""

import os
import socket
import ssl
import sys
import threading

START = b"MAIL FROM:<bench@bench.test>\r\nRCPT TO:<u@sink.test>\r\nDATA\r\n"


class Connection:
    def __init__(self, port):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = b""
        self.replies(1)
        self.say(b"EHLO bench.test\r\n")
        self.say(b"STARTTLS\r\n")
        self.sock = context.wrap_socket(self.sock)
        self.say(b"EHLO bench.test\r\n")
        self.say(b"AUTH PLAIN AHVzZXIAcGFzcw==\r\n")

    def say(self, data, replies=1):
        self.sock.sendall(data)
        self.replies(replies)

    def replies(self, count):
        while count:
            line, end, rest = self.read.partition(b"\n")
            if not end:
                more = self.sock.recv(65536)
                assert more, "the sink hung up"
                self.read += more
                continue
            self.read = rest
            if line[3:4] == b" ":
                assert line[:1] in b"23", line
                count -= 1


def drain(port, directory, connections):
    names = iter(sorted(os.listdir(directory)))
    lock = threading.Lock()

    def following():
        with lock:
            name = next(names, None)
        if name is None:
            return None, b""
        with open(f"{directory}/{name}", "rb") as file:
            return name, file.read().replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..") + b".\r\n"

    def work():
        connection = Connection(port)
        name, body = following()
        if name is not None:
            connection.say(START, 3)
        while name is not None:
            then, next_body = following()
            connection.say(body + (START if then else b""), 4 if then else 1)
            os.unlink(f"{directory}/{name}")
            name, body = then, next_body

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    drain(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
