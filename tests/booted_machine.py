"""A Debian machine of its own: a tree by debootstrap, our wheel in it, booted by systemd-nspawn.

    with BootedMachine(folder) as machine:
        machine.run("systemctl", "is-active", "dma.socket")

The tree is made once and kept below the temporary directory; a machine is a copy. It shares our network, so a mail server on
loopback is its relay, and is entered with nsenter(1). Where that cannot be done here the test is skipped with the reason.
"""

import atexit
import contextlib
import fcntl
import functools
import hashlib
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zipfile

import pytest
from virtual_terminal import VirtualTerminal

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = "python3,systemd,systemd-sysv,dbus,cron,s-nail,ucf"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What dma-setup needs, as it is installed for these tests; the machine has Debian's own interpreter.
LIBRARIES = (
    *("dns", "jinja2", "markupsafe", "yaml", "_yaml", "keyring", "jaraco", "jeepney", "secretstorage", "cryptography", "cffi"),
    *("pycparser", "more_itertools", "importlib_metadata", "zipp", "backports", "lazy_importer", "questionary"),
    *("prompt_toolkit", "wcwidth", "rich", "markdown_it", "mdurl", "pygments", "typing_extensions.py"),
)
LAUNCHER = """\
#!/usr/bin/python3 -I
import sys
sys.path.insert(0, "/opt/dma")
from dma_setup.cli import main
sys.exit(main())
"""

# Not the configuration of a machine but its life: what runs, logs, caches, seeds.
LIVES = (
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "var/tmp",
    "var/log",
    "var/cache",
    "root",
    "var/lib/dma-setup",
    "var/lib/systemd",
)


def needed():
    if os.getuid() != 0:
        pytest.skip("needs root: a tree by debootstrap, booted by systemd-nspawn")
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt install {package}")
    version = "{}.{}".format(*sys.version_info[:2])
    if version != "3.11":
        pytest.skip(f"needs Python 3.11, as Debian 12 has it, for the libraries of the tree; this is {version}")


