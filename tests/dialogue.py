"""SMTP conversations as data: the files of tests/dialogues, read and played.

A file is a head of `key: value` lines, a script, and what must come of it:

    # what it proves
    hello: PIPELINING SIZE 1000        the usual greeting and EHLO with these capabilities, before the script
    tls: starttls                      none (default), starttls, opportunistic, implicit
    login: user secret                 credentials we have;  insecure: yes  lets them go in clear
    verify: name                       the relay's certificate is verified (none by default)
    smarthost: no                      the relay was found by MX
    message: a@x.example -> b@y.example, c@y.example ; 8bit binary utf8 requiretls size=5000 parts unreadable
    | a line of the body
    C: MAIL FROM:<a@x.example>         we must say this (without line end)
    C* AUTH SCRAM-SHA-256              a line that begins so
    C: (nothing)                       and nothing more before the server goes on
    S: 250 2.1.0 Ok                    the server says this
    S~ 250-half a li                   the same without a line end
    S! close                           also: reset, wait SECONDS, hang
    TLS                                the TLS handshake, here
    => 1 b@y.example delivered 250                       message, recipient, kind, code, [stage]
    => 1 c@y.example failed 550 RCPT TO
    => 2 * untried
    => refused AUTH relay                                 no session: stage, scope of the outcome
    => text some words                                   in the outcome's text
    => told                                              the operator is told; `=> not told` that not

A message's body lines are sent as they stand, so a file that wants dot-stuffing writes `| ..`. Behind the end of the
script the server answers QUIT.

`play` runs the real line, handshake, engine, transactions and session without a socket, the server's bytes cut in any way.
The socket is played by tests/fault_server.py.
"""

import asyncio
import pathlib

from dma_runtime.delivery import signon
from dma_runtime.delivery.habits import Habits
from dma_runtime.delivery.line import Line
from dma_runtime.delivery.session import Job, Refused, Session, Target
from dma_runtime.policy import tls, verdict
from dma_runtime.secret import Secret
from dma_runtime.smtp.timeouts import Timeouts

FOLDER = pathlib.Path(__file__).parent / "dialogues"
HELO = "box.example.org"


class Mismatch(AssertionError):
    """The client did not say what the script expects."""


class Message:
    def __init__(self, sender, recipients, words):
        self.sender = sender
        self.recipients = recipients
        self.eightbit = "8bit" in words
        self.binary = "binary" in words
        self.utf8 = "utf8" in words
        self.requiretls = "requiretls" in words
        self.unreadable = "unreadable" in words  # the spool fails behind the body given
        self.parts = "parts" in words  # each line of the body is a piece of its own
        self.size = 0
        for word in words:
            if word.startswith("size="):
                self.size = int(word[5:])
        self.lines = []

    @property
    def body(self):
        return b"".join(line + b"\r\n" for line in self.lines)

    def job(self, key):
        def chunks(capabilities):
            if self.parts:
                yield from (line + b"\r\n" for line in self.lines)
            elif self.body:
                yield self.body
            if self.unreadable:
                raise OSError(5, "Input/output error")

        return Job(
            f"m{key}",
            self.sender,
            list(self.recipients),
            self.size,
            chunks,
            needs_smtputf8=self.utf8,
            eightbit=self.eightbit,
            binary=self.binary,
            requiretls=self.requiretls,
            key=key,
        )


