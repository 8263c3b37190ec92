"""Who may read and write the files, and whether programs that call `sendmail` reach us."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
from collections.abc import Iterator

from dma_runtime import authconf
from dma_runtime.system import credentials
from dma_runtime.system.trust import distrust
from dma_setup.checkup.finding import FAIL, OK, WARN, Diagnosis, Patient
from dma_setup.facts.mailers import mailer_name
from dma_setup.reader import ACCOUNT, of_launcher
from dma_setup.system import DIRECTORY, FILE, LINK
from dma_setup.verbs.launcher import DOORS
from dma_setup.verbs.library import proof
from dma_setup.verbs.mailer import KNOWN


def permissions(patient: Patient) -> Iterator[Diagnosis]:
    place = patient.place
    bad = False
    private = 0o077 if place.is_user else 0o027
    wanted: list[tuple[str, int, str, str]] = [
        (place.dma_conf, 0o022, "others can change where mail goes", "go-w"),
        (
            patient.config.AUTHPATH or place.auth_conf,
            private,
            "others can read the logins",
            "go-rwx" if place.is_user else "o-rwx,g-wx",
        ),
        (patient.spool.removeprefix(place.root), 0o077, "others can reach the queue", "go-rwx"),
    ]
    folder = place.config + "/secrets"
    inside = [f"{folder}/{name}" for name in patient.system.listing(place.at(folder))]
    wanted += [(path, private, "others can reach the password", "go-rwx") for path in (folder, *inside)]
    for path, forbidden, says, mend in wanted:
        entry = patient.system.look(place.at(path, follow=True))
        if entry is None or entry.kind not in (FILE, DIRECTORY) or not entry.mode & forbidden:
            continue
        bad = True
        command = f"{patient.sudo}chmod {mend} {shlex.quote(place.at(path))}"
        yield Diagnosis("permissions", FAIL, f"{place.shown(path)}: {says}", f"mode {entry.mode:04o}", command)
    for diagnosis in _owners(patient):
        bad = True
        yield diagnosis
    if not bad:
        yield Diagnosis("permissions", OK, "settings, passwords and queue belong to nobody else")


def _owners(patient: Patient) -> Iterator[Diagnosis]:
    """What the account that delivers must own, or be able to read."""
    place = patient.place
    if place.is_user or not place.is_live:
        wanted = [(patient.spool, place.uid, "you", place.login)] if place.is_user and place.is_live else []
    else:
        try:
            account = pwd.getpwnam(ACCOUNT)
        except KeyError:
            text = f"there is no account {ACCOUNT}, by which mail is taken and delivered"
            yield Diagnosis("permissions", FAIL, text, f"getent passwd {ACCOUNT}: nothing", patient.again())
            return
        wanted = [(patient.spool, account.pw_uid, ACCOUNT, f"{ACCOUNT}:{ACCOUNT}")]
    for path, uid, who, owner in wanted:
        entry = patient.system.look(path)
        if entry is not None and entry.uid != uid:
            text = f"{place.shown(path)} does not belong to {who}: mail can be neither taken nor delivered"
            yield Diagnosis("permissions", FAIL, text, f"uid {entry.uid}", f"sudo chown -R {owner} {shlex.quote(path)}")


def plain_passwords(patient: Patient) -> Iterator[Diagnosis]:
    login = patient.login
    if login is not None and login.reference.kind == authconf.LITERAL:
        yield Diagnosis(
            "plain-password",
            WARN,
            f"the password of {login.user} stands in auth.conf itself; backups of it hold the password",
            f"{patient.config.AUTHPATH or patient.place.auth_conf}:{login.line}",
            patient.setup("secret set --keyring file"),
        )


def launcher(patient: Patient) -> Iterator[Diagnosis]:
    """The program itself: its interpreter and library are there, and in system mode nobody but root can change them."""
    place = patient.place
    again = patient.again()
    entry = patient.system.look(place.at(place.launcher))
    if entry is None or entry.kind != FILE:
        yield Diagnosis(
            "program", FAIL, "the program that sends mail is missing", f"there is no {place.shown(place.launcher)}", again
        )
        return
    if entry.mode & 0o555 != 0o555 and not place.is_user:
        text = "not everybody may run the program that sends mail"
        command = f"sudo chmod 755 {shlex.quote(place.at(place.launcher))}"
        yield Diagnosis("program", FAIL, text, f"mode {entry.mode:04o}", command)
        return
    python, library = of_launcher(entry.content)
    for path, what in ((python, "interpreter"), (os.path.join(library, "dma_runtime/__init__.py"), "library")):
        if not os.path.exists(place.at(path, follow=True)):
            yield Diagnosis("program", FAIL, f"the {what} of the program that sends mail is gone", f"there is no {path}", again)
            return
    if not place.is_user and place.is_live and (found := _unproved(patient, python, library)) is not None:
        yield found
        return
    yield Diagnosis("program", OK, "the program is there, with its interpreter and library")


def _unproved(patient: Patient, python: str, library: str) -> Diagnosis | None:
    """The proof that setup made before its plan, made again: what root's mail runs by still belongs to root alone."""
    folder = patient.place.library
    says = "that root's mail runs by is not root's alone, or not there for every user"
    for name in DOORS:
        path = f"{folder}/{name}"
        if patient.system.look(path) is not None and (why := distrust(path, 0)):
            mend = f"sudo chown root:root {folder} {path} && sudo chmod 755 {folder} {path}"
            return Diagnosis("program", FAIL, f"the program {says}", why, mend)
    if why := distrust(python, 0):
        return Diagnosis("program", FAIL, f"the interpreter {says}", why, patient.again())
    if why := proof(library):
        return Diagnosis("program", FAIL, f"the library {says}", why, patient.again())
    return None


