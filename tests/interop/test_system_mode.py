"""`dma-setup --system` on a whole machine: Debian 12 with systemd, from nothing to mail and back."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import golden_screen
import pytest
from booted_machine import BootedMachine
from mail_server import MailServer
from setup_home import PASSWORD, relay
from system_room import QUEUE, difference, kill_daemon, mail, main_process, processes, set_up, subjects, wait_for, wait_until

pytestmark = pytest.mark.timeout(1200)  # debootstrap, the first time

SOCKETS = ("/run/dma/submit.sock", "/run/dma/secret.sock", "/run/dma/mailbox.sock", "/run/dma/command.sock")


@pytest.fixture
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        yield server


@pytest.fixture
def machine(tmp_path):
    machine = BootedMachine(tmp_path)
    with machine:
        machine.run("useradd", "--create-home", "--shell", "/bin/sh", "alice")
        yield machine


def test_a_machine_from_nothing_to_mail_and_back(machine, server):
    before = machine.snapshot()
    mask = os.umask(0o077)  # root's may be so, and every user is to read what setup makes
    try:
        done = set_up(machine, server)
    finally:
        os.umask(mask)
    assert "signed in as alice" in done.stdout
    wait_for(server, subjects(server)[:1])
    assert server.messages[0].login == "alice", "the password was decrypted by systemd for the daemon"
    assert server.messages[0].recipients == ["bob@example.org"], "root's alias"
    for unit in ("dma.socket", "dma.service", "dma-secret.socket", "dma-mailbox.socket", "dma-command.socket"):
        assert machine.run("systemctl", "is-active", unit).stdout.strip() == "active"
    again = machine.run("dma-setup", "smarthost", "--answers", "/etc/dma/answers.smarthost.yml", "--check", check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing to change" in again.stdout

    everybody_can_submit(machine, server)
    a_submission_comes_out_of_the_image(machine, server)
    nobody_gets_at_the_secret(machine)
    mail_stays_here(machine)
    nothing_is_lost_by_kill_9(machine, server)
    a_reboot_continues_the_queue(machine, server)
    doctor_finds_it_well(machine)
    what_waits_keeps_what_sends_it(machine, server)

    undone = machine.run("dma-setup", "undo", check=False)
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert [path for path in SOCKETS if machine.run("test", "-e", path, check=False).returncode == 0] == []
    assert machine.run("systemctl", "list-unit-files", "dma*", "--no-legend", check=False).stdout == ""
    after = machine.snapshot()
    for name in ("var/mail/alice",):  # mail is nobody's to delete
        assert after.pop(name)
    assert difference(before, after) == {}


def everybody_can_submit(machine, server):
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("alice"), user="alice")
    machine.run("env", "-i", "/usr/lib/sendmail", "-t", given=mail("cron"))  # as cron starts it, with nothing
    sandbox = ["systemd-run", "--quiet", "--wait", "--pipe"]
    for name, settings in {
        "dynamic": ["DynamicUser=yes", "PrivateTmp=yes", "ProtectHome=yes"],
        "socket only": ["PrivateNetwork=yes", "ProtectSystem=strict", "RestrictAddressFamilies=AF_UNIX", "User=nobody"],
    }.items():
        machine.run(*sandbox, *(f"--property={one}" for one in settings), "/usr/sbin/sendmail", "-t", given=mail(name))
    wait_for(server, ["alice", "cron", "dynamic", "socket only"])
    (mine,) = [message for message in server.messages if b"Subject: alice\r\n" in message.content]
    assert re.search(rb"(?m)^Received: from alice \(uid [0-9]+\)", mine.content), "identity from the kernel"


def a_submission_comes_out_of_the_image(machine, server):
    """What an ordinary user's sendmail imports: it works while nobody can read the modules themselves."""
    (image,) = machine.tree.glob("opt/dma/dma_runtime/__pycache__/*.image")
    found = image.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 0, 0o644)
    sources = [path for path in (machine.tree / "opt/dma/dma_runtime").rglob("*") if path.suffix in (".py", ".pyc")]
    modes = {path: path.stat().st_mode & 0o777 for path in sources}
    for path in sources:
        path.chmod(0o600)
    try:
        machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("by the image"), user="alice")
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    wait_for(server, ["by the image"])


