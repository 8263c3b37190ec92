"""newaliases, `dma -bi`: check the aliases file. There is no database to rebuild; each submission reads the file.

Silent and 0 when every line is understood. Otherwise each bad line is named on standard error, and the status is 70; mail
goes on meanwhile with the lines that work (interface.md, section 8).
"""

from __future__ import annotations

import os

from dma_runtime.errors import EX_OK, EX_SOFTWARE
from dma_runtime.system.aliasfile import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config


def check(config: Config, program: str) -> int:
    """The exit status. Raises DmaError when the file cannot be read."""
    problems = load(config.ALIASES).problems
    for problem in problems:
        os.write(2, f"{program}: {problem}\n".encode("utf-8", "backslashreplace"))
    return EX_SOFTWARE if problems else EX_OK
