"""The verbs of system mode, on images with the real tools, and on a machine whose programs are in memory."""

import dataclasses
import fcntl
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile

import pytest
from provisioning import FACTS, Machine, tree

from dma_setup import apply as applying
from dma_setup import journal as journals
from dma_setup import place as places
from dma_setup import plan as plans
from dma_setup import undo
from dma_setup import view as views
from dma_setup.checkup import files
from dma_setup.checkup.finding import Patient
from dma_setup.errors import SetupError
from dma_setup.secret import SecretAnswer
from dma_setup.system import Ran, System
from dma_setup.verbs import account, directory, library, link, mailer, oldqueue, service
from dma_setup.view import View

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PASSWD = "root:x:0:0:root:/root:/bin/sh\nman:x:999:12:man:/var/cache/man:/usr/sbin/nologin\n+nis::::::\n"
GROUP = "root:x:0:\nadm:x:998:\n"
SHADOW = "root:$y$secret:20000:0:99999:7:::\nman:*:20000:0:99999:7:::"
DMA = {"name": "dma", "home": "/var/spool/dma", "comment": "Mail queue"}


@pytest.fixture
def image(tmp_path):
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "usr/sbin").mkdir(parents=True)
    (root / "usr/sbin/nologin").write_text("")
    for name, text, mode in (("passwd", PASSWD, 0o644), ("group", GROUP, 0o644), ("shadow", SHADOW, 0o640)):
        (root / "etc" / name).write_text(text)
        (root / "etc" / name).chmod(mode)
    return root


def view_of(root, system=None, **facts):
    return View(places.for_system(str(root) if root else ""), system or System(), {**FACTS, **facts}, {}, None, {})


def make(view, *changes):
    """Apply the changes as setup does, journaled; `undo_all` takes them back."""
    for change in changes:
        view.add(change)
    plan = plans.finish(view)
    return applying.journaled(plan, view.place, "test", System())


def undo_all(view):
    return undo.run(view.place, System())


as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root: accounts and owners")


