"""The image of what a submission imports: used when it fits, and never in the way of mail when it does not."""

import marshal
import os
import pathlib
import re
import shutil
import subprocess
import sys
from importlib.util import MAGIC_NUMBER

import pytest
from mail_server import MailServer
from sendmail_program import PYTHON, ROOT, Sendmail
from setup_home import Home

from dma_runtime.system import compiled
from dma_setup import prelink, render
from dma_setup.verbs.launcher import OPTIONS

OLD, NEW = b'__version__ = "0.1.0"', b'__version__ = "9.9.9"'


class Installed(Sendmail):
    """A library of its own, and the launcher that `dma-setup` renders for it."""

    def __init__(self, folder):
        self.library = folder / "library"
        shutil.copytree(ROOT / "dma_runtime", self.library / "dma_runtime", ignore=shutil.ignore_patterns("__pycache__"))
        self.source = self.library / "dma_runtime/__init__.py"
        super().__init__(folder)

    def launcher(self, name):
        values = {"python": PYTHON, "library": str(self.library), "door": "dma_runtime.cmd.sendmail", "options": OPTIONS}
        path = self.directory / name
        values["take"] = compiled.take(compiled.stem(str(self.library), "submit"))
        path.write_text(render.template("launcher.j2", values))
        path.chmod(0o755)
        return path

    def make(self, image="submit", status=0):
        done = subprocess.run(prelink.command(PYTHON, str(self.library), image), capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
        return next(iter((self.library / "dma_runtime/__pycache__").glob(f"{image}.*.image")), None)

    def change_unseen(self):
        """Another version, in a file of the same size and time: who reads the sources has it, who reads the image has not."""
        found = self.source.stat()
        assert self.source.read_bytes().count(OLD) == 1
        self.source.write_bytes(self.source.read_bytes().replace(OLD, NEW))
        os.utime(self.source, ns=(found.st_atime_ns, found.st_mtime_ns))

    def version(self):
        """What a submission calls itself, in its Received line."""
        _, message = self.accepted("b@x.test")
        return re.search(rb"\(dma (\S+) on ", message)[1].decode()


@pytest.fixture
def mail(tmp_path):
    return Installed(tmp_path)


def test_modules_come_out_of_the_image(mail):
    mail.make()
    mail.change_unseen()
    assert mail.version() == "0.1.0"


def test_without_one_they_come_out_of_the_sources(mail):
    mail.change_unseen()
    assert mail.version() == "9.9.9"


def test_what_is_not_in_it_is_imported_beside_it(mail):
    mail.make()
    mail.aliases.write_text("root: c@x.test\n")
    envelope, _ = mail.accepted("root")
    assert [recipient.address for recipient in envelope.recipients] == ["c@x.test"]
    assert b"Mail queue is empty" not in mail.run("-bp").stdout
    assert mail.run("-bs", stdin=b"QUIT\r\n").stdout.startswith(b"220 ")


@pytest.mark.parametrize("what", ["time", "size", "gone"])
def test_an_image_of_older_sources_is_left_alone(mail, what):
    mail.make()
    mail.change_unseen()
    if what == "time":
        os.utime(mail.source)
    elif what == "size":
        found = mail.source.stat()
        mail.source.write_bytes(mail.source.read_bytes() + b"\n")
        os.utime(mail.source, ns=(found.st_atime_ns, found.st_mtime_ns))
    else:
        gone = mail.library / "dma_runtime/cmd/gone.py"
        image = mail.make()
        load, stamps, modules, maker = marshal.loads(image.read_bytes()[len(MAGIC_NUMBER) :])
        image.write_bytes(MAGIC_NUMBER + marshal.dumps((load, [*stamps, (str(gone), 0, 0)], modules, maker)))
    assert mail.version() == "9.9.9"


def damages(whole):
    yield b""
    yield MAGIC_NUMBER
    yield b"\0\0\0\0" + whole[4:]
    yield MAGIC_NUMBER + marshal.dumps((1, 2))
    yield MAGIC_NUMBER + marshal.dumps(b"text")
    for cut in (5, 100, len(whole) // 2, len(whole) - 1):
        yield whole[:cut]
    load, stamps, modules, maker = marshal.loads(whole[len(MAGIC_NUMBER) :])
    broken = compile("1 / 0", "broken", "exec")
    yield MAGIC_NUMBER + marshal.dumps((load, stamps, [*modules, ("dma_runtime.more", "more.py", False, broken)], maker))


def test_a_damaged_image_costs_time_and_no_mail(mail):
    image = mail.make()
    whole = image.read_bytes()
    mail.change_unseen()
    for damage in damages(whole):
        image.write_bytes(damage)
        assert mail.version() == "9.9.9", damage[:40]
    image.unlink()
    image.mkdir()
    assert mail.version() == "9.9.9"


def test_it_is_made_anew_when_a_source_changed_and_else_left(mail):
    first = mail.make()
    born = first.stat().st_ino
    assert mail.make().stat().st_ino == born
    mail.change_unseen()
    os.utime(mail.source)
    assert mail.make().stat().st_ino != born
    assert mail.version() == "9.9.9"
    for image in (b"", first.read_bytes()[:-1]):
        first.write_bytes(image)
        mail.make()
        assert first.stat().st_size > 1000
    assert [path.suffix for path in first.parent.iterdir()] == [".image"], "and nothing else is written"


def test_everybody_may_read_it_whatever_the_umask_is(mail):
    """Root's may be 077, and a library that was installed without compiled files has no room for them yet."""
    folder = mail.library / "dma_runtime/__pycache__"
    assert not folder.exists()
    before = os.umask(0o077)
    try:
        image = mail.make()
    finally:
        os.umask(before)
    assert (folder.stat().st_mode & 0o777, image.stat().st_mode & 0o777) == (0o755, 0o644)


def test_nor_what_python_compiled_for_root(mail):
    """Seen: root with 077 set a machine up, and no user could read the image, nor any other compiled file of the library."""
    before = os.umask(0o077)
    try:
        code = f"import sys; sys.path.insert(0, {str(mail.library)!r}); import dma_runtime.cmd.submit, dma_runtime.cmd.handover"
        subprocess.run([PYTHON, "-IS", "-c", code], check=True)
        mail.make("handover")
    finally:
        os.umask(before)
    folders = list(mail.library.glob("dma_runtime/**/__pycache__"))
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o755}
    assert {path.stat().st_mode & 0o777 for folder in folders for path in folder.iterdir()} == {0o644}


def test_it_is_taken_away_with_all_that_was_made_for_it(mail):
    folder = mail.make("handover").parent
    (folder / "handover.cpython-399.image").write_bytes(b"of an older Python")
    (folder / "handover.cpython-311.image.77").write_bytes(b"cut off")
    other = mail.make("submit")
    prelink.remove(str(mail.library), "handover")
    assert list(folder.iterdir()) == [other]
    prelink.remove(str(mail.library), "submit")
    assert not folder.exists()
    prelink.remove(str(mail.library), "submit")


def test_a_library_that_cannot_be_written_keeps_its_sources(mail):
    (mail.library / "dma_runtime/__pycache__").write_text("in the way")
    assert mail.make(status=1) is None
    assert mail.version() == "0.1.0"


@pytest.mark.parametrize(
    ("image", "doors"), [("submit", {"sendmail", "submit"}), ("handover", {"sendmail", "handover"}), ("owner", {"daemon"})]
)
def test_every_module_that_the_door_needs_is_in_it(mail, image, doors):
    path = mail.make(image)
    _, stamps, modules, _ = marshal.loads(path.read_bytes()[len(MAGIC_NUMBER) :])
    names = [name for name, *_ in modules]
    assert len(set(names)) == len(names) == len(stamps)
    assert {f"dma_runtime.cmd.{door}" for door in doors} <= set(names)
    assert not [name for name in names if not name.startswith("dma_runtime")]


def test_several_are_made_at_once_and_each_is_whole(mail):
    """What the one imports the other has to bring again."""
    alone = {image: len(mail.make(image).read_bytes()) for image in ("submit", "owner")}
    shutil.rmtree(mail.library / "dma_runtime/__pycache__")
    subprocess.run(prelink.command(PYTHON, str(mail.library), "submit", "owner"), check=True)
    made = (mail.library / "dma_runtime/__pycache__").glob("*.image")
    assert {path.name.partition(".")[0]: len(path.read_bytes()) for path in made} == alone


def owner_says(mail):
    """What the owner that a submission leaves behind calls itself."""
    asked = "from dma_runtime.system import starter; print('\\0'.join(starter.command(['--version'])), end='')"
    code = f"import sys; sys.path.insert(0, {str(mail.library)!r}); sys.dont_write_bytecode = True; {asked}"
    words = subprocess.run([PYTHON, "-IS", "-c", code], capture_output=True, text=True, check=True).stdout.split("\0")
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_the_owner_has_one_of_its_own(mail):
    image = mail.make("owner")
    mail.change_unseen()
    assert owner_says(mail) == "dma 0.1.0\n"
    os.utime(mail.source)
    assert owner_says(mail) == "dma 9.9.9\n"
    mail.make("owner")
    assert owner_says(mail) == "dma 9.9.9\n"
    for damage in damages(image.read_bytes()):
        image.write_bytes(damage)
        assert owner_says(mail) == "dma 9.9.9\n", damage[:40]
    image.unlink()
    assert owner_says(mail) == "dma 9.9.9\n"


def test_mail_leaves_through_an_owner_that_came_out_of_it(mail):
    mail.make("submit")
    mail.make("owner")
    with MailServer() as server:
        mail.configure(f"SMARTHOST 127.0.0.1:{server.port}\n")
        assert mail.run("b@x.test", stdin=b"Subject: s\n\nx\n").returncode == 0
        assert server.wait(1)[0].recipients == ["b@x.test"]
        assert server.quiet()
    assert not list(mail.library.glob("dma_runtime/delivery/__pycache__/*")), "a module was imported after all"


def test_dma_setup_makes_it(tmp_path):
    """In the library that it was installed with: this checkout's."""
    home = Home(tmp_path / "home")
    made, owners = [
        pathlib.Path(compiled.stem(str(ROOT), image) + f"{sys.implementation.cache_tag}.image") for image in ("submit", "owner")
    ]
    for image in (made, owners):
        image.unlink(missing_ok=True)
    answers = home.answers("root_mail: root@localhost\n")
    planned = home.run("local", "--user", "--answers", answers, "--check")
    assert planned.returncode == 3, planned.stderr
    assert not made.exists()
    done = home.run("local", "--user", "--answers", answers, "--no-test")
    assert done.returncode == 0, done.stderr
    assert repr(compiled.stem(str(ROOT), "submit")) in (home.path / ".local/lib/dma/dma").read_text()
    assert made.stat().st_mode & owners.stat().st_mode & 0o777 == 0o644
    made.unlink()
    again = home.run("local", "--user", "--answers", answers, "--no-test")
    assert "nothing to change" in again.stdout.lower()
    assert made.exists()
