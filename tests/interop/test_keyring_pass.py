"""`KEYRING pass` against the real pass(1) and gpg: a key without a passphrase, one that is locked, and none."""

import asyncio
import os
import shutil
import subprocess
import time

import pytest

from dma_runtime import authconf, config
from dma_runtime.system import secrets
from dma_runtime.system.account import Identity

SETTINGS = config.parse("KEYRING pass\nAUTHPATH auth.conf\n", "dma.conf")
LOGIN = authconf.parse("alice|smtp.example.org:keyring:", "auth.conf").logins[0]


@pytest.fixture
def store(tmp_path_factory, monkeypatch):
    """A function that makes a password store whose key has the given passphrase; its home is ended with the agent."""
    for program, package in (("pass", "pass"), ("gpg", "gnupg")):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt install {package}")
    home = tmp_path_factory.mktemp("h")  # short: gpg-agent's socket lies in it
    monkeypatch.setenv("HOME", str(home))
    who = Identity(os.getuid(), "alice", str(home), str(home / "run"))
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def make(passphrase=""):
        (home / ".gnupg").mkdir(mode=0o700)
        words = ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", passphrase]
        words += ["--quick-gen-key", "alice@example.org", "default", "default", "never"]
        subprocess.run(words, env=environment, check=True, capture_output=True, timeout=60)
        subprocess.run(["pass", "init", "alice@example.org"], env=environment, check=True, capture_output=True, timeout=60)
        return who

    yield make
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=False, capture_output=True, timeout=20)


def read(who):
    return asyncio.run(secrets.read(LOGIN, SETTINGS, environ={}, identity=who)).reveal()


def test_what_setup_writes_is_read_and_the_lines_below_stay(store):
    who = store()
    from dma_runtime.system.keyring_pass import Keyring  # imports keyring, which this process may; the daemon does not

    writer = Keyring()
    with pytest.raises(secrets.SecretUnreadable, match=r"no entry for user alice in service dma:smtp\.example\.org"):
        read(who)
    writer.set_password("dma:smtp.example.org", "alice", "pässwörd ☂ $HOME")
    assert read(who) == "pässwörd ☂ $HOME"
    with_notes = "old\nurl: https://example.org\n"
    words = ["pass", "insert", "--multiline", "--force", "dma/smtp.example.org/alice"]
    environment = {"HOME": who.home, "PATH": os.environ["PATH"]}
    subprocess.run(words, input=with_notes.encode(), env=environment, check=True, capture_output=True)
    assert read(who) == "old"
    writer.set_password("dma:smtp.example.org", "alice", "new")
    shown = subprocess.run(["pass", "show", words[-1]], env=environment, check=True, capture_output=True, text=True).stdout
    assert shown == "new\nurl: https://example.org\n"
    writer.delete_password("dma:smtp.example.org", "alice")
    with pytest.raises(secrets.SecretUnreadable, match="no entry"):
        read(who)


def test_a_locked_key_is_reported_and_nobody_is_asked(store):
    who = store("a passphrase nobody gives")
    from dma_runtime.system.keyring_pass import Keyring

    Keyring().set_password("dma:smtp.example.org", "alice", "secret")
    subprocess.run(["gpgconf", "--kill", "all"], env={"HOME": who.home, "PATH": os.environ["PATH"]}, check=True)
    began = time.monotonic()
    with pytest.raises(secrets.SecretUnreadable, match="the key of the password store is locked") as caught:
        read(who)
    assert time.monotonic() - began < secrets.DEADLINE
    assert "unlock" in caught.value.hint


def test_no_store(store, tmp_path):
    who = Identity(os.getuid(), "alice", str(tmp_path), str(tmp_path / "run"))
    with pytest.raises(secrets.SecretUnreadable, match="keyring pass: no entry for user alice"):
        read(who)


def test_a_key_that_is_gone(store):
    who = store()
    from dma_runtime.system.keyring_pass import Keyring

    Keyring().set_password("dma:smtp.example.org", "alice", "secret")
    shutil.rmtree(f"{who.home}/.gnupg/private-keys-v1.d")
    with pytest.raises(secrets.SecretUnreadable, match=r"the key of the password store is locked .* or gone"):
        read(who)


BAD = [("dma:a/b", "c"), ("dma:", "c"), ("dma:h", ".."), ("dma:h", "a/b"), ("dma:..", "x")]


@pytest.mark.parametrize(("service", "user"), BAD)
def test_an_entry_stays_below_its_folder(service, user):
    keyring_pass = pytest.importorskip("dma_runtime.system.keyring_pass")
    with pytest.raises(Exception, match="cannot keep an entry of that name"):
        keyring_pass.Keyring().get_password(service, user)
