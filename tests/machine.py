"""A machine of its own for a test: real users, the real paths, the real programs, in a private mount namespace.

    with Machine() as machine:
        machine.start()                                     # dmad, as root starts it
        ran = machine.run("sendmail", "bob@x.test", user="alice", stdin=b"Subject: s\\n\\nx\\n")
        machine.queue()                                     # what root sees with dma-queue list --json

/etc, /run, /home, /var/spool and /var/mail are directories of the test's own; nothing of the machine underneath is changed.
Users: root, dma (uid 990), alice (1001), bob (1002), mallory (1003), and group mail. The programs are launchers as
`dma-setup` writes them. Needs root and the right to mount: `Machine()` skips the test loudly without.

Every process is ended by its pid.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time

import pytest

from dma_runtime import request

ROOT = pathlib.Path(__file__).resolve().parent.parent
USERS = {"root": (0, 0), "dma": (990, 990), "alice": (1001, 1001), "bob": (1002, 1002), "mallory": (1003, 1003)}
DOORS = {
    "sendmail": "sendmail", "mailq": "sendmail", "newaliases": "sendmail", "dmad": "daemon", "dma-queue": "queue",
    "dma-mailbox": "mailbox", "dma-credential": "credential",
}  # fmt: skip
LAUNCHER = """#!/usr/bin/python3 -IS
import sys
sys.path.insert(0, {library!r})
sys.path.append({packages!r})
from dma_runtime.cmd.{door} import main
sys.exit(main())
"""
CONF = "MAILNAME here.test\nSMARTHOST 127.0.0.1:9\nRETRY 1h 3h\n"
MESSAGE = b"Subject: test\n\nhello\n"
COPIED = ("ld.so.cache", "ld.so.conf", "localtime", "machine-id", "hosts", "alternatives", "python3", "python3.11")


class Machine:
    def __init__(self, conf=CONF, aliases=""):
        if os.getuid() != 0:
            pytest.skip("needs root: users and mounts of its own")
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="dma-machine-"))
        self.top.chmod(0o755)
        self.programs = self.top / "bin"
        self.spool = self.top / "spool" / "dma"
        self.log = self.top / "dmad.log"
        self.running = []
        self._files(conf, aliases)
        self._namespace()

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.close()

    # ------------------------------------------------------------ making it

    def _files(self, conf, aliases):
        for name, mode, gid in (("etc", 0o755, 0), ("run", 0o755, 0), ("home", 0o755, 0), ("spool", 0o755, 0), ("mail", 0o2775, 8),
                                ("bin", 0o755, 0)):  # fmt: skip
            place = self.top / name
            place.mkdir()
            os.chown(place, 0, gid)
            place.chmod(mode)
        etc = self.top / "etc"
        for name in COPIED:
            there = pathlib.Path("/etc", name)
            if there.is_dir():
                shutil.copytree(there, etc / name, symlinks=True)
            elif there.exists():
                shutil.copy(there, etc / name)
        passwd, group = ["nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin"], ["mail:x:8:", "nogroup:x:65534:"]
        for name, (uid, gid) in USERS.items():
            home = {"root": "/root", "dma": "/nonexistent"}.get(name, f"/home/{name}")
            passwd.append(f"{name}:x:{uid}:{gid}:{name}:{home}:/bin/sh")
            group.append(f"{name}:x:{gid}:")
            if home.startswith("/home"):
                place = self.top / "home" / name
                place.mkdir()
                os.chown(place, uid, gid)
        (etc / "passwd").write_text("\n".join(passwd) + "\n")
        (etc / "group").write_text("\n".join(group) + "\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
        (etc / "aliases").write_text(aliases)
        (etc / "dma").mkdir()
        self.configure(conf)
        packages = sysconfig.get_path("purelib")
        for name, door in DOORS.items():
            program = self.programs / name
            program.write_text(LAUNCHER.format(library=str(ROOT), packages=packages, door=door))
            program.chmod(0o755)
        for place in (etc, self.top / "bin"):
            for inside in place.rglob("*"):
                if not inside.is_symlink():
                    inside.chmod(inside.stat().st_mode | 0o444 | (0o111 if inside.is_dir() else 0))

    def configure(self, conf):
        (self.top / "etc" / "dma" / "dma.conf").write_text(conf)

    def _namespace(self):
        binds = {"etc": "/etc", "run": "/run", "home": "/home", "spool": "/var/spool", "mail": "/var/mail"}
        script = "set -e\n" + "".join(f"mount --bind {self.top}/{ours} {there}\n" for ours, there in binds.items())
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script + "echo ready; exec sleep 3600"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        if self.holder.stdout.readline() != b"ready\n":
            said = self.holder.stderr.read().decode().strip()
            self.close()
            pytest.skip(f"needs the right to mount in a namespace of its own: {said}")

    # ------------------------------------------------------------ programs

    def words(self, program, *arguments, user="root", path=None):
        uid, gid = USERS[user] if isinstance(user, str) else user
        inside = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--"]
        if uid != 0:
            inside += ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--"]
        return [*inside, str(path or self.programs / program), *arguments]

    def environment(self, user):
        home = "/" if isinstance(user, tuple) else {"root": "/root"}.get(user, f"/home/{user}")
        return {"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": home}

    def popen(self, program, *arguments, user="root", environment=None, path=None, **keywords):
        keywords.setdefault("cwd", "/")
        started = subprocess.Popen(
            self.words(program, *arguments, user=user, path=path),
            env=self.environment(user) | (environment or {}),
            **keywords,
        )
        self.running.append(started)
        return started

    def run(self, program, *arguments, user="root", stdin=b"", check=None, environment=None, timeout=60, path=None, **keywords):
        started = self.popen(
            program, *arguments, user=user, environment=environment, path=path,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords,
        )  # fmt: skip
        try:
            out, err = started.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            started.kill()
            raise
        finally:
            self.running.remove(started)
        assert b"Traceback" not in err, err.decode()
        assert b"internal error" not in err, err.decode()
        if check is not None:
            assert started.returncode == check, (started.returncode, out.decode(), err.decode())
        return subprocess.CompletedProcess(arguments, started.returncode, out, err)

    def send(self, *arguments, user="alice", text=MESSAGE, check=0, **keywords):
        return self.run("sendmail", *arguments, user=user, stdin=text, check=check, **keywords)

    # ------------------------------------------------------------ the daemon

    def start(self, *arguments, **keywords):
        """dmad in the foreground, started by root; returns when it answers."""
        with open(self.log, "ab") as log:
            self.dmad = self.popen("dmad", "-v", *arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **keywords)
        self.until(lambda: self.listens() or self.dmad.poll() is not None, what="dmad to listen")
        assert self.dmad.poll() is None, self.log.read_text()
        return self.dmad

    def listens(self, path="/run/dma/submit.sock", *, answers=True):
        there = self.top / path.lstrip("/")
        if not there.exists():
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(there))
                if answers:
                    probe.sendall(request.encode(request.Request(request.LIST)))
                    return probe.recv(1) != b""
            except OSError:
                return False
            return True

    def stop(self, number=signal.SIGTERM, seconds=20):
        self.dmad.send_signal(number)
        self.dmad.wait(seconds)
        self.running.remove(self.dmad)
        return self.dmad.returncode

    def door(self, name="submit.sock"):
        """The path of a socket of the machine as this process sees it."""
        return str(self.top / "run" / "dma" / name)

    def queue(self):
        return json.loads(self.run("dma-queue", "list", "--json", check=0).stdout)

    def ids(self):
        try:
            return sorted(os.listdir(self.spool / "queue"))
        except FileNotFoundError:
            return []

    def message(self, name):
        """(envelope, bytes) of a queued message."""
        from dma_runtime.envelope import decode

        line, _, text = (self.spool / "queue" / name).read_bytes().partition(b"\n")
        return decode(line), text

    def until(self, wish, seconds=20, what="it"):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := wish():
                return found
            time.sleep(0.02)
        said = self.log.read_text()[-2000:] if self.log.exists() else ""
        raise AssertionError(f"waited {seconds} s for {what}\n{said}")

    def close(self):
        for process in [*self.running, self.holder]:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        self.running.clear()
        shutil.rmtree(self.top, ignore_errors=True)
