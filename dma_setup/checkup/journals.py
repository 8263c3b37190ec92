"""What undo keeps: old files that hold a password, and runs that were cut off."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from dma_setup import journal, undo
from dma_setup.checkup.finding import FAIL, WARN, Diagnosis, Patient


def check(patient: Patient) -> Iterator[Diagnosis]:
    found = journal.past(patient.place, patient.system)
    for past in found:
        for path in past.secret_files():
            text = "an old file that holds a password is kept for undo"
            yield Diagnosis("journal", WARN, text, path, f"{patient.sudo}rm {shlex.quote(path)}")
    for past in undo.find(patient.place, patient.system)[:1]:
        if past.was_cut_off:
            text = "an earlier run of dma-setup was cut off half way"
            yield Diagnosis("journal", FAIL, text, past.folder, patient.setup("undo"))
