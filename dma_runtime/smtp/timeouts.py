"""How long to wait for a relay, in seconds, one number a wait.

The defaults are the minimums of RFC 5321 4.5.3.2; where that is silent, what Postfix uses. TIMEOUT in dma.conf is an
upper bound for every wait on a relay, CONNECTTIMEOUT the wait for a connection (interface.md, section 7).
"""

from __future__ import annotations


class Timeouts:
    """Attributes are seconds. `ceiling` caps every wait but connecting and looking up the name."""

    __slots__ = (
        "auth", "block", "connect", "data", "ehlo", "final", "greeting", "mail", "quit", "rcpt", "resolve", "rset", "silent",
        "starttls", "tls",
    )  # fmt: skip

    def __init__(self, *, connect: float = 30, ceiling: float | None = None, resolve: float = 20, quit: float = 5) -> None:
        most = ceiling if ceiling is not None else 3600.0
        self.resolve = resolve  # getaddrinfo (hard-parts.md, Speaking SMTP)
        self.connect = connect
        self.greeting = min(most, 300)  # RFC 5321 4.5.3.2.1
        self.silent = min(most, 30)  # a greeting on port 465 without TLS: it will not come, say so early
        self.ehlo = min(most, 300)
        self.starttls = min(most, 300)
        self.tls = min(most, 60)  # the TLS handshake itself
        self.auth = min(most, 180)  # RFC 4954 4: server side allows three minutes
        self.mail = min(most, 300)  # RFC 5321 4.5.3.2.2
        self.rcpt = min(most, 300)  # RFC 5321 4.5.3.2.3
        self.data = min(most, 120)  # RFC 5321 4.5.3.2.4
        self.block = min(most, 180)  # RFC 5321 4.5.3.2.5, one block of the message leaving
        self.final = min(most, 600)  # RFC 5321 4.5.3.2.6
        self.rset = min(most, 300)
        self.quit = min(most, quit)  # politeness, not protocol: the mail is already safe
