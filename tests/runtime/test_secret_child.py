"""The reader child alone: what it says for each kind of failure, and that it never asks."""

import pathlib
import subprocess
import sys
import time
import types

import pytest
from keyring.backends import SecretService, kwallet
from keyring.errors import KeyringLocked

from dma_runtime.cmd import secret

BACKENDS = """
import time, getpass
from keyring.errors import KeyringLocked
class Slow:
    def get_password(self, service, user): time.sleep(60)
class Asks:
    def get_password(self, service, user): return getpass.getpass()
class Locked:
    def get_password(self, service, user): raise KeyringLocked("shut\\nfor good")
class Breaks:
    def get_password(self, service, user): raise ZeroDivisionError
class Bytes:
    def get_password(self, service, user): return b"bytes"
class Lines:
    def get_password(self, service, user): return "one\\ntwo\\n"
class Word:
    def get_password(self, service, user): return f"{service} {user} \\udcff\\n"
class Nothing:
    def get_password(self, service, user): return None
"""


@pytest.fixture
def child(tmp_path, repository):
    (tmp_path / "backends.py").write_text(BACKENDS)

    def child(name, alarm=secret.ALARM):
        program = (
            f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(repository)!r}]; from dma_runtime.cmd import secret; "
            f"secret.ALARM = {alarm}; sys.exit(secret.main(sys.argv[1:]))"
        )
        words = [sys.executable, "-IS", "-c", program, f"backends.{name}", "dma:host", "alice"]
        return subprocess.run(
            words, env={}, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, timeout=30
        )

    return child


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("Nothing", 10, "no entry for user alice in service dma:host"),
        ("Locked", 11, "KeyringLocked: shut for good"),
        ("Breaks", 1, "ZeroDivisionError"),
        ("Bytes", 1, "backends.Bytes gave no text"),
        ("Lines", 1, "the entry has more than one line"),
        ("Missing", 13, "there is no class Missing in backends"),
    ],
)
def test_failures(child, name, status, reason):
    done = child(name)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (status, b"", reason + "\n")


def test_the_secret_and_nothing_else(child):
    done = child("Word")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"dma:host alice \xff", b"")


def test_who_asks_is_not_answered(child):
    done = child("Asks")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(b"EOFError")


def test_it_ends_when_nobody_ends_it(child):
    began = time.monotonic()
    done = child("Slow", alarm=1)
    assert done.returncode == -14
    assert time.monotonic() - began < 10


def test_no_core_dump():
    program = (
        "import sys, resource; sys.path.insert(0, sys.argv[1]); from dma_runtime.cmd import secret; "
        "secret.main(['no.Such', 's', 'u']); print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    words = [sys.executable, "-IS", "-c", program, str(pathlib.Path(secret.__file__).parents[2])]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "(0, 0)\n"


def test_a_locked_item_is_not_unlocked():
    """gnome-keyring locks collections; other services lock single items, and unlocking one is a prompt too."""

    class Item:
        def is_locked(self):
            return True

        def unlock(self):
            raise AssertionError("asked somebody")

    with pytest.raises(KeyringLocked):
        secret._reader(SecretService.Keyring).unlock(Item())


class Wallet:
    """kwalletd5 as dbus-python shows it: one object is bus, proxy and interface."""

    def __init__(self, running, is_open):
        self.running, self.is_open = running, is_open

    def name_has_owner(self, name):
        assert name == "org.kde.kwalletd5"
        return self.running

    def get_object(self, name, path):
        return self

    def networkWallet(self):
        return "kdewallet"

    def isOpen(self, wallet):
        assert wallet == "kdewallet"
        return self.is_open

    def open(self, *arguments):
        raise AssertionError("asked somebody")


@pytest.mark.parametrize(
    ("running", "is_open", "status"), [(False, False, secret.NO_SERVICE), (True, False, secret.LOCKED), (True, True, 0)]
)
def test_a_closed_wallet_is_not_opened(monkeypatch, running, is_open, status):
    wallet = Wallet(running, is_open)
    fake = types.SimpleNamespace(
        SessionBus=lambda: wallet, Interface=lambda proxy, name: proxy, DBusException=type("DBusException", (Exception,), {})
    )
    monkeypatch.setitem(sys.modules, "dbus", fake)
    if status:
        with pytest.raises(secret._Unreadable) as caught:
            secret._reader(kwallet.DBusKeyring)
        assert caught.value.status == status
    else:
        assert secret._reader(kwallet.DBusKeyring).appid == "dma"
