"""A tenure: take the spool's lock, serve, give it back, and look once more for what came in meanwhile.

The last look is what makes hand-over safe: a submitter who found the lock taken and nobody listening relies on it
(hard-parts.md, Spool, "Who owns it").
"""

from __future__ import annotations

import asyncio
import time

from dma_runtime.config import Config
from dma_runtime.delivery.owner import Owner
from dma_runtime.delivery.runs import Goal
from dma_runtime.system.maillog import MailLog
from dma_runtime.system.ownership import NO_ANSWER, PATIENCE, Ownership, ask
from dma_runtime.system.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dma_runtime.delivery.owner import Attendant


def hold(
    spool: Spool,
    config: Config,
    log: MailLog,
    goal: Goal,
    *,
    trace: Callable[[str], None] | None = None,
    attendants: Sequence[Attendant] = (),
) -> Owner | None:
    """Own the spool until the goal is reached. None when somebody else owns it; else the last owner, with its queue.

    Raises ConfigError for an unsound configuration, CannotSpool, OSError.
    """
    served: Owner | None = None
    while (ownership := Ownership.take(spool)) is not None:
        try:
            owner = Owner(ownership, spool, config, log, trace=trace, attendants=attendants)
            asyncio.run(owner.serve(goal))
            served = owner
        finally:
            ownership.release()
        if owner.lost and (goal.resident or attendants):
            spool.prepare(own_only=config.user_mode)
            served = None  # not before the spool that is there now is ours
            continue
        known = owner.queue.items.keys() | owner.queue.broken.keys()
        if owner.stopping or owner.lost or owner.foreign or not set(spool.ids()) - known:
            break
        # Something came in between the last look and the release: nobody else may know of it.
        goal = Goal(resident=goal.resident, once=goal.once, run=goal.once, due_only=True)
    return served


def request(
    spool: Spool,
    config: Config,
    log: MailLog,
    question: dict[str, object],
    *,
    timeout: float,
    start: Callable[[], None],
) -> dict[str, object]:
    """One request of `delivery.control`, answered by the owner, or, when nobody owns the spool, by one we are meanwhile.

    `start` starts an owner; called when something waits after we were the owner: whoever spooled meanwhile took us for one
    who serves. Raises what `hold` raises, and TimeoutError when the owner does not answer, or somebody keeps the lock and
    never listens.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if (ownership := Ownership.take(spool)) is not None:
            try:
                owner = Owner(ownership, spool, config, log)
                answer = asyncio.run(owner.answer_once(question))
            finally:
                ownership.release()
            known = owner.queue.items.keys() | owner.queue.broken.keys()
            if owner.queue.unfinished or set(spool.ids()) - known:
                start()
            return answer
        if (answer_of_owner := ask(spool, question, timeout=timeout)) is not None:
            return answer_of_owner
    raise TimeoutError(NO_ANSWER)
