"""The mailbox process with real users: whose rights it has, what it writes, and what cannot make it write anything else."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from machine import CONF, ROOT, USERS, Machine
from mailbox_room import ask, listener

from dma_runtime import frames, posting
from dma_runtime.frames import COMMIT, DATA, frame
from dma_runtime.policy.telling import Notice
from dma_runtime.posting import APPEND, FORWARD, Posting
from dma_runtime.system import notice

ALICE, BOB, DMA = USERS["alice"][0], USERS["bob"][0], USERS["dma"][0]
TEXT = b"Subject: s\n\nFrom here\n"


@pytest.fixture
def machine():
    with Machine() as made:
        (made.top / "run" / "dma").mkdir()
        yield made


@pytest.fixture
def process(machine):
    """The listener of a machine without systemd."""
    return listener(machine)


def letter(login="bob", **fields):
    asked = Posting(APPEND, login)
    asked.sender, asked.address, asked.id, asked.accepted_at = "a@x", f"{login}@here.test", "abc123", 1e9
    for name, value in fields.items():
        setattr(asked, name, value)
    return posting.encode(asked)


def whole(login="bob", text=TEXT, **fields):
    return letter(login, **fields) + frame(DATA, text) + frame(COMMIT, b"%d" % len(text))


def outcome(machine, data, **keywords):
    return posting.decode_outcome(ask(machine, data, **keywords))


def mailbox(machine, login="bob"):
    return machine.top / "mail" / login


# ---------------------------------------------------------------- the way of a message


def test_local_mail_arrives_in_a_mailbox_of_the_recipients(process):
    process.configure(CONF + "MAXSIZE 50M\n")
    process.start()
    process.send("bob", user="alice")
    process.send("-i", "alice@here.test", user="bob", text=b"Subject: big\n\n" + b"From y\n" * 500_000)
    process.until(lambda: not process.ids(), what="both to be delivered")
    box = mailbox(process)
    assert (box.stat().st_uid, box.stat().st_mode & 0o777) == (BOB, 0o600)
    text = box.read_bytes()
    assert text.startswith(b"From alice@here.test ")
    assert text.endswith(b"\n\nhello\n\n")
    assert mailbox(process, "alice").read_bytes().count(b"\n>From y") == 500_000
    assert sorted(path.name for path in (process.top / "mail").iterdir()) == ["alice", "bob"]


@pytest.mark.parametrize(
    ("systemd", "remedy"),
    [(True, b"systemctl status dma-mailbox.socket"), (False, b"dma-mailbox --listen /run/dma/mailbox.sock")],
)
def test_without_the_process_mail_waits_and_the_operator_is_told(machine, systemd, remedy):
    if systemd:
        os.makedirs(machine.top / "run/systemd/system")
    machine.start()
    machine.send("bob", user="alice")
    machine.until(lambda: b"no mailbox process at /run/dma/mailbox.sock" in machine.log.read_bytes(), what="the attempt")
    shown = machine.run("mailq", user="root", check=0)
    assert b"mail for bob is not delivered: no mailbox process" in shown.stderr
    assert remedy in shown.stderr
    theirs = machine.run("mailq", user="alice", check=0)
    assert (
        theirs.stderr == b"mailq: mail may be delayed: something keeps it from leaving this machine; root sees what with `mailq'\n"
    )


def test_a_listener_that_is_neither_root_nor_dma_is_given_no_mail(machine):
    bell = socket.socket(socket.AF_UNIX)
    path = str(machine.top / "run" / "dma" / "mailbox.sock")
    child = subprocess.Popen(
        [sys.executable, "-c", "import os,socket,sys,time; b=socket.socket(socket.AF_UNIX); b.bind(sys.argv[1]);"
         "os.chmod(sys.argv[1], 0o666); os.setresuid(1003,1003,1003); b.listen(5); c,_=b.accept();"
         "open(1,'wb').write(c.recv(100)); time.sleep(60)", path],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    machine.running.append(child)
    bell.close()
    machine.start()
    machine.send("bob", user="alice")
    machine.until(lambda: b"uid 1003 listens at" in machine.log.read_bytes(), what="the refusal")
    assert len(machine.ids()) == 1
    child.kill()
    assert child.stdout.read() == b""


@pytest.mark.parametrize("login", ["root", "mallory"])
def test_everybody_has_a_mailbox_and_root_too(process, login):
    assert outcome(process, whole(login)).kind == "delivered"
    found = mailbox(process, login).stat()
    assert found.st_uid == USERS[login][0]


def test_a_home_maildir_where_there_is_no_room_in_the_maildrop(process):
    (process.top / "mail").chmod(0o755)
    os.chown(process.top / "mail", 0, 0)
    assert outcome(process, whole()).kind == "delivered"
    (found,) = (process.top / "home" / "bob" / "Maildir" / "new").iterdir()
    assert found.stat().st_uid == BOB
    assert outcome(process, whole()).kind == "delivered"  # the same attempt again: no second copy
    assert len(list((process.top / "home" / "bob" / "Maildir" / "new").iterdir())) == 1


def test_the_rights_it_has_are_the_recipients_and_group_mail(process):
    """Seen from /proc while it waits for the rest of a message."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(process.door("mailbox.sock"))
    line.sendall(letter() + frame(DATA, TEXT))
    listener = process.running[0].pid

    def child():
        found = open(f"/proc/{listener}/task/{listener}/children").read().split()
        status = pathlib.Path(f"/proc/{found[0]}/status").read_text() if found else ""
        return status if f"Uid:\t{BOB}" in status else ""

    status = dict(entry.split(":\t", 1) for entry in process.until(child, what="it to be bob").splitlines() if ":\t" in entry)
    assert status["Uid"].split() == [str(BOB)] * 4
    assert status["Gid"].split()[:3] == [str(BOB), "8", str(BOB)]
    assert status["Groups"].split() == []
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapInh"], 16) == 0
    line.close()
    process.until(lambda: not child(), what="it to end")
    assert mailbox(process).read_bytes() == b""  # cut back


