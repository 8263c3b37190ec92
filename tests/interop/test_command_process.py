"""Commands and files of the aliases and `.forward` in system mode (PIPES), with real users: whose rights they have, and that
nobody but their owner gets one run, the daemon least of all."""

import mailbox
import os
import socket
import time

import pytest
from machine import CONF, USERS, Machine
from mailbox_room import DMA, ask, listener

from dma_runtime import posting
from dma_runtime.frames import COMMIT, DATA, frame
from dma_runtime.posting import RUN, Posting

ALICE, BOB, NOBODY = USERS["alice"][0], USERS["bob"][0], 65534
TEXT = b"Subject: s\n\nFrom here\n"


@pytest.fixture
def machine():
    """With the mailbox process of a machine without systemd, and PIPES. `out`: where everybody may write."""
    with Machine(CONF + "PIPES\n") as made:
        (made.top / "run" / "dma").mkdir()
        made.out = made.top / "home" / "out"
        made.out.mkdir()
        made.out.chmod(0o1777)
        yield listener(made)


def forward(machine, text, login="alice"):
    path = machine.top / "home" / login / ".forward"
    path.write_text(text)
    os.chown(path, *USERS[login])
    path.chmod(0o600)


def order(errand, **fields):
    """What the daemon says to have `errand` done for a whole message."""
    asked = Posting(RUN, "")
    asked.errand, asked.sender, asked.address, asked.id, asked.accepted_at = errand, "a@x", "alice@here.test", "abc123", 1e9
    for name, value in fields.items():
        setattr(asked, name, value)
    return posting.encode(asked) + frame(DATA, TEXT) + frame(COMMIT, b"%d" % len(TEXT))


def outcome(machine, errand, **keywords):
    return posting.decode_outcome(ask(machine, order(errand), **keywords))


# ---------------------------------------------------------------- what they are for


def test_a_users_command_has_that_users_rights_and_no_others(machine):
    forward(machine, '\\alice, "|cat > /home/alice/got; id > /home/out/who; pwd >> /home/out/who"\n')
    machine.start()
    machine.send("alice", user="bob")
    machine.until(lambda: not machine.ids(), what="both deliveries")
    got = (machine.top / "home" / "alice" / "got").read_bytes()
    assert b"\nDelivered-To: alice@here.test\n" in got
    assert got.endswith(b"\n\nhello\n")
    who, where = (machine.out / "who").read_text().splitlines()
    assert who == "uid=1001(alice) gid=1001(alice) groups=1001(alice)"
    assert where == "/home/alice"
    assert (machine.top / "mail" / "alice").read_bytes().endswith(b"\n\nhello\n\n"), "and the copy alice keeps"


def test_a_command_of_the_aliases_is_nobodys(machine):
    lists = machine.top / "etc" / "lists"
    lists.write_text("|id > /home/out/listed\n")
    who = "id > /home/out/who; grep ^Uid /proc/$PPID/status >> /home/out/who"
    (machine.top / "etc" / "aliases").write_text(f'robot: "|{who}"\nmany: :include:/etc/lists\n')
    machine.start()
    machine.send("robot", "many", user="bob")
    machine.until(lambda: not machine.ids(), what="both deliveries")
    said = "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n"
    assert (machine.out / "who").read_text() == said + "Uid:\t65534\t65534\t65534\t65534\n", "and what started it is too"
    assert (machine.out / "listed").read_text() == said


def test_a_forward_into_files_of_ones_own(machine):
    forward(machine, "/home/alice/Maildir/, /home/alice/mbox\n")
    machine.start()
    machine.send("alice", user="bob")
    machine.until(lambda: not machine.ids(), what="both deliveries")
    (found,) = (machine.top / "home" / "alice" / "Maildir" / "new").iterdir()
    assert (found.stat().st_uid, found.stat().st_mode & 0o777) == (ALICE, 0o600)
    box = machine.top / "home" / "alice" / "mbox"
    assert len(mailbox.mbox(box)) == 1
    assert box.stat().st_uid == ALICE
    assert not (machine.top / "mail" / "alice").exists()


def test_roots_command_is_nobodys(machine):
    passwd = machine.top / "etc" / "passwd"
    passwd.write_text(passwd.read_text().replace(":/root:", ":/home/root:"))
    (machine.top / "home" / "root").mkdir()
    forward(machine, "|id > /home/out/who\n/home/root/box\n", "root")
    assert outcome(machine, "|root id > /home/out/who").kind == "delivered"
    assert (machine.out / "who").read_text().startswith("uid=65534(nobody)")
    assert outcome(machine, ">root /home/root/box").status == "5.7.1"
    assert not (machine.top / "home" / "root" / "box").exists()


def test_its_end_is_the_answer(machine):
    forward(machine, '"|echo full; exit 75"\n"|exit 67"\n')
    later = outcome(machine, "|alice echo full; exit 75")
    assert (later.kind, later.text) == ("deferred", "echo full; exit 75: exit status 75: full")
    assert outcome(machine, "|alice exit 67").status == "5.1.1"


