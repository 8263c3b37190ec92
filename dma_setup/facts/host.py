"""This machine and this person: system, init, name, git's address, crontab, lingering, the aliases in force, the clock."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time

from dma_runtime import config
from dma_setup.facts.look import OK, WARN, Found
from dma_setup.place import Place
from dma_setup.system import System
from dma_setup.verbs import alias

# When this was written; a clock before it is wrong, and certificates will look "not yet valid".
BUILT = time.mktime((2026, 11, 1, 0, 0, 0, 0, 0, 0))


def probe(place: Place, system: System) -> Found:
    found = Found()
    values = found.values
    values["hostname"] = socket.gethostname().partition(".")[0]
    values["login"] = place.login
    values["uid"] = place.uid
    values["python"] = f"{sys.version_info[0]}.{sys.version_info[1]}"
    values["os"] = _os(place)
    values["systemd"] = os.path.isdir("/run/systemd/system")
    values["systemd_user"] = systemd_user(place)
    values["linger"] = os.path.exists(f"/var/lib/systemd/linger/{place.login}")
    values["crontab"] = shutil.which("crontab") is not None
    values["git_email"] = _git_email(system)
    init = " with systemd" if values["systemd"] else ""
    found.say(OK, f"{values['os']}{init}, Python {values['python']}")
    if time.time() < BUILT:
        found.say(WARN, "the clock is wrong: it shows a time before this program was written; certificates will be refused")
    elif values["systemd"] and place.is_live:
        if system.run(["timedatectl", "show", "-p", "NTPSynchronized", "--value"], seconds=3).output.strip() == "yes":
            found.say(OK, "the clock is kept right by the network")
    _aliases(place, system, found)
    if place.is_user and place.is_live and not values["systemd_user"] and not values["crontab"]:
        found.say(WARN, "neither systemd --user nor crontab: nothing here can look after the queue after a reboot")
    return found


def _os(place: Place) -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(place.at(path, follow=True), encoding="utf-8") as file:
                fields = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
        except OSError:
            continue
        name, version = fields.get("NAME", "").strip('"'), fields.get("VERSION_ID", "").strip('"')
        return " ".join(word for word in (name.removesuffix(" GNU/Linux"), version) if word) or "this system"
    return os.uname().sysname


def systemd_user(place: Place) -> bool:
    """Whether a `systemd --user` runs for this person and can be asked."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{place.uid}")
    return os.path.exists(f"{runtime}/systemd/private") and shutil.which("systemctl") is not None


def _git_email(system: System) -> str:
    if shutil.which("git") is None:
        return ""
    done = system.run(["git", "config", "--global", "user.email"], seconds=3)
    return done.output.strip() if done.status == 0 else ""


def _aliases(place: Place, system: System, found: Found) -> None:
    """The aliases in force: those dma.conf names, else the system's."""
    path = "/etc/aliases"
    conf = system.look(place.at(place.dma_conf, follow=True))
    if conf is not None:
        path = config.parse(conf.content.decode("utf-8", "surrogateescape"), place.dma_conf).ALIASES
    entry = system.look(place.at(path, follow=True))
    text = entry.content.decode("utf-8", "surrogateescape") if entry is not None else ""
    found.values["aliases_path"] = path
    found.values["root_alias"] = alias.target(text, "root")
