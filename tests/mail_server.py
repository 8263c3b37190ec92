"""A real mail server on loopback: aiosmtpd with TLS by trustme, AUTH PLAIN and LOGIN checked, in a thread of its own.

    with MailServer(tls="starttls", users={"alice": "secret"}) as server:
        server.refuse("RCPT TO", "451 4.7.1 later", times=1)
        ...
        message = server.wait(1)[0]

Everything received is kept in `messages`; `connections`, `logins` and `commands` say how it came. Without `users` anybody
may send; with them, nobody who has not signed in. Refusals are scripted by the stages that dma_runtime.outcome names.
"""

import asyncio
import hashlib
import hmac
import logging
import ssl
import threading
import time
from dataclasses import dataclass, field

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Session

# Verb -> stage, where a refusal can be scripted.
VERBS = {"EHLO": "EHLO", "HELO": "EHLO", "STARTTLS": "STARTTLS", "AUTH": "AUTH"}
VERBS |= {"MAIL": "MAIL FROM", "RCPT": "RCPT TO", "DATA": "DATA"}
STAGES = {"connect", "final DATA", *VERBS.values()}

CLOSE = object()  # instead of a reply: the connection is cut
HANG = object()  # instead of a reply: nothing, until the client gives up

# aiosmtpd reports what clients do to it; whoever wants to see that asks `commands`.
logging.getLogger("mail.log").addHandler(logging.NullHandler())
logging.getLogger("mail.log").propagate = False


@dataclass
class Received:
    """A message the server said 250 to: envelope, content (bytes as sent, CRLF, without dot-stuffing), and how it came."""

    sender: str
    recipients: list
    content: bytes
    login: str = ""
    tls: str = ""  # protocol version, "" without TLS
    options: list = field(default_factory=list)  # of MAIL
    connection: int = 0  # number of the connection, from 1


@dataclass
class Refusal:
    reply: object
    times: int | None
    when: str
    after: int


class Certificate:
    """A certificate for localhost, 127.0.0.1 and ::1 from an authority of its own, and its SHA-256 fingerprint."""

    def __init__(self, *names):
        self.authority = trustme.CA()
        issued = self.authority.issue_cert(*(names or ("localhost", "127.0.0.1", "::1")))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(self.context)
        pem = issued.cert_chain_pems[0].bytes().decode()
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    def write_authority(self, path):
        """The authority's certificate as PEM, for clients that verify."""
        self.authority.cert_pem.write_to_path(str(path))


class MailServer:
    """`tls`: "" (none), "starttls" or "implicit". `users`: login -> password. `dsn`: it offers DSN, and takes its parameters
    without doing anything about them; `commands` shows them. `without`: mechanisms of AUTH it does not offer."""

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        tls="",
        users=None,
        certificate=None,
        size=33554432,
        name="mail.example.org",
        dsn=False,
        requiretls=False,
        without=(),
    ):
        assert tls in ("", "starttls", "implicit")
        self.tls = tls
        self.users = users
        self.size = size
        self.name = name
        self.dsn = dsn
        self.requiretls = requiretls  # offered, and taken as DSN is
        self.without = without
        self.slowly = 0.0  # seconds it thinks about each message
        self.certificate = certificate or (Certificate() if tls else None)
        self.messages = []
        self.commands = []  # (connection number, verb, argument); of AUTH only the mechanism
        self.logins = []  # (login, accepted)
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.port = 0
        self._refusals = {}
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._server = None
        self._thread = None

    # ------------------------------------------------------------ life

    def start(self):
        self._thread = threading.Thread(target=self._run, name="mail server", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda loop, context: None)  # clients that vanish
        self._loop.run_forever()

    async def _listen(self):
        context = self.certificate.context if self.tls == "implicit" else None
        self._server = await self._loop.create_server(lambda: Conversation(self), self.host, self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    def pause(self):
        """Stop listening and cut every connection; `resume` listens at the same port again."""
        asyncio.run_coroutine_threadsafe(self._silence(), self._loop).result(10)

    def resume(self):
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self):
        self.pause()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _silence(self):
        self._server.close()
        own = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *error):
        self.stop()

    # ------------------------------------------------------------ what tests say and ask

    @property
    def fingerprint(self):
        return self.certificate.fingerprint

    def refuse(self, stage, reply, *, times=None, when="", after=0):
        """Answer `reply` (text, several lines by a list, CLOSE or HANG) at `stage`, `times` times (None: always), where the
        argument contains `when`, not before `after` occasions have passed. A number as `reply`: as ever, so many seconds later."""
        assert stage in STAGES, stage
        self._refusals.setdefault(stage, []).append(Refusal(reply, times, when, after))

    def accept(self):
        """Forget all refusals."""
        self._refusals.clear()

    def wait(self, count=1, seconds=20):
        """The messages, as soon as there are `count`. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.messages) >= count, seconds):
                raise TimeoutError(f"{len(self.messages)} of {count} messages arrived in {seconds} s")
            return list(self.messages)

    def quiet(self, seconds=5):
        """True as soon as no connection is open."""
        deadline = time.monotonic() + seconds
        while self.open and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.open == 0

    # ------------------------------------------------------------ asked by the conversations

    def answer(self, stage, argument=""):
        """What is scripted for this occasion; None: the ordinary way."""
        for refusal in self._refusals.get(stage, ()):
            if refusal.when and refusal.when not in (argument or ""):
                continue
            if refusal.after > 0:
                refusal.after -= 1
                continue
            if refusal.times is None:
                return refusal.reply
            if refusal.times > 0:
                refusal.times -= 1
                return refusal.reply
        return None

    def keep(self, message):
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def authenticate(self, server, session, envelope, mechanism, data):
        """aiosmtpd's authenticator: PLAIN and LOGIN."""
        login = data.login.decode("utf-8", "surrogateescape")
        expected = (self.users or {}).get(login)
        good = expected is not None and hmac.compare_digest(expected.encode(), data.password)
        self.logins.append((login, good))
        if good:
            return AuthResult(success=True, auth_data=login)
        return AuthResult(success=False, handled=False, message="535 5.7.8 Error: authentication failed")


