"""The deadline of a conversation: what counts as a sign of life."""

import asyncio

import dialogue

from dma_runtime.delivery.line import Line
from dma_runtime.smtp import command
from dma_runtime.smtp.timeouts import Timeouts


def line_with(**seconds):
    limits = Timeouts()
    for name, value in seconds.items():
        setattr(limits, name, value)
    line = Line(limits, None)
    line.wire = dialogue.MemoryWire(line)
    return line


def nothing(verb, reply):
    pass


async def asked(line, verb=command.GREETING):
    """The first question, after which bytes are taken."""
    task = asyncio.ensure_future(line.ask(verb, b"", ""))
    await asyncio.sleep(0)
    line.received(b"220 x\r\n")
    await task


def test_a_relay_that_takes_bytes_slowly_is_alive():
    async def scenario():
        line = line_with(block=0.15)
        await asked(line)
        line.wire.paused = True
        line.write(b"body")
        for _ in range(8):
            await asyncio.sleep(0.05)
            line.writable()
            line.write(b"more")
        assert not line.failed
        await asyncio.sleep(0.3)
        assert "took no more of the message for 0.15 seconds" in line.failed

    asyncio.run(scenario())


def test_time_without_a_question_is_not_held_against_the_relay():
    async def scenario():
        line = line_with(mail=0.15)
        await asked(line)
        await asyncio.sleep(0.3)
        line.expect(command.MAIL, nothing)
        line.write(b"MAIL\r\n")
        await asyncio.sleep(0.05)
        assert not line.failed
        await asyncio.sleep(0.2)
        assert "silent for 0.15 seconds" in line.failed

    asyncio.run(scenario())


def test_each_reply_starts_the_time_of_the_next():
    async def scenario():
        line = line_with(rcpt=0.15)
        await asked(line)
        line.engine.pipelining = True
        for _ in range(4):
            line.expect(command.RCPT, nothing)
        line.write(b"RCPT\r\n" * 4)
        for _ in range(3):
            await asyncio.sleep(0.1)
            line.received(b"250 ok\r\n")
        assert not line.failed
        await asyncio.sleep(0.3)
        assert line.failed

    asyncio.run(scenario())


def test_a_short_wait_behind_a_long_one_is_kept():
    """The timer was set for the first; it must not make the second wait as long."""

    async def scenario():
        line = line_with(final=100, data=0.1)
        await asked(line)
        line.engine.pipelining = True
        line.expect(command.DOT, nothing)
        line.expect(command.DATA, nothing)
        line.write(b".\r\nDATA\r\n")
        line.received(b"250 ok\r\n")
        await asyncio.sleep(0.25)
        assert "silent for 0.1 seconds" in line.failed

    asyncio.run(scenario())
