"""SCRAM: proving that we know a password without showing it, and asking the relay for the same.

Rules:
- SHA-256 and SHA-1, with channel binding (`-PLUS`, tls-unique) where the caller has the binding's data: TLS 1.2 only, Python
  cannot export keying material from TLS 1.3.
- The relay's signature is checked; until it was, `proved` is False and a 235 is no sign-in.
- A relay that asks for fewer than 4096 rounds (RFC 7677 4) or for more than a million is refused: the first would make the
  proof cheap to guess, the second would stop the queue.

Pure: the nonce comes from `dice`. Follows RFC 5802, RFC 7677, RFC 5929.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from unicodedata import normalize

from dma_runtime.smtp.stuck import Stuck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.secret import Secret

_LEAST_ROUNDS = 4096
_MOST_ROUNDS = 1_000_000


def prepare(text: str) -> bytes:
    """SASLprep (RFC 4013) as far as it matters: one form for characters written in several ways."""
    if text.isascii():
        return text.encode("ascii")
    return normalize("NFKC", text).encode("utf-8", "surrogateescape")


class Scram:
    """One sign-in. `digest` is `sha1` or `sha256`; `binding` the tls-unique data for -PLUS, else None."""

    def __init__(
        self,
        digest: str,
        user: str,
        password: Secret,
        dice: Callable[[int], bytes],
        *,
        binding: bytes | None = None,
        could_bind: bool = False,
    ) -> None:
        """`could_bind`: we have binding data but the relay does not offer -PLUS: said as `y`, so a strip is noticed."""
        self.proved = False
        self._digest = digest
        self._password = password
        self._binding = binding or b""
        flag = b"p=tls-unique" if binding is not None else b"y" if could_bind else b"n"
        self._header = flag + b",,"
        self._nonce = b64encode(dice(18))
        name = prepare(user).replace(b"=", b"=3D").replace(b",", b"=2C")  # RFC 5802 5.1
        self._bare = b"n=" + name + b",r=" + self._nonce
        self._signature = b""
        self._asked = 0

    def initial(self) -> bytes:
        return self._header + self._bare

    def answer(self, challenge: bytes) -> bytes:
        self._asked += 1
        if self._asked == 1 and not challenge:  # a relay without initial responses asks for the first message
            self._asked = 0
            return self.initial()
        if self._asked == 1:
            return self._prove(challenge)
        if self._asked == 2:
            self._check(challenge)
            return b""
        raise Stuck("the relay asks for more than SCRAM has")

    def _prove(self, challenge: bytes) -> bytes:
        said = _attributes(challenge)
        nonce, salt, rounds = said.get(b"r", b""), said.get(b"s", b""), said.get(b"i", b"")
        if b"m" in said or not nonce.startswith(self._nonce) or nonce == self._nonce:  # RFC 5802 5.1
            raise Stuck("the relay's SCRAM message does not answer ours")
        if not rounds.isdigit() or len(rounds) > 7 or not _LEAST_ROUNDS <= int(rounds) <= _MOST_ROUNDS:
            raise Stuck(f"the relay asks for {rounds.decode('ascii', 'replace')[:12]} rounds of SCRAM")
        try:
            raw_salt = b64decode(salt, validate=True)
        except (BadBase64, ValueError):
            raise Stuck("the relay's SCRAM salt is not base64") from None
        digest = self._digest
        salted = hashlib.pbkdf2_hmac(digest, prepare(self._password.reveal()), raw_salt, int(rounds))
        client_key = hmac.digest(salted, b"Client Key", digest)
        final = b"c=" + b64encode(self._header + self._binding) + b",r=" + nonce
        everything = self._bare + b"," + challenge + b"," + final
        signature = hmac.digest(hashlib.new(digest, client_key).digest(), everything, digest)
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", digest), everything, digest)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return final + b",p=" + b64encode(proof)

    def _check(self, challenge: bytes) -> None:
        said = _attributes(challenge)
        if b"e" in said:
            raise Stuck(f"the relay refused: {said[b'e'].decode('ascii', 'backslashreplace')}")
        try:
            signature = b64decode(said.get(b"v", b""), validate=True)
        except (BadBase64, ValueError):
            signature = b""
        if not hmac.compare_digest(signature, self._signature):
            raise Stuck("the relay does not know the password it asks for")
        self.proved = True


def _attributes(message: bytes) -> dict[bytes, bytes]:
    return {part[:1]: part[2:] for part in message.split(b",") if part[1:2] == b"="}