def where_it_is_kept(patient: Patient) -> Iterator[Diagnosis]:
    """What the place of the password protects against; nothing need be done."""
    login, place = patient.login, patient.place
    if login is None:
        return
    kind = login.reference.kind
    if kind == authconf.FILE:
        who = "you" if place.is_user else f"root and {ACCOUNT}"
        text = f"the password lies in a file that only {who} can read; a backup of it, and a copy of the disk, hold it"
        yield Diagnosis("secret-store", OK, text)
    elif kind == authconf.KEYRING and patient.config.KEYRING == "systemd-creds" and place.is_live and os.geteuid() == 0:
        if credentials.Store().key() == "host+tpm2":
            text = "the password is encrypted for this machine and its TPM: neither a backup nor a copy of the disk holds it"
        else:
            text = "the password is encrypted for this machine: a backup of /etc does not hold it, a copy of the whole disk does"
        yield Diagnosis("secret-store", OK, text)


def in_the_way(patient: Patient) -> Iterator[Diagnosis]:
    """Whether the `sendmail` that programs find is ours, and no other mail service sits beside it."""
    place = patient.place
    link = place.links["sendmail"]
    entry = patient.system.look(place.at(link))
    real = place.at(link, follow=True)
    if entry is None or entry.kind != LINK or real != place.at(place.launcher, follow=True):
        seen = f"there is no {place.shown(link)}" if entry is None else f"{place.shown(link)} leads to {real}"
        yield Diagnosis(
            "mailer", FAIL, "programs that call sendmail do not reach dma", seen, patient.again()
        )
        return
    if not place.is_live:
        return
    if place.is_user:
        first = shutil.which("sendmail", path=os.environ.get("PATH", "")) or ""
        if first != link:
            folder = os.path.dirname(link)
            other = f"{mailer_name(first)} ({first})" if first else "no sendmail at all"
            yield Diagnosis(
                "mailer",
                WARN,
                "your programs do not find dma's sendmail first",
                f"the PATH of this shell finds {other}",
                f"export PATH={shlex.quote(folder)}:$PATH    # in the profile of your shell",
            )
            return
    elif os.path.isdir("/run/systemd/system"):
        for name, mailer in KNOWN.items():
            units = [unit for unit in mailer.units if _active(patient, unit)]
            if units:
                yield Diagnosis(
                    "mailer",
                    WARN,
                    f"{name} runs beside dma",
                    f"{', '.join(units)}: active",
                    f"sudo systemctl disable --now {' '.join(units)}",
                )
    yield Diagnosis("mailer", OK, "programs that call sendmail reach dma")


def _active(patient: Patient, unit: str) -> bool:
    return patient.system.run(["systemctl", "is-active", unit], seconds=5).output.strip() == "active"