def nobody_gets_at_the_secret(machine):
    ask = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])"
    for path in SOCKETS[1:]:
        assert (
            "Permission denied"
            in machine.run("python3", "-c", "try:\n  " + ask + "\nexcept OSError as e: print(e)", path, user="alice").stdout
        )
    seen = machine.run("cat", "/etc/dma/auth.conf", "/etc/dma/credentials/dma.localhost.alice.cred", user="alice", check=False)
    assert (seen.returncode, seen.stdout) == (1, "")
    assert machine.run("stat", "-c", "%a %U:%G", "/etc/dma/auth.conf").stdout == "640 root:dma\n"
    assert machine.run("grep", "-rlF", PASSWORD, "/etc", "/var", "/run", check=False).stdout == ""
    assert "nobody can log in as it" not in machine.run("getent", "passwd", "dma").stdout
    daemon = main_process(machine)
    assert machine.run("cat", f"/proc/{daemon}/environ", user="alice", check=False).returncode != 0
    assert machine.run("ps", "-o", "user=", "-p", daemon, check=False).stdout.strip() in ("dma", "")


def mail_stays_here(machine):
    machine.run("/usr/sbin/sendmail", "alice", given=mail("for alice", "alice"))
    deadline = time.monotonic() + 20
    box = machine.tree / "var/mail/alice"
    while not (box.exists() and "Subject: for alice" in box.read_text()):
        assert time.monotonic() < deadline, machine.log()
        time.sleep(0.1)
    assert machine.run("stat", "-c", "%U", "/var/mail/alice").stdout == "alice\n"


def nothing_is_lost_by_kill_9(machine, server):
    """The daemon is killed between submissions and in the middle of deliveries; whatever was accepted arrives."""
    accepted, killed = [], []
    for number in range(12):
        subject = f"kill {number}"
        done = machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail(subject), user="alice", check=False)
        assert done.returncode in (0, 75), done.stderr
        if done.returncode == 0:
            accepted.append(subject)
        if number % 3 == 0:
            killed.append(kill_daemon(machine))
    assert len(set(killed)) == 4, "each time another one"
    assert len(accepted) >= 8
    machine.run("/usr/sbin/sendmail", "-q", check=False)
    wait_for(server, accepted, 60)
    assert machine.run("systemctl", "is-active", "dma.socket").stdout == "active\n"


def a_reboot_continues_the_queue(machine, server):
    server.pause()
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("before the reboot"), user="alice")
    assert "before the reboot" not in subjects(server)
    machine.power_off()
    server.resume()
    machine.boot()
    machine.run("/usr/sbin/sendmail", "-q")
    wait_for(server, ["before the reboot"])


def doctor_finds_it_well(machine):
    document = json.loads(machine.run("dma-setup", "doctor", "--json").stdout)
    found = {one["check"]: one for one in document["findings"]}
    assert {name for name, one in found.items() if one["severity"] == "fail"} == set()
    well = ("configuration", "permissions", "program", "mailer", "units", "password", "sign-in", "secret-store", "queue", "root")
    for name in well:
        assert found[name]["severity"] == "ok", found[name]
    assert found["secret-store"]["text"].startswith("the password is encrypted for this machine")
    machine.run("systemctl", "stop", "dma-secret.socket")
    broken = machine.run("dma-setup", "doctor", "--offline", check=False)
    assert broken.returncode == 1
    assert "-> sudo systemctl enable --now dma-secret.socket" in broken.stdout
    assert "the password of alice cannot be read" in broken.stdout
    machine.run("systemctl", "enable", "--now", "dma-secret.socket")
    machine.run("dma-setup", "doctor", "--offline")
    assert "set up as a whole" in machine.run("dma-setup", "doctor", user="alice", check=False).stderr


