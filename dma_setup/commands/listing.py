"""`dma-setup list`: the recipes, one line each; with `--schema`, what a recipe may hold, as a JSON Schema for editors.

A recipe of one's own that cannot be used is named with the reason on standard error, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from typing import Any

from dma_setup import recipe, recipe_schema
from dma_setup.errors import DONE, FAILED
from dma_setup.report import WIDTH


def register(verbs: Any) -> None:
    parser = verbs.add_parser("list", help="the recipes there are")
    parser.add_argument("--json", action="store_true", help="as one JSON document")
    parser.add_argument("--schema", action="store_true", help="the JSON Schema of a recipe, for editors")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.schema:
        json.dump(recipe_schema.make(), sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return 0
    found, problems = recipe.every()
    found.sort(key=lambda one: one.name)
    if options.json:
        json.dump([{"recipe": one.name, "summary": one.summary} for one in found], sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        width = max(len(one.name) for one in found)
        for one in found:
            lines = [one.summary]
            if sys.stdout.isatty():  # elsewhere it stays one line, to be searched for
                lines = textwrap.wrap(one.summary, WIDTH - width - 2, break_long_words=False, break_on_hyphens=False)
            sys.stdout.write(f"{one.name:<{width}}  " + f"\n{'':{width}}  ".join(lines) + "\n")
    for problem in problems:
        sys.stderr.write(f"dma-setup: {problem.text}\n")
    return FAILED if problems else DONE
