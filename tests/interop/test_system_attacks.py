"""The machine's mailer attacked: by an ordinary user, and by the mail account itself. Each test fails if the attack succeeds."""

import email
import os
import random
import subprocess
import sys
import sysconfig
import time

import pytest
from machine import CONF, ROOT, USERS, Machine

from dma_runtime import frames

MALLORY = USERS["mallory"][0]


@pytest.fixture(scope="module")
def machine():
    """One machine for those attacks that leave nothing behind; everybody submits under the limits of a test."""
    with Machine(CONF + "AUTHPATH /etc/dma/auth.conf\n") as made:
        auth = made.top / "etc" / "dma" / "auth.conf"
        auth.write_text("alice|127.0.0.1:the-secret\n")
        os.chown(auth, 0, 990)
        auth.chmod(0o640)
        made.start()
        made.send("-bq", "victim@x.test", user="bob", text=b"Subject: private\n\nthe secret of bob\n")
        yield made


@pytest.fixture
def fresh():
    with Machine() as made:
        yield made


def as_user(machine, code, *arguments, user="mallory"):
    """Run Python code as a user inside the machine; its standard output."""
    ran = machine.run("python3", "-c", code, *arguments, user=user, path=sys.executable, check=0)
    return ran.stdout.decode().strip()


def raw(machine, data, user="mallory"):
    """Say `data` at the submission socket, and listen: the frames of the answer."""
    code = (
        "import socket,sys\n"
        "line=socket.socket(socket.AF_UNIX); line.settimeout(40); line.connect('/run/dma/submit.sock')\n"
        "try:\n line.sendall(sys.stdin.buffer.read())\nexcept OSError: pass\n"
        "try:\n"
        " while data:=line.recv(65536): sys.stdout.buffer.write(data)\n"
        "except OSError: pass\n"
    )
    said = subprocess.run(machine.words("python3", "-c", code, user=user, path=sys.executable), input=data, capture_output=True)
    assert said.returncode == 0, said.stderr
    return list(frames.Parser().feed(said.stdout))


def handed(header, text=b"Subject: s\n\nx\n"):
    return frames.frame(frames.HEADER, header) + frames.frame(frames.DATA, text) + frames.frame(frames.COMMIT, b"%d" % len(text))


def works(machine, user="bob"):
    machine.send("-bq", "still@x.test", user=user)


# ---------------------------------------------------------------- reading what is not yours

TRY = """
import os, sys
for path in sys.argv[1:]:
    for attempt in (lambda: open(path, 'rb').read(1), lambda: os.listdir(path), lambda: open(path, 'ab'), lambda: os.unlink(path)):
        try:
            attempt()
        except OSError:
            continue
        print('got', path)
"""


def test_neither_secret_nor_queue_nor_memory_can_be_read_or_changed(machine):
    pid, (first, *_) = machine.dmad.pid, machine.ids()
    places = [
        "/etc/dma/auth.conf", "/var/spool/dma", "/var/spool/dma/queue", f"/var/spool/dma/queue/{first}", "/var/spool/dma/control",
        "/var/spool/dma/lock", f"/proc/{pid}/environ", f"/proc/{pid}/mem", f"/proc/{pid}/maps", f"/proc/{pid}/fd",
        f"/proc/{pid}/root", f"/proc/{pid}/cwd/etc/dma/auth.conf", "/run/dma/submit.sock", "/run/dma",
    ]  # fmt: skip
    got = as_user(machine, TRY, *places)
    assert got == "got /run/dma"  # which may be listed, and no more
    assert as_user(machine, "import os; print(os.access('/run/dma', os.W_OK))") == "False"
    works(machine)


def test_the_daemon_cannot_be_traced(machine):
    code = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, int(sys.argv[1]), 0, 0), ctypes.get_errno())
