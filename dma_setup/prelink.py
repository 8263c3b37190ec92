"""What a program imports, in one compiled file that is read and run at once: the image.

Of the time that `sendmail` took above a bare interpreter nine tenths went into finding, opening and checking some thirty
module files; the owner that it leaves behind has a hundred. An image lies among the library's compiled files and is as good
or bad as they are; the program takes the modules from it (`dma_runtime.system.compiled`) when it was made for this very
interpreter and each source is still the one it was made of. Otherwise, and when there is none or it is damaged, they are
imported as ever: nothing depends on it but time. So it is no change that is planned or journaled, and an upgrade in place
needs no ceremony. When the machine's launcher goes, it goes too (`remove`).

The file: the interpreter's MAGIC_NUMBER, then marshal of (loader, stamps, modules, maker):
- stamps: (path, mtime in ns, size) of each source;
- modules: (name, path, whether it is a package, code), in the order in which their imports are met;
- maker: the digest of this file, so that another version of it makes the image anew.

The code is that of the sources without their docstrings and without `from __future__` (its effect is kept; the module of
that name would be the only one still to be looked for in the library), and knows lines, not columns: a tenth less to read.

In system mode (`handover`) every user reads it, and whatever else Python compiled in the library: root's umask may have kept
that to root, and who cannot read there compiles anew at every start.

It is made by the interpreter that mail runs under (`command`). Exit 1 where the library cannot be written.
"""

from __future__ import annotations
import __future__

import ast
import glob
import hashlib
import importlib.machinery
import marshal
import os
import sys
from importlib.util import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

PACKAGE = "dma_runtime"
# Image -> what is imported for it below PACKAGE: by who writes the spool himself, by who hands over to the daemon, and by the
# owner of a spool in user mode.
IMAGES = {
    "submit": ("cmd.sendmail", "cmd.submit", "system.trust"),
    "handover": ("cmd.sendmail", "cmd.handover"),
    "owner": ("cmd.daemon",),
}

# Runs in the launcher, before anything of ours is imported. All or nothing: what fails in the middle leaves no trace.
LOADER = """
def load():
    from posix import stat
    for path, mtime, size in stamps:
        found = stat(path)
        if found.st_mtime_ns != mtime or found.st_size != size:
            return
    known, kind, done = sys.modules, type(sys), []
    try:
        for name, path, package, code in modules:
            module = kind(name)
            space = module.__dict__
            space["__file__"] = path
            above, _, own = name.rpartition(".")
            if package:
                space["__path__"] = [path[:-12]]
            space["__package__"] = name if package else above
            known[name] = module
            done.append(name)
            exec(code, space)
            if above:
                setattr(known[above], own, module)
    except Exception:
        for name in done:
            del known[name]

load()
"""


def command(python: str, library: str, *images: str) -> list[str]:
    """What makes the images in `library`, where they are missing or were made of older sources."""
    return [python, "-IS", "-X", "no_debug_ranges", os.path.abspath(__file__), library, *images]


def remove(library: str, *images: str) -> None:
    """Take away what `main` left in the library, for any interpreter. Raises OSError."""
    folder = _folder(library)
    for image in images:
        for path in glob.glob(f"{glob.escape(folder)}/{image}.*.image*"):
            os.unlink(path)
    if os.path.isdir(folder) and not os.listdir(folder):
        os.rmdir(folder)


def _folder(library: str) -> str:
    return f"{library}/{PACKAGE}/__pycache__"  # as `compiled.stem` has it


def build(names: Sequence[str], maker: bytes) -> bytes:
    """The image of what `names` (below PACKAGE) import, from the library that is first on `sys.path`."""
    stamps, modules = [], []
    for name, path, is_package in _met(names):
        status = os.stat(path)
        with open(path, encoding="utf-8") as file:
            code = _code(file.read(), path)
        stamps.append((path, status.st_mtime_ns, status.st_size))
        modules.append((name, path, is_package, code))
    loader = compile(LOADER, "<image>", "exec", dont_inherit=True)
    return MAGIC_NUMBER + marshal.dumps((loader, stamps, modules, maker))


class _Watch:
    """A finder in front of the others that notes when a module of ours has been run."""

    def __init__(self) -> None:
        self.met: list[tuple[str, str, bool]] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> object:
        if name != PACKAGE and not name.startswith(PACKAGE + "."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or spec.origin is None:
            return None
        real, origin, is_package = spec.loader.exec_module, spec.origin, spec.submodule_search_locations is not None

        def run(module: ModuleType) -> None:
            real(module)
            self.met.append((name, origin, is_package))

        spec.loader.exec_module = run  # type: ignore[method-assign]  # of this one loader
        return spec


def _met(names: Sequence[str]) -> list[tuple[str, str, bool]]:
    """(name, path, whether a package) of what is imported, each behind what it imports itself."""
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]:
        del sys.modules[name]  # of the image before
    watch = _Watch()
    sys.meta_path.insert(0, watch)  # type: ignore[arg-type]  # a finder, of the old kind that typing forgot
    try:
        for name in names:
            __import__(f"{PACKAGE}.{name}")
    finally:
        sys.meta_path.remove(watch)  # type: ignore[arg-type]
    return watch.met


def _code(source: str, path: str) -> CodeType:
    tree = ast.parse(source, path)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and _is_text(node.body):
            if len(node.body) > 1 or isinstance(node, ast.Module):
                del node.body[0]
            else:
                node.body[0] = ast.copy_location(ast.Pass(), node.body[0])
    code: CodeType = compile(tree, path, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    return code


def _is_text(body: Sequence[ast.stmt]) -> bool:
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _is_current(path: str, maker: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            content = file.read()
        _, stamps, _, by = marshal.loads(content.removeprefix(MAGIC_NUMBER))  # noqa: S302  # as much ours as the .pyc beside it
        found = [os.stat(source) for source, _, _ in stamps]
    except (OSError, ValueError, EOFError, TypeError):
        return False
    same = [(one.st_mtime_ns, one.st_size) for one in found] == [(mtime, size) for _, mtime, size in stamps]
    return same and by == maker and content.startswith(MAGIC_NUMBER)


def _open_to_all(library: str) -> None:
    """What lies in the directories of compiled files, which hold nothing that the sources do not say."""
    for package in (PACKAGE, "dns"):
        for folder in glob.iglob(f"{glob.escape(library)}/{package}/**/__pycache__", recursive=True):
            for path, wanted in ((folder, 0o755), *((entry.path, 0o644) for entry in os.scandir(folder))):
                if os.lstat(path).st_mode & wanted != wanted:
                    os.chmod(path, wanted)


def main(library: str, *images: str) -> None:
    """Write the images into the library. Raises OSError where that cannot be done."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, library)
    with open(__file__, "rb") as file:
        maker = hashlib.sha256(file.read()).digest()
    if "handover" in images:
        _open_to_all(library)
    for image in images:
        path = f"{_folder(library)}/{image}.{sys.implementation.cache_tag}.image"
        if not _is_current(path, maker):
            _write(path, build(IMAGES[image], maker))


def _write(path: str, content: bytes) -> None:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # noqa: S103  # whatever the umask is: every user reads there
    part = f"{path}.{os.getpid()}"
    try:
        with open(part, "xb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, path)
    except OSError:
        if os.path.lexists(part):
            os.unlink(part)
        raise


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError:
        sys.exit(1)
