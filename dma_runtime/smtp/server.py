"""The serving side of SMTP, for `-bs`: bytes of a client in, bytes of replies out, and a desk that is asked.

A conversation is a table: each verb with the states it may come in and the function that carries it out. Who may send what
to whom, and where a message is kept, is the desk's (`Desk`); a desk says no by raising `Refused`.

Rules:
- A message is accepted when `Desk.finish` returned, and only then 250 is said: by then it is safe on disk.
- Replies do not depend on how the input was cut (RFC 2920 3.2); many messages a session.
- Where MAIL or all RCPTs were refused DATA still gets 354, and the end of the message 554 (RFC 2920 3.1 allows both): the
  text of a client that does not wait for replies is never read as commands.
- A command line ends with CRLF; a bare LF is tolerated there, but see `smtp.content` for the message.
- MAIL without EHLO is taken.
- After `MISTAKES` commands that are none the client is sent away (421).

Limits: LINE bytes a command (RFC 5321 4.5.3.1.4 asks for 512, extensions for more), RECIPIENTS a message (4.5.3.1.8 asks
for 100), `Desk.largest` bytes of message. Pure. Follows RFC 5321, 2034 (ENHANCEDSTATUSCODES), 2920 (PIPELINING) and those
of `smtp.arguments`.
"""

from __future__ import annotations

from dma_runtime.shown import shown
from dma_runtime.smtp import arguments
from dma_runtime.smtp.arguments import Mail, Rcpt, Refused
from dma_runtime.smtp.content import Content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Desk(Protocol):
        """What the conversation is about. `largest`: bytes of message, 0 no limit. `dsn`: RFC 3461 is honoured."""

        largest: int
        dsn: bool

        def sender(self, mail: Mail) -> None: ...  # a message begins; Refused
        def recipient(self, rcpt: Rcpt) -> None: ...  # Refused
        def take(self, data: bytes) -> None: ...  # some of its bytes, line ends as they came; Refused
        def finish(self) -> str: ...  # keep it: "" or the words for 250; Refused
        def forget(self) -> None: ...  # drop what there is of a message


LINE = 4096  # bytes of a command, its end included
RECIPIENTS = 10_000
MISTAKES = 20

IDLE, MAIL, RCPT = "idle", "mail", "rcpt"  # what the client may go on with


