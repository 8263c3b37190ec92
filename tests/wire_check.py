"""What we put on the wire, checked strictly by a reader of its own: it shares nothing with the client but the RFCs.

- No NUL, no bare CR, no bare LF; command lines end in CRLF and are at most 512 octets, parameters of MAIL apart
  (RFC 5321 4.5.3.1.4).
- Commands are known ones; RCPT follows MAIL, DATA and BDAT follow RCPT, in every transaction.
- Body lines by DATA: at most 998 octets, dot-stuffed; the body ends with a dot on its own line.
- BDAT: exactly as many bytes as declared, then a command again.
- Nothing follows EHLO, HELO, STARTTLS, AUTH, DATA or QUIT in the same write (RFC 2920 3.1), and a write ends with a
  whole command or inside of a body, never inside of a command line.
"""

ALONE = (b"EHLO", b"HELO", b"STARTTLS", b"AUTH", b"DATA", b"QUIT")
KNOWN = (*ALONE, b"MAIL", b"RCPT", b"RSET", b"BDAT", b"NOOP")


class BadWire(AssertionError):
    pass


class Reader:
    """Feed it each write, then call `end`. `bodies` are the messages as a server would take them."""

    def __init__(self, name=""):
        self.name = name
        self.state = "command"  # data: in a body; chunk: in a BDAT; auth: inside of AUTH
        self.left = 0
        self.seen_mail = self.seen_rcpt = False
        self.body = b""
        self.bodies = []
        self.commands = []
        self.waits = False  # something that ends its group was sent, its reply is due
        self.last_chunk = False

    def fail(self, text):
        raise BadWire(f"{self.name}: {text}")

    def write(self, data):
        """One write of the client."""
        self.waits = False
        while data:
            if self.state == "chunk":
                data = self._chunk(data)
            elif self.state == "data":
                data = self._data(data)
            else:
                data = self._command(data)

    def _chunk(self, data):
        self.body += data[: self.left]
        rest = data[self.left :]
        self.left -= min(self.left, len(data))
        if not self.left:
            self._chunk_over()
        return rest

    def _chunk_over(self):
        self.state = "command"
        if self.last_chunk:
            self.bodies.append(self.body)
            self.body = b""

    def _data(self, data):
        whole = self.body + data
        if whole.startswith(b".\r\n"):
            end = 3
        else:
            at = whole.find(b"\r\n.\r\n", max(0, len(self.body) - 5))
            if at < 0:
                self.body = whole
                return b""
            end = at + 5
        body, rest = whole[: end - 3], whole[end:]
        self._lines(body)
        self.bodies.append(b"\r\n".join(line.removeprefix(b".") for line in body.split(b"\r\n")))
        self.body, self.state = b"", "command"
        return rest

    def _lines(self, body):
        if b"\0" in body:
            self.fail("a NUL in the body")
        for line in body.removesuffix(b"\r\n").split(b"\r\n"):
            if b"\r" in line or b"\n" in line:
                self.fail(f"a bare CR or LF in the body: {line!r}")
            if len(line) > 998 + line.startswith(b"."):
                self.fail("a body line longer than 998 octets")
            if line == b".":
                self.fail("a dot that was not stuffed")

    def _command(self, data):
        if self.waits:
            self.fail(f"in one write behind a command that ends its group: {data[:60]!r}")
        line, end, rest = data.partition(b"\r\n")
        if not end:
            self.fail(f"half a command in a write: {line!r}")
        if b"\r" in line or b"\n" in line or b"\0" in line:
            self.fail(f"a control character in a command: {line!r}")
        if self.state == "auth":
            self.waits = True
            if line[:4] not in (b"MAIL", b"QUIT"):
                return rest
            self.state, self.waits = "command", False
        verb = line[:4].upper() if line[:8] != b"STARTTLS" else b"STARTTLS"
        self.commands.append(line)
        if verb not in KNOWN:
            self.fail(f"not a command: {line!r}")
        if len(line) > 510 and verb != b"MAIL":
            self.fail("a command line longer than 512 octets")
        if verb in ALONE:
            self.waits = True
        if verb == b"AUTH":
            self.state = "auth"
        elif verb == b"MAIL":
            self.seen_mail, self.seen_rcpt = True, False
        elif verb == b"RCPT":
            if not self.seen_mail:
                self.fail("RCPT without MAIL")
            self.seen_rcpt = True
        elif verb == b"DATA":
            self._needs_rcpt(line)
            self.state = "wait"
        elif verb == b"BDAT":
            self._needs_rcpt(line, keep=True)
            words = line.split(b" ")
            self.left, self.last_chunk = int(words[1]), words[2:] == [b"LAST"]
            if words[2:] not in ([], [b"LAST"]):
                self.fail(f"BDAT with {line!r}")
            if self.last_chunk:
                self.seen_mail = self.seen_rcpt = False
            self.state = "chunk"
            if not self.left:
                self._chunk_over()
        elif verb == b"RSET":
            self.seen_mail = self.seen_rcpt = False
        return rest

    def _needs_rcpt(self, line, keep=False):
        if not (self.seen_mail and self.seen_rcpt):
            self.fail(f"{line!r} without MAIL and RCPT")
        if not keep:
            self.seen_mail = self.seen_rcpt = False

    def replied_to_data(self, accepted):
        """Tell the reader what became of DATA: 354 or not."""
        assert self.state == "wait"
        self.state = "data" if accepted else "command"


def check(name, writes):
    """A list of writes. The reply to DATA is guessed from what follows: a command means that it was refused."""
    reader = Reader(name)
    for at, data in enumerate(writes):
        if reader.state == "wait":
            reader.replied_to_data(data[:4] not in (b"RSET", b"MAIL", b"QUIT"))
        if reader.state == "command" and reader.waits and data[:4] == b"":
            reader.fail(f"an empty write, number {at}")
        reader.write(data)
    return reader
