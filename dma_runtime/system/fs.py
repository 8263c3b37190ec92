"""The seam to the file system: every call the spool makes goes through one object.

`REAL` passes each call to the kernel and decides nothing; tests put another object in its place, which loses power,
fills the disk or reorders who runs next. All calls raise OSError as the kernel says it. Descriptors are close-on-exec.
This file is on the submit path: built-in modules only.
"""

from __future__ import annotations

import errno

from dma_runtime import posixos as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import socket

# Linux's; not every Python has the name.
O_TMPFILE: int = getattr(os, "O_TMPFILE", 0)


class FileSystem:
    """The calls the spool is made of, as the kernel has them."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, fd: int, length: int) -> bytes:
        return os.read(fd, length)

    def pread(self, fd: int, length: int, at: int) -> bytes:
        return os.pread(fd, length, at)

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        """Bytes written, which may be fewer than given."""
        return os.pwrite(fd, data, at)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def ftruncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def fchmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)

    def lstat(self, path: str) -> os.stat_result:
        return os.lstat(path)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def link_open(self, fd: int, target: str) -> None:
        """Give the open, nameless file `fd` a name; FileExistsError when it is taken."""
        # Python calls linkat() with AT_SYMLINK_FOLLOW only when a directory is given; without, link() says EXDEV.
        # The source is absolute, so which descriptor is given does not matter.
        os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def lock(self, fd: int) -> bool:
        """Take the exclusive flock without waiting; False when another holds it."""
        import fcntl

        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self, fd: int) -> None:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_UN)

    def listen(self, directory: str, name: str) -> socket.socket:
        """A listening stream socket (non-blocking, 0600) bound at `directory`/`name`, however long the path."""
        import socket  # only an owner listens; the submit path never gets here

        at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            bell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                os.fchmod(bell.fileno(), 0o600)  # Linux: the mode bind() gives the name, before anybody can connect
                bell.bind(f"/proc/self/fd/{at}/{name}")  # sun_path ends at 108 bytes
                bell.listen(1024)
                bell.setblocking(False)
            except OSError:
                bell.close()
                raise
            return bell
        finally:
            os.close(at)

    def connect(self, directory: str, name: str, timeout: float) -> _socket.socket:
        """A stream connected to `directory`/`name`; `timeout` in seconds holds for each later call too, 0 never waits."""
        import _socket

        at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            caller = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            try:
                caller.settimeout(timeout)
                caller.connect(f"/proc/self/fd/{at}/{name}")
            except OSError:
                caller.close()
                raise
            return caller
        finally:
            os.close(at)


REAL = FileSystem()


def sync_directory(fs: FileSystem, path: str) -> None:
    """Make the names in directory `path` durable. Raises OSError."""
    fd = fs.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_open_directory(fs, fd)
    finally:
        let_go(fs, fd)


def sync_open_directory(fs: FileSystem, fd: int) -> None:
    """As `sync_directory`, for a directory that is open already."""
    try:
        fs.fsync(fd)
    except OSError as error:
        # A few file systems (FUSE, 9p) cannot sync a directory and say so: there is nothing better to be had there.
        if error.errno != errno.EINVAL:
            raise


def let_go(fs: FileSystem, fd: int) -> None:
    """Close what is synced, or not wanted: an error that comes so late changes nothing. Never raises."""
    try:
        fs.close(fd)
    except OSError:
        pass


def write_all(fs: FileSystem, fd: int, data: bytes, at: int) -> None:
    """Write the whole of `data` at offset `at`. Raises OSError; part of it may then be written."""
    done = fs.pwrite(fd, data, at)
    while done < len(data):
        done += fs.pwrite(fd, data[done : done + (1 << 20)], at + done)
