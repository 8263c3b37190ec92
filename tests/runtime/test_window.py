"""How far a session goes ahead of the replies, counted on the wire without a socket."""

import asyncio
import itertools

import dialogue
import pytest
import wire_check

from dma_runtime.delivery import signon, window
from dma_runtime.delivery.habits import Habits
from dma_runtime.delivery.line import Line
from dma_runtime.delivery.session import Job, Session
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, MESSAGE, RELAY
from dma_runtime.policy import tls, verdict
from dma_runtime.smtp.timeouts import Timeouts


class Talk:
    """A session on a wire in memory, behind EHLO; the test is the server."""

    def __init__(self, offers):
        self.offers = offers
        self.outcomes = {}

    async def open(self, *, known=False):
        """`known`: what was learnt of the relay on an earlier session counts."""
        if not known:
            signon.HABITS = Habits()
        self.line = Line(Timeouts(), None)
        self.line.wire = self.wire = dialogue.MemoryWire(self.line)
        target = signon.Target("relay.example", 25, tls.TlsPolicy(tls.NONE, "test"))
        task = asyncio.ensure_future(signon.converse(self.line, target, "box.example.org", "relay.example [1]", False))
        await dialogue.settle()
        await self.say("220 hi")
        words = ["relay", *self.offers]
        await self.say(*[f"250{'-' if n < len(self.offers) else ' '}{word}" for n, word in enumerate(words)])
        self.session = Session(self.line, await task, target, "relay.example [1]")
        self.wire.sent.clear()
        return self

    async def say(self, *replies):
        self.line.received("".join(reply + "\r\n" for reply in replies).encode())
        await dialogue.settle()

    def start(self, count, size=5, chunk=None):
        body = b"x" * (size - 2) + b"\r\n"

        def chunks(capabilities):
            for at in range(0, size, chunk or size):
                yield body[at : at + (chunk or size)]

        self.waiting = [Job(f"m{n}", "a@x.example", ["b@y.example"], 0, chunks, key=n) for n in range(count)]
        self.task = asyncio.ensure_future(
            self.session.run(
                lambda: self.waiting.pop(0) if self.waiting else None, lambda job, o: self.outcomes.update({job.key: o})
            )
        )

    def said(self, what):
        return bytes(self.wire.sent).count(what)

    async def warm_up(self):
        """Two messages answered: from the third on BDAT goes ahead of its replies."""
        await dialogue.settle()
        await self.say("250 ok", "250 ok")
        await self.say("250 queued", "250 reset", "250 ok", "250 ok")
        await self.say("250 queued")


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 20))


ONE = ("250 reset", "250 ok", "250 ok", "250 queued")


def test_the_window_begins_at_eight_and_widens_by_each_message_taken():
    async def scenario():
        talk = await Talk(("PIPELINING", "CHUNKING")).open()
        talk.start(200)
        await talk.warm_up()
        for answered in range(2, 60):
            ahead = talk.said(b" LAST\r\n") - answered
            assert ahead == min(window.FIRST + answered, window.MOST)
            await talk.say(*ONE)
        assert (window.FIRST, window.MOST) == (8, 32)
        for _ in range(140):
            await talk.say(*ONE)
        await talk.task
        assert len(talk.outcomes) == 200
        assert all(outcome.kind == DELIVERED for (outcome,) in talk.outcomes.values())
        wire_check.check("window", talk.wire.writes)

    run(scenario())


def test_the_next_session_begins_where_the_last_one_came_to_unless_it_was_lost():
    async def scenario():
        talk = await Talk(("PIPELINING", "CHUNKING")).open()
        talk.start(14)
        await talk.warm_up()
        for _ in range(12):
            await talk.say(*ONE)
        await talk.task
        talk = await Talk(("PIPELINING", "CHUNKING")).open(known=True)
        talk.start(60)
        await talk.warm_up()
        assert talk.said(b" LAST\r\n") - 2 == window.FIRST + 14 + 2
        talk.line.lost("Connection reset by peer")
        await talk.task
        talk = await Talk(("PIPELINING", "CHUNKING")).open(known=True)
        talk.start(60)
        await talk.warm_up()
        assert talk.said(b" LAST\r\n") - 2 == window.FIRST + 2

    run(scenario())


def test_a_message_that_is_not_taken_makes_the_window_narrow_again():
    async def scenario():
        talk = await Talk(("PIPELINING", "CHUNKING")).open()
        talk.start(200)
        await talk.warm_up()
        for _ in range(20):
            await talk.say(*ONE)
        ahead = talk.said(b" LAST\r\n") - 22
        assert ahead == 30
        await talk.say("250 reset", "250 ok", "250 ok", "554 5.7.1 spam")
        # 29 are ahead, the window is 8 and widens by one for each that is taken: they meet at the eleventh.
        for _ in range(10):
            await talk.say(*ONE)
            assert talk.said(b" LAST\r\n") == 22 + ahead
        await talk.say(*ONE)
        assert talk.said(b" LAST\r\n") == 22 + ahead + 1
        talk.task.cancel()

    run(scenario())


