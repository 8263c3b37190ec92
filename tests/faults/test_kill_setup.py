"""`dma-setup`, killed at the calls by which it changes files: `undo` then leaves the home as it was, to the byte.

The points are those of a run without faults, from the making of the journal on. One of each kind in every run, all with
--campaign. Needs strace.
"""

import pytest
import strace
from provisioning import tree
from setup_home import PASSWORD, PROGRAM, Home

CHANGING = ("mkdir", "openat", "write", "rename", "symlink", "unlink", "rmdir", "fchmod", "chmod", "fsync")
ANSWERS = """\
host: relay.example.org
login: alice
password: {env: DMA_PW}
keyring: file
sender: alice@example.org
root_mail: bob@example.org
"""


@pytest.fixture(autouse=True)
def _strace():
    strace.needed()


def used(folder):
    """A home in which something of each kind is there already."""
    folder.mkdir()
    home = Home(folder / "home")
    config = home.path / ".config/dma"
    config.mkdir(parents=True)
    (config / "dma.conf").write_text("# mine\nSMARTHOST old.example.org   # the old one\nNOTAKEY 1\n")
    (config / "auth.conf").write_text("alice|old.example.org:an older password\n")
    (config / "auth.conf").chmod(0o600)
    (home.path / ".local/bin").mkdir(parents=True)
    (home.path / ".local/bin/sendmail").write_text("#!/bin/sh\n")
    return home


def run(home, *, inject=(), calls=None):
    words = ("smarthost", "--user", "--answers", home.answers(ANSWERS), "--yes", "--no-verify", "--no-test")
    environment = {**home.environment, "PYTHONDONTWRITEBYTECODE": "1"}
    return strace.run([PROGRAM, *words], trace=home.path.parent / "trace", inject=inject, calls=calls, env=environment, timeout=120)


def points(folder):
    home = used(folder)
    ran = run(home, calls=["all"])
    assert ran.returncode == 0, ran.stderr
    calls = strace.since(strace.read(home.path.parent / "trace"), f'"{home.path}/.local/state"', CHANGING)
    return [call for call in calls if call.name != "openat" or "O_CREAT" in call.text]


def killed_at(folder, call):
    """Kill at `call`, undo; whether anything had been changed by then."""
    home = used(folder)
    before = tree(home.path)
    ran = run(home, inject=[f"{call.name}:signal=KILL:when={call.nth}"])
    if ran.returncode == 0:
        return False  # the call is that of a thread that did not come so far this time
    changed = tree(home.path) != before
    undone = home.run("undo", "--user")
    assert undone.returncode == 0, f"killed at {call}: {undone.stdout}{undone.stderr}"
    after = tree(home.path)
    if call.name == "mkdir" and not any(path.startswith(".local/state/") for path in after):
        after.pop(".local/state", None)  # made for the journal, which was not begun
    assert after == before, f"killed at {call}"
    everything = [path for path in home.path.rglob("*") if path.is_file()]
    left = [path for path in everything if PASSWORD.encode() in path.read_bytes()]
    assert left == [], f"killed at {call}"
    assert home.run("undo", "--user").stdout.startswith("Nothing to undo")
    return changed


def test_killed_now_and_then(tmp_path):
    """One call of each name, from the middle of the run."""
    calls = points(tmp_path / "dry")
    names = {call.name: [one for one in calls if one.name == call.name] for call in calls}
    assert {"mkdir", "write", "rename", "symlink", "fsync"} <= names.keys()
    changed = [killed_at(tmp_path / name, of_name[len(of_name) // 2]) for name, of_name in names.items()]
    assert changed.count(True) >= len(changed) - 1


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_a_signal_takes_everything_back_at_once(tmp_path, name):
    """As Ctrl-C: what was made is taken back by the run itself, and it says so. 130."""
    calls = points(tmp_path / "dry")
    names = {call.name: [one for one in calls if one.name == call.name] for call in calls}
    for number, call in enumerate(names[which][len(names[which]) // 2] for which in ("write", "rename", "symlink")):
        home = used(tmp_path / str(number))
        before = tree(home.path)
        ran = run(home, inject=[f"{call.name}:signal={name}:when={call.nth}"])
        assert ran.returncode == 130, (call, ran.returncode, ran.stderr)
        assert b"interrupted; " in ran.stderr, ran.stderr
        assert tree(home.path) == before, f"{name} at {call}"
        assert home.run("undo", "--user").stdout.startswith("Nothing to undo")


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("chunk", range(4))
def test_killed_at_every_call(tmp_path, chunk):
    calls = points(tmp_path / "dry")[chunk::4]
    changed = [killed_at(tmp_path / str(number), call) for number, call in enumerate(calls)]
    assert changed.count(True) > len(calls) // 2
