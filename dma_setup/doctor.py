"""All checks at once, under one deadline; a check that breaks or does not answer is a warning, never the end.

The order of the findings is that of the checks, whatever order they finish in.
"""

from __future__ import annotations

import threading
import time

from dma_setup.checkup import configuration, files, journals, machine, names, owner, queue, sender, signin
from dma_setup.checkup.finding import FAIL, WARN, Check, Diagnosis, Patient

DEADLINE = 25.0  # seconds; a relay may take 10 to connect and longer to greet

CHECKS: dict[str, Check] = {
    "configuration": configuration.settings,
    "permissions": files.permissions,
    "plain-password": files.plain_passwords,
    "program": files.launcher,
    "mailer": files.in_the_way,
    "units": machine.waking,
    "dns": names.check,
    "password": signin.check,
    "secret-store": files.where_it_is_kept,
    "tls": configuration.in_the_clear,
    "certificate": signin.certificate,
    "machine-key": signin.machine_key,
    "credentials": signin.other_credentials,
    "notices": queue.notices,
    "queue": queue.waiting,
    "machine": queue.machine,
    "spool": queue.home,
    "root": configuration.root,
    "mailname": configuration.mailname,
    "sender": sender.check,
    "port-25": machine.port_25,
    "clock": machine.clock,
    "confined": machine.confined,
    "read-only": machine.read_only,
    "journals": journals.check,
}

IN_THE_QUEUE: tuple[Check, ...] = (queue.notices, queue.waiting, queue.machine, queue.home)


def examine(patient: Patient, checks: dict[str, Check] | None = None, deadline: float = DEADLINE) -> list[Diagnosis]:
    """Every finding."""
    wanted = CHECKS if checks is None else checks
    results: dict[str, list[Diagnosis]] = {}
    end = time.monotonic() + deadline
    if owner.is_another(patient):
        theirs = {name: check for name, check in wanted.items() if check in IN_THE_QUEUE}
        results = owner.examine(patient, theirs, deadline) if theirs else {}

    def run(name: str, check: Check) -> None:
        try:
            results[name] = list(check(patient))
        except Exception as error:
            results[name] = [Diagnosis(name, WARN, f"{name} could not be looked at", f"{type(error).__name__}: {error}")]

    # Daemon threads: a check that hangs for ever does not keep the program from ending.
    threads = [threading.Thread(target=run, args=item, daemon=True) for item in wanted.items() if item[0] not in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    found: list[Diagnosis] = []
    for name in wanted:
        late = [Diagnosis(name, WARN, f"{name}: no answer in {deadline:g} seconds")]
        found += results.get(name, late)
    return found


def sick(found: list[Diagnosis]) -> bool:
    """Whether somebody has to do something: what monitoring goes by."""
    return any(one.severity == FAIL for one in found)
