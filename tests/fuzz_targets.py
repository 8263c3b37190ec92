"""What is fuzzed: each target takes any bytes and fails when its invariant does not hold.

The invariant is the first comment line of the function. `TARGETS` gives for each name the function and words that make its
inputs likely to mean something. They are run by hypothesis in tests/runtime/test_fuzz.py, and for as long as one likes by
atheris (`make fuzz`, tests/fuzz.py).
"""

import functools
import math
import os
import pathlib
import shutil
import tempfile

from dma_runtime import address, aliases, authconf, config, envelope, frames
from dma_runtime.cmd import options
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.errors import BrokenMessage, ConfigError, DataError, UsageError
from dma_runtime.history import fold
from dma_runtime.message import fieldwire, headers, mime
from dma_runtime.message.intake import Intake
from dma_runtime.message.wire import wire
from dma_runtime.policy import relaymap
from dma_runtime.policy.expansion import BROKEN, Expansion
from dma_runtime.smtp import command
from dma_runtime.smtp.reply import LINE_LIMIT, BadReply, ReplyParser
from dma_runtime.smtp.server import Server
from dma_runtime.system.ledger import Ledger
from dma_runtime.system.spool import Spool
from dma_setup import yamlfile
from dma_setup.discover import autoconfig
from dma_setup.discover.candidate import host_name
from dma_setup.discover.network import NothingThere
from dma_setup.errors import FileProblem


def cut(data, size):
    """`data` in pieces of `size` bytes, then b"" for ever."""
    pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
    return lambda: next(pieces, b"")


def sizes(data):
    """Ways to cut it: whole, by bytes, and one that depends on the data."""
    return {max(1, len(data)), 1, 1 + sum(data) % 7}


# ---------------------------------------------------------------- what setup reads of others


def autoconfig_document(data):
    # Servers that can be shown on a terminal and written into dma.conf, or a reason; nothing else.
    try:
        found = autoconfig.servers(data, "alice@x.test", "fuzz")
    except NothingThere:
        return
    for one in found:
        assert host_name(one.host) == one.host, one
        assert one.login.isprintable(), one
        assert 0 < int(one.port) < 65536, one
        assert one.tls in ("implicit", "starttls"), one


def yaml_text(data):
    # Plain values, or a problem that names the file; nothing else.
    try:
        found = yamlfile.load(data.decode("utf-8", "replace"), "fuzz.yml")
    except FileProblem:
        return
    pending = [found.value]
    while pending:
        one = pending.pop()
        assert one is None or type(one) in (str, int, float, bool, list, dict), one
        pending += one if isinstance(one, list) else [*one, *one.values()] if isinstance(one, dict) else []


# ---------------------------------------------------------------- rules


def tokenizer(data):
    # Any field: spans in order, inside the field; an address without a fault can be said in SMTP and said again the same.
    end = 0
    for span in address.scan(data):
        assert end <= span.start < span.end <= len(data)
        end = span.end
        assert span.address
        if not address.fault(span.address):
            line = command.rcpt(span.address)
            assert line.endswith(b">\r\n")
            assert not set(b"\r\n\0") & set(line[:-2])
            again = [found.address for found in address.scan(address.to_wire(span.address))]
            assert again == [span.address], (span.address, again)
    assert all(address.addresses(data)) or not data
    local, domain = address.split(address.from_bytes(data))
    assert len(local) + len(domain) <= len(data)


def header_scanner(data):
    # Any message: the same fields and body however it comes; a body is the input's end; nothing forbidden is left.
    seen = []
    for size in sizes(data):
        read = cut(data, size)
        try:
            fields, rest = headers.read(read)
        except DataError:
            seen.append(None)
            continue
        while piece := read():
            rest += piece
        seen.append(([field.raw for field in fields], rest))
    assert all(found == seen[0] for found in seen)
    if seen[0] is None:
        return
    fields, body = seen[0]
    assert data.endswith(body)
    fields, _ = headers.read(cut(data, max(1, len(data))))
    for field in fields:
        assert headers.field_name(field.raw) == field.name
        assert all(line[:1] in (b" ", b"\t") for line in field.raw.split(b"\n")[1:])
    facts = headers.Facts(id="id", sender="a@x", mailname="here.test", hostname="here", now=1.0, stamp="Thu, 1 Jan 1970")
    facts.masquerade, facts.rewrite_from = ("", "corp.test"), True
    try:
        header, _ = headers.complete(fields, facts)
    except DataError:
        return
    assert header.endswith(b"\n")
    assert b"\n\n" not in header
    again, left = headers.read(cut(header + b"\nbody", 1 << 20))
    assert left == b"body"
    names = [field.name for field in again]
    assert not {b"bcc", b"resent-bcc", b"return-path", b"content-length"} & set(names)
    assert b"received" in names
    assert b"from" in names


