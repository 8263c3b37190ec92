"""What has become of a message so far: `fold(envelope, events)` is its present state, pure and replayable.

An event is one JSON object of `log/<id>`:

    {"do": "attempt", "at": …, "up": …, "awake": …, "boot": …, "r": [indices], "kind": …, "scope": …, "code": …,
     "status": …, "text": …, "stage": …, "relay": …, "answered": …, "tell": …, "hint": …, "next": wall|null, "backoff": s}
    {"do": "hold", "at": …}     {"do": "release", "at": …}     nothing is tried in between
    {"do": "delayed", "at": …}                                 the sender was told that it is late
    {"do": "kept", "at": …, "why": …, "r": [indices]}          failed, and the sender could not be told: stays in sight
    {"do": "retry", "at": …}                                   what was kept is to be tried again

Unknown events and fields are passed over, so that a spool of a later version can be read.
"""

from __future__ import annotations

from dma_runtime.envelope import Envelope, Moment
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, MACHINE, Outcome

QUEUED = "queued"
_TEXTS = ("text", "scope", "status", "stage", "relay", "hint")

Event = dict[str, object]


class Progress:
    """One recipient. state: QUEUED, DEFERRED, DELIVERED or FAILED. attempts: tries, those for want of network not counted.
    answers: tries that a relay or resolver answered; answering: awake seconds between the first and the last of them, as
    far as they can be known. next_attempt: wall clock, 0.0 at once. backoff: seconds of the last step. last: outcome."""

    __slots__ = ("_boot", "_heard", "_tried", "answering", "answers", "attempts", "backoff", "last", "next_attempt", "state")

    def __init__(self) -> None:
        self.state = QUEUED
        self.attempts = 0
        self.answers = 0
        self.answering = 0.0
        self.next_attempt = 0.0
        self.backoff = 0.0
        self.last: Outcome | None = None
        self._heard = 0.0  # awake clock of the last answer
        self._boot = ""
        self._tried = Moment(0.0)

    def rebase(self, now: Moment) -> None:
        """Keep the wait of the last attempt as long as it was meant, though the wall clock was set since."""
        if self.next_attempt:
            wait = self.next_attempt - self._tried.wall
            self.next_attempt = now.wall + max(0.0, wait - elapsed(self._tried, now))

    def heard(self, moment: Moment) -> None:
        """A relay or resolver answered. Time across a reboot is not counted: nobody knows how long we were awake."""
        if self.answers and moment.boot == self._boot and moment.awake > self._heard:
            self.answering += moment.awake - self._heard
        self.answers += 1
        self._heard, self._boot = moment.awake, moment.boot


class State:
    """A message: `recipients` in the envelope's order; `open`: indices still to be tried; `held` by the operator;
    `tried`: an attempt was recorded; `kept`: why a failed message stays in the queue, "" if it does not;
    `untold`: the recipients it is kept for; `warned`: the sender was told that it is late;
    `first_at`: wall clock of the first event, 0.0 without one."""

    __slots__ = ("first_at", "held", "kept", "open", "recipients", "tried", "untold", "warned")

    def __init__(self, envelope: Envelope) -> None:
        self.recipients = [Progress() for _ in envelope.recipients]
        self.open = list(range(len(envelope.recipients)))
        self.held = False
        self.tried = False
        self.kept = ""
        self.untold: list[int] = []
        self.warned = False
        self.first_at = 0.0

    @property
    def due(self) -> float | None:
        """When the next recipient is due (wall clock), None when nobody is left."""
        return min((self.recipients[index].next_attempt for index in self.open), default=None)

    def shift(self, seconds: float) -> None:
        """The wall clock was set: the waits stay as long as they were meant."""
        for index in self.open:
            if self.recipients[index].next_attempt:
                self.recipients[index].next_attempt += seconds

    def apply(self, event: Event) -> None:
        """Take in one more event."""
        at = _number(event.get("at"))
        self.first_at = self.first_at or at
        match event.get("do"):
            case "attempt":
                self._attempt(event, at)
            case "hold":
                self.held = True
            case "release":
                self.held = False
            case "delayed":
                self.warned = True
            case "kept":
                self.kept = str(event.get("why", "")) or "the sender could not be told"
                failed = [index for index, progress in enumerate(self.recipients) if progress.state == FAILED]
                self.untold += self._indices(event) or failed
            case "retry":
                self._reopen()

    def _indices(self, event: Event) -> list[int]:
        listed = event.get("r")
        found = listed if isinstance(listed, list) else []
        return [index for index in found if isinstance(index, int) and 0 <= index < len(self.recipients)]

    def _reopen(self) -> None:
        """Those whom the sender could not be told of are to be tried again; not those he was told of."""
        for index in sorted(set(self.untold) - set(self.open)):
            progress = self.recipients[index]
            progress.state, progress.next_attempt, progress.backoff = QUEUED, 0.0, 0.0
            self.open = sorted([*self.open, index])
        self.kept, self.untold = "", []

    def _attempt(self, event: Event, at: float) -> None:
        self.tried = True
        outcome = outcome_of(event)
        moment = Moment(at, _number(event.get("up")), _number(event.get("awake")), str(event.get("boot", "")))
        for index in self._indices(event):
            progress = self.recipients[index]
            progress.last = outcome
            progress.state = outcome.kind
            progress.attempts += outcome.scope != MACHINE
            progress.next_attempt = _number(event.get("next"))
            progress.backoff = _number(event.get("backoff"))
            progress._tried = moment
            if outcome.answered:
                progress.heard(moment)
            if outcome.kind in (DELIVERED, FAILED) and index in self.open:
                self.open.remove(index)


def fold(envelope: Envelope, events: list[Event], now: Moment | None = None) -> State:
    """The state after `events`, oldest first. With `now`, waits are as long as they were meant even if the wall clock was
    set, or the machine restarted with another, since they began."""
    state = State(envelope)
    for event in events:
        state.apply(event)
    if now is not None:
        for index in state.open:
            state.recipients[index].rebase(now)
    return state


def elapsed(since: Moment, until: Moment) -> float:
    """Seconds from one moment to a later one: by the clock that runs through suspend within one boot, else by the wall
    clock, which counts as nothing when it went backwards."""
    if since.boot and since.boot == until.boot:
        return max(0.0, until.up - since.up)
    return max(0.0, until.wall - since.wall)


def attempt_event(
    outcome: Outcome, indices: list[int], moment: Moment, *, due: float | None = None, backoff: float = 0.0
) -> Event:
    """The event of one outcome for the recipients `indices`, made at `moment`; `due`: the next attempt, None for none."""
    event: Event = {
        "do": "attempt",
        "at": round(moment.wall, 3),
        "up": round(moment.up, 3),
        "awake": round(moment.awake, 3),
        "boot": moment.boot,
        "r": list(indices),
        "kind": outcome.kind,
        "code": outcome.code,
        "answered": outcome.answered,
        "tell": outcome.tell,
        "next": due,
        "backoff": backoff,
    }
    event.update({name: getattr(outcome, name) for name in _TEXTS})
    return event


def outcome_of(event: Event) -> Outcome:
    """The outcome an attempt event tells of; what cannot be read is a deferral."""
    kind = event.get("kind")
    code = event.get("code")
    texts = {name: str(event.get(name) or "") for name in _TEXTS}
    return Outcome(
        kind if kind in (DELIVERED, FAILED) else DEFERRED,
        texts.pop("text"),
        code=code if isinstance(code, int) else 0,
        answered=event.get("answered") is True,
        tell=event.get("tell") is True,
        **texts,
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, float) or (isinstance(value, int) and not abs(value) >> 63) else 0.0
