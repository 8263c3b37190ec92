"""The units, sysusers and tmpfiles fragments as systemd's own tools read them."""

import os
import re
import shutil
import stat
import subprocess

import pytest

from dma_setup import render

UNITS = (
    "dma.socket",
    "dma.service",
    "dma-secret.socket",
    "dma-secret@.service",
    "dma-mailbox.socket",
    "dma-mailbox@.service",
    "dma-command.socket",
    "dma-command@.service",
    "dma-queue.service",
    "dma-queue.timer",
)
PROGRAMS = ("dma", "dmad", "dma-queue", "dma-secret", "dma-mailbox")


def text(template, **more):
    values = {"library": "/usr/local/lib/dma", "spool": "/var/spool/dma", "resident": True, **more}
    return render.template(f"system/{template}.j2", values)


def tool(name, package="systemd"):
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}: apt install {package}")
    return name


@pytest.fixture
def units(tmp_path):
    """All units in a folder, with programs that exist."""
    library = tmp_path / "library"
    library.mkdir()
    for name in PROGRAMS:
        (library / name).write_text("#!/bin/sh\n")
        (library / name).chmod(0o755)
    folder = tmp_path / "units"
    folder.mkdir()
    for name in UNITS:
        (folder / name).write_text(text(name, library=str(library)))
    drop_in = folder / "dma-secret@.service.d"
    drop_in.mkdir()
    (drop_in / "a.conf").write_text(text("dma-secret.conf", name="dma.h.a", path="/etc/dma/credentials/dma.h.a.cred"))
    return folder


def test_systemd_understands_every_line(units):
    tool("systemd-analyze")
    words = ["systemd-analyze", "verify", "--man=no", *(str(units / name) for name in UNITS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("dma.service", 1.5),
        ("dma-secret@.service", 3.0),
        ("dma-mailbox@.service", 3.0),
        ("dma-command@.service", 3.0),
        ("dma-queue.service", 3.0),
    ],
)
def test_exposure(units, unit, most):
    tool("systemd-analyze")
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(units / unit)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= most