# ---------------------------------------------------------------- attacks


def test_only_dma_and_root_are_served(process):
    for uid in (ALICE, BOB, 65534):
        assert ask(process, whole(), uid=uid) is None
    os.chmod(process.door("mailbox.sock"), 0o666)  # the socket's own mode was the first wall
    for uid in (ALICE, BOB, 65534):
        assert ask(process, whole(), uid=uid) is None
    assert not mailbox(process).exists()
    assert outcome(process, whole(), uid=0).kind == "delivered"


@pytest.mark.parametrize("login", ["../alice", "/etc/passwd", "", ".", "bob/../alice", "nobody-here", "bob\0", "\udcff", "Bob"])
def test_a_login_is_an_account_and_no_path(process, login):
    before = sorted(path.name for path in (process.top / "mail").iterdir())
    answer = ask(process, whole(login))
    assert answer is None or posting.decode_outcome(answer).status == "5.1.1"
    assert sorted(path.name for path in (process.top / "mail").iterdir()) == before


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        frame(frames.HEADER, b"{}"),
        frame(DATA, b"x"),
        letter(id="../../x") + frame(COMMIT, b"0"),
        letter(id="") + frame(COMMIT, b"0"),
        letter(part=-1) + frame(COMMIT, b"0"),
        letter() + frame(DATA, TEXT) + frame(COMMIT, b"9999"),
        letter() + frame(DATA, TEXT),
        letter() + frame(DATA, TEXT) + b"D\xff\xff\xff\xff",
        letter() + frame(DATA, TEXT) + letter(),
    ],
)
def test_nonsense_and_lies_leave_the_mailbox_as_it_was(process, data):
    assert outcome(process, whole()).kind == "delivered"
    before = mailbox(process).read_bytes()
    assert ask(process, data, close=True) is None
    assert mailbox(process).read_bytes() == before
    assert outcome(process, whole()).kind == "delivered"


def victim(machine):
    """A file of root's that must not change."""
    path = machine.top / "etc" / "victim"
    path.write_bytes(b"root's\n")
    path.chmod(0o644)
    return path


def link(machine, box):
    box.symlink_to("/etc/victim")


