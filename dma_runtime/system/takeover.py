"""The spool that C dma left: its queue is moved into ours, with the age of each message.

C dma keeps, flat in its SPOOLDIR, for each recipient a pair (docs/compatibility.md, section 5):

    Q<inode>.<pointer>    ID:, Sender:, Recipient:; locked by flock while a process of C dma works on it; its mtime is
                          when the message was accepted
    M<inode>.<pointer>    the message with LF line ends; the pairs of one submission are hard links to one file

A pair is taken over in this order: open both without following links, lock Q without waiting, see that the name is still
that file, write our message and make it safe, unlink Q, unlink M; at the end the directory is synced. Our id derives from
Q's name and mtime, so that after a crash at any step the next run finds what the last one did and goes on: nothing is
lost, nothing is doubled. That holds because nothing is delivered from our queue before this returns.

- Q is locked: a C dma lives and works on it. It is left; `Found.busy` counts it, come again.
- What is not whole (a Q that C dma could not read either, no M, an M of another owner, a link), and an address with a
  control character, is left where it is and named in `Found.problems`. An M without Q is removed only if our queue has
  its message: then it is a crash of ours.
- `tmp_*` are submissions in progress and never touched, nor is `flush`.

Raises CannotSpool (no room) and OSError (the directory cannot be read); what was taken over by then is safe.
Limits: a Q file of 64 KB.
"""

from __future__ import annotations

import hashlib
import os
import stat

from dma_runtime import address
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.message.intake import Intake
from dma_runtime.system import identity
from dma_runtime.system.fs import REAL, sync_directory
from dma_runtime.system.spool import Spool, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dma_runtime.system.fs import FileSystem

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_HEX = frozenset("0123456789abcdef")
_LIMIT = 65536
_CHUNK = 1 << 17


class Found:
    """What a run met. taken: ids in our queue. busy: pairs that a living C dma holds. problems: one line each."""

    __slots__ = ("busy", "problems", "taken")

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.busy = 0
        self.problems: list[str] = []


class _Left(Exception):
    """This pair stays; the text says why."""


def waits(directory: str, fs: FileSystem) -> bool:
    """Whether C dma left anything in `directory`. Cheap: one look at its names. Never raises."""
    try:
        return any(_is_pair(name) for name in fs.listdir(directory))
    except OSError:
        return False


def said(directory: str, fs: FileSystem = REAL) -> str:
    """What a listing says of mail that C dma left in `directory` and no owner took over yet, "" when there is none or nobody
    may look."""
    try:
        count = sum(1 for name in fs.listdir(directory) if name[0] == "Q" and _is_pair(name))
    except OSError:
        return ""
    if not count:
        return ""
    return f"C dma left mail here that is not in this queue yet ({count} to deliver); `dma-queue adopt' takes it over"


def take_over(spool: Spool, directory: str = "") -> Found:
    """Move what C dma left in `directory`, by default SPOOLDIR itself, into `spool`, which is prepared.

    Only who holds the spool's lock may call this, before delivering anything. See the module's docstring.
    """
    directory = directory or spool.path
    found = Found()
    names = sorted(name for name in spool.fs.listdir(directory) if _is_pair(name))
    for name in names:
        if name[0] == "Q":
            try:
                _pair(spool, directory, name, found)
            except _Left as left:
                found.problems.append(f"{directory}/{name}: {left}")
            except OSError as error:
                found.problems.append(f"{directory}/{name}: can not be taken over: {error.strerror or error}")
    alone = [name for name in names if name[0] == "M" and "Q" + name[1:] not in names]
    if alone:
        _without_queue_file(spool, directory, alone, found)
    if names:
        # One sync for all: until it is done nothing is delivered, and a Q that comes back without its M finds our message.
        # After it no power loss can bring back what has been delivered meanwhile.
        sync_directory(spool.fs, directory)
    return found


def _is_pair(name: str) -> bool:
    """`Q` or `M`, then two hexadecimal numbers with a dot between."""
    first, dot, second = name[1:].partition(".")
    return name[:1] in ("Q", "M") and bool(first and dot and second) and _HEX.issuperset(first + second) and len(name) < 100


def _pair(spool: Spool, directory: str, name: str, found: Found) -> None:
    fs, queue_file, message_file = spool.fs, f"{directory}/{name}", f"{directory}/M{name[1:]}"
    try:
        fd = fs.open(queue_file, _FLAGS)
    except FileNotFoundError:
        return  # delivered since
    except OSError as error:
        raise _Left(f"can not be opened: {error.strerror}") from None
    try:
        about = fs.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise _Left("is not a regular file")
        if not fs.lock(fd):
            found.busy += 1
            return
        if not _still_there(fs, queue_file, about):
            return  # C dma delivered it before we had the lock
        envelope = _envelope(name, about, _whole(fs, fd))
        if not spool.holds(envelope.id):
            _copy(spool, message_file, envelope, about.st_uid)
        try:
            fs.unlink(queue_file)
        except OSError:
            # The mail is still C dma's. Kept in both queues it would be sent again by each owner to come.
            _unlink(fs, f"{spool.queue}/{envelope.id}")
            sync_directory(fs, spool.queue)
            raise
        found.taken.append(envelope.id)
        _unlink(fs, message_file)
    finally:
        fs.close(fd)


