"""How far a session goes ahead of the replies: messages whose end is written and not answered, and bytes of their bodies.

Rules:
- Eight messages are what a loss may put in doubt on a session nothing is known of. At a round trip of 20 ms eight on each of
  four connections are 1,600 messages a second and no more, so each message the relay takes widens the window by one, up to
  MOST, and one that it does not take makes it narrow again.
- The next session to the relay begins where the last one came to (`delivery.habits`); a lost connection ends that.
- At any time at most BYTES of bodies.
"""

from __future__ import annotations

from dma_runtime.delivery.habits import Habits

FIRST = 8
MOST = 32
BYTES = 256 * 1024


class Window:
    """`messages`: how many may be ahead at present."""

    __slots__ = ("_habits", "_host", "_port", "messages")

    def __init__(self, host: str, port: int, habits: Habits) -> None:
        self._host = host
        self._port = port
        self._habits = habits
        self.messages = habits.window(host, port, FIRST)

    def has_room(self, messages: int, size: int) -> bool:
        """Whether another message may begin while so many, with so many bytes of bodies, are not answered."""
        return messages < self.messages and size < BYTES

    def taken(self) -> None:
        """The relay took a message."""
        if self.messages < MOST:
            self._set(self.messages + 1)

    def not_taken(self) -> None:
        """It did not, or the connection was lost."""
        if self.messages > FIRST:
            self._set(FIRST)

    def _set(self, messages: int) -> None:
        self.messages = messages
        self._habits.learnt(self._host, self._port, messages)
