"""One question of a recipe, and what an answer to it may be.

Types: `text` `address` `recipient` (an address or a local name) `host` (host or host:port) `port` `yesno` `choice`
`fingerprint` `secret` `path`. `accept` turns what was given (typed text, or a value of an answers file) into the value
the plan uses, or raises `Refused` with a reason that fits behind "ID: ". A shape is a warning, never a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dma_runtime import config

SECRET = "secret"  # noqa: S105 the name of a type
TYPES = ("text", "address", "recipient", "host", "port", "yesno", "choice", "fingerprint", SECRET, "path")


class Refused(Exception):
    """An answer that cannot be used; the text says why."""


@dataclass(frozen=True)
class Shape:
    """What an answer usually looks like; `says` is the warning when it does not."""

    pattern: str
    says: str

    def fits(self, text: str) -> bool:
        return re.fullmatch(self.pattern, text) is not None


@dataclass(frozen=True)
class Default:
    """A default and where it comes from; both may hold `{{ … }}`."""

    value: str
    says: str


@dataclass(frozen=True)
class Question:
    id: str
    type: str
    ask: str
    help: str = ""
    choices: dict[str, str] = field(default_factory=dict)  # value -> what it means
    offered: dict[str, str] = field(default_factory=dict)  # value -> when a menu offers it; always, when not here
    defaults: tuple[Default, ...] = ()
    optional: bool = False  # an empty answer is an answer
    asked: bool = True  # False: the wizard takes the default without asking
    when: str = ""
    strip: str = ""  # "blanks": every Unicode blank is removed, as providers show app passwords in groups
    shape: Shape | None = None
    derive: str = ""  # what makes the password out of this secret (see `derive`); may hold {{ … }}

    @property
    def is_secret(self) -> bool:
        return self.type == SECRET

    def accept(self, given: Any) -> str:
        """The value as text ("" for an empty optional answer; yes/no for `yesno`). Raises Refused."""
        if self.type == "yesno":
            return _yesno(given)
        if isinstance(given, (bool, dict, list, float)):
            raise Refused(f"must be {_WHAT[self.type]}, not {_kind(given)}")
        if given is None:
            given = ""
        text = str(given)
        if any(not c.isprintable() and c != " " for c in text.strip()):
            raise Refused("holds a control character")
        text = "".join(text.split()) if self.strip == "blanks" else text.strip()
        if not text:
            if self.optional:
                return ""
            raise Refused("is empty")
        check = _CHECKS.get(self.type)
        if check is not None:
            return check(text)
        if self.type == "choice" and text not in self.choices:
            raise Refused(f"must be one of {', '.join(self.choices)}")
        return text

    def warning(self, text: str) -> str:
        """What looks wrong about an accepted answer, "" when nothing does."""
        return self.shape.says if self.shape is not None and text and not self.shape.fits(text) else ""


_WHAT = {
    "text": "text",
    "address": "a mail address",
    "recipient": "a mail address or a local name",
    "host": "a host name or host:port",
    "port": "a port number",
    "choice": "one of the choices",
    "fingerprint": "a SHA-256 fingerprint",
    "secret": "a reference such as {env: NAME}",
    "path": "an absolute path",
}


def _kind(given: Any) -> str:
    if isinstance(given, bool):
        return "true or false"
    return "a list" if isinstance(given, list) else "a mapping" if isinstance(given, dict) else "a number with a point"


def _yesno(given: Any) -> str:
    if isinstance(given, bool):
        return "yes" if given else "no"
    if isinstance(given, str) and given.strip().lower() in ("yes", "no", "y", "n", "true", "false"):
        return "yes" if given.strip().lower() in ("yes", "y", "true") else "no"
    raise Refused("must be true or false")


def _address(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain:
        raise Refused("is not a mail address (name@domain)")
    if any(c.isspace() or c in '<>()[],;:\\"|' for c in text) or "@" in local:
        raise Refused("is not a mail address (name@domain)")
    if domain.startswith((".", "-")) or domain.endswith((".", "-")) or ".." in domain:
        raise Refused(f"has no proper domain behind the @: {domain}")
    return text


def _recipient(text: str) -> str:
    if "@" in text:
        return _address(text)
    if any(c.isspace() or c in '<>()[],;:\\"|#/' for c in text):
        raise Refused("is neither a mail address nor a local name")
    return text


def _through(parse: Callable[[str], object]) -> Callable[[str], str]:
    """A check by one of dma.conf's own parsers, so that what is accepted here is understood there."""

    def check(text: str) -> str:
        try:
            parse(text)
        except config.BadValue as bad:
            raise Refused(str(bad)) from None
        return text

    return check


def _fingerprint(text: str) -> str:
    try:
        return config.fingerprint(text)
    except config.BadValue as bad:
        raise Refused(str(bad)) from None


def _port(text: str) -> str:
    try:
        return str(config.port(text))
    except config.BadValue as bad:
        raise Refused(str(bad)) from None


_CHECKS: dict[str, Callable[[str], str]] = {
    "address": _address,
    "recipient": _recipient,
    "host": _through(config.host),
    "port": _port,
    "path": _through(config.path),
    "fingerprint": _fingerprint,
}
