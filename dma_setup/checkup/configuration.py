"""dma.conf, and who gets the mail of root: what the runtime will understand, and what it will not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from dma_setup.checkup.finding import FAIL, OK, WARN, Diagnosis, Patient
from dma_setup.verbs import alias


def settings(patient: Patient) -> Iterator[Diagnosis]:
    config, path = patient.config, patient.place.shown(patient.place.dma_conf)
    edit = f"{patient.sudo}${{EDITOR:-vi}} {path}"
    for problem in config.problems:
        yield Diagnosis("configuration", FAIL, "dma.conf has a bad value: no mail is taken or sent", problem.text, edit)
    for warning in config.warnings:
        yield Diagnosis("configuration", WARN, "dma.conf says something that has no effect", warning, edit)
    if not config.problems:
        yield Diagnosis("configuration", OK, f"{path} is understood; {_route(patient)}")


def _route(patient: Patient) -> str:
    relay = patient.present.relay
    if relay is not None:
        return f"mail goes to {relay.host}:{relay.port}" + (f", {relay.says}" if relay.says else "")
    return "mail goes straight to its recipients' servers" if patient.direct else "mail stays on this machine"


def root(patient: Patient) -> Iterator[Diagnosis]:
    """Whether somebody reads root's mail: reports of cron and of failing disks go there."""
    config, place = patient.config, patient.place
    path = config.ALIASES
    entry = patient.system.look(place.at(path, follow=True))
    target = alias.target(entry.content.decode("utf-8", "surrogateescape"), "root") if entry is not None else ""
    if target:
        yield Diagnosis("root", OK, f"root's mail goes to {target}")
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
            f"echo {line} | sudo tee -a {path}",
        )


def mailname(patient: Patient) -> Iterator[Diagnosis]:
    """A mail name that is no name elsewhere: senders without a domain of their own get it."""
    entry = patient.system.look(patient.place.at("/etc/mailname", follow=True))
    name = entry.content.decode("utf-8", "replace").strip() if entry is not None else ""
    if patient.config.MAILNAME is None and name.partition(".")[0] == "localhost":
        yield Diagnosis(
            "mailname",
            WARN,
            "/etc/mailname is a name that means every machine; replies to this one's senders go nowhere",
            f"/etc/mailname: {name}",
            "hostname --fqdn | sudo tee /etc/mailname",
        )