def hard_link(machine, box):
    other = machine.top / "mail" / ".alices"
    other.write_bytes(b"alice's\n")
    os.chown(other, ALICE, ALICE)
    os.link(other, box)


def hard_link_of_ones_own(machine, box):
    other = machine.top / "mail" / ".bobs"
    other.write_bytes(b"bob's\n")
    os.chown(other, BOB, BOB)
    os.link(other, box)


def fifo(machine, box):
    os.mkfifo(box)
    os.chown(box, BOB, BOB)


def of_root(machine, box):
    box.write_bytes(b"")
    box.chmod(0o666)


def a_socket(machine, box):
    socket.socket(socket.AF_UNIX).bind(str(box))
    os.chown(box, BOB, BOB)


def link_to_ones_own(machine, box):
    other = machine.top / "home" / "bob" / "notes"
    other.write_bytes(b"")
    os.chown(other, BOB, BOB)
    box.symlink_to("/home/bob/notes")


def dangling(machine, box):
    box.symlink_to("/var/mail/nobody-has-this")


@pytest.mark.parametrize("trap", [link, link_to_ones_own, hard_link, hard_link_of_ones_own, fifo, of_root, a_socket, dangling])
def test_what_is_no_mailbox_is_left_alone_and_told(process, trap):
    target, box = victim(process), mailbox(process)
    trap(process, box)
    before = {path.name: (path.lstat().st_size, path.lstat().st_uid) for path in (process.top / "mail").iterdir()}
    began = time.monotonic()
    found = outcome(process, whole())
    assert (found.kind, found.tell) == ("deferred", True), found
    assert time.monotonic() - began < 25
    assert target.read_bytes() == b"root's\n"
    after = {path.name: (path.lstat().st_size, path.lstat().st_uid) for path in (process.top / "mail").iterdir()}
    assert after == before


@pytest.mark.parametrize("place", ["Maildir", "Maildir/new", "Maildir/tmp"])
def test_a_maildir_that_leads_elsewhere_is_not_followed(process, place):
    """The process has group mail beside the user's rights: a link of the user's must not lend them."""
    (process.top / "mail").chmod(0o755)  # nobody's room: ~/Maildir is used
    os.chown(process.top / "mail", 0, 0)
    target = process.top / "home" / "mails"
    target.mkdir()
    os.chown(target, 0, 8)
    target.chmod(0o2775)
    home = process.top / "home" / "bob"
    for part in ("Maildir", "Maildir/new", "Maildir/tmp", "Maildir/cur"):
        if part == place:
            (home / part).symlink_to("/home/mails")
            break
        (home / part).mkdir()
        os.chown(home / part, BOB, BOB)
    assert outcome(process, whole()).kind == "deferred"
    assert list(target.iterdir()) == []


def test_a_mailbox_that_changes_under_its_hands(process):
    """A race: the user swaps the mailbox for a link while mail comes in."""
    target, box = victim(process), mailbox(process)
    stop = time.monotonic() + 4
    racer = os.fork()
    if racer == 0:
        while time.monotonic() < stop:
            try:
                box.unlink(missing_ok=True)
                os.symlink("/etc/victim", box)
                os.unlink(box)
                box.touch(0o600)
                os.chown(box, BOB, BOB)
            except OSError:
                pass
        os._exit(0)
    while time.monotonic() < stop - 0.5:
        ask(process, whole())
    os.waitpid(racer, 0)
    assert target.read_bytes() == b"root's\n"


def test_an_immutable_or_full_mailbox_is_a_deferral(process):
    box = mailbox(process)
    box.write_bytes(b"From a\n\nx\n\n")
    os.chown(box, BOB, BOB)
    if subprocess.run(["chattr", "+i", str(box)], capture_output=True).returncode:
        pytest.skip("needs a file system with chattr +i")
    try:
        found = outcome(process, whole())
    finally:
        subprocess.run(["chattr", "-i", str(box)], check=True)
    assert (found.kind, found.tell) == ("deferred", True)
    assert box.read_bytes() == b"From a\n\nx\n\n"


# ---------------------------------------------------------------- .forward


def forward(machine, login="bob"):
    return posting.decode_forward(ask(machine, posting.encode(Posting(FORWARD, login))))


