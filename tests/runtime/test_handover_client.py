"""sendmail in system mode against daemons that are none, die, refuse early or talk nonsense. Runs as any user: DMA_CONF names
a file that sets SOCKET."""

import os
import pwd
import socket
import subprocess

import pytest
from false_daemon import Daemon, accepts, at_once, dies_behind_the_commit, dies_inside, says
from sendmail_program import Sendmail

from dma_runtime import frames, request
from dma_runtime.system import daemonline

MESSAGE = b"Subject: s\r\n\r\nhello\r\n.\r\nnot this\r\n"
BIG = b"Subject: s\n\n" + (b"z" * 79 + b"\n") * 20_000


@pytest.fixture
def mail(tmp_path):
    return Sendmail(tmp_path, f"SOCKET {tmp_path}/s\n")


def daemon(mail, *parts):
    return Daemon(f"{mail.directory}/s", *parts)


def test_the_message_goes_over_as_it_was_cut_and_what_was_asked(mail):
    there = daemon(mail, accepts)
    mail.environment.update(LOGNAME="x", EMAIL="me@y", LD_LIBRARY_X="1")
    ran = mail.run("-f", "a@x", "-F", "Älf", "-N", "never", "-bq", "b@y", "c\udcff@y", stdin=MESSAGE)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    ((asked, text),) = there.heard
    assert text == b"Subject: s\n\nhello\n"
    assert (asked.sender, asked.name, asked.recipients) == ("a@x", "Älf", ["b@y", "c\udcff@y"])
    assert (asked.queue_only, asked.dsn_notify, asked.terminal, asked.extract) == (True, "never", False, False)
    assert asked.environ == {"LOGNAME": "x", "EMAIL": "me@y"}
    assert mail.ids() == []  # the spool is the daemon's


def test_a_large_message_from_a_file_without_a_name(mail):
    there = daemon(mail, accepts)
    mail.environment["TMPDIR"] = str(mail.directory / "tmp")
    (mail.directory / "tmp").mkdir()
    assert mail.run("b@y", stdin=BIG).returncode == 0
    assert there.heard[0][1] == BIG
    assert os.listdir(mail.directory / "tmp") == []
    mail.environment["TMPDIR"] = "/nonexistent"
    (mail.directory / "s").unlink()
    there = daemon(mail, accepts)
    assert mail.run("b@y", stdin=BIG).returncode == 0
    assert there.heard[0][1] == BIG


def test_a_daemon_that_dies_before_it_has_all_is_asked_again(mail):
    there = daemon(mail, dies_inside, dies_inside, accepts)
    assert mail.run("b@y", stdin=BIG).returncode == 0
    assert there.heard[0][1] == BIG


def test_not_for_ever(mail):
    daemon(mail, *[dies_inside] * 10)
    ran = mail.run("b@y", stdin=BIG)
    assert (ran.returncode, b"ended 4 conversations without an answer" in ran.stderr) == (75, True)


def test_behind_the_commit_it_may_have_been_queued_and_is_not_sent_again(mail):
    there = daemon(mail, dies_behind_the_commit, accepts)
    ran = mail.run("b@y", stdin=BIG)
    assert ran.returncode == 75
    assert b"may have been queued" in ran.stderr
    assert len(there.heard) == 1


def test_accepted_is_accepted_whatever_comes_behind(mail):
    daemon(mail, says(frames.frame(frames.ACCEPTED, b"m1")))
    assert mail.run("b@y", stdin=MESSAGE).returncode == 0
    (mail.directory / "s").unlink()
    daemon(mail, says(frames.frame(frames.ACCEPTED, b"m1") + frames.status(70, "a late complaint")))
    assert mail.run("b@y", stdin=MESSAGE).returncode == 0


