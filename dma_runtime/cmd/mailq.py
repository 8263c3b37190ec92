"""mailq(1), `dma -bp`: what is queued, in C dma's words (`delivery.plainlist`).

The owner answers from its index; without one the files are read. A message that is damaged or cannot be read has no
recipients and is not shown here; `dma-queue list` shows it.
"""

from __future__ import annotations

import os
import sys

from dma_runtime.config import Config
from dma_runtime.delivery import plainlist
from dma_runtime.errors import EX_IOERR, BrokenMessage, DmaError, status_of
from dma_runtime.system import clock, notice, streams, takeover
from dma_runtime.system.ownership import NO_ANSWER, ask
from dma_runtime.system.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ASK = 30.0  # seconds for the owner to answer


def mailq(config: Config) -> int:
    """Print the listing. Raises DmaError."""
    notice.say(config.SPOOLDIR, "mailq", clock.now().wall)
    spool = Spool(config.SPOOLDIR)
    if left := takeover.said(config.SPOOLDIR):
        print(f"mailq: {left}", file=sys.stderr)
    try:
        try:
            answer = ask(spool, {"do": "mailq"}, timeout=ASK)
        except TimeoutError:
            print(f"mailq: {NO_ANSWER}; this is what the files say", file=sys.stderr)
            answer = None
        said = answer.get("text") if answer is not None else None
        text = said if isinstance(said, str) else plainlist.text(_from_files(spool))
    except OSError as error:
        raise DmaError(f"{error.filename or config.SPOOLDIR}: {error.strerror or error}", status_of(error)) from None
    streams.prepare()
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    except BrokenPipeError:
        raise
    except OSError as error:
        streams.silence()
        raise DmaError(f"standard output: {error.strerror}", EX_IOERR) from None
    streams.settle()
    return 0


def _from_files(spool: Spool) -> Iterator[str]:
    """Each message's blocks, oldest first. Raises OSError."""
    try:
        ids = spool.ids()
        tried = set(os.listdir(spool.log))
    except FileNotFoundError:
        return  # nothing was ever queued
    for id in ids:
        try:
            envelope = spool.read(id)
            if id in tried:
                from dma_runtime.history import fold
                from dma_runtime.system.ledger import Ledger

                yield plainlist.blocks(envelope, fold(envelope, Ledger(spool).events(id)))
            else:
                yield "--\n".join(plainlist.block(id, envelope.sender, one.named) for one in envelope.recipients)
        except (BrokenMessage, OSError):
            continue  # damaged, delivered since, or not to be read: the others are shown
