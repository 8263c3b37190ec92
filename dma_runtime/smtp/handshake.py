"""Are we ready to send mail? From the greeting to the end of AUTH, as a table.

A state waits for one reply; the table says which method takes a reply of which class (2yz..5yz), a class that is not
there refuses. Each state's verb carries its timeout and its phrase for people (smtp.command).

Rules:
- EHLO first; HELO where EHLO is refused as unknown (RFC 5321 3.2, 4.1.1.1), and then nothing is offered. In LMTP it is
  LHLO and nothing else (RFC 2033 4.1).
- STARTTLS where the policy wants TLS and the connection is not encrypted yet. What was offered before it is
  forgotten, EHLO is said again (RFC 3207 4.2). TLS required and not offered, or refused, ends the session.
- A login is sent only over an encrypted connection, unless `clear_login`. With TLS merely opportunistic and not to be
  had, mail goes on without the login (key OPPORTUNISTIC_TLS); in every other case a login that cannot be used or is
  refused ends the session: nothing is ever sent unauthenticated where a login is configured.
- Only 504 (RFC 4954 4: mechanism unknown) makes us try the next mechanism; every other refusal of AUTH is final for
  this session.

Pure: replies in, actions out. Passwords leave only inside `Send.line`; `Send.shown` is what a trace may show.
"""

from __future__ import annotations

from binascii import Error as BadBase64
from binascii import a2b_base64, b2a_base64

from dma_runtime.smtp import command, sasl
from dma_runtime.smtp.capabilities import Capabilities
from dma_runtime.smtp.stuck import Stuck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.secret import Secret
    from dma_runtime.smtp.reply import Reply

class Send:
    """Put `line` on the wire and bring the reply to `verb`. `shown` is the line for people, without a secret; `secret` what of
    it they must not see, b"" when it has none."""

    __slots__ = ("line", "secret", "shown", "verb")

    def __init__(self, verb: command.Verb, line: bytes, shown: str = "") -> None:
        self.verb = verb
        self.line = line
        self.shown = shown or line[:-2].decode("utf-8", "backslashreplace")
        self.secret = line[:-2].rpartition(b" ")[2] if shown.endswith("***") else b""


class Upgrade:
    """Start TLS now, then call `secured`."""


class Ready:
    """Mail may be sent."""


class Refuse:
    """The session ends. `reply` is the server's refusal, or None when it is ours; then `says` and `hint` tell why."""

    __slots__ = ("hint", "reply", "says", "stage")

    def __init__(self, stage: str, reply: Reply | None, says: str = "", hint: str = "") -> None:
        self.stage = stage
        self.reply = reply
        self.says = says
        self.hint = hint


Action = Send | Upgrade | Ready | Refuse

# state: (verb whose reply is awaited, {class of reply: method})
TABLE: dict[str, tuple[command.Verb, dict[int, str]]] = {
    "greeting": (command.GREETING, {2: "_say_ehlo"}),
    "ehlo": (command.EHLO, {2: "_offered", 5: "_say_helo"}),
    "lhlo": (command.LHLO, {2: "_offered"}),
    "helo": (command.HELO, {2: "_nothing_offered"}),
    "starttls": (command.STARTTLS, {2: "_upgrade", 4: "_no_tls", 5: "_no_tls"}),
    "auth": (command.AUTH, {2: "_signed_in", 3: "_challenged", 5: "_next_mechanism"}),
}

_NO_EHLO = (500, 501, 502, 503, 504, 550)  # RFC 5321 3.2 and what servers say; others mean this client, not this verb
_LINE = 512  # RFC 5321 4.5.3.1.4: a command line; RFC 4954 4 holds AUTH with an initial response to it


