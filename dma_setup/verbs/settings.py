"""`settings: {path, mode, keys, says}`: the keys of dma.conf that a recipe owns.

A new file is rendered from `dma.conf.j2`. In an existing file the owned keys are changed line by line: comments, order,
keys of others and unknown keys stay. A key whose value is true stands alone; false or empty means the key must be absent;
none means that the recipe has no opinion on it.
A line that says the same already is left as it is written.
"""

from __future__ import annotations

from typing import Any

from dma_runtime import config
from dma_setup import render
from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.errors import SetupError
from dma_setup.view import View

Wanted = dict[str, str | None]  # None: must be absent; "": stands alone


def plan(step: dict[str, Any], view: View) -> list[Change]:
    path = view.resolve(step["path"])
    wanted = wants(step["keys"])
    old = view.text(path)
    if old is None:
        keys = [(name, value, config.KEYS[name].says) for name, value in wanted.items() if value is not None]
        text = render.template("dma.conf.j2", {**view.values, "keys": keys})
    else:
        text = merge(old, wanted)
    check(text, path, wanted, view)
    found = view.entry(path)
    mode = int(step["mode"], 8) if "mode" in step else found.mode if found is not None else 0o600
    return [view.path_change(path, views.file(text, mode), step.get("says", ""), drains=True)]


def wants(keys: dict[str, Any]) -> Wanted:
    """What a step's `keys` ask for. Substitution makes text of everything, so True and False may come as words."""
    found: Wanted = {}
    for name, value in keys.items():
        declared = config.KEYS.get(name)
        if declared is None:
            raise SetupError(f"recipe: dma.conf has no key {name}")
        text = str(value).strip()
        if text == "None":
            continue
        if text in ("", "False"):
            found[name] = None
        elif declared.parse is config.flag:
            if text != "True":
                raise SetupError(f"recipe: {name} is switched on by true, not by {text!r}")
            found[name] = ""
        else:
            found[name] = render.dmaconf(text)
    return found


def check(text: str, path: str, wanted: Wanted, view: View) -> None:
    """Read the text with the runtime's own parser: what setup writes must be understood there.

    A bad value of somebody else's is a warning here; it is the runtime that stops at it.
    """
    for problem in config.parse(text, path).problems:
        if any(problem.reason.startswith(name) for name in wanted):
            raise SetupError(problem.text)
        view.note(f"{problem.text}; until that is mended, no mail is taken or sent")


def merge(old: str, wanted: Wanted) -> str:
    """`old` with the wanted keys set: the last occurrence of a key counts and is changed in place, earlier ones go."""
    lines = old.split("\n")
    end = "\r\n" if any(line.endswith("\r") for line in lines) else "\n"
    lines = [line.removesuffix("\r") for line in lines]
    if lines and not lines[-1]:
        lines.pop()
    last = {name: number for number, line in enumerate(lines) if (name := config.split_line(line)[0]) in wanted}
    kept: list[str] = []
    for number, line in enumerate(lines):
        name, said = config.split_line(line)
        if name not in wanted:
            kept.append(line)
        elif last[name] == number and wanted[name] is not None:
            kept.append(line if _same(name, said, wanted[name]) else _line(name, wanted[name], _comment(line)))
    for name, value in wanted.items():
        if value is not None and name not in last:
            _insert(kept, name, _line(name, value, ""))
    return end.join(kept) + end


def _same(name: str, value: str, wanted: str | None) -> bool:
    parse = config.KEYS[name].parse
    try:
        return bool(parse(value) == parse(wanted or ""))
    except config.BadValue:
        return False


def _line(name: str, value: str | None, comment: str) -> str:
    return f"{name} {value}".rstrip() + comment


def _comment(line: str) -> str:
    """The comment behind a setting, with the blanks before it."""
    content = line.split()
    for at in range(1, len(line)):
        if line[at] == "#" and line[at - 1].isspace() and content:
            return line[len(line[:at].rstrip()) :]
    return ""


def _insert(lines: list[str], name: str, line: str) -> None:
    """Below the sample line of that key (`#KEY …`, as in C dma's file) when there is one, else at the end."""
    for number in range(len(lines) - 1, -1, -1):
        words = lines[number].lstrip("# \t").split()
        if lines[number].startswith("#") and words and words[0] == name and len(words) <= 2:
            lines.insert(number + 1, line)
            return
    lines.append(line)
