"""From an empty folder and the README to sent mail: the wheel installed into a fresh environment, the wizard at a terminal,
as an ordinary user, against a real Postfix that answers as Gmail does."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import postfix
import pytest
from virtual_terminal import VirtualTerminal

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ROOM = str(ROOT / "tests/gmail_room.py")
NOBODY = 65534
ADDRESS = "alice@gmail.com"
PASSWORD = "abcdefghijklmnop"

# What the README says to type, and then what programs do.
SCRIPT = """
dma-setup gmail --user || exit 1
printf 'Subject: backup\\n\\nThe backup is done.\\n' | sendmail bob@example.org || exit 2
printf 'Subject: typo\\n\\nnobody reads this\\n' | sendmail nobody@example.org || exit 3
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do mailq | grep -q empty && break; sleep 1; done
mailq
echo THE END
"""


@pytest.fixture
def folder():
    """A place that an ordinary user can enter, unlike a test's own folder."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="new-user-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.timeout(240)
def test_a_new_user_in_one_sitting(folder):
    if why := postfix.missing():
        pytest.skip(why)
    if subprocess.run(["unshare", "-mn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make namespaces")
    home = folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    venv = folder / "venv"
    # An interpreter that other users can reach, as the README's `python3` is.
    interpreter = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    subprocess.run([interpreter, "-m", "venv", venv], check=True)
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*cache", "tests"))
    install = [venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", source]
    subprocess.run(install, check=True, timeout=180)
    shutil.rmtree(source)  # what is installed stands by itself

    options = {
        "users": {ADDRESS: PASSWORD},
        "postfix": True,
        "path": f"{home}/.local/bin:{venv}/bin:/usr/bin:/bin",
        "folder": str(folder),
        "result": str(folder / "result"),
    }
    person = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    command = [
        "unshare", "-mn", sys.executable, ROOM, json.dumps(options), "--", *person,
        "env", "-i", f"HOME={home}", "TERM=xterm-256color", "LANG=C.UTF-8", f"PATH={options['path']}",
        "sh", "-c", SCRIPT,
    ]  # fmt: skip
    terminal = VirtualTerminal(command, {"HOME": str(home), "PATH": os.environ["PATH"]}, folder)
    terminal.wait("Gmail address", 60).type(ADDRESS)
    terminal.wait("App password:").type("zzzz zzzz zzzz zzzz")  # mistyped: the provider says no
    terminal.wait("root's mail?").type("").wait("Where should the password be kept?").type("")
    terminal.wait("Username and Password not accepted").wait("attempt 2 of 3").type("abcd efgh ijkl mnop")
    terminal.wait("Apply?").type("").wait("elsewhere)", 60).wait("THE END", 60)
    assert terminal.end() == 0
    assert "Mail queue is empty" in terminal.text

    saw = json.loads((folder / "result").read_text())
    subjects = sorted(re.search(r"^Subject: (.*)$", text, re.M)[1] for text in saw["messages"])
    assert [s for s in subjects if not s.startswith("dma works on")] == ["Mail delivery failed", "backup"]
    assert len(subjects) == 3, subjects  # and the one that proved it
    report = next(text for text in saw["messages"] if "Subject: Mail delivery failed" in text)
    assert "The email account that you tried to reach does not exist" in " ".join(report.split())
    assert "Status: 5.1.1" in report
    assert f"To: {ADDRESS}" in report
    backup = next(text for text in saw["messages"] if "Subject: backup" in text)
    assert re.search(rf"^From: .*{re.escape(ADDRESS)}", backup, re.M)
    assert {user for _, user in saw["logins"]} == {ADDRESS}
