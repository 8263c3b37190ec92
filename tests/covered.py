"""An agent's programs run with a /var/mail and a home of the test's own, in a mount namespace.

covered = Covered(agent, tmp_path)          # skips the test, loudly, where that is not possible
covered.run("-D", "root", text=b"...")
covered.mailbox("root")                     # what lies in /var/mail/root
covered.home / ".forward"
"""

import os
import subprocess

import pytest
from agent import BIN, MESSAGE

COVER = 'mount --bind "$0" /var/mail && exec "$@"'


class Covered:
    def __init__(self, agent, directory):
        if os.geteuid() != 0:
            pytest.skip("needs root: /var/mail is covered by one of the test's own")
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            pytest.skip("needs the right to make a mount namespace")
        self.drop = directory / "drop"
        self.home = directory / "home"
        for place in (self.drop, self.home):
            place.mkdir()
        self.environment = agent.environment | {"HOME": str(self.home)}
        self.words = ["unshare", "-m", "sh", "-c", COVER, str(self.drop)]

    def run(self, *words, text=MESSAGE, program="dma", check=0):
        ran = subprocess.run(
            [*self.words, str(BIN / program), *words], input=text, env=self.environment, capture_output=True, timeout=60
        )
        assert b"Traceback" not in ran.stderr, ran.stderr.decode()
        assert ran.returncode == check, (ran.returncode, ran.stderr.decode())
        return ran

    def mailbox(self, name):
        try:
            return (self.drop / name).read_bytes()
        except FileNotFoundError:
            return b""
