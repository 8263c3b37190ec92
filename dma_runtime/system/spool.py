"""The spool: how a message is born and how it is read.

    SPOOLDIR/       0700, owned by whoever owns the queue
      queue/<id>    line 1: the envelope, padded; then the message with LF line ends; immutable
      log/<id>      the attempt log (system.ledger), appears with the first event
      tmp/          only where O_TMPFILE is not to be had
      lock  control  owner      (system.ownership)

**Accepted means: `queue/<id>` exists and its directory is synced.** Birth, in this order: write a file without a name,
sync it, link it into `queue/` (exclusively), sync the directory. Before the link a failure leaves nothing behind; from
the link on the submitter never unlinks, and a failed directory sync is exit 75 with "may have been queued".

Where O_TMPFILE or /proc is not to be had the file is born as `tmp/<id>.N`, locked to the end, linked, then unlinked; never
renamed, for that would overwrite.

Failures are CannotSpool: 73 for what will not pass by itself, 75 for what may. Semantics are at least once.
Limits: line 1 at most 64 MB. This file is on the submit path: built-in modules only.
"""

from __future__ import annotations

import errno
import time

from dma_runtime import posixos as os
from dma_runtime.envelope import Envelope, beginning, decode, encode, reserved
from dma_runtime.errors import EX_CANTCREAT, EX_TEMPFAIL, BrokenMessage, CannotSpool, ConfigError
from dma_runtime.system import clock
from dma_runtime.system.fs import O_TMPFILE, REAL, FileSystem, let_go, sync_directory, sync_open_directory, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dma_runtime.system.stored import StoredMessage

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, in the order of ASCII
_BUFFER = 1 << 18  # a message smaller than this is written with its envelope in one call
_FIRST_READ = 4096
_WHOLE = 16384  # a message that ends before this is read at once and its file closed
_LINE_LIMIT = 1 << 26

_LASTING = (
    errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EROFS, errno.ENAMETOOLONG, errno.ENOENT,
)  # fmt: skip
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


def new_id(now: float, dice: Callable[[int], bytes]) -> str:
    """An id that sorts by time and cannot be guessed: 10 digits of milliseconds, 8 of chance. `dice` is os.urandom."""
    number = max(0, int(now * 1000)) << 40 | int.from_bytes(dice(5), "big")
    return "".join(_DIGITS[number >> shift & 31] for shift in range(85, -5, -5))


def is_id(text: str) -> bool:
    """Whether `text` can be a message's id: it is used as a file's name."""
    return 0 < len(text) <= 200 and text.isascii() and text.isalnum() and text == text.lower()


def cannot(error: OSError, where: str, doing: str = "write") -> CannotSpool:
    """The CannotSpool for what the kernel refused."""
    status = EX_CANTCREAT if error.errno in _LASTING else EX_TEMPFAIL
    return CannotSpool(f"can not {doing} the spool {where}: {error.strerror or error}", status)


def _need_directory(found: os.stat_result) -> None:
    if found.st_mode & 0o170000 != 0o040000:  # S_ISDIR, without the stat module
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory")


