"""`sendmail -bs`: real clients speak SMTP with the real program over its standard input and output."""

import fcntl
import os
import smtplib
import socket
import subprocess
import sys

import pytest
import strace
from agent import Agent
from mail_server import MailServer
from sendmail_program import ROOT, Sendmail

from dma_runtime.system.spool import Spool


@pytest.fixture
def mail(tmp_path):
    return Sendmail(tmp_path, "SMARTHOST relay.invalid\nDEFER\n")


class Pipe(smtplib.SMTP):
    """smtplib with `sendmail -bs` at the other end."""

    def __init__(self, mail, *words):
        ours, theirs = socket.socketpair()
        self.program = subprocess.Popen(
            [str(mail.program), "-bs", *words], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=mail.environment
        )
        theirs.close()
        self.ours = ours
        super().__init__("here", 1, local_hostname="me.test", timeout=30)

    def _get_socket(self, host, port, timeout):
        self.ours.settimeout(timeout)
        return self.ours

    def finish(self):
        self.quit()
        assert self.program.communicate(timeout=30) == (None, b"")
        return self.program.returncode


def addresses(envelope):
    return [recipient.address for recipient in envelope.recipients]


def talk(mail, text, *words, **keywords):
    ran = mail.run("-bs", *words, stdin=text, **keywords)
    assert (ran.returncode, ran.stderr) == (0, b"")
    return ran.stdout


MESSAGE = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nSubject: s\r\n\r\n..dot\r\n.\r\n"


def test_python_smtplib_sends_several_messages_in_one_session(mail):
    client = Pipe(mail)
    client.ehlo()
    assert client.esmtp_features.keys() >= {"size", "8bitmime", "pipelining", "smtputf8", "enhancedstatuscodes"}
    for n in range(3):
        text = f"Subject: {n}\r\n\r\n.\r\n..\r\ntext\r\n"
        assert client.sendmail(f"me{n}@x.test", ["bob@y.test", "root@z.test"], text) == {}
        assert len(mail.ids()) == n + 1  # before the next begins
    assert client.verify("root")[0] == 252
    assert client.finish() == 0
    for n, (envelope, message) in enumerate(mail.stored()):
        assert (envelope.sender, addresses(envelope)) == (f"me{n}@x.test", ["bob@y.test", "root@z.test"])
        assert message[envelope.header_end :] == b"\n.\n..\ntext\n"
        for name in (b"Received: from ", b"Date: ", b"Message-Id: ", b"From: "):
            assert (b"\n" + message).count(b"\n" + name) == 1


def test_smtplib_with_utf8_and_eight_bits(mail):
    client = Pipe(mail)
    client.ehlo()
    options = ["SMTPUTF8", "BODY=8BITMIME"]
    assert client.sendmail("jürgen@x.test", ["søren@y.test"], "Subject: ü\r\n\r\nß\r\n".encode(), options) == {}
    assert client.finish() == 0
    ((envelope, message),) = mail.stored()
    assert (envelope.sender, addresses(envelope), envelope.has_8bit) == ("jürgen@x.test", ["søren@y.test"], True)
    assert message.endswith("\n\nß\n".encode()) or b"Subject: \xc3\xbc\n" in message


