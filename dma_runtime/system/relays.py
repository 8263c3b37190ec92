"""The file `SPOOLDIR/relays`: what is known about relays that take no mail, so that it outlives the owner.

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


def write(spool_path: str, states: dict[str, RelayState]) -> None:
    """Keep the relays that are down. Failing (a full disk) is silent: it is advice."""
    path = os.path.join(spool_path, NAME)
    down = {key: state.to_json() for key, state in states.items() if state.rounds}
    try:
        if not down:
            os.unlink(path)
            return
        with open(path + ".new", "w", encoding="utf-8", opener=_private) as file:
            json.dump(down, file)
        os.replace(path + ".new", path)
    except OSError:
        pass


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
