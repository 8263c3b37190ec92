"""The queue as people and programs see it: one row a message, made from envelope, state and what is known of relays.

The same rows are made by an owner from its index (asked over its control socket) and by a listing from the files.
`dma-queue list --json` prints them as they are; the keys are part of interface.md, section 4.
"""

from __future__ import annotations

import time

from dma_runtime.config import Config
from dma_runtime.envelope import Envelope
from dma_runtime.history import State
from dma_runtime.outcome import DELIVERED, FAILED
from dma_runtime.policy import pace
from dma_runtime.policy.relay import RelayState
from dma_runtime.policy.relaymap import RelayMap
from dma_runtime.policy.route import route
from dma_runtime.shown import shown

Row = dict[str, object]


def rfc3339(seconds: float) -> str:
    """`2026-11-22T19:22:01Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def row(
    envelope: Envelope,
    state: State,
    config: Config,
    relays: dict[str, RelayState],
    now: float,
    relay_map: RelayMap | None = None,
) -> Row:
    """One message. Times are RFC 3339 in UTC; `age` and `size` are seconds and bytes."""
    recipients: list[Row] = []
    for index, recipient in enumerate(envelope.recipients):
        known = state.recipients[index]
        outcome, due = known.last, known.next_attempt
        error = _error(outcome.text, outcome.hint) if outcome is not None and outcome.kind != DELIVERED else ""
        there = route(recipient.address, config, envelope.sender, relay_map, tls=envelope.tls)
        relay = relays.get(there.key)
        if relay is None and there.tls:  # where all mail to a relay is as safe as REQUIRETLS wants it, that waits with the rest
            relay = relays.get(there.place)
        if index in state.open and relay is not None and relay.rounds and (relay.down_until > due or not error):
            # It waits with its relay and may never have been tried itself.
            due = max(due, relay.down_until)
            error = _error(relay.text, relay.hint)
        elif index in state.open and relay is not None and due <= now and relay.pace.free(config.RATE, now) <= 0:
            due = relay.pace.when(config.RATE, now)  # its turn comes then, or later where others wait before it
            error = f"waits for its turn: RATE {pace.said(config.RATE)} is reached"
        done = index not in state.open
        recipients.append(
            {
                "address": recipient.named,
                "state": "held" if state.held and not done else known.state,
                "attempts": known.attempts,
                "next_attempt": None if done or state.held else rfc3339(due or now),
                "last_error": error or None,
            }
        )
    return {
        "id": envelope.id,
        "sender": envelope.sender,
        "recipients": recipients,
        "size": envelope.size,
        "accepted_at": rfc3339(envelope.accepted_at),
        "age": max(0, int(now - envelope.accepted_at)),
        "message_id": envelope.message_id,
        "uid": envelope.uid,
        "state": "failed" if not state.open and any(r.state == FAILED for r in state.recipients) else
                 "held" if state.held else "queued",
    }  # fmt: skip


def broken_row(id: str, problem: str) -> Row:
    """A message whose file cannot be trusted."""
    return {
        "id": id,
        "sender": "",
        "recipients": [],
        "size": 0,
        "accepted_at": None,
        "age": 0,
        "message_id": "",
        "uid": -1,
        "state": "failed",
        "problem": problem,
    }


def _error(text: str, hint: str) -> str:
    return shown(text) + (f" ({hint})" if hint else "")
