"""dmad(8): the process that owns a spool while it runs.

    dmad [-C FILE]                     resident, in the foreground, under any supervisor, or as process 1 of a container
    dmad --leave-when-empty            as the submitter leaves it behind in user mode: ends with the queue
    dmad --leave-when-empty --run      the same, attempting everything at once (`dma -q`)

In system mode it listens on SOCKET, or on what systemd gave it, and is user `dma` from then on (`cmd.service`); with
`--leave-when-empty` and a socket from systemd it ends some time after the last client, and systemd starts it for the next.

`-v` writes the log to standard error too, `--debug` the dialogue with relays as well (logins redacted).
The functions below serve the other doors: `-D`, `-q` and `dma-queue run --due`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback

from dma_runtime import __version__
from dma_runtime.cmd.caller import check_trust
from dma_runtime.cmd.usage import Parser
from dma_runtime.config import Config, find
from dma_runtime.delivery.runs import Goal
from dma_runtime.delivery.tenure import hold, request
from dma_runtime.errors import EX_OSERR, EX_TEMPFAIL, DmaError, status_of
from dma_runtime.system import localsocket, rlimits
from dma_runtime.system.firstprocess import stand_by
from dma_runtime.system.maillog import ERR, MailLog
from dma_runtime.system.ownership import NO_ANSWER, PATIENCE, ask
from dma_runtime.system.spool import Spool
from dma_runtime.system.starter import start_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dma_runtime.delivery.owner import Attendant

AGAIN = 300.0  # seconds until an owner without a supervisor tries again what ended it
PAUSE = 0.2  # seconds between two looks at a lock that is held
CHANGE = 60.0  # seconds for an owner to carry out a change
COMES = 30.0  # seconds for a daemon to be there when its socket is
LEAST = 32  # descriptors; an owner that has fewer fails at every turn, and keeps others from owning the queue meanwhile
WAIT = 7 * 86400  # seconds; somebody who asked to wait waits for the attempt, however long its timeouts are


def parser() -> argparse.ArgumentParser:
    """The command line; the man page is made from it."""
    found = Parser(prog="dmad", description="Own the mail queue: accept, deliver, retry.")
    found.add_argument("-C", metavar="FILE", dest="conf", help="configuration file")
    found.add_argument("--leave-when-empty", action="store_true", help="end when nothing is left to try")
    found.add_argument("--run", action="store_true", help="attempt everything at once when starting")
    found.add_argument("-v", action="store_true", dest="verbose", help="log to standard error too")
    found.add_argument("--debug", action="store_true", help="show the dialogue with relays, logins redacted")
    found.add_argument("--version", action="version", version=f"dma {__version__}")
    return found


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    stand_by()
    try:
        config = find(options.conf, dict(os.environ), os.getuid(), os.geteuid()).sound()
        check_trust(config, os.getuid())
        log = MailLog(stderr=options.verbose or options.debug)
        goal = Goal(resident=not options.leave_when_empty, run=options.run)
        left_behind = not goal.resident and not config.by_socket
        allowed = rlimits.widen(all=left_behind)
        if left_behind and allowed < LEAST:
            log.write(ERR, f"{allowed} file descriptors (ulimit -n) are too few to deliver with; mail waits for the next queue run")
            return EX_OSERR
        attendants: list[Attendant] = []
        if config.by_socket:
            from dma_runtime.cmd import service

            attendants = service.enter(config, log, resident=goal.resident)
        return own(config, log, goal, debug=options.debug, attendants=attendants)
    except DmaError as error:
        print(f"dmad: {error.text}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"dmad: {error.filename or 'the spool'}: {error.strerror}", file=sys.stderr)
        return status_of(error)


def own(config: Config, log: MailLog, goal: Goal, *, debug: bool = False, attendants: Sequence[Attendant] = ()) -> int:
    """Own the spool of `config` until the goal is reached; 75 when somebody else does and the goal was to stay.

    A fault of ours or of the disk that ends the owner is logged. Who is to stay has a supervisor, which starts it anew; one
    that was left behind by a submission has nobody, and tries again by itself: the mail in its queue was accepted."""
    spool = Spool(config.SPOOLDIR)
    for warning in [*config.warnings, *spool.prepare(own_only=config.user_mode)]:
        log.warning(warning)
    trace = _to_stderr if debug else _to_file(config, log)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            if hold(spool, config, log, goal, trace=trace, attendants=attendants) is not None:
                return 0
        except DmaError:
            raise
        except Exception as error:
            said = traceback.format_exc()[-1500:]
            if isinstance(error, OSError):
                said = f"{error.strerror}: {error.filename or spool.path}"
            log.write(ERR, f"the queue can not be worked on: {said}")
            if goal.resident or attendants or isinstance(error, (PermissionError, FileNotFoundError, NotADirectoryError)):
                raise
            time.sleep(AGAIN)
            continue
        if not goal.resident and not attendants:
            # Whoever owns the queue works on it. That everything is to be tried now it may not know: it was starting.
            if not goal.run or ask(spool, {"do": "run", "ids": None}, timeout=CHANGE) or time.monotonic() > until:
                return 0
            continue
        # Who is here for a run or until the queue is empty makes room for one who serves the socket.
        answer = ask(spool, {"do": "leave"}, timeout=CHANGE)
        if answer is not None and "error" in answer:
            raise DmaError(f"another dmad owns {config.SPOOLDIR}", EX_TEMPFAIL)
        time.sleep(PAUSE)


# ---------------------------------------------------------------- for the other doors


def foreground(config: Config, ids: list[str], log: MailLog, *, verbose: bool = False) -> bool:
    """One attempt of what was submitted (`-D`), by ourselves or by the owner. Returns whether an owner is still needed.

    `verbose`: show the dialogue with the relay on standard output (`-v`).
    """
    needed = _attempt(config, log, Goal(run=True, ids=ids, once=True), verbose)
    if needed is None:
        log.warning(f"{NO_ANSWER}; the mail is queued")
    return needed is not False


def run_queue(config: Config, log: MailLog, *, due_only: bool = False, verbose: bool = False) -> bool:
    """One attempt of everything queued, waited for (`-q -D`, `run --due`). Returns whether an owner is still needed."""
    needed = _attempt(config, log, Goal(run=True, due_only=due_only, once=True), verbose)
    if needed is None:
        raise DmaError(NO_ANSWER, EX_TEMPFAIL)
    return needed


def _attempt(config: Config, log: MailLog, goal: Goal, verbose: bool) -> bool | None:
    """Whether an owner is still needed; None when somebody keeps the lock and neither answers nor leaves."""
    spool = Spool(config.SPOOLDIR)
    spool.prepare(own_only=config.user_mode)
    trace = _to_stdout if verbose else _to_file(config, log)
    question: dict[str, object] = {"do": "run", "ids": goal.ids, "due": goal.due_only, "wait": True}
    if config.by_socket and not localsocket.silent(config.SOCKET, COMES):
        # The machine's daemon is there, or is started now: it delivers, in its own sandbox.
        until = time.monotonic() + COMES
        while time.monotonic() < until:
            if ask(spool, question, timeout=WAIT) is not None:
                return False
            time.sleep(PAUSE)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        owner = hold(spool, config, log, goal, trace=trace)
        if owner is not None:
            return owner.queue.unfinished
        asked = time.monotonic()
        if ask(spool, question, timeout=WAIT) is not None:
            if verbose:
                _to_stdout("-- the process that owns the queue made the attempt; what was said is in its log")
            return False  # the owner that answered stays with the queue
        # It left between our two questions: the lock is free now, or soon.
        if time.monotonic() - asked > PAUSE:
            until = time.monotonic() + PATIENCE  # somebody was there, and worked on it
    return None


def change(config: Config, log: MailLog, verb: str, id: str = "") -> dict[str, object]:
    """One of the operator's verbs, on one message or (adopt) on the spool: {"ok": true} or {"error": TEXT}."""
    spool = Spool(config.SPOOLDIR)
    spool.prepare(own_only=config.user_mode)
    question: dict[str, object] = {"do": verb, "id": id}
    return request(spool, config, log, question, timeout=CHANGE, start=lambda: leave_owner(config, log))


def leave_owner(config: Config, log: MailLog) -> None:
    """Start an owner in the background for what waits. Never raises: the next run finds the mail."""
    try:
        # In user mode the owner finds the same file by itself, and must know that it is user mode.
        start_owner(None if config.user_mode else config.wanted or None, config)
    except OSError as error:
        log.warning(f"can not start the delivering process: {error.strerror or error}; mail waits for the next queue run")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def _to_file(config: Config, log: MailLog) -> Callable[[str], None] | None:
    """What writes the dialogue to DEBUGLOG, if it is set. A file that cannot be written stops no mail."""
    path = config.DEBUGLOG
    if path is None:
        return None
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(path, flags, 0o600)  # open as long as we run
    except OSError as error:
        log.warning(f"can not write DEBUGLOG {path}: {error.strerror}")
        return None

    def write(line: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
        try:
            os.write(file, f"{stamp} {line}\n".encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # a full disk stops no mail

    return write


def _to_stdout(line: str) -> None:
    """The dialogue as it goes on. Nobody's reading it any more ends no delivery."""
    try:
        os.write(1, line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main())
