"""What a server said it can do, from its reply to EHLO. Forgotten and read anew after STARTTLS (RFC 3207 4.2).

Unknown keywords are ignored; keywords ignore case; a parameter that makes no sense is as if it were absent.
Follows RFC 5321 4.1.1.1, RFC 1870, 2920, 3030, 3207, 3461, 4954, 6152, 6531, 8689, 9422.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.smtp.reply import Reply


class Capabilities:
    """`size` is the largest message in bytes, 0 for no stated limit, None where SIZE is not offered.

    Limits are 0 when unstated.
    """

    __slots__ = (
        "_binarymime", "chunking", "dsn", "eightbitmime", "enhanced", "mailmax", "mechanisms", "names", "pipelining",
        "rcptdomainmax", "rcptmax", "requiretls", "size", "smtputf8", "starttls",
    )  # fmt: skip

    def __init__(self, reply: Reply | None = None) -> None:
        """From the reply to EHLO; without one (before EHLO, after HELO) nothing is offered."""
        offered: dict[str, list[str]] = {}
        mechanisms: list[str] = []
        for words in reply.words[1:] if reply is not None else ():
            parts = words.upper().split()
            if not parts:
                continue
            keyword, arguments = parts[0], parts[1:]
            if keyword.startswith("AUTH="):  # the form before RFC 2554; Exchange and others send both
                keyword, arguments = "AUTH", [keyword[5:], *arguments]
            if keyword == "AUTH":
                mechanisms += [m for m in arguments if m not in mechanisms]
            offered[keyword] = arguments
        self.names = tuple(offered)
        self.mechanisms = tuple(mechanisms)
        self.pipelining = "PIPELINING" in offered
        self.chunking = "CHUNKING" in offered
        self._binarymime = "BINARYMIME" in offered
        self.eightbitmime = "8BITMIME" in offered
        self.smtputf8 = "SMTPUTF8" in offered
        self.dsn = "DSN" in offered
        self.enhanced = "ENHANCEDSTATUSCODES" in offered
        self.starttls = "STARTTLS" in offered
        self.requiretls = "REQUIRETLS" in offered
        self.size = _number(offered["SIZE"][0]) if offered.get("SIZE") else (0 if "SIZE" in offered else None)
        limits = dict(part.partition("=")[::2] for part in offered.get("LIMITS", ()))  # RFC 9422 3
        self.mailmax = _number(limits.get("MAILMAX", ""))
        self.rcptmax = _number(limits.get("RCPTMAX", ""))
        self.rcptdomainmax = _number(limits.get("RCPTDOMAINMAX", ""))

    @property
    def binarymime(self) -> bool:
        return self._binarymime and self.chunking  # RFC 3030 3: BINARYMIME needs CHUNKING

    def __repr__(self) -> str:
        return f"Capabilities({' '.join(self.names)})"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
