"""`secret: {keyring, service, user}`: the password put where `keyring` says, and how auth.conf refers to it there.

secret-service, kwallet, pass   an entry of that keyring        auth.conf: keyring:
systemd-creds                   the machine's credential, and   auth.conf: keyring:
                                the secret reader's line for it
file                            config/secrets/dma.HOST.LOGIN   auth.conf: file:PATH
reference                       nothing is stored               auth.conf: file:PATH or command:WORDS of the answer
"""

from __future__ import annotations

from dataclasses import replace
from secrets import token_hex
from typing import Any

from dma_runtime import keyrings
from dma_runtime.secret import Secret
from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.changes.path import HIDE_ALL
from dma_setup.changes.secret import SecretChange
from dma_setup.errors import SetupError
from dma_setup.place import Place
from dma_setup.stores import MACHINE, NAMES, StoreProblem
from dma_setup.verbs import service
from dma_setup.view import View

IN_FILE = "file"
ACCOUNT = "dma"
AS_REFERENCE = "reference"


def plan(step: dict[str, Any], view: View) -> list[Change]:
    keyring, user = step["keyring"], step["user"]
    host = step["service"].removeprefix("dma:")
    answer = view.secret
    if answer is None or answer.secret is None:
        raise SetupError(f"there is no password for {user} at {host}")
    if keyring == AS_REFERENCE:
        reference(view, host, user)  # refuses what cannot stay one
        return _leftovers(view, keyring, host, user)
    if keyring == IN_FILE:
        return _in_file(view, host, user, answer.secret) + _leftovers(view, keyring, host, user)
    if keyring not in NAMES:
        raise SetupError(f"unknown keyring {keyring}")
    made: list[Change] = [_in_keyring(view, keyring, host, user, answer.secret)]
    if keyring == MACHINE:
        made += service.credential(view, host, user)
        made += service.unreadable_credentials(view, but=keyrings.credential(host, user))
    return made + _leftovers(view, keyring, host, user)


def _in_keyring(view: View, keyring: str, host: str, user: str, secret: Secret | None) -> SecretChange:
    """The entry as it shall be; `secret` None: gone."""
    entry = keyrings.service(host)
    try:
        before = view.stored(keyring, entry, user)
    except StoreProblem as problem:
        if keyring != MACHINE or secret is None:
            raise
        # What a copied machine, another machine-id or a new TPM leaves behind: nobody can read it any more.
        view.note(f"the credential that is there cannot be read and is replaced for good ({problem.text})")
        before = None
    return SecretChange(
        store=keyring,
        service=entry,
        user=user,
        before=before,
        after=secret,
        subject=f"{keyring} {entry}",
        says=f"password for {user} (***)" if secret is not None else f"old copy of the password for {user}",
        kept_as=f"dma-setup:before:{host}:{token_hex(4)}" if before is not None else "",
        last=secret is None,
    )


def _leftovers(view: View, keyring: str, host: str, user: str) -> list[Change]:
    """Copies of the password where it was kept before; they go once the new place is proved."""
    found: list[Change] = []
    path = file_path(view.place, host, user)
    if keyring != IN_FILE and view.entry(path) is not None:
        says = f"old copy of the password for {user}"
        found.append(view.path_change(path, None, says, hides=HIDE_ALL, drains=True, last=True))
    before = str(view.facts.get("keyring_now", ""))
    if before in NAMES and before != keyring:
        try:
            found.append(_in_keyring(view, before, host, user, None))
        except SetupError as problem:
            view.note(f"the old copy of the password stays in {before}: {problem.text}")
    return found


def _in_file(view: View, host: str, user: str, secret: Secret) -> list[Change]:
    path = file_path(view.place, host, user)
    folder = path.rpartition("/")[0]
    if view.place.is_user:
        directory, wanted = views.directory(0o700), views.file(secret.reveal() + "\n", 0o600)
    else:
        gid = view.account(ACCOUNT)[1]  # the daemon reads it
        directory = replace(views.directory(0o750), uid=0, gid=gid)
        wanted = replace(views.file(secret.reveal() + "\n", 0o640), uid=0, gid=gid)
    made: list[Change] = [view.path_change(folder, directory, "passwords, one a file", drains=True)]
    view.add(made[0])
    made.append(view.path_change(path, wanted, f"password for {user} (***)", hides=HIDE_ALL, drains=True))
    return made


def file_path(place: Place, host: str, user: str) -> str:
    return f"{place.config}/secrets/{keyrings.credential(host, user)}"


def reference(view: View, host: str, user: str) -> str:
    """How auth.conf refers to the password."""
    keyring = view.answers.get("keyring", "")
    if keyring == IN_FILE:
        return "file:" + file_path(view.place, host, user)
    if keyring != AS_REFERENCE:
        return "keyring:"
    answer = view.secret
    if answer is None or answer.kind not in ("file", "command"):
        raise SetupError(f"keyring: {AS_REFERENCE} needs a {{file: …}} or {{command: …}} for the password")
    if answer.kind == "file" and view.place.root:
        return "file:" + answer.detail.removeprefix(view.place.root)
    return f"{answer.kind}:{answer.detail}"
