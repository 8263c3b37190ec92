"""What the DNS says about a domain: MX and TXT records, asked of the servers that resolv.conf names.

Rules (hard-parts.md, Speaking SMTP):
- dnspython asks, in a thread with a deadline; a thread that hangs is left behind. It is imported with the first question:
  a machine that sends everything to a smarthost never pays for it. Where Python was started without site (-S), site is
  run first.
- resolv.conf is read again when it changes. Missing, empty or unusable, it is `NoResolver`: a state of this machine.
- A question without an answer is this machine's trouble too (`NoResolver`), unless the same servers answer another one
  (the root's name servers): then it is the domain's (`Unanswered`), and so is SERVFAIL. A laptop without a network
  blames no domain, and a domain with broken servers does not wait for ever.
- Names are absolute: the search list is not used, so that `example.com` never means `example.com.corp.example`.
- Answers to MX are kept for their TTL, at most a day, `KEPT` of them.

Addresses of hosts are none of this: they come from `system.net`, which knows the hosts file.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

RESOLV_CONF = "/etc/resolv.conf"
LIFETIME = 20.0  # seconds for one question, all servers and repetitions together
PROBE = 5.0  # seconds for the question whether the servers answer at all
AT_ONCE = 32  # questions under way, each in a thread
KEPT = 500  # answers
LONGEST_KEPT = 86400.0  # seconds


class NoSuchDomain(Exception):
    """The DNS says that there is no such name, or it cannot be one."""


class Unanswered(Exception):
    """The servers work, but have no answer for this domain."""


class NoResolver(Exception):
    """This machine cannot ask: no servers known, none reached, or the library is missing. `hint`: what the operator has
    to do, "" when it may pass by itself."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class Resolver:
    """`path` and `port` say where the servers are found; `clock` gives seconds that count time asleep."""

    def __init__(
        self,
        path: str = RESOLV_CONF,
        port: int = 53,
        *,
        lifetime: float = LIFETIME,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self.path = path
        self.port = port
        self.lifetime = lifetime
        self._clock = clock
        self._stub: Any = None  # dnspython's resolver, for the file as it was read last
        self._seen: tuple[int, int, int] | None = None
        self._kept: dict[str, tuple[float, list[tuple[int, str]]]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        """(preference, host) of each MX record; hosts in lower case without the final dot, the root as "".

        [] when the domain exists and has none. Raises NoSuchDomain, Unanswered, NoResolver.
        """
        kept = self._kept.get(domain)
        if kept is not None and self._clock() < kept[0] and self._signature() == self._seen:
            return kept[1]
        answer = await self._ask(domain, "MX")
        found = [
            (int(record.preference), record.exchange.to_text(omit_final_dot=True).lower().removesuffix("."))
            for record in answer.rrset or ()
        ]
        self._keep(domain, found, answer.chaining_result.minimum_ttl)
        return found

    async def txt(self, name: str) -> list[bytes]:
        """The TXT records of a name, each with its strings joined. Raises as `mx` does."""
        answer = await self._ask(name, "TXT")
        return [b"".join(record.strings) for record in answer.rrset or ()]

    def _keep(self, domain: str, found: list[tuple[int, str]], ttl: float) -> None:
        self._kept.pop(domain, None)
        while len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]  # the one learned first
        self._kept[domain] = (self._clock() + min(ttl, LONGEST_KEPT), found)

    # ------------------------------------------------------------ asking

    async def _ask(self, name: str, kind: str) -> Any:
        async with self._gate:
            return await _in_thread(lambda: self._question(name, kind), self.lifetime + PROBE + 5)

    def _question(self, name: str, kind: str) -> Any:
        """Runs in a thread of its own."""
        resolver = _library()
        import dns.exception
        import dns.name

        stub = self._servers(resolver)
        try:
            absolute = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError):
            raise NoSuchDomain(f"{name} is not a domain name") from None
        try:
            return stub.resolve(absolute, kind, search=False, raise_on_no_answer=False, lifetime=self.lifetime)
        except (resolver.NXDOMAIN, resolver.YXDOMAIN):
            raise NoSuchDomain(f"host {name} not found") from None
        except resolver.NoNameservers as error:
            self._whose_fault(resolver, stub, name, _errors(error))
        except resolver.LifetimeTimeout:
            self._whose_fault(resolver, stub, name, f"no answer within {self.lifetime:g} seconds")
        except (dns.exception.DNSException, OSError) as error:
            raise Unanswered(f"{kind} of {name}: {error}") from None

    def _whose_fault(self, resolver: Any, stub: Any, name: str, why: str) -> None:
        """The servers had no answer: do they answer anything? Raises Unanswered or NoResolver."""
        import dns.exception
        import dns.name

        try:
            stub.resolve(dns.name.root, "NS", search=False, raise_on_no_answer=False, lifetime=min(PROBE, self.lifetime))
        except resolver.NXDOMAIN:
            pass  # an odd answer, but an answer
        except (dns.exception.DNSException, OSError):
            servers = ", ".join(str(server) for server in stub.nameservers)
            raise NoResolver(f"no name server of {self.path} answers ({servers}): {why}") from None
        raise Unanswered(f"no answer about {name}: {why}")

    def _servers(self, resolver: Any) -> Any:
        """dnspython's resolver for resolv.conf as it is now. Raises NoResolver."""
        signature = self._signature()
        if self._stub is None or signature != self._seen:
            self._seen, self._stub = signature, None
            self._kept.clear()
            try:
                stub = resolver.Resolver(filename=self.path)
            except (resolver.NoResolverConfiguration, ValueError, OSError) as error:
                raise NoResolver(f"{self.path}: {error}") from None
            stub.port = self.port
            self._stub = stub
        return self._stub

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _errors(error: Any) -> str:
    """What each server said, in dnspython's terms: (server, tcp, port, exception, response)."""
    told = []
    for server, _, _, problem, _ in error.kwargs.get("errors", ()):
        told.append(f"{getattr(server, 'address', server)} {problem}")
    return "; ".join(dict.fromkeys(told)) or "no servers"


def _library() -> Any:
    """`dns.resolver`. Raises NoResolver when it is not installed."""
    try:
        import dns.resolver
    except ImportError:
        import site

        site.main()  # the launcher starts Python without it (-S)
        try:
            import dns.resolver
        except ImportError as error:
            hint = "install python3-dnspython, or set SMARTHOST in dma.conf"
            raise NoResolver(f"mail exchangers cannot be looked up: {error}", hint) from None
    return dns.resolver


async def _in_thread(call: Callable[[], T], deadline: float) -> T:
    """The result of `call`, run in a daemon thread: one that hangs must not keep the process from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def deliver(result: Any, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as problem:
            error = problem
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    threading.Thread(target=run, name="dns", daemon=True).start()
    try:
        return await asyncio.wait_for(answer, deadline)
    except TimeoutError:
        raise NoResolver(f"no answer from the resolver within {deadline:g} seconds") from None
