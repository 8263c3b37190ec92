"""The machine's mailer with real users, real programs and the real paths, in a namespace of its own (`machine`): the way of a
message, who may do what, stopping and starting. Attacks are in test_system_attacks.py."""

import email
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import threading
import time

import pytest
from machine import CONF, LAUNCHER, MESSAGE, ROOT, USERS, Machine
from mail_server import MailServer

from dma_runtime import frames

BIG = b"Subject: big\n\n" + (b"z" * 79 + b"\n") * 30_000
DMA = USERS["dma"][0]


@pytest.fixture
def machine():
    with Machine() as made:
        yield made


def owner(path):
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o777


# ---------------------------------------------------------------- the way of a message


def test_users_and_root_hand_in_mail_and_see_what_is_theirs(machine):
    machine.start()
    machine.send("bob@x.test", user="alice")
    machine.send("-t", user="bob", text=b"To: someone@y.test\nSubject: t\n\nbody\n.\nnot this\n")
    machine.send("big@y.test", user="root", text=BIG)
    assert machine.spool.stat().st_uid == DMA
    envelopes = [machine.message(name)[0] for name in machine.ids()]
    assert [(e.uid, e.login, e.sender) for e in envelopes] == [
        (1001, "alice", "alice@here.test"), (1002, "bob", "bob@here.test"), (0, "root", "root@here.test"),
    ]  # fmt: skip
    for name in machine.ids():
        assert owner(machine.spool / "queue" / name) == (990, 990, 0o600)
    text = machine.message(machine.ids()[1])[1]
    assert email.message_from_bytes(text)["Received"].startswith("from bob (uid 1002)")
    assert text.endswith(b"\n\nbody\n")
    assert machine.message(machine.ids()[2])[1].endswith(BIG.partition(b"\n\n")[2])
    shown = {user: machine.run("mailq", user=user, check=0).stdout.decode() for user in USERS}
    assert shown["alice"] == f"ID\t: {machine.ids()[0]}\nFrom\t: alice@here.test\nTo\t: bob@x.test\n"
    assert "someone@y.test" in shown["bob"]
    assert "alice" not in shown["bob"]
    assert shown["mallory"] == "Mail queue is empty\n"
    assert shown["root"] == shown["dma"]
    assert shown["root"].count("ID\t") == 3
    assert [row["id"] for row in machine.queue()] == machine.ids()
    ran = machine.run("dma-queue", "list", "--json", user="alice", check=0)
    assert ran.stdout.count(b'"id"') == 1


def test_the_daemon_is_dma_and_nothing_else(machine):
    dmad = machine.start()
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{dmad.pid}/status").read().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["990"] * 4
    assert status["Gid"].split() == ["990"] * 4
    assert status["Groups"].split() == ["990"]
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    limits = open(f"/proc/{dmad.pid}/limits").read()
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
    assert owner(machine.top / "run" / "dma" / "submit.sock")[0::2] == (0, 0o666)
    assert owner(machine.top / "run" / "dma") == (0, 0, 0o755)


def test_trusted_users_and_the_others(machine):
    machine.configure(CONF + "TRUSTED bob\n")
    machine.start()
    for user in ("alice", "bob", "root", "dma"):
        machine.send("-f", "ceo@elsewhere.test", "x@y.test", user=user)
    machine.send("-f", "alice@here.test", "x@y.test", user="alice")
    machine.send("-f", "<>", "x@y.test", user="alice")
    machine.send("x@y.test", user="alice", environment={"EMAIL": "ceo@elsewhere.test"})
    found = [machine.message(name) for name in machine.ids()]
    assert [envelope.sender for envelope, _ in found] == ["ceo@elsewhere.test"] * 4 + ["alice@here.test", ""] + [
        "ceo@elsewhere.test"
    ]
    warned = [email.message_from_bytes(text)["X-Authentication-Warning"] for _, text in found]
    assert warned[0].endswith(": alice set sender to ceo@elsewhere.test using -f")
    assert warned[1:6] == [None] * 5
    assert warned[6].endswith(": alice set sender to ceo@elsewhere.test using $EMAIL")


