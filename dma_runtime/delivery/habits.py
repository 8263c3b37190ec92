"""What is learnt of relays: those that do not keep what they offer are served plainly; those that take message after message
are trusted with more of them ahead of their replies.

Rules:
- A relay that does not know BDAT although it offered CHUNKING, or that falls out of step, is spoken to one command at a
  time for a day.
- One that talks nonsense, closes or goes silent in the middle of the first message of a session may only have been
  restarted: an hour.
- A window that grew on one session is where the next session to that relay begins, until a message is not taken there or a
  connection is lost.
- For this process. It may have been mended, and what is lost meanwhile is speed only.
"""

from __future__ import annotations

PROVED = 86400.0  # seconds
SUSPECTED = 3600.0


class Habits:
    """By (host, port). `now` is any clock that does not go back."""

    def __init__(self) -> None:
        self._plain: dict[tuple[str, int], float] = {}
        self._windows: dict[tuple[str, int], int] = {}

    def broke(self, host: str, port: int, now: float, seconds: float) -> None:
        self._plain[host.lower(), port] = now + seconds

    def plain(self, host: str, port: int, now: float) -> bool:
        until = self._plain.get((host.lower(), port))
        if until is not None and until <= now:
            del self._plain[host.lower(), port]
            until = None
        return until is not None

    def window(self, host: str, port: int, first: int) -> int:
        """How many messages may go ahead of their replies; `first` to a relay nothing is known of."""
        return self._windows.get((host.lower(), port), first)

    def learnt(self, host: str, port: int, window: int) -> None:
        self._windows[host.lower(), port] = window
