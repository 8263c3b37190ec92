"""System mode: handing a message, or a question, to the machine's daemon.

Everybody uses the socket, root included. The message is read to its end first (`system.held`), so a slow producer keeps
nobody waiting; the daemon takes the identity from the kernel and decides everything that is policy. Only if nobody can
listen, root becomes the mail account and writes the spool itself, with fewer rights than before; anybody else gets 75 and
one line, and at a terminal the message is kept in `~/dead.letter` (hard-parts.md, Submitting).

Built-in modules only.
"""

from __future__ import annotations

from dma_runtime import posixos as os
from dma_runtime import request
from dma_runtime.cmd.caller import Caller, put, say
from dma_runtime.cmd.submit import Source, Submission, too_large
from dma_runtime.errors import EX_NOINPUT, EX_OK, EX_TEMPFAIL, EX_USAGE, CannotSpool, DmaError
from dma_runtime.message.intake import Intake
from dma_runtime.request import Request
from dma_runtime.system.daemonline import NobodyListens, converse
from dma_runtime.system.held import Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def submit(caller: Caller) -> int:
    """Take the message on standard input and hand it over. Returns 0; raises DmaError when it was not accepted."""
    if not caller.options.operands and not caller.options.extract:
        raise DmaError("no recipients from command line", EX_NOINPUT)
    source = Source(keep=os.isatty(2))
    message = Held(_directory(caller), memory=True)
    try:
        _read(caller, source, message)
        status = hand_over(caller, request_for(caller), message)
        if caller.options.verbose and not caller.options.queue_only:
            _tell(b"-- the machine's mail service made the attempt; what was said is in its log\n")
        return status
    except DmaError as error:
        if isinstance(error, CannotSpool) or error.status == EX_TEMPFAIL:
            source.bury(caller)
        raise
    finally:
        message.close()


def _directory(caller: Caller) -> str:
    """Where a message that is not small is held."""
    place = caller.environ.get("TMPDIR", "")
    return place if place.startswith("/") else "/tmp"  # the file has no name there


def _read(caller: Caller, source: Source, message: Held) -> None:
    """All of standard input, LF line ends, up to a lone dot. Raises DmaError (66, 69, 75)."""
    intake = Intake(source.read, ignore_dots=caller.options.ignore_dots)
    try:
        while data := intake.read():
            message.write(data)
            if message.size > caller.config.MAXSIZE:
                raise too_large(caller.config)
    except OSError as error:
        raise DmaError(f"can not hold the message: {error.strerror or error}", EX_TEMPFAIL) from None


def request_for(caller: Caller, do: str = request.SUBMIT) -> Request:
    """What the command line asks for."""
    options = caller.options
    asked = Request(do)
    asked.sender = options.sender
    asked.name = options.full_name
    asked.recipients = options.operands
    asked.extract = options.extract
    asked.queue_only = options.queue_only
    asked.foreground = options.foreground
    asked.dsn_notify, asked.dsn_return, asked.dsn_envelope = options.dsn_notify, options.dsn_return, options.dsn_envelope
    asked.dsn_recipients = options.dsn_recipients
    asked.requiretls = options.requiretls
    asked.environ = {name: caller.environ[name] for name in request.ENVIRON if caller.environ.get(name)}
    asked.terminal = os.isatty(2)
    return asked


def hand_over(caller: Caller, asked: Request, message: Held) -> int:
    """Give `message` to the daemon as `asked` says. Returns 0; raises DmaError when it was not accepted."""
    try:
        header = request.encode(asked)
    except ValueError:
        raise DmaError("too many recipients for one message", EX_USAGE) from None

    def pieces() -> Iterator[bytes]:
        message.rewind()
        return iter(message.read, b"")

    try:
        if status := _ask(caller, header, pieces, patient=asked.foreground):
            raise DmaError("the mail service did not accept the message", status)
        return EX_OK
    except NobodyListens as nobody:
        if caller.uid != 0:
            raise
        return _without_daemon(caller, message, nobody)


def _without_daemon(caller: Caller, message: Held, nobody: NobodyListens) -> int:
    """Root, and nobody listens: write the spool as the account that owns it. Raises `nobody` where there is none."""
    from dma_runtime.system import privilege

    try:
        account = privilege.account()
    except DmaError:
        raise nobody from None
    if os.geteuid() == 0:  # not so for a second message of one conversation
        privilege.become(account)
    message.rewind()
    caller.options.ignore_dots = True  # what ended the message is gone already
    return Submission(caller, message).run()


def question(caller: Caller, do: str) -> int:
    """LIST, RUN or VERIFY: what the daemon answers goes to standard output. Returns the exit status. Raises DmaError."""
    return _ask(caller, request.encode(request_for(caller, do)), None, patient=caller.options.foreground)


def _ask(caller: Caller, header: bytes, message: Callable[[], Iterable[bytes]] | None, *, patient: bool) -> int:
    def line(text: str) -> None:
        say(f"{caller.program}: {text}\n")

    answer = converse(caller.config.SOCKET, header, message, output=_output, line=line, patient=patient)
    if answer.status != EX_OK and answer.text:
        raise DmaError(answer.text, answer.status)
    return answer.status


def _output(data: bytes) -> None:
    """To standard output, but nothing that a terminal would obey: root asks too, and whoever speaks is only the account dma.
    Who stopped reading has seen enough. Raises DmaError (74)."""
    plain = bytes(byte if (byte >= 32 and byte != 127) or byte in b"\t\n" else 63 for byte in range(256))
    try:
        put(data.translate(plain))
    except BrokenPipeError:
        pass


def _tell(data: bytes) -> None:
    """The same where the message is accepted already: nothing may change that."""
    try:
        _output(data)
    except DmaError:
        pass
