"""This project, as a user's own agent: private dma.conf, auth.conf and spool, started as `dma-setup` installs it."""

import hashlib
import os
import pathlib
import shutil
import ssl
import subprocess
import time

from dma_runtime.envelope import Envelope, Recipient, encode, reserved
from dma_runtime.system import compiled
from dma_runtime.system.spool import Spool, new_id
from dma_setup import prelink, render
from dma_setup.verbs.launcher import OPTIONS
from tests.bench import place


def _private(path, flags):
    return os.open(path, flags, 0o600)


class Ours:
    """`conf`: further lines of dma.conf."""

    name = "ours"

    def __init__(self, where, conf=(), name="ours"):
        self.name = name
        self.where = where
        self.conf = conf
        self.base = where.path / "ours"
        self.base.mkdir(exist_ok=True)
        self.spool = self.base / "spool"
        self.configuration = self.base / "dma.conf"
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.base), "DMA_CONF": str(self.configuration)}
        self.environment["LOGNAME"] = "bench"
        self.sendmail = str(self.launcher("sendmail", place.ROOT, ("submit", "owner")))
        self.mailq = str(self.base / "mailq")
        if not os.path.islink(self.mailq):
            os.symlink("sendmail", self.mailq)

    def launcher(self, name, library, images, door="sendmail"):
        """A program as `dma-setup` renders it, with the first of the images when there are any."""
        values = {"python": place.PYTHON, "library": str(library), "door": f"dma_runtime.cmd.{door}", "options": "-IS", "take": ""}
        if images:
            subprocess.run(prelink.command(place.PYTHON, str(library), *images), check=True)
            values |= {"options": OPTIONS, "take": compiled.take(compiled.stem(str(library), images[0]))}
        path = self.base / name
        path.write_text(render.template("launcher.j2", values))
        path.chmod(0o755)
        return path

    def missing(self):
        return ""

    def setup(self, port):
        """Towards a smarthost at `port`, with an empty queue."""
        self.stop()
        shutil.rmtree(self.spool, ignore_errors=True)
        auth = self.base / "auth.conf"
        auth.write_text("user|127.0.0.1:pass\n")
        auth.chmod(0o600)
        pem = self.where.certificate.read_text()
        pem = pem[pem.index("-----BEGIN CERT") : pem.index("-----END CERT")] + "-----END CERTIFICATE-----\n"
        pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        lines = [
            f"SPOOLDIR {self.spool}", f"ALIASES {self.base}/aliases", "MAILNAME bench.test", f"AUTHPATH {auth}",
            "SMARTHOST 127.0.0.1", f"PORT {port}", "SECURETRANSFER", "STARTTLS", f"FINGERPRINT {pin}", *self.conf,
        ]  # fmt: skip
        self.configuration.write_text("\n".join(lines) + "\n")

    def fill(self, count, size):
        """The files that submissions leave behind, written without their syncs."""
        spool = Spool(str(self.spool))
        spool.prepare(own_only=False)
        text = place.text(size)
        for _ in range(count):
            now = time.time()
            envelope = Envelope(new_id(now, os.urandom), "bench@bench.test", [Recipient("u@sink.test")], now)
            envelope.header_end = text.index(b"\n\n") + 1
            envelope.size = len(text)
            envelope.longest_line = 77
            envelope.message_id = "<1@bench.test>"
            envelope.login = "bench"
            envelope.queue_only = True
            line = encode(envelope, reserved(envelope))
            with open(f"{spool.queue}/{envelope.id}", "wb", opener=_private) as file:
                file.write(line + text)

    def ready(self):
        """Just before the clock starts."""

    def drain(self):
        subprocess.Popen([self.sendmail, "-q"], env=self.environment, stdin=subprocess.DEVNULL).wait()

    def left(self):
        try:
            return len(os.listdir(self.spool / "queue"))
        except FileNotFoundError:
            return 0

    def submit(self, count, size, *, queue_only=True):
        words = [self.sendmail, *(["-bq"] if queue_only else []), "-i", "-t"]
        return place.start(words, count, stdin=self.where.message(size), environment=self.environment)

    def attempt_all(self):
        """One attempt of everything, waited for: (Times, memory of the process that made it)."""
        return place.start([self.sendmail, "-q", "-D"], environment=self.environment)

    def listing(self, count):
        return place.start([self.mailq], count, environment=self.environment)

    def owner(self):
        """Start a resident owner and wait until it answers."""
        boot = f"import sys; sys.path.insert(0, {str(place.ROOT)!r}); from dma_runtime.cmd.daemon import main; main([])"
        subprocess.Popen([place.PYTHON, "-IS", "-c", boot], env=self.environment, cwd="/", start_new_session=True)
        from dma_runtime.system.ownership import ask

        place.wait_until(lambda: ask(Spool(str(self.spool)), {"do": "list"}, 60) is not None, 60)

    def pids(self):
        mine = b"DMA_CONF=" + str(self.configuration).encode()
        conf = str(self.configuration).encode()
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    seen = pathlib.Path("/proc", name, "environ").read_bytes().split(b"\0")
                    if mine in seen or conf in pathlib.Path("/proc", name, "cmdline").read_bytes():
                        found.append(int(name))
                except OSError:
                    continue
        return found

    def stop(self):
        place.end(self.pids)
