"""From a relay's name to a conversation in which mail may be sent: look up, connect, greeting, TLS, AUTH.

Rules:
- Every failure is a `Refused` with the `Outcome` it means for all mail to this relay (policy.verdict); nothing else
  is raised.
- An address whose greeting never comes or is a 4yz gives way to the next address of the host (RFC 5321 5.1).
- Bytes behind the reply to STARTTLS are an attack (RFC 3207 4.2, CVE-2011-0411): the session ends.
- Merely opportunistic TLS that fails in its handshake gives way to one more connection in clear; there no login is
  sent.
- A session beside a probe (`delivery.probe`) says neither AUTH nor MAIL before somebody wants it.
"""

from __future__ import annotations

import asyncio
import os

from dma_runtime.delivery.habits import Habits
from dma_runtime.delivery.line import Broken, Line
from dma_runtime.outcome import Outcome
from dma_runtime.policy import tls, verdict
from dma_runtime.smtp import command
from dma_runtime.smtp.handshake import Handshake, Ready, Refuse, Send, Upgrade
from dma_runtime.smtp.timeouts import Timeouts
from dma_runtime.system import net, tlswrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dma_runtime.delivery.line import Trace
    from dma_runtime.policy.tls import TlsPolicy
    from dma_runtime.secret import Secret
    from dma_runtime.smtp.reply import Reply

CONTEXTS = tlswrap.TlsContexts()
HABITS = Habits()

_MOST_ADDRESSES = 4  # connections made for one session at most