def settings(name):
    """Section -> key -> all its values."""
    found = {}
    section = ""
    for line in text(name).splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            found[section] = {}
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[section].setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", ["dma.service", "dma-secret@.service", "dma-mailbox@.service", "dma-command@.service"])
def test_traps_of_system_mode(name):
    """hard-parts.md, System mode: each of these lines was tried and broke something."""
    found = settings(name)
    assert "PrivateUsers" not in found["Service"], "SO_PEERCRED would show uid 65534"
    assert "RuntimeDirectory" not in found["Service"], "it deletes the listening socket on stop"
    assert found["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert "network-online.target" not in str(found)
    assert "DynamicUser" not in found["Service"]


def test_the_service_carries_no_credential():
    found = settings("dma.service")["Service"]
    assert not [key for key in found if "Credential" in key]
    assert (found["Type"], found["WatchdogSec"], found["User"]) == (["notify"], ["120s"], ["dma"])


def test_who_may_reach_which_socket():
    said = {}
    for name in ("dma.socket", "dma-secret.socket", "dma-mailbox.socket", "dma-command.socket"):
        found = settings(name)["Socket"]
        owner = found.get("SocketUser", ["root"])
        said[found["ListenStream"][0]] = (found["SocketMode"][0], owner[0], found.get("Accept", ["no"])[0])
        assert found["TriggerLimitIntervalSec"] == ["0"], "a crash loop must not take the socket away"
        assert "RemoveOnStop" not in found
    assert said == {
        "/run/dma/submit.sock": ("0666", "root", "no"),
        "/run/dma/secret.sock": ("0600", "dma", "yes"),
        "/run/dma/mailbox.sock": ("0600", "dma", "yes"),
        "/run/dma/command.sock": ("0600", "dma", "yes"),
    }


@pytest.mark.parametrize("name", ["dma-secret@.service", "dma-mailbox@.service", "dma-queue.service"])
def test_helpers_have_no_network(name):
    found = settings(name)["Service"]
    assert found["PrivateNetwork"] == ["yes"]
    assert found["RestrictAddressFamilies"] == ["AF_UNIX"]
    if "@" in name:
        assert found["StandardInput"] == found["StandardOutput"] == ["socket"]


def relaxations(name):
    """Lines of a unit that give more than the strictest value would, with the comment above each."""
    strictest = {
        "ProtectHome": "yes",
        "CapabilityBoundingSet": "",
        "RestrictAddressFamilies": "none",
        "ReadWritePaths": None,
        "SystemCallFilter": "@system-service",
        "PrivateNetwork": "yes",
    }
    comment, found = "", {}
    for line in text(name).splitlines():
        if line.startswith("#"):
            comment = line
        elif not line:
            comment = ""
        key, _, value = line.partition("=")
        if key in strictest and value != strictest[key] and not value.startswith("~"):
            found[line] = comment
    return found


@pytest.mark.parametrize(
    "name", ["dma.service", "dma-secret@.service", "dma-mailbox@.service", "dma-command@.service", "dma-queue.service"]
)
def test_every_relaxation_has_its_reason_above_it(name):
    found = relaxations(name)
    assert found
    assert [line for line, comment in found.items() if not comment] == []
    if "PrivateUsers=yes" not in text(name):
        assert "No PrivateUsers=" in text(name)


def test_only_the_mailbox_processes_may_become_others():
    bounds = {name: settings(name)["Service"]["CapabilityBoundingSet"] for name in UNITS if name.startswith("dma-") and "@" in name}
    others = ["CAP_SETUID CAP_SETGID"]
    assert bounds == {"dma-secret@.service": [""], "dma-mailbox@.service": others, "dma-command@.service": others}
    assert settings("dma.service")["Service"]["CapabilityBoundingSet"] == [""]


def test_a_daemon_that_does_not_stay(units):
    assert "ExecStart=/usr/local/lib/dma/dmad\n" in text("dma.service")
    assert "ExecStart=/usr/local/lib/dma/dmad --leave-when-empty\n" in text("dma.service", resident=False)
    assert "Restart=on-failure" in text("dma.service", resident=False)
    assert "ExecStart=/usr/local/lib/dma/dma-queue run --due\n" in text("dma-queue.service")


def test_a_percent_sign_in_a_login_is_not_a_specifier():
    said = text("dma-secret.conf", name="dma.h.a%b", path="/etc/dma/credentials/dma.h.a%b.cred")
    assert "LoadCredentialEncrypted=dma.h.a%%b:/etc/dma/credentials/dma.h.a%%b.cred\n" in said


def test_the_account_as_sysusers_makes_it(tmp_path):
    tool("systemd-sysusers")
    if os.getuid() != 0:
        pytest.skip("needs root: systemd-sysusers --root")
    (tmp_path / "etc/sysusers.d").mkdir(parents=True)
    (tmp_path / "etc/sysusers.d/dma.conf").write_text(text("sysusers.conf"))
    done = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", "dma.conf"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("dma:")]
    name, _, uid, gid, comment, home, shell = line.split(":")
    assert (name, uid, comment, home, shell) == ("dma", gid, "Mail queue", "/var/spool/dma", "/usr/sbin/nologin")
    assert 0 < int(uid) < 1000


def test_the_directory_as_tmpfiles_makes_it(tmp_path):
    tool("systemd-tmpfiles")
    if os.getuid() != 0:
        pytest.skip("needs root: systemd-tmpfiles --root gives the directory to root")
    for name in ("etc/tmpfiles.d", "run"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    (tmp_path / "etc/tmpfiles.d/dma.conf").write_text(text("tmpfiles.conf"))
    words = ["systemd-tmpfiles", f"--root={tmp_path}", "--create", "dma.conf"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = (tmp_path / "run/dma").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o755, 0, 0)