@pytest.mark.parametrize("behind", [b"HTTP/1.0 500\r\n", b"S\xff\xff\xff\xff", frames.frame(frames.STATUS, b"fine"), None])
def test_nor_is_it_refused_by_nonsense_or_silence_behind_it(mail, monkeypatch, behind):
    """Told 75, the caller would send it again."""
    accepted = frames.frame(frames.ACCEPTED, b"m1")
    if behind is not None:
        daemon(mail, says(accepted + behind))
        assert mail.run("b@y", stdin=MESSAGE).returncode == 0
        return

    def silent(daemon, connection):
        daemon.whole(connection)
        connection.sendall(accepted)
        connection.recv(1)  # until the client has gone

    daemon(mail, silent)
    monkeypatch.setattr(daemonline, "ANSWER", 0.2)
    header = request.encode(request.Request())
    answer = daemonline.converse(f"{mail.directory}/s", header, lambda: [MESSAGE], output=print, line=print)
    assert (answer.status, answer.id) == (0, "m1")


def test_a_refusal_without_a_word_is_one_also_in_a_conversation(mail):
    daemon(mail, says(frames.status(70)))
    ran = mail.run("b@y", stdin=MESSAGE)
    assert (ran.returncode, b"did not accept" in ran.stderr) == (70, True)
    (mail.directory / "s").unlink()
    daemon(mail, says(frames.status(70)))
    ran = mail.run("-bs", stdin=b"HELO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nSubject: s\r\n\r\nx\r\n.\r\nQUIT\r\n")
    replies = [line[:3] for line in ran.stdout.split(b"\r\n") if line]
    assert replies == [b"220", b"250", b"250", b"250", b"354", b"451", b"221"]


def test_an_end_without_a_yes_is_none(mail):
    daemon(mail, says(frames.status(0)))
    ran = mail.run("b@y", stdin=MESSAGE)
    assert (ran.returncode, b"without having accepted" in ran.stderr) == (75, True)


def test_who_stops_reading_a_listing_hears_no_complaint(mail):
    daemon(mail, says(frames.frame(frames.OUTPUT, b"x" * 1000) + frames.status(0)))
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run([str(mail.program), "-bp"], stdout=writing, stderr=subprocess.PIPE, env=mail.environment, timeout=60)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.parametrize("text", [MESSAGE, BIG])
def test_a_refusal_before_everything_was_sent_is_heard(mail, text):
    daemon(mail, at_once(frames.status(69, "too large \x1b[31m")))
    ran = mail.run("b@y", stdin=text)
    assert (ran.returncode, ran.stderr) == (69, b"sendmail: too large ?[31m\n")


def test_frames_of_a_later_daemon_are_passed_over(mail):
    daemon(mail, says(b"x\0\0\0\3new" + frames.frame(frames.ACCEPTED, b"m1") + b"y\0\0\0\0" + frames.status(0)))
    assert mail.run("b@y", stdin=MESSAGE).returncode == 0


@pytest.mark.parametrize("nonsense", [b"HTTP/1.0 200\r\n\r\n", b"S\xff\xff\xff\xff", frames.frame(frames.STATUS, b"fine")])
def test_a_daemon_that_talks_nonsense_is_75(mail, nonsense):
    daemon(mail, says(nonsense))
    ran = mail.run("b@y", stdin=MESSAGE)
    assert ran.returncode == 75
    assert ran.stderr.startswith(b"sendmail: the mail service at ")


def test_nobody_listens(mail):
    if os.getuid() == 0 and any(entry.pw_name == "dma" for entry in pwd.getpwall()):
        pytest.skip("root becomes dma and goes on: tests/interop/test_service.py has that")
    mail.refused(75, "no mail service listens at", "b@y")
    socket.socket(socket.AF_UNIX).bind(f"{mail.directory}/s")
    mail.refused(75, "no mail service listens at", "b@y")


def test_a_socket_that_may_not_be_used_is_named(mail):
    mail.configure("SOCKET /proc/1/root/none/s\n" if os.getuid() else f"SOCKET {mail.directory}/dma.conf\n")
    ran = mail.run("b@y", stdin=MESSAGE)
    assert ran.returncode == 75
    assert b"mail service" in ran.stderr