def mirror():
    """Where this machine's own packages come from; skips where it is no Debian of the wanted kind."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm", "Component: main"]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = said.stdout.split()
    return lines[0] if lines else pytest.skip("needs Debian 12's package lists: run apt-get update on it")


def base():
    """The tree, made if it is not there yet. Nobody else may have made it."""
    cache = pathlib.Path(tempfile.gettempdir()) / "dma-test-machines"
    with contextlib.suppress(FileExistsError):
        cache.mkdir(mode=0o700)
    found = cache.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o077:
        pytest.skip(f"{cache} is not root's alone; remove it")
    tree = cache / ("bookworm-" + hashlib.sha256(PACKAGES.encode()).hexdigest()[:8])
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            part = cache / "part"
            shutil.rmtree(part, ignore_errors=True)
            words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(part), mirror()]
            done = subprocess.run(words, capture_output=True, text=True, timeout=900)
            if done.returncode:
                pytest.skip(f"debootstrap does not work here: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
            (part / "etc/hosts").write_text("127.0.0.1 localhost\n")
            for package in (part / "var/cache/apt/archives").glob("*.deb"):
                package.unlink()
            part.rename(tree)
    return tree


def wheel(folder):
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"pip cannot make a wheel here: {done.stderr.strip().splitlines()[-1:]}")
    (made,) = folder.glob("dma-*.whl")
    return made


@functools.cache
def library():
    """Our wheel and what it needs, unpacked; made once for all machines of a run."""
    import yaml

    made = pathlib.Path(tempfile.mkdtemp(prefix="dma-library-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    made.chmod(0o755)
    site = pathlib.Path(yaml.__file__).parent.parent
    for name in [*LIBRARIES, "_cffi_backend*", "keyring-*.dist-info"]:
        for found in site.glob(name):
            copy = shutil.copytree if found.is_dir() else shutil.copy
            copy(found, made / found.name)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel(pathlib.Path(folder))) as file:
        file.extractall(made)
    return made


class BootedMachine:
    def __init__(self, folder):
        needed()
        self.tree = folder / "machine"
        self.console = folder / "console"
        subprocess.run(["cp", "-a", "--reflink=auto", str(base()), str(self.tree)], check=True, timeout=300)
        self._install()
        self._container = None
        self._leader = ""

    def _install(self):
        subprocess.run(["cp", "-a", str(library()), str(self.tree / "opt/dma")], check=True, timeout=120)
        program = self.tree / "usr/local/bin/dma-setup"
        program.write_text(LAUNCHER)
        program.chmod(0o755)

    # ------------------------------------------------------------ life

    def boot(self):
        words = ["systemd-nspawn", "--quiet", "--directory", str(self.tree), "--boot", "--register=no", "--keep-unit"]
        with open(self.console, "ab") as console:
            self._container = subprocess.Popen(
                [*words, "--console=pipe"], stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._container.poll() is not None:
                pytest.skip(f"systemd-nspawn does not work here: {self.console.read_text(errors='replace')[-300:]}")
            self._leader = self._find_leader()
            if self._leader and self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip() == "running":
                return self
            time.sleep(0.1)
        raise TimeoutError(f"the machine does not come up: {self.console.read_text(errors='replace')[-2000:]}")

    def contain(self, *words, log):
        """As a container: `words` is its process 1, and there is no systemd in it. Returns when it lives."""
        nspawn = ["systemd-nspawn", "--quiet", "--directory", str(self.tree), "--register=no", "--keep-unit", "--console=pipe"]
        with open(log, "ab") as file:
            self._container = subprocess.Popen(
                [*nspawn, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        deadline = time.monotonic() + 20
        while not (self._leader and self.run("test", "-d", "/proc/1", check=False).returncode == 0):
            assert time.monotonic() < deadline, pathlib.Path(log).read_text(errors="replace")
            time.sleep(0.1)
            number = self._container.pid
            with contextlib.suppress(OSError, ValueError):
                (self._leader,) = pathlib.Path(f"/proc/{number}/task/{number}/children").read_text().split()
                if not os.path.samefile(f"/proc/{self._leader}/root/etc/passwd", self.tree / "etc/passwd"):
                    self._leader = ""
        return self

    def end(self, number=signal.SIGTERM):
        """A signal to process 1 of a container; its exit status."""
        os.kill(int(self._leader), number)
        status = self._container.wait(60)
        self._container, self._leader = None, ""
        return status

    def _find_leader(self):
        """The process 1 of the machine, once it lives in its own tree."""
        number = self._container.pid
        with contextlib.suppress(OSError):
            for child in pathlib.Path(f"/proc/{number}/task/{number}/children").read_text().split():
                if os.path.isdir(f"/proc/{child}/root/run/systemd/system"):
                    return child
        return ""

    def power_off(self):
        if self._container is None:
            return
        if self._container.poll() is None:
            self.run("systemctl", "poweroff", check=False)
            try:
                self._container.wait(60)
            except subprocess.TimeoutExpired:
                self._container.kill()
                self._container.wait(10)
        self._container = None

    def pull_the_plug(self):
        """Every process of the machine ends at once."""
        os.kill(int(self._leader), signal.SIGKILL)
        self._container.wait(30)
        self._container = None

    def __enter__(self):
        return self.boot()

    def __exit__(self, *error):
        self.power_off()

    # ------------------------------------------------------------ in it

    def run(self, *words, given="", check=True, user="", seconds=60, **environment):
        """Run a command in the machine, with root's environment as sudo gives it, or as `user`."""
        settings = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": f"/home/{user}" if user else "/root", **environment}
        enter = ["nsenter", "--target", self._leader, "--all", "--wdns=/", "env", "-i", *(f"{n}={v}" for n, v in settings.items())]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        done = subprocess.run([*enter, *become, *words], input=given, capture_output=True, text=True, timeout=seconds)
        assert "Traceback" not in done.stderr, done.stderr
        assert not check or done.returncode == 0, f"{words}: status {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}"
        return done

    def terminal(self, *words, **environment):
        """A command in the machine at a terminal of 80 columns, as root."""
        settings = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", "TERM": "xterm-256color", **environment}
        enter = ["nsenter", "--target", self._leader, "--all", "--wdns=/", "env", "-i", *(f"{n}={v}" for n, v in settings.items())]
        return VirtualTerminal([shutil.which(enter[0]), *enter[1:], *words], {})

    def kill(self, *pids):
        """SIGKILL, to processes by their numbers in the machine; the tree has no kill(1)."""
        assert all(int(pid) > 0 for pid in pids), f"{pids}: 0 would be the process group of the tests themselves"
        self.run("python3", "-c", "import os, sys; [os.kill(int(pid), 9) for pid in sys.argv[1:]]", *map(str, pids))

    def log(self, lines=60):
        done = subprocess.run(
            ["nsenter", "--target", self._leader, "--all", "journalctl", "--no-pager", "--quiet", f"--lines={lines}"],
            capture_output=True,
            text=True,
        )
        return done.stdout

    def write(self, path, text, mode=0o644):
        place = self.tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def snapshot(self):
        """Path -> kind, mode, owner, content of everything that is the machine's configuration."""
        found = {}
        skipped = {str(self.tree / name) for name in LIVES}
        for folder, folders, names in os.walk(self.tree):
            folders[:] = sorted(name for name in folders if os.path.join(folder, name) not in skipped)
            for name in [*folders, *names]:
                path = os.path.join(folder, name)
                if name == "__pycache__" or name.endswith(".pyc"):
                    continue  # Python's own; whatever else lies there counts
                status = os.lstat(path)
                owner = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
                if stat.S_ISLNK(status.st_mode):
                    what = ("link", os.readlink(path), status.st_uid, status.st_gid)
                elif stat.S_ISREG(status.st_mode):
                    small = status.st_size < 1 << 20 and not path.startswith(str(self.tree / "usr/share"))
                    content = pathlib.Path(path).read_bytes() if small else status.st_mtime_ns
                    what = ("file", hashlib.sha256(content).hexdigest() if small else content, *owner)
                else:
                    what = (stat.S_IFMT(status.st_mode), *owner)
                found[os.path.relpath(path, self.tree)] = what
        return found
