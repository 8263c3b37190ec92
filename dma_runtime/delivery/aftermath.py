"""What the end of a connection means for the messages it cut off. Pure.

Rules:
- Where the end of a message was written and not answered, it may have been delivered: deferred, and said so.
- Where nothing was said about a message and the session had worked before (or an older message was cut off with it), it was
  not tried: no attempt, due again at once. The same for a 421 to its MAIL, which speaks of the connection, and for a relay
  that turned out not to know BDAT.
- Else the words of the end are the outcome: the relay's, when it said some.
"""

from __future__ import annotations

from dma_runtime.delivery.habits import PROVED, SUSPECTED
from dma_runtime.policy import verdict
from dma_runtime.smtp import command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.outcome import Outcome
    from dma_runtime.smtp.command import Verb
    from dma_runtime.smtp.reply import Reply
    from dma_runtime.smtp.transaction import Transaction


class End:
    """How a connection ended: `text` for people; `verb` whose reply was due; `uncalled` a reply that answered nothing."""

    __slots__ = ("outstanding", "peer", "text", "uncalled", "verb")

    def __init__(self, text: str, verb: Verb | None, outstanding: int, uncalled: Reply | None, peer: str) -> None:
        self.text = text
        self.verb = verb
        self.outstanding = outstanding
        self.uncalled = uncalled
        self.peer = peer
        if verb is not None and verb.says not in text:
            self.text += f" while {verb.says} was awaited"

    def unanswered(
        self, now: Transaction, *, first: bool, worked: bool, judge: Callable[[str, Reply], Outcome]
    ) -> tuple[Outcome, bool]:
        """(the outcome of recipients without an answer, True if it holds for those with one too).

        `first`: the oldest transaction cut off. `worked`: the relay had taken a message on this session.
        """
        if now.misled:
            return verdict.untried("the relay does not know BDAT, it goes again without", relay=self.peer), False
        if now.committed:
            text = f"{self.text}; the message may have been delivered"
            return verdict.fault(command.S_FINAL, text, relay=self.peer), False
        if (worked or not first) and (not now.answered or (now.closing is not None and now.mail_refused)):
            return verdict.untried("the session ended before its turn", relay=self.peer), True
        stage = command.S_MAIL if not first else self.verb.stage if self.verb is not None else command.S_DATA
        closing = now.closing or self.uncalled
        if closing is not None and closing.code == 421:
            return judge(stage, closing), False
        return verdict.fault(stage, self.text, relay=self.peer), False

    def habit(self, head: Transaction | None, *, pipelining: bool, worked: bool) -> float:
        """For how many seconds the relay is held to be one that cannot do what it offers, 0 as a rule (delivery.habits).

        `head` is the oldest transaction cut off.
        """
        if head is None or not (pipelining or head.chunking):
            return 0
        if head.misled or head.fatal:
            return PROVED
        polite = head.closing is not None or (self.uncalled is not None and self.uncalled.code == 421)
        return SUSPECTED if self.outstanding and not polite and not worked else 0
