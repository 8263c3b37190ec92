"""The hands of setup: files, commands, the lock. They decide nothing.

Every change to the machine goes through a `System`, so that tests can fail or interrupt any one of them. A file is
replaced by writing a temporary one beside it, syncing, and renaming: at every moment the old or the new is there, whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import subprocess
from dataclasses import dataclass, field

from dma_setup.errors import SetupError

FILE = "file"
LINK = "link"
DIRECTORY = "directory"
OTHER = "other"

LEFTOVER = re.compile(r"\.dma-setup\.[0-9a-f]{12}")  # of what is made beside its place, before the renaming


@dataclass(frozen=True)
class Entry:
    """What lies at a path. `content`: a file's bytes or a link's target. `uid`/`gid` -1: whoever makes it."""

    kind: str
    content: bytes = field(default=b"", repr=False)  # may be a secret
    mode: int = 0
    uid: int = -1
    gid: int = -1

    def same(self, other: Entry | None) -> bool:
        """Whether both say the same where both say something."""
        if other is None or (self.kind, self.content) != (other.kind, other.content):
            return False
        if self.kind != LINK and self.mode != other.mode:
            return False
        owned = (self.uid, self.gid), (other.uid, other.gid)
        return all(-1 in pair or pair[0] == pair[1] for pair in zip(*owned, strict=True))


@dataclass(frozen=True)
class Ran:
    """A command's exit status and what it printed."""

    status: int
    output: str
    errors: str


class System:
    hidden: frozenset[str] = frozenset()  # variables of our environment that no program we run is given

    def hide(self, name: str) -> None:
        """The variable `name` holds a secret."""
        self.hidden |= {name}

    def look(self, path: str) -> Entry | None:
        """What is at `path`, not following a link; None when nothing is."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SetupError(f"{path}: {error.strerror}") from None
        mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
        if stat.S_ISLNK(found.st_mode):
            return Entry(LINK, os.fsencode(os.readlink(path)), 0, *owner)
        if stat.S_ISDIR(found.st_mode):
            return Entry(DIRECTORY, b"", mode, *owner)
        if not stat.S_ISREG(found.st_mode):
            return Entry(OTHER, b"", mode, *owner)
        try:
            with open(path, "rb") as file:
                return Entry(FILE, file.read(), mode, *owner)
        except OSError as error:
            raise SetupError(f"{path} cannot be read: {error.strerror}") from None

    def listing(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    # ------------------------------------------------------------ changes

    def put_file(self, path: str, entry: Entry) -> None:
        """Make or replace a file, atomically and synced, with its mode and owner from the first moment it is visible."""
        folder = os.path.dirname(path)
        temporary = self._temporary(folder)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                left = memoryview(entry.content)
                while left:
                    left = left[os.write(fd, left) :]
                self._own(fd, entry)
                os.fchmod(fd, entry.mode)
                self._label(path, fd)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except BaseException:
            self._forget(temporary)
            raise
        self._sync(folder)

    def put_link(self, path: str, target: bytes) -> None:
        folder = os.path.dirname(path)
        temporary = self._temporary(folder)
        os.symlink(target, os.fsencode(temporary))
        try:
            os.rename(temporary, path)
        except BaseException:
            self._forget(temporary)
            raise
        self._sync(folder)

    def make_directory(self, path: str, mode: int, uid: int = -1, gid: int = -1) -> None:
        """With its mode and owner from the first moment it is visible, as a file."""
        folder = os.path.dirname(path)
        temporary = self._temporary(folder)
        os.mkdir(temporary, 0o700)
        try:
            fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._own(fd, Entry(DIRECTORY, b"", mode, uid, gid))
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)  # rename(2) would take an empty one's place
            os.rename(temporary, path)
        except BaseException:
            self._forget(temporary)
            raise
        self._sync(folder)

    def set_mode(self, path: str, entry: Entry) -> None:
        """Mode and owner of an existing directory."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._own(fd, entry)
            os.fchmod(fd, entry.mode)
        finally:
            os.close(fd)

    def remove(self, path: str) -> None:
        os.unlink(path)
        self._sync(os.path.dirname(path))

    def remove_directory(self, path: str) -> None:
        """Raises OSError when something is in it."""
        os.rmdir(path)
        self._sync(os.path.dirname(path))

    def run(self, words: list[str], given: str = "", seconds: float = 20, environment: dict[str, str] | None = None) -> Ran:
        """Run a command to its end. A missing program or one that takes too long is a Ran with status 127 or 124."""
        try:
            done = subprocess.run(
                words,
                input=given,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
                env=self._environment() if environment is None else environment,
            )
        except subprocess.TimeoutExpired:
            return Ran(124, "", f"{words[0]} gave no answer in {seconds:g} s")
        except OSError as error:
            return Ran(127, "", f"{words[0]}: {error.strerror}")
        return Ran(done.returncode, done.stdout, done.stderr)

    def run_as(self, uid: int, gid: int, words: list[str], seconds: float = 20) -> Ran:
        """As `run`, but as another account, in / and without any environment. Only root can do that."""
        try:
            done = subprocess.run(
                words,
                input="",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
                env={},
                cwd="/",
                user=uid,
                group=gid,
                extra_groups=[],
            )
        except subprocess.TimeoutExpired:
            return Ran(124, "", f"{words[0]} gave no answer in {seconds:g} s")
        except OSError as error:
            return Ran(127, "", f"{words[0]}: {error.strerror}")
        return Ran(done.returncode, done.stdout, done.stderr)

    # ------------------------------------------------------------ the small parts

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name not in self.hidden}

    def sweep(self, folder: str) -> None:
        """Remove what a run that was killed left half written in `folder`; it may hold a password. The caller has the lock."""
        for name in self.listing(folder):
            if LEFTOVER.fullmatch(name):
                self._forget(os.path.join(folder, name))

    def sweep_around(self, *paths: str) -> None:
        """`sweep` beside each of these: a path, and the directories above it that were made for it."""
        for path in paths:
            self.sweep(os.path.dirname(path))

    @staticmethod
    def _temporary(folder: str) -> str:
        return os.path.join(folder, ".dma-setup." + secrets.token_hex(6))

    @staticmethod
    def _own(fd: int, entry: Entry) -> None:
        if (entry.uid, entry.gid) != (-1, -1):
            found = os.fstat(fd)
            wanted = tuple(want if want >= 0 else have for want, have in ((entry.uid, found.st_uid), (entry.gid, found.st_gid)))
            if wanted != (found.st_uid, found.st_gid):
                os.fchown(fd, *wanted)

    @staticmethod
    def _label(path: str, fd: int) -> None:
        """What the file that is replaced was labelled with stays: its SELinux type, by which others may read it."""
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError:
            return  # it is new, or the file system knows none
        for name in names:
            if name == "security.selinux" or name.startswith("user."):
                try:
                    os.setxattr(fd, name, os.getxattr(path, name, follow_symlinks=False))
                except OSError:
                    continue

    @staticmethod
    def _forget(path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            os.rmdir(path)

    @staticmethod
    def _sync(folder: str) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Lock:
    """One setup at a time for a place: a flock on `PATH`, let go by the kernel however the process ends."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise SetupError(f"another dma-setup is at work here{f' (process {holder})' if holder else ''}") from None
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # a full disk; the number is only told to whoever comes meanwhile

    def release(self) -> None:
        os.close(self._fd)
