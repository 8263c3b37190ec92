"""The machine's mailer as it lives: a booted Debian behind a real Postfix, with cron, mail(1) and sandboxed services as its
users, every process of its killed at work, and switched off in the middle."""

import time

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
        machine.run("useradd", "--create-home", "--shell", "/bin/sh", "alice")
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


def test_the_mailbox_process_is_killed_while_it_writes(machine):
    text = mail("large", "alice") + ("y" * 69 + "\n") * 400_000  # 28 MB
    machine.run("/usr/sbin/sendmail", "alice", given=text)
    box = machine.tree / "var/mail/alice"
    wait_until(machine, lambda: box.exists() and box.stat().st_size > 1 << 20)
    killed(machine, "dma-mailbox")
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
