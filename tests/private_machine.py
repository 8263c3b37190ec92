"""A machine-id and a host key of one's own: code that runs systemd-creds never sees those of this machine.

`PrivateMachine(tmp_path).run(CODE)` runs Python in a mount namespace with a temporary /var/lib/systemd and /etc/machine-id.
systemd-creds deletes the host key when the machine-id has changed, so nothing may ever run it with another one in place.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

_ENTER = """\
mount --make-rprivate / && mount --bind "$1/systemd" /var/lib/systemd &&
mount --bind "$1/machine-id" /etc/machine-id || exit 99
shift
exec "$@"
"""


def needed():
    if os.getuid() != 0:
        pytest.skip("needs root: a mount namespace with a machine-id of its own")
    for program, package in (("systemd-creds", "systemd"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt install {package}")
    if not os.path.isfile("/etc/machine-id") or not os.path.isdir("/var/lib/systemd"):
        pytest.skip("needs /etc/machine-id and /var/lib/systemd, to be covered by temporary ones")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the privilege to make a mount namespace")


class PrivateMachine:
    def __init__(self, folder):
        needed()
        self.folder = folder / "machine"
        self.machine_id = self.folder / "machine-id"
        self.state = self.folder / "systemd"
        self.credentials = self.folder / "credentials"
        self.state.mkdir(parents=True)
        self.become_another()

    def become_another(self):
        """What cloning a machine does."""
        before = self.machine_id.read_text() if self.machine_id.exists() else ""
        with open(self.machine_id, "w") as file:  # in place: it may be mounted
            file.write(uuid.uuid4().hex + "\n")
        return before

    def command(self, *words, given=""):
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self.folder), *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}", "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
            cwd=self.folder,
        )
        assert done.returncode != 99, done.stderr
        return done

    def run(self, code, *arguments):
        """The output of Python code, which finds `store` and `keyring` of this machine."""
        head = (
            "import sys\n"
            f"sys.path.insert(0, {str(ROOT)!r})\n"
            "from dma_runtime.system.credentials import Store, Unusable\n"
            f"store = Store({str(self.credentials)!r})\n"
        )
        done = self.command(sys.executable, "-c", head + code, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout
