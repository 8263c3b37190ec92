"""What became of a recipient in one attempt: the one status value from the socket to the bounce.

It is made where a reply is read (`delivery.session`) or a local fault is met, given its meaning by
`policy.verdict`, kept in the attempt log, and shown in the log, the queue listing and the report.
"""

DELIVERED = "delivered"  # the relay's 250 to the final dot, or a synced mailbox append
DEFERRED = "deferred"  # try again
FAILED = "failed"  # final; the sender gets a report

# What the outcome is a verdict on. It decides who else need not be tried, and whether anybody is to blame.
RECIPIENT = "recipient"
MESSAGE = "message"
SENDER = "sender"  # this sender at this relay: hold the pair
RELAY = "relay"  # every message to this relay: one attempt, one line
PACE = "pace"  # the same, and only for a while: the relay asks for fewer messages or sign-ins
MACHINE = "machine"  # no route, no resolver: counted for nobody

# C dma's words for where in the dialogue a thing happened; bounce parsers know them.
STAGES = ("connect", "EHLO", "STARTTLS", "AUTH", "MAIL FROM", "RCPT TO", "DATA", "final DATA")


class Outcome:
    """One recipient's result.

    kind: DELIVERED, DEFERRED or FAILED. scope: what it is a verdict on (see above).
    code: the SMTP reply code, 0 when no server spoke. status: RFC 3463 triple, "" if unknown.
    text: the full reply, lines joined with a newline, undecodable bytes escaped; or our own words when code is 0.
    stage: one of STAGES, "" for local work. relay: `host [address]`, "" for local work.
    answered: a relay or resolver gave an answer (the five answers of EXPIRE count only these).
    tell: the operator has to do something (hard-parts.md, "Telling the operator"). hint: what, in one sentence.
    """

    __slots__ = ("answered", "code", "hint", "kind", "relay", "scope", "stage", "status", "tell", "text")

    def __init__(
        self,
        kind: str,
        text: str,
        *,
        scope: str = RECIPIENT,
        code: int = 0,
        status: str = "",
        stage: str = "",
        relay: str = "",
        answered: bool = False,
        tell: bool = False,
        hint: str = "",
    ) -> None:
        self.kind = kind
        self.text = text
        self.scope = scope
        self.code = code
        self.status = status
        self.stage = stage
        self.relay = relay
        self.answered = answered
        self.tell = tell
        self.hint = hint

    @property
    def holds_relay(self) -> bool:
        """Whether nothing more can go to this relay at present, whatever the message."""
        return self.kind == DEFERRED and self.scope in (RELAY, PACE, MACHINE)

    def __repr__(self) -> str:
        return f"Outcome({self.kind}, {self.scope}, {self.code} {self.status} {self.text!r} at {self.stage!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # a value that is compared, never a key
