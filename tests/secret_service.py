"""A real Secret Service: dbus-daemon and gnome-keyring-daemon in a home of their own, ended by their process ids.

    with SecretService(tmp_path) as desktop:
        desktop.start(unlock="login password")
        desktop.store("dma:smtp.example.org", "alice", "secret")
        desktop.start(unlock=None)        # again, locked this time

The bus listens at RUNTIME/bus, where `Identity.environment` looks for the bus of a real user. In the place of the desktop's
prompter stands a program that leaves a mark and says nothing, as a person does who is not there.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from dma_runtime.system.account import Identity

PROGRAMS = {"dbus-daemon": "dbus", "gnome-keyring-daemon": "gnome-keyring", "secret-tool": "libsecret-tools"}


def needed():
    """Skip the test, loudly, where a program is missing."""
    missing = sorted(package for program, package in PROGRAMS.items() if shutil.which(program) is None)
    if missing:
        pytest.skip(f"needs a Secret Service: apt install {' '.join(missing)}")


def working_for(home):
    """Ids of the processes that have this home in their environment or command line, except our own."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            seen = pathlib.Path(f"/proc/{pid}/environ").read_bytes() + pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(home) in seen and pid != os.getpid():
            found.append(pid)
    return found


def end_all(home, except_for=()):
    """End what still works for this home, and wait until it is gone."""
    deadline = time.monotonic() + 5
    while (pids := set(working_for(home)) - set(except_for)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


class SecretService:
    def __init__(self, folder):
        self.home = folder / "home"
        self.runtime = folder / "run"
        self.home.mkdir()
        self.runtime.mkdir(mode=0o700)
        self.identity = Identity(os.getuid(), "alice", str(self.home), str(self.runtime))
        self.address = f"unix:path={self.runtime}/bus"
        self.mark = folder / "prompted"
        prompter = folder / "prompter"
        prompter.write_text(f"#!/bin/sh\ntouch {self.mark}\nexec sleep 20\n")
        prompter.chmod(0o700)
        services = self.runtime / "dbus-1" / "services"
        services.mkdir(parents=True)
        for name in ("org.gnome.keyring.SystemPrompter", "org.gnome.keyring.PrivatePrompter"):
            (services / f"{name}.service").write_text(f"[D-BUS Service]\nName={name}\nExec={prompter}\n")
        self.bus = None
        self.daemon = None

    def __enter__(self):
        self.bus = subprocess.Popen(
            ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={self.address}"],
            env=self.environment(),
            stderr=subprocess.DEVNULL,
        )
        self._until(lambda: (self.runtime / "bus").exists(), "dbus-daemon does not listen")
        return self

    def __exit__(self, *error):
        self.stop()
        # One that the bus started by itself, because somebody asked for the name.
        activated = self._owner()
        if activated:
            os.kill(activated, signal.SIGKILL)
        self.bus.kill()
        self.bus.wait()

    @property
    def pids(self):
        return [process.pid for process in (self.bus, self.daemon) if process is not None]

    def environment(self):
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "DBUS_SESSION_BUS_ADDRESS": self.address,
        }

    def start(self, unlock):
        """(Re)start gnome-keyring; `unlock` is the login password, None leaves the collection locked or missing."""
        self.stop()
        words = ["gnome-keyring-daemon", "--foreground", "--components=secrets"]
        self.daemon = subprocess.Popen(
            words + (["--unlock"] if unlock is not None else []),
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.daemon.stdin.write((unlock or "").encode())
        self.daemon.stdin.close()
        self._until(lambda: self._owner() == self.daemon.pid, "gnome-keyring-daemon does not answer")

    def stop(self):
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None
            self._until(lambda: not self._owner(), "the bus still knows an ended gnome-keyring-daemon")

    def as_of_a_login(self, *words):
        """The words of a command that finds this bus at /run/user/UID/bus, as after a login: setup wants it there, for
        timers and cron find no other. In a mount namespace of its own."""
        uid = os.getuid()
        script = 'mkdir -p /run/user && mount -t tmpfs tmpfs /run/user && mkdir "$0" && ln -s "$1" "$0/bus" && shift && exec "$@"'
        for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
            if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0:
                back = ["unshare", "-U", f"--map-user={uid}", f"--map-group={uid}"] if uid else []
                return [*unshare, "sh", "-c", script, f"/run/user/{uid}", f"{self.runtime}/bus", *back, *words]
        return pytest.skip("needs a mount namespace: run as root, or allow unprivileged user namespaces")

    def store(self, service, user, secret):
        """As keyring's own backend stores it: attributes `service` and `username`."""
        words = ["secret-tool", "store", "--label=test", "service", service, "username", user]
        subprocess.run(words, env=self.environment(), input=secret.encode(), check=True, timeout=20)

    def call(self, path, method, *arguments):
        """One D-Bus call to org.freedesktop.secrets; its printed reply."""
        return self._send("org.freedesktop.secrets", path, method, *arguments)

    def lock(self):
        self.call(
            "/org/freedesktop/secrets",
            "org.freedesktop.Secret.Service.Lock",
            "array:objpath:/org/freedesktop/secrets/collection/login",
        )

    def prompted(self):
        """True when anything asked the desktop for its prompter."""
        return self.mark.exists()

    def _owner(self, name="org.freedesktop.secrets"):
        """The process id behind a bus name, 0 when there is none."""
        method = "org.freedesktop.DBus.GetConnectionUnixProcessID"
        reply = self._send("org.freedesktop.DBus", "/org/freedesktop/DBus", method, f"string:{name}")
        return int(reply.split()[-1]) if "uint32" in reply else 0

    def _send(self, name, path, method, *arguments):
        words = ["dbus-send", f"--bus={self.address}", "--print-reply", f"--dest={name}", path, method, *arguments]
        return subprocess.run(words, capture_output=True, text=True, env=self.environment(), timeout=20).stdout

    def _until(self, condition, failure):
        deadline = time.monotonic() + 15
        while not condition():
            if time.monotonic() > deadline or self.bus.poll() is not None:
                raise AssertionError(failure)
            time.sleep(0.02)
