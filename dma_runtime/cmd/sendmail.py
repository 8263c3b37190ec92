"""dma, sendmail, mailq, newaliases: the door that every program and person uses.

The base name it was started by decides the face. A submission reads the header, decides who gets the message, writes it to
the spool while it is read, and returns 0 when it is synced there; delivery goes on without the caller. Memory is the
header and one chunk of the body, whatever the size.

Failures are one line `PROGRAM: TEXT` on standard error and in syslog, with a sysexits status (docs/compatibility.md,
section 3); nothing is accepted then. Only when standard error is a terminal is a message that could not be spooled kept in
`~/dead.letter`.

Until a message is safe only built-in modules and our own bare ones are imported (docs/architecture.md).
"""

from __future__ import annotations

import sys

from dma_runtime import __version__
from dma_runtime import posixos as os
from dma_runtime.cmd import options as cli
from dma_runtime.cmd.caller import Caller, put, say
from dma_runtime.errors import EX_OK, EX_SOFTWARE, EX_TEMPFAIL, DmaError, UsageError, status_of
from dma_runtime.system.maillog import ERR, MailLog

SIGINT_STATUS = 130


def main(argv: list[str] | None = None) -> int:  # noqa: RET503  # it never comes back from _exit
    """Run as `argv` and return the exit status; raises nothing. Without `argv` it is the process's own, and ends it."""
    if argv is not None:
        return door(argv)
    status = door(sys.argv)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # closed, or nobody reads it
    os._exit(status)  # taking the interpreter apart would cost a submission a tenth of its time


def door(words: list[str]) -> int:
    """The face that `words[0]` names, with what can go wrong turned into a line and a status."""
    program = os.basename(words[0]) if words and words[0] else "dma"
    open_standard_files()
    log = MailLog()
    try:
        return run(program, [plain(word) for word in words[1:]], log)
    except DmaError as error:
        return complain(program, error.text, error.status, log)
    except KeyboardInterrupt:
        return SIGINT_STATUS
    except BrokenPipeError:
        return EX_OK  # whoever read our output has gone
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return complain(program, f"{where}{error.strerror or error}", status_of(error), log)
    except (ImportError, MemoryError) as error:  # the library is being upgraded this moment, or there is no room: it may pass
        what = f": {error}" if str(error) else ""
        return complain(program, f"can not go on: {type(error).__name__}{what}", EX_TEMPFAIL, log)
    except Exception as error:  # whatever it is, the caller gets one line and a status, never a traceback
        return complain(program, f"internal error: {type(error).__name__}: {error}", EX_SOFTWARE, log)


def open_standard_files() -> None:
    """A caller that closed 0, 1 or 2 must not have a spool file opened in their place."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # Standard input is opened for writing, so that reading it fails instead of giving an empty message.
            os.open("/dev/null", os.O_WRONLY)


def plain(word: str) -> str:
    """A word of the command line as UTF-8, whatever the locale; other bytes stay as surrogate escapes."""
    return word if word.isascii() else os.fsencode(word).decode("utf-8", "surrogateescape")


def complain(program: str, text: str, status: int, log: MailLog) -> int:
    line = "".join(c if c.isprintable() else "?" for c in text)
    say(f"{program}: {line}\n")
    log.write(ERR, text)
    return status


def run(program: str, words: list[str], log: MailLog) -> int:
    """One face. Raises DmaError."""
    if program in ("mailq", "newaliases"):
        options = cli.Options()  # monitoring calls them with all kinds of options; none but -C changes what they say
        options.mode = cli.SHOW_QUEUE if program == "mailq" else cli.ALIASES
        try:
            options.config = cli.parse(words).config
        except UsageError:
            pass
    else:
        options = cli.parse(words)
    if options.tag:
        log.tag = options.tag
    if options.mode == cli.NOTHING:
        return EX_OK
    if options.mode in (cli.HELP, cli.VERSION):
        return about(options.mode)
    caller = Caller(program, options, log)
    if options.mode == cli.SHOW_QUEUE:
        return show_queue(caller)
    if os.isatty(2) and not caller.system_mode:
        # Whoever sends by hand is told what keeps mail from leaving (docs/architecture.md, "Telling the operator").
        import time

        from dma_runtime.system import notice

        notice.say(caller.config.SPOOLDIR, program, time.time())
    if options.mode == cli.SMTP:
        from dma_runtime.cmd.smtpserver import serve

        return serve(caller)
    caller.config.sound()
    if options.mode == cli.ALIASES:
        from dma_runtime.cmd.newaliases import check

        return check(caller.config, program)
    if caller.system_mode:
        return by_socket(caller)
    if options.mode == cli.RUN_QUEUE:
        return run_queue(caller)
    if options.mode == cli.VERIFY:
        from dma_runtime.cmd.verify import verify

        return verify(caller)
    from dma_runtime.cmd.submit import submit

    return submit(caller)


def about(mode: str) -> int:
    text = f"dma {__version__}, a mail agent\n"
    if mode == cli.HELP:
        text += "usage: dma [-t] [-i] [-f sender] [-F name] [-bq] [-D] [recipient ...] < message; see dma(8)\n"
    put(text.encode())
    return EX_OK


def by_socket(caller: Caller) -> int:
    """System mode: the machine's daemon does it."""
    from dma_runtime import request
    from dma_runtime.cmd.handover import question, submit

    if caller.options.mode == cli.SUBMIT:
        return submit(caller)
    return question(caller, request.RUN if caller.options.mode == cli.RUN_QUEUE else request.VERIFY)


def show_queue(caller: Caller) -> int:
    """mailq, `-bp`. A configuration with a bad value does not stop a listing."""
    for problem in caller.config.problems:
        caller.warn(problem.text)
    if caller.system_mode:
        from dma_runtime import request
        from dma_runtime.cmd.handover import question

        return question(caller, request.LIST)
    from dma_runtime.cmd.mailq import mailq

    return mailq(caller.config)


def run_queue(caller: Caller) -> int:
    """`-q`: attempt everything now; with -D or -v return after one attempt of each."""
    from dma_runtime.system.ownership import ring
    from dma_runtime.system.spool import Spool

    spool = Spool(caller.config.SPOOLDIR)
    for warning in spool.prepare(own_only=caller.config.user_mode):
        caller.warn(warning)
    if caller.options.foreground:
        from dma_runtime.cmd import daemon

        log = MailLog(caller.log.tag, stderr=True)
        if daemon.run_queue(caller.config, log, verbose=caller.options.verbose):
            caller.leave_owner(run=False)
        return EX_OK
    if not ring(spool, b'{"do":"run","ids":null,"wait":false}\n'):
        caller.leave_owner(run=True)  # it takes the queue, or tells whoever has just taken it
    return EX_OK


if __name__ == "__main__":
    sys.exit(main())
