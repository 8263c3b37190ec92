"""Which mailer programs find as `sendmail` now, whether its queue is empty, and whether mail already lies in a mailbox that
nobody seems to read.
"""

from __future__ import annotations

import os
import shutil

from dma_setup.facts.look import FAIL, WARN, Found
from dma_setup.place import Place
from dma_setup.system import System
from dma_setup.verbs import mailer

KNOWN = (
    "exim4",
    "exim",
    "postfix",
    "sendmail",
    "msmtp",
    "ssmtp",
    "nullmailer",
    "esmtp",
    "opensmtpd",
    "smtpctl",
    "dma",
    "mailwrapper",
)


def probe(place: Place, system: System) -> Found:
    found = Found()
    found.values["mailer"] = ""
    if not place.is_live:
        return found
    path = shutil.which("sendmail", path=f"/usr/sbin:/usr/lib:/sbin:{os.environ.get('PATH', '')}")
    if path is not None and os.path.realpath(path) != os.path.realpath(place.launcher):
        name = mailer_name(path)
        found.values["mailer"] = name
        if place.is_user:
            found.say(WARN, f"{name} stays this machine's mailer; your own programs use this one once ~/.local/bin comes first")
        else:
            _say_of_the_machine(name, system, found)
    waiting = mailbox_messages(f"/var/mail/{place.login}")
    if waiting:
        found.say(WARN, f"/var/mail/{place.login} holds {waiting} message{'s; they stay' if waiting != 1 else '; it stays'} there")
    return found


def _say_of_the_machine(name: str, system: System, found: Found) -> None:
    known = mailer.KNOWN.get(name.removesuffix("4"))
    if known is None:
        found.say(WARN, f"{name} is the current mailer. It is replaced, not removed")
        return
    listed = system.run(list(known.lists), seconds=6)
    waiting = known.queued(listed.output)
    if listed.status != 0:
        found.say(WARN, f"{name} is the current mailer; whether its queue is empty could not be found out")
    elif not waiting:
        found.say(WARN, f"{name} is the current mailer; its queue is empty. It will be stopped, not removed")
    else:
        found.values["mailer_waiting"] = waiting
        found.values["mailer_flush"] = known.flush
        messages = f"{waiting} message{'s' if waiting != 1 else ''}"
        found.say(FAIL, f"{name} is the current mailer, and {messages} wait{'s' if waiting == 1 else ''} in its queue")


def mailer_name(path: str) -> str:
    """The program behind a `sendmail`, by the name of what the links lead to."""
    real = os.path.realpath(path)
    base = os.path.basename(real)
    if base == "sendmail" and os.path.isdir("/etc/postfix"):
        return "postfix"
    return base if base in KNOWN else real


def mailbox_messages(path: str) -> int:
    """How many messages an mbox holds, counted in its first 16 MB; 0 when it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(16 << 20)
    except OSError:
        return 0
    return data.count(b"\nFrom ") + data.startswith(b"From ")