def field_on_the_wire(data):
    # Any field: short lines, none blank, no control; the same addresses; ASCII where it has to be, but for addresses.
    name = (b"to", b"subject", b"content-type", b"references")[len(data) % 4]
    field = headers.Field(name, name + b": " + data.replace(b"\n", b"\n "))
    for eightbit in (True, False):
        out = fieldwire.fit(field, eightbit)
        lines = out.split(b"\n")
        assert max(map(len, lines)) <= fieldwire.LONGEST
        assert not set(b"\r\0") & set(out)
        assert all(line[:1] in (b" ", b"\t") for line in lines[1:])
        assert out == field.raw or all(line.strip() for line in lines)
        if name == b"to" and not set(b"\r\0") & set(data):
            found, sent = (address.addresses(raw.partition(b":")[2]) for raw in (field.raw, out))
            good = [one for one in found if "@" in one and one.isascii() and not address.fault(one)]
            assert good == [one for one in sent if "@" in one and one.isascii() and not address.fault(one)]
        if name == b"subject" and not eightbit:
            assert out.isascii()


def intake(data):
    # Any input: the same message however it comes, without CRLF and with every byte of it that is no line end or lone dot.
    for dots in (True, False):
        seen = set()
        for size in sizes(data):
            source = Intake(cut(data, size), ignore_dots=dots)
            out = b""
            while piece := source.read():
                out += piece
            seen.add((out, source.bare_cr))
        assert len(seen) == 1
        ((out, bare_cr),) = seen
        assert b"\r\n" not in out
        assert bare_cr == (b"\r" in out)
        if dots:
            assert out.replace(b"\r", b"") == data.replace(b"\r", b"")
        else:
            assert b"\n.\n" not in out
            assert not out.startswith(b".\n")


def aliases_file(data):
    # Any file: every problem names a line there is; every expansion ends in destinations, each once; no name has none.
    text = data.decode("utf-8", "surrogateescape")
    found = aliases.parse(text, "f")
    for problem in found.problems:
        assert 1 <= int(problem.split(":")[1]) <= text.count("\n") + 1
    included = {"/f": text, "/g": ":include:/f\na@b"}

    def include(path):
        if path not in included:
            raise FileNotFoundError(2, "No such file")
        return included[path]

    for name in [*found.entries, "nobody"]:
        expansion = Expansion(
            found,
            include=include,
            own=lambda whole: whole if "@" not in whole else "",
            forward=lambda user: (user, text) if user.startswith("a") else None,
        )
        ends = expansion.of(name)
        assert len({(end.kind, end.text, end.user) for end in ends}) == len(ends)
        for end in ends:
            assert end.kind in (aliases.ADDRESS, aliases.LOCAL, aliases.PIPE, aliases.FILE, BROKEN)
            assert end.text
            if end.kind in (aliases.PIPE, aliases.FILE):
                whole = aliases.as_address(end.kind, end.text, end.user)
                assert aliases.of_address(whole) == (end.kind, end.text, end.user)
            elif end.kind == aliases.ADDRESS:
                assert not address.fault(end.text)
                assert aliases.of_address(end.text) is None


def dma_conf(data):
    # Any file: never an exception but ConfigError, and that with the number of a line there is; every value of its kind.
    text = data.decode("utf-8", "surrogateescape")
    found = config.parse(text, "f")
    assert all(0 <= problem.line <= text.count("\n") + 1 for problem in found.problems)
    assert set(found.values) <= set(config.KEYS)
    for line in [*found.warnings, *(problem.text for problem in found.problems)]:
        assert "\n" not in line
    assert found.SPOOLDIR.startswith("/")
    assert 0 < found.PORT < 65536
    assert all(number >= 0 for number in found.RETRY)
    try:
        assert found.sound() is found
        assert not found.problems
    except ConfigError:
        assert found.problems


