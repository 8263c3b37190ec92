"""The mailbox process without systemd: what the machine refuses one delivery does not end it for all that come later."""

import os
import pwd
import socket
import subprocess
import sys
import time

import pytest

from dma_runtime import frames, posting
from dma_runtime.posting import FORWARD, Posting

ME = pwd.getpwuid(os.getuid())
PROGRAM = """
import errno, os, socket, sys
from dma_runtime.cmd import mailbox
from dma_runtime.system import privilege

privilege.account = lambda: privilege.Account("me", os.getuid(), os.getgid())
mailbox.PAUSE = 0.05
how, path = sys.argv[1:]
if how == "fork":
    real, left = os.fork, [2]
    def fork():
        if left[0]:
            left[0] -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return real()
    os.fork = fork
else:
    class Socket(socket.socket):
        left = 2
        def accept(self):
            if Socket.left:
                Socket.left -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()
    socket.socket = Socket
sys.exit(mailbox.main(["--listen", path]))
"""


@pytest.mark.parametrize("how", ["fork", "accept"])
def test_it_goes_on(tmp_path, how):
    path = str(tmp_path / "mailbox.sock")
    listener = subprocess.Popen([sys.executable, "-c", PROGRAM, how, path], stderr=subprocess.PIPE)
    try:
        found = None
        deadline = time.monotonic() + 20
        while found is None and time.monotonic() < deadline and listener.poll() is None:
            found = ask(path)
        assert listener.poll() is None, listener.stderr.read()
        posting.decode_forward(found)  # an answer
    finally:
        listener.kill()
        listener.wait()
        listener.stderr.close()


def ask(path):
    """The result, None when the connection was closed without one."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        try:
            line.connect(path)
            line.sendall(posting.encode(Posting(FORWARD, ME.pw_name)))
            heard = b""
            while data := line.recv(65536):
                heard += data
        except (FileNotFoundError, ConnectionError):
            time.sleep(0.02)
            return None
    results = [payload for kind, payload in frames.Parser().feed(heard) if kind == frames.RESULT]
    return results[0] if results else None
