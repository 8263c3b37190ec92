"""The path from `dma` to the relay's 250, and what the owner does when something is in the way. Real programs, real server."""

import json
import pathlib
import re
import resource
import subprocess
import time

import pytest
from agent import BIN, Agent
from mail_server import CLOSE, HANG, MailServer


@pytest.fixture
def server():
    with MailServer(tls="starttls", users={"alice": "secret"}) as server:
        yield server


@pytest.fixture
def make(tmp_path):
    made = []

    def make(server, **keywords):
        directory = tmp_path / f"agent{len(made)}"
        directory.mkdir()
        made.append(Agent(directory, server, **keywords))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


@pytest.fixture
def agent(make, server):
    return make(server)


class TestThePath:
    def test_a_submission_leaves_and_nothing_stays(self, agent, server):
        agent.send("bob@example.org")
        (message,) = server.wait(1)
        assert (message.sender, message.recipients, message.login) == ("root@here.test", ["bob@example.org"], "alice")
        assert message.content.endswith(b"\r\n\r\nhello\r\n")
        agent.until_empty()
        agent.until_no_owner()
        assert agent.files("log") == []

    def test_one_connection_one_transaction_for_many_recipients(self, agent, server):
        agent.send("a@example.org", "b@example.org", "c@example.org")
        (message,) = server.wait(1)
        assert sorted(message.recipients) == ["a@example.org", "b@example.org", "c@example.org"]
        assert server.connections == 1

    def test_queue_only_waits_for_a_run(self, agent, server):
        for number in range(5):
            agent.send("-bq", f"u{number}@example.org")
        assert not agent.owners()
        assert len(agent.queue()) == 5
        agent.run("-q")
        assert len(server.wait(5)) == 5
        agent.until_empty()
        assert server.connections == 1

    def test_foreground_returns_after_the_attempt(self, agent, server):
        agent.send("-D", "bob@example.org")
        assert len(server.messages) == 1
        assert not agent.files()

    def test_forty_messages_take_few_connections(self, agent, server):
        for number in range(40):
            agent.send("-bq", f"u{number}@example.org")
        agent.run("-q", "-D")
        assert len(server.messages) == 40
        assert server.connections <= 4
        assert len(server.logins) == server.connections

    def test_maxmessages_counts_what_the_relay_counts(self, agent, server):
        agent.configure("MAXMESSAGES 3\nMAXRECIPIENTS 2\nMAXCONNECTIONS 1")
        agent.send("-D", *(f"u{number}@example.org" for number in range(14)))
        assert [message.connection for message in server.messages] == [1, 1, 1, 2, 2, 2, 3]
        assert sum(len(message.recipients) for message in server.messages) == 14
        assert not agent.files()

    def test_a_message_for_a_running_owner(self, agent, server):
        server.refuse("RCPT TO", "451 4.7.1 later", when="slow")
        agent.send("slow@example.org")
        agent.until(lambda: agent.files("log"), what="the deferral")
        (pid,) = agent.owners()
        agent.send("bob@example.org")
        server.wait(1)
        assert agent.owners() == [pid]


