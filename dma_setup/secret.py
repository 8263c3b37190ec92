"""Where an answer's secret comes from.

In an answers file a secret is a reference: `{env: NAME}`, `{file: PATH}`, `{command: WORDS}`, `{credential: NAME}`,
`{stdin: true}`, `{keyring: true}` (already stored; read when it is known where). A plain text is taken with a warning.
A `file` or `command` answer can stay a reference in auth.conf, so both keep what they point to.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dma_runtime.secret import Secret
from dma_runtime.system.trust import distrust
from dma_setup import vault
from dma_setup.question import Question, Refused
from dma_setup.system import System

TYPED = "typed"
PLAIN = "plain"
VAULT = "vault"
KEYRING = "keyring"
KINDS = ("env", "file", "command", "credential", "stdin", KEYRING)
LARGEST = 4096


@dataclass(frozen=True)
class SecretAnswer:
    """`kind`: one of KINDS, PLAIN or TYPED. `detail`: the path or the words. `secret`: None while it is in a keyring."""

    kind: str
    detail: str
    secret: Secret | None

    def found(self, secret: Secret) -> SecretAnswer:
        return replace(self, secret=secret)


class Sources:
    """What references may refer to: the environment, the folder of the answers file, standard input.

    `path`: the answers file, "" for none or standard input. Root runs a command only out of a file that is root's alone.
    """

    def __init__(
        self, environ: Mapping[str, str], folder: str, *, stdin_is_taken: bool, system: System, path: str = ""
    ) -> None:
        self._path = path
        self._environ = environ
        self._folder = folder
        self._stdin_is_taken = stdin_is_taken
        self._system = system

    def read(self, question: Question, given: Any) -> SecretAnswer:
        """The secret that `given` refers to. Raises Refused; no text of it shows a secret."""
        if isinstance(given, Secret):  # taken over from another program, not from an answers file
            return SecretAnswer(TYPED, "", clean(question, given.reveal()))
        if isinstance(given, str):
            if vault.is_one(given):
                return SecretAnswer(VAULT, "", clean(question, vault.read(given, self._environ)))
            return SecretAnswer(PLAIN, "", clean(question, given))
        if not isinstance(given, dict) or len(given) != 1:
            raise Refused("must be a reference such as {env: NAME}, {file: PATH}, {command: WORDS} or {stdin: true}")
        ((kind, value),) = given.items()
        if kind not in KINDS:
            raise Refused(f"has an unknown reference {kind}; known are {', '.join(KINDS)}")
        if kind == KEYRING or kind == "stdin":
            if value is not True:
                raise Refused(f"must be {{{kind}: true}}")
            if kind == KEYRING:
                return SecretAnswer(KEYRING, "", None)
            if self._stdin_is_taken:
                raise Refused("cannot come from standard input: the answers do")
            return SecretAnswer("stdin", "", clean(question, sys.stdin.readline(LARGEST + 1)))
        if isinstance(value, list) and kind == "command" and all(isinstance(word, str) for word in value):
            value = shlex.join(value)
        if not isinstance(value, str) or not value:
            raise Refused(f"{kind}: needs text")
        detail, text = getattr(self, "_" + kind)(value)
        return SecretAnswer(kind, detail, clean(question, text))

    def _env(self, name: str) -> tuple[str, str]:
        if name not in self._environ:
            raise Refused(f"refers to the environment variable {name}, which is not set (sudo does not pass it on by default)")
        self._system.hide(name)
        return name, self._environ[name]

    def _file(self, path: str) -> tuple[str, str]:
        full = os.path.normpath(os.path.join(self._folder, os.path.expanduser(path)))
        try:
            fd = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    raise Refused(f"refers to {full}, which is not a file")
                if found.st_mode & 0o077:
                    raise Refused(f"refers to {full}, which others can read; mend it with: chmod 600 {shlex.quote(full)}")
                text = os.read(fd, LARGEST + 1).decode("utf-8", "replace")
            finally:
                os.close(fd)
        except OSError as error:
            raise Refused(f"refers to {full}: {error.strerror}") from None
        return full, text.split("\n", 1)[0].removesuffix("\r")

    def _credential(self, name: str) -> tuple[str, str]:
        folder = self._environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise Refused("refers to a credential, but CREDENTIALS_DIRECTORY is not set")
        if "/" in name:
            raise Refused("must name a credential without a slash")
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                return name, file.read(LARGEST + 1).split("\n", 1)[0].removesuffix("\r")
        except OSError as error:
            raise Refused(f"refers to the credential {name}: {error.strerror}") from None

    def _command(self, words: str) -> tuple[str, str]:
        try:
            split = shlex.split(words)
        except ValueError as error:
            raise Refused(f"has a command that cannot be split into words: {error}") from None
        if not split or not split[0].startswith("/"):
            raise Refused("must name its command by an absolute path")
        if os.geteuid() == 0 and self._path and (why := distrust(os.path.abspath(self._path), 0)):
            raise Refused(f"has a command, and root runs none out of this file: {why}")
        done = self._system.run(split, seconds=10)
        if done.status != 0 or not done.output.strip():
            raise Refused(f"refers to a command that gave nothing (status {done.status})")
        return words, done.output.split("\n", 1)[0].removesuffix("\r")


def clean(question: Question, text: str) -> Secret:
    """A secret as it is kept: one line, and without any blank where the provider only shows it in groups. Raises Refused."""
    text = text.rstrip("\r\n")
    if question.strip == "blanks":
        text = "".join(text.split())
    if not text:
        raise Refused("is empty")
    if len(text) > LARGEST:
        raise Refused(f"is longer than {LARGEST} characters")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise Refused("holds a control character")
    return Secret(text)