def auth_conf(data):
    # Any file: never an exception; no problem shows what could be a password; a login has user, host and secret.
    text = data.decode("utf-8", "surrogateescape")
    found = authconf.parse(text, "f")
    for login in found.logins:
        assert login.user
        assert login.host
        assert 0 <= login.port < 65536
        assert 1 <= login.line <= text.count("\n") + 1
        if login.reference.kind == authconf.LITERAL and len(secret := login.reference.value.reveal()) > 8:
            assert secret not in repr(login.reference)
    for problem in found.problems:
        assert 1 <= problem.line <= text.count("\n") + 1


def relay_map(data):
    # Any file: never an exception; every problem and entry names a line there is.
    text = data.decode("utf-8", "surrogateescape")
    found = relaymap.parse(text, "f")
    for sender in ("a@b", "", "@x.test", text[:50]):
        entry = found.find(sender)
        assert entry is None or 1 <= entry.line <= text.count("\n") + 1


def command_line(data):
    # Any words: an answer or UsageError; what is behind `--` is an operand, and nothing else is lost from an operand.
    words = data.decode("utf-8", "surrogateescape").replace("\0", "").split("\n")
    try:
        found = options.parse(words)
    except UsageError:
        return
    assert set(found.operands) <= set(words)
    if "--" not in words:
        try:
            behind = options.parse([*words, "--", "-x", "last"]).operands
        except UsageError:
            return  # a queue operation with operands, or a flag that took the `--`
        assert behind[-1] == "last"


def replies(data):
    # Any bytes: the same replies and the same end however they come; a reply has one code, 200 to 599, on all its lines.
    seen = []
    for size in sizes(data):
        parser, out, read = ReplyParser(), [], cut(data, size)
        try:
            while piece := read():
                parser.feed(piece)
                while (found := parser.next()) is not None:
                    out.append((found.code, tuple(found.lines)))
            out.append("open" if parser.surplus else "done")
        except BadReply:
            out.append("bad")
        seen.append(out)
    if len(data) <= LINE_LIMIT:  # beyond, where a line is given up depends on how much of it had come
        assert all(out == seen[0] for out in seen), seen
    for found in seen[0][:-1]:
        code, lines = found
        assert 200 <= code < 600
        assert all(line[:3] == b"%d" % code for line in lines)


def smtp_server(data):
    # Any client: the same replies and messages however its bytes come; never an exception.
    class Desk:
        largest, dsn = 100, True

        def __init__(self):
            self.messages = []
            self.forget()

        def forget(self):
            self.now, self.text = [], b""

        def sender(self, mail):
            self.now = [mail.sender]

        def recipient(self, rcpt):
            assert not address.fault(rcpt.address)
            self.now.append(rcpt.address)

        def take(self, data):
            self.text += data

        def finish(self):
            assert len(self.now) > 1
            self.messages.append((tuple(self.now), self.text))
            return ""

    seen = []
    for size in sizes(data):
        desk, read = Desk(), cut(data, size)
        server, said = Server("here.test", desk), b""
        while piece := read():
            said += server.feed(piece)
        server.end()
        seen.append((said, desk.messages))
        assert all(line[:3].isdigit() for line in said.split(b"\r\n")[:-1])
    assert all(found == seen[0] for found in seen)


def frames_of_the_socket(data):
    # Any bytes: the same frames however they come, or BadFrame; every payload within its limit.
    seen = []
    for size in sizes(data):
        parser, out, read = frames.Parser(), [], cut(data, size)
        try:
            while piece := read():
                out += parser.feed(piece)
        except frames.BadFrame:
            out.append("bad")
        seen.append(out)
    assert all(out == seen[0] for out in seen)
    for kinds in ({"do": str, "recipients": list, "environ": dict, "size": int, "at": float, "t": bool},):
        try:
            found = frames.read_object(data, kinds)
        except frames.BadFrame:
            continue
        assert found.keys() <= kinds.keys()


# ---------------------------------------------------------------- the spool


@functools.cache
def spool():
    """A spool in memory where there is such a place; it goes with the process."""
    place = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    import atexit

    atexit.register(shutil.rmtree, place, True)
    made = Spool(place + "/spool")
    made.prepare(own_only=True)
    return made


