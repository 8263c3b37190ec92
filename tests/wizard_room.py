"""A wizard at a terminal of 80 columns, in a room where smtp.gmail.com is a server of ours (see gmail_room), and its screen."""

import json
import os
import pathlib
import re
import subprocess
import sys

import golden_screen
import pytest
from virtual_terminal import VirtualTerminal

PROGRAM = str(pathlib.Path(sys.executable).parent / "dma-setup")
ROOM = str(pathlib.Path(golden_screen.__file__).with_name("gmail_room.py"))
PASSWORD = "abcdefghijklmnop"
ADDRESS = "alice@gmail.com"


def unshare():
    """The command that gives a room of its own; skips where nobody may have one."""
    for words in (["unshare", "-mn"], ["unshare", "-rmn"]):
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            return words
    return pytest.skip("needs mount and network namespaces: run as root, or allow unprivileged user namespaces")


class Wizard:
    """A home, and wizards started in it."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        self.result = folder / "result"
        self.programs = folder / "programs"  # where the shell finds dma-setup, and nothing else
        self.programs.mkdir(exist_ok=True)
        if not (self.programs / "dma-setup").exists():
            (self.programs / "dma-setup").symlink_to(PROGRAM)

    def start(self, *words, refusals=(), ports=None, environment=(), program=("gmail", "--user"), **more):
        options = {
            "users": {ADDRESS: PASSWORD},
            "refusals": list(refusals),
            "ports": {"465": "implicit"} if ports is None else ports,
            "folder": str(self.folder),
            "result": str(self.result),
            "user": os.getuid(),
            "path": f"{self.home}/.local/bin:{self.programs}",
            **more,
        }
        command = [*unshare(), sys.executable, ROOM, json.dumps(options), "--", PROGRAM, *program, *words]
        return VirtualTerminal(command, {"HOME": str(self.home), "PATH": "/usr/bin:/bin", **dict(environment)}, self.folder)

    def saw(self):
        return json.loads(self.result.read_text())

    def screen(self, terminal):
        """The screen without what is this machine's alone. No line was too wide for it."""
        for line in re.sub(r"\x1b\[[0-9;]*m", "", terminal.raw.replace("\r", "")).split("\n"):
            assert len(line) <= 80 or "\x1b" in line, f"{len(line)} columns: {line}"  # prompts are drawn anew
        text = golden_screen.settle(terminal.text, home=self.home)
        text = re.sub(r"  (✓|ok  ) .*Python 3\.[0-9]+\n", r"  \1 SYSTEM, Python 3.X\n", text)
        for only_here in (r"\S+ stays this machine's mailer", "/var/mail/", "neither systemd --user nor crontab"):
            text = re.sub(rf"  (?:!|warn) {only_here}.*\n(?:    .*\n)*?(?=  \S|\n)", "", text)
        return text


def questions(terminal, password=PASSWORD):
    terminal.wait("Gmail address").type(ADDRESS).wait("App password:").type(password)
    return terminal


def rest(terminal):
    return terminal.wait("root's mail?").type("").wait("Where should the password be kept?").type("")
