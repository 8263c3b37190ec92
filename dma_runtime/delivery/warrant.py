"""Has he whose rights a command would have asked for it himself? In system mode the daemon says what is to be run, and is not
believed: it hears the network, and would otherwise be every user of the machine.

- What a user's `.forward` is said to name is looked up in it, by the rules of `system.forward`, with the user's rights.
- What the aliases are said to name is looked up in the aliases file and the files it includes. It counts only where nobody
  but root can have written it (`system.trust`), and is read with the rights of the account dma. Only commands: whoever's
  rights a file of the aliases would be written with, another could have put it there.
- One that is not named any more is FAILED: the sender hears of it.

Blocks. Raises OSError, DmaError when nobody can say.
"""

from __future__ import annotations

from dma_runtime.aliases import INCLUDE, PIPE, Target, listed
from dma_runtime.config import contents
from dma_runtime.outcome import DEFERRED, FAILED, Outcome
from dma_runtime.shown import shown
from dma_runtime.system import aliasfile, forward
from dma_runtime.system.trust import distrust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def of_forward(kind: str, text: str, login: str, home: str, uid: int) -> Outcome | None:
    """Why what the .forward of `login` is said to name is not done; None when it is."""
    said, why = forward.read(home, uid)
    if said is None and why:
        return Outcome(DEFERRED, why, status="4.3.5", tell=True, hint="see dma.conf(5), PIPES")
    if said is not None and Target(kind, text) in listed(said)[0]:
        return None
    return Outcome(FAILED, f"the .forward of {login} does not name it: {shown(text, 200)}", status="5.7.1")


def of_aliases(text: str, path: str) -> Outcome | None:
    """Why a command that the aliases file at `path` is said to name is not run; None when it is."""
    if why := distrust(path, 0):
        return Outcome(FAILED, f"{shown(text, 200)}: {why}", status="5.7.1")
    if Target(PIPE, text) in _named(path):
        return None
    return Outcome(FAILED, f"{path} does not name it: {shown(text, 200)}", status="5.7.1")


def _named(path: str) -> Iterator[Target]:
    """All that the aliases file and those it includes name."""
    waiting = [target for targets in aliasfile.load(path).entries.values() for target in targets]
    included: set[str] = set()
    while waiting:
        target = waiting.pop()
        if target.kind != INCLUDE:
            yield target
        elif target.text not in included:
            included.add(target.text)
            waiting += _included(target.text)


def _included(path: str) -> list[Target]:
    try:
        return [] if distrust(path, 0) else listed(contents(path))[0]
    except OSError:
        return []  # one list that is gone is not the others' affair
