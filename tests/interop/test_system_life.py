"""The machine's mailer as it lives: a booted Debian behind a real Postfix, with cron, mail(1) and sandboxed services as its
users, every process of its killed at work, and switched off in the middle."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import postfix
import pytest
from booted_machine import BootedMachine
from setup_home import PASSWORD
from system_room import QUEUE, kill_daemon, mail, main_process, set_up, subjects, wait_for, wait_until

pytestmark = pytest.mark.timeout(1200)  # debootstrap, the first time

LOGIN = "alice@example.test"
BIG = 700_000  # bytes; more than is held in memory


@pytest.fixture(scope="module")
def relay():
    if reason := postfix.missing():
        pytest.skip(reason)
    with postfix.Postfix(users={LOGIN: PASSWORD}) as server:
        yield server


@pytest.fixture(scope="module")
def machine(relay, tmp_path_factory):
    machine = BootedMachine(tmp_path_factory.mktemp("life"))
    with machine:
        for login in ("alice", "bob"):
            machine.run("useradd", "--create-home", "--shell", "/bin/sh", login)
        set_up(machine, relay, login=LOGIN, sender=LOGIN)
        wait_for(relay, subjects(relay)[:1])
        machine.run("sh", "-c", "echo 'RETRY 2s 4s' >> /etc/dma/dma.conf")
        yield machine


def arrived(relay, subject):
    (found,) = [message for message in relay.messages() if message["Subject"] == subject]
    return found


# ---------------------------------------------------------------- who sends


def test_the_output_of_roots_cron_job(machine, relay):
    machine.write("/etc/cron.d/probe", "@reboot root echo from cron\n")
    machine.run("rm", "-f", "/run/crond.reboot")
    machine.run("systemctl", "restart", "cron.service")
    wait_until(machine, lambda: any("echo from cron" in subject for subject in subjects(relay)))
    found = next(message for message in relay.messages() if "echo from cron" in message["Subject"])
    assert found.get_content() == "from cron\n"
    assert found["Delivered-To"] == "bob@example.org", "root's alias"


def test_mail_of_an_ordinary_user(machine, relay):
    machine.run("s-nail", "-s", "by mail(1)", "bob@example.org", given="hello\n", user="alice")
    wait_for(relay, ["by mail(1)"])
    assert "from alice (uid 1000)" in arrived(relay, "by mail(1)")["Received"] + str(arrived(relay, "by mail(1)").items())


SANDBOXES = {
    "a daemon with a private tmp and no home": ["DynamicUser=yes", "PrivateTmp=yes", "ProtectHome=yes"],
    "a service with nothing but the socket": [
        *("User=nobody", "PrivateNetwork=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateDevices=yes"),
        *("ProtectProc=invisible", "RestrictAddressFamilies=AF_UNIX", "MemoryDenyWriteExecute=yes", "NoNewPrivileges=yes"),
        *("SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources", "CapabilityBoundingSet="),
        "InaccessiblePaths=/tmp /var/tmp /dev/shm",
    ],
    "a service in a user namespace": ["User=nobody", "PrivateUsers=yes", "ProtectSystem=strict"],
}


@pytest.mark.parametrize("name", SANDBOXES)
@pytest.mark.parametrize("size", [10, BIG])
def test_a_sandboxed_service(machine, relay, name, size):
    subject = f"{name}, {size}"
    words = ["systemd-run", "--quiet", "--wait", "--pipe", *(f"--property={one}" for one in SANDBOXES[name])]
    text = mail(subject) + ("x" * 69 + "\n") * (size // 70)
    machine.run(*words, "env", "-i", "/usr/sbin/sendmail", "-t", given=text)
    wait_for(relay, [subject])
    assert len(arrived(relay, subject).get_content()) >= size // 70 * 70


# ---------------------------------------------------------------- commands


@pytest.fixture
def pipes(machine):
    machine.run("sh", "-c", "echo PIPES >> /etc/dma/dma.conf; cp -p /etc/aliases /root/aliases")
    machine.run("systemctl", "restart", "dma.service")
    yield
    machine.run("sh", "-c", "sed -i /PIPES/d /etc/dma/dma.conf; cp -p /root/aliases /etc/aliases; rm -f /home/alice/.forward")
    machine.run("systemctl", "restart", "dma.service")


def test_commands_of_a_forward_and_the_aliases(machine, relay, pipes):
    """A filter is any program of the user's: it writes at home and in /tmp, opens a connection, sends mail, runs Perl."""
    program = (
        "cat > got; id > /tmp/alices; perl -e 'print 1' >> /tmp/alices;"
        " python3 -c 'import socket; socket.socket(); socket.socket(socket.AF_INET6)' && echo connected >> /tmp/alices;"
        " printf 'Subject: answered\\n\\nx\\n' | /usr/sbin/sendmail bob@example.org"
    )
    machine.run("sh", "-c", "cat > ~/.forward", user="alice", given=f'\\alice, "|{program}"\n/home/alice/Maildir/\n')
    machine.run("sh", "-c", "cat >> /etc/aliases", given='robot: "|id -un > /var/tmp/robots"\n')
    machine.run("/usr/sbin/sendmail", "alice", "robot", given=mail("filtered", "alice"))
    wait_until(machine, lambda: "Mail queue is empty" in machine.run("mailq").stdout)
    assert "Subject: filtered" in machine.run("cat", "/home/alice/got").stdout
    assert "Subject: filtered" in machine.run("sh", "-c", "cat /home/alice/Maildir/new/*").stdout
    first, second = machine.run("cat", "/tmp/alices").stdout.splitlines()
    assert first.startswith("uid=1000(alice) gid=1000(alice) groups=1000(alice)")
    assert second == "1connected"
    assert machine.run("cat", "/var/tmp/robots").stdout == "nobody\n"
    wait_for(relay, ["answered"])
    assert arrived(relay, "answered")["From"].startswith("alice"), "the kernel says whose mail it is"


