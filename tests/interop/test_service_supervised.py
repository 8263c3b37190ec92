"""The machine's daemon under a supervisor and without one: started by systemd's protocol, on demand, as process 1 of a container,
from one mounted file, by a line for cron. Real users and paths, in a namespace of its own (`machine`)."""

import os
import signal
import socket
import subprocess
import time

import pytest
from machine import CONF, MESSAGE, USERS, Machine
from mail_server import MailServer

from dma_setup import render

DMA = USERS["dma"][0]


@pytest.fixture
def machine():
    with Machine() as made:
        yield made


def owner(path):
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o777


ACTIVATE = """
import os, socket, sys
bell = socket.socket(socket.AF_UNIX)
bell.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
bell.listen(100)
if bell.fileno() != 3:
    os.dup2(bell.fileno(), 3)
os.set_inheritable(3, True)
os.setgroups([]); os.setresgid(990, 990, 990); os.setresuid(990, 990, 990)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def activated(machine, *arguments, **environment):
    """dmad as systemd starts it: user dma, the socket on descriptor 3."""
    (machine.top / "run" / "dma").mkdir(exist_ok=True)
    machine.spool.mkdir(mode=0o700, exist_ok=True)
    os.chown(machine.spool, 990, 990)
    path = machine.top / "run" / "dma" / "submit.sock"
    path.unlink(missing_ok=True)
    with open(machine.log, "ab") as log:
        machine.dmad = machine.popen(
            "python3", "-c", ACTIVATE, "/run/dma/submit.sock", str(machine.programs / "dmad"), "-v", *arguments,
            path="/usr/bin/python3", environment=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    machine.until(machine.listens, what="the socket")
    return machine.dmad


def test_started_by_systemd_it_says_when_it_is_ready_lives_and_stops(machine):
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(machine.top / "run" / "notify"))
    os.chmod(machine.top / "run" / "notify", 0o666)
    notify.settimeout(20)
    activated(machine, NOTIFY_SOCKET="/run/notify", WATCHDOG_USEC="400000")
    assert notify.recv(1000).startswith(b"READY=1\n")
    machine.send("x@y.test")
    assert [notify.recv(1000) for _ in range(4)] == [b"WATCHDOG=1"] * 4
    machine.dmad.send_signal(signal.SIGTERM)
    while (said := notify.recv(1000)) == b"WATCHDOG=1":
        pass
    assert said.startswith(b"STOPPING=1\n")
    assert machine.dmad.wait(20) == 0
    assert (machine.top / "run" / "dma" / "submit.sock").exists()  # systemd's, and still there


def test_on_demand_it_waits_for_the_queue_instead_of_leaving_the_client_in_the_backlog(machine):
    machine.spool.mkdir(mode=0o700)
    os.chown(machine.spool, 990, 990)
    machine.send("x@y.test", user="root")  # leaves an owner behind, who stays with the deferred message
    machine.until(lambda: list((machine.spool / "log").iterdir()), what="the owner's attempt")
    activated(machine, "--leave-when-empty")
    machine.send("x@z.test", user="alice")
    assert len(machine.queue()) == 2
    assert machine.dmad.poll() is None


def test_a_loop_that_hangs_does_not_beat(machine):
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(f"\0dma-test-{os.getpid()}")
    notify.settimeout(20)
    activated(machine, NOTIFY_SOCKET=f"@dma-test-{os.getpid()}", WATCHDOG_USEC="200000")
    assert notify.recv(1000).startswith(b"READY=1\n")
    assert notify.recv(1000) == b"WATCHDOG=1"
    machine.dmad.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    notify.settimeout(0.4)
    beats = 0
    try:
        while notify.recv(1000):
            beats += 1
    except TimeoutError:
        pass
    assert beats <= 4  # those of before, and no more
    machine.dmad.send_signal(signal.SIGCONT)
    assert notify.recv(1000) == b"WATCHDOG=1"


def test_process_1_of_a_container_buries_orphans_and_passes_signals_on(machine):
    words = machine.words("dmad", "-v")
    at = words.index("--") + 1
    inner = [*words[:at], "unshare", "--pid", "--fork", "--mount-proc", *words[at:]]
    with open(machine.log, "ab") as log:
        outer = subprocess.Popen(inner, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=machine.environment("root"))
    machine.running.append(outer)

    def children(pid):
        return [int(word) for word in open(f"/proc/{pid}/task/{pid}/children").read().split()]

    machine.until(machine.listens, what="dmad to listen")
    (first,) = children(outer.pid)
    (daemon,) = children(first)
    orphan = subprocess.run(
        ["nsenter", f"--pid=/proc/{first}/ns/pid", "--", "sh", "-c", "(sleep 0.2; exit 3) & exit 0"], timeout=10, check=True
    )
    assert orphan.returncode == 0
    machine.send("-bq", "x@y.test")
    time.sleep(0.5)
    assert children(first) == [daemon]
    os.kill(first, signal.SIGTERM)
    assert outer.wait(20) == 0
    assert len(machine.ids()) == 1


def test_a_line_for_cron_wakes_the_queue_where_no_daemon_is(machine):
    """The very line that setup writes, by the shell, with cron's environment."""
    with MailServer() as server:
        machine.configure(CONF.replace(":9", f":{server.port}"))
        machine.spool.mkdir(mode=0o700)
        os.chown(machine.spool, DMA, DMA)
        machine.send("-bq", "x@y.test", user="root")  # as the account, for nobody listens
        line = render.template("system/cron.j2", {"library": str(machine.programs)}).splitlines()[-1]
        schedule, account, command = line[: len("*/15 * * * *")], *line[len("*/15 * * * *") + 1 :].split(" ", 1)
        assert (schedule, account) == ("*/15 * * * *", "root")
        machine.run("sh", "-c", command, path="/bin/sh", user="root", environment={"PATH": "/usr/bin:/bin"}, check=0)
        assert [message.recipients for message in server.messages] == [["x@y.test"]]
    assert machine.ids() == []
    assert {found.stat().st_uid for found in machine.spool.rglob("*")} == {DMA}


