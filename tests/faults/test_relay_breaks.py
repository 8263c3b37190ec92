"""A relay that breaks at random: whatever it does, no accepted message is lost, and a duplicate needs an unread
reply.

Each schedule is a queue of messages, two sessions at a time, and a server whose every reply may be a refusal,
nonsense, half a line, a closed or reset connection, or late. The queue here is the least that keeps the promises:
what is deferred or untried waits, the rest is over.
"""

import asyncio
import random

import fault_server
import pytest

from dma_runtime.delivery import signon
from dma_runtime.delivery.habits import Habits
from dma_runtime.delivery.session import Job, Refused, Session, Target, Timeouts
from dma_runtime.outcome import DELIVERED, FAILED
from dma_runtime.policy import verdict
from dma_runtime.policy.tls import NONE, TlsPolicy

FAULTS = ["451 4.3.0 later", "554 5.7.1 no", "421 4.3.2 closing", "garbage", "half", "close", "reset", "delay", "hang"]
VERBS = ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "final", "QUIT")
OFFERS = [
    (),
    ("PIPELINING",),
    ("CHUNKING",),
    ("PIPELINING", "CHUNKING"),
    ("PIPELINING", "CHUNKING", "LIMITS MAILMAX=3 RCPTMAX=2"),
]


class Schedule:
    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.offers = self.dice.choice(OFFERS)
        self.rate = self.dice.choice([0.01, 0.03, 0.1])
        self.waiting = []  # (message, [recipients])
        self.settled = {}  # (message, recipient) -> kind
        self.doubts = {}  # (message, recipient) -> how often it may have been delivered unknown to us
        for number in range(10):
            recipients = [f"r{number}.{n}@{self.dice.choice('yz')}.example" for n in range(self.dice.choice([1, 1, 2, 5]))]
            self.waiting.append((number, recipients))

    def behaviour(self):
        """The next connection: once in a while everything goes well, or it would never end."""
        faults = {}
        if self.dice.random() < 0.8:
            for verb in VERBS:
                for nth in range(12):
                    if self.dice.random() < self.rate:
                        faults[verb, nth] = self.dice.choice(FAULTS)
        return {"offers": self.offers, "faults": faults}

    def body(self, number):
        size = 200 if number % 3 else 150_000
        return f"Subject: {number}\r\n\r\n".encode() + b"line of text\r\n" * (size // 14)

    def job(self):
        if not self.waiting:
            return None
        number, recipients = self.waiting.pop(0)
        body = self.body(number)

        def chunks(capabilities):
            for at in range(0, len(body), 40_000):
                yield body[at : at + 40_000]

        return Job(str(number), "a@x.example", recipients, len(body), chunks, key=number)

    def done(self, job, outcomes):
        again = []
        for recipient, outcome in zip(job.recipients, outcomes, strict=True):
            which = (job.key, recipient)
            assert which not in self.settled
            if outcome.kind in (DELIVERED, FAILED):
                self.settled[which] = outcome.kind
            else:
                again.append(recipient)
                if "may have been delivered" in outcome.text:
                    assert verdict.was_tried(outcome)
                    self.doubts[which] = self.doubts.get(which, 0) + 1
        if again:
            self.waiting.append((job.key, again))

    async def session(self, port):
        limits = Timeouts(ceiling=0.15, quit=0.05)
        if self.dice.random() < 0.7:
            signon.HABITS = Habits()  # else it would be served plainly from its first fault on
        target = Target("127.0.0.1", port, TlsPolicy(NONE, "test"))
        most = self.dice.choice([0, 1, 2, 5])  # behind the last QUIT rides
        try:
            session = await Session.open(target, helo="x.example", limits=limits, most=most)
        except Refused:
            return
        await session.run(self.job, self.done)
        await session.quit()


class Scripts:
    """One behaviour a connection, made when it is needed."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 1 << 30

    def __getitem__(self, number):
        return [("serve", self.schedule.behaviour())]


async def play(seed):
    schedule = Schedule(seed)
    expected = {(number, recipient) for number, recipients in schedule.waiting for recipient in recipients}
    async with fault_server.FaultServer([]) as server:
        server.scripts = Scripts(schedule)
        for _ in range(200):
            if not schedule.waiting:
                break
            await asyncio.gather(schedule.session(server.port), schedule.session(server.port))
        arrived = {}
        for mail, recipients, body in server.envelopes:
            assert mail.startswith(b"MAIL FROM:<a@x.example>")
            number = int(body.split(b"\r\n")[0].split()[1])
            assert body == schedule.body(number), f"seed {seed}: message {number} arrived damaged"
            for recipient in recipients:
                arrived[number, recipient] = arrived.get((number, recipient), 0) + 1
    assert not schedule.waiting, f"seed {seed}: {schedule.waiting} never left"
    assert set(schedule.settled) == expected, f"seed {seed}: recipients lost or invented"
    for which, kind in schedule.settled.items():
        count, doubts = arrived.pop(which, 0), schedule.doubts.get(which, 0)
        if kind == DELIVERED:
            assert count >= 1, f"seed {seed}: {which} was said to be delivered and is not there"
        known = 1 if kind == DELIVERED else 0
        assert count - known <= doubts, f"seed {seed}: {which} arrived {count} times, in doubt {doubts} times"
    assert not arrived


def run(seed):
    asyncio.run(asyncio.wait_for(play(seed), 60))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost(seed):
    run(seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(100, 500))
def test_nothing_is_lost_in_hundreds_of_schedules(seed):
    run(seed)
