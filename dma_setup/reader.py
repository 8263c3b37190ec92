"""The password as delivery will read it: by the account that delivers, with the environment it has then.

User mode: this person, and nothing of this session's environment. System mode: a child that is the account `dma`, without
any environment, running the installed library: so what only root can read, or only the caller's shell can find, is not
taken for a password that delivery has. Below --root nothing of the image is run: the file's owner and mode say who will read it.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shlex

from dma_runtime.authconf import CREDENTIAL, Login
from dma_runtime.authconf import FILE as FILE_REFERENCE
from dma_runtime.config import Config
from dma_runtime.secret import Secret
from dma_setup.changes import account as accounts
from dma_setup.errors import SetupError
from dma_setup.place import Place
from dma_setup.system import FILE, System

ACCOUNT = "dma"
SECONDS = 20

# What the child runs: `-c BOOT LIBRARY DMA_CONF HOST PORT`; prints {"secret": …} or {"text": …, "hint": …}.
_BOOT = """\
import sys
sys.path.insert(0, sys.argv[1])
import asyncio, json
from dma_runtime import authconf, config
from dma_runtime.errors import DmaError
from dma_runtime.system import secrets
try:
    settings = config.load(sys.argv[2])
    settings.system = True
    path = settings.AUTHPATH or ""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError as error:
        raise DmaError(f"{path}: {error.strerror}", 1)
    login = authconf.parse(text, path).find(sys.argv[3], int(sys.argv[4]))
    if login is None:
        raise DmaError(f"{path}: no line for {sys.argv[3]}", 1)
    said = {"secret": asyncio.run(secrets.read(login, settings)).reveal()}
except DmaError as error:
    said = {"text": error.text, "hint": getattr(error, "hint", "")}
print(json.dumps(said))
"""


def read(place: Place, system: System, config: Config, login: Login) -> Secret:
    """Raises SetupError, with what to do in its details."""
    if place.is_live and not place.is_user and os.geteuid() == 0:
        found = library(place, system)
        if found is not None:
            return _as_the_account(place, system, login, found)
    if not place.is_live and not place.is_user and login.reference.kind == FILE_REFERENCE:
        return _in_the_image(place, system, login.reference.value.reveal())
    return _here(config, login)


def _in_the_image(place: Place, system: System, path: str) -> Secret:
    """A file that the image's own account may read, and nobody else but root. `path` lies in the image already."""
    entry = system.look(path)
    if entry is None or entry.kind != FILE:
        raise SetupError(f"{path}: {'no such file' if entry is None else 'not a regular file'}")
    passwd = system.look(place.at("/etc/passwd", follow=True))
    text = passwd.content.decode("utf-8", "surrogateescape") if passwd is not None else ""
    account = accounts.find(text, ACCOUNT).split(":")
    if len(account) < 4:
        raise SetupError(f"there is no account {ACCOUNT} in the image, by which mail is delivered; run the recipe again")
    uid, gid = account[2:4]
    mend = f"  chown 0:{gid} {shlex.quote(path)} && chmod 640 {shlex.quote(path)}"
    if entry.mode & 0o027:
        raise SetupError(f"{path} can be read or changed by others (mode {entry.mode:04o})", details=[mend])
    is_his = (str(entry.gid) == gid and entry.mode & 0o040) or str(entry.uid) == uid
    if os.geteuid() == 0 and not is_his:  # where somebody else made the image, all its files are his
        raise SetupError(f"{path} cannot be read by {ACCOUNT} (mode {entry.mode:04o}, group {entry.gid})", details=[mend])
    line = entry.content.split(b"\n", 1)[0].removesuffix(b"\r")
    if not line:
        raise SetupError(f"{path}: empty")
    return Secret(line.decode("utf-8", "surrogateescape"))


def _here(config: Config, login: Login) -> Secret:
    from dma_runtime.system import secrets

    # Only a service has credentials, and only it knows where they are.
    kept = ("CREDENTIALS_DIRECTORY",) if login.reference.kind == CREDENTIAL else ()
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    try:
        return asyncio.run(secrets.read(login, config, environ=environ))
    except secrets.SecretUnreadable as problem:
        raise SetupError(problem.text, details=[f"  {problem.hint}"]) from None


def _as_the_account(place: Place, system: System, login: Login, library: tuple[str, str]) -> Secret:
    try:
        account = pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise SetupError(f"there is no account {ACCOUNT}, by which mail is delivered; run the recipe again") from None
    python, folder = library
    words = [python, "-IS", "-c", _BOOT, folder, place.dma_conf, login.host, str(login.port)]
    done = system.run_as(account.pw_uid, account.pw_gid, words, SECONDS)
    try:
        said = json.loads(done.output)
    except ValueError:
        reason = done.errors.strip().splitlines()[-1:] or [f"status {done.status}"]
        raise SetupError(f"the password could not be read as {ACCOUNT}: {reason[0]}") from None
    if "secret" in said:
        return Secret(str(said["secret"]))
    hint = f"  {said['hint']}" if said["hint"] else ""
    raise SetupError(f"{said['text']} (read as {ACCOUNT})", details=[hint] if hint else [])


def library(place: Place, system: System) -> tuple[str, str] | None:
    """(interpreter, library) of the installed launcher; None when it is not there."""
    entry = system.look(place.launcher)
    return of_launcher(entry.content) if entry is not None and entry.kind == FILE else None


def of_launcher(content: bytes) -> tuple[str, str]:
    """(interpreter, library) that a launcher's text names."""
    text = content.decode("utf-8", "replace")
    python = text.partition("\n")[0].removeprefix("#!").split(" ")[0]
    inserted = text.partition("sys.path.insert(0, ")[2].partition(")\n")[0]
    return python, inserted.strip('"')