def what_waits_keeps_what_sends_it(machine, server):
    """Undo with mail in the queue: programs get their old sendmail back, the daemon stays and drains; a second undo ends it."""
    server.pause()
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("waits"), user="alice")
    undone = machine.run("dma-setup", "undo", check=False)
    assert undone.returncode == 1
    assert "Messages still waiting in the queue: 1." in undone.stdout
    assert not (machine.tree / "usr/sbin/sendmail").is_symlink()
    assert machine.run("systemctl", "is-active", "dma.service").stdout == "active\n"
    server.resume()
    machine.run("/usr/local/lib/dma/dma", "-q")
    wait_for(server, ["waits"])
    listing = (QUEUE, "list", "--json")
    wait_until(machine, lambda: json.loads(machine.run(*listing).stdout) == [])


def test_on_demand_nothing_stays_and_a_timer_wakes_what_waits(machine, server):
    before = machine.snapshot()
    set_up(machine, server, daemon="on-demand")
    assert machine.run("systemctl", "is-active", "dma.socket", "dma-queue.timer").stdout == "active\n" * 2
    wait_until(machine, lambda: not processes(machine), 40)  # it lingers for 20 s after its last client
    assert machine.run("systemctl", "start", "dma-queue.service").stdout == ""
    assert processes(machine) == [], "nothing waits, nothing is started"
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("woken"), user="alice")
    wait_for(server, ["woken"])
    server.pause()
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("waits"), user="alice")
    wait_until(machine, lambda: "1 attempt" in machine.run(QUEUE, "list").stdout)
    kill_daemon(machine)
    machine.run("systemctl", "stop", "dma.service")
    assert processes(machine) == []
    server.resume()
    # Not due yet: the daemon is woken, and waits for its time.
    machine.run("systemctl", "start", "--no-block", "dma-queue.service")
    wait_until(machine, lambda: main_process(machine) != "0")
    machine.run("/usr/sbin/sendmail", "-q")
    wait_for(server, ["waits"])
    wait_until(machine, lambda: machine.run("systemctl", "is-active", "dma-queue.service", check=False).stdout == "inactive\n")

    set_up(machine, server, daemon="resident")
    assert machine.run("systemctl", "is-enabled", "dma.service").stdout == "enabled\n"
    assert machine.run("systemctl", "list-units", "dma-queue*", "--all", "--no-legend").stdout == ""
    undone = machine.run("dma-setup", "undo", check=False)
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert machine.run("systemctl", "is-active", "dma.socket", "dma-queue.timer").stdout == "active\n" * 2
    assert "--leave-when-empty" in machine.run("systemctl", "show", "--property=ExecStart", "dma.service").stdout
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("as before"), user="alice")
    wait_for(server, ["as before"])
    undone = machine.run("dma-setup", "undo", check=False)
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert processes(machine) == []
    assert difference(before, machine.snapshot()) == {}


def test_the_password_is_changed_at_the_relay(machine, server):
    """Refused, held, told; entered anew with one command, and the mail leaves."""
    set_up(machine, server)
    arrived = len(server.messages)
    server.users["alice"] = "another one"
    machine.run("systemctl", "restart", "dma.service")
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("held"), user="alice")
    wait_until(machine, lambda: "535" in machine.run(QUEUE, "list").stdout)
    assert len(server.messages) == arrived
    wrong = machine.run("dma-setup", "secret", "set", given="wrong\n", check=False)
    assert wrong.returncode == 1
    assert "signing in did not work: 535" in wrong.stderr
    machine.run("dma-setup", "secret", "set", given="another one\n")
    wait_for(server, ["held"])
    machine.run("dma-setup", "secret", "check")
    what_only_root_can_read_is_no_password(machine, server)
    proof = machine.run("dma-setup", "test", "bob@example.org").stdout
    assert re.search(r"accepted as [0-9a-z]{18}\n", proof), proof
    assert "took it after" in proof


