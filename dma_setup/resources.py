"""Where recipes and templates are: the one module that knows.

An installed wheel carries them in `dma_setup/_data/`; in a checkout (or an editable install of one) they stand at the top
of the tree. Directories of one's own recipes come first when given.
"""

from __future__ import annotations

import os

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


def recipe_names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(name.removesuffix(".yml") for name in os.listdir(_directory("recipes")) if name.endswith(".yml"))


def recipe(name: str) -> str:
    """The path of a recipe's file. Raises UsageProblem when there is none of that name."""
    if name not in recipe_names():
        raise UsageProblem(f"there is no recipe {name}; see dma-setup list")
    return os.path.join(_directory("recipes"), name + ".yml")


def pattern(name: str) -> str:
    """The path of a pattern: questions and steps that recipes of one kind share."""
    return os.path.join(_directory("recipes"), "patterns", name + ".yml")


def library() -> str:
    """The directory that holds the package `dma_runtime`: what a launcher puts on `sys.path`."""
    import dma_runtime

    assert dma_runtime.__file__ is not None
    return os.path.dirname(os.path.dirname(os.path.abspath(dma_runtime.__file__)))
