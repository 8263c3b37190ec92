"""Values out of a YAML file with their types checked: each error names file and line.

`keys` lead to the value; the last one may be absent where a default is given or the value is not `required`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dma_setup.yamlfile import Data


def inside(data: Data, keys: tuple[object, ...]) -> Any:
    value = data.value
    for key in keys:
        value = value[key]
    return value


def mapping(data: Data, allowed: tuple[str, ...], *keys: object) -> dict[str, Any]:
    value = inside(data, keys)
    if not isinstance(value, dict):
        raise data.problem("must be a mapping", *keys)
    for key in value:
        if key not in allowed:
            raise data.problem(f"unknown key {key}; known are {', '.join(allowed)}", *keys, key)
    return value


def text(data: Data, *keys: object, required: bool = False) -> str:
    *path, last = keys
    holder = inside(data, tuple(path))
    if last not in holder:
        if required:
            raise data.problem(f"{last} is missing", *path)
        return ""
    value = holder[last]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or (required and not value.strip()):
        raise data.problem(f"{last} must be text", *keys)
    return value.strip()


def flag(data: Data, default: bool, *keys: object) -> bool:
    *path, last = keys
    value = inside(data, tuple(path)).get(last, default)
    if not isinstance(value, bool):
        raise data.problem(f"{last} must be true or false", *keys)
    return value


def texts(data: Data, *keys: object) -> tuple[str, ...]:
    """A list of texts; one text or number alone is a list of one."""
    *path, last = keys
    value = inside(data, tuple(path)).get(last, [])
    found = value if isinstance(value, list) else [value]
    for at, item in enumerate(found):
        if isinstance(item, bool) or not isinstance(item, (str, int)):
            raise data.problem(f"{last} must hold text", *keys, at)
    return tuple(str(item).strip() for item in found)


def items(data: Data, name: str) -> int:
    value = data.value.get(name) or []
    if not isinstance(value, list):
        raise data.problem(f"{name} must be a list", name)
    return len(value)


def pattern(data: Data, *keys: object) -> str:
    found = text(data, *keys)
    try:
        re.compile(found)
    except re.error as error:
        raise data.problem(f"not a regular expression: {error}", *keys) from None
    return found


def scalars(data: Data, allowed: tuple[str, ...], *keys: object) -> dict[str, Any]:
    """A mapping of plain values: text, numbers, true or false, nothing."""
    found = mapping(data, allowed, *keys)
    for name, value in found.items():
        if isinstance(value, (dict, list)):
            raise data.problem(f"{name} must be text, a number, true or false", *keys, name)
    return found


def templates(data: Data, check: Callable[[str, bool], str], *keys: object) -> None:
    """Every text below `keys` by `check(text, is_condition)`, which says what is wrong; a `when:` is a condition."""
    value = inside(data, keys)
    if isinstance(value, dict):
        for name in value:
            templates(data, check, *keys, name)
    elif isinstance(value, list):
        for at in range(len(value)):
            templates(data, check, *keys, at)
    elif isinstance(value, str) and (wrong := check(value, bool(keys) and keys[-1] == "when")):
        raise data.problem(wrong, *keys)
