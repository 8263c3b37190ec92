"""A real KWallet: dbus-daemon and Debian's kwalletd5 in a home of their own, ended by their process ids.

    with KWallet(tmp_path) as desktop:
        desktop.start(unlock="login password")
        desktop.start(unlock=None)        # again: nobody typed the wallet's password

It is opened as pam_kwallet opens it at the login: a key through a pipe, then the session's environment through a socket.
Qt draws nowhere, so a question that KWallet asks is answered by nobody.
"""

import hashlib
import os
import shutil
import socket
import subprocess

import pytest
from secret_service import SecretService

PROGRAMS = {"dbus-daemon": "dbus", "dbus-send": "dbus", "kwalletd5": "libkf5wallet-bin"}
KEY = 56  # bytes, as pam_kwallet makes them
LIBRARIES = ("LD_LIBRARY_PATH", "QT_PLUGIN_PATH")  # where the package is only unpacked


def needed():
    """Skip the test, loudly, where a program is missing."""
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        pytest.skip(f"needs a KWallet: apt install {' '.join(missing)}")


class KWallet(SecretService):
    def environment(self):
        here = {name: os.environ[name] for name in LIBRARIES if name in os.environ}
        return {**super().environment(), "QT_QPA_PLATFORM": "offscreen", **here}

    def start(self, unlock):
        self.stop()
        path = self.runtime / "login"
        words, environment = ["kwalletd5"], self.environment()
        reading, writing = os.pipe()
        with socket.socket(socket.AF_UNIX) as listener, open(reading, "rb"), open(writing, "wb") as key:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            listener.listen()
            if unlock is not None:
                words += ["--pam-login", str(reading), str(listener.fileno())]
                environment["PAM_KWALLET5_LOGIN"] = str(path)
            self.daemon = subprocess.Popen(
                words,
                env=environment,
                pass_fds=(reading, listener.fileno()),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if unlock is not None:
                key.write(hashlib.shake_256(unlock.encode()).digest(KEY))
                key.flush()
                with socket.socket(socket.AF_UNIX) as session:
                    session.connect(str(path))
                    session.sendall("".join(f"{name}={value}\n" for name, value in environment.items()).encode())
        self._until(lambda: self._owner("org.kde.kwalletd5") == self.daemon.pid, "kwalletd5 does not answer")
        self._until(lambda: self.is_open() == (unlock is not None), "the wallet is not as it should be")

    def is_open(self):
        return "true" in self.call("isOpen", "string:kdewallet")

    def call(self, method, *arguments):
        """One call to KWallet; its printed reply."""
        return self._send("org.kde.kwalletd5", "/modules/kwalletd5", f"org.kde.KWallet.{method}", *arguments)

    def store(self, service, user, secret):
        """As any other program of KDE does."""
        handle = self.call("open", "string:kdewallet", "int64:0", "string:test").split()[-1]
        words = (f"string:{service}", f"string:{user}", f"string:{secret}", "string:test")
        assert self.call("writePassword", f"int32:{handle}", *words).split()[-1] == "0"
        self.call("sync", f"int32:{handle}", "string:test")