class Server:
    """One conversation. `closed` when nothing more is to be read."""

    def __init__(self, name: str, desk: Desk, *, recipients: int = 0) -> None:
        self.name = name
        self.desk = desk
        self._most = recipients or RECIPIENTS
        self.closed = False
        self._state = IDLE
        self._refused = False  # a MAIL or RCPT of this message was refused
        self._recipients = 0
        self._waiting = b""
        self._lf = False  # the last command ended in a bare LF
        self._overlong = False
        self._mistakes = 0
        self._content: Content | None = None
        self._size = 0  # of the message so far
        self._fault: Refused | None = None  # why the message that is coming will not be taken

    def greeting(self) -> bytes:
        return _reply(220, "", f"{self.name} ESMTP dma")

    def feed(self, data: bytes) -> bytes:
        """The replies to `data`, in one piece."""
        self._waiting += data
        out: list[bytes] = []
        while not self.closed and (self._waiting or self._content):
            said = self._text() if self._content else self._next_command()
            if said is None:
                break
            out.append(said)
        return b"".join(out)

    def end(self) -> None:
        """The client is gone. A message that was not finished is not accepted."""
        self.closed = True
        self._forget()

    # ------------------------------------------------------------ lines

    def _next_command(self) -> bytes | None:
        line, found, rest = self._waiting.partition(b"\n")
        if not found:
            if len(line) > LINE:
                self._overlong, self._waiting = True, b""
            return None
        self._waiting = rest
        if self._overlong or len(line) >= LINE:
            self._overlong = False
            return self._mistake(500, "5.5.2", "line too long")
        return self._command(line)

    def _command(self, line: bytes) -> bytes:
        self._lf = not line.endswith(b"\r")
        line = line.removesuffix(b"\r").rstrip(b" \t")
        word, _, argument = line.partition(b" ")
        entry = _VERBS.get(word.upper())
        if entry is None:
            return self._mistake(500, "5.5.1", "command not recognized")
        states, complaint, carry_out = entry
        if self._state not in states:
            return _reply(503, "5.5.1", complaint)
        try:
            if any(c < 0x20 or c == 0x7F for c in line):
                raise Refused(501, "5.5.2", "control character in a command")
            return carry_out(self, argument.strip(b" \t"))
        except Refused as no:
            self._refused = self._refused or word.upper() in (b"MAIL", b"RCPT")
            return _reply(no.code, no.status, no.text)

    def _mistake(self, code: int, status: str, text: str) -> bytes:
        self._mistakes += 1
        if self._mistakes < MISTAKES:
            return _reply(code, status, text)
        self.end()
        return _reply(421, "4.7.0", f"{self.name} too many errors")

    def _forget(self) -> None:
        self.desk.forget()
        self._state = IDLE
        self._refused = False
        self._recipients = 0
        self._content = None
        self._fault = None

    # ------------------------------------------------------------ verbs

    def _ehlo(self, argument: bytes) -> bytes:
        if not argument:
            raise Refused(501, "5.5.4", "EHLO needs the client's name")
        self._forget()  # RFC 5321 4.1.4
        offered = ["PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "REQUIRETLS", f"SIZE {self.desk.largest}"]
        if self.desk.dsn:
            offered.append("DSN")
        lines = [self.name, *offered, "HELP"]
        return b"".join(f"250{'-' if line is not lines[-1] else ' '}{line}\r\n".encode() for line in lines)

    def _helo(self, argument: bytes) -> bytes:
        if not argument:
            raise Refused(501, "5.5.4", "HELO needs the client's name")
        self._forget()
        return _reply(250, "", self.name)

    def _mail(self, argument: bytes) -> bytes:
        mail = arguments.mail(argument, dsn=self.desk.dsn)
        if 0 < self.desk.largest < mail.size:
            raise self._too_large()
        self.desk.sender(mail)
        self._state = MAIL
        self._refused = False
        return _reply(250, "2.1.0", "sender ok")

    def _rcpt(self, argument: bytes) -> bytes:
        rcpt = arguments.rcpt(argument, dsn=self.desk.dsn)
        if self._recipients >= self._most:
            raise Refused(452, "4.5.3", "too many recipients")  # RFC 5321 4.5.3.1.10
        self.desk.recipient(rcpt)
        self._recipients += 1
        self._state = RCPT
        return _reply(250, "2.1.5", "recipient ok")

    def _data(self, argument: bytes) -> bytes:
        if argument:
            raise Refused(501, "5.5.4", "DATA takes no argument")
        if self._state != RCPT and not self._refused:
            raise Refused(503, "5.5.1", "RCPT first" if self._state == MAIL else "MAIL first")
        self._fault = None if self._state == RCPT else Refused(554, "5.5.1", "no valid recipients")
        self._content = Content(lf=self._lf)
        self._size = 0
        return _reply(354, "", "end the message with <CRLF>.<CRLF>")

    def _text(self) -> bytes | None:
        """Bytes of the message; the reply when it has ended."""
        assert self._content is not None
        data, self._waiting = self._content.feed(self._waiting), b""
        if data and self._fault is None:
            self._size += len(data)
            if 0 < self.desk.largest < self._size:
                self._fault = self._too_large()
            else:
                try:
                    self.desk.take(data)
                except Refused as no:
                    self._fault = no
        if not self._content.ended:
            return None
        self._waiting = self._content.rest
        try:
            if self._fault is not None:
                raise self._fault
            words = self.desk.finish()
            # From here on the mail is safe.
            return _reply(250, "2.0.0", words or "message accepted")
        except Refused as no:
            return _reply(no.code, no.status, no.text)
        finally:
            self._forget()

    def _too_large(self) -> Refused:
        return Refused(552, "5.3.4", f"message larger than {self.desk.largest} bytes")

    def _rset(self, _: bytes) -> bytes:
        self._forget()
        return _reply(250, "2.0.0", "ok")

    def _noop(self, _: bytes) -> bytes:
        return _reply(250, "2.0.0", "ok")

    def _vrfy(self, argument: bytes) -> bytes:
        if not argument:
            raise Refused(501, "5.5.4", "VRFY needs an address")
        return _reply(252, "2.5.2", "cannot tell before RCPT, but will take the message and try")  # RFC 5321 3.5.3

    def _help(self, _: bytes) -> bytes:
        return _reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT; see dma(8)")

    def _quit(self, _: bytes) -> bytes:
        self.end()
        return _reply(221, "2.0.0", f"{self.name} closing")

    def _absent(self, _: bytes) -> bytes:
        return _reply(502, "5.5.1", "command not implemented")


_ANY = (IDLE, MAIL, RCPT)

# verb: states it may come in, the reply's words otherwise, what carries it out
_VERBS: dict[bytes, tuple[tuple[str, ...], str, Callable[[Server, bytes], bytes]]] = {
    b"EHLO": (_ANY, "", Server._ehlo),
    b"HELO": (_ANY, "", Server._helo),
    b"MAIL": ((IDLE,), "there is a sender already", Server._mail),
    b"RCPT": ((MAIL, RCPT), "MAIL first", Server._rcpt),
    b"DATA": (_ANY, "", Server._data),
    b"RSET": (_ANY, "", Server._rset),
    b"NOOP": (_ANY, "", Server._noop),
    b"VRFY": (_ANY, "", Server._vrfy),
    b"HELP": (_ANY, "", Server._help),
    b"QUIT": (_ANY, "", Server._quit),
    b"VERB": (_ANY, "", Server._noop),  # sendmail's; old clients of -bs say it
    b"ONEX": (_ANY, "", Server._noop),
    b"EXPN": (_ANY, "", Server._absent),
    b"BDAT": (_ANY, "", Server._absent),
    b"AUTH": (_ANY, "", Server._absent),
    b"STARTTLS": (_ANY, "", Server._absent),
    b"ETRN": (_ANY, "", Server._absent),
}


def _reply(code: int, status: str, text: str) -> bytes:
    words = " ".join(word for word in (str(code), status, shown(text, 400)) if word)
    return words.encode("utf-8", "backslashreplace") + b"\r\n"
