"""dma-queue against an owner at work and without one: every verb, its JSON, its exit status, and what it leaves behind."""

import asyncio
import json
import os
import subprocess
import time

import pytest
from agent import BIN, Agent
from mail_server import HANG, MailServer

from dma_runtime.cmd import daemon, mailq, queue
from dma_runtime.config import parse
from dma_runtime.delivery import tenure
from dma_runtime.delivery.owner import Goal, Owner
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.errors import BrokenMessage
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.maillog import MailLog
from dma_runtime.system.ownership import Ownership
from dma_runtime.system.spool import Spool


@pytest.fixture
def server():
    with MailServer() as server:
        server.refuse("RCPT TO", "451 4.7.1 come back later", when="slow")
        yield server


@pytest.fixture(params=["with an owner", "without one"])
def agent(request, tmp_path, server):
    """One message waits in it; `agent.id` is its id."""
    agent = Agent(tmp_path, server, conf="RETRY 1h 3h")
    if request.param == "with an owner":
        agent.send("-f", "me@x.test", "slow@example.org")
        agent.until(lambda: agent.files("log"), what="the deferral")
        assert agent.owners()
    else:
        agent.send("-D", "-f", "me@x.test", "slow@example.org")
        agent.until(lambda: agent.owners(), what="the owner that is left behind")
        agent.close()
        agent.until_no_owner()
    (agent.id,) = agent.files()
    agent.attempts = lambda: sum(verb == "RCPT" for _, verb, _ in server.commands)
    yield agent
    agent.close()


def verb(agent, *words, status=0):
    """(what it printed as JSON, what it said on standard error)."""
    ran = agent.program("dma-queue", *words, "--json", check=status)
    return json.loads(ran.stdout) if ran.stdout else None, ran.stderr.decode()


def test_list(agent):
    (row,), said = verb(agent, "list")
    assert row.keys() >= {"id", "sender", "recipients", "size", "accepted_at", "age", "state"}
    assert (row["id"], row["sender"], row["state"], said) == (agent.id, "me@x.test", "queued", "")
    (recipient,) = row["recipients"]
    assert recipient.keys() == {"address", "state", "attempts", "next_attempt", "last_error"}
    assert (recipient["address"], recipient["state"], recipient["attempts"]) == ("slow@example.org", "deferred", 1)
    assert recipient["last_error"].startswith("451 4.7.1 come back later")
    for when in (row["accepted_at"], recipient["next_attempt"]):
        assert time.strptime(when, "%Y-%m-%dT%H:%M:%SZ")
    shown = agent.program("dma-queue", "list", check=0).stdout.decode()
    assert agent.id in shown
    assert "slow@example.org" in shown
    assert "come back later" in shown


def test_list_check_is_zero_while_all_is_well(agent):
    ran = agent.program("dma-queue", "list", "--check", check=0)
    assert ran.stdout == b"ok, 1 queued\n"


def test_hold_and_release(agent, server):
    answer, _ = verb(agent, "hold", agent.id)
    assert answer == [{"id": agent.id, "ok": True}]
    assert agent.queue()[0]["state"] == "held"
    server.accept()
    agent.run("-q", "-D")
    assert server.messages == []
    _, said = verb(agent, "retry", agent.id, status=1)
    assert "held; release it first" in said
    assert server.messages == []
    assert verb(agent, "release", agent.id)[0] == [{"id": agent.id, "ok": True}]
    assert agent.queue()[0]["state"] == "queued"
    assert verb(agent, "retry", agent.id)[0] == []
    assert len(server.messages) == 1
    agent.until_empty()


def test_remove_really_removes(agent, server):
    assert verb(agent, "remove", agent.id)[0] == [{"id": agent.id, "ok": True}]
    assert agent.files() == agent.files("log") == []
    assert agent.queue() == []
    agent.until_no_owner()
    before = agent.attempts()
    server.accept()
    agent.run("-q", "-D")
    assert (server.messages, agent.attempts()) == ([], before)


def test_retry_is_one_attempt_and_waits_for_it(agent, server):
    agent.send("-bq", "slow@example.net")
    before = agent.attempts()
    (row,), _ = verb(agent, "retry", agent.id)
    assert row["id"] == agent.id
    assert row["recipients"][0]["attempts"] == 2
    assert agent.attempts() == before + 1
    server.accept()
    assert verb(agent, "retry", agent.id)[0] == []
    assert [m.recipients for m in server.messages] == [["slow@example.org"]]


