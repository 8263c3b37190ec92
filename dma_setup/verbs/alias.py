"""`alias: {path, name, to}`: one alias; the other lines of the file, comments and continuations stay as they are."""

from __future__ import annotations

from typing import Any

from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.errors import SetupError
from dma_setup.view import View


def plan(step: dict[str, Any], view: View) -> list[Change]:
    name, to = step["name"], step["to"]
    if to.startswith("/") or any(c in to for c in '\r\n#,:|"\\ '):
        raise SetupError(f"the aliases cannot hold {to!r}")
    path = view.resolve(step["path"])
    old = view.text(path)
    text = merge(old, name, to) if old is not None else f"# Who gets mail for a name without a domain.\n{name}: {to}\n"
    found = view.entry(path)
    mode = found.mode if found is not None else 0o600 if view.place.is_user else 0o644
    return [view.path_change(path, views.file(text, mode), f"{name}: {to}")]


def target(text: str, name: str) -> str:
    """What the alias `name` stands for in the text of an aliases file, "" when it is not there or has several targets."""
    found = [_value(lines) for lines in _entries(text) if _name(lines[0]) == name.lower()]
    return found[-1] if found and "," not in found[-1] and found[-1] else ""


def merge(old: str, name: str, to: str) -> str:
    """`old` with the alias `name`: its first entry is replaced, further ones go; at the end when it was not there."""
    made: list[str] = []
    done = False
    for lines in _entries(old):
        if _name(lines[0]) != name.lower():
            made += lines
        elif not done:
            made += lines if _value(lines) == to else [f"{name}: {to}"]
            done = True
    if not done:
        made.append(f"{name}: {to}")
    return "\n".join(made) + "\n"


def _entries(text: str) -> list[list[str]]:
    """The lines of the file, each entry with its continuation lines."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    found: list[list[str]] = []
    for line in lines:
        if found and line[:1] in (" ", "\t") and line.strip() and _name(found[-1][0]):
            found[-1].append(line)
        else:
            found.append([line])
    return found


def _name(line: str) -> str:
    """The name that a line defines, lower case; "" for comments and blank lines."""
    if line.startswith("#") or line[:1].isspace() or ":" not in line:
        return ""
    return line.partition(":")[0].strip().strip('"').lower()


def _value(lines: list[str]) -> str:
    return " ".join([lines[0].partition(":")[2], *lines[1:]]).strip()
