"""`dma-setup`: the parser. Every verb is a module of `commands`; every recipe is a verb too.

Exit statuses: interface.md, section 5. A `SetupError`, and an error of the system that nobody foresaw, becomes
one line on standard error; any other exception is a bug.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from dma_runtime import __version__
from dma_runtime.errors import DmaError
from dma_runtime.shown import shown
from dma_runtime.system import streams
from dma_setup import resources
from dma_setup.commands import auto, doctor, importing, listing, provision, secret, show, takeback, trial
from dma_setup.errors import FAILED, INTERRUPTED, SetupError
from dma_setup.report import LONGEST

VERBS = ("list", "show", "undo", "test", "doctor", "import", "auto", "secret")
NO_THREAD = "can't start new thread"  # what Python says, in an exception that says nothing else


def parser(recipe: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or all verbs and this one recipe: making a parser for each recipe takes its time."""
    made = argparse.ArgumentParser(
        prog="dma-setup",
        description="Set up mail: choose how mail leaves this machine, prove it, and be able to take it back.",
        epilog="A recipe's name is a command too: dma-setup gmail. See dma-setup list.",
    )
    made.add_argument("--version", action="version", version=f"dma-setup {__version__}")
    verbs = made.add_subparsers(dest="verb", metavar="RECIPE or COMMAND")
    for module in (listing, show, trial, doctor, importing, auto, secret, takeback):
        module.register(verbs)
    for name in resources.recipe_names() if recipe is None else [recipe]:
        if name not in VERBS:
            provision.register(verbs, name)
    return made


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    streams.prepare()
    streams.carry_on("stdout", "stderr")
    try:
        recipe = words[0] if words and not words[0].startswith("-") and words[0] not in VERBS else None
        if recipe is not None:
            resources.recipe(recipe)  # says what there is
        made = parser(recipe)
        options, more = made.parse_known_args(words)
        if more and options.verb == "secret":
            raise secret.no_words(options)
        if more:
            made.error(shown(f"unrecognized arguments: {' '.join(more)}", LONGEST))
        run: Callable[[argparse.Namespace], int] = getattr(options, "run", provision.choose)
        status = run(options)
        streams.settle()
        return status
    except SetupError as error:
        _say(error.text, error.details)
        return error.status
    except DmaError as error:
        _say(error.text, [])
        return FAILED
    except KeyboardInterrupt:
        _say("stopped; nothing was changed", [])
        return INTERRUPTED
    except OSError as error:  # a full disk, a full /dev/full: nothing that a traceback would explain
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{error.strerror or error}", [])
        return FAILED
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        _say("no further thread or process is allowed here (ulimit -u, ulimit -v, or the limits of a container)", [])
        return FAILED


def _say(text: str, details: list[str]) -> None:
    sys.stderr.write("".join(shown(line, LONGEST) + "\n" for line in [f"dma-setup: {text}", *details]))
