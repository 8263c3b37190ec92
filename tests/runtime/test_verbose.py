"""`sendmail -v`: the first attempt is waited for and its dialogue shown, without the secrets in it."""

import base64
import os
import subprocess

import pytest
from agent import BIN, MESSAGE, Agent
from mail_server import MailServer

PASSWORD = "the very secret"


@pytest.fixture
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as found:
        yield found


@pytest.fixture
def box(server, tmp_path):
    found = Agent(tmp_path, server)
    yield found
    found.close()


def test_the_dialogue_is_shown_and_waited_for(box, server):
    ran = box.send("-v", "-f", "me@here.test", "bob@far.test")
    assert len(server.messages) == 1
    lines = ran.stdout.decode().splitlines()
    assert "C: MAIL FROM:<me@here.test>" in "\n".join(lines)
    assert "C: RCPT TO:<bob@far.test>" in lines
    assert sum(line.startswith("S: 250") for line in lines) >= 3
    assert all(line[:3] in ("C: ", "S: ", "-- ") for line in lines), lines
    told = base64.b64encode(PASSWORD.encode()).decode()
    whole = base64.b64encode(f"\0alice\0{PASSWORD}".encode()).decode()
    assert any("AUTH" in line for line in lines)
    for secret in (PASSWORD, told, whole):
        assert secret not in ran.stdout.decode() + ran.stderr.decode()
    assert box.files() == []


def test_a_refusal_is_shown_and_the_message_stays(box, server):
    server.refuse("RCPT TO", "451 4.7.1 not now")
    ran = box.send("-v", "bob@far.test")
    assert "S: 451 4.7.1 not now" in ran.stdout.decode()
    assert len(box.files()) == 1


def test_a_queue_run(box, server):
    box.send("-bq", "bob@far.test")
    assert "C: RCPT TO:<bob@far.test>" in box.run("-q", "-v").stdout.decode()
    assert len(server.messages) == 1


def test_queue_only_delivers_nothing(box, server):
    assert box.send("-v", "-bq", "bob@far.test").stdout == b""
    assert len(box.files()) == 1


def test_an_owner_at_work_makes_the_attempt(box, server):
    dmad = subprocess.Popen([str(BIN / "dmad")], env=box.environment, stderr=subprocess.PIPE)
    try:
        box.until(lambda: (box.spool / "control").exists())
        said = box.send("-v", "bob@far.test").stdout
        assert said == b"-- the process that owns the queue made the attempt; what was said is in its log\n"
        assert len(server.messages) == 1
    finally:
        dmad.terminate()
        dmad.communicate(timeout=20)


def test_nobody_reads_the_dialogue(box, server):
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run([str(BIN / "dma"), "-v", "bob@far.test"], input=MESSAGE, stdout=write, env=box.environment, timeout=60)
    os.close(write)
    assert ran.returncode == 0
    assert len(server.messages) == 1
    assert box.files() == []
