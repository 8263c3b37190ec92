"""The reception over a real socket: limits, stalls, lies, garbage, a thousand connections. Who connects is said by a table
here; tests/interop/test_service.py has real users."""

import asyncio
import gc
import json
import os
import socket
import time

import pytest

from dma_runtime import config, frames, request
from dma_runtime.delivery import plainlist, reception
from dma_runtime.delivery.reception import Reception
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.errors import DataError
from dma_runtime.frames import frame
from dma_runtime.request import Request

ALICE, BOB, DMA, NOBODY = 1001, 1002, 990, 65534
MESSAGE = b"Subject: s\n\nhello\n"
BIG = b"x" * 65535 + b"\n"


class Log:
    def __init__(self):
        self.lines = []

    def write(self, priority, text, id=""):
        self.lines.append(text)

    def warning(self, text):
        self.lines.append(text)

    def queued(self, envelope):
        pass


class Item:
    def __init__(self, envelope):
        self.envelope = envelope


class Owner:
    """What the reception needs of one. `accepted` is what it was given: (uid, request, message)."""

    def __init__(self, directory):
        self.log = Log()
        self.settings = self.spool = self.queue = self
        self.config = config.parse("MAXSIZE 1M\nMINFREE 1\n", "dma.conf")
        self.path = str(directory)
        self.items = {}
        self.stopping = False
        self.accepted = []
        self.slow = 0.0

    def accept(self, asked, uid, conf, read):
        text = b"".join(iter(read, b""))
        time.sleep(self.slow)
        if asked.recipients == ["bad"]:
            raise DataError("invalid recipient `bad': no")
        if asked.recipients == ["bug"]:
            raise ZeroDivisionError("a bug")
        self.accepted.append((uid, asked, text))
        return [envelope(f"m{len(self.accepted)}", uid, len(text))], ["a note"] if asked.terminal else []

    def verify(self, asked, uid, conf):
        return b"fine\n", 67

    def take_in(self, id):
        uid, _, text = self.accepted[int(id[1:]) - 1]
        self.items[id] = Item(envelope(id, uid, len(text)))

    def rows(self):
        recipients = [{"state": "queued", "address": "r@x"}]
        return [
            {"id": i.envelope.id, "uid": i.envelope.uid, "sender": "s@x", "recipients": recipients} for i in self.items.values()
        ]

    def mailq(self, uid=None):
        mine = [item.envelope for item in self.items.values() if uid in (None, item.envelope.uid)]
        return plainlist.text(plainlist.block(one.id, one.sender, "r@x") for one in mine)

    def wake(self):
        self.woken = True

    def attempt(self, ids):
        self.tried = asyncio.get_running_loop().create_future()
        return self.tried


def envelope(id, uid, size):
    made = Envelope(id, "s@x", [Recipient("r@x")], 0.0)
    made.uid, made.size = uid, size
    return made


class Desk:
    """A reception that is open, and clients for it."""

    def __init__(self, directory, **keywords):
        self.path = str(directory / "submit.sock")
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen(2048)
        self.listening.setblocking(False)
        self.owner = Owner(directory)
        self.uid = ALICE  # of who connects next
        self.reception = Reception([self.listening], self.owner.accept, self.owner.verify, me=DMA, **keywords)

    async def connect(self, uid=ALICE):
        self.uid = uid
        line = socket.socket(socket.AF_UNIX)
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, self.path)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return Client(line)

    async def say(self, data, uid=ALICE):
        """Send all of it; the frames of the answer."""
        client = await self.connect(uid)
        await client.send(data)
        return await client.answer()

    async def submit(self, text=MESSAGE, uid=ALICE, **fields):
        return await self.say(submission(text, **fields), uid)


class Client:
    def __init__(self, line):
        self.line = line

    async def send(self, data):
        try:
            await asyncio.get_running_loop().sock_sendall(self.line, data)
        except ConnectionError:
            pass

    async def answer(self, seconds=10):
        """Frames to the end of the connection."""
        heard = b""
        try:
            while data := await self.hear(seconds):
                heard += data
        except ConnectionError:
            pass
        self.close()
        return list(frames.Parser().feed(heard))

    async def hear(self, seconds=10):
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().sock_recv(self.line, 65536)

    def close(self):
        self.line.close()


def asking(**fields):
    asked = Request()
    for name, value in fields.items():
        setattr(asked, name, value)
    return request.encode(asked)


