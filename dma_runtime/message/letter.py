"""The letter to root about what has kept mail from leaving for more than a day (hard-parts.md, "Telling the operator").

One text for people, in ASCII: causes and remedies are escaped where they were made (`policy.telling`). Pure.
"""

from __future__ import annotations

import textwrap

from dma_runtime.message.dsn import date

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 76


def letter(id: str, lines: Sequence[str], *, mailname: str, hostname: str, now: float) -> tuple[bytes, bytes]:
    """(header, body) of the letter `id`, with LF line ends; `lines`: one cause with its remedy each."""
    head = [
        f"Received: by {mailname} (dma on {hostname}) id {id}; {date(now)}",
        f"From: Mail Delivery Subsystem <MAILER-DAEMON@{mailname}>",
        f"To: root@{mailname}",
        f"Subject: Mail does not leave {hostname}",
        f"Message-ID: <{id}@{mailname}>",
        f"Date: {date(now)}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "Auto-Submitted: auto-generated",  # RFC 3834 5
    ]
    text = ["For more than a day mail has not left this machine as it should.", ""]
    for line in lines:
        shown = line.encode("ascii", "backslashreplace").decode("ascii")
        text += textwrap.wrap(shown, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
    text += [
        "",
        "`mailq' and `dma-queue list' show what waits, `dma-setup doctor' looks for",
        "the cause. This is said once, to root's mailbox on this machine, whatever",
        "the aliases say: what stops other mail might stop a letter, too.",
    ]
    return ("\n".join(head) + "\n").encode("ascii"), ("\n".join(text) + "\n").encode("ascii")
