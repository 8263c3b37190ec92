"""What the daemon asks of the mailbox process, and what it is told: the header and result frames between the two (`frames`).

do: append, one message into the mailbox of `login`, which follows in DATA frames; forward, the text of its `.forward`; or
run, one message for the command or file `errand` (as `aliases.as_address` writes it) of its `.forward` or, with no login,
of the aliases file.
For append and run: `sender` and `address` as they stand in the envelope, `id`, `accepted_at` and `part` (the recipient's
number) name the delivery, the same in every attempt.

The result of append and run is an Outcome; that of forward its text, None when there is no such file, or why it is not used.
"""

from __future__ import annotations

from dma_runtime import frames
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, Outcome

APPEND, FORWARD, RUN = "append", "forward", "run"

_KINDS: dict[str, type] = {
    "do": str, "login": str, "sender": str, "address": str, "id": str, "accepted_at": float, "part": int,
    "errand": str,
}  # fmt: skip
_OUTCOME: dict[str, type] = {"kind": str, "text": str, "status": str, "tell": bool, "hint": str}
_FORWARD: dict[str, type] = {"text": str, "unsafe": str}


class Posting:
    """See the module's docstring."""

    __slots__ = tuple(_KINDS)

    def __init__(self, do: str, login: str) -> None:
        self.do = do
        self.login = login
        self.sender = ""
        self.address = ""
        self.id = ""
        self.accepted_at = 0.0
        self.part = 0
        self.errand = ""


def encode(posting: Posting) -> bytes:
    """The header frame."""
    fields = {"v": frames.VERSION, **{name: getattr(posting, name) for name in _KINDS}}
    return frames.frame(frames.HEADER, frames.json_object(fields))


def decode(payload: bytes) -> Posting:
    """Raises frames.BadFrame."""
    said = frames.read_object(payload, _KINDS)
    do = said.get("do")
    if do not in (APPEND, FORWARD, RUN) or not said.get("errand" if do == RUN else "login"):
        raise frames.BadFrame("neither append, forward nor run, or for nobody")
    posting = Posting(APPEND, "")
    for name, value in said.items():
        setattr(posting, name, value)
    return posting


def encode_outcome(outcome: Outcome) -> bytes:
    """The result frame of append."""
    fields = {"v": frames.VERSION, **{name: getattr(outcome, name) for name in _OUTCOME}}
    return frames.frame(frames.RESULT, frames.json_object(fields))


def decode_outcome(payload: bytes) -> Outcome:
    """Raises frames.BadFrame."""
    said = frames.read_object(payload, _OUTCOME)
    if said.get("kind") not in (DELIVERED, DEFERRED, FAILED):
        raise frames.BadFrame("a result that is none")
    kind, text, tell = str(said["kind"]), str(said.get("text", "")), bool(said.get("tell"))
    return Outcome(kind, text, status=str(said.get("status", "")), tell=tell, hint=str(said.get("hint", "")))


def encode_forward(text: str | None, unsafe: str = "") -> bytes:
    """The result frame of forward."""
    fields: dict[str, frames.Json] = {"v": frames.VERSION}
    if text is not None:
        fields["text"] = text
    if unsafe:
        fields["unsafe"] = unsafe
    return frames.frame(frames.RESULT, frames.json_object(fields))


def decode_forward(payload: bytes) -> tuple[str | None, str]:
    """(text or None, why it is not used or ""). Raises frames.BadFrame."""
    said = frames.read_object(payload, _FORWARD)
    text = said.get("text")
    return (text if isinstance(text, str) else None), str(said.get("unsafe", ""))
