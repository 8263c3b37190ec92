"""`dma-setup` and its `secret` verbs against real keyrings: gnome-keyring and KWallet on a session bus, and pass with gpg.

Set up with a file first, moved into the keyring, rotated, removed, taken back: at every step exactly one copy, and what
delivery reads, with nothing of this session's environment, is the right one. In a mount namespace in which the account's
home is the test's and the bus is that of a login.
"""

import os
import pathlib
import shutil
import subprocess

import kwallet
import pytest
import secret_service
from mail_server import MailServer
from provisioning import tree
from setup_home import PASSWORD, PROGRAM, relay

CRONTABS = "/var/spool/cron/crontabs"
NEW = "another hörse"
DESKTOPS = {  # what skips, the desktop, its own files in the home
    "secret-service": (secret_service.needed, secret_service.SecretService, (".local/share/keyrings",)),
    "kwallet": (kwallet.needed, kwallet.KWallet, (".local/share/kwalletd", ".config/kwalletrc", ".cache")),
}
SCRIPT = 'mount --bind "$0" /etc/passwd && mkdir -p /run/user && mount -t tmpfs tmpfs /run/user && exec "$@"'


@pytest.fixture
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        yield server


class Person:
    """Somebody whose passwd entry has the home of the test."""

    def __init__(self, folder, desktop=None):
        if os.getuid() != 0:
            pytest.skip("needs root: a passwd entry of the test's own")
        if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
            pytest.skip("needs the right to make a mount namespace")
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        self.passwd = folder / "passwd"
        self.passwd.write_text(f"root:x:0:0:root:{self.home}:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        crontabs = folder / "crontabs"  # not that of who runs the tests
        crontabs.mkdir(exist_ok=True)
        self.crontab = f"{{ test ! -d {CRONTABS} || mount --bind {crontabs} {CRONTABS}; }} && "
        self.bus = f"mkdir /run/user/0 && ln -s {desktop.runtime}/bus /run/user/0/bus && " if desktop else ""

    def run(self, *words, given="", **more):
        command = ["unshare", "-m", "sh", "-c", SCRIPT.replace("exec", self.crontab + self.bus + "exec"), str(self.passwd), *words]
        environment = {"HOME": str(self.home), "PATH": f"{self.home}/.local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **more}
        return subprocess.run(command, input=given, capture_output=True, text=True, env=environment, timeout=90, cwd=self.folder)

    def setup(self, *words, status=0, given="", **more):
        done = self.run(str(PROGRAM), *words, "--user", given=given, **more)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == status, done.stdout + done.stderr
        assert not any(secret in done.stdout + done.stderr for secret in (PASSWORD, NEW))
        return done

    def copies(self, secret):
        """Files that hold it in the clear."""
        files = (path for path in self.home.rglob("*") if path.is_file() and not path.is_symlink())
        return [str(path.relative_to(self.home)) for path in files if secret.encode() in path.read_bytes()]


@pytest.fixture(params=["secret-service", "kwallet", "pass"])
def person(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("k")  # short: gpg-agent's socket lies below
    if request.param in DESKTOPS:
        needed, service, own = DESKTOPS[request.param]
        needed()
        with service(folder) as desktop:
            desktop.start(unlock="login password")
            made = Person(folder, desktop)
            made.keyring, made.own = request.param, own
            yield made
            secret_service.end_all(made.home, except_for=desktop.pids)
        return
    for program, package in (("pass", "pass"), ("gpg", "gnupg")):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt install {package}")
    made = Person(folder)
    made.keyring, made.own = request.param, (".gnupg", ".password-store")
    (made.home / ".gnupg").mkdir(mode=0o700)
    key = ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", "a@example.org"]
    for words in ([*key, "default", "default", "never"], ["pass", "init", "a@example.org"]):
        done = made.run(*words)
        assert done.returncode == 0, done.stderr
    yield made
    made.run("gpgconf", "--kill", "all")
    secret_service.end_all(made.home)


def settings(person):
    """The home without the keyring's own files, which are written anew each time."""
    return tree(person.home, without=(".local/state/dma-setup", ".local/share", *person.own))


def test_a_password_lives_in_one_place_at_a_time(person, server):
    answers = person.folder / "answers.yml"
    answers.write_text(relay(server))
    empty = settings(person)
    person.setup("smarthost", "--answers", str(answers), "--yes", "--no-test", DMA_PW=PASSWORD)
    assert person.copies(PASSWORD) == [".config/dma/secrets/dma.localhost.alice"]
    in_file = settings(person)

    person.setup("secret", "set", "--keyring", person.keyring, given=PASSWORD + "\n")
    assert person.copies(PASSWORD) == [], "the old copy went"
    assert f"KEYRING {person.keyring}\n" in (person.home / ".config/dma/dma.conf").read_text()
    assert "signed in" in person.setup("secret", "check").stdout
    doctor = person.setup("doctor", "--offline")
    assert "the password of alice can be read (keyring:)" in " ".join(doctor.stdout.split())

    server.users["alice"] = NEW
    person.setup("secret", "rotate", given="wrong\n", status=1)
    person.setup("secret", "check", status=1)
    person.setup("secret", "rotate", given=NEW + "\n")
    person.setup("secret", "check")
    person.setup("undo")
    server.users["alice"] = PASSWORD
    person.setup("secret", "check")

    person.setup("secret", "remove")
    said = person.setup("secret", "check", status=1).stderr
    assert "no entry for user alice" in said
    person.setup("undo")
    person.setup("secret", "check")

    person.setup("undo")  # the moving
    assert settings(person) == in_file
    assert person.copies(PASSWORD) == [".config/dma/secrets/dma.localhost.alice"]
    person.setup("secret", "check")
    person.setup("undo")
    assert settings(person) == empty


def test_set_up_straight_into_the_keyring_and_mail_leaves(person, server):
    answers = person.folder / "answers.yml"
    answers.write_text(relay(server, keyring=person.keyring))
    done = person.setup("smarthost", "--answers", str(answers), "--yes", DMA_PW=PASSWORD)
    assert "took it after" in done.stdout
    assert [message.login for message in server.messages] == ["alice"]
    assert person.copies(PASSWORD) == []
    saved = person.home / ".config/dma/answers.smarthost.yml"
    assert "password: {keyring: true}" in saved.read_text()
    person.setup("smarthost", "--answers", str(saved), "--check")
    check = person.setup("smarthost", "--answers", str(saved), "--yes")
    assert "nothing to change" in check.stdout


def test_a_locked_key_or_keyring_changes_nothing(person, server):
    """What cannot be opened without somebody typing is noticed before anything else is touched."""
    answers = person.folder / "answers.yml"
    answers.write_text(relay(server, keyring=person.keyring))
    if person.keyring == "pass":
        shutil.rmtree(person.home / ".gnupg/private-keys-v1.d")
        person.run("gpgconf", "--kill", "all")
    else:
        person.bus = ""  # nobody is logged in
    before = settings(person)
    done = person.setup("smarthost", "--answers", str(answers), "--yes", "--no-test", status=1, DMA_PW=PASSWORD)
    assert person.keyring in done.stderr
    assert settings(person) == before
    assert pathlib.Path(person.home, ".config/dma").exists() is False


def test_what_works_here_is_the_default(person, server):
    answers = person.folder / "answers.yml"
    answers.write_text(relay(server, keyring=None))
    person.setup("smarthost", "--answers", str(answers), "--yes", "--no-test", DMA_PW=PASSWORD)
    assert f"KEYRING {person.keyring}\n" in (person.home / ".config/dma/dma.conf").read_text()
    assert person.copies(PASSWORD) == []
