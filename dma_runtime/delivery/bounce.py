"""What becomes of a failure: the sender is told, or the message stays in sight.

Rules:
- One report covers all recipients that failed in one round. It goes to the envelope's sender with the null sender.
- A sender who does not exist here, or whom nothing may leave for (LOCALONLY): the report goes to postmaster, by the
  aliases. Nobody there either: the message is `kept`, that is, it stays in the queue as failed, with the reason.
- No report is made for a report (RFC 5321 6.1). One of ours that cannot be delivered is passed on to postmaster as it
  is, once; then it is kept. Mail that somebody else sent with the null sender asked for no report: it is dropped with
  one log line (`Returned.dropped`), as C dma does (corecode/dma f52ebb4).
- The report's id derives from the message's id and the recipients it covers. A step repeated after a crash finds it in
  the queue and makes no second one; if other recipients failed this time it is another report, so nobody goes untold.
- Recipients whose sender asked not to hear of failures (NOTIFY, RFC 3461 4.1) are in no report; RET says what comes back.
- `tell` makes the reports of what has not failed: that mail is late, or was delivered (`delivery.news` says when).
- `Returned.events` end the recipients' part in the attempt log. They are to be synced after the report, which is safe
  when `spool` returns (hard-parts.md, Spool, "Death of a message").

`spool` blocks (it writes and syncs) and belongs into the worker thread that records. It raises OSError when the report
cannot be written: nothing has happened then, and the step is to be repeated.
"""

from __future__ import annotations

import errno
import os
import zlib

from dma_runtime.config import contents
from dma_runtime.envelope import REQUIRE, Envelope, Recipient
from dma_runtime.errors import BrokenMessage, CannotSpool, DmaError
from dma_runtime.history import attempt_event
from dma_runtime.message import dsn
from dma_runtime.outcome import Outcome
from dma_runtime.policy.recipients import Resolver
from dma_runtime.system import aliasfile, clock, identity, othermta
from dma_runtime.system.trust import doubt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dma_runtime.config import Config
    from dma_runtime.delivery.news import News
    from dma_runtime.envelope import Moment
    from dma_runtime.history import Event, State
    from dma_runtime.system.spool import Spool
    from dma_runtime.system.stored import StoredMessage

POSTMASTER = "postmaster"
_GIVEN_UP = "Could not deliver for the last "  # how policy.retry.given_up begins
_CHUNK = 65536

NO_SENDER = "neither its sender nor postmaster can be told"
NO_POSTMASTER = "it is a report that nobody can take"


class Returned:
    """What became of one round's failures. events: for the attempt log. id: the report's, "" without one.
    dropped: the log's line when nobody is to be told. why: when it is kept, the reason, else ""."""

    __slots__ = ("dropped", "events", "id", "why")

    def __init__(self, events: list[Event], *, id: str = "", dropped: str = "", why: str = "") -> None:
        self.events = events
        self.id = id
        self.dropped = dropped
        self.why = why

    @property
    def kept(self) -> bool:
        """The message stays in the queue as failed."""
        return bool(self.why)