class Refused(Exception):
    """No session. `outcome` is what that means for every message to this relay."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.text)
        self.outcome = outcome


class Target:
    """Where a session leads, and so what it is pooled by.

    `host` as configured or found by MX, `port`; `tls` (policy.tls.decide); `login` is (user, password) or None;
    `smarthost` False for a host found by MX. `quota`: texts of this relay that mean "enough for now" (policy.verdict).
    `lmtp`: it speaks LMTP; then `host` may be the path of a socket.
    """

    __slots__ = ("host", "lmtp", "login", "port", "quota", "smarthost", "tls")

    def __init__(
        self,
        host: str,
        port: int,
        tls: TlsPolicy,
        login: tuple[str, Secret] | None = None,
        *,
        smarthost: bool = True,
        quota: tuple[str, ...] = verdict.QUOTA,
        lmtp: bool = False,
    ) -> None:
        self.host = host
        self.lmtp = lmtp
        self.port = port
        self.tls = tls
        self.login = login
        self.smarthost = smarthost
        self.quota = quota

    def _key(self) -> tuple[object, ...]:
        return (self.host.lower(), self.port, self.tls, self.login, self.smarthost, self.quota, self.lmtp)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and other._key() == self._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        user = f" as {self.login[0]}" if self.login else ""
        return f"Target({self.host}:{self.port}{user})"


class Unwanted(Exception):
    """The session is not wanted any more, or was lost while it waited to be."""


class NoTls(Exception):
    """The TLS handshake failed; the text says why."""


async def sign_on(
    target: Target,
    helo: str,
    limits: Timeouts,
    trace: Trace | None,
    *,
    greeted: Callable[[], None] = lambda: None,
    wanted: Callable[[], Awaitable[bool]] | None = None,
) -> tuple[Line, Handshake, str]:
    """(the line, the finished handshake, `host [address]`). Raises Refused.

    `greeted` is called when the relay has greeted us with a 2yz, `wanted` when all but AUTH is done: where that comes to False,
    or the relay closed meanwhile, Unwanted is raised.
    """
    try:
        addresses = await net.resolve(target.host, target.port, limits.resolve)
    except net.NoAddress as error:
        if error.unknown:
            raise Refused(verdict.no_such_host(str(error), relay=target.host, smarthost=target.smarthost)) from None
        raise Refused(verdict.machine(str(error), relay=target.host)) from None
    want_tls = target.tls.level != tls.NONE
    refused: Refused | None = None
    for _ in range(_MOST_ADDRESSES):
        try:
            sock, address = await net.connect(addresses, limits.connect)
        except net.NoConnection as error:
            if refused is not None:
                raise refused from None
            if error.no_route:
                raise Refused(verdict.machine(str(error), relay=target.host)) from None
            # Somebody answered if the host refused, or a resolver knew the name (an address as SMARTHOST needs none).
            answered = error.spoke or not _is_literal(target.host)
            text = f"cannot connect to {target.host}: {error}"
            raise Refused(verdict.fault("connect", text, relay=target.host, answered=answered)) from None
        peer = target.host if target.host.startswith("/") else f"{target.host} [{address[1][0]}]"
        line = Line(limits, trace)
        line.wire = await net.wire(sock, line)
        try:
            handshake = await converse(line, target, helo, peer, want_tls, greeted=greeted, wanted=wanted)
            return line, handshake, peer
        except NoTls as error:
            line.fail(str(error))
            if target.tls.level != tls.OPPORTUNISTIC:
                raise Refused(_tls_outcome(str(error), target, peer)) from None
            want_tls = False
        except Unwanted:
            await _goodbye(line)
            line.close()
            raise
        except Refused as this:
            line.close()
            outcome = this.outcome
            if outcome.stage != "connect" or outcome.code >= 500 or len(addresses) == 1:
                raise
            refused = this
            addresses.remove(address)
        except BaseException:
            line.fail("given up")
            raise
    assert refused is not None
    raise refused


async def converse(
    line: Line,
    target: Target,
    helo: str,
    peer: str,
    want_tls: bool,
    *,
    greeted: Callable[[], None] = lambda: None,
    wanted: Callable[[], Awaitable[bool]] | None = None,
) -> Handshake:
    """Greeting to AUTH on a line whose wire is up. Raises Refused, NoTls and Unwanted."""
    policy, limits = target.tls, line.timeouts
    assert line.wire is not None
    if policy.implicit and want_tls:
        await _upgrade(line, target)
    handshake = Handshake(
        command.hello_name(helo, line.wire.local_address),
        want_tls=want_tls,
        must_tls=policy.level == tls.REQUIRED,
        encrypted=policy.implicit and want_tls,
        # TLS was opportunistic and broke: what follows goes in clear, and a login does not.
        login=target.login if want_tls or policy.level != tls.OPPORTUNISTIC else None,
        clear_login=policy.clear_login,
        trusted=policy.verify != tls.ANY,
        lmtp=target.lmtp,
        dice=os.urandom,
    )
    if line.wire.tls is not None:
        handshake.binding = line.wire.tls.binding
    # A port that waits for our TLS says nothing at all; RFC 5321's five minutes would only hide that.
    mute = target.port == tls.IMPLICIT_PORT and not handshake.encrypted
    try:
        reply = await line.ask(command.GREETING, b"", "", limits.silent if mute else None)
        if reply.code // 100 == 2:
            greeted()
        while True:
            action = handshake.reply(reply)
            if isinstance(action, Upgrade):
                if line.engine.surplus or line.failed_reply is not None:
                    raise Refused(
                        verdict.refusal(
                            command.S_STARTTLS,
                            "bytes came behind the reply to STARTTLS: somebody between us and the relay injects them",
                            relay=peer,
                            hint="Mail waits; try from another network.",
                        )
                    )
                await _upgrade(line, target)
                handshake.binding = line.wire.tls.binding if line.wire.tls is not None else None
                action = handshake.secured()
            arrived = isinstance(action, Ready) or (isinstance(action, Send) and action.verb is command.AUTH)
            if arrived and wanted is not None:
                if not await wanted() or line.failed:
                    raise Unwanted
                wanted = None
            if isinstance(action, Ready):
                line.hide()
                if HABITS.plain(target.host, target.port, asyncio.get_running_loop().time()):
                    handshake.capabilities.pipelining = handshake.capabilities.chunking = False
                if target.lmtp:
                    handshake.capabilities.chunking = False  # smtp.lmtp
                line.engine.pipelining = handshake.capabilities.pipelining
                return handshake
            if isinstance(action, Refuse):
                await _goodbye(line)
                if action.reply is not None:
                    outcome = verdict.judge(
                        action.stage, action.reply, smarthost=target.smarthost, relay=peer, quota=target.quota
                    )
                    if action.stage == command.S_EHLO and outcome.tell:
                        outcome.hint = _other_protocol(target, action.reply) or outcome.hint
                else:
                    status = verdict.NO_TLS if action.stage == command.S_STARTTLS else ""
                    outcome = verdict.refusal(action.stage, action.says, relay=peer, hint=action.hint, status=status)
                raise Refused(outcome)
            assert not isinstance(action, Upgrade)
            if action.secret and target.login is not None:
                line.hide(action.secret, target.login[1].reveal().encode("utf-8", "surrogateescape"))
            reply = await line.ask(action.verb, action.line, action.shown)
    except Broken as broken:
        hint = ""
        if mute and broken.verb is command.GREETING:
            hint = "Port 465 expects TLS from the start: SECURETRANSFER without STARTTLS."
        elif broken.verb is command.GREETING and not handshake.encrypted and "silent" in str(broken):
            hint = f"If port {target.port} expects TLS from the start: SECURETRANSFER without STARTTLS."
        if line.failed_reply is not None and line.failed_reply.code == 421:
            raise Refused(verdict.judge(broken.verb.stage, line.failed_reply, relay=peer)) from None
        raise Refused(verdict.fault(broken.verb.stage, str(broken), relay=peer, hint=hint)) from None


async def _upgrade(line: Line, target: Target) -> None:
    """TLS on the wire. Raises NoTls."""
    policy = target.tls
    try:
        layer = CONTEXTS.layer(
            target.host, target.port, policy.verify, fingerprint=policy.fingerprint, certfile=policy.certfile
        )
    except (tlswrap.BadClientCertificate, ValueError) as error:
        stage = command.S_CONNECT if policy.implicit else command.S_STARTTLS
        hint = "Mend CERTFILE in dma.conf."
        raise Refused(verdict.refusal(stage, str(error), relay=target.host, hint=hint)) from None
    done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    assert line.wire is not None

    def tell(why: str | None) -> None:
        if not done.done():
            done.set_result(why)

    line.on_failed = lambda: tell(line.failed)
    if line.failed:
        raise NoTls(line.failed)
    line.wire.start_tls(layer, tell)
    try:
        why = await asyncio.wait_for(done, line.timeouts.tls)
    except TimeoutError:
        why = f"no answer to the TLS handshake within {line.timeouts.tls:g} seconds"
    if why is not None:
        raise NoTls(why)
    if line.tracing:
        line.show(f"-- {layer.description}")


def _other_protocol(target: Target, reply: Reply) -> str:
    """What to do when the other side speaks SMTP where we speak LMTP, or the reverse (RFC 2033 4.1); "" when it does not."""
    if target.lmtp:
        if reply.code in (500, 502, 503):
            return "It knows no LHLO, so it speaks SMTP: take LMTP out of dma.conf, or name the port where it speaks LMTP."
    elif reply.code in (500, 502):
        return "It knows neither EHLO nor HELO: if it speaks LMTP, add LMTP to dma.conf, else check SMARTHOST and PORT."
    return ""


async def _goodbye(line: Line) -> None:
    """QUIT, without waiting for long: nothing depends on it (RFC 5321 4.1.1.10)."""
    if not line.failed and not line.engine.outstanding:
        try:
            await line.ask(command.QUIT, command.QUIT_LINE, "QUIT", line.timeouts.quit)
        except Broken:
            pass


def _tls_outcome(why: str, target: Target, peer: str) -> Outcome:
    stage = "connect" if target.tls.implicit else "STARTTLS"
    hint = tlswrap.hint(why, target.port, target.tls.implicit)
    text = f"TLS with {target.host}: {why}"
    if hint:
        return verdict.refusal(stage, text, relay=peer, hint=hint)
    return verdict.fault(stage, text, relay=peer)


def _is_literal(host: str) -> bool:
    return host.startswith("/") or ":" in host or host.replace(".", "").isdigit()
