"""Tools whose output is closed, full, unread, or of a charset without the letters: a line and a status, never a traceback."""

import os
import pathlib
import subprocess
import sys

import pytest
from agent import BIN, Agent

QUEUE = [str(BIN / "dma-queue"), "list"]
SETUP = [str(BIN / "dma-setup"), "list"]


@pytest.fixture
def agent(tmp_path):
    agent = Agent(tmp_path)
    agent.run("-bq", "jürgen@example.org", stdin=b"Subject: x\n\nhello\n")
    agent.environment.pop("PYTHONUNBUFFERED", None)
    (tmp_path / "mailq").symlink_to(BIN / "dma")
    return agent


def shell(agent, words, redirection, **environment):
    """`words` run by a shell with this redirection behind them."""
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *words],
        env={**agent.environment, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def mailq(agent):
    return [str(agent.directory / "mailq")]


@pytest.mark.parametrize("program", ["mailq", "dma-queue", "dma-setup"])
class TestOutput:
    def words(self, agent, program):
        return {"mailq": mailq(agent), "dma-queue": QUEUE, "dma-setup": SETUP}[program]

    def test_full(self, agent, program):
        ran = shell(agent, self.words(agent, program), ">/dev/full")
        assert ran.returncode == (1 if program == "dma-setup" else 74)
        assert ran.stderr == f"{program}: standard output: No space left on device\n"

    def test_closed(self, agent, program):
        ran = shell(agent, self.words(agent, program), ">&-")
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")

    def test_unread(self, agent, program):
        ran = shell(agent, self.words(agent, program), "| true; exec 2>&1")
        assert (ran.returncode, ran.stderr) == (0, "")

    def test_all_closed(self, agent, program):
        assert shell(agent, self.words(agent, program), "<&- >&- 2>&-").returncode == 0


@pytest.mark.parametrize("words", [[QUEUE[0], "show", "none"], [SETUP[0], "undo", "--root", "relative"]])
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_an_error_that_nobody_can_be_told(agent, words, where):
    status = shell(agent, words, "").returncode
    assert status in (1, 2)
    assert shell(agent, words, where).returncode == status


RED = "\x1b[31m"


@pytest.mark.parametrize(
    "words",
    [
        ["dma-queue", "show", RED],
        ["dma-queue", "remove", RED],
        ["dma-queue", "list", RED],
        ["dma-queue", "--" + RED],
        ["dmad", RED],
        ["dma-setup", RED],
        ["dma-setup", "auto", RED],
        ["dma-setup", "test", RED, "--user"],
        ["dma-setup", "list", RED],
        ["dma-setup", "gmail", "--check", "--answers", RED],
        ["dma-setup", "gmail", "--check", "--set", RED + "=x"],
    ],
)
def test_a_word_with_an_escape_sequence_is_shown_without(agent, words):
    ran = subprocess.run([str(BIN / words[0]), *words[1:]], env=agent.environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode
    assert ran.stderr
    assert "\x1b" not in ran.stdout + ran.stderr


class TestSetupThatNobodyReads:
    @pytest.fixture
    def words(self, tmp_path, agent):
        home = tmp_path / "home"
        home.mkdir()
        answers = tmp_path / "answers.yml"
        answers.write_text('host: 127.0.0.1\nport: 9\nlogin: ""\nsender: a@example.org\nroot_mail: ""\n')
        agent.environment = {"HOME": str(home), "PATH": f"{home}/.local/bin", "LANG": "C.UTF-8"}
        words = ["smarthost", "--user", "--answers", str(answers), "--yes", "--no-verify", "--no-test"]
        return [str(BIN / "dma-setup"), *words]

    @pytest.mark.parametrize("more", [[], ["--json"]])
    @pytest.mark.parametrize(("where", "status"), [("| :", 0), (">/dev/full", 1)])
    def test_does_all_the_same(self, agent, words, where, status, more):
        """`dma-setup gmail ... --yes | head -1` changed nothing, and said with 0 that it had."""
        ran = shell(agent, ["/bin/bash", "-o", "pipefail", "-c", f'"$@" {where}', "sh", *words, *more], "")
        assert ran.returncode == status
        assert "Exception ignored" not in ran.stderr
        assert ("dma-setup: standard output: No space left on device" in ran.stderr) is bool(status)
        assert (pathlib.Path(agent.environment["HOME"]) / ".config/dma/dma.conf").exists()


def test_a_charset_without_the_letters(agent):
    ran = shell(agent, QUEUE, "", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "to <j\\xfcrgen@example.org>" in ran.stdout


@pytest.mark.parametrize("program", ["mailq", "dma-queue"])
def test_a_spool_that_is_no_directory(agent, program, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    agent.write(agent.conf, f"SPOOLDIR {file}\n")
    ran = shell(agent, mailq(agent) if program == "mailq" else QUEUE, "")
    assert ran.returncode == 73
    assert ran.stderr == f"{program}: {file}: Not a directory\n"


def test_setup_on_a_full_disk(tmp_path):
    """A limit on file sizes stands for the disk: the first byte of the journal is one too many."""
    home = tmp_path / "home"
    home.mkdir()
    answers = tmp_path / "answers.yml"
    answers.write_text('host: 127.0.0.1\nport: 9\nlogin: ""\nsender: a@example.org\nroot_mail: ""\n')
    words = [str(BIN / "dma-setup"), "smarthost", "--user", "--answers", str(answers), "--yes", "--no-verify", "--no-test"]
    limited = "import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8)); os.execv(sys.argv[1], sys.argv[1:])"
    environment = {"HOME": str(home), "PATH": f"{home}/.local/bin", "LANG": "C.UTF-8"}
    ran = subprocess.run([sys.executable, "-c", limited, *words], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    said = f"dma-setup: {home}/.local/state/dma-setup: File too large; nothing was changed"
    assert ran.stderr.splitlines()[-1] == said
    assert not pathlib.Path(home, ".config").exists()
    assert os.listdir(home) in ([], [".local"])


@pytest.mark.parametrize("words", [["doctor", "--offline"], ["smarthost", "--check", "--no-verify"]])
def test_setup_without_threads(tmp_path, words):
    """As where the limit on processes is used up; a user's own limit does not hold for root, who runs these tests in CI."""
    conf = tmp_path / "dma" / "dma.conf"
    conf.parent.mkdir()
    conf.write_text(f"SPOOLDIR {tmp_path}/spool\n")
    code = "import sys, _thread, threading\n"
    code += "def none(*_): raise RuntimeError(\"can't start new thread\")\n"
    code += "threading._start_new_thread = none\nfrom dma_setup.cli import main\nsys.exit(main())"
    words = [sys.executable, "-c", code, *words, "--user"]
    ran = subprocess.run(words, env={"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("dma-setup: no further thread or process is allowed here")
    assert ran.stderr.count("\n") == 1
