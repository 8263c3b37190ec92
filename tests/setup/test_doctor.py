"""`dma-setup doctor`: a healthy home, a sick one, and each finding by itself with its evidence and its command."""

import json
import os
import pathlib
import time

import golden_screen
import pytest
from mail_server import MailServer
from patients import only, patient
from provisioning import Machine, cut_off, home_place
from secret_service import end_all
from setup_home import PASSWORD, Home, relay

from dma_runtime.policy.telling import Notice
from dma_runtime.system import notice
from dma_setup import doctor, mounts
from dma_setup.checkup import configuration, files, journals, machine, queue, signin
from dma_setup.checkup.finding import FAIL, OK, WARN


@pytest.fixture(scope="module")
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        yield server


@pytest.fixture
def home(tmp_path):
    yield Home(tmp_path / "home")
    end_all(tmp_path / "home")


def set_up(home, server):
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--yes", "--no-test")
    assert done.returncode == 0, done.stdout + done.stderr


def screen(done, home, server):
    return golden_screen.settle(done.stdout + done.stderr, home=home.path, port=server.port)


def test_nothing_is_set_up(home):
    done = home.run("doctor", "--user")
    assert done.returncode == 1
    assert "nothing is set up here" in done.stderr


def test_a_healthy_home(home, server):
    set_up(home, server)
    done = home.run("doctor", "--user")
    assert done.returncode == 0, done.stdout
    golden_screen.same("doctor-healthy", screen(done, home, server))


def test_a_sick_home(home, server):
    set_up(home, server)
    config = home.path / ".config/dma"
    spool = home.path / ".local/state/dma/spool"
    (config / "secrets").chmod(0o755)
    (config / "dma.conf").write_text((config / "dma.conf").read_text() + "NOSUCHKEY 1\nRETRY soon\n")
    (home.path / ".local/bin/sendmail").unlink()
    (home.path / ".local/bin/sendmail").symlink_to("/bin/true")
    notice.raise_(str(spool), Notice("relay", "AUTH", "the relay refuses the sign-in", "dma-setup secret set", time.time() - 7200))
    done = home.run("doctor", "--user", "--offline")
    assert done.returncode == 1
    golden_screen.same("doctor-sick", screen(done, home, server))

    as_json = home.run("doctor", "--user", "--offline", "--json")
    document = json.loads(as_json.stdout)
    assert document["result"] == {"status": 1}
    found = {one["check"]: one for one in document["findings"] if one["severity"] == "fail"}
    assert set(found) == {"configuration", "permissions", "mailer", "notice"}
    assert all(one["command"] for one in found.values())
    assert found["permissions"]["command"] == f"chmod go-rwx {config}/secrets"
    assert PASSWORD not in as_json.stdout + done.stdout


def test_the_password_was_changed_elsewhere(home, server):
    set_up(home, server)
    (secret,) = (home.path / ".config/dma/secrets").iterdir()
    secret.write_text("an older one\n")
    done = home.run("doctor", "--user")
    assert done.returncode == 1
    golden_screen.same("doctor-refused", screen(done, home, server))
    secret.unlink()
    gone = home.run("doctor", "--user", "--offline")
    assert gone.returncode == 1
    assert "cannot be read" in gone.stdout
    assert "-> dma-setup secret set --user" in gone.stdout


def test_offline_asks_nobody(home, server):
    set_up(home, server)
    before = len(server.logins)
    assert home.run("doctor", "--user", "--offline").returncode == 0
    assert len(server.logins) == before


# ---------------------------------------------------------------- one by one


def test_a_password_in_auth_conf_itself(tmp_path):
    found = only(files.plain_passwords(patient(tmp_path, auth="alice|relay.example.org:secret\n")))
    assert (found.severity, found.check) == (WARN, "plain-password")
    assert found.command == "dma-setup secret set --keyring file --user"
    assert "secret" not in found.text + found.evidence


def test_no_login_for_a_port_where_one_signs_in(tmp_path):
    found = only(signin.check(patient(tmp_path)))
    assert (found.severity, found.check) == (WARN, "password")
    assert "no login for relay.example.org" in found.text


@pytest.mark.parametrize(("mode", "severity"), [(0o644, OK), (0o664, FAIL), (0o646, FAIL)])
def test_others_change_where_mail_goes(tmp_path, mode, severity):
    one = patient(tmp_path)
    pathlib.Path(one.place.dma_conf).chmod(mode)
    assert only(files.permissions(one)).severity == severity


@pytest.mark.parametrize(("hours", "severity"), [(1, OK), (23, OK), (25, FAIL)])
def test_old_mail_is_a_fault(tmp_path, hours, severity):
    from dma_runtime.envelope import Envelope, Recipient
    from dma_runtime.system.spool import Spool

    one = patient(tmp_path)
    spool = Spool(one.spool)
    spool.prepare(own_only=True)
    envelope = Envelope("", "a@b.example", [Recipient("c@d.example")], one.now - hours * 3600)
    draft = spool.draft(envelope)
    draft.write(b"Subject: x\n\nx\n")
    draft.commit(envelope)
    found = only(queue.waiting(one))
    assert found.severity == severity
    assert found.text.startswith("1 message waits in the queue, the oldest for ")


def test_a_clones_queue(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "machine_id", lambda: "this")
    one = patient(tmp_path)
    assert list(queue.machine(one)) == []
    pathlib.Path(one.spool, "owner").write_text("that\n")
    found = only(queue.machine(one))
    assert (found.severity, found.command) == (FAIL, "dma-queue adopt")
    pathlib.Path(one.spool, "owner").write_text("this\n")
    assert list(queue.machine(one)) == []


