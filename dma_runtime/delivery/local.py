"""Local delivery in user mode: one message into the mailbox of the queue's owner; others' mail is handed on.

- The mailbox is `/var/mail/LOGIN` if we may write there (a directory of that name is a Maildir), else `~/Maildir`.
- A recipient who is somebody else: the message is handed to the system's own mail agent (`system.othermta`); without one
  it is FAILED, for nobody but his own process may write his mailbox.
- A command or a file that the aliases or a `.forward` name: `delivery.errand`.
- A full disk, a quota, a lock that is held: DEFERRED. What lies at the mailbox's place and is none (a link, a FIFO,
  another's file): DEFERRED, and the operator is told; no server answered, so such mail does not expire.
- DELIVERED only when the mailbox is synced (`system.mbox`, `system.maildir`).

`deliver` blocks (locks are waited for, at most 30 s; syncs) and belongs into a worker thread. It raises nothing but what
the spool raises for the message itself (BrokenMessage, FileNotFoundError).
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import time

from dma_runtime import aliases
from dma_runtime.config import home_directory
from dma_runtime.delivery import errand, mailboxes
from dma_runtime.delivery.mailboxes import part_of, posting_of
from dma_runtime.envelope import Recipient
from dma_runtime.message import mboxrd
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, Outcome
from dma_runtime.system import identity, maildir, mbox, othermta
from dma_runtime.system.fs import REAL, FileSystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dma_runtime.config import Config
    from dma_runtime.posting import Posting
    from dma_runtime.system.spool import Spool
    from dma_runtime.system.stored import StoredMessage

MAILDROP = "/var/mail"
CHUNK = 65536
LOCKED = "4.2.0"  # the status of a mailbox that another program has locked
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def deliver(
    spool: Spool,
    id: str,
    recipient: Recipient,
    config: Config,
    *,
    maildrop: str = MAILDROP,
    home: str | None = None,
    wait: float = mbox.WAIT,
    fs: FileSystem = REAL,
    stopped: Callable[[], bool] = errand.never,
) -> Outcome:
    """Deliver message `id` to the local `recipient`; `home` is that of the owner, by default the one of this process.
    `stopped`: whether a command must end now."""
    if (errand_for := aliases.of_address(recipient.address)) is not None:
        return _errand(spool, id, recipient, errand_for, config, wait, fs, stopped)
    if config.by_socket:
        return mailboxes.deliver(spool, id, recipient, config)
    uid = os.geteuid()
    login = identity.login_name(uid, {})
    name = recipient.address.rpartition("@")[0] or recipient.address
    account = identity.account(name)
    other = "" if account and pwd.getpwnam(account).pw_uid == uid else othermta.find()
    if other:
        return _hand_on(other, spool, id, account or name)
    if not account:
        return Outcome(FAILED, f"there is no user {name} here", status="5.1.1")
    if account != login and pwd.getpwnam(account).pw_uid != uid:
        text = f"this queue belongs to {login} and delivers to no other user's mailbox"
        return Outcome(FAILED, text, status="5.7.1")
    if home is None:
        home = home_directory(uid, dict(os.environ))
    stored = spool.open(id)
    try:
        letter = Letter(posting_of(stored.envelope, recipient, account, config), lambda: _chunks(stored))
        return put(letter, home, uid=uid, maildrop=maildrop, wait=wait, fs=fs)
    finally:
        stored.close()


class Letter:
    """A message for one mailbox: what is known of it, and its bytes, given anew by each call of `chunks`."""

    __slots__ = ("chunks", "posting")

    def __init__(self, posting: Posting, chunks: Callable[[], Iterator[bytes]]) -> None:
        self.posting = posting
        self.chunks = chunks


def put(
    letter: Letter, home: str, *, uid: int, maildrop: str, wait: float, fs: FileSystem = REAL, strict: bool = False
) -> Outcome:
    """Put it into the mailbox, as the user whose it is. `strict`: what lies in the maildrop under that name is the mailbox, or
    the operator's business; otherwise ~/Maildir stands in for what we may not write. Raises what the letter's bytes raise."""
    login = letter.posting.login
    kind, path = mailbox_of(login, home, maildrop)
    if strict and kind == "maildir" and os.path.isfile(f"{maildrop}/{login}"):
        kind, path = "mbox", f"{maildrop}/{login}"
    if not path:
        text = f"no mailbox to deliver to: {maildrop}/{login} can not be written and there is no home directory"
        return Outcome(DEFERRED, text, status="4.2.1", tell=True, hint=f"make {maildrop}/{login}, owned by {login}")
    return _store(letter, kind, path, uid, wait, fs)


def put_into(file: str, letter: Letter, wait: float, fs: FileSystem = REAL) -> Outcome:
    """Put it into a file of our own that the aliases or a `.forward` name, a Maildir with `/` at its end. Raises what the
    letter's bytes raise."""
    kind = "maildir" if file.endswith("/") else "mbox"
    return _store(letter, kind, file.rstrip("/"), os.geteuid(), wait, fs)