def test_a_path_beyond_the_kernels_limit(mail):
    deep = mail.directory / ("d" * 100) / ("e" * 50)
    deep.mkdir(parents=True)
    mail.configure(f"SOCKET {deep}/s\n")
    here = os.getcwd()
    os.chdir(deep)
    try:
        there = Daemon("s", accepts)
    finally:
        os.chdir(here)
    assert mail.run("b@y", stdin=MESSAGE).returncode == 0
    assert len(there.heard) == 1


def test_refused_here_before_anybody_is_asked(mail):
    mail.configure(f"SOCKET {mail.directory}/none\nMAXSIZE 1K\n")
    mail.refused(66, "no recipients")
    mail.refused(69, "MAXSIZE", "b@y", stdin=BIG)
    mail.refused(64, "too many recipients", *["b" * 1000 + "@y"] * 1200)


def test_at_a_terminal_lines_are_shown_and_a_message_is_kept(mail):
    there = daemon(
        mail, says(frames.frame(frames.LINE, b"look\x1b[2J here") + frames.frame(frames.ACCEPTED, b"m") + frames.status(0))
    )
    status, shown = mail.on_terminal("b@y", stdin=MESSAGE)
    assert (status, shown.strip()) == (0, "sendmail: look\\x1b[2J here")
    assert there.heard[0][0].terminal


def test_questions(mail):
    rows = frames.frame(frames.OUTPUT, b"Mail queue ") + frames.frame(frames.OUTPUT, b"is empty\n") + frames.status(0)
    there = daemon(mail, says(rows), says(frames.status(0)), says(frames.frame(frames.OUTPUT, b"a... no\n") + frames.status(67)))
    assert mail.run(program=mail.launcher("mailq")).stdout == b"Mail queue is empty\n"
    assert mail.run("-q").returncode == 0
    ran = mail.run("-bv", "a")
    assert (ran.returncode, ran.stdout, ran.stderr) == (67, b"a... no\n", b"")
    assert [asked.do for asked, _ in there.heard] == [request.LIST, request.RUN, request.VERIFY]
    assert there.heard[2][0].recipients == ["a"]


def test_a_listing_commands_no_terminal(mail):
    """The account dma may have been broken into; root's terminal obeys nothing that it says."""
    rows = frames.frame(frames.OUTPUT, "ID\t: 1\nTo\t: \x1b]0;x\x07ä\x9b2J\r\x7f@y\n".encode()) + frames.status(0)
    daemon(mail, says(rows))
    shown = mail.run(program=mail.launcher("mailq")).stdout
    assert shown == "ID\t: 1\nTo\t: ?]0;x?ä\x9b2J??@y\n".encode()


def test_what_was_accepted_is_accepted_wherever_the_words_go(mail):
    daemon(mail, accepts, accepts)
    words = [str(mail.program), "-v", "b@y"]
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(words, input=MESSAGE, stdout=full, stderr=subprocess.PIPE, env=mail.environment, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert mail.run("-v", "b@y", stdin=MESSAGE).returncode == 0


def test_who_stops_reading_a_listing_has_seen_enough(mail):
    # `mailq | head -1`
    rows = frames.frame(frames.OUTPUT, b"ID: 1\n") + frames.status(0)
    daemon(mail, says(rows), says(rows))
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run([str(mail.launcher("mailq"))], stdout=write, stderr=subprocess.PIPE, env=mail.environment, check=False)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (0, b"")
    with open("/dev/full", "wb") as full:
        ran = subprocess.run([str(mail.launcher("mailq"))], stdout=full, stderr=subprocess.PIPE, env=mail.environment, check=False)
    assert (ran.returncode, ran.stderr) == (74, b"mailq: standard output: No space left on device\n")
