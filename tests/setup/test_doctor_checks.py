"""Doctor's findings one by one: aliases, names, owners, what a password is exposed to; and that every command can be typed."""

import ast
import os
import pathlib
import socket
from dataclasses import replace
from types import SimpleNamespace

import pytest
from patients import only, patient
from provisioning import Machine, home_place

from dma_setup import doctor, present
from dma_setup import place as places
from dma_setup.checkup import configuration, files, machine, names
from dma_setup.checkup.finding import FAIL, OK, WARN
from dma_setup.errors import SetupError


@pytest.mark.parametrize(
    ("text", "severity", "says"),
    [
        ("root: alice@example.org\n", OK, "root's mail goes to alice@example.org"),
        ("root: ops\nops: a@x.example, b@x.example\n", OK, "root's mail goes to a@x.example, b@x.example"),
        ("root: root, me@x.example\n", OK, "root's mail goes to root, me@x.example"),
        ("root: |/usr/bin/filter\n", OK, "root's mail goes to /|/usr/bin/filter"),
        ("root: bob\n", FAIL, "root's mail goes to bob, whom nobody here is"),
        ("root: ops\nops: root2\n", FAIL, "root's mail goes to root2, whom nobody here is"),
        ("root: a\na: b\nb: a\n", FAIL, "whom nobody here is"),
        ("root: alice\n", OK, "root's mail goes to alice"),
    ],
)
def test_where_roots_mail_ends(tmp_path, text, severity, says):
    one = patient(tmp_path, system=True)
    etc = pathlib.Path(one.place.at("/etc"))
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n")
    (etc / "aliases").write_text(text)
    found = only(configuration.root(one))
    assert found.severity == severity, found.text
    assert says in found.text
    assert bool(found.command) == (severity == FAIL)


def test_a_line_of_the_aliases_that_counts_for_nothing(tmp_path):
    one = patient(tmp_path, system=True)
    pathlib.Path(one.place.at("/etc/aliases")).write_text("root: a@x.example\nno colon here\n")
    found = list(configuration.root(one))
    assert [(each.check, each.severity) for each in found] == [("aliases", WARN), ("root", OK)]
    assert found[0].evidence.startswith("/etc/aliases:2: ")


LOGIN = "SMARTHOST relay.example.org\nSECURETRANSFER\n"


@pytest.mark.parametrize(("key", "severity"), [("INSECURE", FAIL), ("UNVERIFIEDCERT", WARN)])
def test_a_password_that_others_may_read_on_its_way(tmp_path, key, severity):
    auth = "a|relay.example.org:x\n"
    found = only(configuration.in_the_clear(patient(tmp_path / "a", LOGIN + key + "\n", auth=auth)))
    assert (found.check, found.severity, found.evidence) == ("tls", severity, f"~/.config/dma/dma.conf:4: {key}")
    assert list(configuration.in_the_clear(patient(tmp_path / "b", LOGIN + key + "\n"))) == [], "there is no password"
    assert list(configuration.in_the_clear(patient(tmp_path / "c", LOGIN, auth=auth))) == []


def test_a_name_that_cannot_be_found(tmp_path, monkeypatch):
    def lookup(host, *_, **__):
        if host == "gone.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(2, 1, 6, "", ("192.0.2.1", 0)), (2, 1, 6, "", ("192.0.2.2", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(names, "resolvers", lambda: ["192.0.2.53"])
    good = only(names.check(patient(tmp_path / "a", online=True)))
    assert (good.severity, good.text) == (OK, "relay.example.org is found: 2 addresses")
    bad = only(names.check(patient(tmp_path / "b", "SMARTHOST gone.example\n", online=True)))
    assert (bad.severity, bad.text) == (FAIL, "gone.example cannot be found: mail to it waits")
    assert bad.evidence == "Temporary failure in name resolution; resolvers: 192.0.2.53"
    monkeypatch.setattr(names, "mail_exchangers", lambda domain: None)
    direct = only(names.check(patient(tmp_path / "c", "MASQUERADE a@x.example\n", online=True)))
    assert (direct.severity, direct.check) == (FAIL, "dns")
    assert list(names.check(patient(tmp_path / "d"))) == [], "offline"
    monkeypatch.setattr(names, "SLOW", -1.0)
    slow = only(names.check(patient(tmp_path / "e", online=True)))
    assert (slow.severity, slow.evidence) == (WARN, "resolvers: 192.0.2.53")


def test_a_queue_of_somebody_elses(tmp_path):
    if os.getuid() != 0:
        pytest.skip("needs root: to give a directory away")
    one = patient(tmp_path)
    os.chown(one.spool, 65534, 65534)
    found = only(files.permissions(one))
    assert (found.severity, found.evidence) == (FAIL, "uid 65534")
    assert found.command == f"sudo chown -R root {one.spool}"


def test_what_the_place_of_the_password_is_good_for(tmp_path):
    one = patient(tmp_path, auth="alice|relay.example.org:file:/home/alice/pw\n")
    found = only(files.where_it_is_kept(one))
    assert (found.severity, found.check) == (OK, "secret-store")
    assert "only you can read" in found.text


