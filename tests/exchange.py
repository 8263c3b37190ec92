"""Direct delivery on loopback: a zone, mail exchangers at 127.0.0.2 and on, all at one port, and an owner in this process.

    with Exchange(tmp_path, monkeypatch, "example.org. 300 MX 10 mx2.test.") as exchange:
        exchange.host(2).refuse(...)                  # mx2.test, 127.0.0.2
        exchange.send("bob@example.org")
        exchange.run()                                # one attempt of everything

`mxN.test` is 127.0.0.N; `addresses` holds other names. A host nobody asked for by `host(N)` refuses connections. The
owner's resolver and port are set from here: the programs themselves know only resolv.conf and 25.
"""

import asyncio
import re
import socket

from agent import MESSAGE, Agent
from mail_server import MailServer
from name_server import NameServer

from dma_runtime import config
from dma_runtime.cmd import queue
from dma_runtime.delivery.owner import Goal, Owner
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.system import clock, net
from dma_runtime.system.maillog import MailLog
from dma_runtime.system.ownership import Ownership
from dma_runtime.system.resolver import Resolver
from dma_runtime.system.spool import Spool


class Exchange:
    def __init__(self, directory, monkeypatch, zone="", conf=""):
        self.agent = Agent(directory, conf=conf)
        self.names = NameServer(zone)
        self.resolv_conf = self.names.resolv_conf(directory / "resolv.conf")
        self.addresses = {}
        self.hosts = {}
        self.port = 0
        self.log = []
        self.our_name = "us.test"
        self.dice = None
        monkeypatch.setattr(net.socket, "getaddrinfo", self._addresses)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for server in self.hosts.values():
            server.stop()
        self.names.close()
        self.agent.close()

    def host(self, number, **keywords):
        """The mail server at 127.0.0.N."""
        if number not in self.hosts:
            server = MailServer(name=f"mx{number}.test", **keywords)
            server.host, server.port = f"127.0.0.{number}", self.port
            self.hosts[number] = server.start()
            self.port = server.port
        return self.hosts[number]

    def _addresses(self, host, port, *arguments, flags=0, **keywords):
        found = self.addresses.get(host)
        if found is None and (name := re.fullmatch(r"mx(\d+)\.test", host)):
            found = f"127.0.0.{name[1]}"
        if re.fullmatch(r"127\.0\.0\.\d+", host):
            found = host
        elif flags & socket.AI_NUMERICHOST or found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port))]

    # ------------------------------------------------------------

    def send(self, *recipients, sender="me@sender.test"):
        """Put a message into the queue."""
        spool = Spool(str(self.agent.spool))
        spool.prepare(own_only=False)
        envelope = Envelope("", sender, [Recipient(address) for address in recipients], clock.now().wall)
        envelope.queue_only = True
        draft = spool.draft(envelope)
        draft.write(MESSAGE)
        draft.commit(envelope)

    def run(self, beside=None):
        """One attempt of everything that is queued. `beside(owner)`: a coroutine that runs with it. Returns the owner."""
        spool = Spool(str(self.agent.spool))
        ownership = Ownership.take(spool)
        assert ownership is not None
        try:
            owner = Owner(ownership, spool, config.load(str(self.agent.conf)).sound(), Log(self.log))
            owner.rounds.resolver = Resolver(self.resolv_conf, self.names.port, lifetime=2)
            owner.rounds.exchange_port = self.port or 1
            owner.rounds.our_names = frozenset([self.our_name])
            if self.dice is not None:
                owner.rounds.dice = self.dice

            async def serve():
                other = asyncio.create_task(beside(owner)) if beside is not None else None
                await owner.serve(Goal(run=True, once=True))
                if other is not None:
                    await other

            asyncio.run(serve())
        finally:
            ownership.release()
        return owner

    def got(self, number):
        """The recipients of each message that 127.0.0.N took."""
        return [message.recipients for message in self.hosts[number].messages]

    def recipients(self):
        """What the queue says of each recipient, by address; reports left out."""
        return {one["address"]: one for row in self._rows() if row["sender"] for one in row["recipients"]}

    def reports(self):
        """The text of the reports in the queue."""
        rows = [row for row in self._rows() if not row["sender"]]
        return [(self.agent.spool / "queue" / row["id"]).read_text() for row in rows]

    def _rows(self):
        return queue.rows(Spool(str(self.agent.spool)), config.load(str(self.agent.conf)))


class Log(MailLog):
    """Kept in a list, for tests to read."""

    def __init__(self, lines):
        super().__init__()
        self.lines = lines

    def write(self, priority, text, id=""):
        self.lines.append(text)