MOUNTS = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
30 21 0:40 / /tmp rw - tmpfs tmpfs rw
31 21 0:41 / /with\\040blank rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("path", "kind"), [("/tmp/x/spool", "tmpfs"), ("/tmpfile/spool", "ext4"), ("/var/spool/dma", "ext4"), ("/with blank/x", "xfs")]
)
def test_what_the_spool_lies_on(path, kind, monkeypatch, tmp_path):
    monkeypatch.setattr(os.path, "realpath", lambda path: path)
    monkeypatch.setattr(mounts, "TABLE", str(tmp_path / "mountinfo"))
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert mounts.file_system(path)[0] == kind


def test_a_spool_in_memory(tmp_path, monkeypatch):
    one = patient(tmp_path)
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "TABLE", str(table))
    table.write_text("1 1 0:1 / / rw - tmpfs tmpfs rw\n")
    assert only(queue.home(one)).severity == FAIL
    table.write_text("1 1 0:1 / / rw - overlay overlay rw\n")
    monkeypatch.setattr(queue, "in_container", lambda: True)
    assert only(queue.home(one)).severity == WARN
    table.write_text("1 1 0:1 / / rw - ext4 /dev/sda rw\n")
    assert list(queue.home(one)) == []


def test_nobody_reads_roots_mail(tmp_path):
    one = patient(tmp_path, system=True)
    etc = pathlib.Path(one.place.at("/etc"))
    assert only(configuration.root(one)).severity == WARN
    (etc / "aliases").write_text("postmaster: root\n")
    assert only(configuration.root(one)).evidence == "/etc/aliases has no line for root"
    (etc / "aliases").write_text("root: alice@example.org\n")
    assert only(configuration.root(one)).text == "root's mail goes to alice@example.org"


@pytest.mark.parametrize(("name", "says"), [("localhost", 1), ("localhost.localdomain", 1), ("box.example.org", 0), ("", 0)])
def test_a_mail_name_that_is_none(tmp_path, name, says):
    one = patient(tmp_path, system=True)
    pathlib.Path(one.place.at("/etc/mailname")).write_text(name + "\n")
    assert len(list(configuration.mailname(one))) == says


SERVICES = """\
Id=open.service
RestrictAddressFamilies=

Id=shut.service
RestrictAddressFamilies=AF_INET AF_INET6

Id=fine.service
RestrictAddressFamilies=AF_INET AF_UNIX

Id=denied.service
RestrictAddressFamilies=~AF_UNIX AF_NETLINK

Id=other.service
RestrictAddressFamilies=~AF_NETLINK
"""


def test_services_that_may_not_open_the_socket(tmp_path):
    found = list(machine.without_sockets(patient(tmp_path, said={"systemctl show": SERVICES})))
    assert [one.text.split()[0] for one in found] == ["shut.service", "denied.service"]
    assert "systemctl edit shut.service" in found[0].command


def test_a_clock_before_this_program_was_written(tmp_path):
    assert only(machine.clock(patient(tmp_path, now=0))).severity == FAIL


def test_what_undo_keeps_of_an_old_password(tmp_path):
    one = patient(tmp_path)
    folder = pathlib.Path(one.place.at(one.place.state), "2026-11-01T00-00-00")
    folder.mkdir(parents=True)
    begin = {"begin": {"version": 1, "recipe": "gmail", "mode": "user", "root": "", "at": 0}}
    lines = [begin, {"clear": "003.before"}, {"clear": "004.before"}, {"end": True}]
    (folder / "journal").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "003.before").write_text("alice|x:secret\n")
    found = only(journals.check(one))
    assert (found.severity, found.command) == (WARN, f"rm {folder}/003.before")
    (folder / "journal").write_text(json.dumps(begin) + "\n")
    assert list(journals.check(one)) == [], "it ended before its first change"
    cut_off(folder / "journal", tmp_path)
    assert only(journals.check(one)).command == "dma-setup undo --user"


def test_apply_says_which_old_file_holds_a_password(tmp_path):
    """What `doctor` finds is what `apply` wrote down."""
    from provisioning import SMARTHOST, plan

    from dma_setup import apply
    from dma_setup import journal as past

    home = tmp_path / "home"
    (home / ".config/dma").mkdir(parents=True)
    (home / ".config/dma/auth.conf").write_text("alice|relay.example.org:literally\n")
    place, one = home_place(home), Machine()
    applied = apply.journaled(plan("smarthost", SMARTHOST, place, one), place, "smarthost", one)
    assert applied.old_secrets
    assert past.past(place, one)[0].secret_files() == applied.old_secrets


# ---------------------------------------------------------------- the runner


def test_a_check_that_breaks_or_hangs_is_a_warning(tmp_path):
    def broken(_):
        raise RuntimeError("no")
        yield

    def hangs(_):
        time.sleep(5)
        yield

    found = doctor.examine(patient(tmp_path), {"a": broken, "b": hangs, "c": journals.check}, deadline=0.3)
    assert [(one.check, one.severity) for one in found] == [("a", WARN), ("b", WARN)]
    assert not doctor.sick(found)


def test_how_long_a_certificate_lives(tmp_path, monkeypatch):
    one = patient(tmp_path, online=True)
    for days, severity in ((100, OK), (13, WARN)):
        monkeypatch.setattr(signin, "_expires", lambda relay, days=days: one.now + days * 86400 + 60)
        found = only(signin.certificate(one))
        assert (found.severity, str(days) in found.text) == (severity, True)
