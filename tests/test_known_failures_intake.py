"""docs/known-failures.md, "Message intake": one test a row, named by its symptom; what a relay receives. Real programs."""

import email
import email.policy

import pytest
from agent import Agent
from mail_server import MailServer


@pytest.fixture(scope="module")
def shared():
    with MailServer() as server:
        yield server


@pytest.fixture
def server(shared):
    shared.messages.clear()
    shared.commands.clear()
    return shared


@pytest.fixture
def agent(tmp_path, server):
    agent = Agent(tmp_path, server)
    yield agent
    agent.close()


@pytest.fixture
def wire(agent, server):
    """wire(text, words…): the bytes and the parsed message that the relay received."""

    def wire(text, *words):
        ran = agent.send("-D", *(words or ("bob@example.org",)), text=text)
        assert ran.returncode == 0
        (sent,) = server.messages
        lines = sent.content.split(b"\r\n")
        assert max(map(len, lines)) <= 998
        assert not any(b"\r" in line or b"\n" in line for line in lines)
        return sent, email.message_from_bytes(sent.content, policy=email.policy.SMTP)

    return wire


HEADER = b"Subject: t\nFrom: a@b.test\n"


def test_mail_with_a_long_body_line_is_rejected_and_lost(wire):
    """dma#18, #24"""
    line = "".join(chr(33 + n % 90) for n in range(5000))
    _, message = wire(HEADER + b"\n" + line.encode() + b"\nshort\n")
    assert message.get_content().replace("\r\n", "\n") == line + "\nshort\n"


def test_a_long_header_line_is_rejected(wire):
    """dma#18"""
    everybody = [f"somebody{n}@domain{n}.example.org" for n in range(100)]
    sent, message = wire(b"Subject: t\nTo: " + ", ".join(everybody).encode() + b"\n\nx\n", "-t")
    assert sent.recipients == everybody
    assert [a.addr_spec for a in message["To"].addresses] == everybody
    assert sent.content.count(b"\r\n ") + sent.content.count(b"\r\n\t") > 3


def test_crlf_input_becomes_cr_cr_lf_and_the_header_never_ends(wire):
    """php/php-src#8086"""
    sent, message = wire(b"Subject: t\r\n\r\nbody\r\n")
    assert b"\r\r" not in sent.content
    assert all(message[name] for name in ("Date", "From", "Message-ID"))
    assert sent.content.endswith(b"\r\n\r\nbody\r\n")
    assert message["Subject"] == "t"


def test_a_dot_in_a_crlf_line_does_not_end_the_message(wire):
    sent, _ = wire(b"Subject: t\r\n\r\na\r\n.\r\nb\r\n")
    assert sent.content.endswith(b"\r\n\r\na\r\n")


def test_mail_without_a_blank_line_gets_no_date_from_message_id(wire):
    """dma#61"""
    _, message = wire(b"Subject: x\n")
    assert all(message[name] for name in ("Date", "From", "Message-ID"))
    assert message["Subject"] == "x"
    assert message.get_payload().strip() == ""


def test_the_first_body_line_is_kept_as_a_bogus_header(wire):
    """dma#61"""
    sent, message = wire(b"hello no header\n")
    assert sent.content.endswith(b"\r\n\r\nhello no header\r\n")
    assert not message.defects
    assert message.get_content().strip() == "hello no header"


def test_only_the_first_address_of_a_folded_to_gets_the_mail(wire):
    """dma#89"""
    sent, _ = wire(b"Subject: t\nTo: a@x.test,\n b@x.test\n\nx\n", "-t")
    assert sent.recipients == ["a@x.test", "b@x.test"]


@pytest.mark.parametrize("first", [b"From root Mon Nov 23 01:38:25 2026\n", b">From root Mon Nov 23 01:38:25 2026\n"])
def test_a_from_line_puts_all_headers_in_the_body(wire, first):
    """dma PR #69, omnios-build#795"""
    sent, message = wire(first + HEADER + b"\nx\n")
    assert b"From root" not in sent.content
    assert (message["Subject"], message.get_content().strip()) == ("t", "x")


def test_header_from_root_cron_daemon_is_rejected_as_unqualified(wire):
    """dma#75"""
    _, message = wire(b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@box> true\n\nx\n")
    (author,) = message["From"].addresses
    assert author.addr_spec == "root@here.test"


def test_to_root_without_a_domain_is_rejected(agent, wire):
    """dma#21, msmtp#98"""
    agent.write(agent.directory / "aliases", "root: me@x.test\n")
    sent, message = wire(b"Subject: t\nTo: root\n\nx\n", "root")
    assert sent.recipients == ["me@x.test"]
    assert [a.domain for a in message["To"].addresses] == ["here.test"]


def test_header_from_is_not_rewritten_although_masquerade_is_set(agent, wire):
    """nullmailer#72, msmtp#69"""
    agent.configure("MASQUERADE me@x.test")
    sent, message = wire(b"From: Root <root@here.test>\nSubject: t\n\nx\n")
    assert sent.sender == "me@x.test"
    assert [a.addr_spec for a in message["From"].addresses] == ["me@x.test"]
    assert "root@here.test" in message["X-Original-From"]


def test_the_fork_s_replacefrom_is_not_known(agent, wire):
    """PR #112"""
    agent.configure("REPLACEFROM me@x.test")
    sent, message = wire(b"From: Somebody <somebody@y.test>\nSubject: t\n\nx\n", "-f", "somebody@y.test", "u@x.test")
    assert sent.sender == "me@x.test"
    assert [a.addr_spec for a in message["From"].addresses] == ["me@x.test"]
    assert "somebody@y.test" in message["X-Original-From"]


def test_minus_f_full_name_is_ignored(wire):
    """nullmailer#52"""
    _, message = wire(b"Subject: t\n\nx\n", "-F", "CronDaemon", "u@x.test")
    (author,) = message["From"].addresses
    assert (author.display_name, bool(author.domain)) == ("CronDaemon", True)


@pytest.mark.parametrize("words", [["-t"], ["bob@example.org"]])
def test_bcc_reaches_the_wire(wire, words):
    text = b"Subject: t\nTo: a@x.test\nBcc: hidden@x.test,\n also@x.test\nFrom: a@b.test\n\nx\n"
    sent, message = wire(text, *words)
    assert b"hidden" not in sent.content
    assert b"also" not in sent.content
    assert message["From"] == "a@b.test"
    assert ("hidden@x.test" in sent.recipients) == (words == ["-t"])
