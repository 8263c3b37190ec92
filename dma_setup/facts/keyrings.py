"""Which keyring works here: proved by storing, reading and deleting an entry; and where the password is now."""

from __future__ import annotations

import os
import shutil

from dma_runtime import authconf, config
from dma_runtime.system import credentials
from dma_setup.facts.look import OK, WARN, Found
from dma_setup.place import Place
from dma_setup.stores import MACHINE, StoreProblem, Stores
from dma_setup.system import System


def now(place: Place, system: System) -> Found:
    """Where auth.conf says the password of the present relay is: a value of the question `keyring`, "" when nowhere."""
    found = Found()
    found.values["keyring_now"] = found.values["relay_now"] = ""
    conf, auth = (system.look(place.at(path, follow=True)) for path in (place.dma_conf, place.auth_conf))
    if conf is None:
        return found
    settings = config.parse(conf.content.decode("utf-8", "surrogateescape"), place.dma_conf)
    if settings.SMARTHOST is None:
        return found
    found.values["relay_now"] = settings.SMARTHOST.name
    if auth is None:
        return found
    logins = authconf.parse(auth.content.decode("utf-8", "surrogateescape"), place.auth_conf)
    login = logins.find(settings.SMARTHOST.name, settings.SMARTHOST.port or settings.PORT)
    if login is None:
        return found
    kind, detail = login.reference.kind, login.reference.value
    if kind == authconf.KEYRING:
        found.values["keyring_now"] = settings.KEYRING or ""
    elif kind == authconf.FILE:
        ours = detail.reveal().startswith(place.config + "/secrets/")
        found.values["keyring_now"] = "file" if ours else "reference"
    elif kind == authconf.COMMAND:
        found.values["keyring_now"] = "reference"
    return found


def _machine(found: Found) -> Found:
    """System mode: nothing is written to try it, for the first credential makes the machine's key."""
    if not os.path.isdir("/run/systemd/system") or not os.path.exists(credentials.PROGRAM):
        found.say(WARN, "there is no systemd-creds here; the password can be kept in a file that only root and dma can read")
    elif credentials.Store().foreign_machine():
        found.say(WARN, f"{credentials.HOST_KEY} was made for another machine-id (a copied machine?); remove it to use credentials")
    else:
        found.values["keyring"] = MACHINE
        found.say(OK, "passwords can be kept encrypted for this machine alone (systemd-creds)")
    return found


# The first that works. KWallet is never asked anything that it would ask a person; a Secret Service may be started by the
# question, and then want a password for a new keyring.
_DESKTOPS = (("kwallet", "KDE's wallet (KWallet)"), ("secret-service", "your desktop's keyring (Secret Service)"))


def probe(place: Place, system: System) -> Found:
    """Value `keyring`: the best one that works, "" when none does."""
    found = Found()
    found.values["keyring"] = ""
    if not place.is_live:
        return found
    if not place.is_user:
        return _machine(found)
    bus = os.path.exists(f"/run/user/{place.uid}/bus")  # where delivery looks for it, whoever starts it
    why = "there is no desktop session here"
    if not bus and os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        why = "this session's can be reached from this session alone, not by timers and cron"
    for name, says in _DESKTOPS if bus else ():
        try:
            Stores(system).prove(name)
        except StoreProblem as problem:
            if "not running" not in problem.text:
                why = problem.text.partition(": ")[2] or problem.text
        else:
            found.values["keyring"] = name
            found.say(OK, f"passwords can be kept encrypted by {says}")
            return found
    if shutil.which("pass") is not None and os.path.isdir(os.path.join(place.home, ".password-store")):
        try:
            Stores(system).prove("pass")
        except StoreProblem as problem:
            found.say(WARN, f"pass is here but does not work unattended: {problem.text.partition(': ')[2]}")
        else:
            found.values["keyring"] = "pass"
            found.say(OK, "passwords can be kept encrypted by pass")
            return found
    found.say(WARN, f"no keyring works here ({why}); the password can be kept in a file only you can read")
    return found
