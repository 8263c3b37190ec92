"""TLS as bytes in, bytes out, and the contexts it is made from.

Rules:
- TLS 1.2 or later, no renegotiation, no compression; SNI and the name in the certificate are the configured host
  name.
- Verification is one of: chain and name against the system's certificates; the SHA-256 of the relay's certificate
  against a pin; nothing. A pin is compared before the first byte of ours goes through.
- A session is resumed only with the context (that is, the policy) and the relay it was made with.
- A failed handshake has a reason in words, and a hint for the usual confusion of ports.

The trust store is OpenSSL's default: SSL_CERT_FILE and SSL_CERT_DIR apply; a hashed directory is read lazily,
certificate by certificate, which is why this costs 1 ms where `create_default_context` costs 20.
"""

from __future__ import annotations

import hashlib
import ssl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 65536  # bytes read from the TLS buffer at once
SESSIONS = 100  # kept for resumption, the oldest go
MISMATCH = "the certificate does not have the configured FINGERPRINT"

NAME, FINGERPRINT, ANY = "name", "fingerprint", "none"  # policy.tls says which


class BadClientCertificate(Exception):
    """CERTFILE cannot be used; the text says why."""


class TlsContexts:
    """Contexts by what they verify, and the sessions made with each. One for the process."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, str], ssl.SSLContext] = {}
        self._sessions: dict[tuple[str, str, str, int], ssl.SSLSession] = {}

    def layer(self, host: str, port: int, verify: str, *, fingerprint: str = "", certfile: str = "") -> TlsLayer:
        """A TLS layer for one connection. Raises BadClientCertificate."""
        key = (verify, certfile)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = make_context(verify, certfile)
        place = (*key, host, port)
        pin = fingerprint if verify == FINGERPRINT else ""
        return TlsLayer(context, host, pin, self._sessions.get(place), lambda session: self._keep(place, session))

    def _keep(self, place: tuple[str, str, str, int], session: ssl.SSLSession) -> None:
        self._sessions.pop(place, None)
        while len(self._sessions) >= SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[place] = session


def make_context(verify: str, certfile: str = "") -> ssl.SSLContext:
    """A client context. Raises BadClientCertificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if verify == NAME:
        context.set_default_verify_paths()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certfile:
        try:
            context.load_cert_chain(certfile)
        except (OSError, ssl.SSLError) as error:
            raise BadClientCertificate(f"CERTFILE {certfile}: {error.strerror or error}") from None
    return context


class TlsLayer:
    """One connection's TLS. The caller moves the bytes."""

    def __init__(
        self,
        context: ssl.SSLContext,
        host: str,
        pin: str,
        session: ssl.SSLSession | None,
        keep: Callable[[ssl.SSLSession], None],
    ) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname=host.rstrip("."), session=session)
        self._pin = pin
        self._keep: Callable[[ssl.SSLSession], None] | None = keep
        self._done: Callable[[str | None], None] | None = None
        self._up = False

    @property
    def description(self) -> str:
        """`TLSv1.3 TLS_AES_256_GCM_SHA384`, for the log."""
        cipher = self._object.cipher()
        return f"{self._object.version()} {cipher[0]}" if cipher else str(self._object.version())

    @property
    def resumed(self) -> bool:
        return bool(self._object.session_reused)

    @property
    def binding(self) -> bytes | None:
        """tls-unique (RFC 5929); None where it is not defined or not unique: TLS 1.3, a resumed session."""
        if self._object.version() != "TLSv1.2" or self._object.session_reused:
            return None
        return self._object.get_channel_binding("tls-unique")

    def begin(self, done: Callable[[str | None], None]) -> None:
        self._done = done
        self._shake()

    def encrypt(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._out.read()

    def outgoing(self) -> bytes:
        return self._out.read() if self._out.pending else b""

    def decrypt(self, data: bytes) -> tuple[bytes, str | None]:
        """(plain text, None), or (what came before it, the reason the connection is over)."""
        self._in.write(data)
        if not self._up:
            self._shake()
            if not self._up:
                return b"", None
        plain = b""
        try:
            while chunk := self._object.read(BLOCK):
                plain = plain + chunk if plain else chunk
            return plain, "the relay closed the connection"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return plain, "the relay closed the connection"
        except ssl.SSLError as error:
            return plain, f"TLS: {reason(error)}"
        if self._keep is not None and plain:
            # In TLS 1.3 the ticket arrives behind the handshake, with the first bytes of the server.
            session = self._object.session
            if session is not None:
                self._keep(session)
            self._keep = None
        return plain, None

    def close(self) -> bytes:
        """Our goodbye."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the server's goodbye is not waited for
        return self._out.read()

    def fail(self, why: str) -> bool:
        """The connection is gone. True if the handshake was still under way and its caller was told."""
        if self._done is None:
            return False
        done, self._done = self._done, None
        done(why)
        return True

    def _shake(self) -> None:
        if self._done is None:
            return  # failed before
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            self.fail(reason(error))
            return
        if self._pin and hashlib.sha256(self._object.getpeercert(binary_form=True) or b"").hexdigest() != self._pin:
            self.fail(MISMATCH)
            return
        self._up = True
        done, self._done = self._done, None
        done(None)


def reason(error: ssl.SSLError) -> str:
    """A TLS failure in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the relay's certificate cannot be verified: {error.verify_message}"
    if error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error)


def hint(why: str, port: int, implicit: bool) -> str:
    """What a person probably has to change, "" when that is not known."""
    if why == MISMATCH:
        return "No login was sent. If the relay has a new certificate, correct FINGERPRINT; if not, this is not the relay."
    if "alert" in why and "certificate" in why:  # one that it sent: about ours
        return "The relay does not take our certificate: see CERTFILE in dma.conf."
    if "certificate" in why:
        return "No login was sent. If name and clock are right, pin the certificate with FINGERPRINT or set UNVERIFIEDCERT."
    if implicit and ("wrong version number" in why or "record layer" in why):
        return f"The relay does not speak TLS at once on port {port}: add STARTTLS to dma.conf, or use port 465."
    return ""
