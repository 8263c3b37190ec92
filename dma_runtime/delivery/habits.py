"""What relays offer and do not keep: remembered, and they are served plainly.

Rules:
- A relay that does not know BDAT although it offered CHUNKING, or that falls out of step, is spoken to one command at a
  time for a day.
- One that talks nonsense, closes or goes silent in the middle of the first message of a session may only have been
  restarted: an hour.
- For this process. It may have been mended, and what is lost meanwhile is speed only.
"""

from __future__ import annotations

PROVED = 86400.0  # seconds
SUSPECTED = 3600.0


class Habits:
    """By (host, port). `now` is any clock that does not go back."""

    def __init__(self) -> None:
        self._plain: dict[tuple[str, int], float] = {}

    def broke(self, host: str, port: int, now: float, seconds: float) -> None:
        self._plain[host.lower(), port] = now + seconds

    def plain(self, host: str, port: int, now: float) -> bool:
        until = self._plain.get((host.lower(), port))
        if until is not None and until <= now:
            del self._plain[host.lower(), port]
            until = None
        return until is not None