class Dialogue:
    def __init__(self, name, text):
        self.name = name
        self.proves = ""
        self.settings = {}
        self.messages = []
        self.steps = []
        self.expected = []
        for number, line in enumerate(text.split("\n"), 1):
            self._line(number, line.rstrip("\r"))

    def _line(self, number, line):
        if not line.strip():
            return
        if line.startswith("#"):
            self.proves = f"{self.proves} {line[1:].strip()}".strip()
        elif line.startswith("| ") or line == "|":
            self.messages[-1].lines.append(line[2:].encode())
        elif line == "C: (nothing)":
            self.steps.append(("quiet", b""))
        elif line.startswith("C: ") or line == "C:":
            self.steps.append(("C", line[3:].encode() + b"\r\n"))
        elif line.startswith("C* "):
            self.steps.append(("C*", line[3:].encode()))
        elif line.startswith("S: "):
            self.steps.append(("S", line[3:].encode().decode("unicode_escape").encode("latin-1") + b"\r\n"))
        elif line.startswith("S~ "):
            self.steps.append(("S", line[3:].encode().decode("unicode_escape").encode("latin-1")))
        elif line.startswith("S! "):
            self.steps.append((line[3:].split()[0], line[3:].partition(" ")[2]))
        elif line == "TLS":
            self.steps.append(("tls", b""))
        elif line.startswith("=> "):
            self.expected.append(line[3:])
        elif line.startswith("message: "):
            envelope, _, words = line[9:].partition(" ; ")
            sender, _, recipients = envelope.partition(" -> ")
            self.messages.append(Message(sender.strip("<>"), [r.strip() for r in recipients.split(",")], words.split()))
        elif line.startswith("hello:"):
            offered = [HELLO, *[word.strip() for word in line[6:].split(",") if word.strip()]]
            self.steps += [("S", b"220 relay.example ESMTP\r\n"), ("C", f"EHLO {HELO}\r\n".encode())]
            last = len(offered) - 1
            self.steps += [("S", f"250{' -'[n < last]}{word}\r\n".encode()) for n, word in enumerate(offered)]
        else:
            key, colon, value = line.partition(":")
            if not colon or key not in ("tls", "login", "insecure", "smarthost", "timeouts", "verify"):
                raise ValueError(f"{self.name}:{number}: {line}")
            self.settings[key] = value.strip()

    def policy(self):
        kind = self.settings.get("tls", "none")
        level = {"none": tls.NONE, "opportunistic": tls.OPPORTUNISTIC}.get(kind, tls.REQUIRED)
        clear = self.settings.get("insecure") == "yes"
        verify = self.settings.get("verify", tls.ANY)
        return tls.TlsPolicy(level, "the dialogue says so", verify=verify, implicit=kind == "implicit", clear_login=clear)

    def target(self, host="relay.example", port=25):
        user, _, password = self.settings.get("login", "").partition(" ")
        login = (user, Secret(password)) if user else None
        return Target(host, port, self.policy(), login, smarthost=self.settings.get("smarthost") != "no")

    def timeouts(self, **more):
        limits = Timeouts(**more)
        for part in self.settings.get("timeouts", "").split():
            name, _, seconds = part.partition("=")
            setattr(limits, name, float(seconds))
        return limits


HELLO = "relay.example at your service"


def load():
    """Every dialogue of the folder."""
    return [Dialogue(path.stem, path.read_text()) for path in sorted(FOLDER.glob("*.txt"))]


# ---------------------------------------------------------------- results


class Result:
    """What came of a conversation: `refused` is an Outcome or None; `outcomes[n]` a list for message n (from 1)."""

    def __init__(self):
        self.refused = None
        self.outcomes = {}
        self.trace = []
        self.usable = None
        self.writes = []  # each write of ours, in memory only

    def done(self, job, outcomes):
        assert job.key not in self.outcomes, f"message {job.key} was handed over twice"
        assert len(outcomes) == len(job.recipients)
        self.outcomes[job.key] = outcomes


def check(dialogue, result):
    """Compare with the `=>` lines. Every message that was pulled must have its outcomes."""
    seen = [result.refused] if result.refused else [o for group in result.outcomes.values() for o in group]
    for line in dialogue.expected:
        words = line.split()
        where = f"{dialogue.name}: => {line}"
        if words[0] == "refused":
            assert result.refused is not None, f"{where}: but a session was opened"
            scope, stage = words[-1], " ".join(words[1:-1])
            assert (result.refused.stage, result.refused.scope) == (stage, scope), f"{where}: {result.refused}"
            assert result.refused.kind == "deferred"
        elif words[0] == "text":
            text = line[5:]
            assert any(text in outcome.text for outcome in seen), f"{where}: {seen}"
        elif line == "told":
            assert any(outcome.tell for outcome in seen), where
        elif line == "not told":
            assert not any(outcome.tell for outcome in seen), f"{where}: {seen}"
        elif line in ("usable", "not usable"):
            assert result.usable == (line == "usable"), where
        elif line == "nothing pulled":
            assert not result.outcomes, f"{where}: {result.outcomes}"
        else:
            _check_recipient(dialogue, result, words, where)
    pulled = {int(line.split()[0]) for line in dialogue.expected if line[0].isdigit()}
    assert set(result.outcomes) == pulled, f"{dialogue.name}: outcomes for {set(result.outcomes)}, expected {pulled}"


def _check_recipient(dialogue, result, words, where):
    number, address, kind, rest = int(words[0]), words[1], words[2], words[3:]
    assert result.refused is None, f"{where}: refused with {result.refused}"
    message = dialogue.messages[number - 1]
    assert number in result.outcomes, f"{where}: no outcome for the message"
    for recipient, outcome in zip(message.recipients, result.outcomes[number], strict=True):
        if address not in ("*", recipient):
            continue
        if kind == "untried":
            assert not verdict.was_tried(outcome), f"{where}: {outcome}"
            continue
        assert verdict.was_tried(outcome), f"{where}: {outcome}"
        assert outcome.kind == kind, f"{where}: {outcome}"
        if rest and rest[0].isdigit():
            assert outcome.code == int(rest[0]), f"{where}: {outcome}"
        at = 1 if rest and rest[0].isdigit() else 0
        if rest[at:] and rest[at] in ("relay", "message", "sender", "recipient", "machine"):
            assert outcome.scope == rest[at], f"{where}: {outcome}"
            at += 1
        if rest[at:]:
            assert outcome.stage == " ".join(rest[at:]), f"{where}: {outcome}"