def submission(text=MESSAGE, count=None, **fields):
    pieces = [frame(frames.DATA, text[at : at + 65536]) for at in range(0, len(text), 65536)]
    count = len(text) if count is None else count
    return asking(recipients=["r@x"], **fields) + b"".join(pieces) + frame(frames.COMMIT, b"%d" % count)


def status(answer):
    kind, payload = answer[-1]
    assert kind == frames.STATUS
    return frames.read_status(payload)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `story(desk)` with an open reception."""

    def run(story, **keywords):
        desk = Desk(tmp_path, **keywords)
        monkeypatch.setattr(reception, "_peer", lambda connection: (1, desk.uid))

        async def all_of_it():
            desk.reception.begin(desk.owner)
            try:
                await story(desk)
            finally:
                await desk.reception.end()
                desk.listening.close()
            assert desk.reception._clients == {}
            assert desk.reception._limits._open == {}

        asyncio.run(all_of_it())
        return desk

    return run


# ---------------------------------------------------------------- what is taken


def test_a_message_is_accepted_with_the_uid_of_the_kernel(run):
    async def story(desk):
        answer = await desk.submit(uid=BOB, sender="root@x", environ={"LOGNAME": "root"})
        assert answer == [(frames.ACCEPTED, b"m1"), (frames.STATUS, b"0 ")]
        ((uid, asked, text),) = desk.owner.accepted
        assert (uid, asked.sender, text) == (BOB, "root@x", MESSAGE)
        assert list(desk.owner.items) == ["m1"]

    run(story)


def test_a_large_message_is_held_in_a_file_and_arrives_whole(run, tmp_path):
    async def story(desk):
        text = BIG * 15
        gc.collect()  # what tests before this one left open does not close in the middle of it
        before = len(os.listdir("/proc/self/fd"))
        assert status(await desk.submit(text))[0] == 0
        assert len(os.listdir("/proc/self/fd")) == before
        assert desk.owner.accepted[0][2] == text

    run(story)
    assert [path.name for path in tmp_path.iterdir()] == ["submit.sock"]


def test_a_byte_at_a_time_is_the_same_message(run):
    async def story(desk):
        client = await desk.connect()
        for at in range(len(data := submission())):
            await client.send(data[at : at + 1])
            await asyncio.sleep(0)
        assert status(await client.answer())[0] == 0
        assert desk.owner.accepted[0][2] == MESSAGE

    run(story)


@pytest.mark.parametrize("large", [False, True])
def test_an_empty_piece_is_not_the_end(run, large):
    text = MESSAGE + (BIG * 6 if large else b"") + b"the end\n"
    cut = len(MESSAGE)

    async def story(desk):
        nothing = frame(frames.DATA)
        data = asking(recipients=["r@x"]) + nothing + frame(frames.DATA, text[:cut]) + nothing + nothing
        for at in range(cut, len(text), 65536):
            data += frame(frames.DATA, text[at : at + 65536]) + nothing
        answer = await desk.say(data + frame(frames.COMMIT, b"%d" % len(text)))
        assert status(answer)[0] == 0
        assert desk.owner.accepted[0][2] == text

    run(story)


def test_notes_go_to_a_terminal(run):
    async def story(desk):
        answer = await desk.submit(terminal=True)
        assert (frames.LINE, b"a note") in answer
        assert len(await desk.submit()) == 2

    run(story)


def test_in_the_foreground_the_end_waits_for_the_attempt_and_accepted_does_not(run):
    async def story(desk):
        client = await desk.connect()
        await client.send(submission(foreground=True))
        assert await client.hear() == frame(frames.ACCEPTED, b"m1")
        desk.owner.tried.set_result(None)
        assert status(await client.answer()) == (0, "")

    run(story)


def test_what_the_submission_refuses_is_said_with_its_status(run):
    async def story(desk):
        assert status(await desk.say(asking(recipients=["bad"]) + frame(frames.COMMIT, b"0"))) == (
            65, "invalid recipient `bad': no",
        )  # fmt: skip

    run(story)


def test_a_bug_of_ours_is_75_and_in_the_log_and_ends_nothing(run):
    async def story(desk):
        assert status(await desk.say(asking(recipients=["bug"]) + frame(frames.COMMIT, b"0")))[0] == 75
        assert "ZeroDivisionError" in desk.owner.log.lines[0]
        assert status(await desk.submit())[0] == 0

    run(story)


# ---------------------------------------------------------------- attacks


GARBAGE = [
    b"GET / HTTP/1.0\r\n\r\n",
    b"\0" * 1000,
    b"H\xff\xff\xff\xff",
    b"H\0\0\0\4null",
    frame(frames.DATA, b"x"),
    frame(frames.COMMIT, b"0"),
    frame(frames.HEADER, b"[" * 100_000),
    asking() + asking(),
    asking() + frame(frames.STATUS, b"0 fine"),
    asking() + b"D\xff\xff\xff\xff",
]


@pytest.mark.parametrize("data", GARBAGE)
def test_garbage_is_answered_and_closed(run, data):
    async def story(desk):
        number, text = status(await desk.say(data))
        assert number == 70
        assert text.startswith("the mail service does not understand")
        assert desk.owner.accepted == []
        assert status(await desk.submit())[0] == 0

    run(story)


@pytest.mark.parametrize("count", [0, 17, 19, 1 << 40])
def test_a_count_that_lies_accepts_nothing(run, count):
    async def story(desk):
        assert status(await desk.say(submission(count=count)))[0] == 70
        assert desk.owner.accepted == []

    run(story)


def test_without_the_commit_nothing_is_accepted(run):
    async def story(desk):
        client = await desk.connect()
        await client.send(asking(recipients=["r@x"]) + frame(frames.DATA, MESSAGE))
        client.line.shutdown(socket.SHUT_WR)
        assert await client.answer() == []
        client = await desk.connect()
        await client.send(asking(recipients=["r@x"]) + frame(frames.DATA, BIG) * 10)
        client.close()
        await asyncio.sleep(0.1)
        assert desk.owner.accepted == []

    run(story)


def test_a_client_that_is_silent_is_closed_and_one_that_is_slow_is_not(run):
    async def story(desk):
        began = time.monotonic()
        silent, trickle, slow = await desk.connect(), await desk.connect(), await desk.connect()
        await silent.send(asking(recipients=["r@x"]))

        async def drop():
            for byte in submission(BIG):
                await trickle.send(bytes([byte]))
                await asyncio.sleep(0.05)

        async def steady():
            await slow.send(asking(recipients=["r@x"]))
            for _ in range(5):
                await asyncio.sleep(0.3)
                await slow.send(frame(frames.DATA, BIG))
            await slow.send(frame(frames.COMMIT, b"%d" % (5 * len(BIG))))

        dropping, going = asyncio.create_task(drop()), asyncio.create_task(steady())
        number, text = status(await silent.answer())
        assert (number, text) == (75, "no complete request within 1 s")
        assert 0.4 < time.monotonic() - began < 5
        assert status(await trickle.answer())[0] == 75  # bytes now and then are no progress
        await going
        assert status(await slow.answer())[0] == 0
        assert time.monotonic() - began > 1.4
        dropping.cancel()
        assert len(desk.owner.accepted) == 1

    run(story, silence=0.6)


def test_a_client_that_does_not_read_its_answer_keeps_nobody(run):
    async def story(desk):
        for number in range(20_000):
            desk.owner.items[f"m{number}"] = Item(envelope(f"m{number}", ALICE, 1))
        deaf = await desk.connect()
        await deaf.send(asking(do=request.LIST))
        assert status(await desk.submit(uid=BOB))[0] == 0
        await asyncio.sleep(0.8)
        assert desk.reception._clients == {}

    run(story, silence=0.4)


def test_a_thousand_connections_of_one_user_cost_that_user_only(run):
    async def story(desk):
        opened = [await desk.connect(ALICE) for _ in range(1000)]
        await asyncio.sleep(0.2)
        inside = len(desk.reception._clients)
        assert inside == 20
        assert status(await desk.submit(uid=BOB))[0] == 0
        number, text = status(await desk.submit(uid=ALICE))
        assert number == 75
        assert "20 programs of this user" in text
        assert len(desk.owner.log.lines) == 1  # once a minute
        for client in opened:
            client.close()
        await asyncio.sleep(0.2)
        assert status(await desk.submit(uid=ALICE))[0] == 0

    run(story)


def test_a_thousand_users_with_a_connection_each_lose_the_oldest(run):
    async def story(desk):
        opened = [await desk.connect(100_000 + number) for number in range(60)]
        await asyncio.sleep(0.1)
        assert len(desk.reception._clients) <= 30
        assert status(await opened[0].answer()) == (
            75, "the mail service is stopping or has too much to do; try again later",
        )  # fmt: skip
        assert status(await desk.submit(uid=BOB))[0] == 0
        for client in opened:
            client.close()

    run(story, most=30)


def test_root_and_who_is_being_stored_are_never_the_ones_to_go(run):
    async def story(desk):
        desk.owner.slow = 0.3
        root, storing = await desk.connect(0), await desk.connect(BOB)
        await storing.send(submission())
        await asyncio.sleep(0.1)
        opened = [await desk.connect(100_000 + number) for number in range(20)]
        assert status(await storing.answer())[0] == 0
        await root.send(submission())
        assert status(await root.answer())[0] == 0
        for client in opened:
            client.close()

    run(story, most=4)


@pytest.mark.parametrize("times", [1, 3])
def test_who_has_to_go_while_a_piece_is_written_does_not_close_the_file_under_it(run, monkeypatch, times):
    """The number of a file that was closed is the next file's: the piece would be written into another message."""
    writing, closed_under = [], []
    real_write, real_close = reception.Held.write, reception.Held.close

    def write(message, data):
        writing.append(message)
        if message.in_file:
            time.sleep(0.3)
        real_write(message, data)
        writing.remove(message)

    def close(message):
        closed_under.append(message in writing)
        real_close(message)

    monkeypatch.setattr(reception.Held, "write", write)
    monkeypatch.setattr(reception.Held, "close", close)

    async def story(desk):
        client = await desk.connect()
        await client.send(asking(recipients=["r@x"]) + frame(frames.DATA, BIG) * 6)
        while not (writing and writing[0].in_file):
            await asyncio.sleep(0.01)
        (inside,) = desk.reception._clients
        for _ in range(times):
            inside.task.cancel()
            await asyncio.sleep(0.01)
        assert not closed_under
        await client.answer()
        assert closed_under == [False]

    run(story)