def test_what_mends_it_is_the_recipe_with_its_answers(tmp_path):
    one = patient(tmp_path)
    assert one.again() == "dma-setup RECIPE --user    # dma-setup list shows the recipes"
    for name, when in (("gmail", 100), ("smarthost", 200)):
        path = pathlib.Path(one.place.config, f"answers.{name}.yml")
        path.write_text("")
        os.utime(path, (when, when))
    assert one.again() == "dma-setup smarthost --user --answers ~/.config/dma/answers.smarthost.yml"


def test_a_relay_on_this_machine_is_the_bridge_only_when_that_was_chosen(tmp_path):
    """`dma-setup test` said that Proton Bridge took what any smarthost 127.0.0.1 had taken."""
    one = patient(tmp_path, "SMARTHOST 127.0.0.1\nPORT 2525\n")
    names = []
    for name, when in (("smarthost", 100), ("proton-bridge", 200), ("smarthost", 300)):
        path = pathlib.Path(one.place.config, f"answers.{name}.yml")
        path.write_text("")
        os.utime(path, (when, when))
        names.append(present.read(one.place, one.system).who)
    assert names == ["", "Proton Bridge", ""]


def test_the_machine_is_set_up_but_not_this_person(tmp_path, monkeypatch):
    """Who types `dma-setup doctor` without sudo on such a machine is told so."""
    elsewhere = tmp_path / "dma.conf"
    monkeypatch.setattr(present, "SYSTEM_CONF", str(elsewhere))
    with pytest.raises(SetupError, match="nothing is set up here") as problem:
        present.read(home_place(tmp_path / "home"), Machine())
    assert problem.value.details == []
    elsewhere.write_text("")
    with pytest.raises(SetupError) as problem:
        present.read(home_place(tmp_path / "home"), Machine())
    assert problem.value.details == ["  This machine is set up as a whole; that is seen as root: sudo, or --system."]
    assert present.SYSTEM_CONF
    assert places.for_system().dma_conf == "/etc/dma/dma.conf"


COMMANDS = ("cat", "chmod", "df", "dig", "dma-queue", "docker", "echo", "export", "getent", "hostname", "journalctl", "loginctl")
COMMANDS += ("ls", "openssl", "rm", "sudo")


def test_every_command_can_be_typed():
    """What stands behind `->` is for a shell: no bare prose; what is said to it stands behind `#`."""
    folder = pathlib.Path(doctor.__file__).parent / "checkup"
    seen = 0
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Diagnosis" and len(node.args) == 5):
                continue
            command = node.args[4]
            first = command.values[0] if isinstance(command, ast.JoinedStr) else command
            if isinstance(first, ast.Constant) and first.value:
                assert first.value.split()[0] in COMMANDS, f"{path.name}:{node.lineno}: {first.value}"
            seen += 1
    assert seen > 25


# ---------------------------------------------------------------- the first week


DENIED = 'audit: type=1400 apparmor="DENIED" operation="exec" profile="/usr/sbin/cupsd" name="/usr/local/lib/dma/dma"\n'


def on_systemd(monkeypatch):
    monkeypatch.setattr(machine, "_systemd", lambda patient: True)


def live(one):
    """The patient as if its tree were the running machine."""
    return replace(one, place=places.for_system())


def test_apparmor_keeps_a_program_from_sending(tmp_path, monkeypatch):
    on_systemd(monkeypatch)
    one = live(patient(tmp_path, system=True, said={"journalctl -k": DENIED}))
    found = only(machine.confined(one))
    assert (found.check, found.severity, found.evidence) == ("apparmor", WARN, DENIED.strip())
    assert found.command.startswith("sudo aa-logprof")
    assert list(machine.confined(live(patient(tmp_path / "b", system=True)))) == []


@pytest.mark.parametrize(
    ("label", "checks"),
    [("system_u:object_r:user_home_t:s0", ["selinux", "selinux"]), ("system_u:object_r:bin_t:s0", ["selinux"]), ("", ["selinux"])],
)
def test_selinux(tmp_path, monkeypatch, label, checks):
    monkeypatch.setattr(os, "getxattr", lambda path, name: label.encode() + b"\0", raising=False)
    one = patient(tmp_path, system=True, said={"getsebool httpd_can_sendmail": "httpd_can_sendmail --> off\n"})
    found = list(machine._selinux(one))
    assert [each.check for each in found] == checks
    assert found[-1].command == "sudo setsebool -P httpd_can_sendmail on"
    if len(found) == 2:
        assert (found[0].evidence, found[0].command) == (label, "sudo restorecon -v /usr/local/lib/dma/dma")