def test_a_command_is_killed_at_work(machine, pipes):
    machine.run("sh", "-c", "cat > ~/.forward", user="alice", given='"|echo begun >> begun; sleep 4; cat > done"\n')
    machine.run("/usr/sbin/sendmail", "alice", given=mail("killed command", "alice"))
    wait_until(machine, lambda: (machine.tree / "home/alice/begun").exists())
    killed(machine, "dma-command")
    wait_until(machine, lambda: "1 attempt" in machine.run(QUEUE, "list").stdout)
    wait_until(machine, lambda: "Mail queue is empty" in machine.run("mailq").stdout)
    assert "Subject: killed command" in machine.run("cat", "/home/alice/done").stdout
    assert machine.run("cat", "/home/alice/begun").stdout == "begun\n" * 2, "what was cut off is run again"
    assert machine.run("pgrep", "-u", "alice", check=False).stdout == "", "and nothing of it is left"


# ---------------------------------------------------------------- killed at work


def instances(machine, unit):
    """The processes of the instances of a template."""
    listed = machine.run("systemctl", "list-units", f"{unit}@*", "--no-legend", "--plain", check=False).stdout
    names = [line.split()[0] for line in listed.splitlines()]
    return [pid for pid in (main_process(machine, name) for name in names) if pid != "0"]


def killed(machine, unit):
    """An instance that is at work, killed."""
    wait_until(machine, lambda: instances(machine, unit))
    pids = instances(machine, unit)
    assert pids
    machine.kill(*pids)


def drop_in(machine, unit, text):
    path = f"/run/systemd/system/{unit}.d/slow.conf"
    machine.run("mkdir", "-p", path.rpartition("/")[0])
    machine.run("sh", "-c", f"cat > {path}", given=text)
    machine.run("systemctl", "daemon-reload")
    return path


