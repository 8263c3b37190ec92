"""What the operator has to see to, as long as it stands: told once, kept beside the queue (`system.notice`), withdrawn when
mail flows or nobody has to see to it any more. What is told and in which words is `policy.telling`'s.
"""

from __future__ import annotations

from dma_runtime.outcome import DELIVERED, Outcome
from dma_runtime.policy import telling
from dma_runtime.system import notice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.delivery.queue import Queue
    from dma_runtime.system.maillog import MailLog


class Standing:
    """`wall`: the wall clock."""

    def __init__(self, spool_path: str, log: MailLog, wall: Callable[[], float]) -> None:
        self._path = spool_path
        self._log = log
        self._wall = wall
        self._any = bool(notice.current(spool_path))  # so that a delivery need not look at the file

    def raise_(self, found: telling.Notice | None) -> None:
        """Let it stand; what is news is logged."""
        if found is None:
            return
        self._any = True
        if notice.raise_(self._path, found):
            self._log.operator(telling.log_line(found))

    def withdraw(self, subjects: list[str]) -> None:
        if self._any:
            notice.withdraw(self._path, subjects)
            self._any = bool(notice.current(self._path))

    def heard(self, outcome: Outcome, where: str, sender: str = "", address: str = "") -> None:
        """What an attempt came to. The operator hears of what needs somebody, and no more of it when mail flows.

        `where`: the relay's name in the log, "" for a mailbox.
        """
        if outcome.kind != DELIVERED:
            self.raise_(telling.of_outcome(outcome, where, self._wall(), sender=sender, address=address))
        elif self._any:
            self.withdraw(telling.flowing(where, sender=sender, address=address))

    def hop_is_down(self, name: str, outcome: Outcome) -> None:
        """One host of several takes no mail; the others are used meanwhile."""
        self.raise_(telling.of_outcome(outcome, _among_others(name), self._wall()))

    def hop_works(self, name: str) -> None:
        if self._any:
            self.withdraw(telling.flowing(_among_others(name)))

    def look(self, queue: Queue, named: Callable[[], set[str]], waited_for: Callable[[], set[str]]) -> None:
        """Mail that waits for more than a day, and what is kept as failed, is told; what nobody has to see to any more is
        withdrawn. To be called when the whole queue is known. `named`: relays that the configuration names; `waited_for`: the
        subjects of notices that mail in the queue waits for, for which the whole queue is gone through.
        """
        now = self._wall()
        waiting = [item.envelope.accepted_at for item in queue.items.values() if item.state.open]
        kept = sum(1 for item in queue.items.values() if not item.state.open) + len(queue.broken)
        for subject, found in (
            (telling.AGE, telling.of_age(min(waiting, default=None), now)),
            (telling.STUCK, telling.of_stuck(kept, now)),
        ):
            if found is not None:
                self.raise_(found)
            else:
                self.withdraw([subject])
        if self._any:
            standing = notice.current(self._path)
            relays = named()
            # Few notices make it worth while to go through the whole queue.
            if telling.outlived(standing, relays, set()):
                self.withdraw(telling.outlived(standing, relays, waited_for()))


def _among_others(name: str) -> str:
    """How the operator is told of a host that has others beside it. Mail flows, so the relay's own notice would not
    stand."""
    return f"{name} (others are used meanwhile)"
