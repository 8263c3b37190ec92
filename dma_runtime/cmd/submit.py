"""Submitting one message: header, recipients, spool.

The order is: recipients of the command line (a bad one fails before anything is read), header, recipients of -t, draft,
body chunk by chunk, commit. "From here on the mail is safe", and nothing that goes wrong behind that changes the status.

Limits: MAXSIZE (69), MINFREE (75), a header of 16 MB (65).
"""

from __future__ import annotations

import time

from dma_runtime import __version__, address
from dma_runtime import posixos as os
from dma_runtime.cmd.caller import Caller, say
from dma_runtime.config import contents, home_directory
from dma_runtime.envelope import OPTIONAL, REQUIRE, Envelope, Recipient
from dma_runtime.errors import EX_NOINPUT, EX_OK, EX_TEMPFAIL, EX_UNAVAILABLE, CannotSpool, DataError, DmaError
from dma_runtime.message import headers
from dma_runtime.message.intake import Intake
from dma_runtime.policy.recipients import Resolver, identity_of
from dma_runtime.policy.sender import envelope_sender, is_own
from dma_runtime.shown import shown
from dma_runtime.system import identity, space
from dma_runtime.system.spool import Draft, Spool, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from dma_runtime.aliases import Aliases
    from dma_runtime.config import Config

    class Readable(Protocol):
        def read(self) -> bytes: ...


CHUNK = 1 << 17
KEPT = 4 << 20  # bytes of a message that are kept for dead.letter


def submit(caller: Caller) -> int:
    """Take the message on standard input. Returns 0; raises DmaError when it was not accepted."""
    source = Source(keep=os.isatty(2))
    try:
        return Submission(caller, source).run()
    except DmaError as error:
        if isinstance(error, CannotSpool) or error.status == EX_TEMPFAIL:
            source.bury(caller)
        raise


class Source:
    """Standard input. With `keep` the bytes read are remembered, up to KEPT, for dead.letter."""

    def __init__(self, keep: bool) -> None:
        self._kept: list[bytes] | None = [] if keep else None
        self._size = 0
        self._ended = False
        self._too_large = False

    def read(self) -> bytes:
        """The next bytes, b"" at the end. Raises DmaError (66)."""
        if self._ended:
            return b""  # a terminal would be asked for more behind its end
        while True:
            try:
                data = os.read(0, CHUNK)
                break
            except BlockingIOError:  # somebody who shares the pipe or the terminal made it so
                import select

                select.select([0], [], [])
            except OSError as error:
                raise DmaError(f"can not read mail: {error.strerror}", EX_NOINPUT) from None
        self._ended = not data
        if self._kept is not None and data:
            self._size += len(data)
            self._kept.append(data)
            if self._size > KEPT:
                self._kept, self._too_large = None, True
        return data

    def bury(self, caller: Caller) -> None:
        """Keep the message for a person at a terminal, and say where; for anybody else nothing is kept."""
        if self._kept is None and not self._too_large:
            return
        from dma_runtime.system.deadletter import save

        try:
            while self._kept is not None and self.read():
                pass
            if self._too_large:
                say(f"{caller.program}: the message is larger than {KEPT >> 20} MB and was not kept in dead.letter\n")
            elif self._kept:
                say(f"{caller.program}: the message was kept in {save(self._kept, caller.uid)}\n")
        except (OSError, DmaError):
            say(f"{caller.program}: the message could not be kept in dead.letter\n")


