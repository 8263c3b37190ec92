"""Commands and files as recipients: what they are given, what their end means, and what they are not given."""

import mailbox
import os
import pathlib
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

import pytest
from agent import Agent

from dma_runtime import config
from dma_runtime.delivery import bounce, errand, local
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED
from dma_runtime.posting import APPEND, Posting
from dma_runtime.system.spool import Spool, new_id

ME = pwd.getpwuid(os.geteuid()).pw_name
RUNNER = "nobody" if os.geteuid() == 0 else ME
BODY = b"Subject: s\n\nFrom here\n.\nend\n"


@pytest.fixture
def box():
    """A directory that whoever runs the commands may write. Not below pytest's: another run makes that its own again."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="errand-"))
    place.chmod(0o777)
    yield place
    shutil.rmtree(place)


def run(command, *, sender="a@x.test", address="alice@here.test", seconds=20.0, body=BODY):
    posting = Posting(APPEND, "")
    posting.sender, posting.address = sender, address
    return errand.run(command, posting, lambda: iter([body]), seconds=seconds)


def test_what_a_command_is_given(box):
    outcome = run(f"cat > {box}/got; id -un > {box}/who; env > {box}/env; pwd > {box}/pwd; umask > {box}/umask")
    assert (outcome.kind, outcome.status) == (DELIVERED, "2.0.0"), outcome.text
    first, second, third, *rest = (box / "got").read_bytes().split(b"\n")
    assert first.startswith(b"From a@x.test ")
    assert (second, third) == (b"Return-Path: <a@x.test>", b"Delivered-To: alice@here.test")
    assert b"\n".join(rest) == BODY
    assert (box / "who").read_text().strip() == RUNNER
    environment = dict(line.split("=", 1) for line in (box / "env").read_text().splitlines())
    assert {name: value for name, value in environment.items() if name not in ("PWD", "SHLVL", "_", "OLDPWD")} == {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "SHELL": "/bin/sh", "SENDER": "a@x.test",
        "RECIPIENT": "alice@here.test", "USER": RUNNER, "LOGNAME": RUNNER, "HOME": pwd.getpwnam(RUNNER).pw_dir,
    }  # fmt: skip
    assert (box / "umask").read_text().strip() in ("077", "0077")


def test_words_of_others_mean_nothing_to_a_shell(box):
    outcome = run(f"eval echo $SENDER > {box}/got", sender="a`touch${IFS}" + f"{box}/evil`;x@y")
    assert outcome.kind == DELIVERED, outcome.text
    assert not (box / "evil").exists()
    assert run(f"echo $SENDER $RECIPIENT > {box}/got", sender="", address="ü(a)@x").kind == DELIVERED
    assert (box / "got").read_text() == "__a_@x\n"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (0, DELIVERED, "2.0.0"),
        (67, FAILED, "5.1.1"),
        (68, FAILED, "5.1.2"),
        (77, FAILED, "5.7.0"),
        (1, FAILED, "5.3.0"),
        (64, FAILED, "5.3.0"),
        (73, FAILED, "5.3.0"),
        (71, DEFERRED, "4.3.0"),
        (74, DEFERRED, "4.3.0"),
        (75, DEFERRED, "4.3.0"),
    ],
)
def test_what_an_exit_status_means(status, kind, code):
    outcome = run(f"echo the reason >&2; exit {status}")
    assert (outcome.kind, outcome.status) == (kind, code)
    if kind != DELIVERED:
        assert f"exit status {status}: the reason" in outcome.text


def test_a_command_that_is_not_there_waits_for_its_owner():
    outcome = run("/no/such/program --x")
    assert (outcome.kind, outcome.status, outcome.tell) == (DEFERRED, "4.3.5", True)
    assert "/no/such/program" in outcome.text


def test_a_command_that_dies():
    outcome = run("kill -9 $$")
    assert outcome.kind == DEFERRED
    assert "signal 9" in outcome.text


def test_a_command_that_does_not_end_is_killed_with_what_it_started(box):
    start = time.monotonic()
    outcome = run(f"(sleep 1; touch {box}/late) & sleep 60", seconds=0.5)
    assert time.monotonic() - start < 10
    assert outcome.kind == DEFERRED
    assert "did not end within" in outcome.text
    time.sleep(1.5)
    assert not (box / "late").exists()


def test_a_command_that_does_not_read_and_one_that_prints_much():
    assert run("exit 0", body=b"x" * 1_000_000).kind == DELIVERED
    outcome = run("yes | head -c 5000000; echo; printf last; exit 70")
    assert outcome.kind == FAILED
    assert outcome.text.endswith("last")
    assert len(outcome.text) < 800


def test_a_child_left_behind_delays_nothing():
    start = time.monotonic()
    assert run("sleep 20 & exit 0").kind == DELIVERED
    assert time.monotonic() - start < 10


# ---------------------------------------------------------------- through the mailbox room


def deliver(tmp_path, address, conf):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    envelope = Envelope(new_id(time.time(), os.urandom), "a@x.test", [Recipient(address, "list@here.test")], time.time())
    draft = spool.draft(envelope)
    draft.write(BODY)
    draft.commit(envelope)
    return local.deliver(spool, envelope.id, envelope.recipients[0], config.parse(conf, "dma.conf"), wait=1)


def test_only_where_the_configuration_allows_it_now(tmp_path, box):
    outcome = deliver(tmp_path, f"| touch {box}/ran", "MAILNAME here.test\n")
    assert (outcome.kind, outcome.status) == (FAILED, "5.7.1")
    assert not (box / "ran").exists()
    assert deliver(tmp_path, f"| touch {box}/ran", "PIPES\n").kind == DELIVERED
    assert (box / "ran").exists()


def test_the_daemon_runs_nothing(tmp_path, box):
    conf = config.parse("PIPES\nSOCKET /run/x/submit.sock\n", "dma.conf")
    assert conf.by_socket
    outcome = deliver(tmp_path, f"| touch {box}/ran", f"PIPES\nSOCKET {tmp_path}/submit.sock\n")
    assert (outcome.kind, outcome.text) == (DEFERRED, f"no mailbox process at {tmp_path}/mailbox.sock: No such file or directory")
    assert not (box / "ran").exists()


def test_dev_null_needs_no_permission(tmp_path):
    outcome = deliver(tmp_path, "> /dev/null", "MAILNAME here.test\n")
    assert (outcome.kind, outcome.text) == (DELIVERED, "discarded")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_files(tmp_path):
    path = tmp_path / "archive"
    outcome = deliver(tmp_path, f"> {path}", "PIPES\n")
    if os.geteuid() == 0:
        assert (outcome.kind, outcome.status) == (FAILED, "5.7.1")
        return
    assert outcome.kind == DELIVERED
    (message,) = mailbox.mbox(path)
    assert message["Delivered-To"] == "list@here.test"
    assert message.get_payload() == ">From here\n.\nend\n"
    assert deliver(tmp_path, f"> {tmp_path}/dir/", "PIPES\n").kind == DELIVERED
    assert len(mailbox.Maildir(tmp_path / "dir", create=False)) == 1


# ---------------------------------------------------------------- from sendmail to the end


def test_an_alias_runs_a_command(tmp_path, box):
    agent = Agent(tmp_path, conf="PIPES")
    try:
        lines = f'filter: "|cat > {box}/got # for a@b.test"\nnoreply: /dev/null\nbad: "|exit 69"\n'
        agent.write(agent.directory / "aliases", lines)
        agent.send("-D", "-f", "a@x.test", "filter", "noreply")
        assert (box / "got").read_bytes().endswith(b"hello\n")
        assert agent.files() == []
        ran = agent.send("-D", "-f", "", "bad")
        assert b"exit status 69" in ran.stderr
        said = agent.run("-bv", "filter", "noreply").stdout.decode()
        assert f"filter... deliverable: mailer prog, user | cat > {box}/got # for a@b.test" in said
        assert "noreply... deliverable: mailer file, user > /dev/null" in said
    finally:
        agent.close()


HASTY = """
import sys
from dma_runtime.delivery import owner, rounds
owner.GRACE, rounds.DOUBT = 0.3, float(sys.argv.pop(1))
from dma_runtime.cmd.daemon import main
sys.exit(main())
"""


def stopped_meanwhile(agent, box, doubt):
    """An owner that is told to stop while a command runs."""
    owner = subprocess.Popen([sys.executable, "-c", HASTY, str(doubt), "-C", str(agent.conf)], stderr=subprocess.DEVNULL)
    agent.until((agent.spool / "control").exists)
    agent.send("filter")
    agent.until((box / "began").exists)
    owner.send_signal(signal.SIGTERM)
    began = time.monotonic()
    owner.wait(20)
    return time.monotonic() - began


def test_a_command_that_ends_while_we_leave_is_not_run_again(tmp_path, box):
    agent = Agent(tmp_path, conf="PIPES")
    try:
        agent.write(agent.directory / "aliases", f'filter: "|touch {box}/began; sleep 2; echo ran >> {box}/ran"\n')
        stopped_meanwhile(agent, box, 10)
        agent.run("-q", "-D")
        assert (box / "ran").read_text() == "ran\n"
        assert agent.files() == []
    finally:
        agent.close()


def test_a_command_that_does_not_end_while_we_leave_is_ended(tmp_path, box):
    agent = Agent(tmp_path, conf="PIPES")
    try:
        agent.write(agent.directory / "aliases", f'filter: "|touch {box}/began; sleep 8; echo ran >> {box}/ran"\n')
        assert stopped_meanwhile(agent, box, 0.3) < 6
        (row,) = agent.queue()
        assert "the queue was stopped" in row["recipients"][0]["last_error"]
        time.sleep(0.5)
        assert not (box / "ran").exists()
    finally:
        agent.close()


def test_an_aliases_file_that_others_can_write_runs_nothing(tmp_path, box):
    agent = Agent(tmp_path, conf="PIPES")
    aliases = agent.directory / "aliases"
    aliases.write_text(f"filter: |touch {box}/ran\n")
    aliases.chmod(0o666)
    ran = agent.send("-bq", "filter", check=65)
    assert b"can be written by others" in ran.stderr
    assert agent.files() == []


def test_nor_does_a_report_to_the_owner_of_a_list(tmp_path):
    aliases = tmp_path / "aliases"
    aliases.write_text('owner-list: "|cat > /dev/null"\n')
    conf = config.parse(f"PIPES\nALIASES {aliases}\n", "dma.conf")
    for mode, refused in ((0o666, f"|cat > /dev/null: {aliases} can be written by others"), (0o644, "")):
        aliases.chmod(mode)
        if refused or os.geteuid() != 0:
            (found,) = bounce._resolver(conf, "here.test").resolve(["owner-list"])
            assert found.refused == refused


def test_the_words_of_the_command_line_are_never_commands(tmp_path, box):
    agent = Agent(tmp_path, conf="PIPES")
    for words in ([f"|touch {box}/ran"], [f"| touch {box}/ran"], [f"> {box}/ran"], [f'"| touch {box}/ran"']):
        agent.send("-D", *words, check=65)
        agent.run("-D", "-t", stdin=f"To: {words[0]}\n\nx\n".encode(), check=65)
    assert not (box / "ran").exists()
    assert agent.files() == []