def test_the_secret_reader_is_killed_at_work(machine, relay):
    slow = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'sleep 20; exec /usr/local/lib/dma/dma-secret'\n"
    path = drop_in(machine, "dma-secret@.service", slow)
    machine.run("systemctl", "restart", "dma.service")  # it knows no password yet
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("secret killed"), user="alice")
    killed(machine, "dma-secret")
    wait_until(machine, lambda: "cannot be decrypted" in machine.run(QUEUE, "list").stdout)
    machine.run("/usr/sbin/sendmail", "-bq", "bob@example.org", given=mail("accepted meanwhile"), user="alice")
    machine.run("rm", path)
    machine.run("systemctl", "daemon-reload")
    wait_for(relay, ["secret killed"])  # by itself
    machine.run("/usr/sbin/sendmail", "-q")
    wait_for(relay, ["accepted meanwhile"])
    assert machine.run("systemctl", "is-active", "dma-secret.socket").stdout == "active\n"
    assert machine.run("mailq").stderr == "", "and nobody has to do anything any more"


# Kills the mailbox process when a mailbox has 1 MB, and says how much it has then. In one process, for it writes 100 MB a second.
KILLER = """
import os, time
until = time.monotonic() + 50
while time.monotonic() < until:
    if os.path.exists("/var/mail/alice") and os.path.getsize("/var/mail/alice") > 1 << 20:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if b"/dma-mailbox" in file.read() and int(pid) != os.getpid():
                        os.kill(int(pid), 9)
            except OSError:
                continue
        print(os.path.getsize("/var/mail/alice"))
        break
    time.sleep(0.001)
"""


def test_the_mailbox_process_is_killed_while_it_writes(machine):
    text = mail("large", "alice") + ("y" * 69 + "\n") * 400_000  # 28 MB
    box = machine.tree / "var/mail/alice"
    with ThreadPoolExecutor() as others:
        killer = others.submit(machine.run, "python3", "-c", KILLER)
        machine.run("/usr/sbin/sendmail", "alice", given=text)
        written = int(killer.result().stdout)
    assert 1 << 20 < written < len(text), "it was at work"
    machine.run("/usr/sbin/sendmail", "alice", given=mail("behind it", "alice"))
    wait_until(machine, lambda: "Mail queue is empty" in machine.run("mailq").stdout)
    entries = box.read_text().split("\n\nFrom ")
    assert entries[-2].count("\n" + "y" * 69) == 400_000 or entries[-1].count("\n" + "y" * 69) == 400_000, "one of them is whole"
    assert sum("Subject: behind it" in entry for entry in entries) == 1
    assert machine.run("stat", "-c", "%U %a", "/var/mail/alice").stdout == "alice 600\n"


def test_the_submitter_and_the_daemon_are_killed_together(machine, relay):
    """Who was told nothing sends again; who was told 0 need not."""
    for number in range(3):
        half = f"(printf 'Subject: half {number}\\n\\n'; sleep 5) 2>/dev/null | /usr/sbin/sendmail bob@example.org >/dev/null 2>&1 &"  # noqa: E501
        machine.run("sh", "-c", half + " sleep 0.5; kill -9 $!", user="alice", check=False)
        kill_daemon(machine)
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("after them"), user="alice")
    wait_for(relay, ["after them"])
    assert not [subject for subject in subjects(relay) if subject.startswith("half")], "no part of a message was accepted"


# ---------------------------------------------------------------- curious users