# ---------------------------------------------------------------- without a socket


class MemoryWire:
    """In place of system.net.Wire: what we write is kept, TLS is a word of the script."""

    def __init__(self, line):
        self.line = line
        self.paused = False
        self.closed = False
        self.sent = bytearray()
        self.writes = []
        self.tls = None
        self.local_address = "192.0.2.7"
        self._secured = None

    def write(self, data):
        if not self.closed:
            self.sent += data
            self.writes.append(bytes(data))

    def start_tls(self, layer, done):
        self._secured = done

    @property
    def waits_for_tls(self):
        return self._secured is not None

    def secure(self, why=None):
        done, self._secured = self._secured, None
        done(why)

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = True


async def settle():
    for _ in range(8):
        await asyncio.sleep(0)


async def play(dialogue, cut):
    """Play it in memory; `cut(bytes)` gives the pieces in which the server's bytes arrive. Raises Mismatch."""
    result = Result()
    signon.HABITS = Habits()  # nothing is known of the relay from another conversation
    line = Line(dialogue.timeouts(), result.trace.append)
    line.wire = wire = MemoryWire(line)
    result.writes = wire.writes
    client = asyncio.ensure_future(_client(dialogue, line, result))
    try:
        await _server(dialogue, line, wire, cut)
        # Behind the script: QUIT is answered, nothing else may come.
        await settle()
        rest = bytes(wire.sent)
        if rest not in (b"", b"QUIT\r\n"):
            raise Mismatch(f"{dialogue.name}: behind the script we said {rest!r}")
        if rest and not wire.closed:
            line.received(b"221 bye\r\n")
        await asyncio.wait_for(client, 5)
    finally:
        client.cancel()
    return result


async def _client(dialogue, line, result):
    target = dialogue.target()
    want_tls = target.tls.level != tls.NONE
    try:
        handshake = await signon.converse(line, target, HELO, "relay.example [192.0.2.1]", want_tls)
    except Refused as refused:
        result.refused = refused.outcome
        line.close()
        return
    except signon.NoTls as broken:
        result.refused = verdict.refusal("STARTTLS", str(broken))
        return
    session = Session(line, handshake, target, "relay.example [192.0.2.1]")
    await run(session, dialogue, result)


async def run(session, dialogue, result):
    """Send all messages of a dialogue over a session, say goodbye."""
    waiting = [message.job(number) for number, message in enumerate(dialogue.messages, 1)]
    await session.run(lambda: waiting.pop(0) if waiting else None, result.done)
    result.usable = session.usable
    await session.quit()


async def _server(dialogue, line, wire, cut):
    steps = list(dialogue.steps)
    at = 0
    await settle()
    while at < len(steps):
        kind, value = steps[at]
        at += 1
        if kind == "C":
            await settle()
            if not bytes(wire.sent).startswith(value):
                raise Mismatch(f"{dialogue.name}: expected C: {value!r}, we said {bytes(wire.sent)!r}")
            del wire.sent[: len(value)]
        elif kind == "C*":
            await settle()
            said, end, rest = bytes(wire.sent).partition(b"\r\n")
            if not end or not said.startswith(value):
                raise Mismatch(f"{dialogue.name}: expected C* {value!r}, we said {said!r}")
            wire.sent[:] = rest
        elif kind == "quiet":
            await settle()
            if wire.sent:
                raise Mismatch(f"{dialogue.name}: nothing more was to be said yet, we said {bytes(wire.sent)!r}")
        elif kind == "S":
            said = value
            while at < len(steps) and steps[at][0] == "S":
                said += steps[at][1]
                at += 1
            for piece in cut(said):
                if wire.waits_for_tls:
                    wire.secure("wrong version number")  # what the TLS layer makes of plain text
                    return
                line.received(piece)
                await settle()
        elif kind == "tls":
            await settle()
            if not wire.waits_for_tls:
                return  # the client will have a reason; the outcome tells
            wire.secure()
        elif kind in ("close", "reset"):
            await settle()
            wire.closed = True
            if wire.waits_for_tls:
                wire.secure("the relay closed the connection")
            else:
                line.lost("the relay closed the connection" if kind == "close" else "Connection reset by peer")
        elif kind in ("hang", "wait"):
            await asyncio.sleep(float(value.partition(" ")[2] or value or 0.2) if value else 0.2)
        else:
            raise ValueError(f"{dialogue.name}: S! {kind}")
