"""What a failure means: the one place that turns a reply or a fault into an `Outcome`.

The rules are those of docs/architecture.md ("Meaning of failures"):
- 5yz to the greeting, EHLO, STARTTLS or AUTH is a state of the relay: hold, tell the operator, retry. Nothing
  bounces.
- 5yz to MAIL from a smarthost is a verdict on that sender at that relay: hold the pair, tell. Delivering directly it
  is final at once. What speaks of the message (too large, its kind not possible) is a verdict on the message in both
  cases.
- 5yz to RCPT is a verdict on the recipient, to DATA or the end of the message on the message.
- Texts marked as quota or account (enhanced status 5.4.5 by default, more by QUOTA, which recipes set) pace the relay
  and bounce nothing, wherever they come.
- A 4yz that asks for a slower pace (too many messages, sign-ins or connections in a short time) is a state of the relay
  that soon passes, wherever it comes: a short pause for all, not a back-off for each (outcome.PACE).
- A demand for a login (530, 538) is a state of the relay wherever it comes, and 421 is the relay closing (RFC 5321
  3.8).
- 4yz defers what the same 5yz would have refused.
- A connection lost or silent is the relay's, except behind the end of a message, where the message itself may be the
  cause.

Pure. Follows RFC 5321 4.2, RFC 3463, RFC 1870 6, RFC 4954 6.
"""

from __future__ import annotations

from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, MACHINE, MESSAGE, PACE, RECIPIENT, RELAY, SENDER, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.smtp.reply import Reply

SESSION_STAGES = ("connect", "EHLO", "STARTTLS", "AUTH")

# Enhanced codes and words (lower case) that say "you have sent enough for now", not "this message is bad".
QUOTA = ("5.4.5",)

_ABOUT_MESSAGE = ("5.3.4", "5.6.", "5.2.3")  # too large; content or conversion; larger than the recipient takes
_NEEDS_LOGIN = (530, 538)  # RFC 4954 6

# Words by which servers ask for a slower pace: Postfix (anvil), Exim (ratelimit), Gmail, Exchange, IONOS, Yahoo and others.
# What the same words say of one recipient (a full mailbox, too many recipients) is excluded.
_TOO_FAST = (
    "rate limit", "ratelimit", "rate exceeded", "rate has been exceeded", "too fast", "too many messages", "too many mails",
    "too many emails", "too many login", "too many auth", "too many connections", "too many concurrent", "too much mail",
    "throttl", "send limit", "sending limit", "message limit", "limit exceeded", "hourly limit", "daily limit", "slow down",
    "unusual rate",
)  # fmt: skip
_NOT_PACE = ("4.2.2", "4.5.3")  # RFC 3463: mailbox full; too many recipients

_HINTS = {
    "connect": "The relay does not let this machine in; ask its operator, or check SMARTHOST and PORT in dma.conf.",
    "EHLO": "The relay does not accept this machine's name; check MAILNAME in dma.conf.",
    "STARTTLS": "The relay cannot do TLS now; ask its operator.",
    "AUTH": "The login was refused; store the right password with `dma-setup secret set'.",
}
_DIRECT_HINT = "The domain's mail exchanger takes no mail from this machine; many do only from a relay (SMARTHOST)."
_LOGIN_HINT = "The relay wants a login: put one for it into auth.conf, or run `dma-setup'."
_TLS_HINT = "The relay wants TLS first: add SECURETRANSFER and STARTTLS to dma.conf."  # RFC 3207 4 answers 530 too
_QUOTA_HINT = "The relay's sending limit is reached; mail waits until it lifts it."
_PACE_HINT = "The relay asks for a slower pace; RATE in dma.conf sets one."
_NULL_SENDER_HINT = "The relay takes no reports of failures (null sender); a line for <> in RELAYMAP sends them by another."
_SENDER_HINT = "The relay does not accept this sender; set MASQUERADE in dma.conf to an address the account may use."


def judge(
    stage: str,
    reply: Reply,
    *,
    smarthost: bool = True,
    relay: str = "",
    quota: tuple[str, ...] = QUOTA,
    null_sender: bool = False,
) -> Outcome:
    """The meaning of a reply at `stage` (one of outcome.STAGES). A 2yz is a delivery only at the end of the message.

    `null_sender`: it is about a report."""
    text, status, code = reply.text, reply.status, reply.code

    def made(kind: str, scope: str, tell: bool = False, hint: str = "") -> Outcome:
        return Outcome(
            kind, text, scope=scope, code=code, status=status, stage=stage, relay=relay, answered=True, tell=tell, hint=hint
        )

    if 200 <= code < 300:
        assert stage == "final DATA", stage
        return made(DELIVERED, RECIPIENT)
    final = code >= 500
    marked = _is_marked(reply, quota)
    if not final and not marked and _asks_for_patience(status, text):
        return made(DEFERRED, PACE, hint=_PACE_HINT)
    if code == 421:
        return made(DEFERRED, RELAY)
    if stage in SESSION_STAGES:
        hint = _HINTS[stage] if smarthost else _DIRECT_HINT
        return made(DEFERRED, RELAY, final, hint if final else "")
    if marked:
        return made(DEFERRED, RELAY, final, _QUOTA_HINT if final else "")
    if code in _NEEDS_LOGIN:
        return made(DEFERRED, RELAY, True, _TLS_HINT if "STARTTLS" in text.upper() else _LOGIN_HINT)
    if stage == "RCPT TO":
        return made(FAILED if final else DEFERRED, RECIPIENT)
    if stage != "MAIL FROM" or status.startswith(_ABOUT_MESSAGE) or (code == 552 and not status):  # RFC 1870 6.1
        return made(FAILED if final else DEFERRED, MESSAGE)
    if final and smarthost:
        return made(DEFERRED, SENDER, True, _NULL_SENDER_HINT if null_sender else _SENDER_HINT)
    if not final and (code == 452 or status.startswith(("4.3.", "4.4."))):
        return made(DEFERRED, RELAY)  # the relay is short of something, whoever sends
    return made(FAILED if final else DEFERRED, SENDER)


