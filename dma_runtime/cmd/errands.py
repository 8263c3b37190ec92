"""The mailbox process's third operation: one message for one command or file (PIPES), as whoever ordered it.

- A `.forward`'s, as the user; root's `.forward`, and the aliases, as nobody. No other groups.
- Only where dma.conf has PIPES, and if the order stands (`delivery.warrant`). dma.conf is the machine's own.
- The command begins when the whole message has come, and then has its own time (`delivery.errand`).
"""

from __future__ import annotations

import os
import pwd

from dma_runtime import aliases, frames
from dma_runtime.config import SYSTEM_CONF, load
from dma_runtime.delivery import errand, local, warrant
from dma_runtime.errors import DmaError
from dma_runtime.outcome import DEFERRED, FAILED, Outcome
from dma_runtime.system import mbox, privilege

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dma_runtime.posting import Posting


def answer(asked: Posting, become: Callable[[pwd.struct_passwd], None], message: Callable[[], Iterator[bytes]]) -> Outcome:
    """Do it, as the user that `become` makes of us. Raises BadFrame, and what `message` raises."""
    found = aliases.of_address(asked.errand)
    if found is None:
        raise frames.BadFrame("an errand that is none")
    kind, text, login = found
    try:
        config = load(SYSTEM_CONF)
        who = pwd.getpwnam(login or errand.NOBODY)
        if login and who.pw_uid != 0:
            become(who)
        if (no := errand.refused(kind, text, config)) is not None:  # root, still: it writes no files
            return no
        no = warrant.of_forward(kind, text, login, who.pw_dir, who.pw_uid) if login else _of_aliases(text, config.ALIASES)
    except KeyError:
        return Outcome(FAILED, f"there is no user {login or errand.NOBODY} here", status="5.1.1")
    except (DmaError, OSError) as problem:
        return Outcome(DEFERRED, f"not run: {problem}", status="4.3.5", tell=True, hint="see dma.conf(5), PIPES")
    if no is not None:
        return no
    if os.geteuid() == 0:
        become(pwd.getpwnam(errand.NOBODY))
    if kind == aliases.PIPE:
        return errand.run(text, asked, message)
    return local.put_into(text, local.Letter(asked, message), mbox.WAIT)


def _of_aliases(text: str, path: str) -> Outcome | None:
    """The files are read as the account dma: root's rights are not for what they name."""
    if os.geteuid() != 0:
        return warrant.of_aliases(text, path)
    account = privilege.account()
    os.setgroups([])
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        return warrant.of_aliases(text, path)
    finally:
        os.seteuid(0)
        os.setegid(0)
