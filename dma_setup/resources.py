"""Where recipes and templates are: the one module that knows.

An installed wheel carries them in `dma_setup/_data/`; in a checkout (or an editable install of one) they stand at the top
of the tree. One's own recipes (~/.config/dma/recipes, /etc/dma/recipes) come before shipped ones of the same name.
"""

from __future__ import annotations

import difflib
import os

from dma_runtime.config import user_directories
from dma_runtime.system.trust import distrust
from dma_setup.errors import SetupError, UsageProblem

_HERE = os.path.dirname(os.path.abspath(__file__))


def _directory(name: str) -> str:
    for candidate in (os.path.join(_HERE, "_data", name), os.path.join(os.path.dirname(_HERE), name)):
        if os.path.isdir(candidate):
            return candidate
    raise SetupError(f"the directory {name} of this program is missing; install it again")


def templates() -> str:
    """The directory with the templates."""
    return _directory("templates")


def own_directories() -> list[str]:
    """Where recipes of one's own may lie, the first to count first: a person's, then the machine's."""
    found = ["/etc/dma/recipes"]
    if os.getuid() != 0:
        config, _ = user_directories(os.getuid(), dict(os.environ))
        found[:0] = [config + "/recipes"] if config else []
    return found


def recipe_names() -> list[str]:
    """The names of all recipes, sorted. What may not be trusted (see `trust`) is left out."""
    names = set(_names(_directory("recipes")))
    for folder in own_directories():
        names.update(name for name in _names(folder) if not trust(f"{folder}/{name}.yml"))
    return sorted(names)


def is_own(name: str) -> bool:
    """Whether the recipe comes out of a directory of one's own."""
    return any(name in _names(folder) for folder in own_directories())


def distrusted() -> list[SetupError]:
    """The recipes of one's own that are not used, each with the reason."""
    found: list[SetupError] = []
    for folder in own_directories():
        for name in sorted(_names(folder)):
            if why := trust(f"{folder}/{name}.yml"):
                found.append(UsageProblem(f"{folder}/{name}.yml is not used: {why}"))
    return found


def recipe(name: str) -> str:
    """The path of a recipe's file: one's own before the shipped one. Raises UsageProblem when there is none of that name."""
    for folder in own_directories():
        if name in _names(folder):
            path = f"{folder}/{name}.yml"
            if why := trust(path):
                raise UsageProblem(f"{path} is not used: {why}")
            return path
    if name not in _names(_directory("recipes")):
        near = difflib.get_close_matches(name, recipe_names(), 1)
        raise UsageProblem(f"there is no recipe {name}; " + (f"did you mean {near[0]}?" if near else "see dma-setup list"))
    return os.path.join(_directory("recipes"), name + ".yml")


def _names(folder: str) -> list[str]:
    try:
        return [name.removesuffix(".yml") for name in os.listdir(folder) if name.endswith(".yml") and not name.startswith(".")]
    except OSError:
        return []


def trust(path: str) -> str:
    """Why a recipe of one's own may not be used, "" when it may: it decides where mail and a password go."""
    try:
        return distrust(path, os.getuid())
    except OSError as error:
        return f"{error.filename}: {error.strerror}"


def pattern(name: str) -> str:
    """The path of a pattern: questions and steps that recipes of one kind share."""
    return os.path.join(_directory("recipes"), "patterns", name + ".yml")


def library() -> str:
    """The directory that holds the package `dma_runtime`: what a launcher puts on `sys.path`."""
    import dma_runtime

    assert dma_runtime.__file__ is not None
    return os.path.dirname(os.path.dirname(os.path.abspath(dma_runtime.__file__)))