class Submission:
    """One message on its way into the spool. `source.read()` gives its bytes, b"" at the end."""

    def __init__(self, caller: Caller, source: Readable) -> None:
        self.caller = caller
        self.config = caller.config
        self.options = caller.options
        self.source = source
        self.mailname = identity.mail_name(self.config)
        self.login = identity.login_name(caller.uid, caller.environ)
        self.sender = envelope_sender(
            self.options.sender, caller.environ.get("EMAIL", ""), self.login, self.mailname, self.config.MASQUERADE
        )
        self.resolver = resolver(caller, self.mailname)
        self.spool = Spool(self.config.SPOOLDIR)

    def run(self) -> int:
        """Accept the message and see that somebody delivers it. Raises DmaError when it was not accepted."""
        self.see_to(self.accept())
        return EX_OK

    def see_to(self, envelopes: list[Envelope]) -> None:
        """Have somebody deliver the message that was accepted. Never raises: the caller must not send it again."""
        try:
            self._after(envelopes)
        except Exception as error:
            self.caller.warn(f"{envelopes[0].id} is queued; {type(error).__name__}: {error}")

    def accept(self) -> list[Envelope]:
        """The envelopes of the message, which is in the queue now and safe: one, and one more for each owner of a list.
        Raises DmaError when it was not accepted."""
        asked = [found for operand in self.options.operands for found in argument(operand)]
        if not asked and not self.options.extract:
            raise DmaError("no recipients from command line", EX_NOINPUT)
        self.caller.check_count(len(asked))
        recipients = [] if self.options.extract else self._accept(asked)
        self._prepare_spool()
        intake = Intake(self.source.read, ignore_dots=self.options.ignore_dots)
        fields, body = headers.read(intake.read, shared=self.config.by_socket)
        if self.options.extract:
            asked += headers.recipients(fields)
            self.caller.check_count(len(asked))
            if not asked:
                raise DmaError("no recipients from headers", EX_NOINPUT)
            recipients = self._accept(asked)
        envelopes: list[Envelope] = []
        drafts: list[Draft] = []
        try:
            for sender, group in self._by_sender(recipients):
                envelope = self._envelope(sender, group)
                envelope.tls = self._tls(fields)
                header, envelope.message_id = headers.complete(fields, self._facts(envelope, envelopes))
                envelope.header_end = len(header)
                envelopes.append(envelope)
                drafts.append(self.spool.draft(envelope))
                drafts[-1].write(header)
            del fields, header
            self._write(drafts, body, intake)
            for draft, envelope in zip(drafts, envelopes, strict=True):
                envelope.accepted_at = time.time()
                draft.settle(envelope)  # a disk that is full for one of two leaves none
            for draft, envelope in zip(drafts, envelopes, strict=True):
                draft.commit(envelope)
        finally:
            for draft in drafts:
                draft.discard()
        # From here on the mail is safe. Where that took two names and only one was given, the caller was told 75, and what
        # it sends again is a duplicate for some.
        return envelopes

    def _by_sender(self, recipients: list[Recipient]) -> list[tuple[str, list[Recipient]]]:
        """Recipients with their sender: failures of a list's recipients go to its owner, except for a report's."""
        owners = self.resolver.owners if self.sender else {}
        groups: dict[str, list[Recipient]] = {}
        for recipient in recipients:
            owner = owners.get(identity_of(recipient), "")
            sender = envelope_sender(owner, "", self.login, self.mailname, self.config.MASQUERADE) if owner else self.sender
            groups.setdefault(sender, []).append(recipient)
        return list(groups.items())

    def _accept(self, asked: list[str]) -> list[Recipient]:
        """The envelope's recipients. Raises DmaError when none is good; bad ones among good ones are reported later."""
        recipients = accepted(self.resolver, asked)
        for problem in self.resolver.problems:
            self.caller.warn(problem)
        self.resolver.problems.clear()
        bad = [recipient for recipient in recipients if recipient.refused]
        if len(bad) == len(recipients):
            first = bad[0]
            raise DmaError(f"invalid recipient `{shown(first.original, 100)}': {first.refused}", self.resolver.status(bad))
        for recipient in bad:
            self.caller.warn(f"invalid recipient `{shown(recipient.original, 100)}': {recipient.refused}")
        return recipients

    def _prepare_spool(self) -> None:
        """Raises CannotSpool, ConfigError; names the key that says where the spool is."""
        try:
            for warning in self.spool.prepare(own_only=self.config.user_mode):
                self.caller.warn(warning)
        except CannotSpool as error:
            raise CannotSpool(f"{error.text} (SPOOLDIR in {self.config.source or 'dma.conf'})", error.status) from None
        space.check(self.config, self.spool.path)

    def _envelope(self, sender: str, recipients: list[Recipient]) -> Envelope:
        now = time.time()
        envelope = Envelope(new_id(now, os.urandom), sender, recipients, now)
        envelope.uid = self.caller.uid
        envelope.login = self.login
        envelope.queue_only = self.options.queue_only or self.config.DEFER
        envelope.ret = self.options.dsn_return
        envelope.envid = self.options.dsn_envelope
        said = dict(zip(self.options.operands, self.options.dsn_recipients, strict=False))
        for recipient in recipients:
            notify, _, recipient.orcpt = said.get(recipient.original, "").partition(";")
            recipient.notify = notify or self.options.dsn_notify
        return envelope

    def _tls(self, fields: list[headers.Field]) -> str:
        """What the message wants of TLS. REQUIRETLS said with it overrules its header, its header the key (RFC 8689 3)."""
        if self.options.requiretls:
            return REQUIRE
        if headers.tls_optional(fields):
            return OPTIONAL
        return REQUIRE if self.config.REQUIRETLS else ""

    def _facts(self, envelope: Envelope, before: list[Envelope]) -> headers.Facts:
        """What the header is completed with; the same message has the same Message-Id in every envelope."""
        local = time.localtime(envelope.accepted_at)
        facts = headers.Facts(
            id=envelope.id,
            sender=envelope.sender,
            mailname=self.mailname,
            hostname=identity.host_name(),
            now=envelope.accepted_at,
            stamp=headers.date(local[:7], local.tm_gmtoff),
        )
        facts.login = self.login
        facts.uid = self.caller.uid
        facts.version = __version__
        facts.full_name = self.options.full_name
        facts.warning = self._remark()
        facts.hide_user = self.config.HIDEUSER
        facts.masquerade = self.config.MASQUERADE
        facts.rewrite_from = self.config.REWRITEFROM
        facts.dice = os.urandom
        facts.message_id = before[0].message_id if before else ""
        facts.author = self.sender
        return facts

    def _remark(self) -> str:
        """sendmail's remark when somebody who is not trusted names a sender who is not himself, else ""."""
        if not self.sender or self.caller.may_name_sender():
            return ""
        own = envelope_sender(None, "", self.login, self.mailname, self.config.MASQUERADE)
        local, domain = address.split(self.sender)
        if self.sender == own or (local == self.login and is_own(domain, self.mailname, identity.host_name())):
            return ""
        how = "-f" if self.options.sender is not None else "$EMAIL"
        return f"{self.login} set sender to {self.sender} using {how}"

    def _write(self, drafts: list[Draft], body: bytes, intake: Intake) -> None:
        """Empty line and body. Raises CannotSpool, and DmaError (69) when it grows beyond MAXSIZE."""
        for draft in drafts:
            draft.write(b"\n")
        first = drafts[0]
        checked = first.size
        piece = body  # what came with the header's last bytes: nothing, when the caller writes its body separately
        while True:
            for draft in drafts:
                draft.write(piece)
            if first.size > self.config.MAXSIZE:
                break
            if first.size - checked > 8 << 20:
                space.check(self.config, self.spool.path)
                checked = first.size
            if not (piece := intake.read()):
                break
        if first.size > self.config.MAXSIZE:
            raise too_large(self.config)
        if intake.bare_cr:
            for draft in drafts:
                draft.has_nul = True  # like a NUL, a CR by itself cannot travel as it is (RFC 5321 2.3.8)

    def _after(self, envelopes: list[Envelope]) -> None:
        caller = self.caller
        for envelope in envelopes:
            caller.log.queued(envelope)
        if envelopes[0].queue_only:
            return
        if self.options.foreground:
            from dma_runtime.cmd import daemon
            from dma_runtime.system.maillog import MailLog

            log, ids = MailLog(caller.log.tag, stderr=True), [envelope.id for envelope in envelopes]
            if daemon.foreground(self.config, ids, log, verbose=self.options.verbose):
                caller.leave_owner(run=False)
            return
        from dma_runtime.system.ownership import announce

        for envelope in envelopes:
            look = f'{{"do":"look","id":"{envelope.id}"}}\n'.encode()
            announce(self.spool, look, lambda: caller.leave_owner(run=False))