def _errand(
    spool: Spool,
    id: str,
    recipient: Recipient,
    errand_for: tuple[str, str, str],
    config: Config,
    wait: float,
    fs: FileSystem,
    stopped: Callable[[], bool],
) -> Outcome:
    """A command or a file of the aliases."""
    kind, text, user = errand_for
    if errand.nowhere(kind, text):
        return Outcome(DELIVERED, "discarded", status="2.0.0")
    if (no := errand.refused(kind, text, config)) is not None:
        return no
    if config.by_socket:
        return mailboxes.run(spool, id, recipient, user, config)
    stored = spool.open(id)
    try:
        posting = posting_of(stored.envelope, Recipient(recipient.original), user, config)
        if kind == aliases.PIPE:
            return errand.run(text, posting, lambda: _chunks(stored), stopped=stopped)
        posting.part = part_of(stored.envelope, recipient)
        return put_into(text, Letter(posting, lambda: _chunks(stored)), wait, fs)
    finally:
        stored.close()


def _hand_on(program: str, spool: Spool, id: str, account: str) -> Outcome:
    """The recipient is somebody else of this machine: the system's own mail agent may write that mailbox."""
    stored = spool.open(id)
    try:
        return othermta.hand_on(program, stored.envelope.sender, account, _chunks(stored))
    finally:
        stored.close()


def mailbox_of(login: str, home: str, maildrop: str = MAILDROP) -> tuple[str, str]:
    """(`mbox` or `maildir`, path); the path is "" when there is no place at all."""
    path = f"{maildrop}/{login}"
    try:
        found = os.lstat(path).st_mode
        if stat.S_ISDIR(found):
            return "maildir", path
        # A link or a FIFO is not passed over in silence: mbox refuses it, and the operator hears of it.
        usable = not stat.S_ISREG(found) or os.access(path, os.R_OK | os.W_OK, effective_ids=True)
    except OSError:
        usable = os.access(maildrop, os.W_OK | os.X_OK, effective_ids=True)
    if usable:
        return "mbox", path
    return "maildir", f"{home}/Maildir" if home else ""


def _store(letter: Letter, kind: str, path: str, uid: int, wait: float, fs: FileSystem) -> Outcome:
    posting = letter.posting
    try:
        if kind == "maildir":
            name = maildir.file_name(posting.accepted_at, posting.id, posting.part, identity.host_name())
            maildir.deliver(path, _whole(letter), uid=uid, name=name, fs=fs)
        else:
            entry = mboxrd.mbox_entry(posting.sender, posting.address, time.localtime(), letter.chunks())
            mbox.append(path, entry, uid=uid, wait=wait, fs=fs)
    except mbox.MailboxBusy as busy:
        return Outcome(DEFERRED, str(busy), status=LOCKED)
    except mbox.NotAMailbox as wrong:
        hint = f"look at {path} and remove what is not a mailbox"
        return Outcome(DEFERRED, f"not delivered: {wrong}", status="4.2.1", tell=True, hint=hint)
    except OSError as error:
        return _trouble(error, path)
    return Outcome(DELIVERED, f"delivered to {path}", status="2.0.0")


def _whole(letter: Letter) -> Iterator[bytes]:
    yield mboxrd.trace(letter.posting.sender, letter.posting.address)
    yield from letter.chunks()


def _chunks(stored: StoredMessage) -> Iterator[bytes]:
    at = 0
    while chunk := stored.pread(CHUNK, at):
        yield chunk
        at += len(chunk)


def _trouble(error: OSError, path: str) -> Outcome:
    text = f"can not deliver to {path}: {error.strerror or error}"
    if error.errno in _FULL:
        status = "4.2.2" if error.errno == errno.EDQUOT else "4.3.1"
        return Outcome(DEFERRED, text, status=status, tell=True, hint="make room on that file system or raise the quota")
    return Outcome(DEFERRED, text, status="4.3.0", tell=True, hint=f"see that {path} can be written by its owner")