class TestAccount:
    @as_root
    def test_made_and_taken_back_byte_for_byte(self, image):
        before = tree(image)
        view = view_of(image)
        make(view, *account.plan(DMA, view))
        assert view.account("dma") == (997, 997), "999 is a user's number, 998 a group's"
        passwd = (image / "etc/passwd").read_text()
        assert passwd == PASSWD.replace("+nis", "dma:x:997:997:Mail queue:/var/spool/dma:/usr/sbin/nologin\n+nis")
        assert (image / "etc/group").read_text() == GROUP + "dma:x:997:\n"
        assert (image / "etc/shadow").read_text() == SHADOW + "\ndma:!*:::::::"
        assert stat.S_IMODE((image / "etc/shadow").stat().st_mode) == 0o640
        assert not (image / "etc/gshadow").exists()
        again = view_of(image)
        assert [change.sign for change in account.plan(DMA, again)] == ["="]
        assert undo_all(view).complete
        assert tree(image, without=("var/lib/dma-setup",)) == before

    @as_root
    def test_kept_while_it_owns_something_in_the_queue(self, image):
        view = view_of(image)
        make(view, *account.plan(DMA, view))
        queue = image / "var/spool/dma/queue"
        queue.mkdir(parents=True)
        (queue / "mail").write_text("")
        os.chown(queue / "mail", 997, 997)
        undone = undo_all(view)
        assert undone.left == ["the account dma is kept: it has files in /var/spool/dma"]
        assert "dma:x:997" in (image / "etc/passwd").read_text()

    @as_root
    @pytest.mark.parametrize(
        "what", ["lock-link", "lock-fifo", "lock-directory", "tmp-link", "queue-link", "log-link", "control-link"]
    )
    def test_undo_touches_nothing_that_the_account_points_at(self, image, what):
        """The account may have been broken into: what it left in its queue is nothing that root follows."""
        view = view_of(image)
        queue = {"path": "/var/spool/dma", "mode": "0700", "owner": "dma"}
        for change in account.plan(DMA, view):
            view.add(change)
        make(view, *directory.plan(queue, view))
        spool, victim = image / "var/spool/dma", image / "victim"
        (victim / "empty").mkdir(parents=True)
        (victim / "file").write_text("not yours\n")
        for name in ("queue", "tmp", "log"):
            (spool / name).mkdir()
        (spool / "lock").write_text("")
        name, kind = what.split("-")
        place = spool / name
        if place.is_dir():
            place.rmdir()
        place.unlink(missing_ok=True)
        if kind == "fifo":
            os.mkfifo(place)
        elif kind == "directory":
            (place / "deep").mkdir(parents=True)
        else:
            place.symlink_to(victim / {"lock": "file", "control": "file", "tmp": "empty"}.get(name, ""))
        os.chown(place, 997, 997, follow_symlinks=False)
        before = tree(victim)
        undone = undo_all(view)
        assert tree(victim) == before
        if what not in ("control-link", "lock-fifo"):  # those go, as what they stand for would
            assert [line for line in undone.left if "/var/spool/dma" in line]
        assert (victim / "empty").is_dir()

    @as_root
    def test_a_failure_in_the_middle_leaves_nothing(self, image):
        before = tree(image)
        view = view_of(image)
        (change,) = account.plan(DMA, view)

        class Full(System):
            def put_file(self, path, entry):
                if path.endswith("/shadow") and b"dma" in entry.content:
                    raise OSError(28, "No space left on device")
                super().put_file(path, entry)

        with pytest.raises(SetupError, match="No space left"):
            change.apply(Full())
        assert tree(image) == before

    @as_root
    def test_changed_by_somebody_since_is_said(self, image):
        view = view_of(image)
        make(view, *account.plan(DMA, view))
        path = image / "etc/passwd"
        path.write_text(path.read_text().replace("nologin\n+nis", "zsh\n+nis"))
        assert undo_all(view).left == ["the account dma was changed since; remove it with: userdel dma"]

    @as_root
    @pytest.mark.parametrize(
        ("passwd", "group", "reason"),
        [
            (PASSWD + "dma:x:0:0::/:/bin/sh\n", GROUP, "has the rights of root"),
            (PASSWD + "dma:x:7:0::/:/bin/sh\n", GROUP, "has the rights of root"),
            (PASSWD, GROUP + "dma:x:7:\n", "there is a group dma but no user dma"),
            ("".join(f"u{n}:x:{n}:1::/:/bin/sh\n" for n in range(1000)), GROUP, "no number between 100 and 999"),
        ],
    )
    def test_refused(self, image, passwd, group, reason):
        (image / "etc/passwd").write_text(passwd)
        (image / "etc/group").write_text(group)
        with pytest.raises(SetupError, match=reason):
            account.plan(DMA, view_of(image))

    @as_root
    def test_taken_meanwhile(self, image):
        view = view_of(image)
        (change,) = account.plan(DMA, view)
        path = image / "etc/passwd"
        path.write_text(PASSWD + "other:x:997:997::/:/bin/sh\n")
        with pytest.raises(SetupError, match="the number 997 is taken meanwhile"):
            change.apply(System())


class TestLibrary:
    @as_root
    def test_an_image_gets_a_copy_that_runs(self, image):
        before = tree(image)
        view = view_of(image)
        make(view, *library.plan({}, view))
        copy = image / library.path(view).lstrip("/")
        words = [
            "/usr/bin/python3",
            "-IS",
            "-c",
            f"import sys; sys.path.insert(0, {str(copy)!r}); import dma_runtime.cmd.sendmail, dns",
        ]
        assert subprocess.run(words, capture_output=True, text=True).stderr == ""
        assert [change.sign for change in library.plan({}, view_of(image))] == ["="]
        assert undo_all(view).complete  # with what Python compiled meanwhile
        assert tree(image, without=("var/lib/dma-setup",)) == before

    @as_root
    def test_everybody_may_read_what_was_compiled_whatever_roots_umask_is(self, image):
        """Seen: with 077 every user's `sendmail` compiled the library at each start, 40 ms instead of 15."""
        view = view_of(image)
        (change,) = library.plan({}, view)
        before = os.umask(0o077)
        try:
            dataclasses.replace(change, python="/usr/bin/python3").apply(System())
        finally:
            os.umask(before)
        copy = image / library.path(view).lstrip("/")
        modes = {path.stat().st_mode & 0o777 for path in copy.rglob("*") if path.is_file()}
        folders = {path.stat().st_mode & 0o777 for path in [copy, *copy.rglob("*")] if path.is_dir()}
        assert any(path.suffix == ".pyc" for path in copy.rglob("*"))
        assert (modes, folders) == ({0o644}, {0o755})

    @as_root
    def test_a_copy_that_was_changed_is_left(self, image):
        view = view_of(image)
        make(view, *library.plan({}, view))
        copy = image / library.path(view).lstrip("/")
        (copy / "dma_runtime/errors.py").write_text("changed\n")
        assert "was changed since; it is left as it is" in undo_all(view).left[0]
        assert copy.is_dir()

    @as_root
    def test_cut_off_while_copying(self, image):
        before = tree(image)
        view = view_of(image)
        (change,) = library.plan({}, view)
        journal = journals.Journal.start(view.place, "test", 0)
        journal.change(0, change)

        class Dies(System):
            count = 0

            def put_file(self, path, entry):
                self.count += 1
                if self.count == 20:
                    os.kill(os.getpid(), signal.SIGKILL)
                super().put_file(path, entry)

        child = os.fork()
        if child == 0:
            try:
                change.apply(Dies())
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
        assert not (image / library.path(view).lstrip("/")).exists(), "it is there whole, or not at all"
        undo_all(view)
        assert tree(image, without=("var/lib/dma-setup",)) == before


