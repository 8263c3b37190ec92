"""`directory: {path, mode, says}`: a directory with its mode. The queue's is marked as one that may hold mail."""

from __future__ import annotations

from typing import Any

from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.view import View


def plan(step: dict[str, Any], view: View) -> list[Change]:
    is_queue = step["path"] == view.place.spool
    wanted = views.directory(int(step["mode"], 8))
    return [view.path_change(step["path"], wanted, step.get("says", ""), queue=is_queue, drains=is_queue)]