class TestDeferral:
    def test_a_refused_recipient_waits_and_says_why(self, agent, server):
        server.refuse("RCPT TO", "451 4.7.1 greylisted, come back", times=1)
        agent.send("bob@example.org")
        agent.until(lambda: agent.files("log"), what="the deferral")
        (row,) = agent.queue()
        (recipient,) = row["recipients"]
        assert recipient["state"] == "deferred"
        assert "451 4.7.1 greylisted, come back" in recipient["last_error"]
        assert recipient["attempts"] == 1
        assert recipient["next_attempt"] > row["accepted_at"]
        agent.run("-q")
        server.wait(1)
        agent.until_empty()

    def test_what_was_delivered_is_not_sent_again(self, agent, server):
        server.refuse("RCPT TO", "451 4.7.1 later", when="late", times=1)
        agent.send("now@example.org", "late@example.org")
        server.wait(1)
        agent.until(lambda: agent.files("log"), what="the deferral")
        agent.run("-q", "-D")
        assert [m.recipients for m in server.messages] == [["now@example.org"], ["late@example.org"]]
        agent.until_empty()

    def test_minus_q_keeps_the_schedule(self, agent, server):
        server.refuse("RCPT TO", "451 4.7.1 later")
        agent.send("-D", "bob@example.org")
        due = agent.queue()[0]["recipients"][0]["next_attempt"]
        time.sleep(1.1)
        agent.run("-q", "-D")
        recipient = agent.queue()[0]["recipients"][0]
        assert recipient["attempts"] == 2
        assert recipient["next_attempt"] == due

    def test_run_due_leaves_what_is_not_due(self, agent, server):
        server.refuse("RCPT TO", "451 4.7.1 later", times=1)
        agent.send("-D", "bob@example.org")
        agent.close()
        agent.program("dma-queue", "run", "--due", check=0)
        assert server.messages == []
        assert agent.queue()[0]["recipients"][0]["attempts"] == 1

    def test_a_relay_that_is_down_costs_one_attempt(self, make, server):
        agent = make(server)
        for number in range(20):
            agent.send("-bq", f"u{number}@example.org")
        server.pause()
        agent.run("-q", "-D")
        rows = agent.queue()
        assert len(rows) == 20
        assert len(agent.files("log")) == 1
        assert all("refused" in r["last_error"] for row in rows for r in row["recipients"])
        server.resume()
        agent.run("-q", "-D")
        assert len(server.messages) == 20

    @pytest.mark.parametrize("reply", [CLOSE, "554 5.3.2 go away", "421 4.3.2 busy"])
    def test_the_greeting_bounces_nothing(self, agent, server, reply):
        server.refuse("connect", reply, times=1)
        agent.send("-D", "bob@example.org")
        assert len(agent.queue()) == 1
        agent.run("-q", "-D")
        server.wait(1)

    def test_a_silent_relay_is_left(self, make, server):
        agent = make(server, conf="TIMEOUT 1s")
        server.refuse("DATA", HANG, times=1)
        agent.send("-D", "bob@example.org")
        (row,) = agent.queue()
        assert "silent for 1 seconds" in row["recipients"][0]["last_error"]


