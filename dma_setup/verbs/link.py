"""`link: {name, says}`: the name that programs call, a link to the launcher. What stood there before is kept for undo."""

from __future__ import annotations

import os
from typing import Any

from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.errors import SetupError
from dma_setup.system import DIRECTORY
from dma_setup.view import View


def plan(step: dict[str, Any], view: View) -> list[Change]:
    path = view.place.links[step["name"]]
    found = view.entry(path)
    if found is not None and found.kind == DIRECTORY:
        raise SetupError(f"{path} is a directory; move it away first")
    folder = os.path.dirname(path)
    if view.place.is_live and folder not in os.environ.get("PATH", "").split(":"):
        view.note(f"{view.place.shown(folder)} is not on your PATH; programs find sendmail there once it is")
    return [view.path_change(path, views.link(view.place.launcher), step.get("says", ""), foreign=found is not None)]