def test_lists_and_refusals_say_whose_a_command_is_and_not_which(machine):
    forward(machine, "|/home/alice/secret-filter\n")
    machine.start()
    machine.send("alice", user="bob")
    machine.until(lambda: b"can not be run" in machine.log.read_bytes(), what="the attempt")
    assert len(machine.ids()) == 1, "a command that cannot be run is tried again"
    shown = machine.run("mailq", user="bob", check=0).stdout
    assert b"To\t: alice\n" in shown
    assert b"secret-filter" not in shown
    assert b"to <alice>" in machine.run("dma-queue", "list", user="bob").stdout
    machine.configure(CONF)
    machine.stop()
    machine.start()
    refused = machine.send("alice", user="bob", check=65).stderr
    assert b"switched off: the .forward of alice" in refused
    assert b"secret-filter" not in refused


def test_a_command_that_sleeps_keeps_nobody_elses_mail_waiting(machine):
    forward(machine, "".join(f'"|sleep 30; : {number}"\n' for number in range(20)), "mallory")
    forward(machine, "|touch /home/out/alices\n")
    machine.start()
    for _ in range(10):
        machine.send("mallory", user="mallory")
    began = time.monotonic()
    machine.send("mallory", "bob", "alice", user="bob")
    machine.until((machine.top / "mail" / "bob").exists, what="bob's mail")
    machine.send("alice", user="bob")
    machine.until((machine.out / "alices").exists, what="alice's command")
    assert time.monotonic() - began < 15


# ---------------------------------------------------------------- attacks: who is the daemon runs nothing of its own

EVIL = "touch /home/out/evil"


@pytest.mark.parametrize(
    "errand",
    [
        f"|alice {EVIL}",  # not in the .forward
        f"|bob {EVIL}",  # bob has none
        f"|mallory {EVIL}; touch /home/out/mine",  # a part of what is there
        "|alice touch /home/out/mine",  # another's
        f"| {EVIL}",  # not in the aliases
        f"|root {EVIL}",
        f"|nobody {EVIL}",
        f"|dma {EVIL}",
        ">alice /home/out/evil",
        "> /home/out/evil",
        ">root /home/out/evil",
        "> /home/out/listed",  # named by the aliases, and a file
        f"|../mallory {EVIL}",
        f"|/home/mallory {EVIL}",
        f"|1003 {EVIL}",
        f"|no-such-user {EVIL}",
        f"| {EVIL} ",
    ],
)
def test_only_what_its_owner_has_written_down_is_done(machine, errand):
    forward(machine, "|touch /home/out/mine\n", "mallory")
    forward(machine, "|touch /home/out/fine\n/home/alice/box\n")
    (machine.top / "etc" / "aliases").write_text("robot: |touch /home/out/fine, /home/out/listed\n")
    for said in (outcome(machine, errand), outcome(machine, errand, uid=0)):
        assert said.kind == "failed"
    assert list(machine.out.iterdir()) == []
    assert outcome(machine, "|mallory touch /home/out/mine").kind == "delivered"
    assert (machine.out / "mine").stat().st_uid == USERS["mallory"][0]


@pytest.mark.parametrize("login", ["alice", ""])
def test_without_pipes_nothing_is_run(machine, login):
    forward(machine, f"|{EVIL}\n/home/alice/box\n")
    (machine.top / "etc" / "aliases").write_text(f"robot: |{EVIL}\n")
    machine.configure(CONF)
    assert outcome(machine, f"|{login} {EVIL}").status == "5.7.1"
    assert outcome(machine, ">alice /home/alice/box").status == "5.7.1"
    assert list(machine.out.iterdir()) == []
    assert not (machine.top / "home" / "alice" / "box").exists()


@pytest.mark.parametrize("whose", [("aliases", DMA, 0o644), ("aliases", 0, 0o666), ("aliases", 0, 0o664), ("lists", DMA, 0o644),
                                   ("lists", ALICE, 0o644), ("lists", 0, 0o664)])  # fmt: skip
def test_aliases_that_anybody_but_root_can_write_name_no_commands(machine, whose):
    name, uid, mode = whose
    lists, aliases = machine.top / "etc" / "lists", machine.top / "etc" / "aliases"
    lists.write_text(f"|{EVIL}\n")
    aliases.write_text("many: :include:/etc/lists\n" if name == "lists" else f"robot: |{EVIL}\n")
    path = machine.top / "etc" / name
    os.chown(path, uid, 990)
    path.chmod(mode)
    assert outcome(machine, f"| {EVIL}").kind == "failed"
    machine.start()
    refused = machine.send("many" if name == "lists" else "robot", user="bob", check=65)
    assert f"/etc/{name} ".encode() in refused.stderr
    assert list(machine.out.iterdir()) == []
    os.chown(path, 0, 0)
    path.chmod(0o644)
    assert outcome(machine, f"| {EVIL}").kind == "delivered", "and this is what it would have looked like"


def test_an_included_list_that_only_root_can_read_is_not_read_for_the_daemon(machine):
    lists = machine.top / "etc" / "lists"
    lists.write_text(f"|{EVIL}\n")
    lists.chmod(0o600)
    (machine.top / "etc" / "aliases").write_text("many: :include:/etc/lists\n")
    assert outcome(machine, f"| {EVIL}").kind == "failed"


