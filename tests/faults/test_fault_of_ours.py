"""A bug of ours, or a relay that is out of its mind, strands no message: nothing is forgotten with a session or a batch that
ends badly, and no other message pays for it."""

import asyncio
import ssl
import time

import fault_server
import pytest
from mail_server import MailServer
from owner_room import InAThread, Room

from dma_runtime.config import parse
from dma_runtime.delivery import bounce, local, record, rootmail
from dma_runtime.delivery.owner import Owner
from dma_runtime.delivery.remote import Relay
from dma_runtime.delivery.rounds import Rounds
from dma_runtime.delivery.runs import Goal
from dma_runtime.delivery.session import Job, Session, Target, Timeouts
from dma_runtime.delivery.tenure import hold
from dma_runtime.outcome import DEFERRED, DELIVERED, Outcome
from dma_runtime.policy import route
from dma_runtime.policy.tls import ANY, NONE, TlsPolicy
from dma_runtime.system.net import Wire
from dma_runtime.system.tlswrap import TlsContexts


@pytest.fixture
def server():
    with MailServer() as server:
        yield server


@pytest.fixture
def room(tmp_path, server):
    return Room(tmp_path, server.port)


def for_one(real, chosen, of):
    """`real`, which breaks for the message with the id `chosen`; `of` finds the id in its arguments."""

    def broken(*arguments, **more):
        if of(*arguments) in chosen:
            raise ZeroDivisionError("a bug")
        return real(*arguments, **more)

    return broken


class TestOneMessage:
    def test_that_cannot_be_routed(self, room, server, monkeypatch):
        first, _ = room.put("a@y.test"), room.put("b@y.test")
        monkeypatch.setattr(route, "route", for_one(route.route, ["a@y.test"], lambda address, *_: address))
        room.run()
        assert [m.recipients for m in server.messages] == [["b@y.test"]]
        assert room.spool.ids() == [first]
        assert room.log.said("internal error") == 1
        monkeypatch.undo()
        room.run()
        assert room.spool.ids() == []
        assert len(server.messages) == 2

    def test_that_cannot_be_made_a_job(self, room, server, monkeypatch):
        ids = [room.put(f"{n}@y.test") for n in range(3)]
        monkeypatch.setattr(Relay, "_job", for_one(Relay._job, [ids[1]], lambda _, work, *more: work.item.id))
        room.run()
        assert [m.recipients for m in server.messages] == [["0@y.test"], ["2@y.test"]]
        assert room.spool.ids() == [ids[1]]
        (known,) = room.state(ids[1]).recipients
        assert (known.state, known.attempts) == (DEFERRED, 1)
        assert "ZeroDivisionError" in known.last.text

    def test_whose_report_cannot_be_made(self, room, server, monkeypatch):
        monkeypatch.setattr(record, "PAUSE", 0.05)
        server.refuse("RCPT TO", "550 5.1.1 no", when="bad")
        bad, good = room.put("bad@y.test"), room.put("good@y.test")
        broken = for_one(bounce.Reports.spool, [bad], lambda _, envelope, *more: envelope.id)
        monkeypatch.setattr(bounce.Reports, "spool", broken)
        room.run()
        assert [m.recipients for m in server.messages] == [["good@y.test"]]
        assert room.spool.ids() == [bad]
        assert not room.state(bad).tried
        assert room.log.said("internal error, please report it: ") >= 1
        assert good not in room.spool.ids()
        monkeypatch.undo()
        room.run()
        assert bad not in room.spool.ids()  # reported now

    def test_whose_result_cannot_be_taken_in(self, room, server, monkeypatch):
        ids = [room.put(f"{n}@y.test") for n in range(3)]
        monkeypatch.setattr(Rounds, "applied", for_one(Rounds.applied, [ids[0]], lambda _, step: step.item.id))
        owner = hold(room.spool, room.config, room.log, Goal())
        assert (len(server.messages), room.spool.ids()) == (3, [])
        assert room.log.said("internal error") == 1
        assert list(owner.queue.items) == ids[:1]

    def test_that_cannot_be_put_into_one_mailbox(self, room, server, monkeypatch):
        """What was put into others before and behind it is on record."""
        delivered = []

        def deliver(spool, id, recipient, config, *, stopped):
            if recipient.address == "bad":
                raise ZeroDivisionError("a bug")
            delivered.append(recipient.address)
            return Outcome(DELIVERED, "delivered", status="2.0.0")

        monkeypatch.setattr(local, "deliver", deliver)
        id = room.put("one", "bad", "two")
        room.run()
        room.run()
        assert delivered == ["one", "two"]
        assert [known.state for known in room.state(id).recipients] == [DELIVERED, DEFERRED, DELIVERED]
        assert "ZeroDivisionError" in room.state(id).recipients[1].last.text


def test_a_letter_to_root_that_cannot_be_written_costs_no_result(room, server, monkeypatch):
    """The owner waits for the letter when it leaves, and records after that what was delivered."""

    def broken(*_):
        time.sleep(0.2)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(rootmail, "write", broken)
    monkeypatch.setattr(Owner, "_look_for_unannounced", lambda owner: owner._tell_root())
    room.config = parse(f"SOCKET {room.spool.path}/s\nSPOOLDIR {room.spool.path}\nSMARTHOST 127.0.0.1:{server.port}\n", "x")
    room.put("a@y.test")
    room.run()
    assert (len(server.messages), room.spool.ids()) == (1, [])
    assert room.log.said("ZeroDivisionError") >= 1