# What every user may do all day: look at every process, and at everything that is kept in memory or in passing.
WATCH = """
import glob, json, os, sys, time
word, found, seen, denied = sys.stdin.readline().strip().encode(), set(), set(), set()
def look(path):
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
    except OSError as error:
        if isinstance(error, PermissionError): denied.add(path)
        return b""
    if word in data: found.add(path)
    return data
while not os.path.exists("/run/stop-watching"):
    for pid in [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]:
        seen.update(look(f"/proc/{pid}/cmdline").decode("utf-8", "replace").split("\\0"))
        for name in ("environ", "mem", "fd/0", "fd/1", "fd/3", "root/etc/dma/auth.conf", "cwd/etc/dma/auth.conf"):
            look(f"/proc/{pid}/{name}")
        for path in glob.glob(f"/proc/{pid}/root/run/credentials/*/*"): look(path)
    for folder in ("/run", "/dev/shm", "/tmp", "/var/tmp", "/etc/dma", "/var/lib/dma-setup", "/var/spool/dma"):
        for where, _, names in os.walk(folder, onerror=lambda error: denied.add(error.filename)):
            for name in names:
                if not name.endswith(("fifo", ".sock", "initctl")) and os.path.isfile(f"{where}/{name}"): look(f"{where}/{name}")
json.dump([sorted(found), sorted(seen), sorted(denied)], sys.stdout)
"""


def test_the_password_passes_where_no_user_sees_it(machine, relay):
    """While it is entered, checked, decrypted and used: in no command line, environment, memory or file that others can read; in
    no log; and no process that holds it leaves a core."""
    slow = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'sleep 1; exec /usr/local/lib/dma/dma-secret'\n"
    path = drop_in(machine, "dma-secret@.service", slow)  # so long does everybody see it
    watched = []
    watcher = threading.Thread(
        target=lambda: watched.append(machine.run("python3", "-c", WATCH, given=PASSWORD + "\n", user="alice", seconds=120).stdout)
    )
    watcher.start()
    try:
        machine.run("dma-setup", "secret", "set", given=PASSWORD + "\n")
        machine.run("dma-setup", "secret", "check")
        machine.run("systemctl", "restart", "dma.service")
        machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("watched"), user="bob")
        wait_until(machine, lambda: instances(machine, "dma-secret"))
        limits = [machine.run("cat", f"/proc/{pid}/limits").stdout for pid in instances(machine, "dma-secret")]
        limits.append(machine.run("cat", f"/proc/{main_process(machine)}/limits").stdout)
        wait_for(relay, ["watched"])
    finally:
        machine.run("touch", "/run/stop-watching")
        watcher.join(130)
        machine.run("rm", path, "/run/stop-watching")
        machine.run("systemctl", "daemon-reload")
    found, seen, denied = json.loads(watched[0])
    assert found == []
    assert {"dma_setup.keyring_child", "/usr/local/lib/dma/dmad", "sleep"} <= set(seen), "it looked while it happened"
    assert [one for one in denied if one.startswith("/run/credentials/dma-secret@")], "it met the credential, decrypted"
    assert len(limits) >= 2
    assert all(re.search(r"Max core file size +0 +0 ", one) for one in limits), limits
    journal = machine.run("journalctl", "--no-pager", "--output=export", "--all").stdout
    assert "dma-secret" in journal
    assert PASSWORD not in journal
    assert not machine.run("journalctl", "--no-pager", "--quiet", "--identifier=dma", user="alice", check=False).stdout.strip()