def what_only_root_can_read_is_no_password(machine, server):
    """The daemon is dma: a reference to a file of root's is noticed before the old password goes."""
    machine.write("/root/pw", "another one\n", 0o600)
    answers = relay(server, password="{file: /root/pw}", keyring="reference")
    machine.write("/root/reference.yml", answers, 0o600)
    before = machine.snapshot()
    done = machine.run("dma-setup", "smarthost", "--answers", "/root/reference.yml", "--yes", check=False)
    assert done.returncode == 1, done.stdout
    assert "(read as dma)" in done.stderr
    assert "were taken back" in done.stderr
    assert difference(before, machine.snapshot()) == {}
    machine.run("dma-setup", "secret", "check")


def other_mailer(machine, folder):
    """A mail package as Debian has them: it owns /usr/sbin/sendmail and runs a service; this one is called postfix."""
    package = folder / "package"
    files = {
        "DEBIAN/control": "Package: postfix\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\nDescription: mailer\n",
        "usr/sbin/sendmail": "#!/bin/sh\necho postfix\n",
        "etc/postfix/main.cf": "",
        "usr/sbin/postqueue": "#!/bin/sh\ncat /var/spool/postfix-queue 2>/dev/null\nexit 0\n",
        "usr/bin/newaliases": "#!/bin/sh\n",
        "lib/systemd/system/postfix.service": "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    }
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if "bin/" in name else 0o644)
    (package / "DEBIAN").chmod(0o755)
    made = machine.tree / "root/postfix.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", package, made], check=True, capture_output=True)
    machine.run("dpkg", "--install", "/root/postfix.deb")
    machine.run("systemctl", "enable", "--now", "postfix.service")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb: apt install dpkg")
def test_another_mailer_is_stopped_and_comes_back(machine, server, tmp_path):
    other_mailer(machine, tmp_path)
    before = machine.snapshot()
    machine.write("/root/answers.yml", relay(server, keyring=None), 0o600)
    machine.write("/var/spool/postfix-queue", "{}\n")
    command = ("dma-setup", "smarthost", "--answers", "/root/answers.yml", "--yes")
    stopped = machine.run(*command, check=False, DMA_PW=PASSWORD)
    assert (stopped.returncode, "postfix still holds 1 message; nothing was changed" in stopped.stderr) == (1, True)
    guided = ("dma-setup", "smarthost", "--set", f"fingerprint={server.fingerprint}")
    stopped = machine.terminal(*guided).wait("nothing was changed").wait("Let it send them first: postqueue -f")
    assert stopped.end() == 1
    golden_screen.same("wizard-mailer-waits", golden_screen.settle(stopped.text))
    assert machine.run("systemctl", "is-active", "postfix.service").stdout == "active\n"
    (machine.tree / "var/spool/postfix-queue").unlink()

    terminal = machine.terminal(*guided)
    terminal.wait("Relay").type(f"localhost:{server.port}").wait("Login").type("alice").wait("Password").type(PASSWORD)
    terminal.wait("sent from").type("alice@example.org").wait("root's mail?").type("")
    terminal.wait("Apply?").type("y").wait("elsewhere)", 90)
    assert terminal.end() == 0
    screen = golden_screen.settle(terminal.text, port=server.port)
    golden_screen.same("wizard-system", re.sub(r"python-[0-9.]+-[0-9a-f]{12}", "python-VERSION", screen))
    assert PASSWORD not in terminal.raw
    assert machine.run("systemctl", "is-active", "postfix.service", check=False).stdout == "inactive\n"
    assert machine.run("systemctl", "is-enabled", "postfix.service", check=False).stdout == "disabled\n"
    assert machine.run("/usr/sbin/sendmail.dma-setup").stdout == "postfix\n"
    machine.run("dpkg", "--install", "/root/postfix.deb")  # its upgrades do not take the name back
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("over"), user="alice")
    wait_for(server, ["over"])

    undone = machine.run("dma-setup", "undo", check=False)
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert machine.run("systemctl", "is-active", "postfix.service").stdout == "active\n"
    assert machine.run("/usr/sbin/sendmail").stdout == "postfix\n"
    assert difference(before, machine.snapshot(), "var/lib/dpkg/") == {}