class TestCredentials:
    def test_a_wrong_password_bounces_nothing_and_is_told_once(self, agent, server):
        agent.set_password("wrong")
        for number in range(3):
            agent.send("-bq", f"u{number}@example.org")
        agent.run("-q", "-D")
        assert server.logins == [("alice", False)]
        assert len(agent.files()) == 3
        told = agent.program("dma-queue", "list", check=0)
        assert b"535 5.7.8" in told.stderr
        assert b"dma-setup secret set" in told.stderr
        assert agent.program("dma-queue", "list", "--check").returncode == 1

    def test_a_corrected_password_frees_the_queue(self, agent, server):
        agent.set_password("wrong")
        agent.send("bob@example.org")
        agent.until(lambda: server.logins, what="the first attempt")
        agent.until(lambda: agent.files("log"), what="the deferral")
        agent.set_password("secret")
        # auth.conf is what the owner watches; `dma-setup secret set` touches it.
        agent.auth.touch()
        agent.run("-q")
        server.wait(1)
        agent.until_empty()
        assert agent.program("dma-queue", "list", "--check").returncode == 0

    def test_a_changed_relay_is_used_for_what_waits(self, agent, server):
        server.refuse("MAIL FROM", "451 4.3.0 not now")
        agent.send("bob@example.org")
        agent.until(lambda: agent.files("log"), what="the deferral")
        with MailServer() as other:
            agent.write(agent.conf, f"SMARTHOST 127.0.0.1:{other.port}\nSPOOLDIR {agent.spool}\nMAILNAME here.test\n")
            agent.run("-q")
            other.wait(1)

    @pytest.mark.parametrize("what", ["another relay", "the same relay"])
    def test_a_configuration_corrected_while_the_relay_keeps_us_waiting(self, agent, server, what):
        """The wrong port or kind of TLS is silence for minutes: a run after the correction does not wait for its end, nor
        for the back-off that would follow it."""
        server.refuse("connect", HANG, times=1)
        for name in ("bob", "carol"):
            agent.send(f"{name}@example.org")
        agent.until(lambda: server.connections, what="the attempt")
        with MailServer() as other:
            if what == "another relay":
                agent.write(agent.conf, f"SMARTHOST 127.0.0.1:{other.port}\nSPOOLDIR {agent.spool}\nMAILNAME here.test\n")
            else:
                agent.configure("OPPORTUNISTIC_TLS")
            began = time.monotonic()
            agent.run("-q", "-D")
            assert time.monotonic() - began < 10
            assert len((other if what == "another relay" else server).messages) == 2
            agent.until_empty()

    def test_what_waits_behind_a_slow_message_takes_the_new_relay(self, agent, server):
        agent.base += "MAXCONNECTIONS 1\n"
        agent.configure()
        server.refuse("final DATA", HANG, times=1)
        agent.send("bob@example.org")
        agent.until(lambda: any(verb == "DATA" for _, verb, _ in server.commands), what="the attempt")
        agent.send("carol@example.org")
        with MailServer() as other:
            agent.write(agent.conf, f"SMARTHOST 127.0.0.1:{other.port}\nSPOOLDIR {agent.spool}\nMAILNAME here.test\n")
            agent.run("-q")
            (message,) = other.wait(1)
            assert message.recipients == ["carol@example.org"]  # the other may have been delivered
            agent.until(lambda: len(agent.files()) == 1, what="carol's to be removed")

    def test_a_corrected_mailname_is_what_the_relay_is_greeted_with(self, agent, server):
        """`The relay does not accept this machine's name; check MAILNAME in dma.conf.' The file it names counts too."""
        name = agent.directory / "mailname"
        agent.write(name, "wrong.test\n")
        agent.base = agent.base.replace("MAILNAME here.test", f"MAILNAME {name}")
        agent.configure()
        server.refuse("EHLO", "550 5.7.1 who are you", when="wrong.test")
        agent.send("bob@example.org")
        agent.until(lambda: agent.queue()[0]["recipients"][0]["last_error"], what="the deferral")
        agent.write(name, "right.test\n")
        agent.run("-q")
        server.wait(1)
        hellos = [argument for _, verb, argument in server.commands if verb == "EHLO"]
        assert set(hellos) == {"wrong.test", "right.test"}

    def test_an_unreadable_secret_defers(self, agent, server):
        agent.password.unlink()
        agent.send("-D", "bob@example.org")
        (row,) = agent.queue()
        assert str(agent.password) in row["recipients"][0]["last_error"]
        assert server.connections == 0

    def test_no_credential_to_a_relay_with_another_certificate(self, make, server):
        agent = make(server)
        agent.base = re.sub("FINGERPRINT .*", "FINGERPRINT " + "00" * 32, agent.base)
        agent.configure()
        agent.send("-D", "bob@example.org")
        assert server.logins == []
        assert len(agent.queue()) == 1

    def test_no_credential_without_tls(self, make):
        with MailServer(users={"alice": "secret"}) as plain:
            agent = make(plain)
            agent.send("-D", "bob@example.org")
            assert plain.logins == []
            assert len(agent.queue()) == 1