@pytest.mark.parametrize(
    ("systemd", "said", "linger", "severity", "evidence", "command"),
    [
        (True, {"systemctl --user is-active": "active\n"}, True, OK, "", ""),
        (True, {"systemctl --user is-active": "active\n"}, False, WARN, "lingering is off", "loginctl enable-linger"),
        (True, {"systemctl --user is-active": "inactive\n"}, True, WARN, "dma-queue.timer: not active", "dma-setup RECIPE --user"),
        (False, {"crontab -l": "*/15 * * * * HOME/.local/lib/dma/dma-queue run --due\n"}, False, OK, "", ""),
        (False, {"crontab -l": "\n"}, False, WARN, "there is no line for it in your crontab", "dma-setup RECIPE --user"),
        (None, {}, False, WARN, "there is neither systemd --user nor crontab", "sudo apt install cron"),
    ],
)
def test_what_wakes_the_queue(tmp_path, monkeypatch, systemd, said, linger, severity, evidence, command):
    one = patient(tmp_path, said={start: text.replace("HOME", str(tmp_path / "home")) for start, text in said.items()})
    monkeypatch.setattr(machine, "systemd_user", lambda place: bool(systemd))
    monkeypatch.setattr(machine.shutil, "which", lambda name: None if systemd is None else f"/usr/bin/{name}")
    real = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: linger if "linger" in str(path) else real(path))
    found = only(machine.waking(one))
    assert (found.severity, found.evidence) == (severity, evidence)
    assert found.command.startswith(command)
    assert bool(found.command) == bool(command)


def test_port_25_is_blocked(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "mail_exchangers", lambda domain: ["mx1.x.example", "mx2.x.example"])
    tried = []

    def connect(address, seconds):
        tried.append(address)
        raise TimeoutError("timed out")

    monkeypatch.setattr(machine.socket, "create_connection", connect)
    one = patient(tmp_path, "MASQUERADE a@x.example\n", online=True)
    found = only(machine.port_25(one))
    assert (found.severity, found.evidence) == (FAIL, "mx2.x.example:25: timed out")
    assert found.command.startswith("dma-setup smarthost --user")
    assert tried == [("mx1.x.example", 25), ("mx2.x.example", 25)]
    monkeypatch.setattr(machine.socket, "create_connection", lambda address, seconds: socket.socket())
    assert only(machine.port_25(one)).severity == OK
    assert list(machine.port_25(patient(tmp_path / "b", online=True))) == [], "a relay is used"


def test_a_read_only_usr(tmp_path, monkeypatch):
    one = live(patient(tmp_path, system=True))
    for flags, severity in ((os.ST_RDONLY, WARN), (0, None)):
        monkeypatch.setattr(os, "statvfs", lambda path, flags=flags: SimpleNamespace(f_flag=flags))
        found = list(machine.read_only(one))
        assert [each.severity for each in found] == ([severity] if severity else [])


def test_a_daemon_of_before_an_upgrade(tmp_path, monkeypatch):
    on_systemd(monkeypatch)
    monkeypatch.setattr(machine.service, "outdated", lambda system, library: library == "/opt/lib")
    monkeypatch.setattr(machine.reader, "library", lambda place, system: ("/usr/bin/python3", "/opt/lib"))
    found = only(machine.waking(live(patient(tmp_path, system=True, said={"systemctl is-active": "active\n"}))))
    assert (found.severity, found.command) == (WARN, "sudo systemctl restart dma.service")


def test_what_listens_where_there_is_no_systemd(tmp_path, monkeypatch):
    """A supervisor was to run them; nobody looks whether it does but doctor."""
    monkeypatch.setattr(machine, "_systemd", lambda patient: False)
    one = live(patient(tmp_path, f"SOCKET {tmp_path}/submit.sock\n", system=True))
    found = only(machine.waking(one))
    assert (found.check, found.severity) == ("units", FAIL)
    assert found.command.startswith("sudo /usr/local/lib/dma/dmad ")
    doors = {}
    for name, severity in (("submit.sock", WARN), ("mailbox.sock", OK)):
        doors[name] = socket.socket(socket.AF_UNIX)
        doors[name].bind(f"{tmp_path}/{name}")
        assert only(machine.waking(one)).severity != severity, "a file is not enough"
        doors[name].listen()
        found = only(machine.waking(one))
        assert found.severity == severity
        if severity == WARN:
            assert found.command.startswith(f"sudo /usr/local/lib/dma/dma-mailbox --listen {tmp_path}/mailbox.sock ")
    for door in doors.values():
        door.close()


def test_units_that_do_not_run(tmp_path, monkeypatch):
    on_systemd(monkeypatch)
    states = {"systemctl is-active dma.socket": "active\n", "systemctl is-active dma-secret.socket": "inactive\n",
              "systemctl is-active dma-mailbox.socket": "active\n", "systemctl is-active dma.service": "failed\n"}  # fmt: skip
    found = list(machine.waking(live(patient(tmp_path, system=True, said=states))))
    assert [(each.check, each.severity, each.command) for each in found] == [
        ("units", FAIL, "sudo systemctl enable --now dma-secret.socket"),
        ("units", FAIL, "journalctl -u dma.service -n 30"),
    ]