class Handshake:
    def __init__(
        self,
        helo: str,
        *,
        want_tls: bool,
        must_tls: bool,
        encrypted: bool = False,
        login: tuple[str, Secret] | None = None,
        clear_login: bool = False,
        trusted: bool = False,
        lmtp: bool = False,
        dice: Callable[[int], bytes],
    ) -> None:
        """`encrypted`: the connection is TLS from the start. `login` is (user, password).

        `want_tls` without `must_tls` is opportunistic TLS. `trusted`: TLS here means a verified relay. `dice(n)` gives n
        random bytes.
        """
        self.state = "greeting"
        self.capabilities = Capabilities()
        self.encrypted = encrypted
        self.authenticated = False
        self.mechanism = ""
        self._helo = helo
        self._want_tls = want_tls
        self._must_tls = must_tls
        self._login = login
        self._clear_login = clear_login
        self.binding: bytes | None = None  # channel binding data (tls-unique), where TLS has it
        self._trusted = trusted
        self._lmtp = lmtp
        self._dice = dice
        self._mechanisms: list[str] = []
        self._current: sasl.Mechanism | None = None
        self._stuck: Stuck | None = None

    @property
    def verb(self) -> command.Verb:
        """Whose reply is awaited."""
        return TABLE[self.state][0]

    def reply(self, reply: Reply) -> Action:
        """The reply to the verb of the present state."""
        verb, taken_by = TABLE[self.state]
        method = taken_by.get(reply.code // 100)
        if method is None or reply.code == 421:  # RFC 5321 3.8: 421 may answer anything, the server is closing
            return Refuse(verb.stage, reply)
        action: Action = getattr(self, method)(reply)
        return action

    def secured(self) -> Action:
        """TLS is up behind STARTTLS."""
        self.encrypted = True
        self.capabilities = Capabilities()  # RFC 3207 4.2: what was known before is discarded
        return self._hello()

    def _send(self, state: str, verb: command.Verb, line: bytes, shown: str = "") -> Send:
        self.state = state
        return Send(verb, line, shown)

    # ------------------------------------------------------------ hello

    def _say_ehlo(self, _: Reply) -> Action:
        return self._hello()

    def _hello(self) -> Action:
        if self._lmtp:
            return self._send("lhlo", command.LHLO, command.hello("LHLO", self._helo))
        return self._send("ehlo", command.EHLO, command.hello("EHLO", self._helo))

    def _say_helo(self, reply: Reply) -> Action:
        if reply.code not in _NO_EHLO:
            return Refuse(command.S_EHLO, reply)
        return self._send("helo", command.HELO, command.hello("HELO", self._helo))

    def _nothing_offered(self, _: Reply) -> Action:
        return self._secure()

    def _offered(self, reply: Reply) -> Action:
        self.capabilities = Capabilities(reply)
        return self._secure()

    # ------------------------------------------------------------ TLS

    def _secure(self) -> Action:
        if self.encrypted or not self._want_tls:
            return self._sign_in()
        if self.capabilities.starttls:
            return self._send("starttls", command.STARTTLS, command.STARTTLS_LINE)
        return self._no_tls(None)

    def _upgrade(self, _: Reply) -> Action:
        return Upgrade()

    def _no_tls(self, reply: Reply | None) -> Action:
        if not self._must_tls:
            return self._sign_in()
        if reply is not None:
            return Refuse(command.S_STARTTLS, reply)
        return Refuse(
            command.S_STARTTLS,
            None,
            "the relay does not offer STARTTLS",
            "TLS is required: use the relay's TLS port (465 without STARTTLS, 587 with it), or another network.",
        )

    # ------------------------------------------------------------ AUTH

    def _sign_in(self) -> Action:
        if self._login is None:
            return self._ready()
        if not self.encrypted and not self._clear_login:
            if self._want_tls and not self._must_tls:
                return self._ready()
            return Refuse(
                command.S_AUTH,
                None,
                "the connection is not encrypted, so the login was not sent",
                "Add SECURETRANSFER (and STARTTLS on port 587) to dma.conf; INSECURE allows the login in clear.",
            )
        self._mechanisms = sasl.choose(
            self.capabilities.mechanisms, trusted=self.encrypted and self._trusted, bound=self.binding is not None
        )
        if not self._mechanisms:
            offered = " ".join(self.capabilities.mechanisms)
            says = f"no common mechanism: the relay offers AUTH {offered}" if offered else "the relay offers no AUTH"
            return Refuse(
                command.S_AUTH,
                None,
                says,
                "Logins may need another port or an encrypted connection there, or a kind of login dma does not have.",
            )
        return self._start_mechanism()

    def _start_mechanism(self) -> Action:
        assert self._login is not None
        name = self.mechanism = self._mechanisms.pop(0)
        self._current = sasl.start(name, *self._login, self._dice, self.binding)
        word = b"AUTH " + name.encode("ascii")
        try:
            first = self._current.initial()
        except Stuck as stuck:
            return Refuse(command.S_AUTH, None, str(stuck))
        if first is not None:
            # RFC 4954 4: an empty initial response is "="; one that does not fit the line waits to be asked for.
            line = word + b" " + (b2a_base64(first, newline=False) or b"=") + b"\r\n"
            if len(line) <= _LINE:
                return self._send("auth", command.AUTH, line, f"AUTH {name} ***")
        return self._send("auth", command.AUTH, word + b"\r\n")

    def _challenged(self, reply: Reply) -> Action:
        if self._stuck is not None:
            return Refuse(command.S_AUTH, None, str(self._stuck))
        assert self._current is not None
        try:
            challenge = a2b_base64(reply.lines[-1][4:].strip(), strict_mode=True)
        except (BadBase64, ValueError):
            return self._cancel(Stuck("the relay's challenge is not base64"))
        try:
            response = self._current.answer(challenge)
        except Stuck as stuck:
            return self._cancel(stuck)
        return self._send("auth", command.AUTH, b2a_base64(response, newline=False) + b"\r\n", "***")

    def _cancel(self, stuck: Stuck) -> Action:
        """RFC 4954 4: `*` cancels; the server answers 501, and that ends the session."""
        self._stuck = stuck
        self._mechanisms = []
        return self._send("auth", command.AUTH, b"*\r\n")

    def _next_mechanism(self, reply: Reply) -> Action:
        if self._stuck is not None:
            return Refuse(command.S_AUTH, None, str(self._stuck))
        if reply.code == 504 and self._mechanisms:
            return self._start_mechanism()
        return Refuse(command.S_AUTH, reply)

    def _signed_in(self, _: Reply) -> Action:
        if self._stuck is not None:  # a yes to our cancel is no sign-in
            return Refuse(command.S_AUTH, None, str(self._stuck))
        if self._current is None or not self._current.proved:
            return Refuse(command.S_AUTH, None, "the relay says yes without having proved that it knows the password")
        self.authenticated = True
        return self._ready()

    def _ready(self) -> Action:
        self.state = "ready"
        self._current = None
        return Ready()