class TestFailure:
    def test_a_refused_recipient_comes_back_as_a_report(self, agent, server):
        server.refuse("RCPT TO", "550 5.1.1 no such user here", when="nobody")
        agent.send("-f", "me@example.org", "nobody@example.org", "bob@example.org")
        messages = server.wait(2)
        report = next(m for m in messages if m.sender == "<>")  # as aiosmtpd has it
        assert report.recipients == ["me@example.org"]
        assert b"550 5.1.1 no such user here" in report.content
        assert b"multipart/report" in report.content
        assert b"<nobody@example.org>" in report.content
        agent.until_empty()

    def test_no_bounce_for_a_bounce(self, agent, server):
        server.refuse("RCPT TO", "550 5.1.1 no such user here")
        agent.send("-D", "-f", "", "nobody@example.org")
        agent.until_empty()
        assert server.messages == []

    def test_everything_refused_makes_no_loop(self, agent, server):
        server.refuse("RCPT TO", "550 5.1.1 no such user here")
        agent.send("-D", "-f", "me@example.org", "nobody@example.org")
        agent.until(lambda: [row["state"] for row in agent.queue()] == ["failed"], what="the report that nobody can take")
        agent.until_no_owner()
        (row,) = agent.queue()  # in sight
        assert (row["sender"], row["state"]) == ("", "failed")
        assert agent.program("dma-queue", "list", "--check").returncode == 1

    def test_a_refused_sender_is_asked_for_again_when_its_time_has_come(self, agent, server):
        """By an owner that stays, too; seen: never again, and at the end a report about attempts that were none."""
        agent.configure("RETRY 1s 2s")
        server.refuse("MAIL FROM", "550 5.7.1 not yours", times=2)
        subprocess.Popen([BIN / "dmad"], env=agent.environment)  # ended by agent.close
        agent.until(lambda: (agent.spool / "control").exists(), what="dmad")
        agent.send("bob@example.org")
        server.wait(1)
        assert [verb for _, verb, _ in server.commands].count("MAIL") == 3

    def test_a_refused_sender_is_held_not_bounced(self, agent, server):
        server.refuse("MAIL FROM", "553 5.7.1 not your address")
        agent.send("-D", "bob@example.org")
        (row,) = agent.queue()
        assert row["recipients"][0]["state"] == "deferred"
        assert "553 5.7.1 not your address" in row["recipients"][0]["last_error"]
        assert agent.program("dma-queue", "list", "--check").returncode == 1

    def test_a_relay_that_takes_no_reports_is_told_as_such(self, agent, server):
        """MASQUERADE, which helps others, does nothing for the null sender."""
        server.refuse("MAIL FROM", "550 5.7.1 no null senders", when="<>")
        server.refuse("RCPT TO", "550 5.1.1 no such user")
        agent.send("-D", "-f", "me@x.test", "bob@example.org")
        said = b"takes no mail from the null sender: 550"
        agent.until(lambda: said in agent.program("dma-queue", "list").stderr, what="the notice")
        (row,) = agent.queue()
        assert "a line for <> in RELAYMAP" in row["recipients"][0]["last_error"]

    def test_a_damaged_message_is_seen_and_not_sent(self, agent, server):
        agent.send("-bq", "bob@example.org")
        (name,) = agent.files()
        path = agent.spool / "queue" / name
        path.write_bytes(b"garbage" + path.read_bytes()[7:])
        agent.run("-q", "-D")
        (row,) = agent.queue()
        assert (row["state"], server.messages) == ("failed", [])


