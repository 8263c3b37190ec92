"""The real `dmad`, killed at every call that others can see: nothing is lost, and what is repeated is repeated once.

One message for two recipients, one of whom the relay refuses, so that there is a delivery, a report, a report's delivery and
two deaths. After the kill a second dmad, left alone, brings everything to its end. Needs strace.
"""

import subprocess
import sys
import time

import mail_server
import pytest
import strace

from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.system.spool import Spool

VISIBLE = (
    "bind", "close", "connect", "flock", "fsync", "ftruncate", "linkat", "mkdir", "pwrite64", "recvfrom", "rename", "sendto",
    "unlink", "openat", "getdents64",
)  # fmt: skip
CHUNKS = 4
SENDER = "me@home.test"
QUICK = 5  # of so many points one is played without --campaign


@pytest.fixture(autouse=True)
def _strace():
    strace.needed()


@pytest.fixture
def server():
    with mail_server.MailServer() as running:
        yield running


class Room:
    def __init__(self, directory, server, recipients):
        directory.mkdir()
        self.server = server
        server.accept()
        server.refuse("RCPT TO", "550 5.1.1 no such user", when="gone@")
        server.refuse("RCPT TO", "451 4.2.0 busy", when="busy@", times=1)
        self.recipients = recipients
        self.spool = Spool(str(directory / "spool"))
        self.conf = directory / "dma.conf"
        self.conf.write_text(
            f"MAILNAME here.test\nSPOOLDIR {self.spool.path}\nSMARTHOST 127.0.0.1:{server.port}\nRETRY 1s 1s\n"
            f"ALIASES {directory}/aliases\n"
        )
        self.trace = directory / "trace"
        self.spool.prepare(own_only=True)
        self.body = f"Subject: {directory}\n\n".encode() + b"0123456789\n" * 500
        envelope = Envelope("", SENDER, [Recipient(address) for address in recipients], time.time())
        envelope.header_end = self.body.index(b"\n\n") + 1
        draft = self.spool.draft(envelope)
        draft.write(self.body)
        self.name = draft.commit(envelope)

    @property
    def argv(self):
        return [sys.executable, "-m", "dma_runtime.cmd.daemon", "--leave-when-empty", "-v", "-C", str(self.conf)]

    def traced(self, **keywords):
        return strace.run(self.argv, trace=self.trace, timeout=60, **keywords)

    def finish(self, what):
        """A second owner, to the end; then everything must be there."""
        ran = subprocess.run(self.argv, capture_output=True, timeout=60)
        assert ran.returncode == 0, (what, ran.stderr)
        assert b"Traceback" not in ran.stderr, (what, ran.stderr)
        self.check(what)

    def check(self, what):
        assert self.spool.ids() == [], what
        assert self.spool.fs.listdir(self.spool.log) == [], what
        wire = self.body.replace(b"\n", b"\r\n")
        mine = [message for message in self.server.messages if message.content.endswith(wire) and message.sender == SENDER]
        for address in self.recipients:
            if not address.startswith("gone@"):
                assert 1 <= sum(address in message.recipients for message in mine) <= 2, (what, address)
        reports = [m for m in self.server.messages if m.sender != SENDER and self.name.encode() in m.content]
        assert 1 <= len(reports) <= 2, (what, len(reports))
        assert all(b"gone@there.test" in message.content for message in reports), what


def points(directory, server, recipients):
    # Python writes its compiled files in the first run, with calls that the next one does not make.
    Room(directory.with_name("first"), server, recipients).finish("first run")
    room = Room(directory, server, recipients)
    ran = room.traced(calls=["all"])
    assert ran.returncode == 0, ran.stderr
    room.check("not killed")
    return strace.since(strace.read(room.trace), f'"{room.spool.path}', VISIBLE)


def play(tmp_path, server, recipients, chosen):
    calls = points(tmp_path / "dry", server, recipients)
    assert {"pwrite64", "fsync", "linkat", "unlink", "sendto", "bind"} <= {call.name for call in calls}
    killed = played = 0
    for index, call in enumerate(calls):
        if not chosen(index):
            continue
        room = Room(tmp_path / str(index), server, recipients)
        ran = room.traced(inject=f"{call.name}:signal=KILL:when={call.nth}")
        played += 1
        killed += ran.returncode in (-9, 137)
        room.finish(f"killed at {call}")
    assert killed >= played * 0.7, (killed, played)  # threads do not do the same number of calls each time


TWO = ("good@there.test", "gone@there.test")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_killed_here_and_there(tmp_path, server, chunk):
    play(tmp_path, server, TWO, lambda index: index % (QUICK * CHUNKS) == chunk * QUICK)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_killed_at_every_call(tmp_path, server, chunk):
    play(tmp_path, server, TWO, lambda index: index % CHUNKS == chunk)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_killed_at_every_call_with_a_deferral(tmp_path, server, chunk):
    play(tmp_path, server, (*TWO, "busy@there.test"), lambda index: index % CHUNKS == chunk)
