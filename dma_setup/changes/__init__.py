"""One kind of change a module. A `Change` is immutable and can show itself, apply itself and take itself back.

The very objects that are shown are applied; a run that plans only (`--check`) differs in nothing but stopping there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dma_setup.errors import SetupError

if TYPE_CHECKING:
    from dma_setup.system import System

# What taking back a change came to.
RESTORED = "restored"
NOTHING = "nothing"  # it was not there to take back
CHANGED = "changed"  # somebody changed it since; left as it is
KEPT = "kept"  # it holds something (mail, other people's files); left as it is
FAILED = "failed"


@dataclass(frozen=True)
class TakenBack:
    """`result` is one of the words above, `text` what to say, `diff` what differs when it was changed since."""

    result: str
    text: str = ""
    diff: str = ""


class NotApplied(SetupError):
    """A change could not be made; the machine is as before this change."""


class Keeper:
    """Where a change puts the old thing so that `undo` can find it. The journal is the real one."""

    def keep(self, name: str, content: bytes, *, is_secret: bool = False) -> None:
        """Store old content in the journal; what holds a password goes into the keyring if there is one."""
        raise NotImplementedError

    def kept(self, name: str) -> bytes | None:
        """What `keep` stored under that name."""
        raise NotImplementedError


class Change:
    """What all kinds have.

    subject: the file or thing; `says`: a few words on what it will be; `sign`: + new, ~ different, - gone, = right already.
    optional: a failure is a warning and the others go on. drains: needed to empty the queue, so undo keeps it while
    mail waits. last: made when all others are made and proved, for what takes away an old copy of the password.
    """

    kind = ""
    subject: str
    says: str
    optional: bool = False
    drains: bool = False
    last: bool = False

    @property
    def sign(self) -> str:
        raise NotImplementedError

    @property
    def is_needed(self) -> bool:
        return self.sign != "="

    @property
    def replaces(self) -> bool:
        """Something of somebody else's is replaced: the default answer to "Apply?" is then No."""
        return False

    def diff(self) -> str:
        """A unified diff without secrets, "" where there is nothing to compare."""
        return ""

    def apply(self, system: System) -> None:
        """Make the change, or raise and leave nothing of it behind."""
        raise NotImplementedError

    def take_back(self, system: System) -> TakenBack:
        """Put back what was there before. Safe to call whether or not `apply` got through, and twice."""
        raise NotImplementedError

    def record(self, keeper: Keeper, number: int) -> dict[str, Any]:
        """The change as JSON, for the journal; old content goes through `keeper`. Holds no secret."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """The change as JSON for `--json`."""
        return {"sign": self.sign, "subject": self.subject, "says": self.says}


_READERS: dict[str, Callable[[dict[str, Any], Keeper, int], Change]] = {}


def reader(
    kind: str,
) -> Callable[[Callable[[dict[str, Any], Keeper, int], Change]], Callable[[dict[str, Any], Keeper, int], Change]]:
    """Register how a kind of change is read back from a journal."""

    def register(read: Callable[[dict[str, Any], Keeper, int], Change]) -> Callable[[dict[str, Any], Keeper, int], Change]:
        _READERS[kind] = read
        return read

    return register


def from_record(record: dict[str, Any], keeper: Keeper, number: int) -> Change:
    for module in ("account", "command", "oldqueue", "path", "secret", "tree"):
        importlib.import_module(f"dma_setup.changes.{module}")  # they register themselves
    return _READERS[str(record["kind"])](record, keeper, number)