@pytest.mark.parametrize("name", ["hold", "release", "remove", "retry", "show"])
@pytest.mark.parametrize("wrong", ["nosuchid", "../lock", "", "A", "01\n"])
def test_an_id_that_is_none(agent, name, wrong):
    ran = agent.program("dma-queue", name, wrong)
    assert ran.returncode == 1
    assert b"no such message" in ran.stderr
    assert agent.files() == [agent.id]


def test_several_ids_each_have_their_answer(agent):
    answers, _ = verb(agent, "hold", agent.id, "nosuchid", status=1)
    assert answers == [{"id": agent.id, "ok": True}, {"id": "nosuchid", "error": "no such message"}]


def test_run_due_leaves_what_is_not_due_and_run_does_not(agent, server):
    before = agent.attempts()
    (row,), _ = verb(agent, "run", "--due")
    assert row["id"] == agent.id
    assert agent.attempts() == before
    due = row["recipients"][0]["next_attempt"]
    (row,), _ = verb(agent, "run")
    assert agent.attempts() == before + 1
    assert row["recipients"][0]["next_attempt"] == due  # the schedule it had is kept


def test_run_due_takes_what_was_only_queued(agent, server):
    agent.send("-bq", "bob@example.org")
    verb(agent, "run", "--due")
    assert [m.recipients for m in server.messages] == [["bob@example.org"]]


def test_show(agent):
    said, _ = verb(agent, "show", agent.id)
    assert (said["id"], said["events"][0]["do"], said["events"][0]["code"]) == (agent.id, "attempt", 451)
    assert "Subject: test" in said["header"]


class TestMonitoring:
    """`list --check`: 0 all is well, 1 somebody has to do something, each cause on a line of its own."""

    def failed(self, agent, server):
        server.accept()
        server.refuse("RCPT TO", "550 5.1.1 no such user")
        agent.run("-q", "-D")
        agent.until(lambda: [row for row in agent.queue() if row["state"] == "failed"], what="the report nobody takes")
        agent.until_no_owner()
        (row,) = agent.queue()
        return row["id"]

    def test_what_has_failed_for_good(self, agent, server):
        kept = self.failed(agent, server)
        ran = agent.program("dma-queue", "list", "--check", check=1)
        assert f"{kept} has failed for good".encode() in ran.stdout
        rows, said = verb(agent, "list", "--check", status=1)
        assert rows[0]["state"] == "failed"
        assert f"dma-queue: {kept} has failed for good\n" in said

    def test_it_can_be_retried_when_the_cause_is_gone(self, agent, server):
        kept = self.failed(agent, server)
        server.accept()
        assert verb(agent, "retry", kept)[0] == []
        (report,) = server.messages
        assert (report.sender, report.recipients) == ("<>", ["me@x.test"])
        agent.until_no_owner()
        assert agent.program("dma-queue", "list", "--check").returncode == 0

    def test_a_configuration_that_stops_all_mail(self, agent, server):
        agent.configure("PORT nonsense")
        ran = agent.program("dma-queue", "list", "--check", check=1)
        assert b"no mail is taken: " in ran.stdout
        assert b"PORT needs a port number" in ran.stdout

    def test_a_disk_without_room(self, agent, server):
        agent.configure("RETRY 1h 3h\nMINFREE 1000000G")
        assert agent.send("bob@example.org", check=75).stderr
        ran = agent.program("dma-queue", "list", "--check", check=1)
        assert b"no mail is taken: " in ran.stdout
        assert b"less than MINFREE" in ran.stdout

    def test_or_removed(self, agent, server):
        kept = self.failed(agent, server)
        assert verb(agent, "remove", kept)[0] == [{"id": kept, "ok": True}]
        assert agent.files() == []

    def test_old_mail(self, agent, server):
        agent.close()
        agent.until_no_owner()
        path = agent.spool / "queue" / agent.id
        spool = Spool(str(agent.spool))
        envelope = Envelope("0123456789abcdefgh", "me@x.test", [Recipient("slow@example.org")], time.time() - 90000)
        envelope.header_end = 11
        draft = spool.draft(envelope)
        draft.write(b"Subject: x\n\nold\n")
        draft.commit(envelope)
        ran = agent.program("dma-queue", "list", "--check", check=1)
        assert b"0123456789abcdefgh is older than a day" in ran.stdout
        assert path.exists()


