"""Where a measurement takes place: a directory of its own, the sinks, the messages, and the clock on programs."""

import contextlib
import json
import os
import pathlib
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
    """Start a program `count` times, `at_once` of them side by side, and measure each from start to exit (see `timed`)."""
    environment = environment or {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LOGNAME": "bench"}
    given = {"words": words, "count": count, "stdin": str(stdin), "environment": environment, "at_once": at_once}
    given |= {"root": root, "uid": uid}
    timed = [PYTHON, "-IS", str(HERE / "timed.py")]
    done = subprocess.run(timed, input=json.dumps(given), stdout=subprocess.PIPE, text=True, check=True)
    return Times(*json.loads(done.stdout))


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