def test_at_most_256_kilobytes_are_ahead_of_their_replies():
    async def scenario():
        talk = await Talk(("PIPELINING", "CHUNKING")).open()
        talk.start(12, size=60_000)
        await talk.warm_up()
        # Four of 60,000 bytes are below the window's end, the fifth goes over it and is the last.
        assert talk.said(b" LAST\r\n") == 2 + 5
        assert 5 * 60_000 >= window.BYTES > 4 * 60_000
        await talk.say(*ONE)
        assert talk.said(b" LAST\r\n") == 2 + 6
        talk.task.cancel()

    run(scenario())


def test_a_large_message_goes_no_farther_than_the_window_until_its_recipient_is_accepted():
    async def scenario():
        talk = await Talk(("PIPELINING", "CHUNKING")).open()
        talk.start(2, size=1_000_000, chunk=50_000)
        await dialogue.settle()
        assert talk.said(b"BDAT") == 0  # the first message of a session waits for its replies
        await talk.say("250 ok", "250 ok")
        assert talk.said(b"BDAT") == 20  # its recipient accepted, nothing of it is speculation
        assert talk.said(b"MAIL") == 1  # but more than a window of it is unanswered
        await talk.say(*["250 ok"] * 20)
        # The second goes ahead of its own MAIL and RCPT replies: 256 KB of it and not a piece more.
        assert talk.said(b"BDAT") == 20 + 5
        await talk.say("250 ok")
        assert talk.said(b"BDAT") == 20 + 5
        await talk.say("250 ok")
        assert talk.said(b"BDAT") == 40
        await talk.say(*["250 ok"] * 20)
        await talk.task
        assert [outcome.kind for (outcome,) in talk.outcomes.values()] == [DELIVERED] * 2

    run(scenario())


def test_a_large_speculated_message_is_withdrawn_when_its_recipient_is_refused():
    async def scenario():
        talk = await Talk(("PIPELINING", "CHUNKING")).open()
        talk.start(2, size=1_000_000, chunk=50_000)
        await dialogue.settle()
        await talk.say("250 ok", "250 ok")
        await talk.say(*["250 ok"] * 20)
        await talk.say("250 ok", "550 5.1.1 no such user")
        assert talk.said(b"BDAT") == 20 + 5
        await talk.say(*["503 5.5.1 no"] * 5)
        await talk.task
        assert talk.outcomes[1][0].code == 550
        assert talk.said(b" LAST") == 1

    run(scenario())


def test_with_data_only_one_group_is_ahead():
    """DATA ends its group: the next message's commands ride behind the dot, its body never does."""

    async def scenario():
        talk = await Talk(("PIPELINING",)).open()
        talk.start(10)
        await dialogue.settle()
        await talk.say("250 ok", "250 ok", "354 go")
        assert (talk.said(b"MAIL"), talk.said(b"DATA"), talk.said(b"\r\n.\r\n")) == (2, 2, 1)
        await talk.say("250 queued", "250 reset", "250 ok", "250 ok", "354 go")
        assert (talk.said(b"MAIL"), talk.said(b"DATA"), talk.said(b"\r\n.\r\n")) == (3, 3, 2)
        talk.task.cancel()

    run(scenario())


@pytest.mark.parametrize("offers", [("PIPELINING",), ("PIPELINING", "CHUNKING")], ids=["data", "bdat"])
def test_each_batch_of_replies_is_one_write(offers):
    """A group is written in one piece (a 40 ms stall a message otherwise)."""

    async def scenario():
        talk = await Talk(offers).open()
        talk.start(3)
        await dialogue.settle()
        before = len(talk.wire.writes)
        if "CHUNKING" in offers:
            await talk.say("250 ok", "250 ok")
        else:
            await talk.say("250 ok", "250 ok", "354 go")
        assert len(talk.wire.writes) == before + 1
        last = talk.wire.writes[-1]
        assert b"MAIL" in last
        assert last.index(b"xxx") < last.index(b"RSET") < last.index(b"MAIL") < last.index(b"RCPT")
        talk.task.cancel()

    run(scenario())


