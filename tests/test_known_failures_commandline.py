"""docs/known-failures.md, "Command line": one test a row, named by its symptom. Real programs, real server."""

import json
import subprocess
import time

import pytest
from agent import BIN, MESSAGE, Agent
from mail_server import HANG, MailServer


@pytest.fixture(scope="module")
def shared():
    with MailServer() as server:
        yield server


@pytest.fixture
def server(shared):
    shared.accept()
    shared.messages.clear()
    shared.commands.clear()
    return shared


@pytest.fixture
def agent(tmp_path, server):
    agent = Agent(tmp_path, server)
    agent.link = lambda name: _link(agent.directory / name)
    yield agent
    agent.close()


def _link(path):
    path.symlink_to(BIN / "dma")
    return str(path)


def test_minus_bm_stays_in_the_foreground(agent, server):
    """dma#133: the caller hangs for as long as the mail is tried"""
    server.refuse("RCPT TO", "451 4.7.1 later", times=1)
    server.refuse("RCPT TO", HANG)
    for words in ([], ["-bm"], ["-Am"], ["-Ax"]):
        began = time.monotonic()
        agent.send(*words, "u@x.test")
        assert time.monotonic() - began < 5  # the machine may be busy; C dma takes days
    assert len(agent.files()) == 4


def test_minus_bs_takes_the_dialogue_for_a_message(agent, server):
    """msmtp#193, cachethq/Docker#357"""
    dialogue = b"HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nSubject: s\r\n\r\nbody\r\n.\r\nQUIT\r\n"
    ran = agent.run("-bs", stdin=dialogue)
    assert [line[:3] for line in ran.stdout.split(b"\r\n")[:-1]] == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    (message,) = server.wait(1)
    assert (message.sender, message.recipients) == ("a@b.test", ["c@d.test"])
    assert message.content.endswith(b"\r\n\r\nbody\r\n")


def test_minus_bi_and_bv_send_standard_input_as_mail(agent, server):
    """dma#9"""
    agent.write(agent.directory / "aliases", "root: me@x.test\n")
    assert agent.run("-bi", stdin=MESSAGE).returncode == 0
    ran = agent.run("-bv", "root", stdin=MESSAGE)
    assert b"me@x.test" in ran.stdout
    assert agent.run("-bd", stdin=MESSAGE, check=None).returncode == 64
    assert agent.run("-bt", stdin=MESSAGE, check=None).returncode == 64
    assert (agent.files(), server.messages) == ([], [])


# Every flag of sendmail(8), the LSB, Postfix and Exim that C dma refuses, with its own arity.
FLAGS = [
    ["-G"], ["-I"], ["-m"], ["-M", "x"], ["-p", "UUCP:host"], ["-Q"], ["-s"], ["-e", "m"], ["-em"], ["-E"], ["-x"],
    ["-a", "x"], ["-l"], ["-w"], ["-i5"], ["-B", "8BITMIME"], ["-d"], ["-d0.1"], ["-h", "5"], ["-n"], ["-U"], ["-X", "/dev/null"],
    ["-oee"], ["-odb"], ["-oMr", "smtp"], ["-O", "DeliveryMode=b"], ["-Am"], ["-Ac"], ["-bm"], ["-N", "never"], ["-R", "hdrs"],
    ["-V", "id"], ["-L", "tag"], ["-F", "Name"], ["-r", "a@b.test"], ["-f", "a@b.test"], ["-oi"], ["-i"], ["-om"], ["-v"],
]  # fmt: skip


@pytest.mark.parametrize("words", FLAGS, ids=" ".join)
def test_flags_of_other_mail_agents_are_invalid_arguments(agent, words):
    """netdata#10631, mailpit#384"""
    ran = agent.send("-bq", *words, "--", "u@x.test", check=None)
    assert ran.returncode == 0, ran.stderr
    if words != ["-I"]:  # initialises the aliases
        (row,) = agent.queue()
        assert [one["address"] for one in row["recipients"]] == ["u@x.test"]


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_version_and_help_are_invalid_arguments(agent, word):
    ran = agent.run(word)
    assert ran.stdout.startswith(b"dma ")


@pytest.mark.parametrize("words", [[], ["-v"], ["-Ac"], ["-q"], ["-Am", "-v"]])
def test_mailq_with_arguments_is_an_error(agent, words):
    """dma#51, FreeBSD 216910"""
    link = agent.link("mailq")
    ran = subprocess.run([link, *words], env=agent.environment, capture_output=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"Mail queue is empty\n", b"")


def test_mailq_with_a_configuration_shows_that_queue(agent):
    agent.send("-bq", "u@x.test")
    conf = agent.environment.pop("DMA_CONF")
    ran = subprocess.run([agent.link("mailq"), "-C", conf], env=agent.environment, capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"To\t: u@x.test\n" in ran.stdout


def test_mailq_shows_no_size_age_or_reason(agent, server):
    """Checkmk#743"""
    server.refuse("RCPT TO", "451 4.7.1 greylisted")
    agent.send("-D", "-f", "me@x.test", "u@x.test")
    (row,) = json.loads(agent.program("dma-queue", "list", "--json", check=0).stdout)
    assert row["size"] > 100
    assert row["age"] >= 0
    assert row["accepted_at"].endswith("Z")
    assert "451 4.7.1 greylisted" in row["recipients"][0]["last_error"]
    assert agent.run("-bp").stdout.decode() == f"ID\t: {row['id']}\nFrom\t: me@x.test\nTo\t: u@x.test\n"


def test_two_different_failures_print_the_same_text(agent):
    """dma#139, #140"""
    ran = agent.run(stdin=MESSAGE, check=66)
    assert ran.stderr == b"dma: no recipients from command line\n"
    ran = agent.run("-t", stdin=MESSAGE, check=66)
    assert ran.stderr == b"dma: no recipients from headers\n"


@pytest.mark.parametrize(("option", "kept"), [("-oi", True), ("-i", True), ("-oem", False), ("-oee", False), ("-odi", False)])
def test_minus_oem_sets_minus_i_or_minus_oi_is_ignored(agent, server, option, kept):
    """dma PR #120"""
    agent.send("-D", option, "u@x.test", text=b"Subject: s\n\none\n.\ntwo\n")
    (message,) = server.wait(1)
    assert message.content.endswith(b"one\r\n.\r\ntwo\r\n" if kept else b"one\r\n")
