"""The yardstick: the least a Python program can do. Not a mail agent, it forgets on a crash and understands no refusal.

Submit: the file calls of a birth in our spool, in a script for a bare interpreter. Drain: a directory of messages over a few
connections, RFC 2920 groups, each file unlinked behind its 250.
"""

import os
import subprocess

from tests.bench import place

SUBMIT = """
import os
data = b""
while more := os.read(0, 131072):
    data += more
fd = os.open("SPOOL", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
os.fchmod(fd, 0o600)
os.pwrite(fd, b"x" * 511 + b"\\n" + data, 0)
os.fsync(fd)
directory = os.open("SPOOL", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
os.link(f"/proc/self/fd/{fd}", "SPOOL/Q" + os.urandom(8).hex(), src_dir_fd=fd)
os.fsync(directory)
os._exit(0)
"""


class Raw:
    name = "bare Python"

    def __init__(self, where, connections=4):
        self.where = where
        self.connections = connections
        self.spool = where.path / "raw"
        self.spool.mkdir(exist_ok=True)
        self.script = where.path / "submit.py"
        self.script.write_text(SUBMIT.replace("SPOOL", str(self.spool)))
        self.port = 0

    def missing(self):
        return ""

    def setup(self, port):
        self.port = port
        for name in os.listdir(self.spool):
            os.unlink(self.spool / name)

    def fill(self, count, size):
        text = place.text(size)
        for number in range(count):
            (self.spool / f"Q{number:06}").write_bytes(text)

    def ready(self):
        pass

    def drain(self):
        words = [place.PYTHON, "-IS", str(place.HERE / "client.py"), str(self.port), str(self.spool), str(self.connections)]
        self._process = subprocess.Popen(words, env={"PATH": "/bin"})

    def left(self):
        return len(os.listdir(self.spool))

    def submit(self, count, size):
        return place.start([place.PYTHON, "-IS", str(self.script)], count, stdin=self.where.message(size))

    def stop(self):
        pass
