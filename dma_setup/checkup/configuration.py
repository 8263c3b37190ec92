"""dma.conf, and who gets the mail of root: what the runtime will understand, and what it will not."""

from __future__ import annotations

import pwd
import shlex
from collections.abc import Iterator

from dma_runtime import aliases
from dma_setup.checkup.finding import FAIL, OK, WARN, Diagnosis, Patient


def settings(patient: Patient) -> Iterator[Diagnosis]:
    config, path = patient.config, patient.place.shown(patient.place.dma_conf)
    edit = patient.edit
    for problem in config.problems:
        yield Diagnosis("configuration", FAIL, "dma.conf has a bad value: no mail is taken or sent", problem.text, edit)
    for warning in config.warnings:
        yield Diagnosis("configuration", WARN, "dma.conf says something that has no effect", warning, edit)
    if not config.problems:
        yield Diagnosis("configuration", OK, f"{path} is understood; {_route(patient)}")


def in_the_clear(patient: Patient) -> Iterator[Diagnosis]:
    """Settings that let a password go where it may be read."""
    config = patient.config
    edit = patient.edit
    if patient.login is None:
        return
    if config.INSECURE:
        text = "the password may be sent without TLS, for everybody on the way to read"
        yield Diagnosis("tls", FAIL, text, _line(patient, "INSECURE"), f"{edit}    # take INSECURE out")
    if config.UNVERIFIEDCERT:
        text = "the password goes to a relay whose certificate nobody has verified: anybody may pose as it"
        command = f"{edit}    # FINGERPRINT instead of UNVERIFIEDCERT"
        yield Diagnosis("tls", WARN, text, _line(patient, "UNVERIFIEDCERT"), command)


def _line(patient: Patient, key: str) -> str:
    return f"{patient.place.shown(patient.place.dma_conf)}:{patient.config.lines.get(key, 0)}: {key}"


def _route(patient: Patient) -> str:
    relay = patient.present.relay
    if relay is not None:
        return f"mail goes to {relay.host}:{relay.port}" + (f", {relay.says}" if relay.says else "")
    return "mail goes straight to its recipients' servers" if patient.direct else "mail stays on this machine"


def root(patient: Patient) -> Iterator[Diagnosis]:
    """The aliases, and whether somebody reads root's mail: reports of cron and of failing disks go there."""
    config, place = patient.config, patient.place
    path = config.ALIASES
    entry = patient.system.look(place.at(path, follow=True))
    found = aliases.parse(entry.content.decode("utf-8", "surrogateescape") if entry is not None else "", path)
    edit = patient.edit_of(path)
    for problem in found.problems:
        yield Diagnosis("aliases", WARN, "a line of the aliases is not understood and counts for nothing", problem, edit)
    readers = _readers("root", found, set())
    nobody = [name for name in readers if not name.startswith("/") and "@" not in name and not _is_here(patient, name)]
    if "root" in found.entries and nobody:
        text = f"root's mail goes to {', '.join(nobody)}, whom nobody here is: it comes back, or is lost"
        yield Diagnosis("root", FAIL, text, f"{path}: root: {', '.join(target.text for target in found.entries['root'])}", edit)
    elif "root" in found.entries:
        yield Diagnosis("root", OK, f"root's mail goes to {', '.join(readers)}")
    elif config.NULLCLIENT:
        yield Diagnosis("root", OK, "root's mail goes to the relay, like all other")
    elif not place.is_user:
        line = shlex.quote("root: you@example.org")
        seen = f"{path} has no line for root" if entry is not None else f"there is no {path}"
        yield Diagnosis(
            "root",
            WARN,
            "root's mail stays on this machine, where perhaps nobody reads it",
            seen,
            f"echo {line} | sudo tee -a {shlex.quote(place.typed(path))}",
        )


def _readers(name: str, found: aliases.Aliases, seen: set[str]) -> list[str]:
    """Where mail to `name` ends: addresses, logins of this machine, and paths or commands with their sign."""
    if name.lower() in seen:
        return [name]  # `root: root, me@example.org` keeps a copy here
    seen = seen | {name.lower()}
    ends: list[str] = []
    for target in found.entries.get(name.lower(), []):
        if target.kind in (aliases.PIPE, aliases.INCLUDE, aliases.FILE):
            ends.append({aliases.PIPE: "/|", aliases.INCLUDE: "/:include:"}.get(target.kind, "") + target.text)
        elif target.kind == aliases.ADDRESS and target.text.lower() in found.entries:
            ends += _readers(target.text, found, seen)
        else:
            ends.append(target.text)
    return list(dict.fromkeys(ends))


def _is_here(patient: Patient, login: str) -> bool:
    if not patient.place.is_live:
        entry = patient.system.look(patient.place.at("/etc/passwd", follow=True))
        return entry is not None and f"\n{login}:".encode() in b"\n" + entry.content
    try:
        pwd.getpwnam(login)
    except KeyError:
        return False
    return True


def mailname(patient: Patient) -> Iterator[Diagnosis]:
    """A mail name that is no name elsewhere: senders without a domain of their own get it."""
    entry = patient.system.look(patient.place.at("/etc/mailname", follow=True))
    name = entry.content.decode("utf-8", "replace").strip() if entry is not None else ""
    if (patient.config.MAILNAME or "/etc/mailname") == "/etc/mailname" and name.partition(".")[0] == "localhost":
        yield Diagnosis(
            "mailname",
            WARN,
            "/etc/mailname is a name that means every machine; replies to this one's senders go nowhere",
            f"/etc/mailname: {name}",
            "hostname --fqdn | sudo tee /etc/mailname" if patient.place.is_live else patient.edit_of("/etc/mailname"),
        )