def c_dma(machine, folder):
    """Debian's package dma, installed, with a message of alice's that its relay does not take."""
    got = subprocess.run(["apt-get", "download", "dma"], cwd=folder, capture_output=True, text=True, timeout=120)
    found = list(folder.glob("dma_*.deb"))
    if got.returncode or not found:
        pytest.skip(f"needs Debian's package dma: apt-get download dma: {got.stderr.strip()[-200:]}")
    shutil.copy(found[0], machine.tree / "root/dma.deb")
    machine.run("dpkg", "--install", "/root/dma.deb", DEBIAN_FRONTEND="noninteractive")
    machine.run("sh", "-c", "printf 'SMARTHOST 127.0.0.1\nPORT 9\n' >> /etc/dma/dma.conf")
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("old"), user="alice")
    wait_until(machine, lambda: "refused" in machine.log())


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg: apt install dpkg")
def test_c_dma_is_taken_over_with_its_mail_and_comes_back(machine, server, tmp_path):
    c_dma(machine, tmp_path)
    before = machine.snapshot()
    machine.write("/root/answers.yml", relay(server, keyring=None), 0o600)
    stopped = machine.run("dma-setup", "smarthost", "--answers", "/root/answers.yml", "--yes", check=False, DMA_PW=PASSWORD)
    assert "C dma is at work on 1 message in /var/spool/dma; nothing was changed" in stopped.stderr
    assert difference(before, machine.snapshot()) == {}
    machine.run("sh", "-c", stopped.stderr.strip().rpartition(": ")[2])  # the command it says

    set_up(machine, server)
    wait_for(server, ["old"])
    (old,) = [message for message in server.messages if b"Subject: old\r\n" in message.content]
    assert old.sender.startswith("alice@")
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("new"), user="alice")
    wait_for(server, ["new"])

    undone = machine.run("dma-setup", "undo", check=False)
    assert undone.returncode == 0, undone.stdout + undone.stderr
    left = difference(before, machine.snapshot(), "var/lib/dpkg/")
    assert {name.rpartition("/")[0]: after for name, (_, after) in left.items()} == {"var/spool/dma": None}, "the mail has gone"
    assert machine.run("stat", "-c", "%a %U:%G", "/var/spool/dma").stdout == "2770 root:mail\n"


def test_a_copied_machine_holds_mail_until_the_password_is_entered_again(machine, server):
    """Another machine-id: systemd deletes the key of the credentials. Mail is accepted, held, told; one command mends it."""
    set_up(machine, server)
    machine.power_off()
    machine.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    machine.boot()
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("copied"), user="alice")
    listed = (QUEUE, "list")
    wait_until(machine, lambda: "adopt" in (said := machine.run(*listed)).stdout + said.stderr)
    machine.run(QUEUE, "adopt")
    wait_until(machine, lambda: "cannot be decrypted" in machine.run(*listed).stdout)
    (machine.tree / "var/lib/systemd/credential.secret").unlink(missing_ok=True)
    machine.run("dma-setup", "secret", "set", given=PASSWORD + "\n")
    wait_for(server, ["copied"])


