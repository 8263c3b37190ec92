"""`-bv`: where mail for each address would go, one line each, as sendmail says it; no mail is sent.

Exit status 0, or 67 when an address would be refused.
"""

from __future__ import annotations

from dma_runtime.cmd.caller import put
from dma_runtime.cmd.submit import accepted, argument, resolver
from dma_runtime.errors import EX_NOINPUT, EX_NOUSER, EX_OK, DmaError
from dma_runtime.shown import shown
from dma_runtime.system import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.cmd.caller import Caller


def verify(caller: Caller) -> int:
    """`-bv`: say for each address where it would go; 67 when one would be refused."""
    said, status = verification(caller)
    put(said)
    return status


def _mailer(whole: str) -> str:
    if whole.startswith(("|", ">")) and " " in whole:
        return "prog" if whole[0] == "|" else "file"
    return "relay" if "@" in whole else "local"


def verification(caller: Caller) -> tuple[bytes, int]:
    """What `-bv` prints, and its exit status. Raises DmaError."""
    if not caller.options.operands:
        raise DmaError("no recipients from command line", EX_NOINPUT)
    rules = resolver(caller, identity.mail_name(caller.config))
    said: list[str] = []
    status = EX_OK
    for recipient in accepted(rules, [found for operand in caller.options.operands for found in argument(operand)]):
        if recipient.refused:
            line, status = f"{recipient.original}... {recipient.refused}", EX_NOUSER
        else:
            mailer = _mailer(recipient.address)
            line = f"{recipient.original}... deliverable: mailer {mailer}, user {recipient.address}"
        said.append(shown(line, 1000) + "\n")
    return "".join(said).encode("utf-8", "backslashreplace"), status