def too_large(config: Config) -> DmaError:
    """Why a message is refused that is larger than MAXSIZE."""
    return DmaError(f"message larger than MAXSIZE ({_size(config.MAXSIZE)})", EX_UNAVAILABLE)


def _size(limit: int) -> str:
    for unit, shift in (("G", 30), ("M", 20), ("K", 10)):
        if limit >= 1 << shift and not limit % (1 << shift):
            return f"{limit >> shift}{unit}"
    return f"{limit} bytes"


# ---------------------------------------------------------------- recipients


def argument(text: str) -> list[str]:
    """The addresses of one word of the command line. Raises DataError for an empty one and for control characters."""
    if any(c < " " or c == "\x7f" for c in text):
        raise DataError(f"invalid recipient `{shown(text, 100)}': control character in the address")
    found = address.addresses(address.to_wire(text))
    if not found:
        raise DataError(f"invalid recipient `{shown(text, 100)}': empty address")
    return found


def accepted(resolver: Resolver, asked: list[str]) -> list[Recipient]:
    """Recipients for addresses; one that cannot be an address is refused. Raises DataError for control characters."""
    found: list[Recipient] = []
    good: list[str] = []
    for one in asked:
        why = resolver.fault(one)
        if why == address.CONTROL:
            raise DataError(f"invalid address in header: `{shown(one, 100)}': {why}")
        if why:
            found.append(Recipient(one, one, why))
        else:
            good.append(one)
    return resolver.resolve(good) + found