def test_a_credential_that_cannot_be_read_holds_mail_and_loses_nothing(machine, server):
    set_up(machine, server)
    credential = "/etc/dma/credentials/dma.localhost.alice.cred"
    good = (machine.tree / credential.lstrip("/")).read_text()
    arrived = len(server.messages)
    machine.write(credential, "garbage\n", 0o600)
    machine.run("systemctl", "restart", "dma.service")
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("held"), user="alice")
    deadline = time.monotonic() + 20
    while "cannot be decrypted" not in (listing := machine.run(QUEUE, "list").stdout):
        assert time.monotonic() < deadline, listing + machine.log()
        time.sleep(0.2)
    assert len(server.messages) == arrived
    assert machine.run("systemctl", "is-active", "dma.socket", "dma-secret.socket", "dma.service").stdout == "active\n" * 3
    machine.write(credential, good, 0o600)
    machine.run("/usr/sbin/sendmail", "-q")
    wait_for(server, ["held"])

    # Another one, of a relay that is used no more: it keeps systemd from starting the reader, and one command mends that too.
    line = "LoadCredentialEncrypted=dma.old.alice:/etc/dma/credentials/dma.old.alice.cred"
    machine.write("/etc/systemd/system/dma-secret@.service.d/dma.old.alice.conf", f"[Service]\n{line}\n")
    machine.write("/etc/dma/credentials/dma.old.alice.cred", "garbage\n", 0o600)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "dma.service")
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("held again"), user="alice")
    wait_until(machine, lambda: "cannot be decrypted" in machine.run(QUEUE, "list").stdout)
    found = machine.run("dma-setup", "doctor", "--offline", check=False).stdout
    assert "the credential dma.old.alice cannot be read" in found
    machine.run("dma-setup", "secret", "set", given=PASSWORD + "\n")
    wait_for(server, ["held again"])
    assert "dma.old.alice" not in machine.run("dma-setup", "doctor", "--offline", check=False).stdout


def test_a_container_without_systemd(server, tmp_path):
    """Set up while nothing runs, as when an image is built; then dmad is process 1, and undo leaves nothing."""
    machine = BootedMachine(tmp_path)
    log = tmp_path / "log"

    def listens(name):
        wait_until(machine, lambda: machine.run("test", "-S", f"/run/dma/{name}.sock", check=False).returncode == 0)

    try:
        machine.contain("/bin/sleep", "infinity", log=log)
        machine.run("useradd", "--create-home", "--shell", "/bin/sh", "alice")
        before = machine.snapshot()
        machine.write("/root/answers.yml", relay(server, keyring="file"), 0o600)
        words = ("dma-setup", "smarthost", "--answers", "/root/answers.yml")
        done = machine.run(*words, "--yes", DMA_PW=PASSWORD)
        assert "let your supervisor run /usr/local/lib/dma/dmad" in " ".join(done.stdout.split())
        assert len(server.messages) == 1, "root's proof, by an owner of its own"
        assert "nothing to change" in machine.run(*words, "--check", DMA_PW=PASSWORD).stdout
        machine.end(signal.SIGKILL)

        machine.contain("/usr/local/lib/dma/dmad", "-v", log=log)
        listens("submit")
        machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("contained"), user="alice")
        wait_for(server, ["contained"])
        doctor = machine.run("dma-setup", "doctor", "--offline").stdout
        assert "-> sudo /usr/local/lib/dma/dma-mailbox --listen /run/dma/mailbox.sock" in doctor
        machine.run("sh", "-c", "/usr/local/lib/dma/dma-mailbox --listen /run/dma/mailbox.sock >/dev/null 2>&1 &")
        listens("mailbox")
        machine.run("/usr/sbin/sendmail", "alice", given=mail("stays", "alice"), user="alice")
        wait_until(machine, lambda: "Mail queue is empty" in machine.run("mailq").stdout)
        assert "Subject: stays" in (machine.tree / "var/mail/alice").read_text()
        assert "All is well." in machine.run("dma-setup", "doctor", "--offline").stdout
        assert machine.end() == 0, "it drains and leaves, and with it the container"

        machine.contain("/bin/sleep", "infinity", log=log)
        machine.run("dma-setup", "undo")
        after = machine.snapshot()
        assert after.pop("var/mail/alice")
        assert difference(before, after) == {}
        machine.end(signal.SIGKILL)
    finally:
        machine.power_off()
