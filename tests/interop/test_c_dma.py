"""A queue that the real C dma made (Debian's package, run in a root directory of its own), taken over by ours."""

import os
import pathlib
import shutil
import subprocess
import time

import pytest
from agent import Agent
from mail_server import MailServer

USERS = "root:x:0:0::/:/bin/sh\nmail:x:8:8::/:/bin/sh\n"
CONF = "SMARTHOST 127.0.0.1\nDEFER\nMAILNAME old.test\n"


class CDma:
    """Debian's dma under chroot: nothing of it is installed, nothing of this machine's /etc is touched."""

    def __init__(self, root, program):
        self.root = root
        for part in ("etc/dma", "var/spool/dma", "var/mail", "tmp", "dev"):
            (root / part).mkdir(parents=True)
        shutil.copy(program, root / "dma")
        needed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
        for word in needed.split():
            if word.startswith("/"):
                target = root / word.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target)
        for name, text in (("passwd", USERS), ("group", "root:x:0:\nmail:x:8:\n"), ("aliases", ""), ("dma/dma.conf", CONF)):
            (root / "etc" / name).write_text(text)
        (root / "dev/null").write_text("")
        self.spool = root / "var/spool/dma"
        os.chown(self.spool, 8, 8)  # what setgid mail does for the installed one
        for part in (root, *root.parents):
            if part.stat().st_uid == 0 and len(part.parts) > 2:
                part.chmod(part.stat().st_mode | 0o011)

    def run(self, *words, stdin=b""):
        ran = subprocess.run(["chroot", str(self.root), "/dma", *words], input=stdin, capture_output=True, timeout=30)
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("needs root: C dma is run under chroot")
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        pytest.skip("needs Debian's package dma (apt-get download dma)")
    directory = tmp_path_factory.mktemp("c-dma")
    ran = subprocess.run(["apt-get", "download", "dma"], cwd=directory, capture_output=True, text=True, timeout=120)
    found = list(directory.glob("dma_*.deb"))
    if ran.returncode or not found:
        pytest.skip(f"needs Debian's package dma: apt-get download dma: {ran.stderr.strip()[-200:]}")
    subprocess.run(["dpkg", "-x", str(found[0]), str(directory / "x")], check=True)
    return directory / "x/usr/sbin/dma"


@pytest.fixture
def c_dma(program, tmp_path):
    return CDma(tmp_path / "root", program)


def test_its_queue_leaves_through_ours(c_dma, tmp_path):
    c_dma.run("-bq", "-i", "-f", "me@old.test", "a@x.test", "b@y.test", stdin=b"Subject: first\n\nhello\n.dot\n.\nend\n")
    c_dma.run("-bq", "-f", "", "c@z.test", stdin=b"Subject: second\n\nnull sender\n")
    listed = c_dma.run("-bp")
    assert listed.count(b"ID\t: ") == 3
    then = time.time() - 3000
    bodies = {}
    for path in c_dma.spool.glob("Q*"):
        os.utime(path, (then, then))
        recipient = path.read_bytes().split(b"Recipient: ")[1].strip().decode()
        bodies[recipient] = (c_dma.spool / ("M" + path.name[1:])).read_bytes()
    for path in c_dma.spool.iterdir():
        os.chown(path, os.geteuid(), os.getegid())
    os.chown(c_dma.spool, os.geteuid(), os.getegid())
    with MailServer() as server:
        agent = Agent(tmp_path, server)
        try:
            agent.base = agent.base.replace(str(agent.spool), str(c_dma.spool))
            agent.spool = pathlib.Path(c_dma.spool)
            agent.configure()
            agent.run("-q", "-D")
            messages = server.wait(3)
            agent.until_empty()
        finally:
            agent.close()
    senders = {m.recipients[0]: m.sender for m in messages}
    assert senders == {"a@x.test": "me@old.test", "b@y.test": "me@old.test", "c@z.test": "<>"}
    for message in messages:
        assert message.content.replace(b"\r\n", b"\n") == bodies[message.recipients[0]]
    assert [name for name in os.listdir(c_dma.spool) if name[0] in "QM"] == []
