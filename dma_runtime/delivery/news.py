"""What a sender is told though nothing has failed: that mail is late, and, for who asked, that it was delivered.

Rules:
- DELAYWARNING: one report for a message, at the end of the first round in which it is older than that and still waits,
  about those recipients who wait then and whose sender wants to hear of delays (RFC 3461 4.1). The event `delayed` in the
  attempt log says that it was made.
- NOTIFY=SUCCESS: a report when we delivered it (mailbox, LMTP), or `relayed` when the relay does not speak DSN; one that
  does was told, and reports itself (RFC 3461 5.2.2).
- Nobody is told about a report, or about mail with the null sender.

Decides only; `bounce.Reports` writes the reports, `record` sees that they are safe before the result is.
"""

from __future__ import annotations

from dma_runtime.message import dsn
from dma_runtime.policy import retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config
    from dma_runtime.delivery.queue import Item
    from dma_runtime.envelope import Moment
    from dma_runtime.history import Event
    from dma_runtime.outcome import Outcome

_LEAST_LEFT = 3600.0  # seconds; with less of EXPIRE left, the report still does not promise a time gone by


class News:
    """One report to be made. kind: dsn.DELAYED, DELIVERED or RELAYED. pairs: (index of the recipient, its outcome).
    until: for DELAYED, the wall clock until which it is tried."""

    __slots__ = ("kind", "pairs", "until")

    def __init__(self, kind: str, pairs: list[tuple[int, Outcome]], until: float | None = None) -> None:
        self.kind = kind
        self.pairs = pairs
        self.until = until


def of_delivery(item: Item, outcome: Outcome, indices: list[int], *, handed_on: bool) -> News | None:
    """What to tell of recipients that were delivered, or handed on to a relay that will not tell."""
    envelope = item.envelope
    if not envelope.sender:
        return None
    pairs = [(index, outcome) for index in indices if envelope.recipients[index].asks("success")]
    return News(dsn.RELAYED if handed_on else dsn.DELIVERED, pairs) if pairs else None


def of_delay(item: Item, config: Config, now: Moment) -> News | None:
    """What to tell at the end of a round of the message, whose `round` is not yet over."""
    envelope, state, round = item.envelope, item.state, item.round
    if not config.DELAYWARNING or state.warned or not envelope.sender or round is None:
        return None
    age = retry.age(envelope, state, now)
    if age <= config.DELAYWARNING:
        return None
    pairs = []
    for index in state.open:
        outcome = round.deferred.get(index) or state.recipients[index].last
        if index not in round.closed and outcome is not None and envelope.recipients[index].asks("delay"):
            pairs.append((index, outcome))
    return News(dsn.DELAYED, pairs, now.wall + max(config.EXPIRE - age, _LEAST_LEFT)) if pairs else None


def delayed_event(now: Moment) -> Event:
    """Says in the attempt log that the delay was told."""
    return {"do": "delayed", "at": round(now.wall, 3)}