def resolver(caller: Caller, mailname: str) -> Resolver:
    """The rules of `policy.recipients` with this machine's accounts and files."""
    known: list[Aliases] = []

    def aliases() -> Aliases:
        if not known:
            from dma_runtime.system import aliasfile

            known.append(aliasfile.load(caller.config.ALIASES))
            for problem in known[0].problems:
                caller.warn(problem)
        return known[0]

    def forward(login: str) -> str | None:
        try:
            text, why = forward_of(login, caller)
        except OSError as error:
            text, why = None, f"the .forward of {login} can not be read: {error.strerror or error}"
        if why:
            caller.warn(why)
        return text

    def deliverable(login: str) -> bool:
        if caller.config.by_socket:
            return bool(identity.account(login))  # the mailbox process may write everybody's
        from dma_runtime.system import othermta

        return othermta.deliverable(login)

    def distrust(path: str) -> str:
        from dma_runtime.system.trust import doubt

        return doubt(path, 0 if caller.config.by_socket else os.geteuid())

    return Resolver(
        caller.config,
        mailname,
        account=identity.account,
        deliverable=deliverable,
        aliases=aliases,
        include=contents,
        forward=forward,
        distrust=distrust,
    )


def forward_of(login: str, caller: Caller) -> tuple[str | None, str]:
    """(text of a user's .forward or None, why it is not used or ""), read as that user. Raises OSError."""
    if caller.config.by_socket:
        from dma_runtime.delivery import mailboxes

        return mailboxes.forward_of(login, caller.config)
    import pwd

    from dma_runtime.system.forward import read

    uid = pwd.getpwnam(login).pw_uid
    home = home_directory(uid, caller.environ)
    return read(home, uid) if home and uid == os.geteuid() else (None, "")
