"""The Ansible collection with the real ansible-playbook, several hosts at once, locally and over ssh.

First run changes, second changes nothing, check mode writes nothing, one failing host leaves the others done, and no
secret is in an argument, a file or anything that is printed.
"""

import json
import subprocess

import fleet as fleets
import pytest
from mail_server import MailServer

SECRET = "horse-battery-staple"
RECIPE = {"mail_recipe": "smarthost"}


@pytest.fixture(scope="module")
def server():
    with MailServer(tls="starttls", users={"web": SECRET}) as server:
        yield server


@pytest.fixture
def make(tmp_path, server):
    def make(hosts, **more):
        answers = {
            "host": f"localhost:{server.port}",
            "fingerprint": server.fingerprint,
            "login": "web",
            "sender": "web@example.org",
            "keyring": "file",
            "root_mail": "ops@example.org",
        }
        everywhere = {**RECIPE, "mail_answers": answers, "hidden": {"password": SECRET}}
        return fleets.Fleet(tmp_path, hosts, **everywhere, **more)

    return make


def test_a_fleet_from_check_to_done(make, server):
    fleet = make({"web0": {}, "web1": {"hidden": {"password": "wrong"}}, "web2": {}})
    before = fleet.files()

    checked = fleet.play("--check", "--diff")
    assert fleet.changed(checked) == {"web0": True, "web1": True, "web2": True}
    assert fleet.files() == before
    assert server.logins == []
    shown = "".join(part["prepared"] for part in checked["web0"][1]["diff"])
    assert "+SMARTHOST localhost" in shown
    assert "***" in shown
    assert SECRET not in fleet.output

    first = fleet.play()
    assert fleet.changed(first) == {"web0": True, "web1": "failed", "web2": True}
    failed = first["web1"][1]
    assert failed["msg"] == "dma-setup: signing in did not work; nothing was changed"
    assert list(fleet.tree("web1").rglob("dma.conf")) == []
    assert "SMARTHOST localhost" in (fleet.tree("web0") / "etc/dma/dma.conf").read_text()
    done = first["web0"][1]
    assert any(change["subject"] == "/etc/dma/dma.conf" for change in done["changes"])
    assert done["journal"]
    assert {host: (one["changed"], one["failures"]) for host, one in fleet.recap.items()} == {
        "web0": (1, 0),
        "web1": (0, 1),
        "web2": (1, 0),
    }
    assert SECRET not in fleet.output

    fleet.hosts["web1"]["hidden"] = {"password": SECRET}
    logins = len(server.logins)
    again = fleet.play("--diff")
    assert fleet.changed(again) == {"web0": False, "web1": True, "web2": False}
    assert (again["web0"][1]["changes"], again["web0"][1]["diff"]) == ([], [])
    assert "journal" not in again["web0"][1]
    assert server.logins[logins:] == [("web", True)], "where nothing is to change nobody signs in"
    assert SECRET not in fleet.output

    runs = fleet.seen()
    assert len(runs) == 9
    assert not any(SECRET in word or "wrong" in word for words, _ in runs for word in words)
    assert all("DMA_SETUP_SECRET_0" in names for _, names in runs)
    kept = [f"trees/web{number}/etc/dma/secrets/dma.localhost.web" for number in range(3)]
    assert fleet.holders(SECRET) == kept, "nowhere but where it belongs, temporary files included"


def test_over_ssh_with_several_hosts_at_once(make, tmp_path):
    with fleets.Sshd(tmp_path) as sshd:
        fleet = make({f"web{number}": {} for number in range(3)}, mail_verify=False)
        fleet.over_ssh(sshd)
        fleet.hosts["gone"] = {"tree": "/nonexistent", "ansible_port": 1}
        first = fleet.play()
        assert fleet.changed(first) == {"gone": "unreachable", "web0": True, "web1": True, "web2": True}
        second = fleet.play("--diff")
        assert fleet.changed(second) == {"gone": "unreachable", "web0": False, "web1": False, "web2": False}
        assert {fleet.recap[f"web{number}"]["changed"] for number in range(3)} == {0}
    assert SECRET not in fleet.output
    assert not any(SECRET in word for words, _ in fleet.seen() for word in words)
    assert len(fleet.holders(SECRET)) == 3


def test_another_password_is_a_change(make, server):
    """Rotated in the vault: the next run puts the new one in place, on each host by itself."""
    fleet = make({"web0": {}}, mail_verify=False)
    fleet.play()
    fleet.everywhere["hidden"] = {"password": "another horse"}
    assert fleet.changed(fleet.play()) == {"web0": True}
    assert "another horse" in (fleet.tree("web0") / "etc/dma/secrets/dma.localhost.web").read_text()
    assert "another horse" not in fleet.output
    there = fleet.folder / "on the host"
    there.write_text("another horse\n")
    there.chmod(0o600)
    fleet.everywhere["hidden"] = {"password": {"file": str(there)}}  # a reference is read by the host
    assert fleet.changed(fleet.play()) == {"web0": False}


