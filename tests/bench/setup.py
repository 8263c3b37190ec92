"""dma-setup: seconds of its runs without a network, and the keys one types to the first delivered message."""

import os
import subprocess
import sys
import time

from tests.bench.keystrokes import WAYS
from tests.bench.place import ROOT

ANSWERS = """\
host: smtp.example.org
login: alice
password: {env: DMA_PW}
keyring: file
sender: alice@example.org
root_mail: alice@example.org
"""
PROGRAM = [sys.executable, "-c", "import sys; from dma_setup.cli import main; sys.exit(main(sys.argv[1:]))"]


class Setup:
    """A home and an image, provisioned with the real program."""

    def __init__(self, where):
        self.folder = where.path / "setup"
        self.home = self.folder / "home"
        self.image = self.folder / "image"
        self.home.mkdir(parents=True)
        (self.image / "etc").mkdir(parents=True)
        (self.image / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (self.image / "etc/group").write_text("root:x:0:\n")
        (self.folder / "answers.yml").write_text(ANSWERS)
        (self.folder / "answers.yml").chmod(0o600)
        self.environment = {
            "HOME": str(self.home), "PATH": f"{self.home}/.local/bin:/usr/bin:/bin", "LANG": "C.UTF-8",
            "DMA_PW": "secret", "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def run(self, *words, status=0):
        """(wall clock seconds, seconds of the processor) of one run."""
        began, before = time.perf_counter(), os.times()
        done = subprocess.run([*PROGRAM, *words], env=self.environment, capture_output=True, text=True, timeout=120)
        seconds, after = time.perf_counter() - began, os.times()
        assert done.returncode == status, done.stdout + done.stderr
        return seconds, (after.children_user - before.children_user) + (after.children_system - before.children_system)

    def recipe(self, *where):
        return ("smarthost", *where, "--answers", str(self.folder / "answers.yml"), "--no-verify", "--no-test")


def measure(run, row, middle):
    made = Setup(run.where)
    user, image = ("--user",), ("--root", str(made.image))
    seconds = {}

    def take(name, *words, status=0):
        seconds.setdefault(name, []).append(made.run(*words, status=status))

    for _ in run.rounds():
        take("from nothing", *made.recipe(*user), "--yes")
        for _ in range(3):
            take("--check", *made.recipe(*user), "--check")
        take("doctor", "doctor", *user, "--offline")
        take("undo", "undo", *user)
        take("image", *made.recipe(*image), "--yes")
        take("--check of an image", *made.recipe(*image), "--check")
        take("undo of an image", "undo", *image)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-IS", "-c", ""], check=True)
        seconds.setdefault("bare", []).append((time.perf_counter() - began, 0.0))
    names = {
        "--check": "dma-setup --check, provisioned home",
        "--check of an image": "dma-setup --check, provisioned image (system mode)",
        "from nothing": "dma-setup, a home from nothing",
        "image": "dma-setup, an image from nothing",
        "doctor": "dma-setup doctor --offline",
        "undo": "dma-setup undo",
    }
    bare = middle([wall for wall, _ in seconds["bare"]])
    rows = []
    for name, work in names.items():
        wall = [one for one, _ in seconds[name]]
        cpu = middle([one for _, one in seconds[name]])
        goal = "< 0.5 s" if name.startswith("--check") else ""
        good = middle(wall) < 0.5 if goal else None
        rows.append(
            row(work, "ours", middle(wall), "s", low=min(wall), high=max(wall), note=f"{cpu:.2f} s of processor",
                ratio=f"{middle(wall) / bare:.0f} x a bare Python", goal=goal, good=good)
        )  # fmt: skip
    ours = WAYS[0].keys
    for way in WAYS:
        note = f"{way.count('answer')} questions, {way.count('file')} files edited, {way.count('command')} commands"
        ratio = "" if way is WAYS[0] else f"{way.keys / ours:.1f} x dma-setup's"
        rows.append(row("keys typed to a message by Gmail", way.name, way.keys, "keys", note=note, ratio=ratio))
    return rows
