"""What a change of a file would take from somebody: ours before, theirs, ours now.

A file that setup wrote and somebody edited since is changed again only with a word about it: lines that were theirs and
go, and lines they took out that come back. Of a file that is not of our making every line that goes is theirs.
Rules only; lines are compared as wholes, and blank ones do not count.
"""

from __future__ import annotations

from collections import Counter


def lost(ours: list[str] | None, theirs: list[str], now: list[str]) -> tuple[list[str], list[str]]:
    """(lines of theirs that go, lines they took out that come back). `ours`: what we left there, None when it is not ours."""
    before = Counter(ours or [])
    there, then = Counter(theirs), Counter(now)
    goes = [line for line in dict.fromkeys(theirs) if line.strip() and there[line] > before[line] and then[line] < there[line]]
    if ours is None:
        return goes, []
    back = [line for line in dict.fromkeys(ours) if line.strip() and there[line] < before[line] and then[line] > there[line]]
    return goes, back


def sentence(subject: str, goes: list[str], back: list[str], *, is_ours: bool) -> str:
    """The same in words, "" when nothing is lost."""
    if not goes and not back:
        return ""
    if not is_ours:
        return f"{subject} was here before; of it goes {_several(goes)} (undo brings it back)"
    parts = [f"{_several(goes)} goes"] if goes else []
    parts += [f"{_several(back)} comes back"] if back else []
    return f"{subject} was changed since dma-setup wrote it: {', '.join(parts)}"


def _several(lines: list[str]) -> str:
    shown = [f"`{line.strip()[:60]}`" for line in lines[:3]]
    more = len(lines) - len(shown)
    return ", ".join(shown) + (f" and {more} more line{'s' if more > 1 else ''}" if more else "")
