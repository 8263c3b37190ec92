"""`stop: {says, advice}`: the plan cannot be made with these answers; `says` is why, `advice` lines what else to do."""

from __future__ import annotations

from typing import Any

from dma_setup.changes import Change
from dma_setup.errors import SetupError
from dma_setup.view import View


def plan(step: dict[str, Any], _view: View) -> list[Change]:
    advice = step.get("advice") or []
    raise SetupError(f"{step['says']}; nothing was changed", details=["  " + str(line) for line in advice])