def test_the_dialogue_of_symfony_and_swiftmailer(mail):
    # They wait for each reply, keep the process for further messages, and look whether it lives with NOOP.
    program = subprocess.Popen(
        [str(mail.program), "-bs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=mail.environment
    )

    def say(text, code):
        program.stdin.write(text)
        program.stdin.flush()
        while (line := program.stdout.readline())[3:4] == b"-":
            pass
        assert line.startswith(code), (text, line)

    say(b"", b"220")
    say(b"EHLO [127.0.0.1]\r\n", b"250")
    for _ in range(2):
        say(b"MAIL FROM:<app@x.test>\r\n", b"250")
        say(b"RCPT TO:<u@y.test>\r\n", b"250")
        say(b"DATA\r\n", b"354")
        program.stdin.write(b"From: App <app@x.test>\r\nTo: u@y.test\r\nSubject: Hi\r\n\r\nHello=C3=BC\r\n")
        say(b"\r\n.\r\n", b"250")
        say(b"NOOP\r\n", b"250")
    say(b"RSET\r\n", b"250")
    say(b"QUIT\r\n", b"221")
    assert program.wait(30) == 0
    program.stdin.close()
    program.stdout.close()
    assert [message.partition(b"\n\n")[2] for _, message in mail.stored()] == [b"Hello=C3=BC\n\n"] * 2


def test_a_dialogue_from_a_shell_that_waits_for_nothing(mail):
    codes = [line[:3].decode() for line in talk(mail, b"HELO x\r\n" + MESSAGE + b"QUIT\r\n").splitlines()]
    assert " ".join(codes) == "220 250 250 250 354 250 221"
    talk(mail, b"HELO x\n" + MESSAGE.replace(b"\r\n", b"\n"))
    assert [message.partition(b"\n\n")[2] for _, message in mail.stored()] == [b".dot\n"] * 2


def test_what_does_not_end_is_not_sent(mail):
    talk(mail, b"HELO x\r\n" + MESSAGE[:-5])
    talk(mail, b"HELO x\r\n" + MESSAGE.replace(b"\r\n.\r\n", b"\n.\nQUIT\r\n"))
    assert mail.stored() == []


def test_the_rules_of_every_message_hold_here_too(mail):
    mail.aliases.write_text("root: admin@far.test\nlist: a@far.test, b@far.test\n")
    mail.configure("SMARTHOST relay.invalid\nDEFER\nMASQUERADE corp.test\nMAXSIZE 1K\n")
    said = talk(
        mail,
        b"MAIL FROM:<app>\r\nRCPT TO:<nobody-here>\r\nRCPT TO:<root>\r\nRCPT TO:<list@here.test>\r\nDATA\r\n"
        b"From: app\r\nBcc: hidden@x.test\r\nX: a\rb\r\n\r\nn\r\n.\r\n"
        + MESSAGE.replace(b"..dot", b"x" * 2000)
        + MESSAGE.replace(b"From", b"To").replace(b"FROM:<a@b.test>", b"FROM:<>"),
        "-F",
        "The App",
    )
    codes = [line[:3].decode() for line in said.splitlines()]
    assert " ".join(codes) == "220 250 550 250 250 354 250 250 250 354 552 250 250 354 250"
    assert b"550 5.1.1 <nobody-here>: no such user here" in said
    (first, text), (second, _) = mail.stored()
    assert (first.sender, addresses(first)) == ("app@corp.test", ["admin@far.test", "a@far.test", "b@far.test"])
    assert first.has_nul  # the bare CR
    assert b"hidden" not in text
    assert b"\nFrom: app@corp.test\n" in text
    assert second.sender == ""


def test_the_name_of_f_is_kept(mail):
    talk(mail, MESSAGE, "-F", "The App")
    assert b"\nFrom: The App <a@b.test>\n" in mail.stored()[0][1]


def test_each_message_is_synced_before_its_250(mail):
    watched = """
sys.path.insert(0, ROOT)
from dma_runtime import posixos as os
done = []
def watch(name):
    real = getattr(os, name)
    def call(*words, **more):
        done.append(name if name != "write" or words[0] != 1 else words[1][:3].decode())
        return real(*words, **more)
    setattr(os, name, call)
for name in ("fsync", "link", "write"):
    watch(name)
"""
    text = mail.program.read_text().replace("import sys\n", "import sys\n" + watched.replace("ROOT", repr(str(ROOT))), 1)
    mail.program.write_text(
        text.replace("sys.exit(main())", "import atexit; main(sys.argv); os.write(2, ' '.join(done).encode())")
    )
    ran = mail.run("-bs", stdin=b"HELO x\r\n" + MESSAGE)
    steps = [step for step in ran.stderr.decode().split() if step != "write"]
    # The file, its name, the directory; then the replies that came together, the 250 of the message last among them.
    assert steps[0] == "220"
    assert steps[-4:] == ["fsync", "link", "fsync", "250"]
    assert ran.stdout.splitlines()[-1].startswith(b"250 2.0.0 queued as")


def test_somebody_delivers_what_was_accepted(tmp_path):
    with MailServer() as server:
        box = Agent(tmp_path, server)
        try:
            box.run("-bs", stdin=b"HELO x\r\n" + MESSAGE + MESSAGE)
            assert [message.recipients for message in server.wait(2)] == [["c@d.test"]] * 2
        finally:
            box.close()


def test_a_configuration_that_cannot_be_used(mail):
    mail.configure("PORT smpt\n")
    ran = mail.run("-bs", stdin=b"HELO x\r\n")
    assert ran.returncode == 78
    assert ran.stdout.startswith(b"421 4.3.5 here.test")
    assert b"PORT" in ran.stderr


def test_a_spool_that_cannot_be_used_is_temporary(mail):
    mail.spool.write_text("a file")
    said = talk(mail, MESSAGE)
    assert said.splitlines()[-1].startswith(b"452 4.3.1 ")


def test_a_client_that_closes_without_a_word_and_one_that_does_not_listen(mail):
    assert talk(mail, b"") == b"220 here.test ESMTP dma\r\n"
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(
        [str(mail.program), "-bs"], input=MESSAGE, stdout=write, stderr=subprocess.PIPE, env=mail.environment
    )
    os.close(write)
    assert (ran.returncode, ran.stderr, mail.stored()) == (0, b"", [])


def test_a_pipe_that_does_not_wait(mail):
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETFL, os.O_NONBLOCK)
    fcntl.fcntl(write, 1031, 4096)  # F_SETPIPE_SZ: as small as can be
    program = subprocess.Popen([str(mail.program), "-bs"], stdin=subprocess.PIPE, stdout=write, env=mail.environment)
    os.close(write)
    program.stdin.write(b"NOOP\r\n" * 2000 + b"QUIT\r\n")
    program.stdin.close()
    said = b""
    while data := os.read(read, 1 << 16):
        said += data
    os.close(read)
    assert program.wait(30) == 0
    assert said.count(b"250 2.0.0 ok\r\n") == 2000


