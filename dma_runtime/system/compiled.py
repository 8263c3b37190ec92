"""What a program imports, compiled into one file among the library's other compiled ones: how a program takes it.

`dma_setup.prelink` makes it and says what is in it. It is taken where it was made by this very interpreter of the sources as
they are; what it does not bring is imported as ever.
"""

from __future__ import annotations

_TAKE = """\
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads

# Modules compiled into one file, where that fits; those it does not bring are imported as ever.
try:
    with open({stem} + sys.implementation.cache_tag + ".image", "rb") as file:
        if file.read(len(MAGIC_NUMBER)) == MAGIC_NUMBER:
            load, stamps, modules, _ = loads(file.read())
            exec(load, {{"stamps": stamps, "modules": modules, "sys": sys}})
except (OSError, ValueError, EOFError, TypeError):
    pass"""


def stem(library: str, image: str) -> str:
    """Where the image of that name is, up to the interpreter's tag; the program puts that behind it, and `.image`."""
    return f"{library}/dma_runtime/__pycache__/{image}."


def take(stem: str) -> str:
    """Source for the beginning of a program, behind `import sys`; no newline at its end."""
    return _TAKE.format(stem=ascii(stem))
