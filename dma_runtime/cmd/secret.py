"""The reader child: read one entry of a keyring, print it, end. Started by `system.secrets`, never by people.

Arguments: BACKEND (dotted class) SERVICE USER. The password goes to standard output, a pipe, without a line end.
On failure nothing is printed there, one line of reason goes to standard error, and the exit status says which case:

    10  no such entry    11  locked    12  no keyring service    13  the backend cannot be loaded    1  anything else

Rules:
- The environment is the fixed one of `system.account`; Python runs isolated (-I) and without site (-S), and site-packages
  is added here, where a keyring library may come from a virtual environment. User site-packages are not.
- The backend is the one named. The keyring library's own choice and its keyringrc.cfg are never consulted: they
  import whatever an environment variable or a file in HOME names.
- Nothing is prompted for. A Secret Service unlock waits for a person without limit, so a locked collection or item is
  reported instead, a missing default collection is not created, and a closed wallet is not opened. There is no terminal
  and standard input is empty for backends that would ask there.
- No core dump, and an end by SIGALRM should the parent die before its deadline could end us.
"""

from __future__ import annotations

import os
import resource
import signal
import site
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NO_ENTRY, LOCKED, NO_SERVICE, NO_BACKEND = 10, 11, 12, 13
ALARM = 12  # seconds, above the parent's deadline
_KINDS = {"KeyringLocked": LOCKED, "NotRunning": NO_SERVICE}  # by name: keyring is imported by its backends only


class _Unreadable(Exception):
    """Why there is no password to print, and the exit status that says so."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def main(arguments: list[str]) -> int:
    """Returns the exit status. Never raises."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(ALARM)
    try:
        name, service, user = arguments
        site.main()
        password = _password(name, service, user)
        os.write(1, password.encode("utf-8", "surrogateescape"))
        return 0
    except _Unreadable as unreadable:
        return _say(unreadable.status, unreadable.reason)
    except Exception as error:  # foreign code may raise anything; the daemon gets one line of it
        kind = type(error).__name__
        return _say(_KINDS.get(kind, 1), f"{kind}: {error}" if str(error) else kind)


def _say(status: int, reason: str) -> int:
    sys.stderr.write(" ".join(reason.split()) + "\n")
    return status


def _password(name: str, service: str, user: str) -> str:
    reader = _reader(_load(name))
    password = reader.get_password(service, user)
    if password is None:
        raise _Unreadable(NO_ENTRY, f"no entry for user {user} in service {service}")
    if not isinstance(password, str):
        raise _Unreadable(1, f"{name} gave no text")
    password = password.removesuffix("\n")
    if "\n" in password:
        raise _Unreadable(1, "the entry has more than one line")
    return password


def _load(name: str) -> Any:
    """The class `name`. Raises _Unreadable."""
    module, _, attribute = name.rpartition(".")
    try:
        __import__(module)
        return getattr(sys.modules[module], attribute)
    except ImportError as error:
        raise _Unreadable(NO_BACKEND, f"{name} cannot be loaded: {error}") from None
    except AttributeError:
        raise _Unreadable(NO_BACKEND, f"there is no class {attribute} in {module}") from None


def _reader(backend: Any) -> Any:
    """An instance that never prompts, for the backends known to do so."""
    from keyring.backends import SecretService, kwallet

    if isinstance(backend, type) and issubclass(backend, SecretService.Keyring):
        return _secret_service(backend)
    if isinstance(backend, type) and issubclass(backend, kwallet.DBusKeyring):
        return _kwallet(backend)
    return backend()


def _secret_service(backend: Any) -> Any:
    """org.freedesktop.secrets: the default collection if it is there and unlocked, and nothing that would ask a person.

    https://specifications.freedesktop.org/secret-service/: Unlock and CreateCollection return a prompt to be shown.
    """
    from keyring.errors import KeyringLocked

    try:
        import secretstorage
    except ImportError as error:
        raise _Unreadable(NO_BACKEND, f"SecretStorage cannot be loaded: {error}") from None

    def collection(_self: Any) -> Any:
        address = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
        try:
            bus = secretstorage.dbus_init()
        except (secretstorage.SecretStorageException, OSError):
            raise _Unreadable(NO_SERVICE, f"no session bus at {address}") from None
        try:
            if not secretstorage.check_service_availability(bus):
                raise _Unreadable(NO_SERVICE, f"no Secret Service on the session bus at {address}")
            found = secretstorage.Collection(bus)
        except secretstorage.ItemNotFoundException:
            raise _Unreadable(NO_ENTRY, "the Secret Service has no default collection") from None
        if found.is_locked():
            raise _Unreadable(LOCKED, "the keyring is locked")
        return found

    def unlock(_self: Any, item: Any) -> None:
        if item.is_locked():
            raise KeyringLocked("the entry is locked")

    return type("Keyring", (backend,), {"get_preferred_collection": collection, "unlock": unlock})()


def _kwallet(backend: Any) -> Any:
    """KWallet: `open` shows a dialogue unless the wallet is open already, so that is asked first."""
    try:
        import dbus  # type: ignore[import-not-found, unused-ignore]  # from the distribution, where KDE is
    except ImportError as error:
        raise _Unreadable(NO_BACKEND, f"dbus-python cannot be loaded: {error}") from None
    from dma_runtime.keyrings import APPLICATION

    reader = backend()
    reader.appid = APPLICATION
    try:
        bus = dbus.SessionBus()
        if not bus.name_has_owner(reader.bus_name):
            raise _Unreadable(NO_SERVICE, "KWallet is not running")
        wallet = dbus.Interface(bus.get_object(reader.bus_name, reader.object_path), "org.kde.KWallet")
        if not wallet.isOpen(wallet.networkWallet()):
            raise _Unreadable(LOCKED, "the wallet is closed")
    except dbus.DBusException as error:
        raise _Unreadable(NO_SERVICE, f"KWallet: {error.get_dbus_message()}") from None
    return reader
