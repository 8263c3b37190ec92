"""Proving who we are: SASL mechanisms as small machines, challenge bytes in, response bytes out.

Rules:
- `choose` takes the best mechanism both sides know; on an unencrypted channel one that does not show the password first.
- A mechanism is used once. `initial` is its first message or None when the server speaks first; `answer` gives the
  response to a challenge and raises `Stuck` when the server asks for more than the mechanism has.
- The password is looked at when its bytes are needed, and kept nowhere else.

Follows RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN), RFC 2195 (CRAM-MD5), RFC 4954 (all of them in SMTP).
"""

from __future__ import annotations

import hmac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dma_runtime.secret import Secret


class Stuck(Exception):
    """The server asks for something the mechanism does not have; the text says what."""


def _bytes(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise Stuck("the login or password holds a NUL")
    return raw


class Plain:
    name = "PLAIN"
    shows_password = True

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

    name = "LOGIN"
    shows_password = True

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
    name = "CRAM-MD5"
    shows_password = False

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


Mechanism = Plain | Login | CramMd5

# Best first. Over TLS with a verified relay PLAIN is one round trip and works with any password store of the server.
ENCRYPTED: tuple[type[Mechanism], ...] = (Plain, Login, CramMd5)
IN_CLEAR: tuple[type[Mechanism], ...] = (CramMd5, Plain, Login)


def choose(offered: Iterable[str], encrypted: bool) -> list[type[Mechanism]]:
    """The mechanisms to try, best first; empty when there is no common one."""
    names = {name.upper() for name in offered}
    return [mechanism for mechanism in (ENCRYPTED if encrypted else IN_CLEAR) if mechanism.name in names]
