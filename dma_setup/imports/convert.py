"""From another program's settings to a recipe, its answers, and what no recipe knows: further relays by sender."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import Any

from dma_runtime.secret import Secret
from dma_setup import recipe as recipes
from dma_setup import view as views
from dma_setup.imports import cdma, esmtp, exim, msmtp, nullmailer, postfix, ssmtp
from dma_setup.imports.found import Account, Files, Imported, ImportProblem, content
from dma_setup.question import Question, Refused
from dma_setup.recipe import Recipe
from dma_setup.secret import TYPED, SecretAnswer
from dma_setup.system import System
from dma_setup.verbs import login, secret, settings
from dma_setup.view import View

READERS = {
    "msmtp": msmtp,
    "ssmtp": ssmtp,
    "nullmailer": nullmailer,
    "esmtp": esmtp,
    "postfix": postfix,
    "exim": exim,
    "dma": cdma,
}
# Where they usually lie.
USUAL = (
    *("~/.msmtprc", "~/.config/msmtp/config", "/etc/msmtprc", "/etc/ssmtp/ssmtp.conf", "/etc/nullmailer/remotes"),
    *("~/.esmtprc", "/etc/esmtprc", "/etc/postfix/main.cf", "/etc/exim4/update-exim4.conf.conf", "/etc/dma/dma.conf"),
)
# Files that only go with another one.
BESIDE = (
    *("revaliases", "sasl_passwd", "generic", "passwd.client", "auth.conf", "email-addresses"),
    *("me", "adminaddr", "allmailfrom", "defaultdomain", "defaulthost"),
)


def read(paths: list[str], program: str = "") -> Imported:
    """What the files say. `program`: whose they are; "" = by their names. Raises ImportProblem."""
    for path in paths:
        if not os.path.exists(path):
            raise ImportProblem(f"{path}: there is no such file")
    files = Files(paths)
    whose = program or _whose(files)
    reader: Callable[[Files], Imported] = READERS[whose].read
    return reader(files)


def _whose(files: Files) -> str:
    if "config" in files.paths and os.path.basename(os.path.dirname(os.path.abspath(files.paths["config"]))) == "msmtp":
        return "msmtp"
    found = [name for name, reader in READERS.items() if any(known in files.paths for known in reader.NAMES)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(name for name in files.paths if name not in BESIDE) or ", ".join(files.paths)
    says = "belong to several programs" if found else "is no name that is known"
    raise ImportProblem(f"{names}: {says}; say whose with --from {'|'.join(READERS)}")


def answers(found: Imported) -> tuple[Recipe, dict[str, Any]]:
    """The recipe that does the same, with further keys of dma.conf, and its answers."""
    keys: dict[str, Any] = dict(found.settings)
    values: dict[str, Any] = {"root_mail": _address("recipient", found.root_mail, found)}
    main = found.accounts[0] if found.accounts else None
    sender = main.sender if main is not None else ""
    if not sender and "@" in keys.get("MASQUERADE", "").strip("@"):
        sender = keys.pop("MASQUERADE")
    values["sender"] = _address("address", sender, found)
    if main is None:
        if found.local_only:
            del values["sender"]
        return recipes.with_settings(recipes.read("local" if found.local_only else "direct"), keys), values
    values |= {"host": main.host, "port": main.port, "login": main.login}
    if main.secret is not None:
        values["password"] = main.secret
    elif main.command:
        values["password"] = {"command": main.command}
    if found.null_client and (domain := _domain(keys)):
        del keys["MAILNAME"]
        values["domain"] = domain
        return recipes.with_settings(recipes.read("satellite"), keys), values
    if found.null_client:
        keys["NULLCLIENT"] = True
    values |= {"tls": main.usual_tls(), "fingerprint": main.fingerprint}
    return recipes.with_settings(recipes.read("smarthost"), keys), values


def _domain(keys: dict[str, Any]) -> str:
    """The domain that MAILNAME is, or that stands in the file it names; "" when there is none."""
    named = str(keys.get("MAILNAME", ""))
    if named.startswith("/"):
        try:
            named = content(named).split("\n", 1)[0].strip()
        except ImportProblem:
            return ""
    return named


def _address(kind: str, text: str, found: Imported) -> str:
    """An address as the recipe takes it; what it does not take is a note."""
    try:
        return Question("", kind, "", optional=True).accept(text)
    except Refused as refused:
        found.note(f"{text} {refused}; it is left out")
        return ""


def relays(found: Imported, system: System, view: View) -> None:
    """Plan the accounts behind the first: their logins in auth.conf, their senders in RELAYMAP."""
    lines = []
    for account in found.accounts[1:]:
        if account.login:
            _login(account, system, view)
        if account.fingerprint:
            view.note(f"{account.host}: a pinned certificate is for the first relay only; this one is verified by name")
        lines.append(f"{account.pattern} {account.where} {account.login}".rstrip())
    if not lines:
        return
    path = view.place.config + "/relays"
    text = "# Which sender's mail goes by which relay: PATTERN RELAY [LOGIN]\n" + "".join(line + "\n" for line in lines)
    view.add(view.path_change(path, views.file(text, 0o600 if view.place.is_user else 0o644), "relays of further senders"))
    for change in settings.plan({"path": view.place.dma_conf, "keys": {"RELAYMAP": path}}, view):
        view.add(change)


def _login(account: Account, system: System, view: View) -> None:
    found = account.secret
    if found is None and account.command:
        said = system.run(shlex.split(account.command), seconds=10)
        found = Secret(said.output.split("\n", 1)[0]) if said.status == 0 and said.output.strip() else None
    if found is None:
        view.note(f"there is no password for {account.login} at {account.host}; its mail waits until auth.conf has one")
        return
    before, kept = view.secret, view.answers
    keyring = kept.get("keyring", "")
    view.secret = SecretAnswer(TYPED, "", found)
    view.answers = {**kept, "keyring": keyring if keyring not in ("", secret.AS_REFERENCE) else secret.IN_FILE}
    try:
        where = {"keyring": view.answers["keyring"], "service": f"dma:{account.host}", "user": account.login}
        for change in secret.plan(where, view):
            view.add(change)
        for change in login.plan({"path": view.place.auth_conf, "host": account.host, "user": account.login}, view):
            view.add(change)
    finally:
        view.secret, view.answers = before, kept
