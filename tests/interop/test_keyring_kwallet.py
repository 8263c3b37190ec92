"""`KEYRING kwallet` against KDE's own kwalletd5: open, closed, absent. Never a dialogue, never a hang."""

import asyncio
import time

import kwallet
import pytest

from dma_runtime import authconf, config
from dma_runtime.system import secrets

SETTINGS = config.parse("KEYRING kwallet\nAUTHPATH auth.conf\n", "dma.conf")
LOGIN = authconf.parse("alice|smtp.example.org:keyring:", "auth.conf").logins[0]
SERVICE = "dma:smtp.example.org"


@pytest.fixture
def desktop(tmp_path):
    kwallet.needed()
    with kwallet.KWallet(tmp_path) as made:
        yield made


def read(desktop):
    return asyncio.run(secrets.read(LOGIN, SETTINGS, environ={}, identity=desktop.identity)).reveal()


@pytest.fixture
def writer(desktop, monkeypatch):
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", desktop.address)
    from dma_runtime.system.keyring_kwallet import Keyring  # imports keyring, which this process may

    return Keyring()


def test_what_setup_writes_is_read(desktop, writer):
    desktop.start(unlock="login password")
    with pytest.raises(secrets.SecretUnreadable, match=r"no entry for user alice in service dma:smtp\.example\.org"):
        read(desktop)
    writer.set_password(SERVICE, "alice", "pässwörd ☂ $HOME")
    assert read(desktop) == "pässwörd ☂ $HOME"
    desktop.start(unlock="login password")
    assert read(desktop) == "pässwörd ☂ $HOME", "it is in the wallet's file"
    writer.set_password(SERVICE, "bob", "his")
    writer.delete_password(SERVICE, "alice")
    assert writer.get_password(SERVICE, "alice") is None
    assert writer.get_password(SERVICE, "bob") == "his"
    writer.delete_password(SERVICE, "bob")
    handle = desktop.call("open", "string:kdewallet", "int64:0", "string:test").split()[-1]
    assert SERVICE not in desktop.call("folderList", f"int32:{handle}", "string:test"), "an empty folder goes too"
    with pytest.raises(Exception, match="no such entry"):
        writer.delete_password(SERVICE, "alice")


def test_what_another_program_wrote(desktop):
    desktop.start(unlock="login password")
    desktop.store(SERVICE, "alice", "from KWalletManager")
    assert read(desktop) == "from KWalletManager"


def test_a_closed_wallet_is_reported_and_nobody_is_asked(desktop, writer):
    desktop.start(unlock="login password")
    desktop.store(SERVICE, "alice", "secret")
    desktop.start(unlock=None)
    began = time.monotonic()
    with pytest.raises(secrets.SecretUnreadable, match="the wallet is closed") as caught:
        read(desktop)
    assert "unlock" in caught.value.hint
    with pytest.raises(Exception, match="the wallet is closed"):
        writer.set_password(SERVICE, "alice", "new")
    assert time.monotonic() - began < 6, "nobody was waited for"


def test_no_kwallet(desktop):
    with pytest.raises(secrets.SecretUnreadable, match="KWallet is not running") as caught:
        read(desktop)
    assert "start the keyring service" in caught.value.hint


def test_no_bus_at_all(desktop):
    desktop.identity.runtime_dir = str(desktop.home)
    with pytest.raises(secrets.SecretUnreadable, match="no session bus"):
        read(desktop)
