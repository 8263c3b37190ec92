"""YAML read strictly: every value knows its line, and what YAML likes to guess is refused.

Refused with file:line: duplicate keys, keys that are not text, `yes`/`no`/`on`/`off` (write `true`, `false` or quotes),
numbers with a leading zero or a colon (`0640`, `10:30`: YAML reads them in other bases), dates, anchors and tags.
`Data` is the plain value; `Data.at(key, ...)` gives the line of a value inside it, for the errors of whoever checks it.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from dma_setup.errors import FileProblem

_GUESSED_FLAG = re.compile(r"^(?:y|n|yes|no|on|off)$", re.IGNORECASE)
_GUESSED_NUMBER = re.compile(r"^[-+]?(?:0[0-9_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)$")


class Data:
    """`value`: dictionaries, lists, text, numbers, booleans, None. `path`: the file it came from."""

    def __init__(self, value: Any, path: str, lines: dict[tuple[object, ...], int]) -> None:
        self.value = value
        self.path = path
        self._lines = lines

    def at(self, *keys: object) -> int:
        """The line of the value at `keys`, or of the nearest one around it."""
        while keys and keys not in self._lines:
            keys = keys[:-1]
        return self._lines.get(keys, 0)

    def problem(self, text: str, *keys: object) -> FileProblem:
        return FileProblem(self.path, self.at(*keys), text)


def load(text: str, path: str) -> Data:
    """Raises FileProblem for anything that is not plain, unambiguous YAML."""
    loader = yaml.CSafeLoader(text)
    lines: dict[tuple[object, ...], int] = {}
    try:
        node = loader.get_single_node()
        value = None if node is None else _build(loader, node, path, (), lines, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FileProblem(path, mark.line + 1 if mark else 0, error.problem or "not YAML") from None
    except yaml.YAMLError as error:
        raise FileProblem(path, 0, str(error).splitlines()[0]) from None
    finally:
        loader.dispose()
    return Data(value, path, lines)


def _build(
    loader: yaml.CSafeLoader,
    node: yaml.Node,
    path: str,
    keys: tuple[object, ...],
    lines: dict[tuple[object, ...], int],
    depth: int,
) -> Any:
    line = node.start_mark.line + 1
    lines[keys] = line
    if depth > 20:
        raise FileProblem(path, line, "nested too deeply")
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise FileProblem(path, key_node.start_mark.line + 1, "a key must be text; put it in quotes")
            key = key_node.value
            if key in found:
                raise FileProblem(path, key_node.start_mark.line + 1, f"{key} stands here twice")
            found[key] = _build(loader, value_node, path, (*keys, key), lines, depth + 1)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, path, (*keys, at), lines, depth + 1) for at, item in enumerate(node.value)]
    return _scalar(loader, node, path, line)


def _scalar(loader: yaml.CSafeLoader, node: yaml.Node, path: str, line: int) -> Any:
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    text = str(node.value)
    if kind == "bool" and _GUESSED_FLAG.match(text):
        raise FileProblem(path, line, f"`{text}' means true or false to YAML; write true or false, or put it in quotes")
    if kind in ("int", "float") and _GUESSED_NUMBER.match(text):
        raise FileProblem(path, line, f"`{text}' is a different number to YAML; put it in quotes")
    if kind not in ("str", "int", "float", "bool", "null"):
        raise FileProblem(path, line, f"a value of type {kind} is not understood; put it in quotes")
    return loader.construct_object(node)
