"""docs/known-failures.md, "Configuration, secrets, local delivery": one test a row, named by its symptom. Real programs."""

import email
import fcntl
import json
import mailbox
import pathlib
import re
import subprocess
import threading
import time

import pytest
from agent import BIN, MESSAGE, Agent
from covered import Covered
from machine import Machine
from mail_server import MailServer
from setup_home import Home, relay

from dma_runtime.config import parse

SAMPLE = pathlib.Path(__file__).parent / "runtime" / "dma.conf.sample"
USERS = {"alice": "correct horse battery"}


@pytest.fixture
def server():
    with MailServer() as server:
        yield server


@pytest.fixture
def relay_with_login():
    with MailServer(tls="starttls", users=USERS) as server:
        yield server


@pytest.fixture
def make(tmp_path):
    made = []

    def make(server=None, **keywords):
        directory = tmp_path / f"agent{len(made)}"
        directory.mkdir()
        made.append(Agent(directory, server, **keywords))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


@pytest.fixture
def agent(make, server):
    return make(server)


@pytest.fixture
def covered(agent, tmp_path):
    agent.alias = lambda text: agent.write(agent.directory / "aliases", text)
    return Covered(agent, tmp_path)


# ---------------------------------------------------------------- dma.conf


def test_one_unknown_key_stops_every_mail_and_mailq(agent, server):
    """conf.c:251"""
    agent.configure("SMARTHOSTS typo.example.org\nmaxsize 5M")
    assert agent.send("-D", "bob@example.org").returncode == 0
    assert len(server.messages) == 1
    assert agent.run("-bp").stdout == b"Mail queue is empty\n"
    said = agent.program("dma-queue", "list", check=0).stderr.decode()
    assert "unknown key SMARTHOSTS ignored" in said
    assert "did you mean MAXSIZE?" in said


LINES = [line.removeprefix("#") for line in SAMPLE.read_text().splitlines() if re.match("#[A-Z]", line)]


@pytest.mark.parametrize("line", LINES)
def test_uncommenting_a_line_of_the_sample_is_a_syntax_error(make, line):
    agent = make()
    base = [] if line.split()[0] in ("SPOOLDIR", "MAILNAME", "ALIASES") else [line]
    agent.configure("\n".join(base))
    if not base:  # what the test itself has to set: read, not used
        assert parse(line + "\n", "dma.conf").problems == []
        return
    ran = agent.send("-bq", "bob@example.org", check=None)
    if line == "NULLCLIENT":
        assert (ran.returncode, b"NULLCLIENT requires SMARTHOST" in ran.stderr) == (78, True)
    else:
        assert ran.returncode == 0, ran.stderr
    if line == "SECURE":
        assert b"did you mean SECURETRANSFER?" in agent.program("dma-queue", "list").stderr


def test_fingerprint_without_a_value_is_a_crash_and_openssl_s_form_is_refused(make, relay_with_login):
    """PR #125"""
    agent = make(relay_with_login)
    agent.base = "".join(line + "\n" for line in agent.base.splitlines() if "FINGERPRINT" not in line)
    agent.configure("FINGERPRINT")
    ran = agent.send("bob@example.org", check=78)
    assert b"dma.conf:" in ran.stderr
    assert b"64 hexadecimal digits" in ran.stderr
    pin = relay_with_login.fingerprint.upper()
    agent.configure("FINGERPRINT " + ":".join(pin[at : at + 2] for at in range(0, 64, 2)))
    agent.send("-D", "bob@example.org")
    assert len(relay_with_login.messages) == 1


def test_port_by_name_and_smarthost_with_a_port_are_a_dns_failure(make, server):
    for lines in ("SMARTHOST 127.0.0.1:{0}", "SMARTHOST [127.0.0.1]:{0}", "SMARTHOST [127.0.0.1]\nPORT {0}"):
        make(conf=lines.format(server.port)).send("-D", "bob@example.org")
    assert len(server.messages) == 3
    ran = make(conf="SMARTHOST r.invalid\nPORT nonsense").send("bob@example.org", check=78)
    assert b"PORT needs a port number" in ran.stderr
    agent = make(conf="SMARTHOST r.invalid\nPORT smtps")
    agent.send("-D", "bob@example.org")
    assert agent.queue()[0]["state"] == "queued"


