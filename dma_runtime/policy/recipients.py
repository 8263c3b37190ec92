"""Who a message goes to: the addresses asked for, through aliases, to those the envelope names.

Rules (interface.md, section 8; C dma dma.c:164-262):
- `user@localhost` and `user@MAILNAME` are the local `user`, whatever the case, if there is such a user or alias. Else
  `user@MAILNAME` goes to the smarthost if there is one.
- A local name goes through the aliases. What is left is delivered here if it is the queue's owner; with NULLCLIENT it
  becomes `name@MAILNAME` and goes to the smarthost; for anybody else there must be another mail agent on this machine.
- With LOCALONLY an address of another machine is refused.
- Each address once, compared without case in the domain.

A recipient that cannot be accepted is in the answer all the same, with `refused` saying why: the caller decides whether
anybody good is left. Pure: accounts and files are arguments. Built-in modules only.
"""

from __future__ import annotations

from dma_runtime import address
from dma_runtime.envelope import Recipient
from dma_runtime.errors import EX_DATAERR, EX_NOHOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.aliases import Aliases
    from dma_runtime.config import Config

NOT_HERE = "no such user here"
NOT_OURS = "this queue delivers to its owner only, and there is no other mail system to take it"
NOTHING_LEAVES = "mail for other machines is switched off here (LOCALONLY)"
NOTHING_STAYS = "mail for this machine is switched off here (DELIVERY REMOTEONLY)"
NO_PIPES = "commands and files in aliases are switched off"


class Resolver:
    """`account(name)`: the login a name means, "" if none. `deliverable(name)`: we can get mail to it.
    `aliases()`: the aliases, read when first needed. `include(path)`: a file's text, or OSError."""

    def __init__(
        self,
        config: Config,
        mailname: str,
        *,
        account: Callable[[str], str],
        deliverable: Callable[[str], bool],
        aliases: Callable[[], Aliases],
        include: Callable[[str], str],
    ) -> None:
        self.config = config
        self.mailname = mailname
        self.account = account
        self.deliverable = deliverable
        self.aliases = aliases
        self.include = include
        self.problems: list[str] = []  # of the aliases, for the log

    def resolve(self, asked: list[str]) -> list[Recipient]:
        """The envelope's recipients, in order, for addresses that `address.fault` found nothing wrong with."""
        found: dict[tuple[str, str], Recipient] = {}
        for original in asked:
            for recipient in self._one(original):
                local, domain = address.split(recipient.address)
                known = found.setdefault((local, domain.lower()), recipient)
                if known.refused and not recipient.refused:
                    found[local, domain.lower()] = recipient
        return list(found.values())

    def status(self, refused: list[Recipient]) -> int:
        """The exit status when nobody was accepted."""
        return EX_NOHOST if all(r.refused == NOTHING_LEAVES for r in refused) else EX_DATAERR

    def own(self, whole: str) -> str:
        """The local name of an address of this machine, "" for any other address."""
        local, domain = address.split(whole)
        return local if domain.lower() in ("", "localhost", self.mailname.lower()) else ""

    def _one(self, original: str) -> list[Recipient]:
        name = self.own(original)
        if not name:
            return [self._remote(original, original)]
        aliases = self.aliases()
        targets, problems = aliases.expand(name, self.include, self.own)
        self.problems += problems
        recipients = []
        for target in targets:
            if target.kind == "local":
                # Only the address as it was asked for may still mean somebody elsewhere with our domain.
                asked_for = original if target.text == name else target.text
                recipients.append(self._local(target.text, asked_for, original))
            elif target.kind == "address":
                recipients.append(self._remote(target.text, original))
            else:
                sign = "|" if target.kind == "pipe" else ""
                recipients.append(Recipient(original, original, f"{NO_PIPES}: {sign}{target.text}"))
        return recipients

    def _remote(self, whole: str, original: str) -> Recipient:
        return Recipient(whole, original, NOTHING_LEAVES if self.config.nothing_leaves else "")

    def _local(self, name: str, asked_for: str, original: str) -> Recipient:
        if self.config.NULLCLIENT:
            return self._remote(f"{name}@{self.mailname}", original)
        login = self.account(name)
        if login and self.deliverable(login):
            return Recipient(login, original, NOTHING_STAYS if self.config.DELIVERY == "REMOTEONLY" else "")
        domain = address.split(asked_for)[1]
        if domain and domain.lower() != "localhost" and self.config.SMARTHOST is not None:
            return self._remote(asked_for, original)
        if not login and self.deliverable(name):
            return Recipient(name, original)
        return Recipient(name, original, NOT_OURS if login else NOT_HERE)
