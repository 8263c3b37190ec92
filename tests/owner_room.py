"""A spool, a smarthost and an owner that runs in the test's own process, where a test can put faults of its own into it.

    room = Room(tmp_path, server.port)
    id = room.put("a@y.test")          # a message, straight into the queue
    room.run()                         # one attempt of everything, as `dma -q -D`
    room.state(id)                     # what is on record
    room.log.said("words")             # how many lines of the log hold them

`InAThread` is a FaultServer beside such a test.
"""

import asyncio
import os
import threading
import time

import fault_server

from dma_runtime.config import parse
from dma_runtime.delivery.runs import Goal
from dma_runtime.delivery.tenure import hold
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.history import fold
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.maillog import MailLog
from dma_runtime.system.spool import Spool, new_id


class Log(MailLog):
    def __init__(self):
        super().__init__(device="/nonexistent")
        self.lines = []

    def write(self, priority, text, id=""):
        self.lines.append(f"{id} {text}" if id else text)

    def said(self, words):
        return sum(words in line for line in self.lines)


class Room:
    """A spool, a relay, and an owner in this process."""

    def __init__(self, directory, port):
        self.spool = Spool(str(directory / "spool"))
        self.spool.prepare(own_only=True)
        self.config = parse(f"SPOOLDIR {self.spool.path}\nMAILNAME here.test\nSMARTHOST 127.0.0.1:{port}\n", "x")
        self.log = Log()
        self._number = 0

    def put(self, *addresses, sender="s@x.test"):
        self._number += 1
        now = time.time() + self._number / 1000
        envelope = Envelope(new_id(now, os.urandom), sender, [Recipient(a) for a in addresses], now)
        draft = self.spool.draft(envelope)
        draft.write(b"Subject: %d\n\nx\n" % self._number)
        return draft.commit(envelope)

    def run(self):
        hold(self.spool, self.config, self.log, Goal(run=True, once=True))

    def state(self, id):
        return fold(self.spool.read(id), Ledger(self.spool).events(id))


class InAThread:
    """A FaultServer beside the test."""

    def __init__(self, scripts):
        self._scripts = scripts
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._stop = asyncio.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self):
        async with fault_server.FaultServer(self._scripts) as self.server:
            self.port = self.server.port
            self._up.set()
            await self._stop.wait()