class TestOperators:
    def test_mailq_is_c_dmas_text(self, agent, server):
        assert agent.run("-bp").stdout == b"Mail queue is empty\n"
        agent.send("-bq", "-f", "me@x.test", "u1@x.test", "u2@x.test")
        (name,) = agent.files()
        block = "ID\t: {0}\nFrom\t: me@x.test\nTo\t: {1}\n"
        assert agent.run("-bp").stdout.decode() == block.format(name, "u1@x.test") + "--\n" + block.format(name, "u2@x.test")

    def test_hold_release_remove(self, agent, server):
        agent.send("-bq", "bob@example.org")
        (name,) = agent.files()
        agent.program("dma-queue", "hold", name, check=0)
        agent.run("-q", "-D")
        assert server.messages == []
        assert agent.queue()[0]["recipients"][0]["state"] == "held"
        agent.program("dma-queue", "release", name, check=0)
        agent.run("-q", "-D")
        server.wait(1)
        agent.send("-bq", "bob@example.org")
        (name,) = agent.files()
        agent.program("dma-queue", "remove", name, check=0)
        assert agent.files() == []
        assert agent.program("dma-queue", "remove", name).returncode == 1

    def test_verbs_with_an_owner_at_work(self, agent, server):
        server.refuse("RCPT TO", "451 4.7.1 later")
        agent.send("bob@example.org")
        agent.until(lambda: agent.files("log"), what="the deferral")
        assert agent.owners()
        (row,) = agent.queue()
        agent.program("dma-queue", "hold", row["id"], check=0)
        assert agent.queue()[0]["state"] == "held"
        agent.program("dma-queue", "remove", row["id"], check=0)
        assert agent.files() == agent.files("log") == []
        agent.until_no_owner()

    def test_show(self, agent, server):
        server.refuse("RCPT TO", "451 4.7.1 later")
        agent.send("-D", "bob@example.org")
        (row,) = agent.queue()
        shown = json.loads(agent.program("dma-queue", "show", row["id"], "--json", check=0).stdout)
        assert shown["events"][0]["text"] == "451 4.7.1 later"
        assert "Subject: test" in shown["header"]
        assert b"Subject: test" in agent.program("dma-queue", "show", row["id"], check=0).stdout
        assert agent.program("dma-queue", "show", "nosuchid").returncode == 1

    def test_a_cloned_spool_waits_for_adopt(self, agent, server):
        agent.send("-bq", "bob@example.org")
        (agent.spool / "owner").write_text("0123456789abcdef0123456789abcdef\n")
        agent.run("-q", "-D")
        assert server.messages == []
        assert b"another machine" in agent.program("dma-queue", "list").stderr
        agent.program("dma-queue", "adopt", check=0)
        agent.run("-q", "-D")
        server.wait(1)
        assert b"another machine" not in agent.program("dma-queue", "list").stderr

    def test_a_bad_value_stops_mail_but_no_listing_and_no_change(self, agent, server):
        agent.send("-bq", "bob@example.org")
        agent.configure("PORT x")
        for words in (["run"], ["retry", agent.files()[0]]):
            ran = agent.program("dma-queue", *words, check=78)
            assert ran.stderr.count(b"PORT needs a port number") == 1
        agent.program("dma-queue", "hold", *agent.files(), check=0)
        assert [row["state"] for row in agent.queue()] == ["held"]
        agent.program("dma-queue", "release", *agent.files(), check=0)
        ran = agent.send("bob@example.org", check=78)
        assert re.search(rb"dma\.conf:\d+: PORT needs a port number", ran.stderr)
        assert len(agent.queue()) == 1
        assert agent.run("-bp").stdout.startswith(b"ID\t: ")


class TestTheLimitsOfASubmittersShell:
    """An owner left behind by `ulimit -n 10; sendmail ...` kept the lock, delivered nothing, and let nobody else do it."""

    def limited(self, agent, which, soft, hard):
        agent.run("bob@example.org", stdin=b"\n", preexec_fn=lambda: resource.setrlimit(which, (soft, hard)))

    def test_do_not_hold_for_the_owner(self, agent, server):
        server.refuse("RCPT TO", "451 4.7.1 later")
        hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)
        self.limited(agent, resource.RLIMIT_NOFILE, 20, hard)
        agent.until(lambda: server.commands, what="an attempt")
        (pid,) = agent.owners()
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert re.search(rf"Max open files +{hard} ", limits)
        assert re.search(r"Max core file size +0 +0 ", limits)

    def test_that_it_cannot_deliver_with_leave_the_queue_to_another(self, agent, server):
        self.limited(agent, resource.RLIMIT_NOFILE, 10, 10)
        agent.until_no_owner()
        assert (len(agent.files()), server.messages) == (1, [])
        agent.send("carol@example.org")
        server.wait(2)
        agent.until_empty()
