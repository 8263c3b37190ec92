"""nullmailer's directory: remotes, me, defaultdomain, adminaddr, allmailfrom (nullmailer-send(8), nullmailer-queue(8)).

Several remotes are tried in turn there; here the first is the relay, and those without a login follow as FALLBACK.
"""

from __future__ import annotations

import shlex

from dma_runtime.secret import Secret
from dma_setup.imports.found import Account, Files, Imported, ImportProblem, settings
from dma_setup.relay import IMPLICIT, STARTTLS

NAMES = ("remotes", "nullmailer")


def read(files: Files) -> Imported:
    found = Imported("nullmailer")
    remotes = [_remote(number, line, found) for number, line in settings(files.text("remotes") or "")]
    if not remotes:
        raise ImportProblem(f"{files.first}: no remotes are named there")
    found.accounts.append(remotes[0])
    spare = [remote.where for remote in remotes[1:] if not remote.login]
    if spare:
        found.settings["FALLBACK"] = " ".join(spare)
    for remote in remotes[1:]:
        if remote.login:
            found.note(f"remotes: {remote.where} with the login {remote.login}: a second relay with a login is not carried over")
    name = _line(files, "me")
    domain = _line(files, "defaultdomain")
    if domain or name:
        found.settings["MAILNAME"] = domain or name
    found.root_mail = _line(files, "adminaddr").partition(",")[0].strip()
    if found.root_mail:
        found.note("adminaddr was for every local name; here it is for root, and other names have their own mailbox or alias")
    found.accounts[0].sender = _line(files, "allmailfrom")
    for unknown in ("pausetime", "maxpause", "sendtimeout", "helohost", "idhost", "doublebounceto", "bounceto"):
        if value := _line(files, unknown):
            found.note(f"{unknown} {value}: is not carried over")
    return found


def _line(files: Files, name: str) -> str:
    return next((line for _, line in settings(files.text(name) or "")), "")


def _remote(number: int, line: str, found: Imported) -> Account:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ImportProblem(f"remotes:{number}: {error}") from None
    made = Account(words[0])
    options = {word.lstrip("-").partition("=")[0]: word.partition("=")[2] for word in words[1:] if word.startswith("-")}
    for word in words[1:]:
        if not word.startswith("-") and word != "smtp":
            found.note(f"remotes: protocol {word} is not known here; SMTP is used")
    made.login = options.pop("user", "")
    if "pass" in options:
        made.secret = Secret(options.pop("pass"))
    made.port = options.pop("port", "")
    if "ssl" in options:
        made.tls = IMPLICIT
    elif "starttls" in options:
        made.tls = STARTTLS
    elif made.port != "465":
        made.tls = "none"
    made.port = made.port or {IMPLICIT: "465", STARTTLS: "587" if made.login else "25"}.get(made.tls, "25")
    for name in ("insecure", "x509certfile", "x509keyfile", "source"):
        if name in options:
            found.note(f"remotes: --{name} is not carried over" + ("; the certificate is verified" if name == "insecure" else ""))
    return made
