"""Which mailer programs find as `sendmail` now, and whether mail already lies in a mailbox that nobody seems to read."""

from __future__ import annotations

import os
import shutil

from dma_setup.facts.look import WARN, Found
from dma_setup.place import Place

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


def probe(place: Place) -> Found:
    found = Found()
    found.values["mailer"] = ""
    if not place.is_live:
        return found
    path = shutil.which("sendmail", path=f"/usr/sbin:/usr/lib:/sbin:{os.environ.get('PATH', '')}")
    own = set(place.links.values())
    if path is not None and path not in own:
        name = mailer_name(path)
        found.values["mailer"] = name
        if place.is_user:
            found.say(WARN, f"{name} stays this machine's mailer; your own programs use this one once ~/.local/bin comes first")
        else:
            found.say(WARN, f"{name} is the current mailer")
    waiting = mailbox_messages(f"/var/mail/{place.login}")
    if waiting:
        found.say(WARN, f"/var/mail/{place.login} holds {waiting} message{'s' if waiting != 1 else ''}; they stay there")
    return found


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
