"""How much TLS a relay gets, and what its certificate must show.

Rules, first that applies:
- TLS from the start (`implicit`) or by STARTTLS is what SECURETRANSFER and STARTTLS say.
- A login is only ever sent over TLS: where one will be sent and SECURETRANSFER is not set, TLS is required all the
  same, unless INSECURE.
- OPPORTUNISTIC_TLS weakens STARTTLS to "if the relay has it"; then no login is sent in clear either (smtp.handshake).
- The certificate is verified (chain and name) when a login will be sent or VERIFYCERT is set. FINGERPRINT replaces
  that by the comparison with the pin. UNVERIFIEDCERT lifts it for the login, never for VERIFYCERT.
- The keys are written for the smarthost. For another relay (FALLBACK, RELAYMAP) its port decides between TLS from the
  start (465) and STARTTLS (25, 587), as RFC 8314 has it, and FINGERPRINT, which is the smarthost's, is replaced by
  verification.
- Mail with REQUIRETLS gets TLS and a verified certificate whatever the keys say; mail with `TLS-Required: No' goes to a host
  found by MX, where TLS is the recipient's business, without either if need be (RFC 8689).
- To a socket of this machine there is no TLS, and a login goes as it is.
- TLS 1.2 is the least (system.net).

Every decision carries its reason, which reaches the log, `doctor` and the report. Follows RFC 8314, RFC 3207 and C
dma's keys.
"""

from __future__ import annotations

from dma_runtime.envelope import OPTIONAL, REQUIRE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.config import Config

NONE, OPPORTUNISTIC, REQUIRED = "none", "opportunistic", "required"
NAME, FINGERPRINT, ANY = "name", "fingerprint", "none"  # what is verified: chain and name, the pin, nothing

IMPLICIT_PORT = 465  # RFC 8314 7.3
_STARTTLS_BY_PORT = {25: True, 587: True, IMPLICIT_PORT: False}


class TlsPolicy:
    """level: NONE, OPPORTUNISTIC or REQUIRED. verify: NAME, FINGERPRINT or ANY. implicit: TLS before the greeting.

    clear_login: INSECURE, the login may go unencrypted. fingerprint: 64 hexadecimal digits of SHA-256 or "".
    certfile: our own certificate and key, or "". A value: compared and hashed, so sessions can be pooled by it.
    """

    __slots__ = ("certfile", "clear_login", "fingerprint", "implicit", "level", "verify", "why")

    def __init__(
        self,
        level: str,
        why: str,
        *,
        verify: str = ANY,
        implicit: bool = False,
        clear_login: bool = False,
        fingerprint: str = "",
        certfile: str = "",
    ) -> None:
        self.level = level
        self.why = why
        self.verify = verify
        self.implicit = implicit
        self.clear_login = clear_login
        self.fingerprint = fingerprint
        self.certfile = certfile

    def _key(self) -> tuple[object, ...]:
        return (self.level, self.verify, self.implicit, self.clear_login, self.fingerprint, self.certfile)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TlsPolicy) and other._key() == self._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        how = " implicit" if self.implicit else ""
        return f"TlsPolicy({self.level}{how}, verify {self.verify}: {self.why})"


def decide(
    config: Config, port: int, *, will_authenticate: bool, smarthost: bool = True, main: bool = True, wish: str = ""
) -> TlsPolicy:
    """The policy towards a relay on `port` (0: a socket of this machine).

    `smarthost` is False for a host found by MX, `main` for any other relay than SMARTHOST. `wish`: what the mail wants of
    TLS (envelope.REQUIRE, OPTIONAL), "" as a rule.
    """
    if not port:
        return TlsPolicy(NONE, "a socket of this machine", clear_login=True)
    if wish == OPTIONAL and not smarthost:
        return TlsPolicy(OPPORTUNISTIC, "the message says `TLS-Required: No'", certfile=config.CERTFILE or "")
    found = _configured(config, port, will_authenticate, smarthost, main)
    return _required(found, config, port, main) if wish == REQUIRE else found


def _required(found: TlsPolicy, config: Config, port: int, main: bool) -> TlsPolicy:
    """The same for mail that no hop without verified TLS may see."""
    pinned = config.FINGERPRINT is not None and main
    return TlsPolicy(
        REQUIRED,
        f"REQUIRETLS; {found.why}",
        verify=FINGERPRINT if pinned else NAME,
        implicit=found.implicit or port == IMPLICIT_PORT,
        fingerprint=config.FINGERPRINT or "" if pinned else "",
        certfile=config.CERTFILE or "",
    )


def _configured(config: Config, port: int, will_authenticate: bool, smarthost: bool, main: bool) -> TlsPolicy:
    verify, verify_why = _verification(config, will_authenticate and smarthost, main)
    common = {
        "verify": verify,
        "clear_login": config.INSECURE,
        "fingerprint": config.FINGERPRINT or "" if main else "",
        "certfile": config.CERTFILE or "",
    }
    starttls = config.STARTTLS
    if smarthost and not main:
        starttls = _STARTTLS_BY_PORT.get(port, starttls)
    if config.SECURETRANSFER and not starttls and smarthost:
        return TlsPolicy(REQUIRED, f"SECURETRANSFER; {verify_why}", implicit=True, **common)  # type: ignore[arg-type]  # one dict for four calls
    if config.SECURETRANSFER and starttls:
        if config.OPPORTUNISTIC_TLS:
            return TlsPolicy(OPPORTUNISTIC, f"OPPORTUNISTIC_TLS; {verify_why}", **common)  # type: ignore[arg-type]  # as above
        return TlsPolicy(REQUIRED, f"SECURETRANSFER and STARTTLS; {verify_why}", **common)  # type: ignore[arg-type]  # as above
    if not smarthost:
        return TlsPolicy(OPPORTUNISTIC, "direct delivery: TLS where it is offered", certfile=config.CERTFILE or "")
    if will_authenticate and not config.INSECURE:
        implicit = port == IMPLICIT_PORT
        return TlsPolicy(REQUIRED, f"a login is sent only over TLS; {verify_why}", implicit=implicit, **common)  # type: ignore[arg-type]  # as above
    return TlsPolicy(NONE, "SECURETRANSFER is not set", clear_login=config.INSECURE)


def _verification(config: Config, will_authenticate: bool, main: bool) -> tuple[str, str]:
    if config.FINGERPRINT is not None and main:
        return FINGERPRINT, "the certificate must have the FINGERPRINT"
    if config.VERIFYCERT:
        return NAME, "VERIFYCERT"
    if will_authenticate and config.UNVERIFIEDCERT:
        return ANY, "UNVERIFIEDCERT"
    if will_authenticate:
        return NAME, "a login goes only to a verified relay"
    if config.FINGERPRINT is not None:
        return NAME, "FINGERPRINT is the smarthost's, so this relay is verified by its name"
    return ANY, "no login, so the certificate is not verified"
