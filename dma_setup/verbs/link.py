"""`link: {name, says}`: the name that programs call, a link to the launcher. What stood there before is kept for undo.

System mode takes a name over as Debian expects it: where the path is one of update-alternatives, we become the chosen
alternative; where a package owns the path, the package's file is diverted (dpkg-divert) and follows its own upgrades
beside ours; anything else is replaced and kept in the journal. The package stays installed either way.
"""

from __future__ import annotations

import os
from typing import Any

from dma_setup import view as views
from dma_setup.changes import Change
from dma_setup.changes.command import CommandChange
from dma_setup.errors import SetupError
from dma_setup.system import DIRECTORY, LINK
from dma_setup.view import View

ALTERNATIVES = "/etc/alternatives/"
PRIORITY = "100"
ASIDE = ".dma-setup"
DPKG = "/var/lib/dpkg/info"


def plan(step: dict[str, Any], view: View) -> list[Change]:
    path = view.place.links[step["name"]]
    found = view.entry(path)
    if found is not None and found.kind == DIRECTORY:
        raise SetupError(f"{path} is a directory; move it away first")
    ours = view.path_change(path, views.link(view.place.launcher), step.get("says", ""), foreign=found is not None)
    if not view.place.is_user:
        return _take_over(path, ours, view)
    folder = os.path.dirname(path)
    if view.place.is_live and folder not in os.environ.get("PATH", "").split(":"):
        view.note(f"{view.place.shown(folder)} is not on your PATH; programs find sendmail there once it is")
    return [ours]


def _take_over(path: str, ours: Change, view: View) -> list[Change]:
    found = view.entry(path)
    if found is None or not ours.is_needed:
        return [ours]
    target = os.fsdecode(found.content) if found.kind == LINK else ""
    if target.startswith(ALTERNATIVES):
        chosen = _alternative(path, target.removeprefix(ALTERNATIVES), view)
        if chosen is not None:
            return chosen
    if _owner(path, view):
        divert = _divert(path, view)
        view.add(divert)
        return [view.path_change(path, views.link(view.place.launcher), "what programs call")]
    return [ours]


def _alternative(path: str, name: str, view: View) -> list[Change] | None:
    """We as the chosen alternative of NAME; None when it is not one that can be chosen by itself."""
    root = ("--root", view.place.root) if view.place.root else ()
    status, output = view.run(["update-alternatives", *root, "--query", name])
    said = dict(line.split(": ", 1) for line in output.partition("\n\n")[0].splitlines() if ": " in line)
    if status != 0 or said.get("Link") != path:
        return None
    launcher = view.place.launcher
    if said.get("Value") == launcher:
        view.right.append(path)
        return []
    tool = ("update-alternatives", *root)
    back = ((*tool, "--set", name, said["Value"]),) if said.get("Status") == "manual" and "Value" in said else ()
    return [
        CommandChange(
            do=((*tool, "--install", path, name, launcher, PRIORITY), (*tool, "--set", name, launcher)),
            undo=((*tool, "--remove", name, launcher), *back),
            subject=path,
            says=f"the chosen alternative, instead of {said.get('Value', 'nothing')}",
            is_new=False,
            foreign=True,
        )
    ]


def _owner(path: str, view: View) -> str:
    """The Debian package that has a file at `path`, "" when none has, or when it has been diverted already."""
    folder = view.place.at(DPKG)
    wanted = path.encode() + b"\n"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if not name.endswith(".list"):
            continue
        with open(f"{folder}/{name}", "rb") as file:
            content = b"\n" + file.read()
        if b"\n" + wanted in content:
            return name.removesuffix(".list").partition(":")[0]
    return ""


def _divert(path: str, view: View) -> CommandChange:
    root = (f"--root={view.place.root}",) if view.place.root else ()
    tool = ("dpkg-divert", *root, "--quiet", "--local", "--rename")
    return CommandChange(
        do=((*tool, "--divert", path + ASIDE, "--add", path),),
        undo=((*tool, "--remove", path),),
        subject=path + ASIDE,
        says=f"where {_owner(path, view)} keeps its {os.path.basename(path)} meanwhile (dpkg-divert)",
        foreign=True,
        vacates=path,
    )
