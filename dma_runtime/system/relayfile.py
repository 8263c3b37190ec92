"""The file RELAYMAP names. What it says is `policy.relaymap`'s business."""

from __future__ import annotations

from dma_runtime.config import contents
from dma_runtime.policy import relaymap


def load(path: str | None) -> relaymap.RelayMap:
    """The map; an empty one when no file is named. Raises OSError: mail must not leave by another account meanwhile."""
    if not path:
        return relaymap.RelayMap()
    return relaymap.parse(contents(path), path)
