"""`directory: {path, mode, says, owner}`: a directory with its mode, and its owner's account when that is named.

The queue's is marked as one that may hold mail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.view import View


def plan(step: dict[str, Any], view: View) -> list[Change]:
    is_queue = step["path"] == view.place.spool
    wanted = views.directory(int(step["mode"], 8))
    if step.get("owner"):
        uid, gid = view.account(step["owner"])
        wanted = replace(wanted, uid=uid, gid=gid)
    return [view.path_change(step["path"], wanted, step.get("says", ""), queue=is_queue, drains=is_queue)]