class TestItIsWellAgain:
    """What somebody saw to is not told any more: `list --check` is green again, and no program begins with it."""

    def red(self, agent):
        agent.program("dma-queue", "list", "--check", check=1)

    def green(self, agent):
        assert agent.program("dma-queue", "list", "--check", check=0).stderr == b""
        assert agent.run("-bp").stderr == b""

    @pytest.fixture
    def held_up(self, tmp_path, server):
        """A relay that lets nobody in; one message waits, and the owner has gone."""
        server.refuse("connect", "554 5.7.1 go away")
        agent = Agent(tmp_path, server, conf="RETRY 1h 3h")
        agent.send("-D", "-f", "me@x.test", "bob@example.org")
        self.red(agent)
        yield agent
        agent.close()

    @pytest.mark.parametrize("owner", ["with an owner", "without one"])
    def test_the_relay_was_corrected_in_the_configuration(self, held_up, server, owner):
        if owner == "without one":
            held_up.close()
        else:
            held_up.until(held_up.owners, what="the owner")
        with MailServer() as other:
            held_up.base = held_up.base.replace(f":{server.port}", f":{other.port}")
            held_up.configure("RETRY 1h 3h")
            held_up.run("-q")
            other.wait(1)
            held_up.until_no_owner()
            self.green(held_up)

    def test_the_only_mail_for_a_refused_sender_was_removed(self, tmp_path, server):
        server.refuse("MAIL FROM", "550 5.7.1 not yours", when="me@x.test")
        agent = Agent(tmp_path, server, conf="RETRY 1h 3h")
        try:
            agent.send("-D", "-f", "me@x.test", "bob@example.org")
            self.red(agent)
            agent.program("dma-queue", "remove", *agent.files(), check=0)
            self.green(agent)
        finally:
            agent.close()

    def test_a_relay_that_is_still_the_one_is_still_told_of(self, held_up):
        held_up.program("dma-queue", "remove", *held_up.files(), check=0)
        self.red(held_up)

    def test_the_oldest_mail_left(self, tmp_path, server):
        server.refuse("RCPT TO", "451 4.7.1 later", times=1)
        agent = Agent(tmp_path, server, conf="RETRY 1h 3h")
        try:
            spool = Spool(str(agent.spool))
            spool.prepare(own_only=True)
            envelope = Envelope("0123456789abcdefgh", "me@x.test", [Recipient("bob@example.org")], time.time() - 90000)
            envelope.header_end = 11
            draft = spool.draft(envelope)
            draft.write(b"Subject: x\n\nold\n")
            draft.commit(envelope)
            agent.run("-q", "-D")
            assert "mail waits for more than a day" in (agent.spool / "notices").read_text()
            agent.run("-q", "-D")
            assert len(server.messages) == 1
            self.green(agent)
        finally:
            agent.close()

    def test_the_damaged_message_was_removed(self, tmp_path, server):
        agent = Agent(tmp_path, server)
        agent.run("-q", "-D")
        (agent.spool / "queue" / "damaged").write_text("x")
        agent.run("-q", "-D")
        assert "can be neither delivered" in (agent.spool / "notices").read_text()
        agent.program("dma-queue", "remove", "damaged", check=0)
        self.green(agent)


def test_a_message_under_way_is_left_alone(tmp_path, server):
    server.refuse("final DATA", HANG)
    agent = Agent(tmp_path, server, conf="TIMEOUT 60s")
    try:
        agent.send("bob@example.org")
        agent.until(lambda: any(verb == "DATA" for _, verb, _ in server.commands), what="the attempt")
        (name,) = agent.files()
        for word in ("hold", "remove", "release"):
            answer, _ = verb(agent, word, name, status=1)
            assert answer == [{"id": name, "error": "being delivered"}]
        assert agent.files() == [name]
    finally:
        agent.close()


def test_no_queue_yet(tmp_path, server):
    agent = Agent(tmp_path, server)
    assert agent.program("dma-queue", "list", check=0).stdout == b"Mail queue is empty\n"
    assert verb(agent, "list")[0] == []
    assert agent.program("dma-queue", "list", "--check", check=0).stdout == b"ok, 0 queued\n"
    assert agent.program("dma-queue", "retry", "x").returncode == 1