BOX = """MAILNAME here.test
SMARTHOST 127.0.0.1:{port}
SECURETRANSFER
STARTTLS
FINGERPRINT {fingerprint}
AUTHPATH /etc/box/auth.conf
SOCKET /run/box/submit.sock
SPOOLDIR /var/spool/box
"""


@pytest.mark.parametrize(
    ("user", "owner_of_all", "owner_of_secret", "mode"),
    [("root", DMA, (0, DMA), 0o440), ((4242, 4242), 4242, (4242, 4242), 0o400)],
    ids=["a container that starts as root", "one that starts as a uid without a name"],
)
def test_everything_from_one_mounted_file_without_systemd(machine, user, owner_of_all, owner_of_secret, mode):
    """A container: the configuration and its secret are mounted, nothing else is set up; the spool is an empty volume."""
    with MailServer(tls="starttls", users={"alice": "secret"}) as server:
        place = machine.top / "etc" / "box"
        place.mkdir()
        (place / "dma.conf").write_text(BOX.format(port=server.port, fingerprint=server.fingerprint))
        (place / "auth.conf").write_text("alice|127.0.0.1:file:/etc/box/password\n")
        (place / "password").write_text("secret\n")
        (place / "password").chmod(mode)
        os.chown(place / "password", *owner_of_secret)
        for volume in (machine.top / "spool" / "box", machine.top / "run" / "box"):
            volume.mkdir()
            if user != "root":
                os.chown(volume, *user)
        log = open(machine.log, "ab")
        machine.dmad = machine.popen("dmad", "-v", "-C", "/etc/box/dma.conf", user=user, stderr=log, stdin=subprocess.DEVNULL)
        machine.until(lambda: machine.listens("/run/box/submit.sock"), what="dmad to listen")
        send = ("sendmail", "-C", "/etc/box/dma.conf")
        machine.run(*send, "-bq", "x@y.test", user="alice", stdin=MESSAGE, check=0)
        (name,) = os.listdir(machine.top / "spool" / "box" / "queue")
        assert owner(machine.top / "spool" / "box" / "queue" / name)[0::2] == (owner_of_all, 0o600)
        machine.run(*send, "-D", "z@y.test", user="bob", stdin=MESSAGE, check=0)
        (found,) = server.messages
        assert (found.recipients, found.login) == (["z@y.test"], "alice")
        assert b"from bob (uid 1002)" in found.content