def spool_file(data):
    # Any file in queue/: an envelope whose numbers are numbers and whose recipients are there, or BrokenMessage; read again
    # from what it would be written as, it is the same.
    place = spool()
    pathlib.Path(place.queue, "0fuzz").write_bytes(data)
    try:
        found = place.read("0fuzz")
    except BrokenMessage:
        return
    assert found.id == "0fuzz"
    assert found.recipients
    assert math.isfinite(found.accepted_at)
    assert math.isfinite(found.up)
    line = envelope.encode(found)
    again = envelope.decode(line)
    assert envelope.encode(again) == line
    try:
        stored = place.open("0fuzz")
    except BrokenMessage:
        return
    assert stored.pread(stored.size + 1, 0) == data.partition(b"\n")[2]
    stored.close()


def attempt_log(data):
    # Any file in log/: a state whose times are numbers and whose open recipients are there, or BrokenMessage.
    place = spool()
    pathlib.Path(place.log).mkdir(exist_ok=True)
    pathlib.Path(place.log, "0fuzz").write_bytes(data)
    try:
        events = Ledger(place).events("0fuzz")
    except BrokenMessage:
        return
    message = Envelope("0fuzz", "a@x", [Recipient("b@y"), Recipient("c@y")], 1.0)
    state = fold(message, events, envelope.Moment(2.0))
    assert set(state.open) <= {0, 1}
    assert state.due is None or math.isfinite(state.due)
    for progress in state.recipients:
        assert math.isfinite(progress.next_attempt)
        assert math.isfinite(progress.backoff)


def shape(data):
    """The kinds of the parts of a message, as a tree."""

    def kinds(part):
        return [part.kind, *map(kinds, part.parts)] if part.parts else part.kind

    return kinds(mime.parse(lambda length, at: data[at : at + length], len(data)))


def to_the_relay(data):
    # Any stored message that is not signed: legal lines for every kind of relay, and the same parts; unchanged where it was
    # legal.
    data = data.replace(b"\r\n", b"\n")
    message = Envelope("id", "a@x", [Recipient("b@y")], 0.0)
    message.size = len(data)
    message.has_8bit = not data.isascii()
    message.has_nul = b"\0" in data or b"\r" in data
    message.longest_line = max(map(len, data.split(b"\n")))
    for eightbit in (True, False):
        for bdat in (True, False):
            out = b"".join(wire(lambda n, at: data[at : at + n], message, eightbit=eightbit, bdat=bdat))
            assert not out or out.endswith(b"\r\n")
            if not bdat:
                lines = out.split(b"\r\n")
                assert b"." not in lines
                out = b"\r\n".join(line.removeprefix(b".") for line in lines)
            assert b"\n" not in out.replace(b"\r\n", b"")
            if not message.has_nul and message.longest_line <= 998 and (eightbit or not message.has_8bit):
                assert out.replace(b"\r\n", b"\n") == (data if not data or data.endswith(b"\n") else data + b"\n")
            elif not any(word in data.lower() for word in (b"dkim-signature", b"signed", b"encrypted", b"message")):
                assert shape(out.replace(b"\r\n", b"\n")) == shape(data)
                assert max(map(len, out.split(b"\r\n"))) <= 998
                assert b"\0" not in out
                assert b"\r" not in out.replace(b"\r\n", b"")
                # In a field such as Date nothing can be encoded: it goes as it is (message.fieldwire).
                assert eightbit or out.isascii() or not data.partition(b"\n\n")[0].isascii()


