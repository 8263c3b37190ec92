"""Commands and files that aliases and `.forward` name as recipients (PIPES): the message given to one of them.

- A command is run by `/bin/sh -c` with the message on standard input: a `From ` line, Return-Path, Delivered-To, then the
  message as it is, as Postfix's local(8) does it. It runs as the queue's owner, of root's queue as `nobody`, in its home
  directory, with a fixed environment: PATH, LANG, HOME, SHELL, USER, LOGNAME, SENDER, RECIPIENT. SENDER and RECIPIENT are
  others' words: what could mean something to a shell is `_` in them.
- Its exit status is the answer, as sendmail has it: 0 delivered; 71, 74 and 75 (EX_OSERR, EX_IOERR, EX_TEMPFAIL) and the
  end by a signal "try again"; 126 and 127 (the shell could not run it) "try again", and the operator is told; others final,
  with what it printed in the report.
- It has SECONDS; then it and what it started are killed, and the message is tried again. So it is when the process that
  runs the queue must end before that (`stopped`): one that went on would be run again all the same, its end unheard.
- A file is a mailbox (`system.mbox`: the owner's own, no link), with `/` at its end a Maildir. `/dev/null` is nowhere, and
  needs no PIPES. Root's queue writes no files.
- In system mode the mailbox process does it, as the user whose `.forward` it is, or nobody (`cmd.errands`).

At least once: what was run when we are killed is run again. Blocks, and belongs into a worker thread.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time

from dma_runtime.aliases import PIPE
from dma_runtime.errors import EX_IOERR, EX_NOHOST, EX_NOPERM, EX_NOUSER, EX_OK, EX_OSERR, EX_TEMPFAIL
from dma_runtime.message import mboxrd
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, Outcome
from dma_runtime.policy.recipients import NO_PIPES
from dma_runtime.shown import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dma_runtime.config import Config
    from dma_runtime.posting import Posting

SECONDS = 300.0
LOOK = 0.5  # seconds between two looks whether it must end
SHELL = "/bin/sh"
NOBODY = "nobody"
SAID = 300  # bytes of what it printed that are kept, the last
_LATER = (EX_OSERR, EX_IOERR, EX_TEMPFAIL)
_STATUS = {EX_NOUSER: "5.1.1", EX_NOHOST: "5.1.2", EX_NOPERM: "5.7.0"}
_HARMLESS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!@%-_=+:,./"


def nowhere(kind: str, text: str) -> bool:
    return kind != PIPE and text == "/dev/null"


def refused(kind: str, text: str, config: Config) -> Outcome | None:
    """Why it is not done, by the configuration in force now; None when it is."""
    if not config.PIPES and not nowhere(kind, text):
        return Outcome(FAILED, f"{NO_PIPES}: {text}", status="5.7.1")
    if kind != PIPE and os.geteuid() == 0 and not nowhere(kind, text):
        return Outcome(FAILED, f"{text}: root writes no files but mailboxes", status="5.7.1")
    return None


def never() -> bool:
    """Nobody stops us."""
    return False


def run(
    command: str,
    posting: Posting,
    chunks: Callable[[], Iterator[bytes]],
    *,
    seconds: float = SECONDS,
    stopped: Callable[[], bool] = never,
) -> Outcome:
    """Run a command for one recipient. `stopped`: whether it must end now. Raises what `chunks` raises."""
    try:
        entry = pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam(NOBODY)
    except KeyError:
        return Outcome(DEFERRED, f"{command}: there is no account to run it as", status="4.3.5", tell=True, hint="see passwd(5)")
    import tempfile  # here: with what it brings it is a fiftieth of an owner's start, and few messages go to a command

    with tempfile.TemporaryFile() as whole, tempfile.TemporaryFile() as said:
        # In a file: a command that reads nothing must not stop us, nor one that prints without end.
        whole.write(mboxrd.from_line(posting.sender, time.localtime()) + mboxrd.trace(posting.sender, posting.address))
        for chunk in chunks():
            whole.write(chunk)
        whole.seek(0)
        try:
            status = _wait(_start(command, posting, entry, whole.fileno(), said.fileno()), seconds, stopped)
        except OSError as error:
            return Outcome(DEFERRED, f"can not run {SHELL}: {error.strerror or error}", status="4.3.0")
        said.seek(max(0, os.fstat(said.fileno()).st_size - SAID))
        words = shown(said.read(SAID).decode("utf-8", "backslashreplace").strip(), 1000)
    if status is None and stopped():
        return Outcome(DEFERRED, f"{shown(command, 200)} was ended, for the queue was stopped", status="4.3.2")
    return _judged(command, status, words, seconds)


def _start(command: str, posting: Posting, entry: pwd.struct_passwd, whole: int, said: int) -> subprocess.Popen[bytes]:
    root = os.geteuid() == 0
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": entry.pw_dir, "SHELL": SHELL,
        "USER": entry.pw_name, "LOGNAME": entry.pw_name,
        "SENDER": _harmless(posting.sender), "RECIPIENT": _harmless(posting.address),
    }  # fmt: skip
    return subprocess.Popen(
        [SHELL, "-c", command.encode("utf-8", "surrogateescape")],
        stdin=whole,
        stdout=said,
        stderr=said,
        env=environment,
        cwd="/" if root or not os.path.isdir(entry.pw_dir) else entry.pw_dir,
        umask=0o077,
        start_new_session=True,
        user=entry.pw_uid if root else None,
        group=entry.pw_gid if root else None,
        extra_groups=[] if root else None,
    )


def _wait(process: subprocess.Popen[bytes], seconds: float, stopped: Callable[[], bool]) -> int | None:
    """Its exit status, negative for a signal; None when it had to be killed, with what it started."""
    until = time.monotonic() + seconds
    while True:
        left = until - time.monotonic()
        try:
            return process.wait(max(0.0, min(left, LOOK)))
        except subprocess.TimeoutExpired:
            if left > LOOK and not stopped():
                continue
            os.killpg(process.pid, signal.SIGKILL)  # it leads its session and is not waited for yet: the number is its own
            process.wait()
            return None


def _judged(command: str, status: int | None, words: str, seconds: float) -> Outcome:
    what = shown(command, 200)
    behind = f": {words}" if words else ""
    if status == EX_OK:
        return Outcome(DELIVERED, f"delivered to command: {what}", status="2.0.0")
    if status is None:
        return Outcome(DEFERRED, f"{what} did not end within {seconds:.0f} s{behind}", status="4.4.7")
    if status < 0:
        return Outcome(DEFERRED, f"{what} was ended by signal {-status}{behind}", status="4.3.0")
    if status in _LATER:
        return Outcome(DEFERRED, f"{what}: exit status {status}{behind}", status="4.3.0")
    if status in (126, 127):
        hint = "correct the command in the aliases file or .forward"
        return Outcome(DEFERRED, f"{what} can not be run{behind}", status="4.3.5", tell=True, hint=hint)
    return Outcome(FAILED, f"{what}: exit status {status}{behind}", status=_STATUS.get(status, "5.3.0"))


def _harmless(text: str) -> str:
    return "".join(c if c in _HARMLESS else "_" for c in text)
