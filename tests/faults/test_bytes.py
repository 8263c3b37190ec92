"""Bytes in are bytes out: messages of sizes around every boundary, from the reads of a submission through the spool to a relay
by DATA and BDAT, into an mbox, a Maildir and a report that returns all of it.

What has to be re-encoded on the way (NULs, bare CRs, long lines, 8-bit for a relay without it) decodes to what was submitted.
"""

import asyncio
import email
import email.policy
import os
import random
import re

import fault_server
import pytest

from dma_runtime.cmd import peer
from dma_runtime.config import parse
from dma_runtime.delivery import bounce, local
from dma_runtime.delivery.session import Job, Session, Target, Timeouts
from dma_runtime.history import fold
from dma_runtime.message import mboxrd
from dma_runtime.message.wire import must_change, wire
from dma_runtime.outcome import DELIVERED, FAILED, Outcome
from dma_runtime.policy.tls import NONE, TlsPolicy
from dma_runtime.posting import APPEND, Posting
from dma_runtime.request import SUBMIT, Request
from dma_runtime.system.maillog import MailLog
from dma_runtime.system.spool import Spool

HEADER = b"From: a@x.test\nDate: d\nMessage-ID: <m@x.test>\nSubject: s\n"
# First reads of the spool, chunks of wire and files, what a submission holds in memory, each more or less by one.
EDGES = (0, 1, 3, 998, 4096, 16384, 65536, 131072, 262144, 300_000)
OFFERS = [(), ("8BITMIME",), ("PIPELINING", "8BITMIME"), ("CHUNKING", "8BITMIME"), ("PIPELINING", "CHUNKING")]
KINDS = ("plain", "plain", "8-bit", "long lines", "binary")


class Post:
    """The stations of a message, with what was submitted at hand."""

    def __init__(self, directory, dice):
        self.dice = dice
        self.directory = directory
        self.config = parse(
            f"SPOOLDIR {directory}/spool\nMAILNAME here.test\nSMARTHOST relay.invalid\nFULLBOUNCE\nALIASES {directory}/none\n", "x"
        )
        self.spool = Spool(self.config.SPOOLDIR)
        self.spool.prepare(own_only=False)

    def message(self):
        dice, kind, lines, size = self.dice, self.dice.choice(KINDS), [], 0
        wanted = max(0, dice.choice(EDGES) + dice.choice((0, 0, 1, -1, -len(HEADER), -len(HEADER) - 1, -dice.randint(0, 1200))))
        while size < wanted:
            line = dice.choice((b".\n", b"..\n", b"\n", b"From me\n", b">From you\n", b".x\n", b"x=\n", b"-- \n"))
            if dice.random() < 0.6:
                line = bytes(dice.choices(b"abc .=-_<>&", k=dice.randint(0, 90))) + b"\n"
            if kind == "8-bit" and dice.random() < 0.2:
                line = "grüße €\n".encode()
            if kind == "long lines" and dice.random() < 0.1:
                line = b"w" * dice.choice((997, 998, 999, 1500, 70_000)) + b"\n"
            if kind == "binary" and dice.random() < 0.2:
                line = dice.choice((b"a\0b\n", b"c\rd\n", b"\xff\xfe\n", b"\r", b"\0", b"..."))
            lines.append(line)
            size += len(line)
        return re.sub(rb"\r+(\n|$)", rb"\1", HEADER + b"\n" + b"".join(lines)[:wanted])

    def submit(self, message):
        """(envelope, the message as it is stored), read in pieces of some size."""
        cut = self.dice.choice((len(message), 1 if len(message) < 3000 else 4096, 65536, 131072, self.dice.randint(1, 70_000)))
        pieces = (message[at : at + cut] for at in range(0, len(message), cut))
        asked = Request(SUBMIT)
        asked.recipients, asked.queue_only = ["u@y.test"], True
        log = MailLog(device="/nonexistent")
        (envelope,), _ = peer.accept(asked, os.getuid(), self.config, lambda: next(pieces, b""), log=log)
        return envelope, self.content(envelope.id)

    def content(self, id):
        stored = self.spool.open(id)
        try:
            data, step = b"", self.dice.choice((4096, 65536, 100_000))
            while piece := stored.pread(step, len(data)):
                data += piece
            assert len(data) == stored.size
            return data
        finally:
            stored.close()

    def delivered(self, kind, path, envelope, message):
        step = self.dice.choice((1, 7, 4096, 65536)) if len(message) < 20_000 else self.dice.choice((4096, 65536, 100_000))
        posting = Posting(APPEND, "u")
        posting.sender, posting.address, posting.id, posting.accepted_at = "a@x.test", "u@here.test", envelope.id, 1.0
        letter = local.Letter(posting, lambda: iter([message[at : at + step] for at in range(0, len(message), step)]))
        outcome = local._store(letter, kind, path, os.getuid(), 5.0, self.spool.fs)
        assert outcome.kind == DELIVERED, outcome.text

    async def relayed(self, envelopes, offers):
        """What the relay received, in order."""
        async with fault_server.FaultServer([[("serve", {"offers": offers})]]) as server:
            session = await Session.open(
                Target("127.0.0.1", server.port, TlsPolicy(NONE, "test")), helo="x.test", limits=Timeouts()
            )
            waiting, outcomes = [(one, self.spool.open(one.id, one)) for one in envelopes], []
            opened = [stored for _, stored in waiting]

            def job():
                if not waiting:
                    return None
                one, stored = waiting.pop(0)

                def chunks(capabilities):
                    return wire(stored.pread, one, eightbit=capabilities.eightbitmime, bdat=capabilities.chunking)

                return Job(one.id, "a@x.test", ["u@y.test"], one.size, chunks, eightbit=one.has_8bit)

            await session.run(job, lambda _, found: outcomes.extend(outcome.kind for outcome in found))
            await session.quit()
            for stored in opened:
                stored.close()
            assert outcomes == [DELIVERED] * len(envelopes)
            assert server.failures == []
            return server.bodies


