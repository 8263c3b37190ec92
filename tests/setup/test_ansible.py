"""The Ansible collection with the real ansible-playbook, several hosts at once; each host is a tree of its own.

First run changes, second changes nothing, check mode writes nothing, one failing host leaves the others done, and no
secret is in anything that is printed.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("ansible.cli", reason="needs ansible-core: pip install 'dma[ansible]'")
pytestmark = pytest.mark.optional(reason="ansible-core is an extra")

PROGRAM = pathlib.Path(sys.executable).parent / "dma-setup"
SECRET = "horse-battery-staple"

PLAY = """\
- hosts: all
  gather_facts: false
  roles:
    - role: dma.mail.mail
      vars:
        mail_executable: {program}
        mail_verify: false
        mail_root: "{{{{ tree }}}}"
        mail_secrets: {{password: "{{{{ relay_password }}}}"}}
"""


RECORDER = """\
import json
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "stdout", "record"

    def _say(self, kind, result):
        host, task = result._host.get_name(), result._task.get_name()
        print(json.dumps({"kind": kind, "host": host, "task": task, "result": result._result}, default=str))

    def v2_runner_on_ok(self, result):
        self._say("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._say("failed", result)
"""


@pytest.fixture
def fleet(tmp_path, repository):
    collections = tmp_path / "ansible_collections/dma"
    collections.mkdir(parents=True)
    (collections / "mail").symlink_to(repository / "ansible")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/record.py").write_text(RECORDER)
    (tmp_path / "site.yml").write_text(PLAY.format(program=PROGRAM))
    hosts = {}
    for number in range(3):
        tree = tmp_path / f"tree{number}"
        (tree / "etc").mkdir(parents=True)
        (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (tree / "etc/group").write_text("root:x:0:\nmail:x:8:\n")
        hosts[f"web{number}"] = {"tree": str(tree)}
    answers = {
        "host": "smtp.example.org:587",
        "login": "web",
        "sender": "web@example.org",
        "keyring": "file",
        "root_mail": "ops@example.org",
    }
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "mail_recipe": "smarthost",
        "mail_answers": answers,
        "relay_password": SECRET,
    }
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}))
    return tmp_path


def play(fleet, *words):
    environment = {
        "HOME": str(fleet),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if pathlib.Path(entry, "ansible/release.py").exists()),
        "ANSIBLE_COLLECTIONS_PATH": str(fleet),
        "ANSIBLE_STDOUT_CALLBACK": "record",
        "ANSIBLE_CALLBACK_PLUGINS": str(fleet / "plugins"),
        "ANSIBLE_LOCAL_TEMP": str(fleet / "local"),
        "ANSIBLE_REMOTE_TEMP": str(fleet / "remote"),
    }
    door = "from ansible.cli.playbook import main; main()"
    command = [sys.executable, "-c", door, "-i", str(fleet / "hosts.json"), str(fleet / "site.yml"), "-vvv", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=110, cwd=fleet)
    assert SECRET not in done.stdout + done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = {one["host"]: (one["kind"], one["result"]) for one in said if one["task"].endswith("Set up how the machine sends mail")}
    assert len(found) == 3, done.stdout + done.stderr
    return found


def changed(found):
    return {host: (kind, result.get("changed")) for host, (kind, result) in sorted(found.items())}


def written(fleet):
    return sorted(str(path.relative_to(fleet)) for path in fleet.glob("tree*/**/*") if path.is_file())


def test_first_run_second_run_check_mode_and_one_that_fails(fleet):
    before = written(fleet)
    checked = play(fleet, "--check", "--diff")
    assert changed(checked) == {"web0": ("ok", True), "web1": ("ok", True), "web2": ("ok", True)}
    assert written(fleet) == before
    shown = "".join(part["prepared"] for part in checked["web0"][1]["diff"])
    assert "+SMARTHOST smtp.example.org" in shown

    hosts = json.loads((fleet / "hosts.json").read_text())
    hosts["all"]["hosts"]["web1"]["mail_answers"] = {"host": "smtp.example.org", "login": "web"}
    hosts["all"]["hosts"]["web1"]["mail_recipe"] = "satellite"
    (fleet / "hosts.json").write_text(json.dumps(hosts))
    first = play(fleet)
    assert changed(first) == {"web0": ("ok", True), "web1": ("failed", False), "web2": ("ok", True)}
    failed = first["web1"][1]
    assert failed["msg"].startswith("dma-setup: ")
    assert any("domain" in line for line in failed["details"])
    assert not (fleet / "tree1/etc/dma").exists()
    assert "SMARTHOST smtp.example.org" in (fleet / "tree0/etc/dma/dma.conf").read_text()
    done = first["web0"][1]
    assert any(change["subject"] == "/etc/dma/dma.conf" for change in done["changes"])
    assert done["journal"]

    again = play(fleet)
    assert changed(again) == {"web0": ("ok", False), "web1": ("failed", False), "web2": ("ok", False)}
    assert again["web0"][1]["changes"] == []


def test_ansible_doc_renders(fleet):
    door = "from ansible.cli.doc import main; main()"
    environment = {"HOME": str(fleet), "PATH": "/usr/bin", "LANG": "C.UTF-8", "ANSIBLE_COLLECTIONS_PATH": str(fleet)}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if pathlib.Path(entry, "ansible/release.py").exists())
    command = [sys.executable, "-c", door, "-j", "dma.mail.dma_setup"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["dma.mail.dma_setup"]
    assert set(found["doc"]["options"]) == {"recipe", "answers", "secrets", "scope", "root", "verify", "test", "executable"}
    assert set(found["return"]) == {"changes", "right", "notes", "journal", "proof", "details"}
