"""How much one user of the machine may ask of its daemon (hard-parts.md, System mode, "Limits with numbers").

    at once     20 conversations            root: 200
    a minute    60 messages, 60 questions   root: 600 each
    -q          once a minute               root: as often as it likes
    the spool   25 % of it, bytes and files root: all of it
    a message   1,000 recipients            root: 10,000

A conversation counts from connecting to closing, a message when its request has been read, whether it is accepted or not.
The spool is what is queued plus the room that is left; what is on its way in counts like what is queued, and a message
counts as whole blocks of the disk: a user's share is no more messages for being empty ones.

Recipients are those that are asked for; a list in the aliases may have more. Each costs the daemon memory and time, at every
attempt.

Each answer is "" for yes, or the reason for people, which goes with exit status 75: all of it passes by itself, but for too
many recipients.
Pure: the time is an argument, in seconds that never go back.
Limit: a user with many uids (subuid) has the limits of each; MINFREE and the bound on all connections hold them together.
"""

from __future__ import annotations

from collections import deque

AT_ONCE = 20
A_MINUTE = 60
SHARE = 25  # percent
RECIPIENTS = 1000
_BLOCK, _ENVELOPE = 4096, 512  # bytes
ROOT = 10  # times as much
MINUTE = 60.0  # seconds

MESSAGE, QUESTION, RUN = "messages", "questions", "queue runs"


def on_disk(size: int) -> int:
    """The bytes that a message of `size` bytes takes in the spool, with its envelope."""
    return (size + _ENVELOPE + _BLOCK - 1) // _BLOCK * _BLOCK


def most_recipients(uid: int) -> int:
    """How many recipients one message of this user may ask for."""
    return RECIPIENTS * (ROOT if uid == 0 else 1)


class Limits:
    """One daemon's books. Memory: a few words for each user seen in the last minute."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}
        self._asked: dict[tuple[int, str], deque[float]] = {}
        self._swept = float("-inf")

    def enter(self, uid: int) -> str:
        """A conversation begins; when the answer is yes, `leave` is owed."""
        most = AT_ONCE * (ROOT if uid == 0 else 1)
        if self._open.get(uid, 0) >= most:
            return f"{most} programs of this user are handing in mail at this moment; try again later"
        self._open[uid] = self._open.get(uid, 0) + 1
        return ""

    def leave(self, uid: int) -> None:
        left = self._open[uid] - 1
        if left:
            self._open[uid] = left
        else:
            del self._open[uid]

    def open(self, uid: int) -> int:
        """Conversations of this user under way."""
        return self._open.get(uid, 0)

    def ask(self, uid: int, kind: str, now: float) -> str:
        """A MESSAGE, QUESTION or RUN is asked for; a yes is counted."""
        most = 1 if kind == RUN else A_MINUTE
        if uid == 0:
            if kind == RUN:
                return ""
            most *= ROOT
        self._sweep(now)
        times = self._asked.setdefault((uid, kind), deque())
        while times and now - times[0] >= MINUTE:
            times.popleft()
        if len(times) >= most:
            wait = int(MINUTE - (now - times[0])) + 1
            return f"more than {most} {kind if most > 1 else kind[:-1]} a minute from this user; try again in {wait} s"
        times.append(now)
        return ""

    def store(self, uid: int, size: int, mine: int, spool: int) -> str:
        """`size` bytes more, where this user has `mine` in a spool that could hold `spool`, queued and free together."""
        if uid != 0 and mine + size > spool * SHARE // 100:
            return f"{mine >> 20} MB of this user are queued, and {SHARE} % of the spool are {spool * SHARE // 100 >> 20} MB"
        return ""

    def keep(self, uid: int, mine: int, files: int) -> str:
        """One message more, where this user has `mine` in a spool that could hold `files`, queued and free together."""
        if uid != 0 and mine + 1 > files * SHARE // 100:
            return f"{mine} messages of this user are queued, and {SHARE} % of the files that the spool can hold"
        return ""

    def _sweep(self, now: float) -> None:
        """Forget who has not been here for a minute."""
        if now - self._swept < MINUTE:
            return
        self._swept = now
        for key in [key for key, times in self._asked.items() if not times or now - times[-1] >= MINUTE]:
            del self._asked[key]
