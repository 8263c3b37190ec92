"""docs/known-failures.md, "Queue, retry, bounce": one test a row, named by its symptom. Real programs, real server."""

import email
import email.policy
import os
import pwd
import shutil
import signal
import subprocess
import time

import pytest
import strace
from agent import BIN, Agent
from machine import Machine
from mail_server import CLOSE, MailServer

ME = pwd.getpwuid(os.geteuid()).pw_name
NO = "550 5.1.1 no such user here"


@pytest.fixture
def server():
    with MailServer() as server:
        yield server


@pytest.fixture
def make(tmp_path, server):
    made = []

    def make(other=None, **keywords):
        directory = tmp_path / f"agent{len(made)}"
        directory.mkdir()
        made.append(Agent(directory, other or server, **keywords))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


@pytest.fixture
def agent(make):
    return make()


def test_mail_silently_lost_when_the_sender_is_not_a_local_user(make, server):
    """dma#143"""
    server.refuse("RCPT TO", NO, when="bob@")
    agent = make()
    agent.send("-D", "-f", "app@localhost", "bob@example.org")  # nobody of that name, no postmaster either
    (row,) = agent.queue()
    assert (row["sender"], row["state"]) == ("app@localhost", "failed")
    assert "no such user here" in row["recipients"][0]["last_error"]
    agent.program("dma-queue", "remove", row["id"], check=0)
    agent.write(agent.directory / "aliases", "postmaster: boss@example.org\n")
    agent.send("-D", "-f", "app@localhost", "bob@example.org")
    (report,) = server.wait(1)
    assert (report.sender, report.recipients) == ("<>", ["boss@example.org"])


def test_bounce_of_a_bounce_left_in_the_queue_and_bounced_again_each_run(agent, server):
    """dma#111, PR #145"""
    server.refuse("RCPT TO", NO)
    ran = agent.send("-D", "-f", "", "bob@example.org")
    assert agent.files() == agent.files("log") == []
    lines = [line for line in ran.stderr.decode().splitlines() if "bounce" in line]
    assert len(lines) == 1
    assert "can not bounce a bounce message, discarding" in lines[0]


def test_bounce_header_from_mailer_daemon_is_invalid_and_no_dsn(agent, server):
    """dma#75, sisimai#478"""
    server.refuse("RCPT TO", NO, when="bob@")
    agent.send("-D", "-f", "me@example.org", "bob@example.org")
    (sent,) = server.wait(1)
    bounce = email.message_from_bytes(sent.content, policy=email.policy.strict.clone(linesep="\r\n"))
    assert bounce.get_content_type() == "multipart/report"
    assert bounce.get_param("report-type") == "delivery-status"
    (author,) = bounce["From"].addresses
    assert (author.username, author.domain) == ("MAILER-DAEMON", "here.test")
    assert [part.get_content_type() for part in bounce.iter_parts()] == [
        "text/plain", "message/delivery-status", "text/rfc822-headers",
    ]  # fmt: skip


def test_wrong_password_bounces_every_mail(tmp_path):
    """nullmailer 2.2, msmtp#109, dma#111"""
    with MailServer(tls="starttls", users={"alice": "right"}) as server:
        agent = Agent(tmp_path, server)
        try:
            agent.set_password("wrong")
            for number in range(5):
                agent.send("-bq", f"u{number}@example.org")
            agent.run("-q", "-D")
            rows = agent.queue()
            assert [row["state"] for row in rows] == ["queued"] * 5
            warned = agent.program("dma-queue", "list", check=0).stderr.decode().splitlines()
            assert len(warned) == 1
            assert "535" in warned[0]
            agent.set_password("right")
            agent.auth.touch()
            agent.run("-q", "-D")
            assert len(server.messages) == 5
            agent.until_empty()
        finally:
            agent.close()


def test_ehlo_refused_bounces_instead_of_helo(agent, server):
    """net.c:391"""
    server.refuse("EHLO", "502 5.5.1 command not implemented", times=1)
    agent.send("-D", "bob@example.org")
    assert len(server.messages) == 1
    assert [verb for _, verb, _ in server.commands][:2] == ["EHLO", "HELO"]


def test_config_fix_not_picked_up_by_what_is_deferred(agent, server):
    """dma#111"""
    server.refuse("RCPT TO", "451 4.3.0 not here, not now")
    agent.send("bob@example.org")
    agent.until(lambda: agent.files("log"), what="the deferral")
    with MailServer() as other:
        agent.base = agent.base.replace(f":{server.port}", f":{other.port}")
        agent.configure()
        agent.run("-q")
        other.wait(1)
    agent.until_empty()


def test_flush_of_many_opens_as_many_connections(tmp_path):
    """dma#56, nullmailer#68"""
    with MailServer(tls="starttls", users={"alice": "right"}) as server:
        server.refuse("connect", "421 4.3.2 not now", times=1)
        agent = Agent(tmp_path, server)
        try:
            for number in range(40):
                agent.send("-bq", f"u{number}@example.org")
            agent.run("-q", "-D")
            assert len(agent.files()) == 40
            agent.run("-q", "-D")
            assert len(server.messages) == 40
            assert server.most_open <= 4
            assert server.connections - 1 <= 5
            assert len(server.logins) == server.connections - 1
        finally:
            agent.close()


def test_three_recipients_take_three_connections(agent, server):
    agent.send("-D", "a@x.test", "b@x.test", "c@y.test")
    verbs = [verb for _, verb, _ in server.commands]
    assert (server.connections, verbs.count("DATA"), verbs.count("RCPT")) == (1, 1, 3)


