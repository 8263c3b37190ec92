"""The clocks of this machine, read together. What they mean is decided in `history` and `policy.retry`.

This file is on the submit path: built-in modules only.
"""

from __future__ import annotations

import time

from dma_runtime import posixos as os
from dma_runtime.envelope import Envelope, Moment

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def now() -> Moment:
    """A reading of all clocks."""
    return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic(), _boot())


def stamp(envelope: Envelope) -> None:
    """Note in the envelope which boot it was accepted in and how far in: its age can then be told whatever the wall clock
    does. Left out when it was not accepted in this boot: taken over from elsewhere, or a clock gone wrong.
    """
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    ago = time.time() - envelope.accepted_at
    if 0 <= ago <= up:
        envelope.up = up - ago
        envelope.boot = _boot()


def _boot() -> str:
    """A name for this boot of the machine; "" where the kernel gives none. It does not change while we run."""
    global _known  # read once a process
    if _known is None:
        try:
            fd = os.open(BOOT_ID, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            _known = ""
        else:
            try:
                _known = os.read(fd, 8).decode("ascii", "replace")  # of a UUID: 32 bits tell boots apart
            except OSError:
                _known = ""
            finally:
                os.close(fd)
    return _known


_known: str | None = None
