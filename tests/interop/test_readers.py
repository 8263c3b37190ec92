"""What local delivery wrote is opened by the programs people read mail with, while others write and hold the locks."""

import mailbox
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time

import pytest
from virtual_terminal import VirtualTerminal

from dma_runtime.message import mboxrd
from dma_runtime.system import maildir

UID = os.geteuid()
BODY = "Grüße,\n\nFrom here on\n>From there\n.\nthe end of {}"  # no last line end

# Another program that writes to the mailbox: it takes its locks, writes half a message, is slow, and writes the rest.
OTHER = """
    import mailbox, os, sys, time
    for number in range(5):
        box = mailbox.mbox(sys.argv[1])
        while True:
            try:
                box.lock()
                break
            except mailbox.ExternalClashError:
                time.sleep(0.01)
        with open(sys.argv[1], "ab", buffering=0) as file:
            file.write(b"From other Sun Nov 22 19:22:01 2026\\nSubject: other-%d\\n\\nhalf" % number)
            time.sleep(0.1)
            file.write(b" and half\\n\\n")
        box.unlock()
        box.close()
"""
OURS = """
    import os, sys, time
    from dma_runtime.message import mboxrd
    from dma_runtime.system import mbox
    for number in range(5):
        text = sys.argv[3].format(number).encode()
        body = [b"Subject: %s-%d\\nContent-Type: text/plain; charset=utf-8\\n\\n" % (sys.argv[2].encode(), number), text]
        mbox.append(sys.argv[1], mboxrd.mbox_entry("a@x.test", "me@x.test", time.gmtime(), body), uid=os.geteuid())
        time.sleep(0.05)  # so that all of them are at it at once
"""


def python(code, *words):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *words], cwd=os.getcwd())


def expected():
    return sorted(f"{who}-{number}" for who in ("other", "one", "two", "three") for number in range(5))


@pytest.fixture
def box(tmp_path):
    """A mailbox that four programs wrote to at once."""
    path = str(tmp_path / "box")
    running = [python(OTHER, path), *(python(OURS, path, who, BODY) for who in ("one", "two", "three"))]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    assert not os.path.exists(path + ".lock")
    return path


def subjects(path):
    """What Python's mailbox finds, sorted."""
    return sorted(message["Subject"] for message in mailbox.mbox(path, create=False))


def mutt(tmp_path, path, *keys):
    """mutt on a mailbox, in a terminal of its own; `keys` are typed by itself."""
    if shutil.which("mutt") is None:
        pytest.skip("needs mutt: apt install mutt")
    answers = "copy=no move=no confirmappend=no confirmcreate=no quit=yes wait_key=no delete=yes beep=no sort=mailbox-order"
    rc = tmp_path / "muttrc"
    rc.write_text(f"set {answers} mail_check=1 timeout=1\nset folder={tmp_path}\n" + "".join(f'push "{key}"\n' for key in keys))
    return VirtualTerminal(["mutt", "-n", "-F", str(rc), "-f", path], {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})


def test_python_s_mailbox(box):
    found = mailbox.mbox(box, create=False)
    found.lock()
    assert sorted(message["Subject"] for message in found) == expected()
    for message in found:
        who, _, number = message["Subject"].partition("-")
        text = message.get_payload(decode=True).decode()
        if who == "other":
            assert text == "half and half\n"
        else:
            assert text == re.sub("^(>*From )", r">\1", BODY.format(number), flags=re.MULTILINE) + "\n"
            assert (message["Return-Path"], message["Delivered-To"]) == ("<a@x.test>", "me@x.test")
    found.unlock()


def test_mutt_reads_them_all(box, tmp_path):
    copy = tmp_path / "copy"
    assert mutt(tmp_path, box, f"<tag-pattern>~A<enter><tag-prefix><copy-message>{copy}<enter><quit>").end() == 0
    assert subjects(str(copy)) == expected()


def test_s_nail_reads_them_all(box):
    if shutil.which("s-nail") is None:
        pytest.skip("needs s-nail: apt install s-nail")
    ran = subprocess.run(["s-nail", "-:/", "-R", "-H", "-f", box], capture_output=True, timeout=30, env={"LANG": "C.UTF-8"})
    assert ran.returncode == 0, ran.stderr
    assert sorted(line.split()[-1] for line in ran.stdout.decode().splitlines() if "-" in line.split()[-1]) == expected()


def test_mutt_rewrites_the_mailbox_while_mail_comes(box, tmp_path):
    reader = mutt(tmp_path, box).wait("Msgs:20")
    coming = [python(OURS, box, who, BODY) for who in ("late", "later")]
    reader.type("D~s one-").type("$", enter=False)
    more = python(OURS, box, "last", BODY)
    assert [process.wait(60) for process in (*coming, more)] == [0, 0, 0]
    reader.type("q", enter=False)
    assert reader.end() == 0
    came = [f"{who}-{number}" for who in ("late", "later", "last") for number in range(5)]
    assert subjects(box) == sorted(came + [one for one in expected() if not one.startswith("one-")])


def test_a_maildir_that_mutt_has_open(tmp_path):
    path = str(tmp_path / "Maildir")

    def deliver(numbers):
        for number in numbers:
            message = [mboxrd.trace("a@x.test", "me@x.test"), b"Subject: m-%d\n\n" % number, BODY.encode()]
            maildir.deliver(path, message, uid=UID, name=maildir.file_name(time.time(), f"id{number}", 0, "box.test"))

    deliver(range(5))
    reader = mutt(tmp_path, path).wait("Msgs:5")
    deliver(range(5, 10))
    reader.type("$", enter=False).wait("Msgs:10").type("D~s m-3").type("$", enter=False)
    deliver(range(10, 15))
    reader.type("q", enter=False)
    assert reader.end() == 0
    found = mailbox.Maildir(path, create=False)
    assert sorted(int(message["Subject"][2:]) for message in found) == [n for n in range(15) if n != 3]
    assert {message.get_payload() for message in found} == {next(iter(found)).get_payload()}
