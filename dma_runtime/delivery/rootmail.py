"""Root hears by mail of what has stood for a day, in system mode: once for each, in the local mailbox, past all aliases.

Nobody may look at a log or run `mailq` on a machine that works by itself; its root's mailbox is where somebody looks at last.
What is wrong with that very mailbox is not told there. `write` blocks (it syncs) and raises CannotSpool, OSError: come again.
"""

from __future__ import annotations

import os

from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.message.letter import letter
from dma_runtime.policy import telling
from dma_runtime.system import identity, notice
from dma_runtime.system.spool import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config
    from dma_runtime.system.spool import Spool

ROOT = "root"


def write(spool: Spool, config: Config, now: float) -> str:
    """Put the letter about what is due into the queue and note that it was told. Its id, "" when nothing is due."""
    standing = notice.current(spool.path)
    mailname = identity.mail_name(config)
    due = telling.unmailed(standing, now, but=(f"mailbox {ROOT}", f"mailbox {ROOT}@{mailname}"))
    if not due:
        return ""
    id = new_id(now, os.urandom)
    head, body = letter(id, telling.lines(due, now, most=len(due)), mailname=mailname, hostname=identity.host_name(), now=now)
    envelope = Envelope(id, "", [Recipient(ROOT)], now)
    envelope.uid = os.geteuid()
    envelope.login = identity.login_name(envelope.uid, {})
    envelope.message_id = f"<{id}@{mailname}>"
    envelope.header_end = len(head)
    draft = spool.draft(envelope)
    draft.write(head + b"\n" + body)
    draft.commit(envelope)
    notice.mark_mailed(spool.path, [one.subject for one in due])
    return id
