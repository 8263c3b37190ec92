"""A greeting may be read before anybody asked for it: it comes in one packet with the end of the TLS handshake."""

import asyncio

from dma_runtime.delivery.line import Line
from dma_runtime.smtp import command
from dma_runtime.smtp.timeouts import Timeouts


class Wire:
    paused = False
    tls = None

    def abort(self):
        self.aborted = True


def greeted(*pieces):
    async def conversation():
        line = Line(Timeouts(), None)
        line.wire = Wire()
        for piece in pieces:
            line.received(piece)
        return await asyncio.wait_for(line.ask(command.GREETING, b"", "", None), 5)

    return asyncio.run(conversation())


def test_a_greeting_before_it_is_asked_for():
    assert greeted(b"220 relay.test ESMTP\r\n").text.endswith("relay.test ESMTP")


def test_a_greeting_in_pieces():
    assert greeted(b"220-relay", b".test\r\n220 ESMTP\r\n").code == 220
