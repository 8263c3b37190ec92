"""A message is what its bytes say, in whatever pieces they come: a caller writes header and body separately, or slowly.

Real callers do (nodemailer's sendmail transport, a shell group that prints the header before a slow command): the end of
a read is nothing to the message, only the end of the input is.
"""

import array
import errno
import fcntl
import itertools
import os
import random
import subprocess
import termios
import time
import types

import pytest
from sendmail_program import Sendmail

from dma_runtime.cmd import peer, submit
from dma_runtime.config import load
from dma_runtime.errors import CannotSpool
from dma_runtime.message import headers
from dma_runtime.message.intake import Intake
from dma_runtime.request import SUBMIT, Request
from dma_runtime.system import fs
from dma_runtime.system.maillog import MailLog

MESSAGES = {
    "header and body": b"Subject: s\nTo: a@x\n\none\n\nthree\n",
    "folded": b"Subject: s\n t\n\nbody\n",
    "CRLF": b"Subject: s\r\n\r\none\r\ntwo\r\n",
    "no final newline": b"Subject: s\n\nbody",
    "an empty line is all": b"Subject: s\n\n\n",
    "header only": b"Subject: s\n",
    "no header": b"hello there\nyou\n",
    "no empty line": b"Subject: s\nand now the body\nmore\n",
    "mail from cron": b"From root Fri Nov 27 11:00:00 2026\nSubject: s\n\nFrom here\n",
    "empty": b"",
}
FIXED = b"From: f@x\nDate: d\nMessage-ID: <m@x>\n"


@pytest.fixture
def mail(tmp_path):
    return Sendmail(tmp_path)


def stored(mail, pieces):
    """The message as it lies in the spool, without the trace field, after `pieces` were read one by one."""
    waiting = iter(pieces)
    asked = Request(SUBMIT)
    asked.recipients, asked.queue_only = ["a@x"], True
    asked.environ = {}
    config = load(str(mail.conf))
    log = MailLog(device="/nonexistent")
    (envelope,), _ = peer.accept(asked, os.getuid(), config, lambda: next(waiting, b""), log=log)
    envelope, message = mail.read(envelope.id)
    assert envelope.size == len(message)
    return message[message.index(b"\nFrom: f@x") + 1 :] if b"\nFrom: f@x" in message else message.partition(b"+0000\n")[2]


@pytest.mark.parametrize("name", MESSAGES)
def test_pieces_make_no_difference(mail, name):
    message = FIXED + MESSAGES[name] if name not in ("no header", "empty", "mail from cron") else MESSAGES[name]
    fixed = {}

    def same(pieces):
        found = stored(mail, pieces)
        # What was added differs in every message: the date may, the id does.
        lines = [line for line in found.split(b"\n") if not line.startswith((b"Date: ", b"Message-Id: "))]
        assert fixed.setdefault("whole", lines) == lines, pieces

    same([message])
    for at in range(1, len(message)):
        same([message[:at], message[at:]])
    same([bytes([byte]) for byte in message])


PARTS = [
    b"From ", b">From ", b"Subject: s\n", b"To", b": ", b"\n", b"\r\n", b"\r", b".", b"\n.\n", b"\r\n.\r\n", b" folded\n", b"\t",
    b"\xef\xbb\xbf", b"\xef",
    b"x" * 895, b"y" * 5, b"a" * 899, b"z" * 2000, b":", b"body", b"\0", b"\xe4", b"\r\r\n", b"X-y:" + b"q" * 1500 + b"\n",
]  # fmt: skip


def read(message, cuts, ignore_dots):
    """(header, body) of what is submitted, cut into reads at `cuts`."""
    waiting = iter([message[a:b] for a, b in itertools.pairwise([0, *cuts, len(message)]) if a < b])
    intake = Intake(lambda: next(waiting, b""), ignore_dots=ignore_dots)
    fields, body = headers.read(intake.read)
    body += b"".join(iter(intake.read, b""))
    return [field.raw for field in fields], body, intake.bare_cr