def test_what_is_slow_for_one_user_leaves_threads_for_the_others(run):
    """A home that does not answer, a message of 100 MB: one user's messages have half of the threads."""

    async def story(desk):
        desk.owner.slow = 2.0
        mine = [await desk.connect(ALICE) for _ in range(16)]
        for client in mine:
            await client.send(submission())
        await asyncio.sleep(0.2)
        began = time.monotonic()
        assert status(await desk.submit(uid=BOB))[0] == 0
        assert time.monotonic() - began < 3.8
        for client in mine:
            assert status(await client.answer())[0] == 0

    run(story)


def test_too_large_is_refused_before_all_of_it_has_come(run):
    async def story(desk):
        client = await desk.connect()
        await client.send(asking(recipients=["r@x"]) + frame(frames.DATA, BIG) * 16 + frame(frames.DATA, b"x"))
        number, text = status(await client.answer())
        assert (number, "MAXSIZE" in text) == (69, True)

    run(story)


def test_sixty_a_minute(run):
    async def story(desk):
        for _ in range(60):
            assert status(await desk.submit())[0] == 0
        number, text = status(await desk.submit())
        assert (number, "more than 60 messages a minute" in text) == (75, True)
        assert status(await desk.submit(uid=BOB))[0] == 0

    run(story)


