"""mailq's text: C dma's listing (dma.c:416-437), byte for byte. One block for each recipient still due, and for each that
failed and whose sender could not be told: that keeps the message in the queue.

Made by an owner from its index, where 50,000 messages take a tenth of a second, and by `cmd.mailq` from the files where
there is no owner; so it imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dma_runtime.envelope import Envelope
    from dma_runtime.history import State


def block(id: str, sender: str, address: str) -> str:
    return f"ID\t: {id}\nFrom\t: {sender}\nTo\t: {address}\n"


def blocks(envelope: Envelope, state: State) -> str:
    """Those of one message."""
    return "--\n".join(
        block(envelope.id, envelope.sender, recipient.named)
        for index, recipient in enumerate(envelope.recipients)
        if index in state.open or index in state.untold
    )


def text(messages: Iterable[str]) -> str:
    return "--\n".join(filter(None, messages)) or "Mail queue is empty\n"
