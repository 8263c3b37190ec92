"""mailq's text: C dma's listing (dma.c:416-437), byte for byte. One block for each recipient still due.

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
        block(envelope.id, envelope.sender, recipient.address)
        for recipient, progress in zip(envelope.recipients, state.recipients, strict=True)
        if progress.state != "delivered"
    )


def text(messages: Iterable[str]) -> str:
    return "--\n".join(filter(None, messages)) or "Mail queue is empty\n"