def test_a_message_that_is_cut_off_starts_no_command(machine):
    forward(machine, "|touch /home/out/ran\n")
    whole = order("|alice touch /home/out/ran")
    for cut in (whole[:-1], whole[: whole.index(b"Subject")], whole[:-10]):
        assert ask(machine, cut, close=True) is None
    wrong = whole[: -len(frame(COMMIT, b"%d" % len(TEXT)))] + frame(COMMIT, b"%d" % (len(TEXT) + 1))
    assert ask(machine, wrong) is None
    assert list(machine.out.iterdir()) == []


def test_nobody_but_the_daemon_and_root_may_ask(machine):
    forward(machine, "|touch /home/out/ran\n")
    os.chmod(machine.door("mailbox.sock"), 0o666)
    for uid in (ALICE, BOB, NOBODY):
        assert ask(machine, order("|alice touch /home/out/ran"), uid=uid) is None
    assert list(machine.out.iterdir()) == []


@pytest.mark.parametrize("errand", ["", "|", "|alice", "alice", ">", "touch x", "| ", "\udcff |x"])
def test_an_errand_that_is_none(machine, errand):
    answer = ask(machine, order(errand))
    assert answer is None or posting.decode_outcome(answer).kind == "failed"
    assert list(machine.out.iterdir()) == []


def test_a_forward_that_others_can_write_runs_nothing(machine):
    forward(machine, f"|{EVIL}\n")
    path = machine.top / "home" / "alice" / ".forward"
    for breach in (lambda: path.chmod(0o666), lambda: (path.chmod(0o600), os.chown(path, DMA, DMA))):
        breach()
        assert outcome(machine, f"|alice {EVIL}").kind == "deferred"
    path.unlink()
    (machine.top / "home" / "bob" / "theirs").write_text(f"|{EVIL}\n")
    path.symlink_to("/home/bob/theirs")
    assert outcome(machine, f"|alice {EVIL}").kind == "deferred"
    assert list(machine.out.iterdir()) == []


def test_files_that_are_no_mailboxes_are_not_written(machine):
    forward(machine, "/home/alice/link\n/home/alice/fifo\n/etc/passwd\n/home/bob/box\n")
    home = machine.top / "home" / "alice"
    (machine.top / "home" / "bob" / "box").touch()
    (machine.top / "home" / "bob" / "box").chmod(0o666)
    (home / "link").symlink_to("/home/bob/box")
    os.mkfifo(home / "fifo")
    os.chown(home / "fifo", ALICE, ALICE)
    before = (machine.top / "etc" / "passwd").read_bytes()
    for path in ("/home/alice/link", "/home/alice/fifo", "/etc/passwd", "/home/bob/box"):
        assert outcome(machine, f">alice {path}").kind == "deferred", path
    assert (machine.top / "home" / "bob" / "box").read_bytes() == b""
    assert (machine.top / "etc" / "passwd").read_bytes() == before


def test_a_command_gets_nothing_but_its_message(machine):
    """No descriptor of the process that runs it, no power, and no way into it."""
    look = "ls -l /proc/self/fd | grep -v ' 255 ' > /home/out/fds; cat /proc/$PPID/environ /proc/$PPID/mem > /home/out/parent;"
    look += " grep -E '^(Cap|Groups)' /proc/self/status > /home/out/status; true"
    forward(machine, f'"|{look}"\n')
    assert outcome(machine, f"|alice {look}").kind == "delivered"
    kinds = [line.split(" -> ")[1] for line in (machine.out / "fds").read_text().splitlines() if " -> " in line]
    assert not [kind for kind in kinds if kind.startswith("socket:")], kinds
    assert (machine.out / "parent").read_bytes() == b""
    status = dict(line.split(":\t") for line in (machine.out / "status").read_text().splitlines())
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapInh"], 16) == 0
    assert status["Groups"].split() == []


@pytest.mark.parametrize(("words", "errand"), [((), True), (("--commands",), False)])
def test_the_two_units_do_not_do_each_others_work(machine, words, errand):
    """dma-mailbox@.service has no network and homes to read only; dma-command@.service writes no mailbox."""
    forward(machine, "|touch /home/out/ran\n")
    ours, theirs = socket.socketpair()
    if errand:
        ours.sendall(order("|alice touch /home/out/ran"))
    else:
        asked = Posting(posting.APPEND, "bob")
        asked.id = "abc123"
        ours.sendall(posting.encode(asked) + frame(DATA, TEXT) + frame(COMMIT, b"%d" % len(TEXT)))
    ran = machine.popen("dma-mailbox", *words, stdin=theirs)
    theirs.close()
    assert ran.wait(20) == 0
    said = posting.decode_outcome(ours.recv(65536)[5:])
    assert (said.kind, said.text) == ("deferred", "that is another unit's")
    assert list(machine.out.iterdir()) == []
    assert not (machine.top / "mail" / "bob").exists()