WRONG = {
    "missing": ({"mail_recipe": "satellite", "mail_answers": {"host": "smtp.example.org"}}, "dma-setup: 1 answer is missing"),
    "option": ({"mail_recipe": "--version"}, "recipe must be the name of a recipe"),
    "recipe": ({"mail_recipe": "smarthots"}, "dma-setup: there is no recipe smarthots"),
    "program": ({"mail_executable": "dma-setup-nowhere"}, "dma-setup-nowhere is not installed on this host"),
    "path": ({"mail_executable": "/nowhere/dma-setup"}, "/nowhere/dma-setup is not installed on this host"),
    "twice": ({"hidden": {"password": SECRET, "login": "x"}}, "login stands in answers and in secrets"),
    "empty": ({"hidden": {"password": ""}}, "dma-setup: 1 answer is wrong"),
    "root": ({"tree": "/nonexistent"}, "there is no such directory"),
}


def test_what_is_wrong_is_said_in_one_sentence(make):
    fleet = make({name: variables for name, (variables, _) in WRONG.items()}, mail_verify=False)
    found = fleet.play()
    for name, (_, says) in WRONG.items():
        kind, result = found[name]
        assert (kind, says in result["msg"]) == ("failed", True), result
    assert any("domain" in line for line in found["missing"][1]["details"])
    assert "Traceback" not in fleet.output
    assert [path for path in fleet.files() if path.name == "dma.conf"] == []


def test_what_looks_odd_is_a_warning(make):
    """A password in `answers` instead of `secrets` works, and is told."""
    fleet = make({"web0": {"hidden": {}}}, mail_verify=False)
    fleet.everywhere["mail_answers"] = {**fleet.everywhere["mail_answers"], "password": "plainly here"}
    kind, result = fleet.play("--check")["web0"]
    assert (kind, result["changed"]) == ("ok", True)
    assert any("password stands in the answers in plain text" in warning for warning in result["warnings"])


# ---------------------------------------------------------------- the collection itself


def run(folder, *words, cwd=None, timeout=110):
    fleets.needed(words[0])
    command = [str(fleets.BIN / words[0]), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, env=fleets.environment(folder), timeout=timeout, cwd=cwd)


def test_ansible_doc_renders(tmp_path):
    fleets.collection(tmp_path)
    done = run(tmp_path, "ansible-doc", "-j", "dma.mail.dma_setup")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["dma.mail.dma_setup"]
    assert set(found["doc"]["options"]) == {"recipe", "answers", "secrets", "scope", "root", "verify", "test", "executable"}
    assert set(found["return"]) == {"changes", "right", "notes", "journal", "proof", "details"}
    page = run(tmp_path, "ansible-doc", "dma.mail.dma_setup")
    assert page.returncode == 0, page.stderr
    assert "C(dma-setup)" not in page.stdout  # the mark-up is understood
    assert "Runs `dma-setup' on the host with a recipe and its answers." in " ".join(page.stdout.split())
    role = run(tmp_path, "ansible-doc", "-t", "role", "-j", "dma.mail.mail")
    assert role.returncode == 0, role.stderr
    options = json.loads(role.stdout)["dma.mail.mail"]["entry_points"]["main"]["options"]
    defaults = (fleets.COLLECTION / "roles/mail/defaults/main.yml").read_text()
    assert set(options) == {line.partition(":")[0] for line in defaults.splitlines() if line.startswith("mail_")}


def test_ansible_lint_is_content_with_it_for_production(tmp_path):
    """A copy: ansible-lint leaves a cache where it works. A directory that is no git checkout is looked at whole."""
    place = fleets.collection(tmp_path, copied=True)
    done = run(tmp_path, "ansible-lint", "--offline", "--strict", "--profile", "production", "--nocolor", ".", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Passed: 0 failure(s), 0 warning(s)" in done.stdout + done.stderr


def test_it_can_be_built_and_installed(tmp_path):
    (tmp_path / "built").mkdir()
    done = run(tmp_path, "ansible-galaxy", "collection", "build", str(fleets.COLLECTION), "--output-path", str(tmp_path / "built"))
    assert done.returncode == 0, done.stderr
    (archive,) = (tmp_path / "built").iterdir()
    done = run(tmp_path, "ansible-galaxy", "collection", "install", "--offline", str(archive), "-p", str(tmp_path / "installed"))
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "installed/ansible_collections/dma/mail/plugins/modules/dma_setup.py").exists()
    assert not (tmp_path / "installed/ansible_collections/dma/mail/examples").exists()
