"""The JSON Schema of a recipe, for editors: `docs/recipe.schema.json` is this, written out (`dma-setup list --schema`).

Made from the names that `recipe` itself checks by. A schema cannot say all that `recipe` checks (a question that another
part names must exist, regular expressions must compile): `recipe` is what counts, and gives file and line.
"""

from __future__ import annotations

from typing import Any

from dma_runtime import config
from dma_setup import recipe
from dma_setup.question import TYPES

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_PLAIN: Schema = {"type": ["string", "number"]}
_SETTING: Schema = {"type": ["string", "number", "boolean", "null"]}
_TEXTS: Schema = {"anyOf": [_PLAIN, {"type": "array", "items": _PLAIN}]}
_FLAG: Schema = {"type": "boolean"}


def _object(properties: Schema, required: tuple[str, ...] = (), says: str = "") -> Schema:
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        made["required"] = list(required)
    if says:
        made["description"] = says
    return made


def _keys(names: tuple[str, ...], schemas: Schema) -> Schema:
    """A schema for each of `names`, text where nothing else is said; what `recipe` does not know is a mistake here."""
    assert set(schemas) <= set(names), set(schemas) - set(names)
    return {name: schemas.get(name, _TEXT) for name in names}


def _settings() -> Schema:
    return _object({name: {**_SETTING, "description": key.says} for name, key in config.KEYS.items()})


def _arguments(needed: tuple[str, ...], others: tuple[str, ...]) -> Schema:
    kinds = {"keys": _settings(), "advice": _TEXTS, "resident": {"type": ["string", "boolean"]}}
    made = _object({name: kinds.get(name, _PLAIN) for name in (*needed, *others)}, needed)
    return made if needed else {**made, "type": ["object", "null"]}


def make() -> Schema:
    default = {
        "anyOf": [_PLAIN, {"type": "array", "items": _object({"value": _TEXT, "says": _TEXT}, ("value",))}],
        "description": "A value, or several, each with where it comes from; the first that is not empty counts.",
    }
    choice = {"anyOf": [_TEXT, _object({"says": _TEXT, "when": _TEXT}, ("says", "when"))]}
    question = _keys(
        recipe.QUESTION_KEYS,
        {
            "id": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
            "type": {"enum": list(TYPES)},
            "choices": {"type": "object", "additionalProperties": choice},
            "default": default,
            "optional": {**_FLAG, "description": "An empty answer is an answer."},
            "asked": {**_FLAG, "description": "false: the wizard takes the default without asking."},
            "strip": {"enum": ["blanks"]},
            "shape": _object({"pattern": _TEXT, "says": _TEXT}, ("pattern", "says"), "What answers look like; a warning."),
            "derive": {**_TEXT, "description": "What makes the password out of this secret: ses REGION."},
        },
    )
    refusal = _keys(
        recipe.REFUSAL_KEYS,
        {
            "code": {"type": "integer", "minimum": 200, "maximum": 599},
            "status": {"type": "string", "pattern": r"^[245]\.[0-9]+\.[0-9]+$"},
            "advice": _TEXTS,
            "quota": {**_FLAG, "description": "It means \"enough for now\": mail refused so waits. The text is plain words then."},
        },
    )
    relay = _keys(
        recipe.RELAY_KEYS,
        {"ports": _TEXTS, "password": {**_TEXT, "description": "The id of the question for the password."}},
    )
    verbs = {verb: _arguments(*arguments) for verb, arguments in recipe.VERBS.items()}
    step = {
        **_object({**verbs, "when": _TEXT}),
        "oneOf": [{"required": [verb]} for verb in recipe.VERBS],
    }
    top = _keys(
        recipe.TOP_KEYS,
        {
            "provider": _object(_keys(recipe.PROVIDER_KEYS, {name: _TEXTS for name in recipe.PROVIDER_KEYS if name != "name"})),
            "relay": _object(relay, ("host",), "Where mail goes. Absent: nothing leaves, or mail goes straight to its recipients."),
            "limits": {"type": "object", "additionalProperties": _PLAIN, "description": "For people."},
            "settings": _settings(),
            "questions": {"type": "array", "items": _object(question, ("id", "type", "ask"))},
            "steps": {"type": "array", "items": step},
            "refusals": {"type": "array", "items": _object(refusal, ("says",))},
        },
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of dma-setup",
        **_object(top, ("recipe", "summary", "about")),
    }
