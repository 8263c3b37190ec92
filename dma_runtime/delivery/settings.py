"""What the owner works by, read again when it changes: dma.conf, auth.conf, RELAYMAP.

Rules:
- A changed configuration frees the queue: whoever corrects a relay or a password need not tell the daemon.
- A file that has become unusable does not stop what worked: the last sound configuration stays, with one warning.
- So does a dma.conf that is gone, and one that was emptied a moment ago: somebody may be writing it anew, and by the
  defaults mail would leave directly, past the relay.
- One that was not there, and means the defaults, is looked for again.
- An empty RELAYMAP or auth.conf that had lines before holds the mail, as one that cannot be read does.
- The queue does not move while it is being worked on: SPOOLDIR and SOCKET stay what they were at the start.
"""

from __future__ import annotations

import os
import time

from dma_runtime import authconf, config
from dma_runtime.errors import ConfigError, DmaError
from dma_runtime.policy.relaymap import RelayMap
from dma_runtime.system import relayfile
from dma_runtime.system.maillog import MailLog

Signature = tuple[int, int, int] | None

BEING_WRITTEN = 2.0  # seconds for which an empty file is held to be unfinished


class Settings:
    """`config` is always sound. `logins` are those of auth.conf; `auth_problem` says why they cannot be read, "" if they
    can. `relays` and `map_problem` are the same for RELAYMAP."""

    def __init__(self, found: config.Config, log: MailLog) -> None:
        self.config = found.sound()
        self.log = log
        self.logins = authconf.AuthFile("")
        self.auth_problem = ""
        self._source = found.wanted  # looked at again, too, when it was not there or has gone
        # As it was when it was read: it may have been corrected since.
        self._conf_seen = _signature(self._source) if found.seen == () else found.seen
        self._auth_seen: Signature = None
        self.relays = RelayMap()
        self.map_problem = ""
        self._map_seen: Signature = None
        self._had_lines: set[str] = set()  # files that were not empty
        self._read_logins()
        self._read_relays()

    def refresh(self) -> bool:
        """Look at the files; True when one has changed and is in force now."""
        changed = False
        if self._source and (seen := _signature(self._source)) != self._conf_seen:
            changed = self._read_config(self._source, seen)
        if self.config.AUTHPATH and _signature(self.config.AUTHPATH) != self._auth_seen:
            self._read_logins()
            changed = True
        if self.config.RELAYMAP and _signature(self.config.RELAYMAP) != self._map_seen:
            self._read_relays()
            changed = True
        return changed

    def _read_config(self, source: str, seen: Signature) -> bool:
        if seen is None:
            self._conf_seen = seen
            self.log.warning(f"{source} is gone; the configuration read before stays in force")
            return False
        try:
            found = config.load(source)
            if not found.source:
                return False  # gone since we looked
            if not found.lines and time.time() - seen[1] / 1e9 < BEING_WRITTEN:
                return False
            self._conf_seen = seen
            found.system = self.config.system
            if self.config.user_mode:
                found.user_mode = True
                found.values.setdefault("AUTHPATH", os.path.dirname(source) + "/auth.conf")  # its default, beside the file
            for name in ("SPOOLDIR", "SOCKET"):
                if name in found.values and found.values[name] != getattr(self.config, name):
                    self.log.warning(f"{source}: {name} takes effect when this process is started anew")
                found.values.pop(name, None)
                if name in self.config.values:
                    found.values[name] = self.config.values[name]
            self.config = found.sound()
        except (ConfigError, DmaError) as error:
            self._conf_seen = seen
            self.log.warning(f"{error.text}; the configuration read before stays in force")
            return False
        for warning in found.warnings:
            self.log.warning(warning)
        self._read_logins()
        self._read_relays()
        return True

    def _read_logins(self) -> None:
        path = self.config.AUTHPATH
        self.auth_problem = ""
        self.logins = authconf.AuthFile(path or "")
        if not path:
            return
        self._auth_seen = _signature(path)
        if self._emptied(path, self._auth_seen):
            self.auth_problem = f"auth file `{path}' is empty all at once"
            return
        try:
            self.logins = authconf.parse(config.contents(path), path)
        except FileNotFoundError:
            # In user mode the path is a default; otherwise somebody named a file that is not there.
            self.auth_problem = "" if "AUTHPATH" not in self.config.lines else f"auth file `{path}' does not exist"
        except OSError as error:
            self.auth_problem = f"can not open auth file `{path}': {error.strerror}"
        for problem in self.logins.problems:
            self.log.warning(problem.text)
        host = self.config.SMARTHOST
        if host is not None and self.logins.logins and self.logins.find(host.name, host.port or self.config.PORT) is None:
            known = ", ".join(sorted({login.host for login in self.logins.logins}))
            self.log.warning(f"{path} has no login for SMARTHOST {host}, only for {known}: mail goes there without signing in")

    def _emptied(self, path: str, seen: Signature) -> bool:
        """The file has nothing in it any more."""
        if seen and seen[2]:
            self._had_lines.add(path)
        return seen is not None and not seen[2] and path in self._had_lines

    def _read_relays(self) -> None:
        path = self.config.RELAYMAP
        self.map_problem = ""
        self.relays = RelayMap(path or "")
        self._map_seen = _signature(path) if path else None
        if path and self._emptied(path, self._map_seen):
            self.map_problem = f"relay map `{path}' is empty all at once"
            return
        try:
            self.relays = relayfile.load(path)
        except OSError as error:
            self.map_problem = f"can not open relay map `{path}': {error.strerror}"
        for problem in self.relays.problems:
            self.log.warning(problem.text)


def _signature(path: str) -> Signature:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
