"""An agent of its own for a test: a private dma.conf, auth.conf and spool named by DMA_CONF, and the real programs.

    agent = Agent(tmp_path, server)
    agent.send("bob@example.org", text=b"Subject: x\\n\\nhello\\n")
    agent.run("-q", "-D")
    agent.queue()                      # what `dma-queue list --json` says

Owners it leaves behind are ended, by their pid, by `close`.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

BIN = pathlib.Path(sys.executable).parent
MESSAGE = b"Subject: test\n\nhello\n"


def owners_of(conf):
    """Processes that were left behind with a queue, and have this configuration, or one below it, on their command line."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            line = pathlib.Path("/proc", name, "cmdline").read_bytes()
        except OSError:
            continue
        if str(conf).encode() in line and b"leave-when-empty" in line:
            found.append(int(name))
    return found


class Agent:
    """`server`: a mail_server.MailServer the smarthost points to. `conf`: further lines of dma.conf."""

    def __init__(self, directory, server=None, *, conf="", login="alice", password="file:{pw}", user=None):
        self.directory = pathlib.Path(directory)
        self.spool = self.directory / "spool"
        self.conf = self.directory / "dma.conf"
        self.auth = self.directory / "auth.conf"
        self.password = self.directory / "password"
        self.server = server
        self.user = user
        lines = [f"SPOOLDIR {self.spool}", "MAILNAME here.test", f"ALIASES {self.directory}/aliases"]
        if server is not None:
            lines += [f"SMARTHOST 127.0.0.1:{server.port}"]
            if server.tls:
                lines += ["SECURETRANSFER", f"FINGERPRINT {server.fingerprint}"]
            if server.tls == "starttls":
                lines += ["STARTTLS"]
            if server.users is not None:
                lines += [f"AUTHPATH {self.auth}"]
                self.set_password(server.users[login])
                self.write(self.auth, f"{login}|127.0.0.1:{password.format(pw=self.password)}\n")
        self.base = "\n".join(lines) + "\n"
        self.configure(conf)
        self.environment = dict(os.environ, DMA_CONF=str(self.conf))

    def configure(self, conf=""):
        self.write(self.conf, self.base + conf + ("\n" if conf else ""))

    def set_password(self, text):
        self.write(self.password, text + "\n")

    def write(self, path, text):
        path.write_text(text)
        path.chmod(0o600)

    # ------------------------------------------------------------ programs

    def program(self, name, *words, stdin=b"", check=None, timeout=60, **keywords):
        ran = subprocess.run(
            [str(BIN / name), *words],
            input=stdin,
            env=self.environment,
            capture_output=True,
            timeout=timeout,
            **keywords,
        )
        assert b"Traceback" not in ran.stderr, ran.stderr.decode()
        if check is not None:
            assert ran.returncode == check, (ran.returncode, ran.stderr.decode())
        return ran

    def run(self, *words, stdin=b"", check=0, **keywords):
        """`dma WORDS`."""
        return self.program("dma", *words, stdin=stdin, check=check, **keywords)

    def send(self, *words, text=MESSAGE, check=0):
        return self.run(*words, stdin=text, check=check)

    def queue(self):
        """The rows of `dma-queue list --json`."""
        return json.loads(self.program("dma-queue", "list", "--json", check=0).stdout)

    def files(self, part="queue"):
        try:
            return sorted(os.listdir(self.spool / part))
        except FileNotFoundError:
            return []

    # ------------------------------------------------------------ owners

    def owners(self):
        """Those of this spool."""
        return owners_of(self.conf)

    def until(self, wish, seconds=20, what="it"):
        """Wait until `wish()` is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := wish():
                return found
            time.sleep(0.02)
        raise AssertionError(f"waited {seconds} s for {what}")

    def until_empty(self, seconds=20):
        return self.until(lambda: not self.files(), seconds, f"an empty queue, not {self.files()}") or True

    def until_no_owner(self, seconds=10):
        return self.until(lambda: not self.owners(), seconds, "the owner to leave")

    def close(self):
        """End what this agent left behind, an owner that is only just being started included: until it is, it has the
        environment of whoever starts it."""
        quiet = 0
        while quiet < 2:
            found = self._left_behind()
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            quiet = 0 if found else quiet + 1

    def _left_behind(self):
        line, variable = str(self.conf).encode(), f"DMA_CONF={self.conf}\0".encode()
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            process = pathlib.Path("/proc", name)
            try:
                if process.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    continue  # dead, and its parent's business
                mine = line in process.joinpath("cmdline").read_bytes() or variable in process.joinpath("environ").read_bytes()
            except OSError:
                continue
            if mine:
                found.append(int(name))
        return found
