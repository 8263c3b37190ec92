"""nullmailer's directory: remotes, me, defaulthost, defaultdomain, adminaddr, allmailfrom and the times of its queue
(nullmailer-send(8), nullmailer-inject(1), nullmailer-queue(8)).

Several remotes are tried in turn there; here the first is the relay, and those without a login follow as FALLBACK.
"""

from __future__ import annotations

import shlex

from dma_runtime.secret import Secret
from dma_setup.imports.found import MAILNAME, Account, Files, Imported, ImportProblem, settings
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
    found.settings["MAILNAME"] = _mail_name(files)
    _times(files, found)
    found.root_mail = _line(files, "adminaddr").partition(",")[0].strip()
    if found.root_mail:
        found.note("adminaddr was for every local name; here it is for root, and other names have their own mailbox or alias")
    found.accounts[0].sender = _line(files, "allmailfrom")
    for unknown in ("sendtimeout", "helohost", "idhost", "doublebounceto", "bounceto"):
        if value := _line(files, unknown):
            found.note(f"{unknown} {value}: is not carried over")
    return found


def _mail_name(files: Files) -> str:
    """nullmailer-inject(1): `defaulthost`, made whole by `defaultdomain` when it has no dot; Debian's /etc/mailname else."""
    name = _line(files, "defaulthost") or _line(files, "me")
    if not name:
        return MAILNAME
    return name if "." in name else f"{name}.{_line(files, 'defaultdomain')}".rstrip(".")


def _times(files: Files, found: Imported) -> None:
    """Seconds, nullmailer-send(8)."""
    lifetime, first, longest = (_line(files, name) for name in ("queuelifetime", "pausetime", "maxpause"))
    if lifetime.isdecimal() and int(lifetime):
        found.settings["EXPIRE"] = f"{lifetime}s"
    if (first or longest) and first != "0":
        found.settings["RETRY"] = f"{first or '60'}s {longest or '86400'}s"


def _line(files: Files, name: str) -> str:
    return next((line for _, line in settings(files.text(name) or "")), "")


def _remote(number: int, line: str, found: Imported) -> Account:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ImportProblem(f"remotes:{number}: {error}") from None
    made = Account(words[0].strip("[]"))
    protocol, given = ("smtp", words[1:]) if len(words) == 1 or _is_option(words[1]) else (words[1], words[2:])
    if protocol != "smtp":
        found.note(f"remotes: protocol {protocol} is not known here; SMTP is used")
    # "The options may optionally be prefixed by -- but this is not required."
    options = {word.lstrip("-").partition("=")[0]: word.partition("=")[2] for word in given}
    made.login = options.pop("user", "")
    if "pass" in options:
        made.secret = Secret(options.pop("pass"))
    made.port = options.pop("port", "")
    if "ssl" in options or "tls" in options:
        made.tls = IMPLICIT
    elif "starttls" in options:
        made.tls = STARTTLS
    elif made.port != "465":
        made.tls = "none"
    made.port = made.port or {IMPLICIT: "465", STARTTLS: "587" if made.login else "25"}.get(made.tls, "25")
    for name in options:
        if name not in ("user", "pass", "port", "ssl", "tls", "starttls", "auth-login"):
            found.note(f"remotes: --{name} is not carried over" + ("; the certificate is verified" if name == "insecure" else ""))
    return made


def _is_option(word: str) -> bool:
    return word.startswith("-") or "=" in word or word in ("ssl", "tls", "starttls", "insecure", "auth-login")
