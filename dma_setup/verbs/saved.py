"""`saved: {}`: the answers, kept to do the same again without questions. Secrets are `{keyring: true}` there."""

from __future__ import annotations

from typing import Any

import yaml

from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.verbs.secret import AS_REFERENCE
from dma_setup.view import View


def plan(_step: dict[str, Any], view: View) -> list[Change]:
    name = view.values["recipe"]
    path = path_for(view.place.config, name)
    text = f"# The answers of dma-setup {name}. Again, without questions: dma-setup {name} --answers THIS FILE\n"
    text += yaml.safe_dump(_answers(view), default_flow_style=None, sort_keys=False, allow_unicode=True, width=1000)
    return [view.path_change(path, views.file(text, 0o600), "your answers, without the password")]


def path_for(config: str, recipe: str) -> str:
    return f"{config}/answers.{recipe}.yml"


def _answers(view: View) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in view.answers.items():
        if name == view.values["secret_id"]:
            found[name] = _secret(view)
        elif value or name in view.values["left_empty"]:
            found[name] = int(value) if value and name in view.values["number_ids"] else value
    return found


def _secret(view: View) -> dict[str, Any]:
    if view.answers.get("keyring") == AS_REFERENCE and view.secret is not None:
        return {view.secret.kind: view.secret.detail}
    return {"keyring": True}
