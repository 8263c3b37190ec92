"""The sendmail program as it is installed: a launcher run by the isolated interpreter, with a configuration of its own.

mail = Sendmail(tmp_path)
ran = mail.run("-bq", "a@b", stdin=b"hello")      # subprocess.CompletedProcess
mail.stored()                                     # [(envelope, message bytes)], oldest first
"""

import os
import pathlib
import pty
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What `dma-setup` installs: no site directory, nothing of the caller's environment.
PYTHON = "/usr/bin/python3" if sys.prefix == sys.base_prefix or os.path.exists("/usr/bin/python3") else sys.executable
LAUNCHER = """#!{python} -IS
import sys
sys.path.insert(0, {library!r})
from dma_runtime.cmd.sendmail import main
sys.exit(main())
"""


class Sendmail:
    def __init__(self, directory, conf="SMARTHOST relay.invalid\n", aliases=None):
        self.directory = pathlib.Path(directory)
        self.spool = self.directory / "spool"
        self.conf = self.directory / "dma.conf"
        self.aliases = self.directory / "aliases"
        self.program = self.launcher("sendmail")
        self.environment = {"PATH": "/usr/bin:/bin", "DMA_CONF": str(self.conf), "HOME": str(self.directory), "DMA_HANDED_ON": "1"}
        self.configure(conf)
        if aliases is not None:
            self.aliases.write_text(aliases)

    def launcher(self, name):
        path = self.directory / name
        path.write_text(LAUNCHER.format(python=PYTHON, library=str(ROOT)))
        path.chmod(0o755)
        return path

    def configure(self, conf):
        self.conf.write_text(f"MAILNAME here.test\nSPOOLDIR {self.spool}\nALIASES {self.aliases}\n{conf}")

    def run(self, *words, stdin=b"", program=None, timeout=60, **keywords):
        ran = subprocess.run(
            [str(program or self.program), *words],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            env=self.environment,
            **keywords,
        )
        assert b"Traceback" not in ran.stderr, ran.stderr.decode()
        assert b"internal error" not in ran.stderr, ran.stderr.decode()
        return ran

    def refused(self, status, text, *words, stdin=b"Subject: s\n\nx\n", **keywords):
        """The run ends with one line on standard error that holds `text`, and nothing is queued."""
        ran = self.run(*words, stdin=stdin, **keywords)
        lines = ran.stderr.decode().splitlines()
        assert (ran.returncode, ran.stdout) == (status, b""), ran
        assert len(lines) == 1, lines
        assert lines[0].startswith("sendmail: ")
        assert text in lines[0]
        assert self.stored() == []

    def accepted(self, *words, stdin=b"Subject: s\n\nx\n", **keywords):
        """Queue one message; gives (envelope, message)."""
        before = self.ids()
        ran = self.run("-bq", *words, stdin=stdin, **keywords)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b""), ran
        (born,) = [found for found in self.ids() if found not in before]
        return self.read(born)

    def on_terminal(self, *words, stdin=b"", **keywords):
        """Run with standard error on a terminal; gives (status, what the terminal showed)."""
        ours, theirs = pty.openpty()
        try:
            ran = subprocess.run(
                [str(self.program), *words],
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=theirs,
                env=self.environment,
                **keywords,
            )
            os.close(theirs)
            shown = b""
            while True:
                try:
                    data = os.read(ours, 65536)
                except OSError:
                    break
                if not data:
                    break
                shown += data
        finally:
            os.close(ours)
        return ran.returncode, shown.decode()

    def ids(self):
        try:
            return sorted(os.listdir(self.spool / "queue"))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name):
        from dma_runtime.system.spool import Spool

        stored = Spool(str(self.spool)).open(name)
        try:
            return stored.envelope, stored.pread(stored.size, 0)
        finally:
            stored.close()

    def stored(self):
        return [self.read(name) for name in self.ids()]