# ---------------------------------------------------------------- secrets


def test_an_unreadable_auth_conf_fails_all_mail_and_mailq():
    """void-packages#34431, openwrt#9846: a user's mail is taken, whoever runs the queue says what is wrong"""
    with Machine(conf="MAILNAME here.test\nSMARTHOST 127.0.0.1:9\nAUTHPATH /etc/dma/auth.conf\n") as machine:
        secret = machine.top / "etc" / "dma" / "auth.conf"
        secret.write_text("alice|127.0.0.1:secret\n")
        secret.chmod(0o600)
        machine.start()
        machine.send("bob@x.test", user="alice")
        (name,) = machine.ids()
        said = machine.until(lambda: machine.run("dma-queue", "list").stderr.decode(), what="the notice")
        assert "can not open auth file `/etc/dma/auth.conf': Permission denied" in said
        listed = machine.run("mailq", user="alice", check=0)
        assert name.encode() in listed.stdout
        assert machine.run("dma-queue", "list", "--check").returncode == 1


def test_wrong_permissions_of_the_package_and_only_root_can_mail(tmp_path, relay_with_login):
    """void#5312, dma#48: each wrong mode is found, with the command that mends it"""
    home = Home(tmp_path / "home")
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(relay_with_login)), "--yes", "--no-test")
    assert done.returncode == 0, done.stdout + done.stderr
    config = home.path / ".config" / "dma"
    for place, wrong, right in ((config / "auth.conf", 0o644, 0o600), (config / "secrets", 0o755, 0o700)):
        place.chmod(wrong)
        found = json.loads(home.run("doctor", "--user", "--offline", "--json").stdout)["findings"]
        (one,) = [f for f in found if f["check"] == "permissions" and f["severity"] == "fail"]
        assert str(place) in one["command"]
        subprocess.run(["sh", "-c", one["command"]], check=True)
        assert place.stat().st_mode & 0o777 == right
    assert home.run("doctor", "--user", "--offline").returncode == 0


