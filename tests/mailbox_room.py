"""Talking to the mailbox process of a `machine.Machine` as the daemon does, or as somebody who is not the daemon."""

import subprocess
import sys

from machine import USERS

from dma_runtime import frames

DMA = USERS["dma"][0]
SOCKET = "/run/dma/mailbox.sock"


def listener(machine):
    """Start it as on a machine without systemd."""
    log = open(machine.top / "mailbox.log", "ab")
    machine.popen("dma-mailbox", "--listen", SOCKET, stderr=log, stdin=subprocess.DEVNULL, extra_groups=[0, 4, 8])
    machine.until(lambda: machine.listens(SOCKET, answers=False), what="the mailbox process to listen")
    return machine


AS = """
import os, socket, sys
uid = int(sys.argv[1])
line = socket.socket(socket.AF_UNIX)
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
line.settimeout(60)
try:
    line.connect(sys.argv[2])
    line.sendall(sys.stdin.buffer.read())
    if len(sys.argv) > 3:
        line.shutdown(socket.SHUT_WR)
    while data := line.recv(65536):
        os.write(1, data)
except OSError:
    pass
"""


def ask(machine, data, *, uid=DMA, close=False, path=SOCKET):
    """Say `data` as `uid`; the payload of the result, None without one."""
    words = [sys.executable, "-c", AS, str(uid), str(machine.top / path.lstrip("/")), *(["close"] if close else [])]
    ran = subprocess.run(words, input=data, capture_output=True, timeout=90)
    assert ran.stderr == b""
    found = [payload for kind, payload in frames.Parser().feed(ran.stdout) if kind == frames.RESULT]
    return found[0] if found else None
