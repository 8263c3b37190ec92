"""Languages and daemons that run `sendmail`: PHP mail(), Perl's Email::Sender, Python, nodemailer, cron. A relay receives it."""

import email
import email.policy
import json
import os
import shutil
import smtplib
import socket
import subprocess

import agent
import pytest
from mail_server import MailServer
from sendmail_program import PYTHON, ROOT

FROM, TO = "alice@example.test", "bob@far.test"
BODY = "Hello,\n.\n..two\n.a line with a dot\nFrom here on\nGrüße — ß\n"


@pytest.fixture(scope="module")
def relay():
    with MailServer() as server:
        yield server


@pytest.fixture
def box(relay, tmp_path):
    relay.messages.clear()
    found = agent.Agent(tmp_path, relay)
    (tmp_path / "bin").mkdir()
    found.sendmail = str(tmp_path / "bin" / "sendmail")
    os.symlink(agent.BIN / "dma", found.sendmail)
    found.environment |= {"LANG": "C.UTF-8", "HOME": str(tmp_path)}
    yield found
    found.close()


def call(box, program, *words, package, **keywords):
    """Run a program, which must succeed and say nothing on standard error; gives its standard output."""
    path = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        pytest.skip(f"needs {program}: apt install {package}")
    ran = subprocess.run([path, *words], env=box.environment, capture_output=True, timeout=60, **keywords)
    assert (ran.returncode, ran.stderr) == (0, b""), ran
    return ran.stdout.decode()


def arrived(relay, *, sender=FROM, recipients=(TO,)):
    """The one message that came, parsed; CRLF throughout, and the header complete."""
    (found,) = relay.wait(1)
    assert (found.sender, found.recipients) == (sender, list(recipients))
    assert b"\r\r\n" not in found.content
    assert found.content.count(b"\n") == found.content.count(b"\r\n")
    message = email.message_from_bytes(found.content, policy=email.policy.default)
    for name in ("Date", "Message-ID", "From"):
        assert len(message.get_all(name)) == 1
    assert message["Bcc"] is None
    return message


def text_of(message):
    return message.get_content().replace("\r\n", "\n").rstrip("\n")


# ---------------------------------------------------------------- PHP

PHP = r"""
$ok = mail($argv[1], "Grüße von PHP", $argv[2],
    ["From" => "Alice <alice@example.test>", "Bcc" => "hidden@far.test", "MIME-Version" => "1.0",
     "Content-Type" => "text/plain; charset=utf-8", "Content-Transfer-Encoding" => "8bit"], $argv[3]);
echo $ok ? "sent" : "not sent";
"""


@pytest.mark.parametrize("flags", ["-t -i", "-t -i -f alice@example.test"])
def test_php_mail(box, relay, flags):
    # PHP from version 8 on writes CRLF lines.
    words = ["-n", "-d", f"sendmail_path={box.sendmail} {flags}", "-r", PHP, TO, BODY]
    fifth = "" if "-f" in flags else f"-f{FROM}"
    assert call(box, "php", *words, fifth, package="php-cli") == "sent"
    message = arrived(relay, recipients=(TO, "hidden@far.test"))
    assert message["From"].addresses[0].addr_spec == FROM
    assert text_of(message) == BODY.rstrip("\n")


def test_php_hears_that_mail_was_not_taken(box, relay):
    box.configure("MAXSIZE 1K")
    words = ["-n", "-d", f"sendmail_path={box.sendmail} -t -i", "-r", PHP, TO, "x" * 5000, ""]
    path = shutil.which("php")
    if path is None:
        pytest.skip("needs php: apt install php-cli")
    ran = subprocess.run([path, *words], env=box.environment, capture_output=True, timeout=60)
    assert ran.stdout == b"not sent"
    assert b"larger than MAXSIZE (1K)" in ran.stderr


# ---------------------------------------------------------------- Perl

PERL = r"""
use strict; use utf8;
use Email::Sender::Simple qw(sendmail);
use Email::Sender::Transport::Sendmail;
use Email::MIME;
my $mail = Email::MIME->create(
    header_str => [From => 'Alice <alice@example.test>', To => $ARGV[1], Subject => 'Grüße von Perl'],
    attributes => {content_type => 'text/plain', charset => 'UTF-8', encoding => '8bit'},
    body_str => Encode::decode('UTF-8', $ARGV[2]));
sendmail($mail, {from => 'alice@example.test', to => [$ARGV[1], 'two@far.test'],
                 transport => Email::Sender::Transport::Sendmail->new({sendmail => $ARGV[0]})});
print "sent";
"""


def has_perl(module):
    return subprocess.run(["perl", f"-M{module}", "-e", "1"], capture_output=True).returncode == 0


def test_perl_email_sender(box, relay):
    for module, package in (("Email::Sender::Simple", "libemail-sender-perl"), ("Email::MIME", "libemail-mime-perl")):
        if not has_perl(module):
            pytest.skip(f"needs {module}: apt install {package}")
    assert call(box, "perl", "-e", PERL, box.sendmail, TO, BODY, package="perl") == "sent"
    message = arrived(relay, recipients=(TO, "two@far.test"))
    assert message["Subject"] == "Grüße von Perl"
    assert text_of(message) == BODY.rstrip("\n")


