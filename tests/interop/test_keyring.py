"""`keyring:` against a real Secret Service: unlocked, locked, empty, and none at all. Never a prompt, never a hang."""

import asyncio
import os
import pathlib
import subprocess
import sys
import time

import pytest
import secret_service

from dma_runtime import authconf, config
from dma_runtime.system import secrets
from dma_runtime.system.account import Identity

LOGIN = authconf.parse("alice|smtp.example.org:keyring:", "/etc/dma/auth.conf").logins[0]


def settings(keyring="secret-service"):
    return config.parse(f"KEYRING {keyring}\nAUTHPATH /etc/dma/auth.conf\n", "/etc/dma/dma.conf")


def read(identity, environ=None, login=LOGIN, keyring="secret-service"):
    return asyncio.run(secrets.read(login, settings(keyring), environ=environ or {}, identity=identity))


@pytest.fixture
def desktop(tmp_path):
    secret_service.needed()
    with secret_service.SecretService(tmp_path) as service:
        yield service


@pytest.mark.parametrize("password", ["correct horse", "pässwörd ☂", "-n $HOME `id` %s\\"])
def test_an_unlocked_keyring_gives_the_password(desktop, password):
    desktop.start(unlock="login password")
    desktop.store("dma:smtp.example.org", "alice", password)
    assert read(desktop.identity).reveal() == password


def test_the_entry_is_that_of_host_and_login(desktop):
    desktop.start(unlock="login password")
    desktop.store("dma:smtp.example.org", "alice", "hers")
    desktop.store("dma:smtp.example.org", "bob", "his")
    desktop.store("dma:mail.example.org", "alice", "other host")
    bob = authconf.parse("bob|SMTP.Example.Org.:keyring:", "/etc/dma/auth.conf").logins[0]
    assert read(desktop.identity).reveal() == "hers"
    assert read(desktop.identity, login=bob).reveal() == "his"
    carol = authconf.parse("carol|smtp.example.org:keyring:", "/etc/dma/auth.conf").logins[0]
    with pytest.raises(secrets.SecretUnreadable, match=r"no entry for user carol in service dma:smtp\.") as caught:
        read(desktop.identity, login=carol)
    assert "dma-setup secret set" in caught.value.hint


@pytest.mark.parametrize("how", ["at its start", "later"])
def test_a_locked_keyring_is_reported_and_nobody_is_asked(desktop, how):
    desktop.start(unlock="login password")
    desktop.store("dma:smtp.example.org", "alice", "secret")
    if how == "later":
        desktop.lock()
    else:
        desktop.start(unlock=None)
    began = time.monotonic()
    with pytest.raises(secrets.SecretUnreadable, match=r"auth\.conf:1: .*the keyring is locked") as caught:
        read(desktop.identity)
    assert time.monotonic() - began < secrets.DEADLINE
    assert "unlock the keyring" in caught.value.hint
    assert caught.value.status == 75
    assert not desktop.prompted()
    # Unlocked again, the same entry is read.
    desktop.start(unlock="login password")
    assert read(desktop.identity).reveal() == "secret"


def test_a_missing_collection_is_not_created(desktop):
    desktop.start(unlock=None)
    with pytest.raises(secrets.SecretUnreadable, match="no default collection"):
        read(desktop.identity)
    assert not list(pathlib.Path(desktop.home).rglob("*.keyring"))
    assert not desktop.prompted()


def test_no_bus_at_all(tmp_path):
    nobody = Identity(os.getuid(), "alice", str(tmp_path), str(tmp_path / "nothing"))
    began = time.monotonic()
    with pytest.raises(secrets.SecretUnreadable, match=f"no session bus at unix:path={tmp_path}/nothing/bus") as caught:
        read(nobody)
    assert time.monotonic() - began < secrets.DEADLINE
    assert caught.value.status == 75


def test_no_bus_at_all_with_an_empty_environment(tmp_path, repository):
    """`env -i`, as cron starts programs: the same one line, from the real passwd entry's runtime directory."""
    program = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[1])\n"
        "from dma_runtime import authconf, config\n"
        "from dma_runtime.system import secrets\n"
        "from dma_runtime.system.account import Identity\n"
        "login = authconf.parse('alice|smtp.example.org:keyring:', 'auth.conf').logins[0]\n"
        "settings = config.parse('KEYRING secret-service', 'dma.conf')\n"
        "who = Identity(0, 'alice', sys.argv[2], sys.argv[2])\n"
        "try: asyncio.run(secrets.read(login, settings, identity=who))\n"
        "except secrets.SecretUnreadable as unreadable: print(unreadable.text)\n"
    )
    words = [sys.executable, "-I", "-c", program, str(repository), str(tmp_path)]
    done = subprocess.run(words, env={}, capture_output=True, text=True, timeout=20)
    assert "no session bus at unix:path=" in done.stdout
    assert done.stderr == ""


def test_the_address_the_owner_was_started_with(desktop, tmp_path):
    """No RUNTIME/bus: the address given at the start is used. With one, it wins over what was given."""
    desktop.start(unlock="login password")
    desktop.store("dma:smtp.example.org", "alice", "secret")
    elsewhere = Identity(os.getuid(), "alice", str(desktop.home), str(tmp_path / "nothing"))
    assert read(elsewhere, environ={"DBUS_SESSION_BUS_ADDRESS": desktop.address}).reveal() == "secret"
    assert read(desktop.identity, environ={"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}).reveal() == "secret"


def test_nothing_in_the_environment_chooses_the_backend(desktop):
    """A name in PYTHON_KEYRING_BACKEND or keyringrc.cfg would be imported and asked by the keyring library."""
    desktop.start(unlock="login password")
    desktop.store("dma:smtp.example.org", "alice", "secret")
    folder = desktop.home / ".config" / "python_keyring"
    folder.mkdir(parents=True)
    (folder / "keyringrc.cfg").write_text("[backend]\ndefault-keyring=keyring.backends.null.Keyring\n")
    environ = {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", "KEYRING_PROPERTY_SCHEME": "KeePassXC"}
    assert read(desktop.identity, environ=environ).reveal() == "secret"


@pytest.mark.parametrize(
    ("keyring", "reason"),
    [
        ("keyring.backends.fail.Keyring", "NoKeyringError|No recommended backend"),
        ("no.such.module.Keyring", "cannot be loaded: No module named 'no'"),
        ("keyring.backends.SecretService.Nothing", "there is no class Nothing"),
        ("keyring.backends.null.Keyring", "no entry for user alice"),
    ],
)
def test_a_backend_that_has_nothing_for_us(tmp_path, keyring, reason):
    with pytest.raises(secrets.SecretUnreadable, match=reason):
        read(Identity(os.getuid(), "alice", str(tmp_path), str(tmp_path)), keyring=keyring)


def test_no_keyring_or_an_unknown_one(tmp_path):
    who = Identity(os.getuid(), "alice", str(tmp_path), str(tmp_path))
    with pytest.raises(secrets.SecretUnreadable, match="which KEYRING is meant"):
        asyncio.run(secrets.read(LOGIN, config.parse("", "dma.conf"), environ={}, identity=who))
    with pytest.raises(secrets.SecretUnreadable, match="KEYRING gnome is not known") as caught:
        read(who, keyring="gnome")
    assert "secret-service" in caught.value.hint


def test_the_daemon_never_imports_keyring(repository):
    program = f"import sys; sys.path.insert(0, {str(repository)!r}); import dma_runtime.system.secrets; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "dma_runtime.system.secrets" in loaded
    assert not {"keyring", "secretstorage", "jeepney", "cryptography"} & set(loaded)
