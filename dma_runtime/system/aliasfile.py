"""Reading the aliases file and the files it includes. The grammar is in `aliases`."""

from __future__ import annotations

from dma_runtime.aliases import Aliases, parse
from dma_runtime.config import contents
from dma_runtime.errors import EX_SOFTWARE, DmaError


def load(path: str) -> Aliases:
    """The aliases of `path`; a missing file has none. Raises DmaError (70) when it is there and cannot be read."""
    try:
        return parse(contents(path), path)
    except FileNotFoundError:
        return Aliases(path)
    except OSError as error:
        raise DmaError(f"can not open aliases file `{path}': {error.strerror or error}", EX_SOFTWARE) from None