def test_what_the_daemon_refuses_is_one_line_and_its_status(machine):
    machine.configure(CONF + "MAXSIZE 1M\n")
    machine.start()
    for status, words, text in (
        (65, ("nobody-here",), b"no such user here"),
        (65, ("-f", "a\nb@x", "x@y.test"), b"control character"),
        (66, ("-t",), b"no recipients from headers"),
        (66, (), b"no recipients from command line"),
    ):
        ran = machine.send(*words, check=status)
        assert text in ran.stderr, ran
        assert ran.stderr.count(b"\n") == 1
    assert b"MAXSIZE" in machine.send("x@y.test", text=BIG, check=69).stderr
    assert machine.ids() == []
    ran = machine.run("sendmail", "-bv", "root", "x@y.test", "nobody-here", user="alice", check=67)
    assert ran.stdout.decode().splitlines() == [
        "root... deliverable: mailer local, user root",
        "x@y.test... deliverable: mailer relay, user x@y.test",
        "nobody-here... no such user here",
    ]


def test_a_queue_run_by_anybody_once_a_minute(machine):
    machine.start()
    machine.send("x@y.test")
    machine.until(lambda: b"1 message waiting" in machine.log.read_bytes(), what="the first attempt")
    machine.run("sendmail", "-q", "-D", user="bob", check=0)
    assert machine.queue()[0]["recipients"][0]["attempts"] == 2
    assert b"more than 1 queue run a minute" in machine.run("sendmail", "-q", user="bob", check=75).stderr
    for _ in range(3):
        machine.run("sendmail", "-q", "-D", user="root", check=0)
    assert machine.queue()[0]["recipients"][0]["attempts"] == 5


def test_a_message_in_the_foreground_waits_for_its_attempt(machine):
    machine.start()
    machine.send("-D", "x@y.test")
    assert machine.queue()[0]["recipients"][0]["attempts"] == 1


def test_a_copy_of_the_configuration_read_again_stays_in_system_mode(machine):
    machine.start()
    machine.configure(CONF + "MAXSIZE 2M\n")
    machine.dmad.send_signal(signal.SIGHUP)
    machine.until(lambda: machine.send("x@y.test", text=BIG, check=None).returncode == 69, what="the new MAXSIZE")
    machine.send("bob", user="alice")  # in system mode the mailbox process is asked, and there is none here
    machine.until(lambda: b"no mailbox process at /run/dma/mailbox.sock" in machine.log.read_bytes(), what="the attempt")


ACCEPT = """
import os, socket, sys
path, program, directory = sys.argv[1:]
bell = socket.socket(socket.AF_UNIX)
os.umask(0o177)
bell.bind(path)
os.chown(path, 990, 990)
bell.listen(10)
while True:
    line, _ = bell.accept()
    if os.fork() == 0:
        os.setgroups([]); os.setresgid(990, 990, 990); os.setresuid(990, 990, 990)
        os.dup2(line.fileno(), 0)
        os.execve(program, [program], {"CREDENTIALS_DIRECTORY": directory})
    line.close()
"""


def test_mail_leaves_by_a_password_from_the_secret_reader_and_waits_without(machine):
    with MailServer(tls="starttls", users={"alice": "secret"}) as server:
        machine.configure(
            f"MAILNAME here.test\nSMARTHOST 127.0.0.1:{server.port}\nSECURETRANSFER\nSTARTTLS\n"
            f"FINGERPRINT {server.fingerprint}\nAUTHPATH /etc/dma/auth.conf\nKEYRING systemd-creds\n"
        )
        auth = machine.top / "etc" / "dma" / "auth.conf"
        auth.write_text("alice|127.0.0.1:keyring:\n")
        os.chown(auth, 0, 990)
        auth.chmod(0o640)
        credentials = machine.top / "run" / "creds"
        credentials.mkdir(mode=0o500)
        os.chown(credentials, 990, 990)
        (machine.top / "run" / "dma").mkdir()
        machine.popen(
            "python3", "-c", ACCEPT, "/run/dma/secret.sock", str(machine.programs / "dma-credential"), "/run/creds",
            path="/usr/bin/python3", stdin=subprocess.DEVNULL,
        )  # fmt: skip
        machine.start()
        machine.send("-D", "first@x.test")
        assert server.messages == []
        shown = machine.run("mailq", user="root", check=0)
        assert b"dma.127.0.0.1.alice: it is not there or cannot be decrypted" in shown.stderr
        assert b"dma-setup secret set" in shown.stderr
        machine.send("-bq", "second@x.test")  # mail is accepted all the while
        (credentials / "dma.127.0.0.1.alice").write_text("secret")
        os.chown(credentials / "dma.127.0.0.1.alice", 990, 990)
        machine.run("sendmail", "-q", user="root", check=0)
        assert sorted(message.recipients for message in server.wait(2)) == [["first@x.test"], ["second@x.test"]]
        machine.until(lambda: not machine.ids(), what="an empty queue")
        assert machine.run("mailq", user="root", check=0).stderr == b""


