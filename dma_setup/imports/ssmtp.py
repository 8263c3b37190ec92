"""ssmtp's ssmtp.conf, with revaliases beside it (ssmtp.conf(5))."""

from __future__ import annotations

from dma_runtime.secret import Secret
from dma_setup.imports.found import Account, Files, Imported, ImportProblem, content, host_port, settings
from dma_setup.relay import IMPLICIT, STARTTLS

NAMES = ("ssmtp.conf",)
_HANDLED = ("mailhub", "root", "rewritedomain", "hostname", "fromlineoverride", "usetls", "usestarttls", "authuser", "authpass")
_WITHOUT_EFFECT = ("debug", "authmethod", "tls_ca_file", "tls_ca_dir", "minuserid")


def read(files: Files) -> Imported:
    path = files.paths.get(NAMES[0], files.first)
    found = Imported("ssmtp")
    keys: dict[str, str] = {}
    for _, line in settings(content(path)):
        name, equals, value = line.partition("=")
        if equals:
            keys[name.strip().lower()] = value.partition(" #")[0].strip().strip('"')
    if not keys.get("mailhub"):
        raise ImportProblem(f"{path}: there is no mailhub in it")
    host, port = host_port(keys["mailhub"])
    secured, starttls = (keys.get(name, "no").lower() == "yes" for name in ("usetls", "usestarttls"))
    tls = STARTTLS if starttls else IMPLICIT if secured else "none"
    account = Account(host, port or {IMPLICIT: "465", STARTTLS: "587"}.get(tls, "25"), tls, keys.get("authuser", ""))
    if account.login and keys.get("authpass"):
        account.secret = Secret(keys["authpass"])
    found.accounts.append(account)
    found.root_mail = keys.get("root", "").partition(",")[0].strip()
    if found.root_mail == "postmaster":
        found.root_mail = ""  # the sample's value: who that is, only the relay knows
    if found.root_mail:
        found.note("root= had the mail of every system account (uid below 1000); here it is root's, others have their own alias")
    if keys.get("rewritedomain"):
        found.settings["MASQUERADE"] = keys["rewritedomain"]
    if keys.get("hostname"):
        found.settings["MAILNAME"] = keys["hostname"]
    if keys.get("fromlineoverride", "no").lower() != "yes":
        found.note("FromLineOverride=NO: dma keeps the From of a message; REWRITEFROM in dma.conf replaces it")
    for key, value in keys.items():
        if key not in (*_HANDLED, *_WITHOUT_EFFECT):
            found.note(f"{key}={value}: is not carried over")
    _reverse(files.text("revaliases") or "", found)
    return found


def _reverse(text: str, found: Imported) -> None:
    """`login:address[:mailhub]`: who sends as whom. dma has one rule for all, so several stay notes."""
    for _, line in settings(text):
        login, _, address = line.partition(":")
        address, _, hub = address.partition(":")
        found.note(f"revaliases: {login} sends as {address}{' by ' + hub if hub else ''}: set EMAIL={address} for {login}")