@pytest.mark.parametrize("words", [[], ["nosuchverb"], ["hold"], ["list", "--nosuch"]])
def test_usage_is_64(tmp_path, server, words):
    assert Agent(tmp_path, server).program("dma-queue", *words).returncode == 64


def test_a_spool_one_may_not_look_into(tmp_path, server):
    agent = Agent(tmp_path, server)
    agent.spool.write_text("a file")
    assert agent.program("dma-queue", "list").returncode == 73


@pytest.mark.parametrize("resident", [True, False])
def test_adopt_with_a_daemon_at_work_and_without(tmp_path, server, resident):
    """A cloned machine: the daemon there owns the spool and delivers nothing, until somebody says that it may."""
    agent = Agent(tmp_path, server)
    try:
        agent.send("-bq", "bob@example.org")
        (agent.spool / "owner").write_text("0123456789abcdef0123456789abcdef\n")
        if resident:
            dmad = subprocess.Popen([BIN / "dmad"], env=agent.environment)
            agent.until(lambda: b"last used by another machine" in agent.program("dma-queue", "list").stderr, what="the notice")
        agent.run("-q", "-D")
        assert server.messages == []
        ran = agent.program("dma-queue", "adopt", "--json", check=0)
        assert json.loads(ran.stdout) == {"ok": True}
        agent.run("-q", "-D")
        assert len(server.wait(1)) == 1
        agent.until_empty()
        assert agent.program("dma-queue", "list", "--check", check=0).stderr == b""
        if resident:
            dmad.terminate()
            assert dmad.wait(20) == 0
    finally:
        agent.close()


def test_mailq_shows_whom_mail_is_still_due_to(tmp_path, server):
    """interface.md, 8: one block for each recipient still due. Who failed and was reported is not one of them."""
    server.refuse("RCPT TO", "550 5.1.1 no such user", when="nobody")
    agent = Agent(tmp_path, server, conf="RETRY 1h 3h")
    try:
        agent.send("-D", "-f", "me@x.test", "nobody@x.test", "bob@x.test", "slow@x.test")
        server.wait(2)
        agent.until(lambda: len(agent.files()) == 1, what="the report to leave")
        for _ in ("with an owner", "without one"):
            (name,) = agent.files()
            assert agent.run("-bp").stdout.decode() == f"ID\t: {name}\nFrom\t: me@x.test\nTo\t: slow@x.test\n"
            agent.close()
    finally:
        agent.close()


def test_stale_temporary_files_are_swept_and_young_ones_are_not(tmp_path, server):
    agent = Agent(tmp_path, server)
    agent.send("-D", "bob@example.org")
    agent.until_no_owner()
    for name, age in (("0123456789abcdefgh.0", 90000), ("0123456789abcdefgh.1", 3600)):
        (agent.spool / "tmp" / name).write_bytes(b"half a message")
        os.utime(agent.spool / "tmp" / name, (time.time() - age,) * 2)
    agent.run("-q", "-D")
    assert agent.files("tmp") == ["0123456789abcdefgh.1"]


def owner_of(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    envelope = Envelope("", "me@x.test", [Recipient("a@x.test")], time.time())
    draft = spool.draft(envelope)
    draft.write(b"Subject: x\n\nhello\n")
    id = draft.commit(envelope)
    config = parse(f"SPOOLDIR {spool.path}\nSMARTHOST 127.0.0.1:1\n", "x")
    return id, Owner(Ownership.take(spool), spool, config, MailLog())


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), BrokenMessage("the attempt log is damaged")])
def test_a_change_the_disk_refuses_is_answered(tmp_path, monkeypatch, problem):
    id, owner = owner_of(tmp_path)

    def refuse(*words):
        raise problem

    monkeypatch.setattr(owner.ledger, "append", refuse)
    answer = asyncio.run(owner.answer_once({"do": "hold", "id": id}))
    assert answer["error"].startswith("can not be recorded: ")