# ---------------------------------------------------------------- Python


def test_python_as_its_documentation_has_it(box, relay):
    code = (
        "import sys\nfrom email.message import EmailMessage\nfrom subprocess import Popen, PIPE\n"
        "msg = EmailMessage()\nmsg.set_content(sys.argv[3])\n"
        "msg['From'], msg['To'], msg['Bcc'], msg['Subject'] = 'alice@example.test', sys.argv[2], 'hid@far.test', 'Grüße'\n"
        "p = Popen([sys.argv[1], '-t', '-oi'], stdin=PIPE)\np.communicate(msg.as_bytes())\nsys.exit(p.returncode)\n"
    )
    box.environment["EMAIL"] = f"Alice <{FROM}>"
    call(box, "python3", "-c", code, box.sendmail, TO, BODY, package="python3")
    message = arrived(relay, recipients=(TO, "hid@far.test"))
    assert message["Subject"] == "Grüße"
    assert text_of(message) == BODY.rstrip("\n")


# ---------------------------------------------------------------- nodemailer

NODE = r"""
const nodemailer = require('nodemailer');
const [sendmail, to, text, newline] = process.argv.slice(1);
nodemailer.createTransport({sendmail: true, newline, path: sendmail}).sendMail(
  {from: 'Alice <alice@example.test>', to, bcc: 'hid@far.test', subject: 'Grüße von Node', text},
  (error, info) => { if (error) throw error; console.log(JSON.stringify(info.envelope)); });
"""


@pytest.mark.parametrize("newline", ["unix", "windows"])
def test_nodemailer(box, relay, newline):
    if not os.path.isdir("/usr/share/nodejs/nodemailer"):
        pytest.skip("needs nodemailer: apt install node-nodemailer")
    box.environment["NODE_PATH"] = "/usr/share/nodejs"
    said = call(box, "node", "-e", NODE, box.sendmail, TO, BODY, newline, package="nodejs")
    assert json.loads(said)["from"] == FROM
    message = arrived(relay, recipients=(TO, "hid@far.test"))
    assert message["Subject"] == "Grüße von Node"
    assert text_of(message) == BODY.rstrip("\n")


# ---------------------------------------------------------------- SMTP on standard input


def test_a_mail_program_that_speaks_smtp_to_it(box, relay):
    ours, theirs = socket.socketpair()
    program = subprocess.Popen([box.sendmail, "-bs"], stdin=theirs, stdout=theirs, env=box.environment)
    theirs.close()

    class Pipe(smtplib.SMTP):
        def _get_socket(self, host, port, timeout):
            ours.settimeout(timeout)
            return ours

    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = FROM, TO, "Grüße"
    text = BODY.replace("From here", "from here")  # smtplib itself quotes a From
    message.set_content(text, cte="8bit")
    with Pipe("here", 1, "me.test", 30) as client:
        client.send_message(message)
    assert program.wait(30) == 0
    assert text_of(arrived(relay)) == text.rstrip("\n")


# ---------------------------------------------------------------- cron

CRON = """
import os, sys
os.environ["DMA_CONF"] = {conf!r}
sys.path.insert(0, {library!r})
from dma_runtime.cmd.sendmail import main
sys.exit(main())
"""
# In a mount namespace of its own: cron's directories are empty ones, /usr/sbin/sendmail is ours.
NAMESPACE = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount --bind "$1/crontabs" /var/spool/cron/crontabs
mount --bind "$1/empty" /etc/cron.d
mount --bind "$1/etc-crontab" /etc/crontab
mount --bind "$1/launcher" "$(readlink -f /usr/sbin/sendmail)"
exec cron -f
"""


def test_cron(box, relay, tmp_path):
    if shutil.which("cron", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs cron: apt install cron")
    if os.geteuid() != 0 or not os.path.exists("/usr/sbin/sendmail") or not os.path.isdir("/var/spool/cron/crontabs"):
        pytest.skip("needs root, /usr/sbin/sendmail and cron's directories")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace")
    for name in ("crontabs", "empty"):
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "etc-crontab").write_text("")
    launcher = tmp_path / "launcher"
    launcher.write_text(f"#!{PYTHON} -IS\n" + CRON.format(conf=str(box.conf), library=str(ROOT)))
    launcher.chmod(0o755)
    crontab = tmp_path / "crontabs" / "root"
    crontab.write_text(f"MAILTO={TO}\n@reboot printf 'hello from cron\\n.\\nGr\\303\\274\\303\\237e\\n'\n")
    crontab.chmod(0o600)
    cron = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", NAMESPACE, "sh", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DMA_HANDED_ON": "1"},
        start_new_session=True,
    )
    try:
        message = arrived(relay, sender="root@here.test")
    finally:
        cron.terminate()
        said = cron.communicate(timeout=20)
    assert said == (b"", b""), said
    # `root (Cron Daemon)`: a name relays refuse as unqualified, unless it gets its domain.
    assert message["From"].addresses[0].addr_spec == "root@here.test"
    assert message["To"].addresses[0].addr_spec == TO
    assert message["X-Cron-Env"] is not None
    assert message["Subject"].startswith("Cron <root@")
    assert "hello from cron\n.\n" in text_of(message) + "\n"
