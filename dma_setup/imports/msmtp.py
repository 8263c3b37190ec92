"""msmtp's msmtprc, a person's or the system's (msmtp 1.8 manual, "Configuration files").

`account default` is the ordinary one, else the first; the others become lines of RELAYMAP by their `from`.
"""

from __future__ import annotations

import netrc
import os
import re
import shlex
import shutil

from dma_runtime.secret import Secret
from dma_setup.imports.found import Account, Files, Imported, ImportProblem, content, settings
from dma_setup.relay import IMPLICIT, STARTTLS
from dma_setup.system import System

NAMES = ("msmtprc", ".msmtprc")
_HANDLED = ("host", "port", "from", "auth", "user", "password", "passwordeval", "tls", "tls_starttls", "tls_fingerprint")
_WITHOUT_EFFECT = ("logfile", "syslog", "tls_trust_file", "protocol", "timeout", "auto_from", "undisclosed_recipients")

Keys = dict[str, str]


def read(files: Files) -> Imported:
    path = next((files.paths[name] for name in NAMES if name in files.paths), files.first)
    found = Imported("msmtp")
    accounts = _accounts(content(path), path)
    if not accounts:
        raise ImportProblem(f"{path}: there is no account in it")
    default = "default" if "default" in accounts else next(iter(accounts))
    main = _account(accounts[default], found)
    if main is None:
        raise ImportProblem(f"{path}: account {default} has no host")
    found.accounts.append(main)
    for name, keys in accounts.items():
        other = _account(keys, found) if name != default else None
        if other is None or (other.host, other.login, other.sender) == (main.host, main.login, main.sender):
            continue
        if not other.sender:
            found.note(f"account {name} has no `from`, so no sender can choose it; it is left out")
            continue
        other.pattern = "@" + other.sender.removeprefix("*@") if other.sender.startswith("*@") else other.sender
        found.accounts.append(other)
    for keys in accounts.values():
        _leftovers(keys, found)
    return found


def _accounts(text: str, path: str) -> dict[str, Keys]:
    accounts: dict[str, Keys] = {}
    defaults: Keys = {}
    into: Keys = defaults
    for number, line in settings(text):
        key, _, value = line.partition(" ") if " " in line else line.partition("\t")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if key == "defaults":
            into = defaults
        elif key == "account":
            name, _, bases = value.partition(":")
            into = dict(defaults)
            for base in filter(None, (one.strip() for one in bases.split(","))):
                if base not in accounts:
                    raise ImportProblem(f"{path}:{number}: there is no account {base} above")
                into.update(accounts[base])
            accounts[name.strip()] = into
        else:
            into[key] = value
    return accounts


def _account(keys: Keys, found: Imported) -> Account | None:
    if not keys.get("host"):
        return None
    tls = "none"
    if keys.get("tls", "off") == "on":
        tls = STARTTLS if keys.get("tls_starttls", "on") == "on" else IMPLICIT
    port = keys.get("port") or {IMPLICIT: "465", STARTTLS: "587" if keys.get("auth", "off") != "off" else "25"}.get(tls, "25")
    made = Account(keys["host"], port, tls, sender=keys.get("from", ""))
    if whole := re.fullmatch(r"%U@([^%@]+)", made.sender):
        found.settings.setdefault("MASQUERADE", whole[1])  # the login stays, the domain is that one
        made.sender = ""
    elif "%" in made.sender:
        found.note(f"from {made.sender}: dma makes such senders itself, of login and MAILNAME")
        made.sender = ""
    if keys.get("auth", "off") != "off":
        made.login = keys.get("user", "")
        if keys.get("password"):
            made.secret = Secret(keys["password"])
        elif keys.get("passwordeval"):
            made.command = _command(keys["passwordeval"], found)
        elif made.login:
            made.secret = elsewhere(made.host, made.login)
            if made.secret is None:
                found.note(f"the password of {made.login} at {made.host} is neither in the keyring nor in ~/.netrc: give it anew")
        if tls == "none":
            found.note(f"{made.host} was used with a password but without TLS; dma uses STARTTLS, or sends nothing")
    fingerprint = keys.get("tls_fingerprint", "").replace(":", "")
    if len(fingerprint) == 64:
        made.fingerprint = fingerprint
    elif fingerprint:
        found.note("tls_fingerprint is not SHA-256; the certificate is verified by name instead")
    if keys.get("tls_certcheck") == "off":
        found.note("tls_certcheck off: dma verifies the certificate; pin it with the answer `fingerprint` if nobody vouches for it")
    return made


def elsewhere(host: str, login: str) -> Secret | None:
    """A password that is not in the file, where msmtp looks then: the Secret Service and ~/.netrc (manual, "Authentication")."""
    tool = shutil.which("secret-tool")
    if tool is not None:
        said = System().run([tool, "lookup", "host", host, "service", "smtp", "user", login], seconds=5)
        if said.status == 0 and said.output.strip():
            return Secret(said.output.split("\n", 1)[0])
    try:
        entry = netrc.netrc(os.path.expanduser("~/.netrc")).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return Secret(entry[2]) if entry is not None and entry[0] == login and entry[2] else None


def _command(words: str, found: Imported) -> str:
    """passwordeval is a shell line; ours are words, the first an absolute path."""
    try:
        split = shlex.split(words)
    except ValueError:
        split = []
    split = [os.path.expanduser(word) if word.startswith("~/") else word for word in split]  # the shell did that
    program = shutil.which(split[0]) if split else None
    if program is None or any(c in words for c in "|;&<>`$(*"):
        found.note(f"passwordeval needs a shell or a program that is not here; give the password anew: {words}")
        return ""
    return shlex.join([program, *split[1:]])


def _leftovers(keys: Keys, found: Imported) -> None:
    for key, value in keys.items():
        if key in (*_HANDLED, *_WITHOUT_EFFECT, "tls_certcheck"):
            continue
        if key == "aliases":
            found.note(f"aliases {value}: copy its lines to dma's aliases; a `default:` line is not understood")
        elif key == "set_from_header" and value == "on":
            found.note("set_from_header on: REWRITEFROM in dma.conf does that")
        elif not (key == "set_from_header" and value in ("auto", "off")):
            found.note(f"{key} {value}: is not carried over".replace(" :", ":"))
