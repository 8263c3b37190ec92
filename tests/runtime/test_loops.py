"""A message that goes in a circle is stopped with 5.4.6 and returned; one with a long way behind it is not."""

import asyncio
import email
import os
import pwd
import subprocess
from types import SimpleNamespace

import pytest
from agent import BIN, Agent
from mail_server import MailServer

from dma_runtime.config import Config
from dma_runtime.delivery.mailroom import Mailroom
from dma_runtime.delivery.queue import Item
from dma_runtime.delivery.remote import Work
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.message.loops import MOST, of_delivery, of_hops
from dma_runtime.system.spool import Spool

HOP = b"Received: from a.test by b.test;\n\tMon, 23 Nov 2026 01:13:02 +0000\n"
ME = pwd.getpwuid(os.geteuid()).pw_name


class TestRules:
    def test_fifty_hops_are_a_circle_and_one_less_is_not(self):
        assert MOST == 50
        assert of_hops(HOP * 49 + b"Subject: Received: x\n") == ""
        assert "50 Received lines" in of_hops(HOP * 50)

    def test_the_case_does_not_matter_and_folded_lines_do_not_count(self):
        assert of_hops(b"RECEIVED: x\n" * 25 + b"received:y\n" * 25)
        assert of_hops(b"X: y\n" + b" Received: z\n" * 80) == ""

    @pytest.mark.parametrize("line", [b"Delivered-To: me@here.test", b"delivered-to:\tME@HERE.TEST \r"])
    def test_a_mailbox_it_has_been_in(self, line):
        assert of_delivery(b"Subject: x\n" + line + b"\n", "me@here.test") == "mail forwarding loop for me@here.test"

    @pytest.mark.parametrize("line", [b"Delivered-To: me@x.test", b"X-Delivered-To: me@here.test", b" Delivered-To: me@here.test"])
    def test_another_mailbox(self, line):
        assert of_delivery(b"Subject: x\n" + line + b"\n", "me@here.test") == ""


@pytest.fixture
def server():
    with MailServer() as server:
        yield server


@pytest.fixture
def agent(tmp_path, server):
    agent = Agent(tmp_path, server)
    yield agent
    agent.close()


def test_a_message_in_a_circle_is_returned_instead_of_sent_on(agent, server):
    agent.send("-D", "-f", "me@x.test", "bob@example.org", text=HOP * 60 + b"Subject: round\n\nand round\n")
    (message,) = server.wait(1)
    assert (message.sender, message.recipients) == ("<>", ["me@x.test"])
    report = email.message_from_bytes(message.content)
    assert report.get_payload(1).get_payload(1)["Status"] == "5.4.6"
    assert b"too many hops" in message.content
    agent.until_empty()


def test_a_long_way_is_no_circle(agent, server):
    agent.send("-D", "bob@example.org", text=HOP * 48 + b"Subject: far\n\ntravelled\n")
    assert [m.recipients for m in server.wait(1)] == [["bob@example.org"]]


def under(agent, drop, *words, text):
    cover = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /var/mail && exec "$@"', str(drop), str(BIN / "dma")]
    subprocess.run([*cover, *words], input=text, env=agent.environment, check=True, timeout=60)


@pytest.fixture
def drop(tmp_path):
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs root: /var/mail is covered by one of the test's own")
    directory = tmp_path / "drop"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("header", [f"Delivered-To: {ME}@here.test\n".encode(), HOP * 50])
def test_a_mailbox_it_came_from(agent, server, drop, header):
    under(agent, drop, "-D", "-f", "me@x.test", ME, text=header + b"Subject: again\n\nx\n")
    (message,) = server.wait(1)
    assert b"Status: 5.4.6" in message.content
    assert not (drop / ME).exists() or (drop / ME).read_bytes() == b""
    agent.until_empty()


def test_what_was_delivered_once_is_stopped_when_it_comes_back(agent, server, drop):
    """The line that local delivery writes is the one that is looked for."""
    under(agent, drop, "-D", "-f", "me@x.test", ME, text=b"Subject: x\n\nhello\n")
    stored = (drop / ME).read_bytes().partition(b"\n")[2]  # without the From_ line
    under(agent, drop, "-D", "-f", "me@x.test", "-i", ME, text=stored)
    (message,) = server.wait(1)
    assert b"mail forwarding loop" in message.content
    assert (drop / ME).read_bytes().count(b"\nSubject: x\n") == 1


def test_a_damaged_local_message_does_not_hang_a_run(agent, server, drop):
    agent.send("-bq", ME)
    agent.send("-bq", "bob@example.org")
    first = agent.files()[0]
    path = agent.spool / "queue" / first
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 3)
    under(agent, drop, "-q", "-D", text=b"")
    assert [(row["id"], row["state"]) for row in agent.queue()] == [(first, "failed")]
    assert [m.recipients for m in server.wait(1)] == [["bob@example.org"]]


def test_a_local_message_that_vanishes_under_way_is_gone(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    item = Item(Envelope("abc", "me@x.test", [Recipient(ME)], 1.0), None)
    gone = []

    async def main():
        desk = SimpleNamespace(spool=spool, settings=SimpleNamespace(config=Config()), stuck=False, gone=gone.append)
        room = Mailroom(desk)
        room.take(Work(item, [0]))
        await asyncio.wait(room.tasks)
        room.close()

    asyncio.run(main())
    assert gone == [item]
