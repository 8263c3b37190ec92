"""The keyrings that setup writes to: Secret Service, KWallet, pass, and the machine's credentials, as KEYRING names them.

Every operation runs in a child with a deadline (see `keyring_child`) and with the environment that the reader at
delivery time has, not the caller's: HOME from the passwd entry, the session bus at its usual place.
"""

from __future__ import annotations

import os
import sys

from dma_runtime import keyrings
from dma_runtime.secret import Secret
from dma_runtime.system.account import Identity
from dma_setup import resources
from dma_setup.errors import SetupError
from dma_setup.system import Ran, System

MACHINE = "systemd-creds"  # system mode
NAMES = ("secret-service", "kwallet", "pass", MACHINE)
BY_NAME = "credential:"  # dma_runtime.keyring_backend has it too; importing that here would cost the keyring library
SECONDS = 10


class StoreProblem(SetupError):
    """A keyring cannot be used: missing, locked, no session bus."""


def environment() -> dict[str, str]:
    """What the reader at delivery time will have (hard-parts.md, Secrets), and where our own modules are."""
    return {**Identity.of(os.getuid()).environment(os.environ), "PYTHONPATH": resources.library()}


class Stores:
    def __init__(self, system: System) -> None:
        self._system = system

    def get(self, store: str, service: str, user: str) -> Secret | None:
        """The entry, None when there is none. Raises StoreProblem."""
        done = self._do("get", store, service, user)
        return Secret(done.output) if done.status == 0 else None

    def unreadable(self, name: str) -> str:
        """Why the machine's credential NAME cannot be read; "" when it can."""
        try:
            return "" if self.get(MACHINE, BY_NAME, name) is not None else "it is not there"
        except StoreProblem as problem:
            return problem.text

    def set(self, store: str, service: str, user: str, secret: Secret) -> None:
        self._do("set", store, service, user, secret.reveal())

    def delete(self, store: str, service: str, user: str) -> None:
        self._do("delete", store, service, user)

    def prove(self, store: str) -> None:
        """Raises StoreProblem unless an entry can be stored, read and deleted."""
        self._do("prove", store, "dma-setup:proof", "proof")

    def _do(self, operation: str, store: str, service: str, user: str, given: str = "") -> Ran:
        try:
            name = keyrings.backend(store)
        except ValueError as error:
            raise StoreProblem(f"unknown keyring {store}; there are {error}") from None
        # -P: with -m Python would look for modules in the current directory first, and that may be anybody's (/tmp).
        words = [sys.executable, "-P", "-m", "dma_setup.keyring_child", operation, name, service, user]
        done = self._system.run(words, given, SECONDS, environment())
        absent = done.status == 1 and operation in ("get", "delete") and not done.errors.strip()
        if done.status != 0 and not absent:  # 1 is also how Python ends when a library cannot be loaded
            reason = done.errors.strip().splitlines()[-1] if done.errors.strip() else f"status {done.status}"
            raise StoreProblem(f"{store}: {reason}")
        return done
