"""A pessimistic model of a disk behind the seam `dma_runtime.system.fs`: what may be left after the power goes.

Rules of the model, harsher than any real file system:

- File data not covered by an fsync of that file is lost, kept or torn, each write by itself: cut short, zeros in its place,
  zeros in its first half.
- Names not covered by an fsync of their directory survive in any combination: each addition and removal by itself.
- An fsync of a file does nothing for its name; one of a directory nothing for the data behind its names.

`Disk` is the state in the kernel (what running programs see) and on the platter; `Machine` is the FileSystem on it, which
can die before its Nth change. `Disk.outcomes()` gives every disk that may be found after the power is back.
"""

import errno
import itertools
import os
import stat as stat_module
import sys

from dma_runtime.system.fs import FileSystem


class PowerLost(BaseException):
    """The machine stops here."""


class Node:
    """A file or a directory: what programs see, what is safe, and what happened since."""

    counter = itertools.count(1)

    def __init__(self, mode):
        self.mode = mode
        self.number = next(Node.counter)
        self.links = 0
        self.seen = {} if stat_module.S_ISDIR(mode) else b""  # directory: name -> Node
        self.safe = {} if stat_module.S_ISDIR(mode) else b""
        self.since = []  # directory: (name, Node or None); file: ("write", at, data) or ("cut", length)

    @property
    def is_directory(self):
        return stat_module.S_ISDIR(self.mode)


def written(content, at, data):
    return content[:at].ljust(at, b"\0") + data + content[at + len(data) :]


def torn(data):
    """What may be found of one write: (offset in it, bytes)."""
    half = len(data) // 2
    found = [data, data[:half], data[:-1], b"\0" * len(data), b"\0" * half + data[half:]]
    return [None, *dict.fromkeys(found)]


def contents(node):
    """Every content the file may have after a power loss."""
    choices = [torn(change[2]) if change[0] == "write" else [False, True] for change in node.since]
    if len(choices) > 3:  # many writes: each of the first is there or not, only the last ones are torn
        choices = [[c[0], c[1]] for c in choices[:-2]] + choices[-2:]
    found = {}
    for chosen in itertools.product(*choices):
        content = node.safe
        for change, what in zip(node.since, chosen, strict=True):
            if change[0] == "cut":
                content = content[: change[1]].ljust(change[1], b"\0") if what else content
            elif what is not None:
                content = written(content, change[1], what)
        found[content] = None
    return list(found)


def namings(node):
    """Every set of names the directory may have after a power loss."""
    found = {}
    for kept in itertools.product((False, True), repeat=len(node.since)):
        names = dict(node.safe)
        for (name, child), keep in zip(node.since, kept, strict=True):
            if not keep:
                continue
            if child is None:
                names.pop(name, None)
            else:
                names[name] = child
        found[tuple(sorted((name, child.number) for name, child in names.items()))] = names
    return list(found.values())


class Disk:
    def __init__(self):
        self.root = Node(0o40755)

    def reachable(self, root_names=None):
        found, waiting = [], [self.root]
        while waiting:
            node = waiting.pop()
            if node in found:
                continue
            found.append(node)
            if node.is_directory:
                waiting += [child for _, child in node.since if child is not None]
                waiting += [*node.safe.values(), *node.seen.values()]
        return found

    def outcomes(self):
        """Every disk that may be found after a power loss now, without repetition."""
        known = set()
        nodes = self.reachable()
        dirty = [node for node in nodes if node.since]
        for chosen in itertools.product(*(namings(n) if n.is_directory else contents(n) for n in dirty)):
            state = dict(zip(dirty, chosen, strict=True))
            disk, copies = Disk(), {}
            disk.root = _copy(self.root, state, copies)
            key = disk.describe()
            if key not in known:
                known.add(key)
                yield disk

    def describe(self):
        """The platter as a value."""
        numbers = {}

        def see(node):
            if node.is_directory:
                return tuple((name, see(child)) for name, child in sorted(node.safe.items()))
            return (numbers.setdefault(node, len(numbers)), node.safe)

        return see(self.root)