def test_however_it_is_cut_and_whatever_it_is():
    dice = random.Random(1)
    for _ in range(8000):
        message = b"".join(dice.choice(PARTS) for _ in range(dice.randint(2, 9)))
        ignore_dots = dice.random() < 0.5
        whole = read(message, [], ignore_dots)
        for _ in range(3):
            cuts = sorted(dice.sample(range(1, len(message)), min(len(message) - 1, dice.randint(1, 6))))
            assert read(message, cuts, ignore_dots) == whole, (message, cuts)


def test_the_body_that_comes_later_is_the_message_s(mail):
    # Seen with nodemailer: the header in one write, the body in the next. The message was accepted, without its body.
    assert stored(mail, [FIXED + b"Subject: s\n\n", b"body\n"]) == FIXED + b"Subject: s\n\nbody\n"


@pytest.mark.parametrize("words", [["-i"], ["-t"], []])
def test_a_producer_that_pauses_where_the_body_begins(mail, words):
    program = subprocess.Popen([str(mail.program), "-bq", *words, "a@x"], stdin=subprocess.PIPE, env=mail.environment)
    for piece in (FIXED, b"To: b@x\n\n", b"one\n", b"\n", b"two\n"):
        program.stdin.write(piece)
        program.stdin.flush()
        until_read(program)
    program.stdin.close()
    assert program.wait(30) == 0
    ((_, message),) = mail.stored()
    assert message.endswith(b"To: b@x\n\none\n\ntwo\n")


def test_standard_input_that_does_not_wait_is_waited_for(mail):
    # A pipe or terminal that somebody else shares and made so (ssh, an event loop): "not yet" is not "no more".
    read, write = os.pipe()
    os.set_blocking(read, False)
    program = subprocess.Popen([str(mail.program), "-bq", "a@x"], stdin=read, stderr=subprocess.PIPE, env=mail.environment)
    os.close(read)
    for piece in (FIXED, b"Subject: s\n\n", b"body\n"):
        time.sleep(0.1)
        if program.poll() is None:
            os.write(write, piece)
    os.close(write)
    assert (program.wait(30), program.stderr.read()) == (0, b"")
    ((_, message),) = mail.stored()
    assert message.endswith(b"Subject: s\n\nbody\n")


def test_a_terminal_is_not_asked_for_more_behind_the_end(monkeypatch):
    # What cannot be accepted is kept in dead.letter: all of it is read for that, and a second Ctrl-D was needed.
    typed = iter([b"Subject: s\n", b""])
    monkeypatch.setattr(submit, "os", types.SimpleNamespace(read=lambda fd, size: next(typed)))
    source = submit.Source(keep=True)
    assert [source.read() for _ in range(4)] == [b"Subject: s\n", b"", b"", b""]


def until_read(program):
    """Wait until the pipe is empty: the program has what was written so far, and no more."""
    waiting = array.array("i", [1])
    while waiting[0] and program.poll() is None:
        fcntl.ioctl(program.stdin, termios.FIONREAD, waiting)
        time.sleep(0.005)


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
@pytest.mark.parametrize("size", [10, 600_000])
def test_a_disk_that_is_full_for_the_second_copy_leaves_no_first_one(mail, monkeypatch, call, size):
    """Mail for a list with an owner and for somebody else is two messages; told 75, the caller sends both again."""
    mail.aliases.write_text("team: a@x.test\nowner-team: chief@far.test\n")
    asked = Request(SUBMIT)
    asked.recipients, asked.queue_only, asked.environ = ["team", "b@x.test"], True, {}
    real, calls = getattr(fs.FileSystem, call), []

    def submitted(fail_at):
        calls.clear()
        waiting = iter([b"Subject: s\n\n", b"x" * size])
        mail.last = fail_at
        return peer.accept(asked, os.getuid(), load(str(mail.conf)), lambda: next(waiting, b""), log=MailLog(device="/nonexistent"))

    def failing(*arguments):
        calls.append(call)
        if len(calls) == mail.last:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(fs.FileSystem, call, failing)
    submitted(0)  # makes the spool
    assert len(submitted(0)[0]) == 2
    accepted = mail.stored()
    number = len(calls) - (2 if call == "fsync" else 0)  # the last two are the directory's, behind the names
    assert number >= 2, calls
    for at in range(1, number + 1):
        with pytest.raises(CannotSpool):
            submitted(at)
        assert len(mail.stored()) == len(accepted), at