@pytest.fixture
def open_folder():
    """A folder of root's that every user can reach, unlike pytest's own."""
    if os.getuid() != 0:
        pytest.skip("needs root: files of root's and of others")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        package = pathlib.Path(folder) / "library/dma_runtime/system"
        package.mkdir(parents=True)
        for name in ("../__init__.py", "__init__.py", "fs.py"):
            (package / name).write_text("")
        yield pathlib.Path(folder)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda f: None, ""),
        (lambda f: os.chown(f / "library", 1000, 0), "belongs to uid 1000"),
        (lambda f: os.chmod(f / "library/dma_runtime", 0o775), "can be written by others"),
        (lambda f: os.chown(f / "library/dma_runtime/system/fs.py", 1000, 0), "does not belong to root alone"),
        (lambda f: os.chmod(f / "library/dma_runtime/system/fs.py", 0o666), "does not belong to root alone"),
        (lambda f: os.chmod(f / "library/dma_runtime/system/fs.py", 0o600), "cannot be read by every user"),
        (lambda f: os.chmod(f / "library/dma_runtime/system", 0o777), "does not belong to root alone"),
        (lambda f: os.chmod(f / "library", 0o700), "cannot be entered by every user"),
        (lambda f: os.chmod(f, 0o777), "can be written by others"),
    ],
)
def test_the_proof_of_the_library(open_folder, break_it, reason):
    break_it(open_folder)
    found = library.proof(str(open_folder / "library"))
    assert (reason in found) if reason else found == ""


def test_the_proof_follows_links(open_folder):
    """A package of root's, reached through a directory of somebody else's."""
    between = open_folder / "theirs"
    between.mkdir()
    os.symlink(open_folder / "library", between / "link")
    assert library.proof(str(between / "link")) == ""
    os.chown(between, 1000, 1000)
    assert "belongs to uid 1000" in library.proof(str(between / "link"))


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda f: os.chown(f / "python3", 1000, 0), "python3 belongs to uid 1000"),
        (lambda f: os.chmod(f / "python3", 0o775), "python3 can be written by others"),
        (lambda f: os.chmod(f / "bin", 0o777), "can be written by others"),
        (lambda f: os.chown(f / "bin", 1000, 0), "belongs to uid 1000, not to root"),
        (lambda f: os.lchown(f / "bin/python3", 1000, 0), "belongs to uid 1000, not to root"),
        (lambda f: os.chmod(f / "python3", 0o700), "cannot be read by every user"),
    ],
)
def test_an_interpreter_that_is_not_roots_alone_runs_no_mail_of_roots(open_folder, break_it, reason, monkeypatch):
    """Otherwise who can write it, or replace it, would run as root with the next cron job."""
    (open_folder / "bin").mkdir()
    shutil.copy("/usr/bin/python3", open_folder / "python3")
    (open_folder / "bin/python3").symlink_to("../python3")
    theirs = str(open_folder / "bin/python3")
    monkeypatch.setattr(library, "PYTHON", theirs)
    assert library.interpreter(view_of("")) == theirs
    break_it(open_folder)
    monkeypatch.setattr(library.sys, "executable", "/nonexistent")
    with pytest.raises(SetupError, match=r"no Python .* that belongs to root alone; mend it with: ") as refused:
        library.interpreter(view_of(""))
    assert reason in refused.value.details[0]
    monkeypatch.setattr(library.sys, "executable", "/usr/bin/python3")
    assert library.interpreter(view_of("")) == os.path.realpath("/usr/bin/python3"), "another one of root's is taken"


