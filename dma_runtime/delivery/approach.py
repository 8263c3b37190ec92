"""From a route to a session: which hosts may take the mail, in what order, with which login.

Rules:
- A route to a relay has its hosts; those of a domain are found by MX when a session is needed (`policy.exchangers`).
- The next host is tried when one takes no mail, in the same attempt. Such a host is passed over for the first time of
  RETRY; when no other is left it is tried all the same, so mail never waits for a pause to end. What another host deferred
  in this attempt is not offered to it: a dead second host is not asked once more for each message that waits.
- Each host has its own login and its own TLS. A login goes only to the host that auth.conf, or the line of RELAYMAP,
  names it for; what RELAYMAP names and auth.conf does not have holds the mail.
- Mail with REQUIRETLS goes to a verified host or not at all; without a login, for which others need TLS too, it is returned
  where a host has none (RFC 8689 4.2.1). Hosts found by MX are not known for certain, so it does not go there.
- To a host found by MX nobody signs in, unless auth.conf names that very host; then it must show a certificate for it.
- When nobody takes the mail, the outcome is the first deferral that is no fault of this machine, else the first deferral,
  else (no host of the domain has an address) the first failure.
"""

from __future__ import annotations

from functools import partial

from dma_runtime import authconf
from dma_runtime.delivery.probe import Probe
from dma_runtime.delivery.session import Refused, Session, Target, Timeouts, Unwanted
from dma_runtime.envelope import REQUIRE
from dma_runtime.outcome import DEFERRED, FAILED, MACHINE, RELAY, Outcome
from dma_runtime.policy import exchangers, tls, verdict
from dma_runtime.policy.relaymap import NO_LOGIN
from dma_runtime.policy.route import DIRECT, Hop, Route
from dma_runtime.system import resolver
from dma_runtime.system.secrets import SecretUnreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from collections.abc import Set as AbstractSet

    from dma_runtime.delivery.pool import Claim
    from dma_runtime.delivery.remote import Desk