"""
    assert as_user(machine, code, str(machine.dmad.pid)) == "-1 1"  # PTRACE_ATTACH: EPERM


def test_others_mail_is_neither_listed_nor_touched(machine):
    (first, *_) = machine.ids()
    assert first not in machine.run("mailq", user="mallory", check=0).stdout.decode()
    for words in (("show", first), ("remove", first), ("hold", first), ("adopt",), ("run",)):
        assert machine.run("dma-queue", *words, user="mallory").returncode != 0
    assert first in machine.ids()


# ---------------------------------------------------------------- being somebody else


def test_an_identity_cannot_be_forged(machine):
    before = set(machine.ids())
    header = b'{"v":1,"recipients":["x@y.test"],"queue_only":true,"uid":0,"gid":0,"pid":1,"login":"root","trusted":true,'
    header += b'"environ":{"LOGNAME":"root","USER":"root","UID":"0"},"sender":"root@here.test"}'
    assert raw(machine, handed(header))[-1] == (frames.STATUS, b"0 ")
    machine.send("-bq", "-f", "root", "x@y.test", user="mallory", environment={"LOGNAME": "root", "USER": "bob", "SUDO_UID": "0"})
    for name in set(machine.ids()) - before:
        envelope, text = machine.message(name)
        assert (envelope.uid, envelope.login) == (MALLORY, "mallory")
        found = email.message_from_bytes(text)
        assert found["Received"].startswith("from mallory (uid 1003)")
        assert found["X-Authentication-Warning"].endswith("mallory set sender to root@here.test using -f")


# ---------------------------------------------------------------- injection

INJECTIONS = [
    ("-f", "a@x\nRCPT TO:<v@x>"),
    ("-f", "a@x\r\nDATA"),
    ("-f", "a@x> SIZE=1"),
    ("-F", 'M\nBcc: v@x\n\n"},{"v":1'),
    ("v@x\r\nRCPT TO:<w@x>",),
    ("v@x\nw@x",),
    ('"v\n"@x',),
    ("v@x\x1b[2J",),
    ('v"}],"uid":0,"recipients":[["w@x"]]}@x',),
    ("v@x\x85\u2028w",),
    ("-L", "sshd[1]: Accepted\ndma", "v@x"),
    ("-N", "never\nx", "v@x"),
    ("-V", "id\r\nMAIL", "v@x"),
    ("-R", "full\n", "v@x"),
]


@pytest.mark.parametrize("words", INJECTIONS)
def test_arguments_end_up_in_no_other_place_than_theirs(fresh, words):
    fresh.start()
    words = (*words, "v@x") if words[0] in ("-f", "-F") else words
    ran = fresh.send("-bq", *words, user="mallory", check=None)
    assert ran.returncode in (0, 64, 65)
    assert ran.stderr.count(b"\n") <= 1
    assert b"\x1b" not in ran.stderr
    for name in fresh.ids():
        line, _, text = (fresh.spool / "queue" / name).read_bytes().partition(b"\n")
        envelope, _ = fresh.message(name)
        assert line.isascii()
        assert (envelope.uid, envelope.login, envelope.id) == (MALLORY, "mallory", name)
        assert len(envelope.recipients) == 1
        header = email.message_from_bytes(text)
        assert sorted(set(header.keys()) - {"X-Authentication-Warning"}) == ["Date", "From", "Message-Id", "Received", "Subject"]
        assert header.get_payload() == "hello\n"
        assert b"\r" not in text
    shown = fresh.run("mailq", user="root", check=0).stdout
    assert b"\x1b" not in shown
    assert all(line.startswith(b"dma") for line in fresh.log.read_bytes().splitlines()), fresh.log.read_bytes()
    assert b"sshd" not in fresh.log.read_bytes()


def test_a_header_ends_up_in_no_log_line_of_its_own(fresh):
    fresh.start()
    text = b"Message-ID: <a\n b\x1b[2J\n c>\nFrom: x\n\ny\n"
    fresh.send("-bq", "v@x", user="mallory", text=text)
    assert all(line.startswith(b"dma[") for line in fresh.log.read_bytes().splitlines())
    assert b"\x1b" not in fresh.log.read_bytes()


# ---------------------------------------------------------------- standing in the way


def test_a_thousand_connections_and_as_much_garbage_cost_others_nothing(machine):
    code = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
lines = []
for number in range(1000):
    line = socket.socket(socket.AF_UNIX)
    line.setblocking(False)
    try:
        line.connect('/run/dma/submit.sock')
        if number % 2:
            line.send(b'H\\0\\0\\0\\xff{')
    except OSError:
        pass
    lines.append(line)
print('there', flush=True)
time.sleep(600)
"""
    flood = machine.popen(
        "python3", "-c", code, user="mallory", path=sys.executable, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert flood.stdout.readline() == b"there\n"
    began = time.monotonic()
    works(machine)
    works(machine, "root")
    assert time.monotonic() - began < 15
    assert b"20 programs of this user" in machine.send("x@y.test", user="mallory", check=75).stderr
    flood.kill()
    flood.wait()
    machine.running.remove(flood)
    dice = random.Random(4)
    for _ in range(10):
        raw(machine, dice.randbytes(dice.randrange(1, 3000)))
        raw(
            machine,
            handed(b'{"v":1,"recipients":["x@y.test"],"queue_only":true}')[: dice.randrange(90)] + dice.randbytes(50) + b"Z",
        )
    works(machine)
    assert b"internal error" not in machine.log.read_bytes()
    assert machine.dmad.poll() is None


def test_a_message_to_everybody_in_the_world_is_refused(fresh):
    """Each recipient costs the daemon memory and time, at every attempt: 800,000 of them took 440 MB and 40 s."""
    fresh.start()
    words = [f"a{number}@x.test" for number in range(1001)]
    ran = fresh.send(*words, user="mallory", check=69)
    assert ran.stderr.startswith(b"sendmail: more than 1000 recipients for one message")
    header = b"To: " + b",\n ".join(b"a%d@x.test" % number for number in range(1001)) + b"\n\n"
    fresh.send("-t", user="mallory", text=header, check=69)
    fresh.send("-bq", *words[:1000], user="mallory")
    fresh.send("-bq", *words, user="root")
    (first, second) = sorted(fresh.ids(), key=lambda name: len(fresh.message(name)[0].recipients))
    assert [len(fresh.message(name)[0].recipients) for name in (first, second)] == [1000, 1001]
    many = b"To: " + b"a@b,\n " * 800_000 + b"c@d\n\nx\n"
    assert b"header is larger than 1 MB" in fresh.send("-t", user="mallory", text=many, check=65).stderr
    assert int(open(f"/proc/{fresh.dmad.pid}/status").read().split("VmHWM:")[1].split()[0]) < 80_000  # KB


def test_over_smtp_the_client_is_told_to_send_the_others_again(fresh):
    fresh.start()
    said = b"EHLO x\r\nMAIL FROM:<m@x.test>\r\n" + b"".join(b"RCPT TO:<a%d@x.test>\r\n" % number for number in range(1002))
    said += b"DATA\r\nSubject: s\r\n\r\nx\r\n.\r\nQUIT\r\n"
    heard = fresh.run("sendmail", "-bs", user="mallory", stdin=said, check=0).stdout
    assert heard.count(b"452 4.5.3 too many recipients\r\n") == 2
    (name,) = fresh.ids()
    assert len(fresh.message(name)[0].recipients) == 1000


HOLD = """
import fcntl, os, sys, time
box = open('/var/mail/mallory', 'a+')
fcntl.lockf(box, fcntl.LOCK_EX)
print('held', flush=True)
time.sleep(600)
"""


def test_who_locks_his_own_mailbox_keeps_nobody_elses_mail_waiting(fresh):
    (fresh.top / "run" / "dma").mkdir()
    box = fresh.top / "mail" / "mallory"
    box.touch(0o600)
    os.chown(box, MALLORY, MALLORY)
    fresh.popen("dma-mailbox", "--listen", "/run/dma/mailbox.sock", stdin=subprocess.DEVNULL, extra_groups=[0, 8])
    fresh.until(lambda: fresh.listens("/run/dma/mailbox.sock", answers=False), what="the mailbox process to listen")
    fresh.start()
    holder = fresh.popen("python3", "-c", HOLD, user="mallory", path=sys.executable, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    for _ in range(12):
        fresh.send("mallory", user="mallory")
    began = time.monotonic()
    fresh.send("alice", user="bob")
    fresh.until((fresh.top / "mail" / "alice").exists, what="alice's mail")
    assert time.monotonic() - began < 15
    fresh.until(lambda: len(fresh.ids()) == 12, what="her message to be gone")


TARPITS = """
import fcntl, os, socket, struct, sys, threading
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    name = b'lo'.ljust(16, b'\\0')
    fcntl.ioctl(control, 0x8914, struct.pack('16sH14x', name, 0x49))  # SIOCSIFFLAGS: up, loopback, running
bell = socket.socket()
bell.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
bell.bind(('0.0.0.0', 25))
bell.listen(4096)
if os.fork():
    bell.close()
    os.execv(sys.argv[1], sys.argv[1:])

def speak(line):
    heard = line.makefile('rb')
    line.sendall(b'220 x\\r\\n')
    for command in heard:
        verb = command[:4].upper()
        line.sendall(b'354 x\\r\\n' if verb == b'DATA' else b'250 x\\r\\n')
        if verb == b'DATA':
            while heard.readline() != b'.\\r\\n':
                pass
            line.sendall(b'250 x\\r\\n')

tarpits = []
while True:
    line, _ = bell.accept()
    if line.getsockname()[0] == '127.0.0.2':
        threading.Thread(target=speak, args=(line,), daemon=True).start()
    else:
        tarpits.append(line)
"""


def test_a_thousand_tarpits_keep_nobody_elses_mail_waiting(fresh):
    """Direct delivery: who writes the addresses decides how many relays there are, and they may never say a word."""
    fresh.configure("MAILNAME here.test\nRETRY 1h 3h\n")
    words = ("--net", "--pid", "--kill-child", "--fork", sys.executable, "-c", TARPITS, str(fresh.programs / "dmad"), "-v")
    with open(fresh.log, "ab") as log:
        fresh.dmad = fresh.popen("unshare", *words, path="/usr/bin/unshare", stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    fresh.until(fresh.listens, what="dmad to listen")
    for part in range(3):
        fresh.send(*(f"m@[127.1.{part}.{number}]" for number in range(1, 251)), user="mallory")
    fresh.until(lambda: len(fresh.ids()) == 3, what="her mail to be queued")
    time.sleep(1)
    began = time.monotonic()
    fresh.send("b@[127.0.0.2]", user="bob")
    fresh.until(lambda: len(fresh.ids()) == 3, what="bob's mail to leave")
    assert b"delivery successful: 127.0.0.2" in fresh.log.read_bytes()
    assert time.monotonic() - began < 10
    daemons = [pid for pid in os.listdir("/proc") if pid.isdigit() and is_daemon(pid, fresh)]
    assert 40 < max(len(os.listdir(f"/proc/{pid}/fd")) for pid in daemons) < 200


def is_daemon(pid, machine):
    try:
        words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
    except OSError:
        return False
    return words[2:3] == [str(machine.programs / "dmad").encode()]


def test_a_full_disk_and_who_fills_it(fresh):
    fresh.spool.mkdir()
    mounted = fresh.run("mount", "-t", "tmpfs", "-o", "size=20m", "none", "/var/spool/dma", path="/bin/mount")
    if mounted.returncode:
        pytest.skip(f"needs tmpfs: {mounted.stderr.decode()}")
    fresh.start()
    big = b"Subject: big\n\n" + (b"z" * 79 + b"\n") * 26_000  # 2 MB
    refused = [fresh.send("-bq", "x@y.test", user="mallory", text=big, check=None) for _ in range(4)]
    assert [ran.returncode for ran in refused] == [0, 0, 75, 75]
    assert b"25 % of the spool" in refused[2].stderr
    fresh.send("-bq", "x@y.test", user="bob")
    statuses = [fresh.send("-bq", "x@y.test", user="root", text=big, check=None) for _ in range(10)]
    assert {ran.returncode for ran in statuses} == {0, 75}
    assert b"MINFREE" in statuses[-1].stderr
    queued = len(fresh.queue())
    assert queued == 3 + [ran.returncode for ran in statuses].count(0)
    fresh.send("-bq", "x@y.test", user="bob")  # small ones find their place
    assert len(fresh.queue()) == queued + 1


def test_a_disk_without_room_for_more_files_and_who_used_them_up(fresh):
    fresh.spool.mkdir()
    mounted = fresh.run("mount", "-t", "tmpfs", "-o", "size=200m,nr_inodes=400", "none", "/var/spool/dma", path="/bin/mount")
    if mounted.returncode:
        pytest.skip(f"needs tmpfs: {mounted.stderr.decode()}")
    fresh.start()
    taken = "import os, sys\nfor n in range(int(sys.argv[1])): open(f'/var/spool/dma/{sys.argv[2]}{n}', 'x')"
    fresh.run("python3", "-c", taken, "320", "a", path=sys.executable, check=0)
    answers = [fresh.send("-bq", "x@y.test", user="mallory", check=None) for _ in range(22)]
    refused = [ran for ran in answers if ran.returncode]
    assert {ran.returncode for ran in refused} == {75}
    assert b"25 % of the files" in refused[0].stderr
    fresh.send("-bq", "x@y.test", user="bob")
    left = int(fresh.run("stat", "-f", "-c", "%d", "/var/spool/dma", path="/usr/bin/stat", check=0).stdout)
    fresh.run("python3", "-c", taken, str(left - 3), "b", path=sys.executable, check=0)
    ran = fresh.send("-bq", "x@y.test", user="bob", check=75)
    assert b"files free in /var/spool/dma, less than 1 % of them" in ran.stderr


# ---------------------------------------------------------------- making root run what is yours

TRAP = "open('/tmp/{mark}', 'w').close()\n"


@pytest.mark.parametrize("program", ["sendmail", "mailq", "newaliases", "dma-queue", "dmad", "dma-mailbox", "dma-credential"])
def test_root_imports_nothing_of_a_users(machine, program):
    mark = f"dma-trap-{os.getpid()}-{program}"
    home = machine.top / "home" / "mallory"
    places = [home, home / ".local/lib/python3.11/site-packages"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        for name in (
            "sitecustomize",
            "usercustomize",
            "os",
            "json",
            "pwd",
            "socket",
            "dma_runtime",
            "encodings",
            "argparse",
            "_socket",
        ):
            (place / f"{name}.py").write_text(TRAP.format(mark=mark))
    (home / "dma.conf").write_text(f"SPOOLDIR {home}/spool\nAUTHPATH {home}/auth\n")
    names = "PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONPYCACHEPREFIX PYTHONEXECUTABLE PYTHONPLATLIBDIR"
    environment = dict.fromkeys([*names.split(), "HOME", "TMPDIR", "XDG_CONFIG_HOME"], "/home/mallory")
    environment |= {"PYTHONINSPECT": "1", "PYTHONBREAKPOINT": "os.system", "PYTHONWARNINGS": "error::os.x"}
    environment |= {"LC_ALL": "tr_TR.UTF-8", "PYTHON_KEYRING_BACKEND": "os.Keyring"}
    words = {"dma-queue": ("list",), "sendmail": ("-bq", "x@y.test"), "dmad": ("--version",), "dma-mailbox": ("--version",)}
    try:
        machine.run(program, *words.get(program, ()), user="root", environment=environment, cwd=home, stdin=b"Subject: s\n\nx\n")
        assert not os.path.exists(f"/tmp/{mark}")
    finally:
        if os.path.exists(f"/tmp/{mark}"):
            os.unlink(f"/tmp/{mark}")
    works(machine)


@pytest.mark.parametrize("program", ["sendmail", "mailq", "dma-queue", "dmad"])
@pytest.mark.parametrize("way", ["-C", "DMA_CONF"])
def test_root_believes_no_configuration_of_a_users(machine, program, way):
    home = machine.top / "home" / "mallory"
    (home / "dma.conf").write_text(f"SPOOLDIR {home}/spool\nSOCKET {home}/sock\n")
    os.chown(home / "dma.conf", MALLORY, MALLORY)
    words = ["-C", "/home/mallory/dma.conf"] if way == "-C" else []
    words += {"sendmail": ["x@y"], "dma-queue": ["list"]}.get(program, [])
    environment = {"DMA_CONF": "/home/mallory/dma.conf"} if way == "DMA_CONF" else {}
    if program == "mailq" and way == "-C":
        return  # mailq takes no options
    ran = machine.run(program, *words, user="root", environment=environment, stdin=b"Subject: s\n\nx\n", timeout=30)
    assert ran.returncode == 78, ran
    assert b"file not used" in ran.stderr
    assert not (home / "spool").exists()


# ---------------------------------------------------------------- as the mail account itself


def test_dma_cannot_make_root_write_through_the_spool(fresh):
    """Links in place of what is in the spool, and root comes by without a daemon."""
    target = fresh.top / "spool" / "target"  # on the same file system, or no link could be made
    target.mkdir(mode=0o755)
    secret = fresh.top / "etc" / "shadow"
    secret.write_text("root:the-hash\n")
    secret.chmod(0o600)
    fresh.start()
    fresh.stop()
    for name in ("queue", "log", "tmp"):
        (fresh.spool / name).rename(fresh.spool / f"{name}.old")
        os.symlink("/var/spool/target", fresh.spool / name)
    for name in ("lock", "notices", "owner", "relays", "control"):
        (fresh.spool / name).unlink(missing_ok=True)
        os.symlink("/etc/shadow" if name in ("notices", "owner") else "/var/spool/target/x", fresh.spool / name)
    for words in (("sendmail", "x@y.test"), ("sendmail", "-q"), ("mailq",), ("dma-queue", "list"), ("dma-queue", "run"),
                  ("dma-queue", "adopt"), ("dma-queue", "show", "abc"), ("dmad",)):  # fmt: skip
        ran = fresh.run(*words, user="root", stdin=b"Subject: s\n\nx\n", timeout=30)
        assert b"the-hash" not in ran.stdout + ran.stderr
    assert list(target.iterdir()) == []
    assert secret.read_text() == "root:the-hash\n"
    assert secret.stat().st_uid == 0
    assert target.stat().st_uid == 0


SETUP = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from dma_setup.cli import main
sys.exit(main(sys.argv[2:]))
"""


def test_dma_cannot_make_setup_read_through_the_spool(fresh):
    """What root's `dma-setup doctor` looks at in the queue it looks at with dma's rights."""
    private = fresh.top / "spool" / "private"
    private.mkdir(mode=0o700)
    (private / "name-of-roots").write_text("root:the-hash\n")
    fresh.start()
    fresh.send("x@y.test")
    fresh.stop()
    words = ("-c", SETUP, f"{ROOT}:{sysconfig.get_path('purelib')}", "doctor", "--offline")
    ran = fresh.run("python3", *words, path=sys.executable)
    assert b"1 message waits in the queue" in ran.stdout, ran  # as dma it can be seen
    (fresh.spool / "queue").rename(fresh.spool / "old")
    os.symlink("/var/spool/private", fresh.spool / "queue")
    for name in ("notices", "owner"):
        (fresh.spool / name).unlink(missing_ok=True)
        os.symlink("/var/spool/private/name-of-roots", fresh.spool / name)
    ran = fresh.run("python3", *words, path=sys.executable)
    assert b"the queue cannot be looked at" in ran.stdout
    assert b"name-of-roots" not in ran.stdout + ran.stderr
    assert b"the-hash" not in ran.stdout + ran.stderr


def test_dma_cannot_have_a_spool_elsewhere_given_to_it(fresh):
    """Starting dmad as root gives an empty directory to dma: only the one named, and only where root alone can put it."""
    home = fresh.top / "home" / "alice"
    fresh.configure(CONF + "SPOOLDIR /home/alice/spool\n")
    assert fresh.run("dmad", user="root").returncode == 78
    assert list(home.iterdir()) == []
    fresh.configure(CONF + "SPOOLDIR /var/spool/there\n")
    there = fresh.top / "spool" / "there"
    there.mkdir()
    (there / "file").write_text("root's\n")
    assert fresh.run("dmad", user="root").returncode == 73
    assert there.stat().st_uid == 0


def test_a_submission_socket_in_a_users_directory_is_not_made_by_root(fresh):
    fresh.configure(CONF + "SOCKET /home/mallory/sock\n")
    ran = fresh.run("dmad", user="root")
    assert (ran.returncode, b"SOCKET not used" in ran.stderr) == (78, True)
    fresh.configure(CONF + "SOCKET /etc/passwd\n")
    assert fresh.run("dmad", user="root").returncode == 73
    assert (fresh.top / "etc" / "passwd").read_text().startswith("nobody")