@pytest.mark.parametrize(
    ("break_it", "text", "evidence"),
    [
        (lambda f: None, "the program is there", ""),
        (lambda f: os.chmod(f / "library/dma_runtime/system/fs.py", 0o666), "the library that root's mail runs by", "fs.py"),
        (lambda f: os.chown(f / "library/dma_runtime/image", 1000, 0), "the library that root's mail runs by", "image"),
        (lambda f: os.chown(f / "programs/dmad", 1000, 0), "the program that root's mail runs by", "dmad belongs to uid 1000"),
        (lambda f: os.chmod(f / "programs/dma", 0o777), "the program that root's mail runs by", "can be written by others"),
        (lambda f: os.chmod(f / "programs", 0o777), "the program that root's mail runs by", "can be written by others"),
        (lambda f: os.chown(f / "python", 1000, 0), "the interpreter that root's mail runs by", "belongs to uid 1000"),
    ],
)
def test_doctor_repeats_the_proof(open_folder, break_it, text, evidence):
    """What setup looked at once may be another's by now: each file of the library, and the launchers themselves."""
    programs = open_folder / "programs"
    programs.mkdir()
    for name in ("library/dma_runtime/image", "python", "programs/dmad"):
        (open_folder / name).write_text("")
    (programs / "dma").write_text(f'#!{open_folder}/python -IS\nimport sys\nsys.path.insert(0, "{open_folder}/library")\n')
    (programs / "dma").chmod(0o755)
    break_it(open_folder)
    place = dataclasses.replace(places.for_system(), library=str(programs), config=str(open_folder))
    patient = Patient(place, System(), None, online=False, now=0)
    (found,) = files.launcher(patient)
    assert (text in found.text, evidence in found.evidence) == (True, True), found
    assert (found.severity, bool(found.command)) == (("ok", False) if not evidence else ("fail", True))


