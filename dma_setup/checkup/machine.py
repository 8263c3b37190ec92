"""What the machine does, or forbids, in the first week: its clock, what wakes the queue, confinements, a blocked port."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator

from dma_runtime.system import localsocket
from dma_setup import reader
from dma_setup.checkup.finding import FAIL, OK, WARN, Diagnosis, Patient
from dma_setup.facts.host import BUILT, systemd_user
from dma_setup.facts.provider import mail_exchangers
from dma_setup.verbs import service, wake

SECONDS = 6.0


def _systemd(patient: Patient) -> bool:
    return patient.place.is_live and os.path.isdir("/run/systemd/system")


def clock(patient: Patient) -> Iterator[Diagnosis]:
    if patient.now < BUILT:
        seen = time.strftime("%Y-%m-%d %H:%M", time.localtime(patient.now))
        yield Diagnosis(
            "clock", FAIL, "the clock shows a time before this program was written", seen, "sudo timedatectl set-ntp true"
        )
    elif _systemd(patient):
        said = patient.system.run(["timedatectl", "show", "-p", "NTPSynchronized", "--value"], seconds=3).output.strip()
        if said == "no":
            text = "nothing keeps the clock right; certificates and one-time passwords depend on it"
            yield Diagnosis("clock", WARN, text, "NTPSynchronized=no", "sudo timedatectl set-ntp true")
        elif said == "yes":
            yield Diagnosis("clock", OK, "the clock is kept right by the network")


def waking(patient: Patient) -> Iterator[Diagnosis]:
    """What looks after mail that waits, after a reboot or a crash."""
    place = patient.place
    if not place.is_live:
        return
    if not place.is_user:
        yield from _units(patient)
        return
    again = patient.again()
    if systemd_user(place):
        if patient.system.run(["systemctl", "--user", "is-active", wake.TIMER], seconds=5).output.strip() != "active":
            yield Diagnosis("waking", WARN, "the timer that looks after the queue does not run", f"{wake.TIMER}: not active", again)
        elif not os.path.exists(f"/var/lib/systemd/linger/{place.login}"):
            text = "mail that waits goes on only while you are logged in"
            yield Diagnosis("waking", WARN, text, "lingering is off", f"loginctl enable-linger {place.login}")
        else:
            yield Diagnosis("waking", OK, "a timer looks after the queue, also while you are logged out")
        return
    if (
        shutil.which("crontab") is not None
        and f"{place.library}/dma-queue" in patient.system.run(["crontab", "-l"], seconds=5).output
    ):
        yield Diagnosis("waking", OK, "your crontab looks after the queue")
        return
    text = "nothing looks after the queue after a reboot; mail that waits goes on with the next message"
    if shutil.which("crontab") is None:
        command = f"sudo apt install cron    # then: {again}"
        yield Diagnosis("waking", WARN, text, "there is neither systemd --user nor crontab", command)
        return
    yield Diagnosis("waking", WARN, text, "there is no line for it in your crontab", again)


def _units(patient: Patient) -> Iterator[Diagnosis]:
    if not _systemd(patient):
        yield from _listeners(patient)
        return
    new = [] if patient.system.look(f"{service.UNITS}/{service.COMMANDS}") else [service.COMMANDS]  # of no use without PIPES
    asleep = [unit for unit in service.SOCKETS if unit not in new and _active(patient, unit) != "active"]
    if asleep:
        text = "programs cannot hand in mail: the service's sockets are not there"
        yield Diagnosis("units", FAIL, text, f"{', '.join(asleep)}: not active", f"sudo systemctl enable --now {' '.join(asleep)}")
    timer = "dma-queue.timer"  # of a daemon that does not stay
    if patient.system.look(f"{service.UNITS}/{timer}") is not None and _active(patient, timer) != "active":
        text = "nothing wakes the daemon for mail that waits"
        yield Diagnosis("units", FAIL, text, f"{timer}: not active", f"sudo systemctl enable --now {timer}")
        asleep.append(timer)
    failed = [unit for unit in ("dma.service", "dma-queue.service") if _active(patient, unit) == "failed"]
    if failed:
        yield Diagnosis("units", FAIL, "the service failed", f"{', '.join(failed)}: failed", f"journalctl -u {failed[0]} -n 30")
    installed = reader.library(patient.place, patient.system)
    running = _active(patient, "dma.service") == "active"
    if running and installed is not None and service.outdated(patient.system, installed[1]):
        text = "the daemon still runs the program of before an upgrade"
        yield Diagnosis("units", WARN, text, f"{installed[1]} is newer than its start", f"sudo {service.RESTART}")
    elif not asleep and not failed:
        yield Diagnosis("units", OK, "the service is ready to take mail")


def _listeners(patient: Patient) -> Iterator[Diagnosis]:
    """Without systemd: whether a supervisor runs what takes mail, and what delivers it here."""
    library, door = patient.place.library, patient.config.SOCKET
    if why := localsocket.silent(door, SECONDS):
        text = "programs cannot hand in mail: the daemon does not run"
        command = f"sudo {library}/dmad    # by your supervisor, in the foreground"
        yield Diagnosis("units", FAIL, text, f"{door}: {why}", command)
        return
    mailboxes = f"{os.path.dirname(door)}/mailbox.sock"
    if not patient.config.NULLCLIENT and (why := localsocket.silent(mailboxes, SECONDS)):
        text = "mail to people of this machine waits: nobody puts it into their mailboxes"
        command = f"sudo {library}/dma-mailbox --listen {mailboxes}    # by your supervisor, in the foreground"
        yield Diagnosis("units", WARN, text, f"{mailboxes}: {why}", command)
        return
    yield Diagnosis("units", OK, "the daemon is ready to take mail")


def _active(patient: Patient, unit: str) -> str:
    return patient.system.run(["systemctl", "is-active", unit], seconds=5).output.strip()


def confined(patient: Patient) -> Iterator[Diagnosis]:
    """SELinux, AppArmor, and services that may not open the socket mail is handed in by."""
    place = patient.place
    if place.is_user or not place.is_live:
        return
    try:
        with open("/sys/fs/selinux/enforce", encoding="ascii") as file:
            enforcing = file.read().strip() == "1"
    except OSError:
        enforcing = False
    if enforcing:
        yield from _selinux(patient)
    if _systemd(patient):
        yield from without_sockets(patient)
        said = patient.system.run(
            ["journalctl", "-k", "-q", "--since", "-7d", "-n", "1", "-g", r'apparmor="DENIED".*(sendmail|/dma)'], seconds=5
        )
        if said.status == 0 and said.output.strip():
            evidence = said.output.strip().splitlines()[-1]
            text = "AppArmor keeps a program from sending mail"
            yield Diagnosis("apparmor", WARN, text, evidence, "sudo aa-logprof    # or by hand below /etc/apparmor.d/local")


def _selinux(patient: Patient) -> Iterator[Diagnosis]:
    launcher = patient.place.launcher
    try:
        label = os.getxattr(launcher, "security.selinux").decode("ascii", "replace").rstrip("\0")
    except OSError:
        label = ""
    if label and not any(kind in label for kind in (":bin_t:", ":sendmail_exec_t:")):
        yield Diagnosis(
            "selinux",
            WARN,
            "the launcher's SELinux label may keep services from running it",
            label,
            f"sudo restorecon -v {launcher}",
        )
    said = patient.system.run(["getsebool", "httpd_can_sendmail"], seconds=3).output
    if "off" in said:
        yield Diagnosis(
            "selinux", WARN, "web applications may not send mail", said.strip(), "sudo setsebool -P httpd_can_sendmail on"
        )


def without_sockets(patient: Patient) -> Iterator[Diagnosis]:
    """Running services whose RestrictAddressFamilies leaves out AF_UNIX: their `sendmail` gets exit 75."""
    words = ["systemctl", "show", "--type=service", "--state=running", "-p", "Id", "-p", "RestrictAddressFamilies", "*"]
    for block in patient.system.run(words, seconds=5).output.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        families = fields.get("RestrictAddressFamilies", "")
        denied = families.startswith("~")
        listed = "AF_UNIX" in families.lstrip("~").split()
        if families and families != "none" and listed == denied and fields.get("Id"):
            unit = fields["Id"]
            yield Diagnosis(
                "address-families",
                WARN,
                f"{unit} may not open the socket that mail is handed in by",
                f"RestrictAddressFamilies={families}",
                f"sudo systemctl edit {unit}    # [Service] RestrictAddressFamilies=AF_UNIX",
            )


def read_only(patient: Patient) -> Iterator[Diagnosis]:
    """A system whose /usr cannot be changed (ostree, NixOS): the links that programs call cannot be set up there."""
    if patient.place.is_user or not patient.place.is_live:
        return
    try:
        flags = os.statvfs("/usr").f_flag
    except OSError:
        return
    if flags & os.ST_RDONLY:
        text = "/usr is read-only here: /usr/sbin/sendmail cannot be made or kept by dma-setup"
        yield Diagnosis(
            "read-only",
            WARN,
            text,
            "/usr is mounted ro",
            "ls -l /usr/sbin/sendmail    # make the link in the image, or name /usr/local/lib/dma/dma in each program",
        )


def port_25(patient: Patient) -> Iterator[Diagnosis]:
    """Direct delivery needs port 25, which homes and many clouds block: tried at the sender's own mail exchanger."""
    if not patient.online or not patient.direct:
        return
    masquerade = patient.config.MASQUERADE
    domain = masquerade[1] if masquerade is not None and masquerade[1] else "gmail.com"
    exchangers = mail_exchangers(domain)
    if not exchangers:
        return  # no DNS, or nobody to try
    reason = ""
    for host in exchangers[:2]:
        try:
            socket.create_connection((host, 25), SECONDS).close()
        except OSError as error:
            reason = f"{host}:25: {error.strerror or error}"
            continue
        yield Diagnosis("port-25", OK, f"port 25 is open to the outside ({host} answers)")
        return
    text = "mail goes straight to its recipients, but port 25 seems to be blocked"
    yield Diagnosis("port-25", FAIL, text, reason, f"{patient.setup('smarthost')}    # a relay, which takes mail at 465 or 587")