def test_a_client_that_never_reads_its_replies(mail):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from dma_runtime.cmd import sendmail, smtpserver
smtpserver.PATIENCE = 0.5
sys.exit(sendmail.main(["sendmail", "-bs"]))
"""
    said = mail.directory / "said"
    said.write_bytes(b"NOOP\r\n" * 50_000 + MESSAGE)
    read, write = os.pipe()
    with said.open("rb") as stdin:
        program = subprocess.Popen(
            [sys.executable, "-c", code], stdin=stdin, stdout=write, stderr=subprocess.PIPE, env=mail.environment
        )
    try:
        assert (program.communicate(timeout=20)[1], program.returncode) == (b"", 0)
    finally:
        program.kill()
        os.close(write)
        os.close(read)
    assert mail.stored() == []


def test_a_large_message_in_little_memory(mail):
    body = b"x" * 70 + b"\r\n"
    talk(mail, MESSAGE.replace(b"..dot\r\n", body * 100_000))
    ((envelope, message),) = mail.stored()
    assert message.endswith(b"\n\n" + b"x" * 70 + b"\n" + body.replace(b"\r", b"") * 99_999)
    assert Spool(str(mail.spool)).ids() == [envelope.id]


def test_what_a_client_asks_of_reports_is_kept_for_each_recipient(mail):
    client = Pipe(mail)
    client.ehlo()
    assert "dsn" in client.esmtp_features
    assert client.mail("a@b.test", ["RET=HDRS", "ENVID=QQ+2B1"])[0] == 250
    assert client.rcpt("one@d.test", ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;first+2B1@e.test"])[0] == 250
    assert client.rcpt("two@d.test", ["NOTIFY=NEVER"])[0] == 250
    assert client.rcpt("three@d.test")[0] == 250
    assert client.data(b"Subject: s\r\n\r\nx\r\n")[0] == 250
    assert client.finish() == 0
    spool = Spool(str(mail.spool))
    (envelope,) = [spool.read(name) for name in spool.ids()]
    assert (envelope.ret, envelope.envid) == ("hdrs", "QQ+1")
    assert [(r.address, r.notify, r.orcpt) for r in envelope.recipients] == [
        ("one@d.test", "success,delay", "rfc822;first+1@e.test"),
        ("two@d.test", "never", ""),
        ("three@d.test", "", ""),
    ]


def test_what_is_asked_for_a_quoted_address_is_kept(mail):
    talk(mail, MESSAGE.replace(b"RCPT TO:<c@d.test>", b'RCPT TO:<"a"@x.test> NOTIFY=never'))
    ((envelope, _),) = mail.stored()
    assert [(one.address, one.notify) for one in envelope.recipients][:1] == [("a@x.test", "never")]


def test_aliases_are_read_once_a_message(mail, tmp_path):
    mail.aliases.write_text("bad line\n" + "".join(f"n{n}: n{n}@x.test\n" for n in range(300)))
    strace.needed()
    trace = tmp_path / "trace"
    said = b"".join(b"RCPT TO:<n%d>\r\n" % n for n in range(300))
    words = ["strace", "-f", "-o", str(trace), "-e", "trace=openat", str(mail.program), "-bs"]
    text = b"EHLO x\r\nMAIL FROM:<a@x.test>\r\n" + said + b"QUIT\r\n"
    ran = subprocess.run(words, input=text, capture_output=True, env=mail.environment, timeout=60)
    assert ran.stdout.count(b"250 2.1.5") == 300
    assert trace.read_text().count(f'"{mail.aliases}"') == 1


def test_no_limit_of_size(mail):
    mail.configure("SMARTHOST relay.invalid\nDEFER\nMAXSIZE 0\n")
    assert b"250-SIZE 0\r\n" in talk(mail, b"EHLO x\r\nQUIT\r\n")
    assert mail.run("a@x.test", stdin=b"Subject: s\n\nx\n").returncode == 0
