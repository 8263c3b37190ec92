"""`pass`, the standard Unix password manager, as a keyring backend.

The entry of (dma:HOST, login) is `dma/HOST/LOGIN`; the password is its first line, as pass(1) recommends; what a person
wrote below that line is kept when the password is replaced.
Nothing is ever asked: gpg runs with `--pinentry-mode error`, so a key whose passphrase the agent does not hold is
reported as locked. Never chosen by keyring's own detection (priority below zero); dma.conf names it.

Known limits: only the default store of the user (~/.password-store), because the owner of the queue does not know
a PASSWORD_STORE_DIR that is set in somebody's shell.
"""

from __future__ import annotations

import os
import subprocess

from keyring.backend import KeyringBackend
from keyring.compat import properties
from keyring.errors import InitError, KeyringLocked, PasswordDeleteError, PasswordSetError

GPG = "--batch --pinentry-mode error"


class Keyring(KeyringBackend):
    """Entries of pass(1). Methods raise the errors of keyring.errors, one line each."""

    @properties.classproperty
    def priority(cls) -> float:  # a class property  # noqa: N805  # a class property
        return -0.5

    def get_password(self, service: str, username: str) -> str | None:
        text = self._show(_entry(service, username))
        return None if text is None else text.split("\n", 1)[0]

    def set_password(self, service: str, username: str, password: str) -> None:
        if "\n" in password or "\r" in password:
            raise PasswordSetError("a password kept by pass is one line")
        entry = _entry(service, username)
        before = self._show(entry)
        below = before.split("\n", 1)[1] if before is not None and "\n" in before else ""
        done = _run(["insert", "--multiline", "--force", entry], f"{password}\n{below}")
        if done.returncode:
            raise PasswordSetError(_reason(done))

    def delete_password(self, service: str, username: str) -> None:
        done = _run(["rm", "--force", _entry(service, username)])
        if done.returncode:
            raise PasswordDeleteError(_reason(done))

    def _show(self, entry: str) -> str | None:
        done = _run(["show", entry])
        if done.returncode == 0:
            return done.stdout
        if "is not in the password store" in done.stderr:
            return None
        if "No secret key" in done.stderr:  # with the --quiet that pass adds, gpg says the same for both
            raise KeyringLocked("the key of the password store is locked (gpg's agent does not hold its passphrase) or gone")
        raise InitError(_reason(done))


def _entry(service: str, username: str) -> str:
    host = service.removeprefix("dma:")
    if not host or not username or "/" in host or "/" in username or host.startswith(".") or username in (".", ".."):
        raise InitError("pass cannot keep an entry of that name")
    return f"dma/{host}/{username}"


def _run(words: list[str], feed: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PASSWORD_STORE_GPG_OPTS": GPG, "LC_ALL": "C.UTF-8"}
    environment.pop("GPG_TTY", None)
    try:
        return subprocess.run(
            ["pass", *words],
            input=feed,
            capture_output=True,
            env=environment,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError:
        raise InitError("the program pass is not installed") from None


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"pass ended with status {done.returncode}"