class Reports:
    """Makes the reports of one spool. `config()` is the configuration in force; `resolver` finds out where an address
    goes, by default as at submission."""

    def __init__(
        self,
        spool: Spool,
        config: Callable[[], Config],
        *,
        resolver: Callable[[Config, str], Resolver] | None = None,
        now: Callable[[], Moment] = clock.now,
    ) -> None:
        self._spool = spool
        self._config = config
        self._resolver = resolver or _resolver
        self._now = now

    def spool(self, envelope: Envelope, state: State, failures: list[tuple[int, Outcome]]) -> Returned:  # noqa: ARG002 what was before decides nothing here yet
        """Tell about `failures`, pairs (index of the recipient, its final outcome). See the module's docstring."""
        moment = self._now()
        events = [attempt_event(outcome, [index], moment) for index, outcome in failures]
        if not envelope.sender and not envelope.bounce_of:
            said = f"can not bounce a bounce message, discarding: {_names(envelope, failures)}"
            return Returned(events, dropped=said)
        asked = [pair for pair in failures if envelope.recipients[pair[0]].asks("failure")]
        if not asked:
            said = f"not delivered, and its sender asked not to be told: {_names(envelope, failures)}"
            return Returned(events, dropped=said)
        failures = asked
        config = self._config()
        mailname = identity.mail_name(config)
        try:
            stored = self._spool.open(envelope.id)
        except FileNotFoundError:
            return Returned(events, dropped=f"gone from the spool, nobody is told: {_names(envelope, failures)}")
        except BrokenMessage as broken:
            return _kept(events, moment, f"it is damaged: {broken}")
        try:
            if envelope.sender:
                report = self._report(stored, failures, config, mailname, moment)
            else:
                report = self._pass_on(stored, failures, config, mailname, moment)
        except CannotSpool as problem:
            raise OSError(errno.EIO, problem.text) from problem
        except BrokenMessage as broken:
            return _kept(events, moment, f"it is damaged: {broken}")
        finally:
            stored.close()
        if not report:
            return _kept(events, moment, NO_SENDER if envelope.sender else NO_POSTMASTER)
        return Returned(events, id=report)

    def tell(self, envelope: Envelope, news: News) -> str:
        """Make a report of what has not failed. Its id; "" when the sender cannot be told, and then nobody is.

        Raises as `spool`."""
        moment, config = self._now(), self._config()
        mailname = identity.mail_name(config)
        recipients = self._recipients(envelope.sender, config, mailname) if envelope.sender else []
        if not recipients:
            return ""
        # One report of a delay is all that is made; of deliveries one for those who were delivered together.
        report = envelope.id + ("w" if news.kind == dsn.DELAYED else f"d{_covering([index for index, _ in news.pairs])}")
        try:
            stored = self._spool.open(envelope.id)
        except (BrokenMessage, FileNotFoundError):
            return ""
        try:
            pieces = dsn.report(
                id=report,
                to=envelope.sender,
                original=stored.envelope,
                fates=[_fate(stored.envelope.recipients[index], outcome, moment) for index, outcome in news.pairs],
                mailname=mailname,
                hostname=identity.host_name(),
                now=moment.wall,
                read=stored.pread,
                action=news.kind,
                retry_until=news.until,
            )
            return self._write(report, f"<{report}@{mailname}>", recipients, stored.envelope, pieces, moment)
        except CannotSpool as problem:
            raise OSError(errno.EIO, problem.text) from problem
        finally:
            stored.close()

    # ------------------------------------------------------------ the two kinds

    def _report(
        self, stored: StoredMessage, failures: list[tuple[int, Outcome]], config: Config, mailname: str, moment: Moment
    ) -> str:
        """The id of the report, "" when nobody can take it."""
        original = stored.envelope
        recipients = self._recipients(original.sender, config, mailname) or self._recipients(POSTMASTER, config, mailname)
        if not recipients:
            return ""
        report = f"{original.id}b{_covering([index for index, _ in failures])}"
        pieces = dsn.report(
            id=report,
            to=original.sender,
            original=original,
            fates=[_fate(original.recipients[index], outcome, moment) for index, outcome in failures],
            mailname=mailname,
            hostname=identity.host_name(),
            now=moment.wall,
            read=stored.pread,
            # RFC 3461 4.3; RFC 8689 5: of mail that no hop without TLS may see no more than the header
            full=original.tls != REQUIRE and (original.ret == "full" or (config.FULLBOUNCE and original.ret != "hdrs")),
        )
        return self._write(report, f"<{report}@{mailname}>", recipients, original, pieces, moment)

    def _pass_on(
        self, stored: StoredMessage, failures: list[tuple[int, Outcome]], config: Config, mailname: str, moment: Moment
    ) -> str:
        """One of our reports could not be delivered: the same, to postmaster. The new id, "" when that was tried already."""
        original = stored.envelope
        if any(recipient.original == POSTMASTER for recipient in original.recipients):
            return ""
        recipients = self._recipients(POSTMASTER, config, mailname)
        if not recipients:
            return ""
        report = f"{original.id}b{_covering([index for index, _ in failures])}"
        return self._write(report, original.message_id, recipients, original, _readdressed(stored, failures), moment)

    # ------------------------------------------------------------ steps

    def _recipients(self, address: str, config: Config, mailname: str) -> list[Recipient]:
        """Where mail for `address` goes, without those who cannot be reached."""
        try:
            found = self._resolver(config, mailname).resolve([address])
        except DmaError:
            return []  # the aliases cannot be read
        return [recipient for recipient in found if not recipient.refused]

    def _write(
        self,
        report: str,
        message_id: str,
        recipients: list[Recipient],
        original: Envelope,
        pieces: Iterable[bytes],
        moment: Moment,
    ) -> str:
        if self._spool.holds(report):
            return report  # a step that is repeated
        envelope = Envelope(report, "", recipients, moment.wall)
        envelope.bounce_of = original.id
        envelope.uid = original.uid
        envelope.login = original.login
        envelope.message_id = message_id
        envelope.tls = original.tls if original.tls == REQUIRE else ""  # RFC 8689 5
        draft = self._spool.draft(envelope)
        try:
            envelope.header_end = _copy(pieces, draft.write)
        except BaseException:
            draft.discard()
            raise
        try:
            return draft.commit(envelope)
        except FileExistsError:
            return report