class Conversation(SMTP):
    """One connection."""

    def __init__(self, server):
        self.mail_server = server
        self.number = 0
        self.greeted = False
        super().__init__(
            self,
            hostname=server.name,
            ident="ESMTP",
            enable_SMTPUTF8=True,
            data_size_limit=server.size,
            loop=server._loop,
            tls_context=server.certificate.context if server.tls == "starttls" else None,
            require_starttls=server.tls == "starttls",
            auth_required=server.users is not None,
            auth_exclude_mechanism=server.without if server.users is not None else ("LOGIN", "PLAIN"),
            authenticator=server.authenticate,
        )
        self._auth_require_tls = server.tls == "starttls"  # elsewhere there is TLS from the first byte, or none is wanted
        for verb, ordinary in list(self._smtp_methods.items()):
            self._smtp_methods[verb] = self._scripted(verb, VERBS.get(verb, ""), ordinary)

    def connection_made(self, transport):
        if not self.number:
            server = self.mail_server
            server.connections += 1
            server.open += 1
            server.most_open = max(server.most_open, server.open)
            self.number = server.connections
        super().connection_made(transport)

    def connection_lost(self, error):
        if self.number and self.transport is not None:
            self.mail_server.open -= 1
        super().connection_lost(error)

    def _create_session(self):
        return Session(self.loop)

    async def push(self, status):
        if not self.greeted:
            self.greeted = True
            if await self._say(self.mail_server.answer("connect")):
                return
        await super().push(status)

    async def _say(self, answer):
        """Say what is scripted; False: nothing is."""
        if answer is None:
            return False
        if answer is CLOSE:
            self.transport.abort()
            raise asyncio.CancelledError
        if answer is HANG:
            await asyncio.sleep(3600)
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return False
        for line in [answer] if isinstance(answer, str) else answer:
            await super().push(line)
        return True

    def _scripted(self, verb, stage, ordinary):
        async def method(argument):
            shown = (argument or "").split(" ")[0] if verb == "AUTH" else argument
            self.mail_server.commands.append((self.number, verb, shown))
            if not await self._say(self.mail_server.answer(stage, argument)):
                if self.mail_server.dsn and verb in ("MAIL", "RCPT"):
                    words = argument.split(" ")
                    argument = " ".join(w for w in words if w.partition("=")[0] not in ("RET", "ENVID", "NOTIFY", "ORCPT"))
                if self.mail_server.requiretls and verb == "MAIL":
                    argument = argument.replace(" REQUIRETLS", "")
                await ordinary(argument)

        return method

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        offered = {"250-DSN": self.mail_server.dsn, "250-REQUIRETLS": self.mail_server.requiretls}
        return [*responses[:-1], *(line for line, wanted in offered.items() if wanted), responses[-1]]

    async def handle_DATA(self, server, session, envelope):
        answer = self.mail_server.answer("final DATA", envelope.mail_from)
        if answer is CLOSE or answer is HANG:
            await self._say(answer)
        if answer is not None:
            return answer if isinstance(answer, str) else "\r\n".join(answer)
        if self.mail_server.slowly:
            await asyncio.sleep(self.mail_server.slowly)
        tls = self.transport.get_extra_info("ssl_object")
        self.mail_server.keep(
            Received(
                sender=envelope.mail_from,
                recipients=list(envelope.rcpt_tos),
                content=envelope.original_content,
                login=session.auth_data if session.authenticated else "",
                tls=tls.version() if tls is not None else "",
                options=list(envelope.mail_options),
                connection=self.number,
            )
        )
        return f"250 2.0.0 Ok: kept as {len(self.mail_server.messages)}"