def test_a_wire_that_is_paused_gets_no_more_until_it_is_writable():
    async def scenario():
        talk = await Talk(("PIPELINING",)).open()
        talk.start(2, size=1_000_000, chunk=70_000)
        await dialogue.settle()
        real = talk.wire.write

        def write(data):
            real(data)
            talk.wire.paused = len(talk.wire.sent) > 100_000

        talk.wire.write = write
        await talk.say("250 ok", "250 ok", "354 go")
        held = len(talk.wire.sent)
        assert held < 250_000
        await dialogue.settle()
        assert len(talk.wire.sent) == held
        for _ in range(20):
            talk.wire.sent.clear()
            talk.wire.paused = False
            talk.line.writable()
        assert b".\r\n" in talk.wire.writes[-1]
        await talk.say("250 queued")
        assert talk.outcomes[0][0].kind == DELIVERED
        talk.task.cancel()

    run(scenario())


EARLY = [("552 5.3.4 too large", FAILED, MESSAGE), ("421 4.3.2 bye", DEFERRED, RELAY)]


@pytest.mark.parametrize(("said", "kind", "scope"), EARLY)
def test_a_relay_that_speaks_up_while_the_body_leaves_is_heard(said, kind, scope):
    """It does not wait for the dot: its words are the message's answer, and the connection is over."""

    async def scenario():
        talk = await Talk(("PIPELINING",)).open()
        talk.start(2, size=1_000_000, chunk=70_000)
        await dialogue.settle()
        talk.wire.write = lambda data: setattr(talk.wire, "paused", True)
        await talk.say("250 ok", "250 ok", "354 go")
        await talk.say(said)
        await talk.task
        (outcome,) = talk.outcomes[0]
        assert (outcome.kind, outcome.scope, outcome.stage, outcome.text) == (kind, scope, "DATA", said)
        assert not talk.session.usable
        assert list(talk.outcomes) == [0]

    run(scenario())


def test_a_message_behind_a_dead_window_is_not_tried():
    async def scenario():
        talk = await Talk(("PIPELINING", "CHUNKING")).open()
        talk.start(20)
        await talk.warm_up()
        await talk.say(*ONE)
        talk.line.lost("Connection reset by peer")
        await talk.task
        kinds = [talk.outcomes[n][0] for n in sorted(talk.outcomes)]
        assert [outcome.kind for outcome in kinds[:3]] == [DELIVERED] * 3
        assert all("may have been delivered" in outcome.text for outcome in kinds[3:])
        assert len(kinds) == 3 + window.FIRST + 3  # three were taken
        assert all(verdict.was_tried(outcome) for outcome in kinds)
        assert len(talk.waiting) == 20 - len(kinds)  # the others were never pulled

    run(scenario())


REPLIES = {
    2: ("250 reset", "250 ok", "250-ok\r\n250 2.1.5 ok", "250 queued 2"),
    3: ("250 reset", "250 ok", "550 5.1.1 no such user", "503 5.5.1 no valid recipients"),
    4: ("250 reset", "553 5.7.1 not you", "503 5.5.1 MAIL first", "503 5.5.1 MAIL first"),
    5: ("250 reset", "250 ok", "250 ok", "250-queued\r\n250 5"),
}


class Once(dict):
    def update(self, found):
        assert not self.keys() & found.keys()
        super().update(found)


def test_a_connection_lost_at_any_byte_of_the_replies_to_a_window_tells_each_message_what_it_was_told():
    """What was answered counts, what was not may have been delivered, and nobody is told twice."""
    stream = b"".join(reply.encode() + b"\r\n" for replies in REPLIES.values() for reply in replies)

    def told(number, got):
        """How many of the replies to a message are whole in the first `got` bytes."""
        begins = sum(len(reply) + 2 for other in range(2, number) for reply in REPLIES[other])
        ends = itertools.accumulate((len(reply) + 2 for reply in REPLIES[number]), initial=begins)
        return sum(end <= got for end in list(ends)[1:])

    async def scenario(got):
        talk = await Talk(("PIPELINING", "CHUNKING")).open()
        talk.outcomes = Once()
        talk.start(6)
        await talk.warm_up()
        assert talk.said(b" LAST") == 6
        talk.line.received(stream[:got])
        talk.line.lost("the relay closed the connection")
        await talk.task
        return talk.outcomes

    for got in range(len(stream) + 1):
        outcomes = asyncio.run(scenario(got))
        assert sorted(outcomes) == [0, 1, 2, 3, 4, 5]
        for number in REPLIES:
            (outcome,) = outcomes[number]
            answered = told(number, got)
            if number == 3 and answered >= 3:
                expected = FAILED, 550
            elif number == 4 and answered >= 2:
                expected = DEFERRED, 553
            elif answered == 4:
                expected = DELIVERED, 250
            else:
                expected = DEFERRED, 0
                assert "may have been delivered" in outcome.text
            assert (outcome.kind, outcome.code) == expected, (got, number, outcome)
