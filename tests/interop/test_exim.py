"""The real programs against a real Exim: TLS, AUTH, its refusals; with CHUNKING, without, and one command at a time.

Exim is strict where Postfix is not: a client that sends ahead of a reply it had to wait for is cut off with a
"synchronization error", and so is one whose BDAT lengths are wrong.
"""

import email
import email.policy

import agent
import exim
import pytest

LOGIN = "alice@example.test"
BODY = (
    "Subject: grüße\nFrom: alice@example.test\nTo: bob@far.test\nMIME-Version: 1.0\n"
    "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    "..dots\n.\nFrom here\n" + "ß" * 300 + "\n\ttab and trailing blank \n\n"
).encode()


@pytest.fixture(scope="module")
def server():
    if reason := exim.missing():
        pytest.skip(reason)
    found = exim.Exim(users={LOGIN: "app password"})
    found.refuse("nobody", "550 5.1.1 unrouteable address, says Exim")
    found.refuse("full", "452 4.2.2 mailbox full")
    found.refuse("stranger", "553 5.1.8 this sender is not yours", stage="sender")
    with found:
        yield found


@pytest.fixture(params=exim.LISTENERS)
def listener(server, request):
    server.listener = request.param
    yield request.param
    server.listener = "bdat"


@pytest.fixture
def mine(server, tmp_path):
    server.clear()
    found = agent.Agent(tmp_path, server, login=LOGIN)
    yield found
    found.close()
    said = server.lines()
    assert "synchronization error" not in said
    assert "SMTP protocol" not in said


def test_a_message_arrives_as_it_is(server, listener, mine):
    ran = mine.send("-v", "-i", "-f", LOGIN, "bob@far.test", "carol@far.test", text=BODY)
    said = ran.stdout.decode()
    (message,) = server.wait(1)  # one transaction for both
    assert message.endswith(BODY.partition(b"\n\n")[2])
    assert b"\nSubject: =?utf-8?B?Z3LDvMOfZQ==?=\n" in message
    assert b"with esmtpsa" in message
    assert b"Envelope-to: bob@far.test,\n carol@far.test\n" in message
    assert ("C: BDAT" in said) == (listener in ("bdat", "implicit"))
    assert ("C: DATA" in said) == (listener in ("data", "serial"))
    assert not mine.files()


def test_dots_and_a_missing_line_end(server, listener, mine):
    body = b".one\n..two\n.\n\n.\nno line end"
    mine.send("-D", "-i", "-f", LOGIN, "bob@far.test", text=b"Subject: dots\n\n" + body)
    (message,) = server.wait(1)
    assert message.endswith(b"\n\n" + body + b"\n")


def test_a_stream_of_messages_with_refusals_in_it(server, listener, mine):
    good = []
    for key in range(20):
        words, size = ["bob@far.test"], 2000
        sender = LOGIN
        if key % 10 == 3:
            words = ["nobody@far.test"]
        elif key % 10 == 5:
            words = ["bob@far.test", "nobody@far.test", "full@far.test"]
        elif key % 10 == 7:
            sender = "stranger@example.test"
        if key == 11:
            size = 3_000_000
        if key % 10 not in (3, 7):
            good.append(key)
        text = f"Subject: message {key}\nX-Key: {key}\n\n".encode() + (b"x" * 76 + b"\n") * (size // 77)
        mine.send("-bq", "-f", sender, *words, text=text)
    mine.run("-q", "-D")
    mine.run("-q", "-D")  # the reports of what was refused
    messages = [email.message_from_bytes(raw, policy=email.policy.default) for raw in server.wait(len(good) + 4)]
    assert sorted(int(m["X-Key"]) for m in messages if m["X-Key"]) == good
    reports = [m for m in messages if not m["X-Key"]]
    assert {m["Envelope-to"] for m in reports} == {LOGIN}
    assert len(reports) == 4  # two of a message refused whole, two of one of three recipients
    large = next(m for m in messages if m["X-Key"] == "11")
    assert len(large.get_content()) > 2_900_000
    rows = mine.queue()
    waiting = sorted(one["address"] for row in rows for one in row["recipients"] if one["state"] == "deferred")
    assert waiting == ["bob@far.test"] * 2 + ["full@far.test"] * 2  # those of the stranger, and a full mailbox
    assert all(row["state"] == "queued" for row in rows)


def test_who_does_not_exist_is_reported_in_exim_s_words(server, mine):
    mine.send("-f", LOGIN, "nobody@far.test")
    (raw,) = server.wait(1)
    report = email.message_from_bytes(raw, policy=email.policy.default)
    assert report["Return-path"] == "<>"
    assert report.get_content_type() == "multipart/report"
    text = report.get_payload(0).get_content()
    assert "did not like our RCPT TO:\n550 5.1.1 unrouteable address, says Exim" in text
    mine.until_empty()


def test_a_wrong_password_keeps_the_mail(server, listener, mine):
    mine.set_password("wrong")
    mine.send("-D", "-f", LOGIN, "bob@far.test")
    assert "535" in mine.queue()[0]["recipients"][0]["last_error"]
    assert mine.program("dma-queue", "list", "--check").returncode == 1
    assert server.messages() == []
    mine.set_password("app password")
    mine.run("-q", "-D")
    server.wait(1)
    mine.until_empty()
    assert mine.program("dma-queue", "list", "--check").returncode == 0


def test_wishes_for_reports_are_passed_on(server, mine):
    ran = mine.send("-v", "-N", "failure,delay", "-R", "hdrs", "-V", "id+1", "-f", LOGIN, "bob@far.test")
    said = ran.stdout.decode()
    assert "RET=HDRS" in said
    assert "NOTIFY=FAILURE,DELAY" in said
    server.wait(1)
    assert not mine.files()
