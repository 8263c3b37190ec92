"""Who a message goes to: the addresses asked for, through aliases, to those the envelope names.

Rules (interface.md, section 8; C dma dma.c:164-262):
- `user@localhost` and `user@MAILNAME` are the local `user`, whatever the case, if there is such a user or alias. Else
  `user@MAILNAME` goes to the smarthost if there is one.
- A local name goes through the aliases, and who is left through his `.forward` (`policy.expansion`). What is left then is
  delivered here if it is the queue's owner; with NULLCLIENT it becomes `name@MAILNAME` and goes to the smarthost; for
  anybody else there must be another mail agent on this machine.
- `\\user` is the mailbox of `user` itself: no aliases, no `.forward` (sendmail's way to say it).
- Commands and files only with PIPES, and from files that nobody else may write; /dev/null always. In system mode no files of
  the aliases, and a refusal says whose `.forward` it is and not what is in it.
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
    from dma_runtime.policy.expansion import Destination

NOT_HERE = "no such user here"
NOT_OURS = "this queue delivers to its owner only, and there is no other mail system to take it"
NOTHING_LEAVES = "mail for other machines is switched off here (LOCALONLY)"
NOTHING_STAYS = "mail for this machine is switched off here (DELIVERY REMOTEONLY)"
NO_PIPES = "commands and files in aliases are switched off"
NO_FILES_HERE = "files in aliases are for queues of one's own (user mode)"
NOBODY_LEFT = "the alias has no destination"


def identity_of(recipient: Recipient) -> tuple[str, str]:
    """What makes two recipients one: the address, the domain without case. A command or file is taken as it stands."""
    if " " in recipient.address and recipient.address.startswith(("|", ">")):
        return recipient.address, ""
    local, domain = address.split(recipient.address)
    return local, domain.lower()


class Resolver:
    """`account(name)`: the login a name means, "" if none. `deliverable(name)`: we can get mail to it.
    `aliases()`: the aliases, read when first needed. `include(path)`: a file's text, or OSError. `forward(login)`: the text
    of a user's .forward, None when there is none to use. `distrust(path)`: why commands in that file are not run, "" when
    they are. `owners`: after `resolve`, who gets the failures of a recipient, by its `identity_of`."""

    def __init__(
        self,
        config: Config,
        mailname: str,
        *,
        account: Callable[[str], str],
        deliverable: Callable[[str], bool],
        aliases: Callable[[], Aliases],
        include: Callable[[str], str],
        forward: Callable[[str], str | None] = lambda _: None,
        distrust: Callable[[str], str] = lambda _: "",
    ) -> None:
        self.config = config
        self.mailname = mailname
        self.account = account
        self.deliverable = deliverable
        self.aliases = aliases
        self.include = include
        self.forward = forward
        self.distrust = distrust
        self.problems: list[str] = []  # of the aliases, for the log
        self.owners: dict[tuple[str, str], str] = {}

    def resolve(self, asked: list[str]) -> list[Recipient]:
        """The envelope's recipients, in order, for addresses that `fault` found nothing wrong with."""
        found: dict[tuple[str, str], Recipient] = {}
        self.owners = {}
        for original in asked:
            for recipient, owner in self._one(original):
                key = identity_of(recipient)
                known = found.get(key)
                if known is None or (known.refused and not recipient.refused):
                    found[key] = recipient
                    self.owners[key] = owner
        return list(found.values())

    def status(self, refused: list[Recipient]) -> int:
        """The exit status when nobody was accepted."""
        return EX_NOHOST if all(r.refused == NOTHING_LEAVES for r in refused) else EX_DATAERR

    def fault(self, whole: str) -> str:
        """What is wrong with an address that is asked for, "" when nothing is."""
        past_aliases = whole.startswith("\\") and self.own(whole[1:])
        return address.fault(whole[1:] if past_aliases else whole)

    def own(self, whole: str) -> str:
        """The local name of an address of this machine, "" for any other address."""
        local, domain = address.split(whole)
        return local if domain.lower().removesuffix(".") in ("", "localhost", self.mailname.lower()) else ""

    def _one(self, original: str) -> list[tuple[Recipient, str]]:
        """The recipients that an address means, each with its owner."""
        if original.startswith("\\"):
            plain = original[1:]
            return [(self._local(self.own(plain), plain, plain), "")]
        name = self.own(original)
        if not name:
            return [(self._remote(original, original), "")]
        from dma_runtime.policy.expansion import Expansion  # mail for other machines has no need of it

        expansion = Expansion(
            self.aliases(), include=self.include, own=self.own, forward=self._forward, shared=self.config.by_socket
        )
        ends = expansion.of(name)
        self.problems += expansion.problems
        if not ends:
            return [(Recipient(original, original, NOBODY_LEFT), "")]
        return [(self._end(end, name, original), end.owner) for end in ends]

    def _end(self, end: Destination, name: str, original: str) -> Recipient:
        from dma_runtime.aliases import ADDRESS, LOCAL
        from dma_runtime.policy.expansion import BROKEN

        if end.kind == LOCAL:
            # Only the address as it was asked for may still mean somebody elsewhere with our domain.
            return self._local(end.text, original if end.text == name else end.text, original)
        if end.kind == ADDRESS:
            return self._remote(end.text, original)
        if end.kind == BROKEN:
            return Recipient(original, original, end.text)
        return self._run(end, original)

    def _run(self, end: Destination, original: str) -> Recipient:
        """A command or a file."""
        from dma_runtime.aliases import FILE, PIPE, as_address

        sign = "|" if end.kind == PIPE else ""
        what = f"the .forward of {end.user}" if end.user and self.config.by_socket else f"{sign}{end.text}"
        why = ""
        if end.kind == FILE and end.text == "/dev/null":
            pass
        elif self.config.DELIVERY == "REMOTEONLY":
            why = NOTHING_STAYS
        elif not self.config.PIPES:
            why = f"{NO_PIPES}: {what}"
        elif self.config.by_socket and end.kind == FILE and not end.user:
            why = f"{NO_FILES_HERE}: {what}"
        elif end.source and (reason := self.distrust(end.source)):
            why = f"{what}: {reason}"
        return Recipient(original if why else as_address(end.kind, end.text, end.user), original, why)

    def _forward(self, name: str) -> tuple[str, str] | None:
        """(login, text) of the .forward of somebody whose mail is delivered here."""
        login = "" if self.config.NULLCLIENT else self.account(name)
        text = self.forward(login) if login and self.deliverable(login) else None
        return None if text is None else (login, text)

    def _remote(self, whole: str, original: str) -> Recipient:
        # RFC 5321 2.3.5 knows no dot at the end, and some servers refuse one.
        whole = whole.removesuffix(".") if address.split(whole)[1] else whole
        return Recipient(whole, original, NOTHING_LEAVES if self.config.nothing_leaves else "")

    def _local(self, name: str, asked_for: str, original: str) -> Recipient:
        if self.config.NULLCLIENT:
            return self._remote(f"{name}@{self.mailname}", original)
        login = self.account(name)
        if login and self.deliverable(login):
            return Recipient(login, original, NOTHING_STAYS if self.config.DELIVERY == "REMOTEONLY" else "")
        domain = address.split(asked_for)[1]
        if domain and domain.lower().removesuffix(".") != "localhost" and self.config.SMARTHOST is not None:
            return self._remote(asked_for, original)
        if not login and self.deliverable(name):
            return Recipient(name, original)
        return Recipient(name, original, NOT_OURS if login else NOT_HERE)
