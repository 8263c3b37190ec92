"""Resource limits (setrlimit(2)) of a process that stays, which it has from whoever started it.

- No core dump: secrets pass through it.
- Room for descriptors, up to DESCRIPTORS.
- `all`: every limit is widened as far as it may be. Whose shell has a limit does not mean that for the mail of everybody who
  hands in more while this process delivers. What a supervisor has set is meant, and kept.

What a sandbox does not let us change, its own limits decide. Never raises.
"""

from __future__ import annotations

import resource
import sys

DESCRIPTORS = 4096
_OTHERS = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC)


def widen(*, all: bool) -> int:
    """Widen the limits of this process; how many descriptors it may have then."""
    _set(resource.RLIMIT_CORE, 0, 0)
    _raise(resource.RLIMIT_NOFILE, DESCRIPTORS)
    for which in _OTHERS if all else ():
        _raise(which, resource.RLIM_INFINITY)
    return _number(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _raise(which: int, wanted: int) -> None:
    soft, hard = resource.getrlimit(which)
    reachable = min(wanted, hard, key=_number)
    if _number(soft) < _number(reachable):
        _set(which, reachable, hard)


def _set(which: int, soft: int, hard: int) -> None:
    try:
        resource.setrlimit(which, (soft, hard))
    except (OSError, ValueError):
        pass


def _number(limit: int) -> int:
    """For comparing: no limit (-1) is the largest."""
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
