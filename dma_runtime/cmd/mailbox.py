"""The mailbox process: one append to one user's mailbox, one read of one user's `.forward`, or one command, as that user.

    dma-mailbox                  serves the connection on standard input (dma-mailbox@.service, Accept=yes): no commands
    dma-mailbox --commands       the same for commands and files alone (dma-command@.service; `cmd.errands`)
    dma-mailbox --listen PATH    without systemd: listens there, 0600 of the account dma, one process a connection, for all

It hears no network itself. It is root only until it knows whose mailbox it is; then it is that user for good, with group mail
beside (the directory /var/mail is the group's) and no other group, and for a `.forward` or a command without group mail too.

- Only root and the account dma are served (SO_PEERCRED); anybody else is closed without a word, and logged.
- What may be written is decided by `system.mbox` and `system.maildir`: no links, no FIFOs, one name, the recipient's own.
- The message counts when its commit frame has come: otherwise what was written of it is cut off again.
- 30 s of silence from the daemon, or 300 s in all, and the process ends; the mailbox is as it was. A `.forward` has 10 s, a
  command its own time once the message has come.
- A `.forward` is used when nobody but the user or root can have written it (`system.forward`).
"""

from __future__ import annotations

import argparse
import os
import pwd
import resource
import signal
import socket
import sys
import time

