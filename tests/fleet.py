"""A fleet for the Ansible collection: each host is a tree of its own (`dma-setup --root`), reached locally or over ssh.

    fleet = Fleet(tmp_path, {"web0": {…}, "web1": {}})
    found = fleet.play("--check")        # host -> (kind, result of the task); the real ansible-playbook
    with Sshd(tmp_path) as sshd: fleet.over_ssh(sshd)

What runs as `dma-setup` on the hosts is a witness: it notes its arguments and the names in its environment, then becomes
the real program. A tree holds what is kept by name: nothing of this machine is touched.
"""

import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import time

import pytest

BIN = pathlib.Path(sys.executable).parent
COLLECTION = pathlib.Path(__file__).resolve().parents[1] / "ansible"
TASK = "Set up how the machine sends mail"

PLAY = """\
- hosts: all
  gather_facts: false
  roles:
    - role: dma.mail.mail
      vars:
        mail_root: "{{ tree }}"
        mail_secrets: "{{ hidden }}"
"""

# Each result of a task as one line of JSON, whatever the version of Ansible prints by itself; in a file, for what the forks
# print goes in between.
RECORDER = """\
import json, os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "stdout", "record"

    def _say(self, kind, result):
        host, task = result._host.get_name(), result._task.get_name()
        self._write({"kind": kind, "host": host, "task": task, "result": result._result})

    def _write(self, said):
        with open(os.environ["RECORD"], "a") as file:
            file.write(json.dumps(said, default=str) + "\\n")

    def v2_runner_on_ok(self, result):
        self._say("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._say("failed", result)

    def v2_runner_on_unreachable(self, result):
        self._say("unreachable", result)

    def v2_playbook_on_stats(self, stats):
        self._write({"recap": {host: stats.summarize(host) for host in sorted(stats.processed)}})
"""

WITNESS = """\
#!{python}
import json, os, sys
with open({notes!r}, "a") as file:
    print(json.dumps([sys.argv[1:], sorted(os.environ)]), file=file)
os.execv({program!r}, [{program!r}, *sys.argv[1:]])
"""


def needed(program="ansible-playbook"):
    if not (BIN / program).exists():
        pytest.skip(f"needs {program}: python tests/install_groups.py test")


def environment(folder):
    """For Ansible's programs: nothing of the person who runs the tests."""
    return {
        "HOME": str(folder),
        "PATH": f"{BIN}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(folder),
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
    }


def collection(folder, *, copied=False):
    """The collection where Ansible looks for it below `folder`."""
    place = folder / "ansible_collections/dma/mail"
    place.parent.mkdir(parents=True)
    if copied:
        shutil.copytree(COLLECTION, place)
    else:
        place.symlink_to(COLLECTION)
    return place


class Fleet:
    """`hosts`: name -> its variables. `everywhere`: variables of all."""

    def __init__(self, folder, hosts, **everywhere):
        needed()
        self.folder = folder
        collection(folder)
        (folder / "plugins").mkdir()
        (folder / "plugins/record.py").write_text(RECORDER)
        (folder / "site.yml").write_text(PLAY)
        self.notes = folder / "notes.jsonl"
        witness = folder / "witness"
        witness.write_text(WITNESS.format(python=sys.executable, notes=str(self.notes), program=str(BIN / "dma-setup")))
        witness.chmod(0o755)
        self.hosts = {name: {"tree": str(self._tree(name)), **more} for name, more in hosts.items()}
        self.everywhere = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "mail_executable": str(witness),
            **everywhere,
        }
        self.more_environment = {}
        self.forks = len(hosts)
        self.seconds = 110
        self.recap = {}
        self.output = ""

    def _tree(self, name):
        tree = self.folder / "trees" / name
        (tree / "etc").mkdir(parents=True)
        (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (tree / "etc/group").write_text("root:x:0:\nmail:x:8:\n")
        return tree

    def tree(self, name):
        return self.folder / "trees" / name

    def over_ssh(self, sshd):
        self.everywhere |= {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": sshd.port,
            "ansible_user": pwd.getpwuid(os.getuid()).pw_name,
            "ansible_ssh_private_key_file": str(sshd.key),
            "ansible_ssh_args": f"-F /dev/null -o UserKnownHostsFile={sshd.known} -o StrictHostKeyChecking=yes"
            " -o IdentitiesOnly=yes -o IdentityAgent=none -o ControlMaster=no",
        }

    def play(self, *words):
        """host -> (kind, result) of the module's task."""
        inventory = self.folder / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": self.hosts, "vars": self.everywhere}}))
        command = [str(BIN / "ansible-playbook"), "-i", str(inventory), str(self.folder / "site.yml"), "-vvv"]
        record = self.folder / "record.jsonl"
        record.write_text("")
        more = {"RECORD": str(record), "ANSIBLE_STDOUT_CALLBACK": "record"}
        more["ANSIBLE_CALLBACK_PLUGINS"] = str(self.folder / "plugins")
        done = subprocess.run(
            [*command, "-f", str(self.forks), *words],
            capture_output=True,
            text=True,
            env={**environment(self.folder), **more, **self.more_environment},
            timeout=self.seconds,
            cwd=self.folder,
        )
        self.output = done.stdout + done.stderr
        said = [json.loads(line) for line in record.read_text().splitlines()]
        self.recap = next((one["recap"] for one in said if "recap" in one), {})
        found = {one["host"]: (one["kind"], one["result"]) for one in said if one.get("task", "").endswith(TASK)}
        assert set(found) == set(self.hosts), self.output
        return found

    def changed(self, found):
        return {host: result.get("changed") if kind == "ok" else kind for host, (kind, result) in sorted(found.items())}

    def seen(self):
        """(arguments, names in the environment) of each run of the program on a host."""
        return [json.loads(line) for line in self.notes.read_text().splitlines()] if self.notes.exists() else []

    def files(self):
        return sorted(path for path in (self.folder / "trees").rglob("*") if path.is_file())

    def holders(self, secret):
        """The files of the whole fleet, temporary ones included, that hold the secret; not those of this test itself."""
        ours = {self.folder / "hosts.json"}
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and not path.is_symlink() and path not in ours and secret.encode() in path.read_bytes()
        )


class Sshd:
    """A private sshd on loopback with keys and a configuration of its own, for whoever runs the tests."""

    def __init__(self, folder):
        for program, package in (("/usr/sbin/sshd", "openssh-server"), ("/usr/bin/ssh", "openssh-client")):
            if not os.path.exists(program):
                pytest.skip(f"needs {program}: apt install {package}")
        if os.getuid() != 0:
            pytest.skip("needs root: sshd opens a session with the rights of its user")
        self.folder = folder / "sshd"
        self.folder.mkdir()
        self.key, self.known = self.folder / "key", self.folder / "known"
        self.process = None

    def __enter__(self):
        for name in ("host", "key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(words, check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.made = not os.path.isdir("/run/sshd")
        if self.made:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # compiled in: where the unprivileged half lives
        allowed = self.folder / "allowed"
        allowed.write_text((self.folder / "key.pub").read_text())
        allowed.chmod(0o600)
        self.known.write_text(f"[127.0.0.1]:{self.port} " + (self.folder / "host.pub").read_text())
        (self.folder / "config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.folder}/host\nAuthorizedKeysFile {allowed}\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nPrintMotd no\nPrintLastLog no\nMaxStartups 100\n"
        )
        log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "config")], stderr=log)
        log.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise AssertionError((self.folder / "log").read_text())

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait(10)
        if self.made:
            try:
                os.rmdir("/run/sshd")
            except OSError:
                pass  # another one needs it