def _copy(node, state, copies):
    if node in copies:
        return copies[node]
    made = copies[node] = Node(node.mode)
    found = state.get(node, node.safe)
    if node.is_directory:
        made.safe = {name: _copy(child, state, copies) for name, child in found.items()}
        made.seen = dict(made.safe)
        for child in made.seen.values():
            child.links += 1
    else:
        made.safe = made.seen = found
    return made


class Machine(FileSystem):
    """The calls of the seam on a Disk.

    dies_at: the number of the change (0 first) before which it stops. deaf: call sites whose fsync does nothing.
    sites: the call sites of every fsync made, as "module.function:line".
    """

    def __init__(self, disk, *, tmpfile=True, dies_at=None, deaf=()):
        self.disk = disk
        self.tmpfile = tmpfile
        self.dies_at = dies_at
        self.deaf = deaf
        self.sites = {}
        self.changes = 0
        self._files = {}
        self._numbers = itertools.count(3)

    # ------------------------------------------------------------ the model's own

    def _change(self):
        if self.changes == self.dies_at:
            raise PowerLost
        self.changes += 1

    def _find(self, path):
        node = self.disk.root
        for part in path.strip("/").split("/"):
            if not part:
                continue
            if not node.is_directory:
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
            if part not in node.seen:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            node = node.seen[part]
        return node

    def _place(self, path):
        above, _, name = path.rpartition("/")
        return self._find(above), name

    def _name(self, path, node):
        directory, name = self._place(path)
        if name in directory.seen:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        self._change()
        directory.seen[name] = node
        directory.since.append((name, node))
        node.links += 1

    def _stat(self, node):
        size = 0 if node.is_directory else len(node.seen)
        return os.stat_result((node.mode, node.number, 1, node.links, os.geteuid(), 0, size, 0, 0, 0))

    def _open(self, node):
        fd = next(self._numbers)
        self._files[fd] = node
        return fd

    # ------------------------------------------------------------ the seam

    def open(self, path, flags, mode=0o600):
        if self.tmpfile and flags & os.O_TMPFILE == os.O_TMPFILE:
            self._find(path)
            return self._open(Node(0o100000 | mode))
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        try:
            node = self._find(path)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            node = Node(0o100000 | mode)
            self._name(path, node)
        else:
            if flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, "File exists", path)
            assert not flags & os.O_TRUNC
        return self._open(node)

    def close(self, fd):
        del self._files[fd]

    def read(self, fd, length):
        raise NotImplementedError

    def pread(self, fd, length, at):
        return self._files[fd].seen[at : at + length]

    def pwrite(self, fd, data, at):
        self._change()
        node = self._files[fd]
        node.seen = written(node.seen, at, bytes(data))
        node.since.append(("write", at, bytes(data)))
        return len(data)

    def ftruncate(self, fd, length):
        self._change()
        node = self._files[fd]
        node.seen = node.seen[:length].ljust(length, b"\0")
        node.since.append(("cut", length))

    def fsync(self, fd):
        frame = sys._getframe(1)
        while frame.f_code.co_filename.endswith("/system/fs.py"):
            frame = frame.f_back
        module = os.path.basename(frame.f_code.co_filename).removesuffix(".py")
        site = f"{module}.{frame.f_code.co_name}:{frame.f_lineno}"
        self.sites[site] = self.sites.get(site, 0) + 1
        self._change()
        if site in self.deaf:
            return
        node = self._files[fd]
        node.safe = dict(node.seen) if node.is_directory else node.seen
        node.since = []

    def fchmod(self, fd, mode):
        pass

    def chmod(self, path, mode):
        pass

    def fstat(self, fd):
        return self._stat(self._files[fd])

    def stat(self, path):
        return self._stat(self._find(path))

    def lstat(self, path):
        return self._stat(self.disk.root if path.startswith("/proc/") else self._find(path))

    def mkdir(self, path, mode):
        self._name(path, Node(0o40000 | mode))

    def listdir(self, path):
        return list(self._find(path).seen)

    def link(self, source, target):
        self._name(target, self._find(source))

    def link_open(self, fd, target):
        self._name(target, self._files[fd])

    def unlink(self, path):
        directory, name = self._place(path)
        if name not in directory.seen:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        self._change()
        directory.seen.pop(name).links -= 1
        directory.since.append((name, None))

    def lock(self, fd):
        return True

    def unlock(self, fd):
        pass