def _asks_for_patience(status: str, text: str) -> bool:
    if status in _NOT_PACE:
        return False
    said = " ".join(text.lower().split())
    return any(words in said for words in _TOO_FAST) and "mailbox" not in said


def _is_marked(reply: Reply, quota: tuple[str, ...]) -> bool:
    """Whether the reply holds one of the marks, in whatever case and however its lines are cut.

    A mark that is a status (5.4.5) must stand as a word of its own: it is part of many an address (195.4.5.1).
    """
    status = reply.status
    words = [word.lower() for line in reply.words for word in line.removeprefix(status).split()]
    said, spoken = " ".join(words), [status, *(word.strip("()[]<>,:;") for word in words)]
    return any(mark in spoken if mark.replace(".", "").isdigit() else mark in said for mark in quota)


NO_TLS = "4.7.10"  # RFC 5248's registry: encryption needed


def refusal(stage: str, text: str, *, relay: str = "", hint: str = "", status: str = "") -> Outcome:
    """We will not go on with this relay as it is set up: no TLS, no common mechanism. Hold and tell; nothing bounces."""
    hint = hint or _HINTS.get(stage, "")
    return Outcome(
        DEFERRED, text, scope=RELAY, status=status, stage=stage, relay=relay, answered=True, tell=True, hint=hint
    )


def fault(stage: str, text: str, *, relay: str = "", answered: bool = True, hint: str = "") -> Outcome:
    """The connection was lost, stayed silent or made no sense.

    `answered`: a relay or resolver gave an answer in this attempt.
    """
    scope = MESSAGE if stage == "final DATA" else RELAY
    return Outcome(DEFERRED, text, scope=scope, stage=stage, relay=relay, answered=answered, hint=hint)


def machine(text: str, *, relay: str = "", hint: str = "") -> Outcome:
    """No route or no resolver: a state of this machine, counted for nobody (hard-parts.md, Time).

    `hint`: what the operator has to do, where it does not pass by itself."""
    return Outcome(DEFERRED, text, scope=MACHINE, stage="connect", relay=relay, tell=bool(hint), hint=hint)


def no_such_host(text: str, *, relay: str = "", smarthost: bool = True) -> Outcome:
    """The resolver knows no such host. A mistyped SMARTHOST bounces nothing."""
    if not smarthost:
        return Outcome(FAILED, text, scope=RECIPIENT, status="5.1.2", stage="connect", relay=relay, answered=True)
    hint = "Check SMARTHOST in dma.conf."
    return Outcome(
        DEFERRED, text, scope=RELAY, status="4.4.4", stage="connect", relay=relay, answered=True, tell=True, hint=hint
    )


def no_exchanger(text: str, status: str, *, relay: str = "") -> Outcome:
    """Nobody takes mail for the recipient's domain, and that is final: no such domain, null MX, a loop."""
    return Outcome(FAILED, text, scope=RECIPIENT, status=status, stage="connect", relay=relay, answered=True)


def impossible(text: str, status: str, *, relay: str = "") -> Outcome:
    """The relay said beforehand that it cannot take this message (SIZE, SMTPUTF8): final, and nothing was sent."""
    return Outcome(FAILED, text, scope=MESSAGE, status=status, stage="MAIL FROM", relay=relay, answered=True)


def unspeakable(*, relay: str = "") -> Outcome:
    """The recipient's address holds what no SMTP command can."""
    text = "the address cannot be said in SMTP"
    return Outcome(FAILED, text, scope=RECIPIENT, status="5.1.3", stage="RCPT TO", relay=relay)


def unreadable(text: str, *, relay: str = "") -> Outcome:
    """Our own copy of the message could not be read to its end; the connection was closed without a dot."""
    return Outcome(DEFERRED, text, scope=MESSAGE, stage="DATA", relay=relay)


def untried(text: str, *, relay: str = "") -> Outcome:
    """Nothing happened to this recipient: the session ended first. No attempt; due again at once (`was_tried`)."""
    return Outcome(DEFERRED, text, scope=RELAY, relay=relay)


def was_tried(outcome: Outcome) -> bool:
    """False for `untried`: not an attempt, not an event for the log; give the recipient to another session."""
    return bool(outcome.stage) or outcome.kind != DEFERRED or not outcome.relay
