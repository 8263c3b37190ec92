"""The file `SPOOLDIR/relays`: what is known about relays (down until when, and what went to them lately), so that it
outlives the owner.

Replaced atomically by the owner, read by listings. It is advice: when it is lost or torn, the price is one attempt
per relay, so nothing is synced and a bad file is an empty one.
"""

from __future__ import annotations

import json
import os

from dma_runtime.policy.relay import RelayState

NAME = "relays"


def read(spool_path: str, now: float) -> dict[str, RelayState]:
    """By `host:port`; `now` is the wall clock's. Never raises."""
    try:
        with open(os.path.join(spool_path, NAME), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    states = {key: RelayState.from_json(value) for key, value in found.items() if isinstance(value, dict)}
    for state in states.values():
        state.believe(now)
    return states


def write(spool_path: str, states: dict[str, RelayState], now: float) -> None:
    """Keep what another owner should know at `now` (wall clock). Failing (a full disk) is silent: it is advice."""
    path = os.path.join(spool_path, NAME)
    kept = {key: state.to_json() for key, state in states.items() if state.worth_keeping(now)}
    try:
        if not kept:
            os.unlink(path)
            return
        with open(path + ".new", "w", encoding="utf-8", opener=_private) as file:
            file.write(json.dumps(kept))  # by far faster than json.dump
        os.replace(path + ".new", path)
    except OSError:
        pass


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
