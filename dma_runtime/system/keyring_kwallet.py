"""KDE's wallet as a keyring backend, spoken to over D-Bus with jeepney, which the keyring library brings along on Linux.

The library's own class wants dbus-python, which pip cannot install without a compiler, and knows the name of one KDE
only. Entries are where that class has them (folder `dma:HOST`, key LOGIN, in the network wallet), so both find the same.
Nothing is ever asked: a wallet that is closed, or that would first ask a person whether this program may read it, is
reported as locked. Never chosen by keyring's own detection (priority below zero); dma.conf names it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from jeepney import DBusAddress, MessageType, new_method_call
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from keyring.backend import KeyringBackend
from keyring.compat import properties
from keyring.errors import InitError, KeyringLocked, PasswordDeleteError, PasswordSetError

from dma_runtime.keyrings import APPLICATION

DAEMONS = ("kwalletd6", "kwalletd5")  # org.kde.NAME at /modules/NAME
SECONDS = 8.0  # below the deadline of those who wait for us
NO_WINDOW = 0


class NotRunning(InitError):
    """There is no session bus, or nobody on it who has a wallet."""


class Keyring(KeyringBackend):
    """Entries of the network wallet. Methods raise the errors of keyring.errors, one line each."""

    @properties.classproperty
    def priority(cls) -> float:  # a class property  # noqa: N805
        return -0.5

    def get_password(self, service: str, username: str) -> str | None:
        with _wallet() as wallet:
            if not wallet("hasEntry", "isss", service, username):
                return None
            return str(wallet("readPassword", "isss", service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        with _wallet() as wallet:
            if wallet("writePassword", "issss", service, username, password) != 0:
                raise PasswordSetError("the wallet did not take it")
            wallet("sync", "is")  # it would write to disk some seconds later, and another copy may go at once

    def delete_password(self, service: str, username: str) -> None:
        with _wallet() as wallet:
            if not wallet("hasEntry", "isss", service, username):
                raise PasswordDeleteError("the wallet has no such entry")
            if wallet("removeEntry", "isss", service, username) != 0:
                raise PasswordDeleteError("the wallet did not delete it")
            if not wallet("entryList", "iss", service):
                wallet("removeFolder", "iss", service)
            wallet("sync", "is")


class _Wallet:
    """An open wallet: calls carry its handle first and the name of this program last."""

    def __init__(self, bus: DBusConnection, daemon: DBusAddress, handle: int) -> None:
        self._bus = bus
        self._daemon = daemon
        self._handle = handle

    def __call__(self, method: str, signature: str, *words: str) -> Any:
        return _call(self._bus, self._daemon, method, signature, self._handle, *words, APPLICATION)


@contextlib.contextmanager
def _wallet() -> Iterator[_Wallet]:
    """The network wallet, if it is open already: opening a closed one shows a dialogue."""
    try:
        bus = open_dbus_connection("SESSION")
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise NotRunning(f"no session bus ({error})") from None
    with bus:
        daemon = _daemon(bus)
        name = _call(bus, daemon, "networkWallet", "")
        if not _call(bus, daemon, "isOpen", "s", name):
            raise KeyringLocked("the wallet is closed")
        handle = _call(bus, daemon, "open", "sxs", name, NO_WINDOW, APPLICATION)
        if handle < 0:
            raise KeyringLocked(f"the wallet does not let {APPLICATION} in")
        yield _Wallet(bus, daemon, handle)


def _daemon(bus: DBusConnection) -> DBusAddress:
    for name in DAEMONS:
        if bus.send_and_get_reply(message_bus.NameHasOwner(f"org.kde.{name}"), timeout=SECONDS).body == (True,):
            return DBusAddress(f"/modules/{name}", f"org.kde.{name}", "org.kde.KWallet")
    raise NotRunning("KWallet is not running")


def _call(bus: DBusConnection, daemon: DBusAddress, method: str, signature: str, *words: Any) -> Any:
    """The one value of the reply, None where there is none."""
    try:
        reply = bus.send_and_get_reply(new_method_call(daemon, method, signature, words), timeout=SECONDS)
    except TimeoutError:
        raise KeyringLocked(f"the wallet asks somebody whether {APPLICATION} may use it") from None
    if reply.header.message_type is MessageType.error:
        raise InitError(f"KWallet: {' '.join(map(str, reply.body))}")
    return reply.body[0] if reply.body else None