def test_the_password_is_visible(make, relay_with_login):
    """nullmailer#24, dma PR #151: in no command line, log, listing or dialogue"""
    relay_with_login.users = {"alice": "unlike any other"}  # other tests have theirs on command lines
    agent = make(relay_with_login)
    relay_with_login.refuse("RCPT TO", "451 4.7.1 later", times=1)
    seen, watching = set(), True

    def watch():
        while watching:
            for place in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(place.read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        ran = agent.send("-v", "bob@example.org")
        listed = agent.program("dma-queue", "list", "--json")
        shown = agent.program("dma-queue", "show", agent.files()[0])
        again = agent.program("dma-queue", "run")
    finally:
        watching = False
        watcher.join()
    assert relay_with_login.logins[0] == ("alice", True)
    said = b"".join([*seen, *(one.stdout + one.stderr for one in (ran, listed, shown, again)), agent.run("-bp").stdout])
    assert b"AUTH PLAIN ***" in said
    for form in (b"unlike any", b"AGFsaWNlAHVubGlrZSBh"):  # and as AUTH PLAIN has it
        assert form not in said
    kept = b"".join(path.read_bytes() for path in agent.spool.rglob("*") if path.is_file())
    assert b"unlike any" not in kept


def test_the_keyring_is_unusable_without_a_session(make, relay_with_login):
    """Debian 944188, 995012, jaraco/keyring#620: no bus, no environment. Said at once, nothing asked, the mail waits."""
    agent = make(relay_with_login, conf="KEYRING secret-service", password="keyring:")
    agent.environment = {"DMA_CONF": str(agent.conf)}
    began = time.monotonic()
    agent.send("-D", "bob@example.org")
    assert time.monotonic() - began < 30
    assert (relay_with_login.logins, relay_with_login.messages) == ([], [])
    (row,) = agent.queue()
    assert row["state"] == "queued"
    assert "keyring" in row["recipients"][0]["last_error"]
    agent.write(agent.auth, f"alice|127.0.0.1:file:{agent.password}\n")  # a store that needs no session
    agent.run("-q", "-D")
    assert len(relay_with_login.messages) == 1


def test_a_log_that_cannot_be_written_fails_the_mail(agent, server):
    """msmtp#26, #115, #177: no /dev/log, and no file of our own either"""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/shm && mount --bind /dev/shm /run && exec "$@"', "sh"]
    ran = subprocess.run([*hidden, str(BIN / "dma"), "-D", "bob@example.org"], input=MESSAGE, env=agent.environment, timeout=60)
    assert ran.returncode == 0
    assert len(server.messages) == 1


# ---------------------------------------------------------------- local delivery


@pytest.mark.parametrize("how", ["dotlock", "fcntl"])
def test_mail_is_lost_to_a_reader_that_locks_by_dotlock_or_fcntl(covered, how):
    """Debian 0.9-1"""
    box, lock = covered.drop / "root", covered.drop / "root.lock"
    box.touch(0o600)
    holder = open(box, "r+b")
    if how == "dotlock":
        lock.touch()
    else:
        fcntl.lockf(holder, fcntl.LOCK_EX)
    before = []

    def release():
        time.sleep(1.5)
        before.append(box.read_bytes())
        lock.unlink() if how == "dotlock" else fcntl.lockf(holder, fcntl.LOCK_UN)

    releaser = threading.Thread(target=release)
    releaser.start()
    covered.run("-D", "root")
    releaser.join()
    holder.close()
    assert before == [b""]
    assert covered.mailbox("root").count(b"\nhello\n") == 1


def test_messages_in_a_mailbox_are_not_ended_by_an_empty_line(covered):
    """PR #144"""
    covered.run("-D", "root", text=b"Subject: one\n\nFrom here\nno line end")
    covered.run("-D", "root", text=b"Subject: two\n\nlast\n")
    box = mailbox.mbox(covered.drop / "root")
    assert [message["Subject"] for message in box] == ["one", "two"]
    assert covered.mailbox("root").endswith(b"last\n\n")
    assert covered.mailbox("root").count(b"\n\nFrom ") == 1


def test_a_link_at_the_mailbox_writes_somebody_s_file(covered, agent, tmp_path):
    """PR #46, #47"""
    victim = tmp_path / "victim"
    victim.write_text("untouched\n")
    (covered.drop / "root").symlink_to(victim)
    covered.run("-D", "root")
    assert victim.read_text() == "untouched\n"
    (row,) = agent.queue()
    assert (row["state"], row["recipients"][0]["state"]) == ("queued", "deferred")
    assert str(row["recipients"][0]["last_error"]).startswith("not delivered")


# ---------------------------------------------------------------- trace and log


def test_received_discloses_the_login_and_cannot_be_parsed(make, server):
    """dma#61, #98, #99"""
    for conf in ("", "HIDEUSER"):
        make(server, conf=conf).send("-D", "bob@example.org")
    shown, hidden = (" ".join(email.message_from_bytes(m.content)["Received"].split()) for m in server.messages)
    form = r"from .+ by here\.test \(dma [0-9.]+ on [^ ]+\) with local id [0-9a-z]+ .*; [A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d{4} .*"
    assert re.fullmatch(form, shown), shown
    assert "uid" in shown
    assert "uid" not in hidden
    assert " by here.test (dma" in hidden


def test_there_is_one_relay_for_all_senders(make, tmp_path):
    """dma#113, nullmailer#53, open-craft#286: two accounts, at the same host even"""
    with MailServer(tls="starttls", users={"alice": "one", "bob": "two"}) as relay, MailServer() as other:
        agent = make(relay, login="alice")
        place = f"127.0.0.1:{relay.port}"
        agent.write(agent.directory / "bob", "two\n")
        agent.write(agent.auth, f"alice|127.0.0.1:file:{agent.password}\nbob|127.0.0.1:file:{agent.directory}/bob\n")
        agent.write(agent.directory / "map", f"bob@x.test {place} bob\n@other.test 127.0.0.1:{other.port} -\n* {place} alice\n")
        agent.configure(f"RELAYMAP {agent.directory}/map")
        agent.send("-D", "-f", "alice@x.test", "u@y.test")
        agent.send("-D", "-f", "bob@x.test", "u@y.test")
        assert [(m.sender, m.login) for m in relay.messages] == [("alice@x.test", "alice"), ("bob@x.test", "bob")]
        agent.send("-D", "-f", "me@other.test", "u@y.test")
        assert tuple(login for login, _ in relay.logins) == ("alice", "bob")
        assert not any(verb == "AUTH" for _, verb, _ in other.commands)


@pytest.mark.parametrize("conf", ["LOCALONLY", "DELIVERY LOCALONLY"])
def test_mail_that_may_not_leave_is_tried_for_days(make, server, conf):
    """dma#121, PR #125"""
    agent = make(server, conf=conf)
    ran = agent.send("u@x.test", check=68)
    assert b"LOCALONLY" in ran.stderr
    assert (agent.files(), server.connections) == ([], 0)


def test_the_dialogue_cannot_be_seen(make, relay_with_login):
    """PR #70, nullmailer#66: -v, and dmad --debug"""
    agent = make(relay_with_login)
    said = agent.send("-v", "bob@example.org").stdout.decode()
    assert "S: 220" in said
    assert "C: MAIL FROM:<" in said
    assert "C: AUTH PLAIN ***" in said
    agent.send("-bq", "bob@example.org")
    said = agent.program("dmad", "--leave-when-empty", "--run", "--debug", check=0).stderr.decode()
    assert "C: RCPT TO:<bob@example.org>" in said
    assert "C: AUTH PLAIN ***" in said


def test_the_fork_s_debuglog_is_not_known(make, relay_with_login):
    """PR #70"""
    agent = make(relay_with_login)
    agent.configure(f"DEBUGLOG {agent.directory}/dialogue")
    agent.send("bob@example.org")
    agent.until_empty()
    agent.send("-D", "bob@example.org")
    path = agent.directory / "dialogue"
    assert path.stat().st_mode & 0o777 == 0o600
    said = path.read_text()
    assert said.count("C: RCPT TO:<bob@example.org>") == 2
    assert "C: AUTH PLAIN ***" in said
    assert "AGFsaWNl" not in said
    agent.configure("DEBUGLOG /nonexistent/dialogue")
    agent.send("-D", "bob@example.org")
    assert len(relay_with_login.messages) == 3


def test_mail_cannot_be_traced_at_the_provider(make, server):
    """msmtp#190, mail.c:448"""
    agent = make(server)
    text = b"Message-ID: <mine@x.test>\nSubject: x\n\nhello\n"
    ran = agent.send("-D", "bob@example.org", text=text)
    (line,) = [line for line in ran.stderr.decode().splitlines() if "delivery successful" in line]
    for word in ("<bob@example.org>", "127.0.0.1 [127.0.0.1]", "250 2.0.0 Ok: kept as 1", "message-id=<mine@x.test>", "delay="):
        assert word in line
    assert re.match(r"dma\[[0-9a-z]{18}\]: ", line)


def test_setup_overwrites_an_edited_configuration(tmp_path, relay_with_login):
    """Debian #741904, #688682, #697871: comments, keys of one's own and unknown ones stay; undo gives the old file back"""
    home = Home(tmp_path / "home")
    config = home.path / ".config" / "dma" / "dma.conf"
    config.parent.mkdir(parents=True)
    old = "# mine, do not touch\nRETRY 7m 2h  # because\nSOMETHING else\nSMARTHOST old.example.org\n"
    config.write_text(old)
    config.chmod(0o600)
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(relay_with_login)), "--yes", "--no-test")
    assert done.returncode == 0, done.stdout + done.stderr
    new = config.read_text()
    for line in ("# mine, do not touch\n", "RETRY 7m 2h  # because\n", "SOMETHING else\n"):
        assert line in new
    assert f"SMARTHOST localhost\nPORT {relay_with_login.port}\n" in new
    assert home.run("undo", "--user").returncode == 0
    assert config.read_text() == old
