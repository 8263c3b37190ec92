"""Where a measurement takes place: a directory of its own, the sinks, the messages, and the clock on programs."""

import contextlib
import gc
import json
import os
import pathlib
import resource  # noqa: F401 os.wait4 needs it, and below a chroot it could not be found
import shutil
import subprocess
import sys
import tempfile
import time

import trustme

from tests.bench.sink import Stats

PYTHON = os.path.realpath(sys.executable)
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# name -> options of the sink, besides TLS and AUTH, which all have
SINKS = {
    "tls": [],
    "nochunk20": ["--no-chunking", "--delay", "20"],
    "chunk20": ["--delay", "20"],
    "limit20": ["--no-chunking", "--delay", "20", "--most", "50"],
}


class Place:
    """Below `base`; removed by `close`, with every sink."""

    def __init__(self, base=None):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="dma-bench-", dir=base or "/var/tmp"))
        self.path.chmod(0o755)
        self.certificate = self.path / "sink.pem"
        issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.certificate))
        self._sinks = {}

    def sink(self, name):
        """The running sink of that name."""
        if name not in self._sinks:
            self._sinks[name] = Running(self, name, ["--tls", str(self.certificate), "--auth", *SINKS[name]])
        return self._sinks[name]

    def message(self, size, directory=None):
        """A message file of `size` bytes, readable by everybody."""
        path = pathlib.Path(directory or self.path) / f"message{size}"
        if not path.exists():
            path.write_bytes(text(size))
            path.chmod(0o644)
        return path

    def close(self):
        for sink in self._sinks.values():
            sink.close()
        shutil.rmtree(self.path, ignore_errors=True)


class Running:
    """A sink's process."""

    def __init__(self, place, name, words):
        path = place.path / f"{name}.stats"
        self.stats = Stats(str(path))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.sink", str(path), *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self._process.stdout.readline())

    def close(self):
        self._process.kill()
        self._process.wait()


def text(size):
    """A plain message of `size` bytes with LF line ends."""
    head = (
        b"From: bench@bench.test\nTo: u@sink.test\nSubject: benchmark\nDate: Sun, 22 Nov 2026 19:00:00 +0000\n"
        b"Message-ID: <1@bench.test>\nMIME-Version: 1.0\nContent-Type: text/plain\n\n"
    )
    line = b"x" * 76 + b"\n"
    body = line * max(0, (size - len(head)) // len(line))
    rest = size - len(head) - len(body)
    return head + body + (b"y" * (rest - 1) + b"\n" if rest > 0 else b"")


def free_port():
    """A port of loopback where nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---------------------------------------------------------------- programs by the clock


class Times:
    """seconds: of each run, in order; rss: the largest peak, in bytes; cpu: seconds of all; failed: exits other than 0."""

    def __init__(self, seconds, rss, cpu, failed):
        self.seconds, self.rss, self.cpu, self.failed = seconds, rss, cpu, failed


def start(words, count=1, *, stdin="/dev/null", environment=None, root="", uid=None, at_once=1):
    """Start a program `count` times, `at_once` of them side by side, and measure each from start to exit.

    With `root` or `uid` a child of ours goes there first, so that no `chroot` program is measured along."""
    if not root and uid is None:
        return Times(*_timed(words, count, stdin, environment, at_once))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if root:
                os.chroot(root)
                os.chdir("/")
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            os.write(writer, json.dumps(_timed(words, count, stdin, environment, at_once)).encode())
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{words}: {error!r}\n".encode())
            os._exit(1)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return Times(*json.loads(said))


def _timed(words, count, stdin, environment, at_once):
    environment = environment or {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LOGNAME": "bench"}
    null = os.open("/dev/null", os.O_WRONLY)
    seconds, rss, cpu, failed, begun, running = [], 0, 0.0, 0, 0, {}
    gc.disable()
    while len(seconds) < count:
        while len(running) < at_once and begun < count:
            begun += 1
            actions = [(os.POSIX_SPAWN_OPEN, 0, str(stdin), os.O_RDONLY, 0)]
            actions += [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
            at = time.perf_counter()
            running[os.posix_spawn(words[0], words, environment, file_actions=actions)] = at
        pid, status, used = os.wait4(-1, 0)
        now = time.perf_counter()
        if pid in running:
            seconds.append(now - running.pop(pid))
            rss = max(rss, used.ru_maxrss * 1024)
            cpu += used.ru_utime + used.ru_stime
            failed += status != 0
    gc.enable()
    os.close(null)
    return seconds, rss, cpu, failed


def wait_until(wish, seconds, pause=0.002):
    """Seconds until `wish()` holds; None when it does not."""
    began = time.monotonic()
    while not wish():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(pause)
    return time.monotonic() - began


def end(pids):
    """End processes of ours, by number."""
    import signal

    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids():
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        if wait_until(lambda: not pids(), 3, 0.02) is not None:
            return


def memory(pids):
    """(processes, sum of their resident bytes, the largest)."""
    sizes = []
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            sizes.append(int(pathlib.Path("/proc", str(pid), "statm").read_text().split()[1]) * 4096)
    return len(sizes), sum(sizes), max(sizes, default=0)


def peak(pid):
    """The most memory a process has had, in bytes; 0 when it is gone."""
    try:
        lines = pathlib.Path("/proc", str(pid), "status").read_text().split("\n")
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
    except OSError:
        return 0
