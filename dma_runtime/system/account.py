"""Whose queue this is, and the environment in which programs are started for that user.

The owner of a queue may have been started by anybody's cron job or mail program, so nothing of that environment is handed
on: HOME and the XDG directories come from the passwd entry. One thing cannot be known from there: where the session
bus listens. `unix:path=/run/user/UID/bus` when that socket exists, else the address the owner was started with,
if any, else that path after all (hard-parts.md, Secrets).
"""

from __future__ import annotations

import os
import pwd
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/usr/local/bin:/usr/bin:/bin"


class Identity:
    """uid, login name, home directory and runtime directory (absolute paths) of the queue's owner."""

    __slots__ = ("home", "runtime_dir", "uid", "user")

    def __init__(self, uid: int, user: str, home: str, runtime_dir: str) -> None:
        self.uid = uid
        self.user = user
        self.home = home
        self.runtime_dir = runtime_dir

    @classmethod
    def of(cls, uid: int) -> Identity:
        """From the passwd entry of `uid`; a user without one has the root directory as home, as login(1) does it."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(uid, str(uid), "/", f"/run/user/{uid}")
        return cls(uid, entry.pw_name, entry.pw_dir or "/", f"/run/user/{uid}")

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of a child; `environ` is the one this process was started with."""
        home = self.home.rstrip("/")
        return {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "USER": self.user,
            "LOGNAME": self.user,
            "HOME": self.home,
            "XDG_CONFIG_HOME": home + "/.config",
            "XDG_DATA_HOME": home + "/.local/share",
            "XDG_STATE_HOME": home + "/.local/state",
            "XDG_CACHE_HOME": home + "/.cache",
            "XDG_RUNTIME_DIR": self.runtime_dir,
            "DBUS_SESSION_BUS_ADDRESS": self._bus(environ.get("DBUS_SESSION_BUS_ADDRESS", "")),
        }

    def _bus(self, given: str) -> str:
        path = self.runtime_dir + "/bus"
        try:
            there = stat.S_ISSOCK(os.stat(path).st_mode)
        except OSError:
            there = False
        return given if given and not there else f"unix:path={path}"
