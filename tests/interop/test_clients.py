"""The programs people send mail with call our `sendmail`, and the mail arrives at a real Postfix through TLS and AUTH."""

import os
import shutil
import subprocess

import agent
import postfix
import pytest

LOGIN = "alice@example.test"
BODY = "Hello,\n\n.a line with a dot\n..two\n.\nFrom here on\nGrüße — ß\n"


@pytest.fixture(scope="module")
def server():
    if reason := postfix.missing():
        pytest.skip(reason)
    with postfix.Postfix(users={LOGIN: "app password"}) as found:
        yield found


@pytest.fixture
def box(server, tmp_path):
    """An agent, and a directory with its `sendmail` first on PATH."""
    server.clear()
    found = agent.Agent(tmp_path, server, login=LOGIN)
    found.bin = tmp_path / "bin"
    found.bin.mkdir()
    for name in ("sendmail", "mailq", "newaliases"):
        (found.bin / name).symlink_to(agent.BIN / "dma")
    found.sendmail = str(found.bin / "sendmail")
    found.environment |= {"EMAIL": LOGIN, "LANG": "C.UTF-8", "PATH": f"{found.bin}:{os.environ['PATH']}", "TERM": "dumb"}
    yield found
    found.close()


def client(box, name, *words, package=None, stdin=BODY, **keywords):
    """Run a program; it must exist, succeed and say nothing on standard error."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"needs {name}: apt install {package or name}")
    ran = subprocess.run(
        [program, *words], input=stdin.encode(), env=box.environment, capture_output=True, timeout=60, **keywords
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stderr == b""
    return ran


def arrived(server, subject="Hello from a client"):
    """The one message that came: through TLS and AUTH, addressed as it should be."""
    (message,) = server.wait(1)
    (raw,) = server.raw()
    assert message["Subject"] == subject
    assert message["Return-Path"] == f"<{LOGIN}>"
    assert message["To"].addresses[0].addr_spec == "bob@far.test"
    assert message["From"].addresses[0].addr_spec == LOGIN
    assert f"(Authenticated sender: {LOGIN})".encode() in raw
    assert b"using TLSv1.3" in raw
    return message


def test_bsd_mailx(server, box, tmp_path):
    (tmp_path / "mailrc").write_text(f"set sendmail={box.sendmail}\n")
    box.environment["MAILRC"] = str(tmp_path / "mailrc")
    client(box, "bsd-mailx", "-s", "Hello from a client", "bob@far.test")
    message = arrived(server)
    assert message.get_payload(decode=True).decode().rstrip("\n") == BODY.rstrip("\n")


def test_s_nail(server, box):
    words = ["-:/", "-S", f"mta={box.sendmail}", "-S", "sendcharsets=utf-8", "-s", "Hello from a client"]
    client(box, "s-nail", *words, "bob@far.test")
    message = arrived(server)
    assert message.get_content().rstrip("\n") == BODY.rstrip("\n")


def test_mutt(server, box):
    words = ["-n", "-F", "/dev/null", "-e", f'set sendmail="{box.sendmail} -oem -oi"', "-e", f"set from={LOGIN}"]
    words += ["-e", "set use_envelope_from=yes copy=no", "-s", "Hello from a client", "--", "bob@far.test"]
    client(box, "mutt", *words)
    message = arrived(server)
    assert message.get_content().rstrip("\n") == BODY.rstrip("\n")


def test_git_send_email(server, box, tmp_path):
    if not os.path.exists("/usr/lib/git-core/git-send-email"):
        pytest.skip("needs git send-email: apt install git-email")
    work = tmp_path / "work"
    box.environment |= {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_AUTHOR_NAME": "Alice",
        "GIT_AUTHOR_EMAIL": LOGIN,
        "GIT_COMMITTER_NAME": "Alice",
        "GIT_COMMITTER_EMAIL": LOGIN,
        "HOME": str(tmp_path),
    }
    subprocess.run(["git", "init", "-q", str(work)], check=True, env=box.environment)
    (work / "file").write_text("one\n.\nFrom two\n")
    for words in (
        ["add", "file"],
        ["commit", "-q", "-m", "Hello from a client\n\nGrüße\n"],
        ["format-patch", "-q", "--root"],
    ):
        subprocess.run(["git", *words], check=True, cwd=work, env=box.environment)
    (patch,) = work.glob("*.patch")
    words = [
        "--quiet",
        f"--sendmail-cmd={box.sendmail}",
        f"--from=Alice <{LOGIN}>",
        "--to=bob@far.test",
        "--confirm=never",
        "--suppress-cc=all",
    ]
    client(box, "git", "send-email", *words, str(patch), cwd=work, stdin="")
    message = arrived(server, "[PATCH] Hello from a client")
    text = message.get_content()
    assert "Grüße" in text
    assert "+one\n+.\n+From two\n" in text
    # What arrived can be applied again.
    again = tmp_path / "again"
    subprocess.run(["git", "init", "-q", str(again)], check=True, env=box.environment)
    subprocess.run(["git", "am", "-q"], input=server.raw()[0], check=True, cwd=again, env=box.environment)
    assert (again / "file").read_text() == "one\n.\nFrom two\n"


def test_mailq_by_its_name(server, box):
    ran = client(box, str(box.bin / "mailq"), stdin="")
    assert ran.stdout == b"Mail queue is empty\n"