class TestASession:
    """Whatever ends it, each message it carried has an outcome."""

    HELLO = [("S", b"220 x\r\n"), ("C", b"EHLO x.example\r\n"), ("S", b"250 x\r\n"), ("C", b"MAIL FROM:<a@x.example>\r\n")]
    HELLO += [("S", b"250 ok\r\n"), ("C", b"RCPT TO:<b@y.example>\r\n"), ("S", b"250 ok\r\n"), ("C", b"DATA\r\n")]

    @pytest.mark.parametrize("said", ["250 thank you", "354 go on", "421 enough", "452 4.3.1 full", "552 5.3.4 too large", "what?"])
    def test_the_relay_speaks_in_the_middle_of_a_body(self, said):
        script = [*self.HELLO, ("S", b"354 go\r\n"), ("accept", 20_000), ("S", said.encode() + b"\r\n"), ("accept", 1 << 30)]
        lines = [b"x" * 70 + b"\r\n"] * 200_000
        found = []

        async def scenario():
            async with fault_server.FaultServer([script], receive_buffer=4096) as server:
                target = Target("127.0.0.1", server.port, TlsPolicy(NONE, "test"))
                session = await Session.open(target, helo="x.example", limits=Timeouts(ceiling=5))
                jobs = [Job("m", "a@x.example", ["b@y.example"], 0, lambda _: iter(lines))]
                await session.run(lambda: jobs.pop() if jobs else None, lambda job, outcomes: found.extend(outcomes))
                await session.quit()

        asyncio.run(asyncio.wait_for(scenario(), 20))
        (outcome,) = found
        assert (outcome.kind, outcome.code) == ("failed" if said[0] == "5" else DEFERRED, int(said[:3]) if said[0] in "45" else 0)
        assert "may have been delivered" not in outcome.text

    @pytest.mark.parametrize("offers", [(), ("CHUNKING",), ("PIPELINING", "CHUNKING")])
    def test_an_empty_piece_of_a_body_is_not_its_end(self, offers):
        async def scenario():
            async with fault_server.FaultServer([[("serve", {"offers": offers})]]) as server:
                target = Target("127.0.0.1", server.port, TlsPolicy(NONE, "test"))
                session = await Session.open(target, helo="x.example", limits=Timeouts(ceiling=5))
                pieces = [b"", b"Subject: x\r\n", b"", b"", b"\r\nbody\r\n", b""]
                jobs = [Job("m", "a@x.example", ["b@y.example"], 0, lambda _: iter(pieces))]
                await session.run(lambda: jobs.pop() if jobs else None, lambda job, outcomes: None)
                await session.quit()
                return server.bodies

        assert asyncio.run(asyncio.wait_for(scenario(), 20)) == [b"Subject: x\r\n\r\nbody\r\n"]

    def test_a_bug_in_what_becomes_of_one_message(self, tmp_path, monkeypatch):
        """Those in flight behind it are tried again, and not forgotten."""
        with InAThread([[("serve", {"offers": ("PIPELINING", "CHUNKING")})]]) as relay:
            room = Room(tmp_path, relay.port)
            ids = [room.put(f"{n}@y.test") for n in range(6)]
            real = Relay._done
            monkeypatch.setattr(Relay, "_done", for_one(real, [ids[1]], lambda _, job, *more: job.id))
            room.run()
        left = room.spool.ids()
        assert ids[1] in left
        assert all(room.state(id).recipients[0].state == DEFERRED for id in left if room.state(id).tried)
        assert room.state(ids[1]).tried
        assert room.log.said("internal error") >= 1

    def test_an_alert_behind_the_last_reply(self):
        """OpenSSL encrypts nothing behind it: what the reply made us write must not raise into who wrote it."""
        layer, server, into, out = connected()
        server.write(b"250 ok\r\n")
        into.write(b"\x17\x03\x03\x00\x20" + b"z" * 32)  # a broken record of ours, for all it knows
        with pytest.raises(ssl.SSLError):
            server.read(1)
        heard = []

        class Owner:
            def received(self, data):
                heard.append(data)
                wire.write(b"MAIL FROM:<a@x>\r\n")

            def lost(self, reason):
                heard.append(reason)

        class Transport(asyncio.Transport):
            def write(self, data):
                heard.append("written")

            def abort(self):
                heard.append("aborted")

        wire = Wire(Owner())
        wire.connection_made(Transport())
        wire._tls = layer
        wire.data_received(out.read())
        assert heard[0] == b"250 ok\r\n"
        assert heard[-1].startswith("TLS: ")
        assert "written" not in heard


def connected():
    """(our TLS layer, the server's, what goes into the server, what comes out of it), the handshake done."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    fault_server.trustme.CA().issue_cert("localhost").configure_cert(context)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(into, out, server_side=True)
    layer = TlsContexts().layer("localhost", 25, ANY)
    done = []
    layer.begin(done.append)
    while not done:
        into.write(layer.outgoing())
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            pass
        layer.decrypt(out.read())
    into.write(layer.outgoing())
    server.do_handshake()
    layer.decrypt(out.read())
    assert done == [None]
    return layer, server, into, out
