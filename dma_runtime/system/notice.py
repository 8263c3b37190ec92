"""The operator's notices beside the queue: the file `SPOOLDIR/notices`, so that they outlive the owner.

Rules:
- Written by the owner alone, replaced atomically; the file is there only while something stands. Read by `mailq`,
  `dma-queue`, `dma-setup doctor`, and by `sendmail` when its standard error is a terminal.
- Nothing here raises for a file system's sake: a notice that cannot be kept (a full disk) was logged all the same, and a
  file that cannot be read, or is no JSON, is no notice. So nothing is synced either.

Read on a terminal's way into `sendmail`: built-in modules only; json is imported when there is something to read.
"""

from __future__ import annotations

import os

from dma_runtime.policy import telling
from dma_runtime.policy.telling import Notice

NAME = "notices"
_LIMIT = 1 << 20  # bytes; a file that is larger is not ours


def current(spool_path: str) -> list[Notice]:
    """The notices that stand. Never raises."""
    try:
        fd = os.open(f"{spool_path}/{NAME}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        data = b""
        while len(data) < _LIMIT and (more := os.read(fd, 65536)):
            data += more
    except OSError:
        return []
    finally:
        os.close(fd)
    return _parse(data) if data else []


def _parse(data: bytes) -> list[Notice]:
    import json

    try:
        listed = json.loads(data)
    except ValueError:
        return []
    found = []
    for item in listed if isinstance(listed, list) else []:
        if not isinstance(item, dict):
            continue
        words = [item.get(name) for name in ("subject", "kind", "cause", "remedy")]
        since = item.get("since")
        if all(isinstance(word, str) for word in words) and isinstance(since, (int, float)):
            subject, kind, cause, remedy = (str(word) for word in words)
            found.append(Notice(subject, kind, cause, remedy, float(since)))
            found[-1].mailed = item.get("mailed") is True
    return found


def raise_(spool_path: str, notice: Notice) -> bool:
    """Let `notice` stand; True when it is news, which is then to be logged. For the owner only."""
    standing, news = telling.raised(current(spool_path), notice)
    if news:
        _write(spool_path, standing)
    return news


def withdraw(spool_path: str, subjects: list[str]) -> bool:
    """The cause is gone; True when something stood. Cheap when nothing does. For the owner only."""
    standing = current(spool_path)
    left = telling.withdrawn(standing, subjects)
    if len(left) == len(standing):
        return False
    _write(spool_path, left)
    return True


def mark_mailed(spool_path: str, subjects: list[str]) -> None:
    """Root has a letter about these. For the owner only."""
    standing = current(spool_path)
    for notice in standing:
        notice.mailed = notice.mailed or notice.subject in subjects
    _write(spool_path, standing)


def keep(spool_path: str, subject: str, notice: Notice | None) -> bool:
    """Raise `notice`, or withdraw what stands for `subject` when it is None. True when it is news to be logged."""
    if notice is None:
        withdraw(spool_path, [subject])
        return False
    return raise_(spool_path, notice)


def say(spool_path: str, program: str, now: float) -> bool:
    """Write the standing notices to standard error; True when there were some."""
    standing = current(spool_path)
    text = "".join(f"{program}: {line}\n" for line in telling.lines(standing, now))
    if text:
        try:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass
    return bool(text)


def _write(spool_path: str, standing: list[Notice]) -> None:
    import json

    path = f"{spool_path}/{NAME}"
    try:
        if not standing:
            os.unlink(path)
            return
        listed = [{name: getattr(notice, name) for name in Notice.__slots__} for notice in standing]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path + ".new", flags, 0o600)
        try:
            os.write(fd, json.dumps(listed, indent=1).encode("ascii"))
        finally:
            os.close(fd)
        os.rename(path + ".new", path)
    except OSError:
        pass