class Approach:
    """The hosts of one route, and what is known of them while the owner lives. `hops`: as they were last found."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.hops: tuple[Hop, ...] = ()
        self._paused: dict[Hop, float] = {}  # until when (wall clock) another host is preferred

    async def open(
        self, route: Route, tried: AbstractSet[Hop], serving: AbstractSet[Hop], greeted: Callable[[Probe], None], claim: Claim
    ) -> tuple[Session, Hop]:
        """A session with the first host, but those in `tried`, that takes mail. Raises Refused; and for hosts found by MX, whose
        sessions are the pool's (`delivery.pool`), NotNow.

        `serving`: hosts we have a session with; one of them that refuses another has enough of us, and is not down.
        `greeted` is called with what others can be opened beside (`beside`), for each host that greets us.
        """
        self.hops = route.hops or await self._exchangers(route)
        now = self.desk.now().wall
        fresh = [hop for hop in self.hops if hop not in tried]
        fresh.sort(key=lambda hop: self._paused.get(hop, 0.0) > now)  # stable: the order stays but for the paused
        refusals: list[Outcome] = []
        for hop in fresh:
            probe = Probe(hop, greeted)
            try:
                session = await self._sign_on(hop, route.tls, greeted=probe.greeted, claim=claim)
                probe.over(through=True)
            except Refused as refused:
                if hop in serving:
                    raise
                refusals.append(refused.outcome)
                if len(self.hops) > 1:
                    self.pause(hop, refused.outcome)
            else:
                self._paused.pop(hop, None)
                if len(self.hops) > 1:
                    self.desk.hop_works(hop)
                return session, hop
            finally:
                probe.over(through=False)
        if not refusals:  # the domain's hosts are others now than when one was left to try
            raise Refused(verdict.fault("connect", "no further host", relay=route.key, answered=False))
        raise Refused(min(refusals, key=_weight))

    async def beside(self, probe: Probe, wish: str) -> Session:
        """One more session with the host that the probe is at. Raises Refused when the probe is through and this one is not, and
        Unwanted when the probe is refused."""
        try:
            return await self._sign_on(probe.hop, wish, wanted=probe.through)
        except Refused:
            if not await probe.through():
                raise Unwanted from None
            raise

    def pause(self, hop: Hop, outcome: Outcome) -> None:
        """This host takes no mail at present: another one is preferred for a while."""
        now = self.desk.now().wall
        wait = float(self.desk.settings.config.RETRY[0])
        known = self._paused.get(hop, 0.0) > now
        self._paused[hop] = now + wait
        if not known and outcome.scope != MACHINE:
            self.desk.hop_is_down(hop, outcome, wait)

    def another(self, tried: AbstractSet[Hop]) -> bool:
        """Whether a host is left that is not in `tried`, and not known to take no mail."""
        return any(hop not in tried and not self.is_paused(hop) for hop in self.hops)

    @property
    def exhausted(self) -> bool:
        """Whether no host is left that is not known to take no mail. Asked when one was seen to take none."""
        return len(self.hops) < 2 or all(self.is_paused(hop) for hop in self.hops)

    def is_paused(self, hop: Hop) -> bool:
        until = self._paused.get(hop) if self._paused else None
        return until is not None and until > self.desk.now().wall

    def shift(self, seconds: float) -> None:
        """The wall clock was set: pauses stay as long as they were meant."""
        self._paused = {hop: until + seconds for hop, until in self._paused.items()}

    def forget(self) -> None:
        """Somebody runs the queue, or the configuration changed."""
        self._paused.clear()

    # ------------------------------------------------------------ hosts of a domain

    async def _exchangers(self, route: Route) -> tuple[Hop, ...]:
        """Raises Refused."""
        assert route.kind == DIRECT, route.kind
        desk, domain = self.desk, route.host
        try:
            if address := exchangers.literal(domain):
                return (Hop(address, route.port, direct=True),)
            if route.tls == REQUIRE:  # RFC 8689 4.2.1: the name of a host found by MX proves nothing by itself
                text = f"REQUIRETLS: the mail exchangers of {domain} are not known for certain (by DNSSEC or MTA-STS)"
                raise Refused(verdict.no_exchanger(text, "5.7.10", relay=domain))
            name = exchangers.a_labels(domain)
            hosts = exchangers.choose(name, await desk.resolver.mx(name), desk.our_names, desk.dice)
        except exchangers.NoExchanger as error:
            raise Refused(verdict.no_exchanger(str(error), error.status, relay=domain)) from None
        except resolver.NoSuchDomain as error:
            text = f"DNS lookup failure: {error}"  # C dma's words
            raise Refused(verdict.no_exchanger(text, "5.1.2", relay=domain)) from None
        except resolver.Unanswered as error:
            raise Refused(verdict.fault("connect", f"DNS lookup failure: {error}", relay=domain)) from None
        except resolver.NoResolver as error:
            raise Refused(verdict.machine(str(error), relay=domain, hint=error.hint)) from None
        return tuple(Hop(host, route.port, direct=True) for host in hosts)

    # ------------------------------------------------------------ one host

    async def _sign_on(
        self,
        hop: Hop,
        wish: str,
        *,
        greeted: Callable[[], None] = lambda: None,
        wanted: Callable[[], Awaitable[bool]] | None = None,
        claim: Claim | None = None,
    ) -> Session:
        """Connect and sign in; `wish`: what the mail wants of TLS. Raises Refused, NotNow, and Unwanted (`signon.sign_on`)."""
        desk = self.desk
        settings, config = desk.settings, desk.settings.config
        for problem, path in ((settings.auth_problem, config.AUTHPATH), (settings.map_problem, config.RELAYMAP)):
            if problem:
                hint = f"make {path} readable for the user who owns the queue"
                raise Refused(Outcome(DEFERRED, problem, scope=RELAY, tell=True, hint=hint))
        found = self._login(hop)
        login = None
        if found is not None:
            try:
                login = (found.user, await desk.secrets.get(found, config))
            except SecretUnreadable as trouble:
                outcome = Outcome(DEFERRED, trouble.text, scope=RELAY, stage="AUTH", tell=True, hint=trouble.hint)
                raise Refused(outcome) from None
        signs_in = login is not None
        policy = tls.decide(
            config, hop.port, will_authenticate=signs_in, smarthost=signs_in or not hop.direct, main=hop.main, wish=wish
        )
        quota = verdict.QUOTA if hop.direct else verdict.QUOTA + config.QUOTA  # the marks are those of our own relay
        target = Target(hop.host, hop.port, policy, login, smarthost=not hop.direct, quota=quota, lmtp=hop.lmtp)
        limits = Timeouts(connect=config.CONNECTTIMEOUT, ceiling=config.TIMEOUT)
        open = partial(
            Session.open,
            target,
            helo=desk.helo,
            limits=limits,
            trace=desk.trace,
            most=config.MAXMESSAGES,
            greeted=greeted,
            wanted=wanted,
        )
        try:
            return await desk.pool.take(target, claim, open) if hop.direct and claim is not None else await open()
        except Refused as refused:
            if refused.outcome.stage == "AUTH" and found is not None:
                desk.secrets.forget(found)
            if refused.outcome.kind == FAILED:
                text = f"DNS lookup failure: {refused.outcome.text}"
                raise Refused(verdict.no_exchanger(text, "5.4.4", relay=hop.host)) from None  # RFC 3463 3.5
            if wish == REQUIRE and not signs_in and refused.outcome.status == verdict.NO_TLS:
                # Other mail goes there in clear, so this is no trouble of the relay's (RFC 8689 4.2.1).
                text = f"REQUIRETLS: {refused.outcome.text}"
                raise Refused(verdict.impossible(text, "5.7.10", relay=refused.outcome.relay)) from None
            raise

    def _login(self, hop: Hop) -> authconf.Login | None:
        """The line of auth.conf for a host. Raises Refused."""
        if hop.login == NO_LOGIN:
            return None
        found = self.desk.settings.logins.find(hop.host, hop.port, hop.login)
        if found is None and hop.login:
            path = self.desk.settings.config.AUTHPATH or "AUTHPATH"
            text = f"RELAYMAP names the login {hop.login} at {hop.host}, and auth.conf has no line for it"
            hint = f"add a line {hop.login}|{hop.host}:{hop.port}:PASSWORD to {path}"
            raise Refused(Outcome(DEFERRED, text, scope=RELAY, stage="AUTH", tell=True, hint=hint))
        return found


def _weight(outcome: Outcome) -> int:
    """What counts when each host had its own trouble."""
    return 2 if outcome.kind == FAILED else 1 if outcome.scope == MACHINE else 0
