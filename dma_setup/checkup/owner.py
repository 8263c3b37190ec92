"""Checks of what lies in the queue, made with the rights of the account whose queue it is.

In system mode root opens nothing in a directory that another account can write: a link there would have it read what the
account may not (docs/hard-parts.md, Submitting). A child becomes the account, makes the checks and hands the findings back as
JSON, for it is to be trusted no more than the account. It is forked before there are threads.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from dataclasses import asdict

from dma_runtime.errors import DmaError
from dma_runtime.system import privilege
from dma_setup.checkup.finding import FAIL, OK, WARN, Check, Diagnosis, Patient

MOST = 1 << 20  # bytes of findings


def is_another(patient: Patient) -> bool:
    """Whether the queue is another account's than ours, and ours is root."""
    if patient.place.is_user or not patient.place.is_live or os.geteuid() != 0:
        return False
    try:
        privilege.account()
    except DmaError:
        return False  # there is no such account: nobody's queue
    return True


def examine(patient: Patient, checks: dict[str, Check], deadline: float) -> dict[str, list[Diagnosis]]:
    """The findings of each check. Never raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            privilege.become(privilege.account())
            said = json.dumps({name: _findings(name, check, patient) for name, check in checks.items()}).encode()
            while said:
                said = said[os.write(writer, said) :]
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    try:
        said = _all(reader, time.monotonic() + deadline)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        told = json.loads(said)
        return {name: [_diagnosis(one) for one in told[name]] for name in checks}
    except (ValueError, KeyError, TypeError):
        text = f"could not be looked at as the account {privilege.ACCOUNT}"
        return {name: [Diagnosis(name, WARN, f"{name} {text}")] for name in checks}


def _findings(name: str, check: Check, patient: Patient) -> list[dict[str, str]]:
    try:
        return [asdict(one) for one in check(patient)]
    except Exception as error:
        return [asdict(Diagnosis(name, WARN, f"{name} could not be looked at", f"{type(error).__name__}: {error}"))]


def _all(reader: int, until: float) -> bytes:
    """What the child says, to its end or until it is late."""
    said = b""
    while len(said) < MOST and select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
        more = os.read(reader, 65536)
        if not more:
            break
        said += more
    return said


def _diagnosis(told: dict[str, object]) -> Diagnosis:
    """Text only, and fit to be shown. Raises TypeError, KeyError."""
    words = [str(told[name]) for name in ("check", "severity", "text", "evidence", "command")]
    if words[1] not in (OK, WARN, FAIL):
        raise TypeError("no severity")
    return Diagnosis(*("".join(c if c.isprintable() else "?" for c in word) for word in words))