from dma_runtime import __version__, frames, posting
from dma_runtime.delivery.local import MAILDROP, Letter, put
from dma_runtime.errors import DmaError
from dma_runtime.outcome import DEFERRED, FAILED, Outcome
from dma_runtime.posting import FORWARD, RUN, Posting
from dma_runtime.system import forward, localsocket, mbox, privilege
from dma_runtime.system.maillog import ERR, WARNING, MailLog
from dma_runtime.system.spool import is_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SILENCE = 30.0  # seconds
ALL = 300  # seconds
FORWARD_ALL = 10  # seconds; the daemon waits no longer (`delivery.mailboxes`)
GROUP = "mail"
PAUSE = 1.0  # seconds
_PIECE = 65536


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="dma-mailbox", description="Put one message into one mailbox.")
    parser.add_argument("--listen", metavar="PATH", help="listen there instead of serving standard input")
    parser.add_argument("--commands", action="store_true", help="run a command or write a file, and do nothing else")
    parser.add_argument("--version", action="version", version=f"dma {__version__}")
    options = parser.parse_args(argv)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        pass  # in a sandbox that has limits of its own
    os.umask(0o077)
    os.chdir("/")
    log = MailLog()
    try:
        if options.listen:
            listen(options.listen, log)
        connection = socket.socket(fileno=os.dup(0))
        return serve(connection, log, Does(commands=options.commands or bool(options.listen), mailboxes=not options.commands))
    except DmaError as error:
        print(f"dma-mailbox: {error.text}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"dma-mailbox: {error.strerror or error}: {error.filename or 'standard input'}", file=sys.stderr)
        return 75


def listen(path: str, log: MailLog) -> None:
    """Serve each connection in a process of its own. Returns only in those, never in the listener, with standard input
    replaced by the connection. Raises DmaError, OSError."""
    from dma_runtime.cmd import service

    bell = service.listen(path, mode=0o600)
    if os.getuid() == 0:
        account = privilege.account()
        os.chown(path, account.uid, account.gid)  # connecting needs the right to write
    bell.setblocking(True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    log.info(f"mailbox process listens at {path}")
    while True:
        try:
            connection, _ = bell.accept()
        except OSError as error:  # no descriptor left: those in the backlog wait
            log.warning(f"mailbox process: can not accept: {error.strerror}")
            time.sleep(PAUSE)
            continue
        try:
            child = os.fork()
        except OSError as error:  # no process to be had: this delivery is tried again, and the next may find one
            log.warning(f"mailbox process: can not serve: {error.strerror}")
            child = -1
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            bell.close()
            os.dup2(connection.fileno(), 0)
            connection.close()
            return
        connection.close()


# ---------------------------------------------------------------- one conversation


class Does:
    """Which operations are for this process."""

    def __init__(self, *, commands: bool, mailboxes: bool) -> None:
        self.commands = commands
        self.mailboxes = mailboxes


def serve(connection: socket.socket, log: MailLog, does: Does) -> int:
    """Serve one connection. Returns the exit status: 0 when an answer was given."""
    if not _may_ask(connection, log):
        return 77
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(ALL)
    connection.settimeout(SILENCE)
    heard = _Hearing(connection)
    try:
        answer = _answer(heard, does)
        signal.alarm(0)  # what was done is done
        connection.sendall(answer)
        return 0
    except frames.BadFrame as bad:
        log.write(ERR, f"mailbox process: the daemon does not speak our protocol: {bad}")
    except (OSError, _Unfinished) as problem:
        log.write(WARNING, f"mailbox process: gave up: {problem}")
    return 75


def _may_ask(connection: socket.socket, log: MailLog) -> bool:
    uid = localsocket.peer_uid(connection)
    allowed = {0, os.getuid()}
    if os.getuid() == 0:
        allowed.add(privilege.account().uid)
    if uid not in allowed:
        log.write(WARNING, f"mailbox process: uid {uid} asked and was not answered")
    return uid in allowed


class _Unfinished(Exception):
    """The message did not come to its end. No OSError: it says nothing about the mailbox."""


def _too_long(_number: int, _frame: object) -> None:
    raise _Unfinished(f"not done within {ALL} s")


class _Hearing:
    """What the daemon sends, frame by frame."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._parser = frames.Parser()
        self._heard: list[tuple[bytes, bytes]] = []

    def frame(self) -> tuple[bytes, bytes]:
        """Raises _Unfinished at the end of the connection or after SILENCE, BadFrame."""
        while not self._heard:
            try:
                data = self._connection.recv(_PIECE)
            except OSError as error:
                raise _Unfinished(f"the daemon: {error}") from None
            if not data:
                raise _Unfinished("the daemon went away before the end of the message")
            self._heard = list(self._parser.feed(data))
        return self._heard.pop(0)

    def message(self) -> Iterator[bytes]:
        """The message, to its commit."""
        body = frames.Body()
        while True:
            data = body.take(*self.frame())
            if body.whole:
                return
            yield data


def _answer(heard: _Hearing, does: Does) -> bytes:
    kind, payload = heard.frame()
    if kind != frames.HEADER:
        raise frames.BadFrame(f"a frame {kind.decode()} before the request")
    asked = posting.decode(payload)
    if not (does.commands if asked.do == RUN else does.mailboxes):
        return _refused(asked, Outcome(DEFERRED, "that is another unit's", status="4.3.5", tell=True, hint="run dma-setup"))
    if asked.do == RUN:
        return _run(asked, heard)
    try:
        entry = pwd.getpwnam(asked.login)
    except (KeyError, ValueError, UnicodeError):
        return _refused(asked, Outcome(FAILED, f"there is no user {asked.login} here", status="5.1.1"))
    if asked.do == FORWARD:
        become(entry, with_mail=False)
        # A home that does not answer (its owner may have made it so) holds no process: the kernel ends it.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(FORWARD_ALL)
        return _forward(entry)
    if not is_id(asked.id) or asked.part < 0:
        raise frames.BadFrame("a message without an id")
    become(entry, with_mail=True)
    letter = Letter(asked, heard.message)
    return posting.encode_outcome(put(letter, entry.pw_dir, uid=entry.pw_uid, maildrop=MAILDROP, wait=mbox.WAIT, strict=True))


def _run(asked: Posting, heard: _Hearing) -> bytes:
    from dma_runtime.cmd import errands
    from dma_runtime.delivery import errand

    def message() -> Iterator[bytes]:
        yield from heard.message()
        signal.alarm(int(errand.SECONDS) + 60)

    if not is_id(asked.id) or asked.part < 0:
        raise frames.BadFrame("a message without an id")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # as for a .forward: the home may not answer
    return posting.encode_outcome(errands.answer(asked, lambda who: become(who, with_mail=False), message))


def _refused(asked: Posting, outcome: Outcome) -> bytes:
    return posting.encode_forward(None) if asked.do == FORWARD else posting.encode_outcome(outcome)


def become(entry: pwd.struct_passwd, *, with_mail: bool) -> None:
    """Be this user for good, for a mailbox with group mail beside. Raises PermissionError when we may not."""
    uid, gid = entry.pw_uid, entry.pw_gid
    if os.getuid() != 0:
        if uid != os.getuid():
            raise PermissionError(1, f"started as uid {os.getuid()}, can not be {entry.pw_name}")
        return
    os.setgroups([])
    os.setresgid(gid, _mail_group(gid) if with_mail else gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getgroups():
        raise PermissionError(1, f"could not become {entry.pw_name} wholly")


def _mail_group(otherwise: int) -> int:
    import grp

    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return otherwise


# ---------------------------------------------------------------- .forward


def _forward(entry: pwd.struct_passwd) -> bytes:
    """The result frame; we are the user by now."""
    try:
        return posting.encode_forward(*forward.read(entry.pw_dir, entry.pw_uid))
    except OSError as error:
        return posting.encode_forward(None, f"{entry.pw_dir}/{forward.NAME}: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