class Programs(Machine):
    """Answers by what the words begin with; what changes something is written down."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def run(self, words, given="", seconds=20, environment=None):
        for start, answer in self.answers.items():
            if " ".join(words).startswith(start):
                return answer
        self.calls.append(" ".join(words))
        return Ran(3 if "is-active" in words or "is-enabled" in words else 0, "", "")


class TestMailer:
    ACTIVE = {
        "systemctl is-active postfix.service": Ran(0, "active\n", ""),
        "systemctl is-enabled postfix.service": Ran(0, "enabled\n", ""),
    }

    def plan(self, queue):
        machine = Programs({**self.ACTIVE, "/usr/sbin/postqueue -j": queue})
        return mailer.plan({}, view_of("", machine, systemd=True)), machine

    def test_stopped_and_no_longer_started_and_back(self):
        (change,), machine = self.plan(Ran(0, "", ""))
        machine.calls.clear()
        change.apply(machine)
        assert machine.calls == ["systemctl disable postfix.service", "systemctl stop postfix.service"]
        machine.calls.clear()
        change.take_back(machine)
        assert machine.calls == ["systemctl enable postfix.service", "systemctl start postfix.service"]

    def test_its_mail_is_not_left_behind(self):
        with pytest.raises(SetupError, match="postfix still holds 2 messages; nothing was changed") as stopped:
            self.plan(Ran(0, '{"queue_id": "1"}\n{"queue_id": "2"}\n', ""))
        assert "postqueue -f" in stopped.value.details[0]

    def test_a_queue_that_cannot_be_looked_at(self):
        with pytest.raises(SetupError, match="the queue of postfix cannot be looked at"):
            self.plan(Ran(69, "", "postqueue: fatal"))

    def test_nobody_there(self):
        assert mailer.plan({}, view_of("", Programs({}), systemd=True)) == []


@as_root
class TestTakingOver:
    """/usr/sbin/sendmail with Debian's own tools."""

    STEP = {"name": "sendmail"}
    OURS = "/usr/local/lib/dma/dma"

    def test_a_path_of_a_package_is_diverted(self, image):
        if shutil.which("dpkg-divert") is None:
            pytest.skip("needs dpkg-divert: apt install dpkg")
        (image / "var/lib/dpkg/info").mkdir(parents=True)
        (image / "var/lib/dpkg/info/postfix.list").write_text("/.\n/usr\n/usr/sbin\n/usr/sbin/sendmail\n")
        (image / "var/lib/dpkg/diversions").write_text("")
        theirs = image / "usr/sbin/sendmail"
        theirs.write_text("postfix's\n")
        theirs.chmod(0o755)
        before = tree(image)
        view = view_of(image)
        make(view, *link.plan(self.STEP, view))
        assert os.readlink(theirs) == self.OURS
        assert (image / "usr/sbin/sendmail.dma-setup").read_text() == "postfix's\n"
        assert (image / "var/lib/dpkg/diversions").read_text() == "/usr/sbin/sendmail\n/usr/sbin/sendmail.dma-setup\n:\n"
        again = view_of(image)
        assert [change.sign for change in link.plan(self.STEP, again)] == ["="]
        assert undo_all(view).complete
        assert tree(image, without=("var/lib/dma-setup", "var/lib/dpkg/diversions-old")) == before

    @pytest.mark.parametrize("manual", [False, True])
    def test_an_alternative_is_chosen(self, image, manual):
        if shutil.which("update-alternatives") is None:
            pytest.skip("needs update-alternatives: apt install dpkg")
        for name in ("etc/alternatives", "var/lib/dpkg/alternatives", "var/log"):
            (image / name).mkdir(parents=True)
        tool = ["update-alternatives", "--root", str(image), "--quiet"]
        for name, priority in (("one", "30"), ("two", "20")):
            (image / "usr/sbin" / name).write_text("")
            words = [*tool, "--install", "/usr/sbin/sendmail", "mta", f"/usr/sbin/{name}", priority]
            subprocess.run(words, check=True)
        if manual:
            subprocess.run([*tool, "--set", "mta", "/usr/sbin/two"], check=True)
        (image / self.OURS.lstrip("/")).parent.mkdir(parents=True)
        (image / self.OURS.lstrip("/")).write_text("")
        before = tree(image, without=("var/log",))
        view = view_of(image)
        make(view, *link.plan(self.STEP, view))
        assert os.readlink(image / "etc/alternatives/mta") == self.OURS
        assert os.readlink(image / "usr/sbin/sendmail") == "/etc/alternatives/mta"
        assert link.plan(self.STEP, view_of(image)) == []
        assert undo_all(view).complete
        assert tree(image, without=("var/log", "var/lib/dma-setup")) == before

    def test_nobodys_file_is_kept_in_the_journal(self, image):
        theirs = image / "usr/sbin/sendmail"
        theirs.write_text("by hand\n")
        theirs.chmod(0o4755)
        before = tree(image)
        view = view_of(image)
        (change,) = link.plan(self.STEP, view)
        assert change.replaces
        make(view, change)
        assert os.readlink(theirs) == self.OURS
        assert undo_all(view).complete
        assert tree(image, without=("var/lib/dma-setup",)) == before


@pytest.fixture
def old_spool():
    """A spool of C dma's, in a place the account can reach: two messages of alice's (uid 4711), one submitted to two people."""
    if os.getuid() != 0:
        pytest.skip("needs root: files of other users")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        root = pathlib.Path(folder)
        spool = root / "var/spool/dma"
        spool.mkdir(parents=True)
        for name, to in (("5f.aa0", "bob@example.org"), ("5f.aa1", "eve@example.org")):
            (spool / f"Q{name}").write_text(f"ID: {name}\nSender: alice@example.org\nRecipient: {to}\n")
        (spool / "M5f.aa0").write_text("Subject: old\n\nbody\n")
        os.link(spool / "M5f.aa0", spool / "M5f.aa1")
        for file in spool.iterdir():
            os.chown(file, 4711, 8)
            file.chmod(0o600)
        os.chown(spool, 0, 8)
        spool.chmod(0o2770)
        (root / "etc/cron.d").mkdir(parents=True)
        (root / "etc/cron.d/dma").write_text("*/5 * * * * root /usr/sbin/dma -q1\n")
        (root / "etc/passwd").write_text(PASSWD)
        (root / "etc/group").write_text(GROUP)
        yield root


