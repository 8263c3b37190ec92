"""`make demo`, run as it is: what it shows, and what it leaves behind: nothing, also after Ctrl-C and after a failure."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

DEMO = pathlib.Path(__file__).parent / "demo.py"


@pytest.fixture
def place(tmp_path):
    """A TMPDIR for the demo; at the end nobody may work in it and nothing may be left in it."""
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert left_behind(tmp_path) == []


def left_behind(place):
    """Command lines of processes that know this directory, except our own."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            seen = pathlib.Path(f"/proc/{pid}/environ").read_bytes() + pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            if os.fsencode(place) + b"/dma-demo-" in seen:
                found.append(pathlib.Path(f"/proc/{pid}/cmdline").read_text())
        except OSError:
            continue
    return found


def start(place, **environ):
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONDONTWRITEBYTECODE": "1", **environ}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, DEMO], env=environment, start_new_session=True, **pipes)


def test_the_demo(place):
    demo = start(place)
    out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    provisioned, _, rest = out.partition("$ sendmail -t -i < message")
    received, _, queue = rest.partition("$ mailq")
    assert "signed in as alice" in provisioned
    for name in ("~/.config/dma/dma.conf", "~/.config/dma/auth.conf", "~/.local/bin/sendmail", "~/.local/bin/mailq"):
        assert name in provisioned
    assert re.search(r"alice\|127\.0\.0\.1:file:\S+/secrets/", provisioned)
    kept = received.partition("The server has it")[2]
    assert re.search(r"from: +alice@demo\.example\n +to: +bob@example\.net\n +signed in: alice, over TLSv1\.[23]\n", kept)
    for line in ("Received: from", "Message-Id: <", "From: <alice@demo.example>", "Subject: Hello from the demo", "A line"):
        assert f"\n    {line}" in kept
    assert "grüße." in kept
    assert "Mail queue is empty" in queue
    assert "Done in" in queue


# Somewhere in the import, while setup runs, while the message is under way.
@pytest.mark.parametrize("until", ["", "$ dma-setup", "signed in as", "$ sendmail", "$ mailq"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle(place, until, number):
    demo = start(place)
    seen = ""
    while until not in seen:
        line = demo.stdout.readline()
        assert line, f"{until!r} was never shown"
        seen += line
    if not until:
        time.sleep(0.3)
    os.killpg(demo.pid, number) if number == signal.SIGINT else demo.send_signal(number)
    out, err = demo.communicate(timeout=60)
    if "Done in" not in out:  # it may just have been finished
        assert demo.returncode == 130
        assert err.splitlines()[-1] == "demo: stopped; cleaned up"
    assert "Traceback" not in out + err


def test_a_failure_is_one_line(place, tmp_path_factory):
    """Setup fails, here for want of a Python that has what it needs."""
    broken = tmp_path_factory.mktemp("broken")
    (broken / "dma_setup").mkdir()
    (broken / "dma_setup" / "__init__.py").write_text("")
    (broken / "dma_setup" / "cli.py").write_text("def main():\n    print('dma-setup: no')\n    return 1\n")
    program = broken / "python"
    program.symlink_to(sys.executable)
    setup = broken / "dma-setup"
    setup.write_text("#!/bin/sh\necho 'dma-setup: cannot' >&2\nexit 1\n")
    setup.chmod(0o755)
    words = "import sys, runpy; sys.executable = sys.argv.pop(1); runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(DEMO.parent)}
    done = subprocess.run(
        [sys.executable, "-c", words, str(program), str(DEMO)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == "dma-setup: cannot\ndemo: dma-setup failed, see above\n"