HEADER = [b"From: ", b"To: ", b"Bcc: ", b"Resent-To: ", b"Date: ", b"Message-ID: ", b"DKIM-Signature: h=from", b"\n", b"\n "]
FIELD = [*(bytes([c]) for c in b'"()<>@,;:\\ .['), b"\n\t", b"a@b.c", b"root", b"\xc3\xbc"]
NAMES = [b"a: ", b"b: ", b"*: ", b"owner-a: ", b"|", b"/", b"#", b":include:/f", b":include:/g", b"a", b"b", b"\n"]
VALUES = [b"\n", b"#", b"5m", b"100M", b"30/m", b"/", b":25", b"[::1]", b"a@b"]
ENVELOPE = [
    envelope.encode(Envelope("0fuzz", "a@x", [Recipient("b@y")], 1.5))[:-1], b'{"v":1,"id":"0fuzz",', b'"sender":', b'"a"',
    b'"recipients":[["a"]],', b'"size":', b"1e999", b"-1", b"NaN", b"true", b"null", b"}", b"\n", b"9" * 400,
]  # fmt: skip
EVENTS = [
    b'{"do":"attempt","r":[0],"at":', b'"next":', b'"kind":"delivered"', b'"kind":"failed"', b'"backoff":', b"1e999", b"NaN",
    b"9" * 400, b"-1", b'"up":', b'"boot":"b"', b",", b"}", b"[", b"]", b"\n", b'{"do":"kept"}', b'{"do":"retry"}', b'"',
]  # fmt: skip
PARTS = [
    b"Content-Type: multipart/mixed; boundary=b\n", b"Content-Type: text/plain; charset=utf-8\n", b"\n", b"--b\n", b"--b--\n",
    b"Content-Transfer-Encoding: quoted-printable\n", b"Content-Transfer-Encoding: base64\n", b"x" * 1000, b"\0", b"\r",
    b"Content-Type: message/rfc822\n", b"=3D", b"AAAA", b"Subject: ", b".", b"\xff", b"-", b"x" * 75,
]  # fmt: skip
XML = [
    b"<clientConfig>", b"<emailProvider>", b'<outgoingServer type="smtp">', b"<hostname>", b"x.test", b"</hostname>", b"<port>465",
    b"</port>", b"<socketType>SSL</socketType>", b"<username>", b"%EMAILLOCALPART%", b"</username>", b"&#155;", b"&#10;",
    b"<authentication>plain</authentication>", b"</outgoingServer>", b"</emailProvider>", b"</clientConfig>", b"<!DOCTYPE x>",
    b"<?xml version='1.0' encoding='latin-1'?>", b"\xc2\x9b", b"<![CDATA[", b"]]>", b"99999", b" ",
    b'<clientConfig><emailProvider><outgoingServer type="smtp"><socketType>SSL</socketType><port>465</port><hostname>',
    b"</hostname></outgoingServer></emailProvider></clientConfig>",
]  # fmt: skip
YAML = [
    b"a", b": ", b"\n", b"  ", b"- ", b"{", b"}", b"[", b"]", b"'", b'"', b"|\n", b"!vault ", b"!x ", b"&a ", b"*a", b"yes", b"010",
    b"1:30", b"2026-01-01", b"0x1f", b".inf", b"9" * 5000, b"~", b"? ", b"# ", b"---\n", b"...\n", b"<<: ", b"\t", b"%YAML 1.2\n",
]  # fmt: skip
TARGETS = {
    "tokenizer": (tokenizer, FIELD),
    "header": (header_scanner, [*HEADER, *FIELD, b"From x\n", b">From "]),
    "field": (field_on_the_wire, [*FIELD, b"\r", b"\0", b"x" * 990, b" " * 900, b"=?utf-8?Q?x?=", b"; a=", b"\n"]),
    "intake": (intake, [b"\r", b"\n", b".", b"x", b"\r\n.\r\n"]),
    "aliases": (aliases_file, [*FIELD, *NAMES]),
    "dma.conf": (dma_conf, [*(name.encode() + b" " for name in config.KEYS), *VALUES]),
    "auth.conf": (auth_conf, [b"|", b":", b"\n", b"#", b" ", b"user", b"host", b"587", b"[", b"]", b"keyring", b"literal"]),
    "relaymap": (relay_map, [b"@x.test", b"a@b", b"*", b" ", b"\n", b"#", b"host:25", b"login", b"-"]),
    "options": (command_line, [b"-", b"\n", b"--", b"-t", b"-f", b"-o", b"-b", b"p", b"q", b"-N", b"never", b"5", b"u@x"]),
    "replies": (replies, [b"250", b"-", b" ", b"ok", b"\r\n", b"\n", b"2.0.0", b"421"]),
    "server": (smtp_server, [b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA", b"RSET", b"EHLO x", b" SIZE=1", b"\r\n", b"\n", b"."]),
    "frames": (frames_of_the_socket, [b"H", b"D", b"C", b"x", b"\0\0\0", b"\5", b'{"v":1,', b'"do":', b'"a"', b"}", b"[", b"]"]),
    "spool": (spool_file, ENVELOPE),
    "log": (attempt_log, EVENTS),
    "wire": (to_the_relay, PARTS),
    "autoconfig": (autoconfig_document, XML),
    "yaml": (yaml_text, YAML),
}