class TestOldQueue:
    def changes(self, root):
        view = view_of(root)
        steps = [(account, DMA), (oldqueue, {"path": "/var/spool/dma", "owner": "dma"})]
        for verb, step in [*steps, (directory, {"path": "/var/spool/dma", "mode": "0700", "owner": "dma"})]:
            for change in verb.plan(step, view):
                view.add(change)
        return view

    def test_the_daemon_takes_it_over_and_knows_whose_it_was(self, old_spool):
        view = self.changes(old_spool)
        applying.journaled(plans.finish(view), view.place, "test", System())
        assert not (old_spool / "etc/cron.d/dma").exists()
        code = f"""
import os
os.setgroups([]); os.setresgid(997, 997, 997); os.setresuid(997, 997, 997); os.umask(0o077)
from dma_runtime.system.spool import Spool
from dma_runtime.system.takeover import take_over
spool = Spool({str(old_spool / "var/spool/dma")!r})
spool.prepare(own_only=False)
found = take_over(spool)
assert not found.problems, found.problems
print(sorted((spool.read(id).recipients[0].address, spool.read(id).uid) for id in spool.ids()))
"""
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.stdout == "[('bob@example.org', 4711), ('eve@example.org', 4711)]\n", done.stderr
        waits = undo_all(view)
        assert waits.waiting == 2, "mail is never removed; undo finishes when it is gone"
        assert (old_spool / "etc/cron.d/dma").exists()
        spool = old_spool / "var/spool/dma"
        for message in (spool / "queue").iterdir():
            message.unlink()  # delivered
        assert undo_all(view).complete
        found = spool.stat()
        assert (os.listdir(spool), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == ([], 0o2770, 0, 8)
        assert "dma:" not in (old_spool / "etc/passwd").read_text()

    def test_taken_back_before_anybody_started(self, old_spool):
        before = tree(old_spool)
        view = self.changes(old_spool)
        applying.journaled(plans.finish(view), view.place, "test", System())
        assert (old_spool / "var/spool/dma/Q5f.aa0").stat().st_gid == 997
        assert self.changes(old_spool).changes == [], "and then there is nothing to change"
        assert undo_all(view).complete
        assert tree(old_spool, without=("var/lib",)) == before
        found = (old_spool / "var/spool/dma").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o2770, 0, 8)
        assert (old_spool / "var/spool/dma/Q5f.aa0").stat().st_gid == 8

    def test_a_living_c_dma_keeps_its_mail(self, old_spool):
        with open(old_spool / "var/spool/dma/Q5f.aa1") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(SetupError, match="C dma is at work on 1 message in /var/spool/dma; nothing was changed") as stopped:
                self.changes(old_spool)
            assert stopped.value.details[-1].endswith(f": kill {os.getpid()}")

    def test_what_the_account_has_already_is_its_own_business(self, old_spool):
        """Root opens nothing in there: by a lock on a file of that name the account could keep setup from ever running."""
        view = self.changes(old_spool)
        applying.journaled(plans.finish(view), view.place, "test", System())
        with open(old_spool / "var/spool/dma/Q5f.aa1") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert self.changes(old_spool).changes == []

    def test_a_file_with_a_name_elsewhere_is_not_handed_over(self, old_spool):
        target = old_spool / "etc/shadow"
        target.write_text("secret")
        target.chmod(0o600)
        os.link(target, old_spool / "var/spool/dma/Q5f.bb")
        os.link(target, old_spool / "var/spool/dma/M5f.bb")
        view = self.changes(old_spool)
        applying.journaled(plans.finish(view), view.place, "test", System())
        assert (stat.S_IMODE(target.stat().st_mode), target.stat().st_gid) == (0o600, 0)
        assert (old_spool / "var/spool/dma/M5f.aa0").stat().st_gid == 997
        os.unlink(old_spool / "var/spool/dma/Q5f.aa0")
        os.link(target, old_spool / "var/spool/dma/Q5f.aa0")  # by the account itself, to have undo give it away
        undo_all(view)
        assert (stat.S_IMODE(target.stat().st_mode), target.stat().st_gid) == (0o600, 0)

    def test_in_a_directory_that_is_the_accounts_root_touches_nothing(self, old_spool):
        spool = old_spool / "var/spool/dma"
        os.chown(spool, 997, 997)
        (old_spool / "etc/passwd").write_text(PASSWD + "dma:x:997:997::/var/spool/dma:/usr/sbin/nologin\n")
        (old_spool / "etc/group").write_text(GROUP + "dma:x:997:\n")
        assert [change.subject for change in self.changes(old_spool).changes] == ["/etc/cron.d/dma", "/var/spool/dma"]

    def test_a_link_in_the_place_of_a_message_is_not_followed(self, old_spool):
        target = old_spool / "etc/shadow"
        target.write_text("secret")
        target.chmod(0o600)
        os.symlink(target, old_spool / "var/spool/dma/M5f.bb")
        view = self.changes(old_spool)
        with pytest.raises(SetupError):
            applying.journaled(plans.finish(view), view.place, "test", System())
        assert (stat.S_IMODE(target.stat().st_mode), target.stat().st_gid) == (0o600, 0)