def _still_there(fs: FileSystem, path: str, about: os.stat_result) -> bool:
    try:
        now = fs.lstat(path)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (about.st_dev, about.st_ino)


def _whole(fs: FileSystem, fd: int) -> bytes:
    data = b""
    while len(data) <= _LIMIT and (more := fs.pread(fd, _LIMIT, len(data))):
        data += more
    if len(data) > _LIMIT:
        raise _Left("is too long for a queue file")
    return data


def _envelope(name: str, about: os.stat_result, text: bytes) -> Envelope:
    """The envelope that C dma would have read (spool.c, readqueuef). Raises _Left."""
    fields: dict[str, str] = {}
    lines = text.split(b"\n")
    if lines.pop():
        raise _Left("malformed queue file: its last line has no end")
    for line in lines:
        field, colon, value = line.decode("utf-8", "surrogateescape").partition(":")
        if not colon:
            raise _Left("malformed queue file: a line without a colon")
        fields[field] = value.lstrip(" \t")
    for needed in ("ID", "Recipient"):
        if not fields.get(needed):
            raise _Left(f"malformed queue file: no {needed}")
    if "Sender" not in fields:
        raise _Left("malformed queue file: no Sender")
    # `-f ''` meant the null sender; C dma made `@MAILNAME` of it (dma.c:98-162).
    sender = "" if fields["Sender"].startswith("@") else fields["Sender"]
    if address.CONTROL in (address.fault(sender), address.fault(fields["Recipient"])):
        # C dma let a caller write them; in our queue no address has any: it is said to relays and shown on terminals.
        raise _Left(address.CONTROL)
    accepted_at = about.st_mtime_ns / 1e9
    envelope = Envelope(_id(name, about.st_mtime_ns), sender, [Recipient(fields["Recipient"])], accepted_at)
    envelope.uid = about.st_uid
    envelope.login = identity.login_name(about.st_uid, {})
    return envelope


def _id(name: str, mtime: int) -> str:
    """Our id for a pair: the same each time, sorted by age among ours, and another one when C dma uses the name again."""
    return new_id(mtime / 1e9, lambda count: hashlib.sha256(name[1:].encode()).digest()[:count])


def _copy(spool: Spool, path: str, envelope: Envelope, uid: int) -> None:
    """Write the message at `path` into the spool and make it safe."""
    fs = spool.fs
    try:
        fd = fs.open(path, _FLAGS)
    except OSError as error:
        raise _Left(f"its message M{path.rpartition('/M')[2]} can not be opened: {error.strerror}") from None
    try:
        about = fs.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise _Left("its message is not a regular file")
        if about.st_uid != uid:
            # One process writes both; a link to somebody else's file would have us send it.
            raise _Left(f"its message belongs to uid {about.st_uid}, it itself to uid {uid}")
        at = 0

        def read() -> bytes:
            nonlocal at
            chunk = fs.pread(fd, _CHUNK, at)
            at += len(chunk)
            return chunk

        intake = Intake(read, ignore_dots=True)
        header, first = _Header(), []
        while not header.settled and (chunk := intake.read()):
            header.see(chunk)
            first.append(chunk)
        envelope.message_id = header.message_id  # before the draft, which keeps room for it
        draft = spool.draft(envelope)
        try:
            for chunk in first:
                draft.write(chunk)
            del first
            while chunk := intake.read():
                draft.write(chunk)
            envelope.header_end = header.end if header.end >= 0 else draft.size
            if intake.bare_cr:
                draft.has_nul = True  # cannot travel as it is, no more than a NUL
            draft.commit(envelope)
        except FileExistsError:
            pass
        finally:
            draft.discard()
    finally:
        fs.close(fd)


class _Header:
    """The end of the header, -1 while it was not seen, and the Message-ID in it, from chunks of a message."""

    def __init__(self) -> None:
        self.end = -1
        self.message_id = ""
        self._seen = b""

    @property
    def settled(self) -> bool:
        """Its end was seen, or it is longer than any header."""
        return self.end >= 0 or len(self._seen) > 1 << 24

    def see(self, chunk: bytes) -> None:
        self._seen += chunk
        self.end = 0 if self._seen.startswith(b"\n") else self._seen.find(b"\n\n") + 1 or -1
        if self.end > 0:
            for line in self._seen[: self.end].split(b"\n"):
                if line[:11].lower() == b"message-id:":
                    self.message_id = line[11:].strip().decode("ascii", "replace")[:500]


def _without_queue_file(spool: Spool, directory: str, names: list[str], found: Found) -> None:
    """M files alone: ours to remove when a run died before it could, else somebody's to look at."""
    ours = {one[-8:] for one in spool.ids()}
    for name in names:
        if _id("Q" + name[1:], 0)[-8:] in ours:
            _unlink(spool.fs, f"{directory}/{name}")
        else:
            found.problems.append(f"{directory}/{name}: a message without its queue file, nobody knows for whom")


def _unlink(fs: FileSystem, path: str) -> None:
    try:
        fs.unlink(path)
    except FileNotFoundError:
        pass
