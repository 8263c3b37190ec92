"""What the first version wrote is read by this one: its spool, what its `sendmail` says to a daemon, what its daemon answers.

tests/golden/version1 holds the bytes as that version wrote them; they are never made anew. A later version that changes what
is written adds a directory of its own, and this one stays.
"""

import os
import pathlib
import shutil

import pytest
from agent import Agent
from false_daemon import Daemon, at_once, says
from mail_server import MailServer
from sendmail_program import Sendmail

from dma_runtime import frames, request

WRITTEN = pathlib.Path(__file__).parent.parent / "golden" / "version1"
DEFERRED, HALF_DONE, HELD = sorted(os.listdir(WRITTEN / "spool" / "queue"))


def test_its_queue_is_listed_and_leaves(tmp_path):
    with MailServer() as server:
        agent = Agent(tmp_path, server)
        shutil.copytree(WRITTEN / "spool", agent.spool)
        for folder, _, names in os.walk(agent.spool):
            os.chmod(folder, 0o700)
            for name in names:
                os.chmod(os.path.join(folder, name), 0o600)
        try:
            rows = {row["id"]: row for row in agent.queue()}
            assert {id: row["state"] for id, row in rows.items()} == {DEFERRED: "queued", HALF_DONE: "queued", HELD: "held"}
            assert rows[DEFERRED]["recipients"][0]["last_error"] == "451 4.7.1 later"
            assert [r["state"] for r in rows[HALF_DONE]["recipients"]] == ["deferred", "delivered"]
            agent.run("-q", "-D")
            agent.program("dma-queue", "release", HELD, check=0)
            agent.run("-q", "-D")
            # Two messages, one success report for the second (the relay has no DSN), and the held one.
            found = server.wait(4)
            agent.until_empty()
        finally:
            agent.close()
    sent = sorted((message.sender, message.recipients) for message in found)
    assert sent == [
        ("<>", ["alice@example.org"]),
        ("<>", ["held@example.org"]),
        ("alice@example.org", ["deferred@example.org"]),
        ("alice@example.org", ["deferred@example.org"]),
    ]
    (half,) = [message.content for message in found if b"Subject: half done" in message.content and message.sender != "<>"]
    assert half.endswith("\r\n\r\nGrüße\r\n.\r\n..\r\n".encode())


def said(name):
    return (WRITTEN / f"{name}.frames").read_bytes()


def test_its_sendmail_is_understood_by_our_daemon():
    """The reading half, frame by frame; a whole daemon hears the same in tests/interop/test_service.py."""
    parts = list(frames.Parser().feed(said("submit")))
    asked, body, text = request.decode(parts[0][1]), frames.Body(), b""
    for kind, payload in parts[1:]:
        text += body.take(kind, payload)
    assert body.whole
    assert text == b"Subject: by frames\n\nhello\n"
    assert (asked.do, asked.sender, asked.name, asked.recipients) == (
        "submit", "alice@example.org", "Älice", ["bob@example.org", "carol@example.org"],
    )  # fmt: skip
    assert (asked.queue_only, asked.dsn_notify, asked.environ) == (True, "failure", {"LOGNAME": "alice"})
    for name in ("list", "rows", "run", "verify"):
        ((kind, payload),) = frames.Parser().feed(said(name))
        assert (kind, request.decode(payload).do) == (frames.HEADER, name)


@pytest.fixture
def mail(tmp_path):
    return Sendmail(tmp_path, f"SOCKET {tmp_path}/s\n")


def test_its_daemon_is_understood_by_our_sendmail(mail, tmp_path):
    Daemon(f"{tmp_path}/s", says(said("accepted")), says(said("refused")), at_once(said("listed")))
    assert mail.run("bob@example.org").returncode == 0
    mail.refused(75, "try again later", "bob@example.org")
    assert mail.run("-bp").stdout == b"Mail queue is empty\n"


def test_nothing_new_is_needed_of_it():
    """An ordinary submission needs nothing of the daemon that the first one did not have."""
    plain = request.Request()
    plain.recipients = ["bob@example.org"]
    ((_, payload),) = frames.Parser().feed(request.encode(plain))
    assert b'"needs"' not in payload
