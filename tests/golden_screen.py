"""Screens kept as files: tests/golden/setup/NAME.txt. `DMA_GOLDEN=write` writes them anew, to be looked at and committed.

What differs from run to run is replaced by a name: home, host, ports, queue ids, times.
"""

import difflib
import os
import pathlib
import re
import socket
import sys

FOLDER = pathlib.Path(__file__).parent / "golden" / "setup"

ROOT_NOTE = re.compile(r"  (?:!|warn) root never reads user-mode files by itself.*\n(?:    .*\n| {7}.*\n)*")
CHANGING = [
    (re.compile(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}(?:\.[0-9]+)?"), "TIME"),
    (re.compile(r"\b[0-9a-hjkmnp-tv-z]{18}\b"), "QUEUEID"),
    (re.compile(r"\b(after|in) [0-9]+\.[0-9] s\b"), r"\1 0.0 s"),
    (re.compile(r"dma-setup [0-9.]+ "), "dma-setup VERSION "),
]


def settle(text, **names):
    """`text` with what changes replaced; `names`: NAME=what stands for it."""
    text = ROOT_NOTE.sub("", text)
    # Where this checkout and its interpreter lie is this machine's business.
    text = text.replace(sys.executable, "PYTHON").replace(str(FOLDER.parent.parent.parent), "LIBRARY")
    for name, value in sorted(names.items(), key=lambda item: -len(str(item[1]))):
        text = text.replace(str(value), name.upper())
    text = re.sub(rf"\b{re.escape(socket.gethostname().partition('.')[0])}\b", "HOST", text)
    for pattern, name in CHANGING:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def same(name, text):
    """Compare with the golden file; a missing one is a failure, except when writing."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("DMA_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing: look at the screen below and write it\n{text}"
    kept = path.read_text().splitlines(True)
    differs = "".join(difflib.unified_diff(kept, text.splitlines(True), str(path), "the screen"))
    assert not differs, "\n" + differs