@pytest.mark.parametrize(
    "words",
    [
        ("systemctl", "stop", "dma.service"),
        ("systemctl", "start", "dma-secret@1.service"),
        ("systemctl", "set-property", "--runtime", "dma.service", "CPUQuota=1%"),
        ("systemctl", "set-environment", "PYTHONPATH=/home/alice"),
        ("systemd-creds", "decrypt", "--name=dma.localhost.alice", "/etc/dma/credentials/dma.localhost.alice.cred", "-"),
        ("systemd-run", "--uid=dma", "--wait", "--pipe", "cat", "/etc/dma/auth.conf"),
        ("dma-setup", "secret", "check", "--system"),
        ("dma-setup", "undo", "--system"),
    ],
)
def test_what_is_roots_to_say(machine, words):
    done = machine.run(*words, user="alice", check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert machine.run("systemctl", "is-active", "dma.socket", "dma.service").stdout == "active\n" * 2
    assert "PYTHONPATH" not in machine.run("systemctl", "show-environment").stdout


TRAPS = ("sitecustomize", "usercustomize", "keyring", "yaml", "jinja2", "trap", "dma_setup", "dma_runtime", "os", "encodings")


@pytest.mark.parametrize("words", [("secret", "check"), ("secret", "set"), ("doctor", "--offline"), ("list",)])
def test_root_sets_up_in_a_users_directory_and_imports_nothing_of_it(machine, words):
    """`sudo -E`, or a shell that kept HOME: what lies there is somebody else's, keyringrc.cfg with its module too."""
    home = "/home/alice/room"
    trap = "open('/run/trapped', 'w').close()\\n"
    config = f"[backend]\\ndefault-keyring=trap.Keyring\\nkeyring-path={home}\\n"
    packages = ".local/lib/python3.11/site-packages"
    make = f"mkdir -p {home}/{packages} {home}/.config/python_keyring; cd {home}; "
    make += f"printf \"{config}\" > .config/python_keyring/keyringrc.cfg; "
    make += f"for n in {' '.join(TRAPS)}; do printf \"{trap}\" > $n.py; cp $n.py {packages}; done"
    machine.run("sh", "-c", make, user="alice")
    environment = {"HOME": home, "XDG_CONFIG_HOME": f"{home}/.config", "XDG_DATA_HOME": home}
    environment |= {"PYTHON_KEYRING_BACKEND": "trap.Keyring", "PYTHONPATH": home, "PYTHONUSERBASE": f"{home}/.local"}
    environment["PYTHONSTARTUP"] = f"{home}/trap.py"
    given = PASSWORD + "\n" if words == ("secret", "set") else ""
    machine.run("sh", "-c", f'cd {home}; exec dma-setup "$@"', "sh", *words, given=given, **environment)
    assert machine.run("ls", "/run/trapped", check=False).returncode != 0


# ---------------------------------------------------------------- stopped and switched off


def test_stopping_drains_what_is_under_way(machine, relay):
    began = time.monotonic()
    for number in range(5):
        machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail(f"drained {number}"), user="alice")
    machine.run("systemctl", "stop", "dma.service")
    assert time.monotonic() - began < 60
    assert "SIGKILL" not in machine.log(30)
    machine.run("systemctl", "start", "dma.service")
    wait_for(relay, [f"drained {number}" for number in range(5)])
    assert sum(subject.startswith("drained") for subject in subjects(relay)) == 5, "none of them twice"


def test_an_upgrade_in_place_is_noticed(machine, relay):
    """Another version's file in the library: mail goes on by the daemon that runs, and one command has it run the new one."""
    machine.run("sh", "-c", "sleep 1; echo >> /opt/dma/dma_runtime/errors.py")
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("behind an upgrade"), user="alice")
    wait_for(relay, ["behind an upgrade"])
    said = machine.run("dma-setup", "doctor", "--offline", check=False).stdout
    assert "-> sudo systemctl restart dma.service" in said
    planned = machine.run("dma-setup", "smarthost", "--answers", "/etc/dma/answers.smarthost.yml", "--check", check=False)
    assert "systemctl restart dma.service" in " ".join(planned.stdout.split())
    machine.run("systemctl", "restart", "dma.service")
    assert "restart dma.service" not in machine.run("dma-setup", "doctor", "--offline", check=False).stdout


def test_a_reboot_continues_the_queue_by_itself(machine, relay):
    relay.pause()
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("before the reboot"), user="alice")
    wait_until(machine, lambda: "1 attempt" in machine.run(QUEUE, "list").stdout)
    machine.power_off()
    relay.resume()
    machine.boot()
    wait_for(relay, ["before the reboot"])
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("after the reboot"), user="alice")
    wait_for(relay, ["after the reboot"])


def test_the_power_fails_and_what_was_accepted_arrives(machine, relay):
    relay.pause()
    machine.run("/usr/sbin/sendmail", "bob@example.org", given=mail("before the power failed"), user="alice")
    machine.pull_the_plug()
    relay.resume()
    machine.boot()
    wait_for(relay, ["before the power failed"])