class TestService:
    def test_nothing_to_start_when_all_is_right_and_running(self, image):
        view = view_of(image)
        make(view, *service.plan({}, view))
        # The same files, on a machine that runs: looked at through its image.
        machine = Programs({"systemctl is-active": Ran(0, "active\n", "")})
        machine.look = lambda path: System().look(f"{image}{path}")
        live = view_of("", machine, systemd=True)
        assert service.plan({}, live) == []
        assert live.changes == []

    def test_a_daemon_of_before_an_upgrade_is_told_of(self, image, monkeypatch):
        """A library upgraded in place changes no file of ours: nothing would say that the old program goes on."""
        view = view_of(image)
        make(view, *service.plan({}, view))
        source = image / "library/dma_runtime/errors.py"
        source.parent.mkdir(parents=True)
        source.write_text("")
        monkeypatch.setattr(service.library, "path", lambda view: str(image / "library"))
        told = []
        for started, changed in ((1000, 900), (1000, 2000), (1000, 1000), ("", 2000), (1000, 1 << 40)):
            os.utime(source, (changed, changed))
            said = Ran(0, f"@{started}\n" if started else "\n", "")
            machine = Programs({"systemctl is-active": Ran(0, "active\n", ""), "systemctl show --timestamp=unix": said})
            machine.look = lambda path: System().look(f"{image}{path}")
            live = view_of("", machine, systemd=True)
            assert service.plan({}, live) == []
            told.append(bool(live.notes))
        assert told == [False, True, False, False, False]

    def test_a_launcher_of_another_library_starts_the_daemon_anew(self, image):
        """Where root's own copy is made, an upgrade is another copy: the launchers change, and no unit."""
        view = view_of(image)
        make(view, *service.plan({}, view))
        machine = Programs({"systemctl is-active": Ran(0, "active\n", "")})
        machine.look = lambda path: System().look(f"{image}{path}")
        live = view_of("", machine, systemd=True)
        live.add(live.path_change("/etc/other", views.file("", 0o644), ""))
        live.add(live.path_change("/usr/local/lib/dma/dmad", views.file("new\n", 0o755), "", drains=True))
        made = service.plan({}, live)
        assert [change.subject for change in live.changes] == ["/etc/other", "systemd", "/usr/local/lib/dma/dmad"]
        assert live.changes[1].undo[-1] == ("systemctl", "restart", "dma.service"), "undone behind the launcher"
        assert ("systemctl", "try-restart", "dma.service") in made[-1].do

    def test_started_when_something_is_new_and_read_again_at_the_very_end_of_undo(self, image):
        machine = Programs({})
        machine.look = lambda path: System().look(f"{image}{path}")
        live = view_of("", machine, systemd=True)
        for change in service.plan({}, live):
            live.add(change)
        assert (live.changes[0].subject, live.changes[0].undo) == ("systemd", (("systemctl", "daemon-reload"),))
        assert [change.subject for change in live.changes[-2:]] == ["/run/dma", "dma.service"]
        assert live.changes[-1].do[0] == ("systemctl", "daemon-reload")
        assert live.changes[-1].do[-1][:2] == ("systemctl", "start")
        assert all(change.drains for change in live.changes), "what sends waiting mail is kept by undo"

    def test_without_systemd_a_line_for_cron(self, image):
        (image / "etc/cron.d").mkdir()
        machine = Programs({})
        machine.look = lambda path: System().look(f"{image}{path}")
        live = view_of("", machine, systemd=False)
        (change,) = service.plan({}, live)
        assert change.path == "/etc/cron.d/dma-queue"
        assert b"*/15 * * * * root /usr/local/lib/dma/dma-queue run --due >/dev/null 2>&1\n" in change.after.content
        assert "let your supervisor run /usr/local/lib/dma/dmad" in live.notes[0]
        assert "/usr/local/lib/dma/dma-mailbox --listen /run/dma/mailbox.sock" in live.notes[1]

    def test_a_daemon_that_does_not_stay_has_a_timer(self, image):
        view = view_of(image)
        make(view, *service.plan({"resident": "false"}, view))
        units = image / "etc/systemd/system"
        assert os.readlink(units / "timers.target.wants/dma-queue.timer") == "/etc/systemd/system/dma-queue.timer"
        assert not (units / "multi-user.target.wants").exists()
        assert "--leave-when-empty" in (units / "dma.service").read_text()

    def test_from_one_way_to_the_other_and_back(self, image):
        """What only the other way needs goes, and undo brings it again."""
        units = image / "etc/systemd/system"
        boot, timer = units / "multi-user.target.wants/dma.service", units / "timers.target.wants/dma-queue.timer"
        for resident, there, gone in ((True, boot, timer), (False, timer, boot), (True, boot, timer)):
            view = view_of(image)
            make(view, *service.plan({"resident": resident}, view))
            assert os.path.lexists(there)
            assert not os.path.lexists(gone)
            assert (units / "dma-queue.service").exists() is not resident
            again = view_of(image)
            service.plan({"resident": resident}, again)
            assert again.changes == []
        assert undo_all(view).complete
        assert os.path.lexists(timer)
        assert not os.path.lexists(boot)

    def test_the_timer_is_stopped_before_its_files_go(self, image):
        view = view_of(image)
        make(view, *service.plan({"resident": False}, view))
        machine = Programs({"systemctl is-active": Ran(0, "active\n", "")})
        machine.look = lambda path: System().look(f"{image}{path}")
        live = view_of("", machine, systemd=True)
        for change in service.plan({"resident": True}, live):
            live.add(change)
        (at,) = [at for at, change in enumerate(live.changes) if change.subject == "dma-queue.timer"]
        assert live.changes[at].do == (("systemctl", "stop", "dma-queue.timer"),)
        files = [place for place, change in enumerate(live.changes) if change.subject.endswith("/dma-queue.timer") and place != at]
        assert len(files) == 2
        assert at < min(files)


