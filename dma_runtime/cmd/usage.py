"""A command line read by argparse whose mistakes are exit 64, as sysexits has it, not argparse's 2."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from dma_runtime.errors import EX_USAGE
from dma_runtime.shown import shown


class Parser(argparse.ArgumentParser):
    """Its subparsers are of this kind too."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {shown(message)}\n")