class Spool:
    """A spool directory. Cheap to make: nothing is looked at before it is used."""

    def __init__(self, path: str, fs: FileSystem = REAL) -> None:
        self.path = path
        self.fs = fs
        self.queue = path + "/queue"
        self.log = path + "/log"
        self.tmp = path + "/tmp"  # below SPOOLDIR

    # ------------------------------------------------------------ making it

    def prepare(self, *, own_only: bool) -> list[str]:
        """Make what is missing. Returns warnings. Raises CannotSpool, and ConfigError when `own_only` and not the caller's.

        `lock` is made last, after everything above it was synced: where it exists, the directories are durable.
        """
        warnings: list[str] = []
        try:
            self._check_owner(own_only, warnings)
            for part in (self.queue, self.log, self.tmp):
                _need_directory(self.fs.lstat(part))
            self.fs.lstat(self.path + "/lock")
            return warnings
        except FileNotFoundError:
            pass
        except OSError as error:
            raise cannot(error, self.path, "use") from None
        try:
            self._make(self.path, parents=True)
            self._check_owner(own_only, warnings)
            for part in (self.queue, self.log, self.tmp):
                self._make(part)
            self._sync_upwards()
            self.fs.close(self.fs.open(self.path + "/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise cannot(error, self.path, "make") from None
        return warnings

    def _check_owner(self, own_only: bool, warnings: list[str]) -> None:
        found = self.fs.stat(self.path)
        _need_directory(found)
        uid = os.geteuid()
        if found.st_uid != uid:
            if own_only:
                raise ConfigError(self.path, 0, f"SPOOLDIR belongs to uid {found.st_uid}, not to you; name one of your own")
            if uid == 0:
                # Links inside could make root write elsewhere (hard-parts.md, Submitting).
                text = f"can not use the spool {self.path}: it belongs to uid {found.st_uid}, and root does not write there"
                raise CannotSpool(text, EX_CANTCREAT)
        if found.st_mode & 0o077:
            self.fs.chmod(self.path, 0o700)
            if found.st_mode & 0o022:
                warnings.append(f"{self.path}: SPOOLDIR was writable by others (mode {found.st_mode & 0o777:o}), now 700")

    def _make(self, path: str, parents: bool = False) -> None:
        try:
            self.fs.mkdir(path, 0o700)
        except FileExistsError:
            return
        except FileNotFoundError:
            above = path.rpartition("/")[0]
            if not parents or not above:
                raise
            self._make(above, parents=True)
            self._make(path)

    def _sync_upwards(self) -> None:
        """Sync the spool's directory and those above it that may have been made with it, by us or by one that died."""
        sync_directory(self.fs, self.path)
        uid = os.geteuid()
        above = self.path
        while above := above.rpartition("/")[0]:
            try:
                mine = self.fs.stat(above).st_uid == uid
                sync_directory(self.fs, above)
            except PermissionError:
                return  # what we may not read, we did not make
            if not mine:
                return

    # ------------------------------------------------------------ birth

    def draft(self, envelope: Envelope) -> Draft:
        """A message being written, without a name yet. `envelope` may lack the numbers known only after the body.

        Raises CannotSpool. An envelope without an id is given one. The caller must `commit` or `discard`.
        """
        if not envelope.id:
            envelope.id = new_id(time.time(), os.urandom)
        try:
            fd, name = self._birth(envelope.id)
        except OSError as error:
            raise cannot(error, self.path) from None
        return Draft(self, envelope, fd, name)

    def _birth(self, id: str) -> tuple[int, str]:
        """(descriptor, path below tmp/ or "" for a file without a name)."""
        if O_TMPFILE:
            try:
                fd = self.fs.open(self.path, O_TMPFILE | os.O_RDWR, 0o600)
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
            else:
                try:
                    self.fs.lstat("/proc/self/fd")
                except OSError:
                    self.fs.close(fd)  # without /proc the file could never be given a name
                else:
                    return self._private(fd), ""
        fd, name = self._birth_with_name(id)
        try:
            self.fs.lock(fd)  # held to the end: the sweeper leaves locked files alone
            return self._private(fd), name
        except OSError:
            self.fs.unlink(name)
            raise

    def _birth_with_name(self, id: str) -> tuple[int, str]:
        tries = 0
        while True:
            name = f"{self.tmp}/{id}.{tries}"
            try:
                return self.fs.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), name
            except FileExistsError:  # an id that is derived, and a process that died on the same step
                tries += 1
                if tries > 100:
                    raise

    def _private(self, fd: int) -> int:
        try:
            self.fs.fchmod(fd, 0o600)  # whatever the caller's umask
        except OSError:
            self.fs.close(fd)
            raise
        return fd

    # ------------------------------------------------------------ reading

    def ids(self) -> list[str]:
        """All messages, oldest first. Raises OSError."""
        return sorted(name for name in self.fs.listdir(self.queue) if is_id(name))

    def there(self, id: str) -> bool:
        """Whether the queue has a file of this name at present. Raises nothing: what nobody can tell may be there."""
        try:
            self.fs.lstat(f"{self.queue}/{id}")
        except FileNotFoundError:
            return False
        except OSError:
            pass
        return True

    def holds(self, id: str) -> bool:
        """Whether the queue has this message, whole or not; when it has, the name is durable now. Raises OSError."""
        try:
            self.fs.lstat(f"{self.queue}/{id}")
        except FileNotFoundError:
            return False
        sync_directory(self.fs, self.queue)  # who linked it may have died before this
        return True

    def read(self, id: str) -> Envelope:
        """The envelope alone. Raises BrokenMessage, FileNotFoundError, OSError."""
        fd = self._open(id)
        try:
            return self._envelope(fd, id, self.fs.pread(fd, _FIRST_READ, 0))[0]
        finally:
            self.fs.close(fd)

    def open(self, id: str, known: Envelope | None = None) -> StoredMessage:
        """The message. Its envelope, when the caller has it, is not parsed again.

        Raises BrokenMessage (also when it is not whole), FileNotFoundError, OSError.
        """
        from dma_runtime.system.stored import StoredMessage  # who submits does not need it

        fd = self._open(id)
        try:
            head = self.fs.pread(fd, _WHOLE, 0)
            envelope, offset = self._envelope(fd, id, head, known)
            if offset + envelope.size == len(head) < _WHOLE:
                self.fs.close(fd)
                return StoredMessage(self.fs, envelope, -1, offset, head)
            there = self.fs.fstat(fd).st_size - offset
            if there != envelope.size:
                raise BrokenMessage(f"{there} bytes of {envelope.size} are there")
        except BaseException:
            self.fs.close(fd)
            raise
        return StoredMessage(self.fs, envelope, fd, offset)

    def _open(self, id: str) -> int:
        if not is_id(id):
            raise FileNotFoundError(errno.ENOENT, "No such message", id)
        try:
            # A FIFO of that name must not make anybody wait for its other end.
            fd = self.fs.open(f"{self.queue}/{id}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BrokenMessage("it is a link") from None
            raise
        if self.fs.fstat(fd).st_mode & 0o170000 != 0o100000:
            self.fs.close(fd)
            raise BrokenMessage("it is not a file")
        return fd

    def _envelope(self, fd: int, id: str, data: bytes, known: Envelope | None = None) -> tuple[Envelope, int]:
        """(envelope, offset of the message). `data`: what the file begins with."""
        end = data.find(b"\n")
        if known is not None and end >= 0 and data.startswith(beginning(known)):
            return known, end + 1
        while end < 0:
            more = self.fs.pread(fd, max(_FIRST_READ, len(data)), len(data))
            if not more or len(data) > _LINE_LIMIT:
                raise BrokenMessage("line 1 has no end")
            end = more.find(b"\n")
            end += len(data) if end >= 0 else 0
            data += more
        envelope = decode(data[:end])
        if envelope.id != id:
            raise BrokenMessage(f"the envelope is that of {envelope.id[:200]}")
        return envelope, end + 1


class Draft:
    """A message being written. Keeps its size, has_8bit, has_nul and longest_line. Ends by `commit` or `discard`."""

    def __init__(self, spool: Spool, envelope: Envelope, fd: int, name: str) -> None:
        self.spool = spool
        self.size = 0
        self.has_8bit = False
        self.has_nul = False
        self.longest_line = 0
        self._id = envelope.id
        self._fd = fd
        self._name = name
        self._reserved = reserved(envelope)
        self._waiting: list[bytes] = []  # not yet handed to the kernel
        self._buffered = 0
        self._flushed = False
        self._settled = False
        self._line = 0  # length so far of the line that has not ended

    def write(self, data: bytes) -> None:
        """Append bytes of the message, LF line ends. Raises CannotSpool."""
        if not data:
            return
        self.size += len(data)
        if not self.has_8bit and not data.isascii():
            self.has_8bit = True
        if not self.has_nul and b"\0" in data:
            self.has_nul = True
        self._measure(data)
        self._waiting.append(data)
        self._buffered += len(data)
        if self._buffered >= _BUFFER:
            self._flush()

    def _measure(self, data: bytes) -> None:
        first = data.find(b"\n")
        if first < 0:
            self._line += len(data)
            self.longest_line = max(self.longest_line, self._line)
            return
        lines = data.split(b"\n")
        self.longest_line = max(self.longest_line, self._line + first, max(map(len, lines[1:])))
        self._line = len(lines[-1])

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        try:
            write_all(self.spool.fs, self._fd, data, self._reserved + self.size - len(data))
        except OSError as error:
            raise cannot(error, self.spool.path) from None
        self._waiting = []
        self._buffered = 0
        self._flushed = True

    def settle(self, envelope: Envelope) -> None:
        """Write all of it down and sync it, with the numbers the draft kept filled into `envelope`: only its name is missing
        then. `commit` does it where nobody did. Raises CannotSpool."""
        if envelope.id != self._id:
            raise ValueError("a draft keeps the id it was made with")
        if self._settled:
            return
        if not envelope.boot:
            clock.stamp(envelope)
        envelope.size = self.size
        envelope.has_8bit = self.has_8bit
        envelope.has_nul = self.has_nul
        envelope.longest_line = self.longest_line
        fs = self.spool.fs
        try:
            line = encode(envelope, self._reserved)
            # A short message goes down with its envelope in one write.
            write_all(fs, self._fd, line if self._flushed else b"".join((line, *self._waiting)), 0)
            if self._flushed and self._waiting:
                self._flush()
            fs.fsync(self._fd)
        except OSError as error:
            raise cannot(error, self.spool.path) from None
        self._settled = True

    def commit(self, envelope: Envelope) -> str:
        """Make the message safe; returns its id.

        Raises CannotSpool; with status 75 and "may have been queued" when only the last sync failed. Raises FileExistsError
        when the id is in the queue already, and durable: for an id derived from another message's, that is success.
        The draft is closed in every case.
        """
        fs = self.spool.fs
        directory = -1
        try:
            self.settle(envelope)
            directory = fs.open(self.spool.queue, os.O_RDONLY | os.O_DIRECTORY)
            self._publish(directory)
        except FileExistsError:
            raise
        except OSError as error:
            raise cannot(error, self.spool.path) from None
        finally:
            if directory >= 0:
                let_go(fs, directory)
            self.discard()
        return self._id

    def _publish(self, directory: int) -> None:
        """Link the synced file into the queue and sync that. `directory` is the open queue/."""
        fs = self.spool.fs
        target = f"{self.spool.queue}/{self._id}"
        try:
            if self._name:
                fs.link(self._name, target)
            else:
                fs.link_open(self._fd, target)
        except FileExistsError:
            sync_open_directory(fs, directory)  # who linked it may have died before this
            raise
        try:
            sync_open_directory(fs, directory)
        except OSError as error:
            text = f"the message may have been queued as {self._id}: can not sync {self.spool.queue}: {error.strerror}"
            raise CannotSpool(text, EX_TEMPFAIL) from None
        # From here on the mail is safe.

    def discard(self) -> None:
        """Let go of the file; what was not committed is gone. Never raises; may be called again."""
        fs = self.spool.fs
        fd, self._fd = self._fd, -1
        self._waiting = []
        if fd < 0:
            return
        try:
            if self._name:
                fs.unlink(self._name)
        except OSError:
            pass  # the ledger's sweep finds it
        let_go(fs, fd)