def test_a_forward_is_read_as_the_user_and_only_a_safe_one(process):
    home = process.top / "home" / "bob"
    path = home / ".forward"
    assert forward(process) == (None, "")
    assert forward(process, "nobody-here") == (None, "")
    path.write_text("alice, bob@elsewhere.test\n")
    os.chown(path, BOB, BOB)
    assert forward(process) == ("alice, bob@elsewhere.test\n", "")
    for mode in (0o664, 0o646):
        path.chmod(mode)
        assert forward(process)[0] is None
        assert ".forward" in forward(process)[1]
    path.chmod(0o600)
    assert forward(process)[0] is not None
    os.chown(path, ALICE, ALICE)
    assert forward(process)[0] is None
    path.unlink()
    secret = process.top / "etc" / "secret"
    secret.write_text("root's secret\n")
    secret.chmod(0o640)
    os.chown(secret, 0, 8)  # group mail must be gone by now
    path.symlink_to("/etc/secret")
    assert forward(process)[0] is None
    path.unlink()
    os.link(secret, path)
    assert forward(process)[0] is None
    secret.unlink()  # now it has one name, is root's, and only group mail may read it
    assert forward(process) == (None, "/home/bob/.forward: Permission denied")
    path.unlink()
    os.mkfifo(path)
    os.chown(path, BOB, BOB)
    assert forward(process)[0] is None
    path.unlink()
    path.write_text("x@y\n")
    os.chown(path, BOB, BOB)
    home.chmod(0o777)
    assert forward(process)[0] is None


def test_root_is_told_by_mail_of_what_has_stood_for_a_day_past_all_aliases(process):
    """hard-parts.md, "Telling the operator": once, in the mailbox of this machine."""
    machine = process
    (machine.top / "etc" / "aliases").write_text("root: away@x.test\n")
    machine.spool.mkdir(mode=0o700)
    os.chown(machine.spool, DMA, DMA)
    stands = Notice("relay 127.0.0.1:9", "AUTH", "127.0.0.1:9 takes no mail", "do this", time.time() - 90000)
    notice.raise_(str(machine.spool), stands)
    os.chown(machine.spool / "notices", DMA, DMA)
    box = mailbox(machine, "root")
    for _ in range(2):
        machine.start()
        machine.until(lambda: box.exists() and b"takes no mail (for 1 d); do this" in box.read_bytes(), what="the letter")
        machine.until(lambda: not machine.ids(), what="it to be gone")
        assert machine.run("dma-queue", "list", "--check").stdout == b"127.0.0.1:9 takes no mail; do this\n"
        assert machine.stop() == 0
    assert box.read_bytes().count(b"\nSubject: Mail does not leave") == 1


def test_monitoring_sees_that_nobody_takes_mail(machine):
    machine.start()
    assert machine.run("dma-queue", "list", "--check", check=0).stdout == b"ok, 0 queued\n"
    assert machine.stop() == 0
    said = machine.run("dma-queue", "list", "--check", check=1).stdout.decode()
    assert said.startswith("no mail is taken: no mail service listens at /run/dma/submit.sock: ")


def test_a_home_that_does_not_answer_holds_no_process(machine):
    """Its file system may be the user's own (FUSE): nothing but a signal that ends a process gets through to who waits there."""
    code = (
        "import signal, socket, sys, time\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from dma_runtime.cmd import mailbox\n"
        "from dma_runtime import posting\n"
        "ours, theirs = socket.socketpair()\n"
        "ours.sendall(posting.encode(posting.Posting(posting.FORWARD, 'bob')))\n"
        "mailbox.FORWARD_ALL = 1\n"
        "def hang(*_):\n"
        "    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])\n"
        "    while True:\n"
        "        try: time.sleep(60)\n"
        "        except BaseException: pass\n"
        "mailbox.forward.read = hang\n"
        "mailbox.serve(theirs, mailbox.MailLog(), mailbox.Does(commands=False, mailboxes=True))\n"
    )
    ran = machine.run("python3", "-c", code, path=sys.executable, timeout=20)
    assert ran.returncode == -signal.SIGALRM
