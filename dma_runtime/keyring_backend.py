"""The machine's keyring: a backend of the keyring library over systemd credentials (`system.credentials`), for root.

    KEYRING systemd-creds               in dma.conf
    keyring -b dma_runtime.keyring_backend.Keyring get dma:smtp.example.org alice

The entry of (dma:HOST, login) is the credential `dma.HOST.LOGIN`, which `dma-secret@.service` loads; the entries that
dma-setup keeps for undo have names of their own. (credential:, NAME) is the credential NAME, whatever it is for. Never chosen
by keyring's own detection, and no part of its chain of backends (priority below zero); it is named, or handed to
`keyring.set_keyring`.
"""

from __future__ import annotations

from keyring.backend import KeyringBackend
from keyring.compat import properties
from keyring.errors import KeyringError, PasswordDeleteError, PasswordSetError

from dma_runtime import keyrings
from dma_runtime.system.credentials import DIRECTORY, Store, Unusable

BY_NAME = "credential:"  # the service under which a user is the name of a credential


class Keyring(KeyringBackend):
    """Methods raise the errors of keyring.errors, one line each. `directory` can be set, as keyring's properties are."""

    directory = DIRECTORY

    @properties.classproperty
    def priority(cls) -> float:  # a class property  # noqa: N805  # a class property
        return -0.5

    def get_password(self, service: str, username: str) -> str | None:
        try:
            found = self._store().get(_name(service, username))
        except Unusable as problem:
            raise KeyringError(str(problem)) from None
        return None if found is None else found.decode("utf-8", "surrogateescape")

    def set_password(self, service: str, username: str, password: str) -> None:
        try:
            self._store().set(_name(service, username), password.encode("utf-8", "surrogateescape"))
        except Unusable as problem:
            raise PasswordSetError(str(problem)) from None

    def delete_password(self, service: str, username: str) -> None:
        try:
            found = self._store().delete(_name(service, username))
        except Unusable as problem:
            raise PasswordDeleteError(str(problem)) from None
        if not found:
            raise PasswordDeleteError(f"no entry for user {username} in service {service}")

    def _store(self) -> Store:
        return Store(self.directory)


def _name(service: str, user: str) -> str:
    kind, colon, host = service.partition(":")
    if service == BY_NAME:
        return user
    return keyrings.credential(host, user) if kind == "dma" and colon else keyrings.escaped(f"{service}.{user}")
