"""What the operator is told, and when (hard-parts.md, "Telling the operator").

A `Notice` is one thing somebody has to see to. It is raised once, stands until the cause is gone, and is then withdrawn;
while it stands, `mailq`, `dma-queue` and `sendmail` on a terminal say it first, and `doctor` and `dma-queue list --check`
exit with 1. Only a fresh one is logged (LOG_CRIT, one line).

What gives rise to one:
- an outcome with `tell` (a login refused, a certificate that cannot be verified, an unreadable secret, a full disk): the
  subject is the relay, the sender at that relay, or the mailbox; withdrawn when mail to that subject flows again, or when
  none waits for it and, for a relay, the configuration names it no more;
- mail that waits for more than 24 h: withdrawn when none does;
- messages that can be neither delivered nor returned: withdrawn when there are none;
- a spool that another machine used: withdrawn by `dma-queue adopt`.

In system mode what has stood for a day is also told to root, by one letter (`delivery.rootmail`).

Pure, and read on a terminal's way into `sendmail`: built-in modules only.
"""

from __future__ import annotations

from dma_runtime.outcome import MACHINE, SENDER
from dma_runtime.shown import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.outcome import Outcome

OLD = 86400  # seconds
AGE, STUCK, FOREIGN = "age", "stuck", "foreign"  # subjects that are no relay, sender or mailbox
_MOST_LINES = 3


class Notice:
    """subject: what it is about, one notice each. kind: what went wrong there, without what varies from reply to reply.
    cause and remedy: one sentence each, for people. since: wall clock seconds. mailed: root has had a letter about it."""

    __slots__ = ("cause", "kind", "mailed", "remedy", "since", "subject")

    def __init__(self, subject: str, kind: str, cause: str, remedy: str, since: float) -> None:
        self.subject = subject
        self.kind = kind
        self.cause = cause
        self.remedy = remedy
        self.since = since
        self.mailed = False

    def __repr__(self) -> str:
        return f"Notice({self.subject!r}, {self.kind!r}, {self.cause!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Notice) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # compared, never a key


# ---------------------------------------------------------------- what gives rise to a notice


def subject(outcome: Outcome, where: str, *, sender: str = "", address: str = "") -> str:
    """What an outcome is about. `where` is the relay's name in the log, "" for local work; `address` the recipient."""
    if not where:
        return f"mailbox {address}"
    if outcome.scope == SENDER:
        return f"sender {sender} at {where}"
    return "machine" if outcome.scope == MACHINE else f"relay {where}"


def of_outcome(outcome: Outcome, where: str, now: float, *, sender: str = "", address: str = "") -> Notice | None:
    """The notice for an outcome, None unless it says `tell`."""
    if not outcome.tell:
        return None
    about = subject(outcome, where, sender=sender, address=address)
    if not where:
        cause = f"mail for {address} is not delivered: {outcome.text}"
    elif outcome.scope == SENDER:
        cause = f"{where} takes no mail from {sender or 'the null sender'}: {outcome.text}"
    else:
        stage = f" ({outcome.stage})" if outcome.stage else ""
        cause = f"{where} takes no mail{stage}: {outcome.text}"
    remedy = outcome.hint or "run `dma-setup doctor'"
    return Notice(about, f"{outcome.stage} {outcome.code} {outcome.status}", shown(cause), shown(remedy), now)


def flowing(where: str, *, sender: str = "", address: str = "") -> list[str]:
    """The subjects whose notices a delivery withdraws: mail flows there."""
    if not where:
        return [f"mailbox {address}"]
    return [f"relay {where}", f"sender {sender} at {where}", "machine"]


def waiting_for(sender: str, where: str, address: str) -> list[str]:
    """The subjects that a message waits for, which is to go to `address` by the relay `where` ("" for a mailbox)."""
    return [f"relay {where}", f"sender {sender} at {where}"] if where else [f"mailbox {address}"]


def outlived(standing: list[Notice], named: set[str], waiting: set[str]) -> list[str]:
    """The subjects of notices about what nobody has to see to any more: the operator took the relay out of the configuration,
    or removed the mail. `named`: relays that the configuration names; `waiting`: subjects of what is in the queue."""
    found = []
    for subject in {notice.subject for notice in standing} - waiting:
        kind, _, name = subject.partition(" ")
        if kind == "relay":
            gone = name.partition(" (")[0] not in named
        else:
            gone = not waiting if kind == "machine" else kind in ("sender", "mailbox")
        if gone:
            found.append(subject)
    return found


def of_age(oldest: float | None, now: float) -> Notice | None:
    """The notice for mail accepted at `oldest` (wall clock, None: nothing waits), None while it is not too old."""
    if oldest is None or now - oldest <= OLD:
        return None
    cause = "mail waits for more than a day"
    return Notice(AGE, "", cause, "`dma-queue list' shows what waits and why", oldest)


def of_stuck(count: int, now: float) -> Notice | None:
    """The notice for `count` messages that are kept as failed."""
    if not count:
        return None
    cause = f"{count} message{'s' if count > 1 else ''} can be neither delivered nor returned to the sender"
    return Notice(STUCK, str(count), cause, "look with `dma-queue show ID', then `retry ID' or `remove ID'", now)


def of_foreign_spool(now: float) -> Notice:
    """The notice for a spool whose last owner was another machine (a clone, a shared home)."""
    cause = "this queue was last used by another machine; nothing is delivered, so that nothing is sent twice"
    return Notice(FOREIGN, "", cause, "`dma-queue adopt' if this machine is to deliver it", now)


# ---------------------------------------------------------------- the standing notices


def raised(standing: list[Notice], notice: Notice) -> tuple[list[Notice], bool]:
    """(standing notices with this one, whether it is news).

    It is news when nothing stood for its subject, or something of another kind. The first `since` is kept.
    """
    news = True
    since, mailed = notice.since, notice.mailed
    rest = []
    for other in standing:
        if other.subject != notice.subject:
            rest.append(other)
            continue
        news = other.kind != notice.kind
        since = min(since, other.since)
        mailed = mailed or other.mailed
    kept = Notice(notice.subject, notice.kind, notice.cause, notice.remedy, since)
    kept.mailed = mailed
    return [*rest, kept], news


def withdrawn(standing: list[Notice], subjects: list[str]) -> list[Notice]:
    """The standing notices without those of `subjects`."""
    return [notice for notice in standing if notice.subject not in subjects]


def unmailed(standing: list[Notice], now: float, but: tuple[str, ...] = ()) -> list[Notice]:
    """Those that have stood for a day and root has had no letter about, without the subjects `but`."""
    return [one for one in standing if now - one.since > OLD and not one.mailed and one.subject not in but]


def log_line(notice: Notice) -> str:
    return f"{notice.cause}; {notice.remedy}"


def lines(standing: list[Notice], now: float, most: int = _MOST_LINES) -> list[str]:
    """What a program says first on standard error: a line a notice, the oldest first, at most three and a count."""
    ordered = sorted(standing, key=lambda notice: notice.since)
    found = [f"{n.cause} (for {_span(now - n.since)}); {n.remedy}" for n in ordered[:most]]
    if len(ordered) > most:
        found.append(f"and {len(ordered) - most} more; `dma-setup doctor' shows all")
    return found


def _span(seconds: float) -> str:
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "less than a minute"