def test_the_line_of_a_credential_that_cannot_be_read_goes(image, monkeypatch):
    """systemd starts no secret reader while one of those it is to load cannot be decrypted."""
    folder = image / "etc/systemd/system/dma-secret@.service.d"
    folder.mkdir(parents=True)
    for name in ("dma.new.a.conf", "dma.old.a.conf", "dma.other.b.conf", "mine.conf"):
        (folder / name).write_text("[Service]\n")
    machine = Programs({})
    machine.look = lambda path: System().look(f"{image}{path}")
    machine.listing = lambda path: System().listing(f"{image}{path}")
    live = view_of("", machine, systemd=True)
    monkeypatch.setattr(live, "unreadable", lambda name: "" if name == "dma.other.b" else "Decryption failed")
    (gone,) = service.unreadable_credentials(live, but="dma.new.a")
    assert (gone.path, gone.after) == ("/etc/systemd/system/dma-secret@.service.d/dma.old.a.conf", None)
    assert live.notes == [
        "the credential dma.old.a cannot be read any more (Decryption failed); it would keep the others from being read"
    ]
    assert service.unreadable_credentials(view_of(image), but="") == []  # an image: nobody can say


def test_the_secret_readers_line_for_a_credential(image):
    from dma_runtime.secret import Secret
    from dma_setup.verbs import secret

    machine = Machine()
    view = View(
        places.for_system(str(image)), machine, FACTS, {}, SecretAnswer("typed", "", Secret("pw")), {"keyring": "systemd-creds"}
    )
    step = {"keyring": "systemd-creds", "service": "dma:smtp.example.org", "user": "a%b@example.org"}
    stored, line = secret.plan(step, view)
    assert (stored.store, stored.service) == ("systemd-creds", "dma:smtp.example.org")
    name = "dma.smtp.example.org.a_25b@example.org"
    assert line.path == f"/etc/systemd/system/dma-secret@.service.d/{name}.conf"
    assert f"LoadCredentialEncrypted={name}:/etc/dma/credentials/{name}.cred\n".encode() in line.after.content
    assert secret.reference(view, "smtp.example.org", "a%b@example.org") == "keyring:"
