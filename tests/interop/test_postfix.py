"""The real programs against a real Postfix: TLS, AUTH, and its refusals in Gmail's words."""

import email
import email.policy

import agent
import postfix
import pytest

LOGIN = "alice@example.test"
BODY = (
    "Subject: grüße\nFrom: alice@example.test\nTo: bob@far.test\nMIME-Version: 1.0\n"
    "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    "..dots\n.\nFrom here\n" + "ß" * 300 + "\n\ttab and trailing blank \n\n"
).encode()


@pytest.fixture(scope="module")
def server():
    if reason := postfix.missing():
        pytest.skip(reason)
    found = postfix.Postfix(users={LOGIN: "app password"})
    found.refuse("nobody@", postfix.GMAIL["no such user"])
    found.refuse("full@", postfix.GMAIL["over quota"])
    found.refuse("stranger@", "553 5.1.2 The address specified is not a valid RFC 5321 address.", stage="sender")
    with found:
        yield found


@pytest.fixture(params=sorted(postfix.LISTENERS))
def listener(server, request):
    server.listener = request.param
    yield request.param
    server.listener = "starttls"


@pytest.fixture
def mine(server, tmp_path):
    server.clear()
    found = agent.Agent(tmp_path, server, login=LOGIN)
    yield found
    found.close()


def test_a_message_arrives_through_tls_and_auth(server, listener, mine):
    mine.send("-i", "-f", LOGIN, "bob@far.test", "carol@far.test", text=BODY)
    messages = server.wait(2)
    mine.until_empty()
    for message, data in zip(messages, server.raw(), strict=True):
        assert f"(Authenticated sender: {LOGIN})".encode() in data
        assert b"using TLSv1.3" in data
        assert message.get_content().encode() == BODY.partition(b"\n\n")[2]
        if listener != "old":  # without 8BITMIME it had to be encoded
            assert data.endswith(BODY.partition(b"\n\n")[2])
            assert b"\nSubject: =?utf-8?B?Z3LDvMOfZQ==?=\n" in data
    # One transaction for both recipients.
    assert len({data.partition(b"ESMTPSA id ")[2].split()[0] for data in server.raw()}) == 1


def test_dots_arrive_as_they_were(server, listener, mine):
    body = b".one\n..two\n.\n\n.\nno line end"
    mine.send("-i", "-f", LOGIN, "bob@far.test", text=b"Subject: dots\n\n" + body)
    server.wait(1)
    (data,) = server.raw()
    assert data.endswith(b"\n\n" + body + b"\n")


def test_who_does_not_exist_is_reported_to_the_sender_in_the_relay_s_words(server, mine):
    mine.send("-f", LOGIN, "nobody@far.test", "bob@far.test")
    mine.until_empty()
    report = next(m for m in server.wait(2) if m["Subject"] == "Mail delivery failed")
    assert report["Return-Path"] == "<>"
    assert report["Delivered-To"] == LOGIN
    words = "The email account that you tried to reach does not exist."
    text = report.get_payload(0).get_content()
    assert f"did not like our RCPT TO:\n550-5.1.1 <nobody@far.test>: Recipient address rejected: {words}" in text
    assert "https://support.google.com/mail/?p=NoSuchUser" in text
    (_, about) = report.get_payload(1).get_payload()
    assert (about["Final-Recipient"], about["Status"]) == ("rfc822; nobody@far.test", "5.1.1")
    assert words in about["Diagnostic-Code"].replace("\n", "")
    for raw in server.raw():
        email.message_from_bytes(raw, policy=email.policy.strict)


def test_a_full_mailbox_waits_and_says_why(server, mine):
    mine.send("-D", "-f", LOGIN, "full@far.test")
    (row,) = mine.queue()
    (recipient,) = row["recipients"]
    assert (recipient["address"], recipient["state"], recipient["attempts"]) == ("full@far.test", "deferred", 1)
    assert "The recipient's inbox is out of storage space" in recipient["last_error"]
    assert server.messages() == []


def test_a_wrong_password_keeps_the_mail_tells_the_operator_and_a_right_one_sends_it(server, mine):
    mine.set_password("wrong")
    mine.send("-D", "-f", LOGIN, "bob@far.test")
    listed = mine.run("-bp")
    assert b"To\t: bob@far.test" in listed.stdout
    first = listed.stderr.decode().splitlines()[0]
    assert "Username and Password not accepted" in first
    assert "(AUTH)" in first
    assert mine.program("dma-queue", "list", "--check").returncode == 1
    assert server.messages() == []
    mine.set_password("app password")
    mine.run("-q", "-D")
    server.wait(1)
    mine.until_empty()
    assert mine.run("-bp").stderr == b""
    assert mine.program("dma-queue", "list", "--check").returncode == 0


def test_a_refused_sender_is_held_and_bounces_nothing(server, mine):
    mine.send("-D", "-f", "stranger@example.test", "bob@far.test")
    (row,) = mine.queue()
    assert "not a valid RFC 5321 address" in row["recipients"][0]["last_error"]
    assert server.messages() == []