def test_cron_flush_every_five_minutes_resets_the_back_off(agent, server):
    """README.Debian"""
    server.refuse("RCPT TO", "451 4.7.1 later")
    agent.send("-D", "bob@example.org")
    due = agent.queue()[0]["recipients"][0]["next_attempt"]
    for _ in range(2):
        agent.program("dma-queue", "run", "--due", check=0)
    (recipient,) = agent.queue()[0]["recipients"]
    assert (recipient["attempts"], recipient["next_attempt"]) == (1, due)
    agent.run("-q", "-D")
    (recipient,) = agent.queue()[0]["recipients"]
    assert (recipient["attempts"], recipient["next_attempt"]) == (2, due)


def test_retry_interval_and_give_up_time_not_configurable(make, server):
    """dma#133"""
    server.refuse("RCPT TO", "451 4.7.1 later", times=1)
    agent = make(conf="RETRY 1s 2s\nEXPIRE 1h")
    agent.send("bob@example.org")
    began = time.monotonic()
    server.wait(1, seconds=15)
    assert time.monotonic() - began < 12
    agent.until_empty()


def test_background_child_dies_with_the_caller_s_process_group(agent, server):
    """naemon#76"""
    server.refuse("connect", CLOSE, times=1)
    agent.configure("RETRY 1s 2s")
    caller = subprocess.Popen(
        ["sh", "-c", f"printf 'Subject: x\\n\\nhello\\n' | {BIN / 'dma'} bob@example.org; echo done; sleep 60"],
        env=agent.environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert caller.stdout.readline() == b"done\n"
    os.killpg(caller.pid, signal.SIGKILL)
    caller.wait()
    caller.stdout.close()
    server.wait(1)
    agent.until_empty()


def test_flush_file_made_by_root_locks_other_users_out():
    """dma#23"""
    with Machine() as machine:
        machine.start()
        for user in ("root", "bob", "alice"):
            ran = machine.run("sendmail", "-q", user=user)
            assert (ran.returncode, ran.stderr) == (0, b""), (user, ran)


def test_mailbox_and_directory_are_not_synced_before_the_spool_file_goes(agent, tmp_path):
    strace.needed()
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs root: /var/mail is covered by one of the test's own")
    drop = tmp_path / "drop"
    drop.mkdir()
    trace = tmp_path / "trace"
    cover = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /var/mail && exec "$@"', str(drop)]
    names = "openat,fsync,fdatasync,unlink,unlinkat,link,linkat"
    words = [shutil.which("strace"), "-f", "-y", "-qq", "-s", "300", "-o", str(trace), "-e", f"trace={names}"]
    subprocess.run([*cover, *words, str(BIN / "dma"), "-D", ME], input=b"Subject: x\n\nhello\n", env=agent.environment, check=True)
    assert b"hello" in (drop / ME).read_bytes()
    lines = trace.read_text().splitlines()

    def first(*words):
        return next(n for n, line in enumerate(lines) if all(word in line for word in words))

    born = first("linkat", "/queue/")
    directory = next(
        n for n, line in enumerate(lines) if n > born and "fsync" in line and line.rstrip().split(">")[0].endswith("/queue")
    )
    mailbox = first("fsync", f"/var/mail/{ME}>")
    gone = first("unlink", "/queue/")
    assert born < directory < mailbox < gone


@pytest.mark.parametrize(
    ("stage", "reply"),
    [("RCPT TO", NO), ("MAIL FROM", "550 5.7.1 no"), ("DATA", "554 5.7.1 no"), ("final DATA", "554 5.7.1 spam")],
)
def test_bounce_loop_fills_the_disk(make, server, stage, reply):
    """nullmailer#54, #69, OpenSMTPD#1190"""
    server.refuse(stage, reply)
    agent = make()
    agent.write(agent.directory / "aliases", "postmaster: boss@example.org\n")
    agent.send("-D", "-f", "me@example.org", "bob@example.org")
    for _ in range(4):
        agent.run("-q", "-D")
    assert server.messages == []
    assert len(agent.files()) <= 1
    senders = [argument.split("<")[1].split(">")[0] for _, verb, argument in server.commands if verb == "MAIL"]
    if stage == "MAIL FROM":
        assert set(senders) == {"me@example.org"}  # a relay that takes nobody is a state of the relay: nothing bounces
    else:
        assert senders == ["me@example.org", "", ""]  # the mail, the report, the report to postmaster, and no more


def test_permanent_failures_are_retried_for_ever(agent, server):
    """nullmailer#1, #4"""
    server.refuse("RCPT TO", NO, when="bob@")
    agent.send("-D", "-f", "me@example.org", "bob@example.org")
    agent.until_empty()
    (report,) = server.wait(1)
    assert (report.sender, report.recipients) == ("<>", ["me@example.org"])
    assert [argument for _, verb, argument in server.commands if verb == "RCPT" and "bob@" in argument] == ["TO:<bob@example.org>"]


def test_mails_are_lost_if_sending_fails(agent, server):
    """msmtp#17, #109, #87, openwrt#9846"""
    server.pause()
    agent.send("bob@example.org", check=0)
    assert len(agent.files()) == 1
    agent.until(lambda: agent.queue()[0]["recipients"][0]["last_error"], what="the attempt")
    server.resume()
    agent.run("-q")
    server.wait(1)


def test_offline_submission_reports_an_error_though_it_is_queued(make):
    """OpenSMTPD#840"""
    with MailServer() as other:
        agent = make(other, conf="SMARTHOST relay.invalid")
        ran = agent.send("bob@example.org", check=0)
        assert ran.stderr == b""
        assert len(agent.files()) == 1
