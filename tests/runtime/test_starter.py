"""The owner that a submission leaves behind owes nothing to the submitter."""

import os
import subprocess
import sys
import time

import pytest
from sendmail_program import ROOT

from dma_runtime import config
from dma_runtime.system import starter

# Run in a process of its own: it forks. The owner's command is replaced by one that writes down how it was started.
CODE = """
import os, signal, sys
sys.path.insert(0, {root!r})
from dma_runtime import config
from dma_runtime.system import starter
starter.SYSTEMD_RUN = {systemd!r}
starter.command = lambda arguments: ["/bin/sh", "-c", {script!r}, "sh", *arguments]
found = config.parse("", "f")
found.user_mode = {user_mode!r}
os.open("/dev/null", os.O_RDONLY)
os.set_inheritable(os.open("/etc/passwd", os.O_RDONLY), True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGHUP])
os.umask(0)
starter.start_owner({conf!r}, found, run=True)
print(os.getpid(), os.getsid(0))
"""
SCRIPT = (
    "exec 3>{out}.new; while IFS= read -r line; do printf '%s\\n' \"$line\"; done </proc/$$/status >&3;"
    " echo cwd=$(pwd) umask=$(umask) args=$* >&3; readlink /proc/$$/fd/* >&3;"
    " cut -d' ' -f4,6 /proc/$$/stat >&3; echo ENV >&3; env >&3; mv {out}.new {out}"
)


def started(tmp_path, *, systemd="/nonexistent", user_mode=False, conf=None, environment=None):
    """(what the owner wrote, pid of the starter, its session)."""
    out = tmp_path / "out"
    code = CODE.format(root=str(ROOT), systemd=systemd, script=SCRIPT.format(out=out), user_mode=user_mode, conf=conf)
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "SECRET": "x", **(environment or {})},
    )
    assert ran.returncode == 0, ran.stderr.decode()
    deadline = time.monotonic() + 20
    while not out.exists():
        assert time.monotonic() < deadline, "no owner came"
        time.sleep(0.02)
    pid, session = ran.stdout.split()
    return out.read_text(), int(pid), int(session)


def test_a_fork_inherits_nothing(tmp_path):
    text, pid, session = started(tmp_path, conf="/c/dma.conf")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    library = 1 << 31 | 1 << 32  # signals 32 and 33 are the C library's; no program can set them
    assert int(status["SigIgn"], 16) & ~library == 0
    assert int(status["SigBlk"], 16) == 0
    assert "cwd=/ umask=0077 args=--leave-when-empty --run -C /c/dma.conf" in text
    assert "/etc/passwd" not in text
    parent, its_session = next(line for line in text.splitlines() if line.replace(" ", "").isdigit()).split()
    assert int(parent) != pid
    assert int(its_session) != session
    environment = text.partition("ENV\n")[2]
    assert "SECRET" not in environment
    assert "HOME=" in environment


def test_user_mode_keeps_where_its_files_are(tmp_path):
    places = {"HOME": "/h", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "relative"}
    environment = started(tmp_path, user_mode=True, environment=places)[0].partition("ENV\n")[2].splitlines()
    assert "HOME=/h" in environment
    assert "XDG_CONFIG_HOME=/c" in environment
    assert not [line for line in environment if line.startswith("XDG_STATE_HOME")]
    (tmp_path / "out").unlink()
    environment = started(tmp_path, user_mode=False, environment=places)[0].partition("ENV\n")[2].splitlines()
    assert "HOME=/h" not in environment


@pytest.mark.parametrize("works", [True, False])
def test_systemd_is_asked_first_and_a_failure_is_made_good(tmp_path, monkeypatch, works):
    """With a bus, systemd-run is called once with the whole command; when it fails we are the owner ourselves."""
    fake = tmp_path / "systemd-run"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\nexit {0 if works else 1}\n')
    fake.chmod(0o755)
    (tmp_path / "run" / "systemd").mkdir(parents=True)
    (tmp_path / "run" / "systemd" / "private").touch()
    monkeypatch.setattr(starter, "SYSTEMD_RUN", str(fake))
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": "/h"}
    assert starter._by_systemd(["/bin/true", "a b"], environment) is works
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[-3:] == ["--", "/bin/true", "a b"]
    assert {"--user", "--collect", "--setenv=HOME=/h"} <= set(asked)
    assert "--scope" not in asked


def test_without_a_bus_systemd_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(starter, "SYSTEMD_RUN", "/bin/false")
    assert starter._by_systemd(["/bin/true"], {"XDG_RUNTIME_DIR": str(tmp_path)}) is False
    assert starter._by_systemd(["/bin/true"], {}) is False


def test_the_command_is_this_installation():
    words = starter.command(["-C", "/a b/dma.conf"])
    assert words[:3] == [sys.executable, "-IS", "-c"]
    code = words[3].replace("sys.exit(main(", "print(main.__module__, (")
    ran = subprocess.run([*words[:3], code], capture_output=True, cwd="/", env={})
    assert ran.stdout.decode() == "dma_runtime.cmd.daemon ['-C', '/a b/dma.conf']\n", ran.stderr.decode()


def test_the_environment_is_the_accounts():
    environment = starter.owner_environment(config.parse("", "f"))
    assert environment["PATH"]
    assert environment["XDG_RUNTIME_DIR"] == f"/run/user/{os.getuid()}"