def test_a_quarter_of_the_spool_queued_and_on_its_way(run, monkeypatch):
    async def story(desk):
        def free(path):
            return 4_000_000 - sum(reception.on_disk(item.envelope.size) for item in desk.owner.items.values())

        monkeypatch.setattr(reception.space, "free", free)
        desk.owner.items["old"] = Item(envelope("old", ALICE, len(MESSAGE)))
        assert status(await desk.submit(b"y" * 995_000))[0] == 0
        number, text = status(await desk.submit(b"y" * 2000))
        assert (number, "25 % of the spool" in text) == (75, True)
        assert status(await desk.submit(b"y" * 2000, uid=BOB))[0] == 0
        assert len(desk.owner.accepted) == 2

    run(story)


def test_a_quarter_of_its_files(run, monkeypatch):
    async def story(desk):
        monkeypatch.setattr(reception.space, "free_files", lambda path: 12 - len(desk.owner.items))
        answers = [status(await desk.submit()) for _ in range(4)]
        assert [number for number, _ in answers] == [0, 0, 0, 75]
        assert "3 messages of this user are queued" in answers[3][1]
        assert status(await desk.submit(uid=BOB))[0] == 0
        assert status(await desk.submit(uid=0))[0] == 0

    run(story)


def test_what_is_on_its_way_counts_before_it_is_committed(run, monkeypatch):
    monkeypatch.setattr(reception.space, "free", lambda path: 4_000_000)

    async def story(desk):
        first = await desk.connect()
        await first.send(asking(recipients=["r@x"]) + frame(frames.DATA, BIG) * 10)
        await asyncio.sleep(0.1)
        assert status(await desk.submit(BIG * 10))[0] == 75
        first.close()

    run(story)


