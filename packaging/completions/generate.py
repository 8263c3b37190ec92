"""Write the completions from the programs' own parsers: `python packaging/completions/generate.py` (a test says when stale).

Static files, so that a TAB costs no start of Python. Needs shtab.
"""

import pathlib
import sys

import shtab

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from dma_runtime.cmd import daemon, queue  # noqa: E402 the checkout comes first
from dma_setup import cli  # noqa: E402

PARSERS = {"dmad": daemon.parser, "dma-queue": queue.parser, "dma-setup": cli.parser}


def completions():
    """By file name, for bash and zsh."""
    found = {}
    for name, parser in PARSERS.items():
        made = parser()
        made.prog = name
        found[f"{name}.bash"] = shtab.complete(made, "bash")
        found[f"_{name}"] = shtab.complete(made, "zsh")
    return found


def main():
    for name, text in completions().items():
        (HERE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
