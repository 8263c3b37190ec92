"""YAML read strictly: every value knows its line, and what YAML likes to guess is refused.

Refused with file:line: duplicate keys, keys that are not text, `yes`/`no`/`on`/`off` (write `true`, `false` or quotes),
numbers with a leading zero or a colon (`0640`, `10:30`: YAML reads them in other bases), dates, aliases and tags
(but `!vault`, which is text).
`Data` is the plain value; `Data.at(key, ...)` gives the line of a value inside it, for the errors of whoever checks it.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from dma_setup.errors import FileProblem

DEEPEST = 20
VAULT = "!vault"  # the one tag that is understood: an encrypted text, which stays one

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
    reader = _Reader(loader, path)
    try:
        node = loader.get_single_node()
        value = None if node is None else reader.build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FileProblem(path, mark.line + 1 if mark else 0, error.problem or "not YAML") from None
    except yaml.YAMLError as error:
        raise FileProblem(path, 0, str(error).splitlines()[0]) from None
    finally:
        loader.dispose()
    return Data(value, path, reader.lines)


class _Reader:
    """Plain values out of YAML's nodes, with the line of each."""

    def __init__(self, loader: yaml.CSafeLoader, path: str) -> None:
        self.lines: dict[tuple[object, ...], int] = {}
        self._loader = loader
        self._path = path
        self._seen: set[int] = set()

    def build(self, node: yaml.Node, keys: tuple[object, ...]) -> Any:
        line = node.start_mark.line + 1
        self.lines[keys] = line
        if len(keys) > DEEPEST:
            raise FileProblem(self._path, line, "nested too deeply")
        if id(node) in self._seen:
            raise FileProblem(self._path, line, "anchors and aliases are not understood; write it out")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*keys, at)) for at, item in enumerate(node.value)]
        return self._scalar(node, line)

    def _mapping(self, node: yaml.MappingNode, keys: tuple[object, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise FileProblem(self._path, line, "a key must be text; put it in quotes")
            key = key_node.value
            if key in found:
                raise FileProblem(self._path, line, f"{key} stands here twice")
            found[key] = self.build(value_node, (*keys, key))
        return found

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        text = str(node.value)
        if kind == VAULT and text.lstrip().startswith("$ANSIBLE_VAULT;"):
            return text
        if kind == "bool" and _GUESSED_FLAG.match(text):
            says = f"`{text}' means true or false to YAML; write true or false, or put it in quotes"
            raise FileProblem(self._path, line, says)
        if kind in ("int", "float") and _GUESSED_NUMBER.match(text):
            raise FileProblem(self._path, line, f"`{text}' is a different number to YAML; put it in quotes")
        if kind not in ("str", "int", "float", "bool", "null"):
            raise FileProblem(self._path, line, f"a value of type {kind} is not understood; put it in quotes")
        try:
            return self._loader.construct_object(node)
        except ValueError:  # `!!int x', or a number of thousands of digits
            raise FileProblem(self._path, line, f"`{text[:40]}' is no such number; put it in quotes") from None
