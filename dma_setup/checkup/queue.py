"""The queue: what its owner wants somebody to do, how long mail has waited, whose machine it is, where it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dma_runtime.errors import DmaError
from dma_runtime.machineid import machine_id
from dma_runtime.policy.telling import AGE, FOREIGN, OLD, STUCK
from dma_runtime.system import notice, space
from dma_runtime.system.spool import Spool
from dma_setup import mounts
from dma_setup.checkup.finding import FAIL, OK, WARN, Diagnosis, Patient
from dma_setup.system import FILE


def notices(patient: Patient) -> Iterator[Diagnosis]:
    for standing in notice.current(patient.spool):
        if standing.subject not in (AGE, FOREIGN):  # looked at afresh below
            yield Diagnosis(
                "notice",
                FAIL,
                standing.cause,
                f"since {age(patient.now - standing.since)}" if standing.since else "",
                standing.remedy or ("dma-queue list" if standing.subject == STUCK else ""),
            )


def waiting(patient: Patient) -> Iterator[Diagnosis]:
    spool = Spool(patient.spool)
    try:
        ids = spool.ids()
    except FileNotFoundError:
        ids = []  # made when the first message comes
    except (OSError, DmaError) as error:
        yield Diagnosis("queue", FAIL, "the queue cannot be looked at", str(error), f"ls -ld {patient.spool}")
        return
    oldest: float | None = None
    for id in ids:
        try:
            accepted = spool.read(id).accepted_at
        except FileNotFoundError:
            continue  # it was delivered meanwhile
        except (DmaError, OSError) as error:
            yield Diagnosis("queue", FAIL, f"message {id} cannot be read and is not sent", str(error), f"dma-queue show {id}")
            continue
        oldest = accepted if oldest is None else min(oldest, accepted)
    count = f"{len(ids)} message{'s' if len(ids) != 1 else ''} wait{'s' if len(ids) == 1 else ''} in the queue"
    if oldest is None:
        yield Diagnosis("queue", OK, "the queue is empty" if not ids else count)
    elif patient.now - oldest > OLD:
        yield Diagnosis("queue", FAIL, f"{count}, the oldest for {age(patient.now - oldest)}", "", "dma-queue list")
    else:
        yield Diagnosis("queue", OK, f"{count}, the oldest for {age(patient.now - oldest)}")


def age(seconds: float) -> str:
    """`3 days`, `5 hours`, `2 minutes`: the largest unit that fits."""
    for length, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = int(seconds // length)
        if count:
            return f"{count} {name}{'s' if count != 1 else ''}"
    return "less than a minute"


def machine(patient: Patient) -> Iterator[Diagnosis]:
    """A spool that another machine wrote is not delivered from: a clone would send everything twice."""
    entry = patient.system.look(patient.spool + "/owner")
    here = machine_id() if patient.place.is_live else ""
    said = entry.content.decode("ascii", "replace").strip() if entry is not None and entry.kind == FILE else ""
    if here and said and said != here:
        yield Diagnosis(
            "machine",
            FAIL,
            "the queue was written by another machine (a clone?); nothing is delivered from it",
            f"{patient.spool}/owner: {said}; this machine is {here}",
            "dma-queue adopt",
        )


def home(patient: Patient) -> Iterator[Diagnosis]:
    """What holds the queue outlives a reboot, and has room."""
    path = patient.spool
    if not patient.place.is_live or not os.path.isdir(path):
        return
    kind, point = mounts.file_system(path)
    if kind in ("tmpfs", "ramfs"):
        yield Diagnosis(
            "spool",
            FAIL,
            "the queue lies in memory: a reboot loses what waits",
            f"{point} is a {kind}",
            f"{patient.edit}    # SPOOLDIR on a disk",
        )
    elif kind == "overlay" and in_container():
        yield Diagnosis(
            "spool",
            WARN,
            "the queue lies in the container itself: what waits is lost with it",
            f"{path} is on the container's own {kind}",
            f"docker run --volume dma-spool:{path} ...    # or what your container runtime calls a volume",
        )
    try:
        space.check(patient.config, path)
    except DmaError as full:
        yield Diagnosis("spool", FAIL, "no mail is taken: there is too little room for the queue", full.text, f"df -h {path}")


def in_container() -> bool:
    return os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv") or os.path.exists("/run/host/container-manager")
