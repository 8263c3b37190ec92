"""Proving who we are: SASL mechanisms as small machines, challenge bytes in, response bytes out.

Rules:
- `choose` takes the best mechanism both sides know. Over TLS with a verified relay that is PLAIN: one round trip, and it
  works with any password store of the relay. Anywhere else one that does not show the password comes first.
- A mechanism is used once. `initial` is its first message or None when the server speaks first; `answer` gives the
  response to a challenge and raises `Stuck` when the server asks for more than the mechanism has. A success counts only
  when `proved` is true.
- The password is looked at when its bytes are needed, and kept nowhere else.

Follows RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN), RFC 2195 (CRAM-MD5), RFC 5802 and 7677 (SCRAM), RFC 4954
(all of them in SMTP).
"""

from __future__ import annotations

import hmac

from dma_runtime.smtp.scram import Scram
from dma_runtime.smtp.stuck import Stuck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dma_runtime.secret import Secret


def _bytes(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise Stuck("the login or password holds a NUL")
    return raw


class Plain:
    proved = True  # nothing more to see: the relay's 235 is the answer

    def __init__(self, user: str, password: Secret) -> None:
        self._user = user
        self._password = password
        self._asked = 0

    def initial(self) -> bytes | None:
        return b"\0" + _bytes(self._user) + b"\0" + _bytes(self._password.reveal())

    def answer(self, _: bytes) -> bytes:
        self._asked += 1
        if self._asked > 1:
            raise Stuck("the relay asks for more than PLAIN has")
        # A server without initial responses asks with an empty challenge (RFC 4954 4).
        return self.initial() or b""


class Login:
    """The user, then the password; the prompts differ from server to server and are not looked at."""

    proved = True

    def __init__(self, user: str, password: Secret) -> None:
        self._user = user
        self._password = password
        self._asked = 0

    def initial(self) -> bytes | None:
        return None

    def answer(self, _: bytes) -> bytes:
        self._asked += 1
        if self._asked == 1:
            return _bytes(self._user)
        if self._asked == 2:
            return _bytes(self._password.reveal())
        raise Stuck("the relay asks for more than LOGIN has")


class CramMd5:
    proved = True

    def __init__(self, user: str, password: Secret) -> None:
        self._user = user
        self._password = password
        self._asked = 0

    def initial(self) -> bytes | None:
        return None

    def answer(self, challenge: bytes) -> bytes:
        self._asked += 1
        if self._asked > 1:
            raise Stuck("the relay asks for more than CRAM-MD5 has")
        if not challenge:
            raise Stuck("the relay sent no challenge for CRAM-MD5")
        digest = hmac.new(_bytes(self._password.reveal()), challenge, "md5").hexdigest()  # RFC 2195 2
        return _bytes(self._user) + b" " + digest.encode("ascii")


Mechanism = Plain | Login | CramMd5 | Scram

# Best first. With channel binding before the same without: the relay takes "could bind, you do not offer it" (RFC 5802 6)
# for a strip when it does offer it.
_SCRAM = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1")
_TRUSTED = ("PLAIN", "LOGIN", *_SCRAM, "CRAM-MD5")
_CAUTIOUS = (*_SCRAM, "CRAM-MD5", "PLAIN", "LOGIN")


def choose(offered: Iterable[str], *, trusted: bool, bound: bool = False) -> list[str]:
    """Names of the mechanisms to try, best first; empty when there is no common one.

    `trusted`: the relay was verified and the channel is encrypted. `bound`: there is channel binding data.
    """
    names = {name.upper() for name in offered}
    return [name for name in (_TRUSTED if trusted else _CAUTIOUS) if name in names and (bound or not name.endswith("-PLUS"))]


def start(
    name: str, user: str, password: Secret, dice: Callable[[int], bytes], binding: bytes | None = None
) -> Mechanism:
    """The machine of a mechanism that `choose` named."""
    if name == "PLAIN":
        return Plain(user, password)
    if name == "LOGIN":
        return Login(user, password)
    if name == "CRAM-MD5":
        return CramMd5(user, password)
    digest = "sha256" if "-256" in name else "sha1"
    plus = name.endswith("-PLUS")
    return Scram(
        digest, user, password, dice, binding=binding if plus else None, could_bind=binding is not None and not plus
    )