ANSWERS = {
    "submit": [frames.ACCEPTED, frames.STATUS],
    "list": [frames.OUTPUT, frames.STATUS],
    "rows": [frames.OUTPUT, frames.STATUS],
    "run": [frames.STATUS],
    "verify": [frames.OUTPUT, frames.STATUS],
}


@pytest.mark.parametrize(("name", "kinds"), ANSWERS.items())
def test_the_sendmail_of_the_first_version_is_served(machine, name, kinds):
    machine.start()
    said = (ROOT / "tests" / "golden" / "version1" / f"{name}.frames").read_bytes()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(machine.door())
        line.sendall(said)
        line.settimeout(10)
        answer = list(frames.Parser().feed(b"".join(iter(lambda: line.recv(4096), b""))))
    assert [kind for kind, _ in answer] == kinds
    assert frames.read_status(answer[-1][1]) == (0, "")
    assert len(machine.ids()) == (name == "submit")


def test_an_upgrade_in_place_under_a_daemon_that_runs(machine):
    """Every file of the library it runs by is another version's now, one that does not even import."""
    library = machine.programs / "library"
    shutil.copytree(ROOT / "dma_runtime", library / "dma_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    text = LAUNCHER.format(library=str(library), packages=sysconfig.get_path("purelib"), door="daemon")
    (machine.programs / "dmad").write_text(text)
    (machine.top / "etc" / "aliases").write_text("list: bob, someone@y.test\n")
    machine.start()
    for file in library.rglob("*.py"):
        file.write_text("raise ImportError('another version')\n")
    for compiled in library.rglob("__pycache__"):
        shutil.rmtree(compiled)
    for words in (("x@y.test",), ("bob",), ("list",), ("-D", "-f", "<>", "z@y.test")):
        machine.send(*words)
    machine.send("nobody-here", check=65)
    machine.run("sendmail", "-bv", "list", "nobody-here", user="alice", check=67)
    machine.configure(CONF + "MAXSIZE 2M\n")
    machine.dmad.send_signal(signal.SIGHUP)
    machine.run("sendmail", "-q", "-D", user="root", check=0)
    assert len(machine.queue()) == 4
    assert machine.stop() == 0
    assert b"error" not in machine.log.read_bytes(), machine.log.read_text()


# ---------------------------------------------------------------- nobody listens


def test_without_a_daemon_users_get_75_and_root_becomes_dma(machine):
    machine.start()
    assert machine.stop() == 0
    ran = machine.send("x@y.test", user="alice", check=75)
    assert ran.stderr.startswith(b"sendmail: no mail service listens at /run/dma/submit.sock")
    assert machine.ids() == []
    machine.send("-bq", "x@y.test", user="root")
    (name,) = machine.ids()
    assert owner(machine.spool / "queue" / name) == (990, 990, 0o600)
    machine.start()
    assert [row["id"] for row in machine.queue()] == [name]


def test_an_owner_left_by_root_makes_room_for_the_daemon(machine):
    machine.spool.mkdir(mode=0o700)
    os.chown(machine.spool, 990, 990)
    machine.send("x@y.test", user="root")  # leaves an owner behind: the message stays deferred
    (name,) = machine.ids()
    machine.until((machine.spool / "log" / name).exists, what="the owner's attempt")
    machine.start()
    machine.send("x@z.test", user="alice")
    assert len(machine.queue()) == 2


def test_a_first_start_makes_what_is_missing_and_a_second_daemon_does_not_stay(machine):
    machine.start()
    ran = machine.run("dmad", user="root", check=75)
    assert b"another process listens at /run/dma/submit.sock" in ran.stderr
    machine.send("x@y.test")


def test_killed_it_comes_back_and_nothing_accepted_is_lost(machine):
    machine.start()
    accepted, refused, stop = [], [], threading.Event()

    def keep_sending(user):
        while not stop.is_set():
            ran = machine.send("-bq", f"{len(accepted)}@y.test", user=user, check=None)
            (accepted if ran.returncode == 0 else refused).append(ran)

    senders = [threading.Thread(target=keep_sending, args=(user,)) for user in ("alice", "bob")]
    for sender in senders:
        sender.start()
    for _ in range(3):
        time.sleep(0.5)
        machine.stop(signal.SIGKILL)
        machine.start()
    time.sleep(0.5)
    stop.set()
    for sender in senders:
        sender.join(60)
    assert len(accepted) > 3
    assert {ran.returncode for ran in refused} <= {75}, refused
    assert len(machine.queue()) == len(machine.ids()) >= len(accepted)


def test_stopping_lets_who_is_inside_finish(machine):
    machine.start()
    with socket.socket(socket.AF_UNIX) as inside:
        inside.connect(machine.door())
        inside.sendall(frames.frame(frames.HEADER, b'{"v":1,"recipients":["x@y.test"]}'))
        time.sleep(0.3)
        machine.dmad.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        inside.sendall(frames.frame(frames.DATA, MESSAGE) + frames.frame(frames.COMMIT, b"%d" % len(MESSAGE)))
        inside.settimeout(10)
        said = b"".join(iter(lambda: inside.recv(4096), b""))
    assert [kind for kind, _ in frames.Parser().feed(said)] == [frames.ACCEPTED, frames.STATUS]
    assert machine.dmad.wait(20) == 0
    assert len(machine.ids()) == 1


class SlowRelay:
    """A relay that takes its time before its reply to the final dot, or to another verb: `there` when that has come."""

    def __init__(self, seconds, verb=b"."):
        self.verb = verb
        self.bell = socket.create_server(("127.0.0.1", 0))
        self.port = self.bell.getsockname()[1]
        self.seconds = seconds
        self.there = threading.Event()
        self.taken = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            line, _ = self.bell.accept()
            with line, line.makefile("rb") as heard:
                line.sendall(b"220 slow\r\n")
                for command in heard:
                    verb = command[:4].upper()
                    if verb == self.verb:
                        self.there.set()
                        time.sleep(self.seconds)
                    line.sendall(b"354 go\r\n" if verb == b"DATA" else b"221 bye\r\n" if verb == b"QUIT" else b"250 fine\r\n")
                    if verb == b"DATA":
                        while heard.readline() != b".\r\n":
                            pass
                        if self.verb == b".":
                            self.there.set()
                            time.sleep(self.seconds)
                        self.taken += 1
                        line.sendall(b"250 taken\r\n")


def hasty(machine, relay):
    """A daemon that has half a second of grace, and the relay as its own."""
    launcher = machine.programs / "dmad"
    hastily = "from dma_runtime.delivery import owner\nowner.GRACE = 0.5\nsys.exit("
    launcher.write_text(launcher.read_text().replace("sys.exit(", hastily))
    machine.configure(CONF.replace(":9", f":{relay.port}"))
    return machine.start()


def test_stopping_waits_for_no_other_reply(machine):
    relay = SlowRelay(30, b"RCPT")
    hasty(machine, relay)
    machine.send("x@y.test")
    assert relay.there.wait(20)
    began = time.monotonic()
    assert machine.stop() == 0
    assert time.monotonic() - began < 10
    assert len(machine.ids()) == 1


def test_stopping_waits_for_the_reply_to_the_final_dot(machine):
    """Longer than for anything else: without it the message would be sent again."""
    relay = SlowRelay(3)
    hasty(machine, relay)
    machine.send("x@y.test")
    assert relay.there.wait(20)
    machine.send("later@y.test")  # not begun any more
    assert machine.stop(seconds=30) == 0
    assert relay.taken == 1
    assert [machine.message(name)[0].recipients[0].address for name in machine.ids()] == ["later@y.test"]