def ended(data):
    return data if data.endswith(b"\n") else data + b"\n"


def check(directory, seed, messages):
    post = Post(directory, random.Random(seed))
    known = []
    for _ in range(messages):
        message = post.message()
        envelope, stored = post.submit(message)
        known.append((message, envelope, stored))
        assert stored.endswith(message)
        assert stored[: envelope.header_end].endswith(HEADER)
        assert stored[envelope.header_end] == 0x0A
        assert (envelope.size, envelope.has_8bit) == (len(stored), not stored.isascii())
        assert envelope.longest_line == max(map(len, stored.split(b"\n")))
        in_mbox(post, envelope, stored)
        in_maildir(post, envelope, stored)
        returned(post, envelope, stored)
    for offers in OFFERS:
        bodies = asyncio.run(post.relayed([envelope for _, envelope, _ in known], offers))
        assert len(bodies) == len(known)
        for (message, envelope, stored), body in zip(known, bodies, strict=True):
            at_the_relay(message, envelope, stored, body, "8BITMIME" in offers)


def in_mbox(post, envelope, stored):
    path = f"{post.directory}/box"
    post.delivered("mbox", path, envelope, stored)
    with open(path, "rb") as file:
        first, _, rest = file.read().partition(b"\n")
    os.unlink(path)
    assert first.startswith(b"From a@x.test ")
    trace = mboxrd.trace("a@x.test", "u@here.test")
    assert rest.startswith(trace)
    assert not re.search(rb"(?m)^From ", rest)
    assert re.sub(rb"(?m)^>(>*From )", rb"\1", rest[len(trace) :]) == ended(stored) + b"\n"


def in_maildir(post, envelope, stored):
    path = f"{post.directory}/Maildir"
    post.delivered("maildir", path, envelope, stored)
    (name,) = os.listdir(path + "/new")
    with open(f"{path}/new/{name}", "rb") as file:
        assert file.read() == mboxrd.trace("a@x.test", "u@here.test") + stored
    os.unlink(f"{path}/new/{name}")


def returned(post, envelope, stored):
    outcome = Outcome(FAILED, "550 no", code=550, stage="RCPT TO")
    report = bounce.Reports(post.spool, lambda: post.config).spool(envelope, fold(envelope, []), [(0, outcome)]).id
    whole = post.content(report)
    start = whole.index(b"\n\n", whole.index(b"Content-Type: message/rfc822\n")) + 2
    assert whole[start : whole.rindex(b"\n--=_dma." + report.encode() + b"--\n")] == stored
    os.unlink(f"{post.spool.queue}/{report}")


def at_the_relay(message, envelope, stored, body, eightbit):
    bare = body.replace(b"\r\n", b"")
    assert body.endswith(b"\r\n")
    assert b"\r" not in bare
    assert b"\n" not in bare
    if not must_change(lambda length, at: stored[at : at + length], envelope, eightbit=eightbit, utf8=False):
        assert body.replace(b"\r\n", b"\n") == ended(stored)
        return
    assert b"\0" not in body
    assert max(map(len, body.split(b"\r\n"))) <= 998
    assert eightbit or body.isascii()
    decoded = email.message_from_bytes(body, policy=email.policy.SMTP).get_payload(decode=True).replace(b"\r\n", b"\n")
    submitted = message[len(HEADER) + 1 :]
    assert ended(decoded) in (ended(submitted), ended(submitted) + b"\n")


@pytest.mark.parametrize("seed", range(2))
def test_some(tmp_path, seed):
    check(tmp_path, seed, 20)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(100, 140))
def test_many(tmp_path, seed):
    check(tmp_path, seed, 60)
