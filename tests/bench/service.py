"""The machine's mailer: this checkout's daemon behind its submission socket, as an account of its own, and its clients as another.

The daemon is started by the launcher that `dma-setup` installs, with the limits per user lifted: a minute of measuring is more
than what one user may hand in. Its sandbox is left out; it costs nothing once it stands.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from tests.bench import place
from tests.bench.debian import USER, Dma, Postfix
from tests.bench.ours import Ours
from tests.bench.work import KB, MB, spread

DAEMON = 990  # a uid; no account of that name is needed
LIFTED = """\
from dma_runtime.policy import limits
limits.A_MINUTE = limits.AT_ONCE = 1 << 30
"""


class Service(Ours):
    """`dmad`, resident, with its socket; `submit` goes through that."""

    name = "ours"

    def __init__(self, where):
        super().__init__(where)
        self.socket = self.base / "run" / "submit.sock"
        library = self.base / "library"
        if not library.exists():
            shutil.copytree(place.ROOT / "dma_runtime", library / "dma_runtime", ignore=shutil.ignore_patterns("__pycache__"))
            subprocess.run([place.PYTHON, "-IS", "-m", "compileall", "-q", str(library)], check=True)
            subprocess.run(["chmod", "-R", "a+rX", str(library)], check=True)  # other accounts run it, and must not compile it
        self.sendmail = str(self.launcher("sendmail", library, ("handover",)))
        self.dmad = self.launcher("dmad", library, (), door="daemon")
        self.dmad.write_text(self.dmad.read_text().replace("sys.exit(", LIFTED + "\nsys.exit("))
        self._process = None

    def missing(self):
        return "" if os.geteuid() == 0 else "needs root: the daemon and its clients are two accounts"

    def setup(self, port):
        super().setup(port)
        for path in (self.base, self.base / "run", self.spool):
            path.mkdir(exist_ok=True)
            path.chmod(0o755 if path != self.spool else 0o700)
            os.chown(path, DAEMON, DAEMON)
        os.chown(self.base / "auth.conf", DAEMON, DAEMON)
        with open(self.configuration, "a") as conf:
            conf.write(f"SOCKET {self.socket}\n")
        self.start()

    def start(self):
        """Returns the seconds until it took a connection."""
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [str(self.dmad)], env=self.environment, user=DAEMON, group=DAEMON, extra_groups=[], cwd="/", stdin=subprocess.DEVNULL
        )
        assert place.wait_until(self._answers, 20) is not None, "the daemon does not come up"
        return time.perf_counter() - began

    def _answers(self):
        import socket

        with socket.socket(socket.AF_UNIX) as line:
            return line.connect_ex(str(self.socket)) == 0

    def memory(self):
        """Resident bytes of the daemon now."""
        return place.memory([self._process.pid])[1]

    def submit_by(self, count, size, at_once, *, queue_only=True):
        words = [self.sendmail, *(["-bq"] if queue_only else []), "-i", "-t"]
        stdin = self.where.message(size)
        return place.start(words, count, stdin=stdin, environment=self.environment, uid=USER, at_once=at_once)

    def stop(self):
        super().stop()
        if getattr(self, "_process", None) is not None:
            self._process.wait()
            self._process = None


def service(run, counts=((1, 60), (10, 300), (50, 300))):
    """Submissions a second, 2 KB, by so many clients at once; each is a program started anew."""
    ours = Service(run.where)
    peers = run.present([ours, Dma(run.where), Postfix(run.where)])
    rates = {}
    for _ in run.rounds():
        for peer in peers:
            peer.setup(place.free_port())
            _by(peer, 3, 1)  # what is made with the first
            for clients, count in counts:
                began = time.perf_counter()
                found = _by(peer, count, clients)
                rates.setdefault((clients, peer.name), []).append(count / (time.perf_counter() - began))
                assert not found.failed, f"{peer.name}: {found.failed} of {count} submissions failed with {clients} clients"
            peer.stop()
            peer.clear() if hasattr(peer, "clear") else None
    for clients, _ in counts:
        others = {peer.name: rates[clients, peer.name] for peer in peers if peer is not ours}
        for peer in peers:
            ratio = ""
            if peer is ours and others:
                best = max(others, key=lambda name: statistics.median(others[name]))
                by = statistics.median(rates[clients, ours.name]) / statistics.median(others[best])
                ratio = f"{by:.2f} x {best}"
            work = f"submit 2 KB by {clients} client{'s' if clients > 1 else ''}"
            yield spread(work, peer.name, rates[clients, peer.name], 1, "a second", ratio=ratio)


def _by(peer, count, at_once):
    if isinstance(peer, Service):
        return peer.submit_by(count, 2 * KB, at_once)
    return peer.submit(count, 2 * KB, at_once=at_once)


def idle(run):
    """Memory of the resident daemon when it has nothing to do, and how soon it takes mail."""
    ours = Service(run.where)
    if not run.present([ours]):
        return
    fresh, used, ready = [], [], []
    for _ in run.rounds():
        sink = run.where.sink("tls")
        ours.setup(sink.port)
        ours.stop()
        ready.append(ours.start())
        time.sleep(0.5)
        fresh.append(ours.memory())
        sink.stats.clear()
        ours.submit_by(500, 2 * KB, 10, queue_only=False)
        assert place.wait_until(lambda: ours.left() == 0, 60) is not None
        time.sleep(1)
        used.append(ours.memory())
        ours.stop()
    for work, values in (("idle daemon, just started", fresh), ("idle daemon, 500 messages later", used)):
        most = max(values) / MB
        yield spread(work, ours.name, values, 1 / MB, "MB resident", goal="<= 30 MB", good=most <= 30)
    yield spread("start of dmad until it listens", ours.name, ready, 1000, "ms")


def boot(run):
    """A Debian machine (tests/booted_machine.py), set up by `dma-setup`: from the start of its systemd to the first message
    that was accepted, handed in by a unit as early as it can be."""
    missing, machine_of, mail_server, relay, password = _machines()
    if missing:
        run.say(f"SKIPPED boot: {missing}")
        return
    with mail_server(tls="starttls", users={"alice": password}) as server, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        machine = machine_of(pathlib.Path(folder))
        try:
            machine.boot()
            machine.write("/root/answers.yml", relay(server, keyring=None), 0o600)
            machine.run("dma-setup", "smarthost", "--answers", "/root/answers.yml", "--yes", DMA_PW=password, seconds=120)
            machine.write("/etc/systemd/system/first.service", FIRST)
            machine.run("systemctl", "enable", "first.service")
            accepted, listening = [], []
            for _ in run.rounds():
                machine.power_off()
                machine.boot()
                listening.append(_since_boot(machine, "dma.socket", "ActiveEnterTimestampMonotonic"))
                accepted.append(_since_boot(machine, "first.service", "ExecMainExitTimestampMonotonic"))
        finally:
            machine.power_off()
    yield spread("boot until the socket is there", "ours", listening, 1, "s", note="from the start of systemd, in a container")
    yield spread("boot until the first message is accepted", "ours", accepted, 1, "s")


FIRST = """\
[Unit]
DefaultDependencies=no
After=dma.socket
Requires=dma.socket

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'printf "Subject: first\\\\n\\\\nx\\\\n" | /usr/sbin/sendmail -bq bob@example.org'

[Install]
WantedBy=sockets.target
"""


def _since_boot(machine, unit, stamp):
    """Seconds from the start of the machine's systemd to that moment in the life of `unit`."""
    state = machine.run("systemctl", "show", "--property=ExecMainStatus,Result", unit).stdout
    assert "ExecMainStatus=0" in state or unit.endswith(".socket"), state + machine.log()
    at = int(machine.run("systemctl", "show", f"--property={stamp}", "--value", unit).stdout)
    began = int(machine.run("systemctl", "show", "--property=UserspaceTimestampMonotonic", "--value").stdout)
    return (at - began) / 1e6


def _machines():
    """(why there are none or "", and the tests' own parts)."""
    sys.path.insert(0, str(place.ROOT / "tests"))
    import booted_machine
    import pytest
    from mail_server import MailServer
    from setup_home import PASSWORD, relay

    reason = ""
    try:
        booted_machine.needed()
    except pytest.skip.Exception as skipped:
        reason = str(skipped)
    return reason, booted_machine.BootedMachine, MailServer, relay, PASSWORD


SECTIONS = {"service": service, "idle": idle, "boot": boot}