def _kept(events: list[Event], moment: Moment, why: str) -> Returned:
    untold = sorted({index for event in events if isinstance(event["r"], list) for index in event["r"]})
    return Returned([*events, {"do": "kept", "at": round(moment.wall, 3), "why": why, "r": untold}], why=why)


def _names(envelope: Envelope, failures: list[tuple[int, Outcome]]) -> str:
    return ", ".join(f"<{envelope.recipients[index].named}>" for index, _ in failures[:10])


def _covering(indices: list[int]) -> str:
    """The part of a report's id that stands for the recipients it covers."""
    if len(indices) == 1:
        return str(indices[0])
    return f"{min(indices)}x{zlib.crc32(repr(sorted(indices)).encode()):08x}"


def _fate(recipient: Recipient, outcome: Outcome, moment: Moment) -> dsn.Fate:
    first, _, rest = outcome.text.partition("\n")
    seconds = first.removeprefix(_GIVEN_UP).partition(" ")[0]
    if not first.startswith(_GIVEN_UP) or not (seconds.isascii() and seconds.isdigit()):
        return dsn.Fate(recipient, outcome, attempted_at=moment.wall if outcome.stage else 0)
    last = Outcome(outcome.kind, rest, code=outcome.code, status=outcome.status, stage=outcome.stage, relay=outcome.relay)
    return dsn.Fate(recipient, last, given_up_after=int(seconds), attempted_at=moment.wall)


def _readdressed(stored: StoredMessage, failures: list[tuple[int, Outcome]]) -> Iterator[bytes]:
    """The stored report with a line on top that says whom it could not be delivered to."""
    for index, _ in failures:
        address = stored.envelope.recipients[index].named
        shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in address)[:320]
        yield f"X-Undelivered-To: <{shown}>\n".encode()
    at = 0
    while chunk := stored.pread(_CHUNK, at):
        yield chunk
        at += len(chunk)


def _copy(pieces: Iterable[bytes], write: Callable[[bytes], None]) -> int:
    """Write the pieces; returns the length of the header, without the empty line behind it."""
    total, end, tail = 0, -1, b""
    for piece in pieces:
        if end < 0:
            found = (tail + piece).find(b"\n\n")
            if found >= 0:
                end = total - len(tail) + found + 1
            tail = (tail + piece)[-1:]
        write(piece)
        total += len(piece)
    return end if end >= 0 else total


def _resolver(config: Config, mailname: str) -> Resolver:
    """Addresses as they are understood at submission by the owner of this queue."""
    return Resolver(
        config,
        mailname,
        account=identity.account,
        # A name without an account could be bounced by whoever takes it, and a report's bounce goes nowhere.
        deliverable=lambda name: bool(identity.account(name)) and (config.by_socket or othermta.deliverable(name)),
        aliases=lambda: aliasfile.load(config.ALIASES),
        include=contents,
        distrust=lambda path: doubt(path, 0 if config.by_socket else os.geteuid()),
    )