def test_a_full_disk_is_75_and_nothing_is_accepted(run, monkeypatch):
    async def story(desk):
        desk.owner.path = "/nonexistent/spool"
        number, text = status(await desk.submit(BIG * 10))
        assert number == 75
        assert "can not hold the message" in text
        assert desk.owner.accepted == []

    run(story)


# ---------------------------------------------------------------- questions


def shown(answer):
    return b"".join(payload for kind, payload in answer if kind == frames.OUTPUT)


def test_users_see_their_own_messages_root_and_dma_all_and_the_nameless_none(run):
    async def story(desk):
        for uid in (ALICE, BOB, NOBODY):
            await desk.submit(uid=uid)
        seen = {uid: shown(await desk.say(asking(do=request.LIST), uid)) for uid in (ALICE, BOB, 0, DMA, NOBODY, 7)}
        assert seen[ALICE] == b"ID\t: m1\nFrom\t: s@x\nTo\t: r@x\n"
        assert seen[BOB] == seen[ALICE].replace(b"m1", b"m2")
        assert seen[0] == seen[DMA]
        assert seen[0].count(b"ID") == 3
        assert seen[NOBODY] == seen[7] == b"Mail queue is empty\n"
        rows = json.loads(shown(await desk.say(asking(do=request.ROWS), BOB)))
        assert [row["id"] for row in rows] == ["m2"]

    run(story)


def test_a_queue_run_a_minute_for_users_and_any_number_for_root(run):
    async def story(desk):
        assert status(await desk.say(asking(do=request.RUN), ALICE))[0] == 0
        assert status(await desk.say(asking(do=request.RUN), ALICE))[0] == 75
        for uid in (BOB, 0, 0, DMA, DMA):
            assert status(await desk.say(asking(do=request.RUN), uid))[0] == 0

    run(story)


def test_verify_and_what_a_later_version_asks(run):
    async def story(desk):
        answer = await desk.say(asking(do=request.VERIFY))
        assert (shown(answer), status(answer)) == (b"fine\n", (67, ""))
        number, text = status(await desk.say(asking(do="teleport")))
        assert (number, "does not know `teleport'" in text) == (69, True)

    run(story)


# ---------------------------------------------------------------- stopping


def test_an_on_demand_daemon_lingers_for_a_while_and_is_woken_to_leave(run, monkeypatch):
    monkeypatch.setattr(reception, "LINGER", 0.3)

    async def story(desk):
        await asyncio.sleep(0.4)
        client = await desk.connect()
        await asyncio.sleep(0.4)
        assert desk.reception.busy  # somebody is inside
        await client.send(submission())
        assert status(await client.answer())[0] == 0
        desk.owner.woken = False
        assert desk.reception.busy  # and was a moment ago
        await asyncio.sleep(0.6)
        assert not desk.reception.busy
        assert desk.owner.woken

    run(story)


def test_stopping_answers_everybody_and_loses_nothing(run, monkeypatch):
    monkeypatch.setattr(reception, "GRACE", 0.5)

    async def story(desk):
        desk.owner.slow = 0.8
        idle, storing = await desk.connect(), await desk.connect()
        await storing.send(submission())
        await asyncio.sleep(0.1)
        ending = asyncio.create_task(desk.reception.end())
        waiting = await desk.connect()  # in the backlog, for the successor
        await waiting.send(submission())
        assert status(await idle.answer())[0] == 75
        assert status(await storing.answer())[0] == 0
        await ending
        assert len(desk.owner.accepted) == 1
        with pytest.raises(TimeoutError):
            await waiting.hear(0.1)
        waiting.close()

    run(story)
