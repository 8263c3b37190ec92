"""All probes at once, under one deadline. A probe that does not answer in time is a warning, not a wait.

A probe is a function that returns a `Found`: values for recipes, and findings for people. It reads only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

OK = "ok"
WARN = "warn"
FAIL = "fail"

DEADLINE = 8.0  # seconds, for all probes together


@dataclass(frozen=True)
class Finding:
    """One line of the look: a mark and a sentence."""

    mark: str
    text: str


@dataclass
class Found:
    values: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def say(self, mark: str, text: str) -> None:
        self.findings.append(Finding(mark, text))


def look(probes: Mapping[str, Callable[[], Found]], deadline: float = DEADLINE) -> Found:
    """Run the probes in parallel and put together what they found, in the order of `probes`."""
    results: dict[str, Found] = {}

    def run(name: str, probe: Callable[[], Found]) -> None:
        try:
            results[name] = probe()
        except Exception as error:
            broken = Found()
            broken.say(WARN, f"{name}: could not be looked at ({error})")
            results[name] = broken

    end = time.monotonic() + deadline
    # Daemon threads: a probe that hangs for ever does not keep the program from ending.
    threads = [threading.Thread(target=run, args=item, daemon=True) for item in probes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    whole = Found()
    for name in probes:
        part = results.get(name)
        if part is None:
            whole.say(WARN, f"{name}: no answer in {deadline:g} seconds")
            continue
        whole.values.update(part.values)
        whole.findings += part.findings
    return whole