@pytest.mark.parametrize(("call", "left"), [("unlink", True), ("fsync", False)])
def test_a_removal_that_the_disk_refuses_is_said_as_it_is(tmp_path, call, left):
    id, owner = owner_of(tmp_path)
    calls = []

    class Refusing(FileSystem):
        def unlink(self, path):
            calls.append("unlink")
            if call == "unlink":
                raise OSError(30, "Read-only file system")
            super().unlink(path)

        def fsync(self, fd):
            if call == "fsync" and calls:
                raise OSError(5, "Input/output error")
            super().fsync(fd)

    owner.spool.fs = owner.ledger.fs = Refusing()
    answer = asyncio.run(owner.answer_once({"do": "remove", "id": id}))
    assert ("error" in answer, owner.spool.there(id), id in owner.queue.items) == (left, left, left)


@pytest.mark.parametrize("word", ["hold", "remove"])
def test_whoever_waits_for_an_attempt_that_will_not_be_does_not_wait_for_ever(tmp_path, word):
    id, owner = owner_of(tmp_path)

    async def main():
        owner.queue.load()
        waiter = owner._run(Goal(run=True, ids=[id]))
        assert not waiter.done.done()
        assert await owner._answer({"do": word, "id": id}) == {"ok": True}
        await asyncio.wait_for(waiter.done, 5)

    asyncio.run(main())


def test_a_message_that_is_begun_while_results_are_written_is_being_delivered(tmp_path, monkeypatch):
    """The look and the deed are one step: nothing can begin in between."""
    id, owner = owner_of(tmp_path)

    async def main():
        owner.queue.load()

        async def meanwhile():
            item = owner.queue.take(time.time())
            item.round = object()

        monkeypatch.setattr(owner.recorder, "settled", meanwhile)
        assert await owner._answer({"do": "remove", "id": id}) == {"error": "being delivered"}

    asyncio.run(main())
    assert owner.spool.ids() == [id]


class TestAnOwnerThatDoesNotAnswer:
    """A process that was stopped, or anybody who keeps the lock: nothing waits for it without end, and what can be said is."""

    @pytest.fixture
    def held(self, tmp_path, server, monkeypatch):
        """One message is queued; this process holds the lock. `held.main(words)`: dma-queue, in this process."""
        agent = Agent(tmp_path, server)
        agent.send("-bq", "bob@example.org")
        monkeypatch.setattr(queue, "ASK", 0.3)
        monkeypatch.setattr(mailq, "ASK", 0.3)
        monkeypatch.setattr(tenure, "PATIENCE", 0.3)
        monkeypatch.setattr(daemon, "PATIENCE", 0.3)
        agent.main = lambda *words: queue.main(["-C", str(agent.conf), *words])
        agent.ownership = Ownership.take(Spool(str(agent.spool)))
        yield agent
        agent.ownership.release()
        agent.close()

    def test_the_listing_comes_from_the_files(self, held, capfd):
        bell = held.ownership.listen()
        assert held.main("list") == 0
        out, err = capfd.readouterr()
        assert "to <bob@example.org>" in out
        assert err == "dma-queue: the process that owns this queue does not answer; this is what the files say\n"
        assert held.main("list", "--check") == 1
        assert capfd.readouterr().out == "the process that owns this queue does not answer\n"
        assert mailq.mailq(parse(held.conf.read_text(), str(held.conf))) == 0
        assert "To\t: bob@example.org" in capfd.readouterr().out
        bell.close()

    def test_a_change_is_given_up_with_a_reason(self, held, capfd):
        assert held.main("hold", *held.files()) == 75
        assert capfd.readouterr().err.endswith("the process that owns this queue does not answer\n")

    def test_a_run_is_given_up_and_the_mail_stays(self, held, capfd):
        assert held.main("run") == 75
        assert capfd.readouterr().err == "dma-queue: the process that owns this queue does not answer\n"
        assert len(held.files()) == 1

    def test_a_submission_in_the_foreground_was_accepted_all_the_same(self, held):
        assert daemon.foreground(parse(held.conf.read_text(), str(held.conf)), held.files(), MailLog()) is True

    def test_a_run_for_an_owner_that_is_only_just_starting_is_not_lost(self, held):
        """`dma -q` found the lock taken and nobody listening, and left it at that."""
        held.run("-q")
        with held.ownership.listen() as bell:
            bell.settimeout(20)
            caller, _ = bell.accept()
            with caller, caller.makefile("rw") as line:
                assert json.loads(line.readline())["do"] == "run"
                line.write('{"done": true}\n')
