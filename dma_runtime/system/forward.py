"""Reading a user's `.forward`, when nobody but the user or root can have written it.

Rules (sendmail's, without its DontBlameSendmail):
- A regular file with one name, not through a link, of the user or root, not writable by group or others; so is the home
  directory it lies in, and every directory above that (one with the sticky bit, such as /tmp, counts as not writable).
- At most LARGEST bytes. A FIFO does not make anybody wait.

To be called as that user (hard-parts.md, System mode). Built-in modules only: in user mode it is on the submit path of mail
for the owner.
"""

from __future__ import annotations

import stat

from dma_runtime import posixos as os

LARGEST = 1 << 13  # bytes; as JSON it fits a frame, whatever is in it
NAME = ".forward"


def read(home: str, uid: int) -> tuple[str | None, str]:
    """(text, ""), or (None, why it is not used), or (None, "") when there is none. Raises OSError when nobody can say."""
    path = f"{home}/{NAME}"
    try:
        directory = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    try:
        try:
            fd = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            return None, f"{path}: {error.strerror}"
        try:
            if why := _unsafe_directory(directory, uid) or _unsafe_file(fd, uid):
                return None, f"{path} is not used: {why}"
            data = b""
            while piece := os.read(fd, LARGEST + 1 - len(data)):
                data += piece
            if len(data) > LARGEST:
                return None, f"{path} is not used: larger than {LARGEST} bytes"
            return data.decode("utf-8", "surrogateescape"), ""
        finally:
            os.close(fd)
    finally:
        os.close(directory)


def _unsafe_file(fd: int, uid: int) -> str:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        return "not a regular file with one name"
    if found.st_uid not in (uid, 0):
        return f"it belongs to uid {found.st_uid}"
    return "others can write it" if found.st_mode & 0o022 else ""


def _unsafe_directory(fd: int, uid: int) -> str:
    """Why somebody else could have put a file there, from the directory up to the root; "" when nobody could."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    while True:
        found = os.stat(path)
        if found.st_uid not in (uid, 0):
            return f"{path} belongs to uid {found.st_uid}"
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            return f"others can write {path}"
        if path == "/":
            return ""
        path = os.dirname(path)
