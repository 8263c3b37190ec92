"""The keyring from end to end, user mode: dma-setup stores, sendmail spools, dmad reads through its child and signs in.

A real gnome-keyring, a real server, the programs as installed. The session bus is the one the programs are started with,
which holds only for a user who has none of his own at /run/user/UID/bus: that one would be the real keyring. (To setup it is
shown there, or it would not use it.)
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
import secret_service
from mail_server import MailServer

BIN = pathlib.Path(sys.executable).parent
PASSWORD = "correct hörse"


@pytest.fixture
def desktop(tmp_path):
    secret_service.needed()
    if os.path.exists(f"/run/user/{os.getuid()}/bus"):
        pytest.skip("needs a user without a session bus of his own: run the tests in a container or as a system user")
    with secret_service.SecretService(tmp_path) as service:
        service.start(unlock="login password")
        yield service


@pytest.fixture
def server():
    with MailServer(tls="implicit", users={"alice": PASSWORD}) as server:
        yield server


class Person:
    def __init__(self, desktop, server):
        self.desktop = desktop
        self.home = desktop.home
        # Nothing but what setup installs: it must find no crontab or systemctl of the person who runs the tests.
        self.environment = {"HOME": str(self.home), "PATH": f"{self.home}/.local/bin", "LANG": "C.UTF-8"}
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = desktop.address
        if os.getuid() == 0:
            self.environment["DMA_CONF"] = f"{self.home}/.config/dma/dma.conf"
        secret = self.home / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o600)
        self.answers = self.home / "answers.yml"
        self.answers.write_text(
            f"host: 127.0.0.1\nport: {server.port}\ntls: implicit\nfingerprint: {server.fingerprint}\nlogin: alice\n"
            f"password: {{file: {secret}}}\nkeyring: secret-service\nsender: alice@example.org\nroot_mail: ''\n"
        )

    def run(self, *words, given=""):
        return subprocess.run(words, env=self.environment, input=given, capture_output=True, text=True, timeout=60)

    def provision(self):
        words = ("smarthost", "--user", "--answers", str(self.answers), "--yes", "--no-test")
        self.environment["PATH"] += ":/usr/bin:/bin"  # for what makes the bus that of a login
        done = self.run(*self.desktop.as_of_a_login("/usr/bin/env", f"PATH={self.home}/.local/bin", str(BIN / "dma-setup"), *words))
        self.environment["PATH"] = f"{self.home}/.local/bin"
        return done

    def send(self, subject, *flags):
        done = self.run(f"{self.home}/.local/bin/sendmail", *flags, "bob@example.net", given=f"Subject: {subject}\n\nx\n")
        assert (done.returncode, done.stdout) == (0, "")
        return done.stderr

    def queue(self):
        done = self.run(f"{self.home}/.local/lib/dma/dma-queue", "list", "--json")
        return json.loads(done.stdout)

    def owners(self):
        return set(secret_service.working_for(self.home)) - set(self.desktop.pids)

    def end_owner(self):
        secret_service.end_all(self.home, except_for=self.desktop.pids)


@pytest.fixture
def person(desktop, server):
    person = Person(desktop, server)
    done = person.provision()
    assert done.returncode == 0, done.stdout + done.stderr
    yield person
    person.end_owner()


def test_from_the_keyring_to_the_relay(person, server, desktop):
    written = [path for path in person.home.rglob("*") if path.is_file() and path.name != "password"]
    assert not [path for path in written if PASSWORD.encode() in path.read_bytes()]
    assert "alice|127.0.0.1:keyring:" in (person.home / ".config/dma/auth.conf").read_text()
    assert "KEYRING secret-service" in (person.home / ".config/dma/dma.conf").read_text()
    person.send("from the keyring")
    (message,) = server.wait(1)
    assert message.login == "alice"
    assert server.logins == [("alice", True)] * 2  # setup's, and the owner's


def test_a_locked_keyring_holds_mail_and_says_so(person, server, desktop):
    desktop.lock()
    said = person.send("held", "-D")
    assert "the keyring is locked" in said
    (held,) = person.queue()
    assert held["recipients"][0]["state"] == "deferred"
    assert "the keyring is locked" in held["recipients"][0]["last_error"]
    assert server.messages == []
    assert not desktop.prompted()
    shown = person.run(f"{person.home}/.local/bin/mailq")
    assert "the keyring is locked" in shown.stdout + shown.stderr
    # Unlocked, and one run of the queue later: nobody had to do anything else.
    desktop.start(unlock="login password")
    assert person.run(f"{person.home}/.local/bin/sendmail", "-q", "-D").returncode == 0
    (message,) = server.wait(1)
    assert message.login == "alice"
    assert person.queue() == []


def test_a_changed_password_in_the_keyring_is_read_anew_after_a_refusal(person, server, desktop):
    server.users["alice"] = "the new one"
    person.send("refused")
    deadline = time.monotonic() + 20
    while "535" not in (person.queue()[0]["recipients"][0]["last_error"] or "") and time.monotonic() < deadline:
        time.sleep(0.05)
    (owner,) = person.owners()
    desktop.store("dma:127.0.0.1", "alice", "the new one")
    assert person.run(f"{person.home}/.local/bin/sendmail", "-q", "-D").returncode == 0
    assert server.wait(1)[0].login == "alice"
    assert server.logins == [("alice", True), ("alice", False), ("alice", True)]
    while owner in person.owners() and time.monotonic() < deadline + 20:
        time.sleep(0.05)
    assert owner not in person.owners(), "the queue is empty, its owner leaves"


def test_without_a_session_bus_mail_waits(person, server, desktop):
    """As cron starts programs: no address in the environment. The owner it leaves behind knows none either."""
    del person.environment["DBUS_SESSION_BUS_ADDRESS"]
    assert "no session bus at unix:path=/run/user/" in person.send("from cron", "-D")
    assert person.queue()[0]["recipients"][0]["state"] == "deferred"
    person.end_owner()
    person.environment["DBUS_SESSION_BUS_ADDRESS"] = desktop.address
    assert person.run(f"{person.home}/.local/bin/sendmail", "-q", "-D").returncode == 0
    assert len(server.wait(1)) == 1
