"""The secret reader of system mode, and the daemon's side of it: what is given out, to whom, and what is said when nothing is."""

import asyncio
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from dma_runtime import authconf, config, keyrings
from dma_runtime.system import secrets

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
BOOT = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from dma_runtime.cmd.credential import main; sys.exit(main())"
NAME = keyrings.credential("smtp.example.org", "alice@example.org")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "credentials").mkdir()
    return tmp_path / "credentials"


def reader(connection, directory):
    """One reader process, as systemd starts it."""
    environment = {"CREDENTIALS_DIRECTORY": str(directory)} if directory else {}
    return subprocess.Popen([PYTHON, "-IS", "-c", BOOT], stdin=connection, env=environment, stderr=subprocess.PIPE)


def ask(data, directory, user=None):
    """(what it prints, exit status)."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = reader(theirs, directory)
        theirs.close()
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: ours.recv(65536), b""))
    assert process.communicate(timeout=20)[1] == b""
    return said, process.returncode


def test_the_credential_asked_for_is_printed_and_nothing_else(place):
    (place / NAME).write_bytes(b"p\xe4ss word\nsecond line")
    (place / "dma.other").write_bytes(b"other")
    assert ask(NAME.encode() + b"\n", place) == (b"p\xe4ss word\nsecond line", 0)


@pytest.mark.parametrize(
    "asked",
    [
        *(b"", b"\n", b"dma.missing\n", NAME.encode(), b"../dma.x\n", b"dma./../x\n", b"tls.key\n", b"/etc/passwd\n"),
        *(b"dma.\0\n", b"\xff\n", b"dma." + b"x" * 590 + b"\n"),
    ],
)
def test_nothing_is_printed_for_anything_else(place, asked):
    (place / "tls.key").write_bytes(b"not ours to give")
    (place / "dma.x").write_bytes(b"x")
    (place / NAME).write_bytes(b"secret")
    said, status = ask(asked, place)
    assert (said, status != 0) == (b"", True)


def test_a_link_is_not_followed_and_without_credentials_nothing_is_said(place):
    (place / "dma.link").symlink_to("/etc/passwd")
    assert ask(b"dma.link\n", place) == (b"", 66)
    assert ask(b"dma.x\n", "") == (b"", 66)


def test_another_user_is_not_answered(place):
    if os.getuid() != 0:
        pytest.skip("needs root, to be two users")
    (place / NAME).write_bytes(b"secret")
    path = str(place / "sock")
    with socket.socket(socket.AF_UNIX) as bell:
        bell.bind(path)
        bell.listen()
        os.chmod(path, 0o666)
        os.chmod(place, 0o755)
        # Only the socket's own mode stands before the directories here: the kernel's word on the peer is what is tested.
        ours = socket.socket(socket.AF_UNIX)
        child = os.fork()
        if child == 0:
            try:
                os.chdir(place)
                os.setresuid(4242, 4242, 4242)
                ours.connect("sock")
                ours.sendall(NAME.encode() + b"\n")
                os._exit(1 if ours.recv(100) else 0)
            except OSError:
                os._exit(0)
        bell.settimeout(10)
        theirs, _ = bell.accept()
        process = reader(theirs, place)
        theirs.close()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert process.wait(20) == 77
        process.stderr.close()


# ---------------------------------------------------------------- the daemon's side


class Unit:
    """secret.sock with Accept=yes: a reader process for each connection; `mode` says how it goes wrong."""

    def __init__(self, directory, credentials):
        self.path = directory / "secret.sock"
        self.credentials = credentials
        self.mode = ""
        self.asked = []

    async def __aenter__(self):
        self.server = await asyncio.start_unix_server(self._client, str(self.path))
        return self

    async def __aexit__(self, *problem):
        self.server.close()

    async def _client(self, reading, writing):
        line = await reading.readline()
        self.asked.append(line)
        if self.mode == "hangs":
            await asyncio.sleep(60)
        if self.mode != "fails":
            said, _ = await asyncio.to_thread(ask, line, self.credentials)
            writing.write(said)
        writing.close()


def read(tmp_path, place, story, *, conf="", environ=None, listening=True):
    found = config.parse(f"SOCKET {tmp_path}/submit.sock\n{conf}", "dma.conf")
    auth = authconf.parse("alice@example.org|smtp.example.org:keyring:\n", "/etc/dma/auth.conf")
    (login,) = auth.logins

    async def all_of_it():
        unit = Unit(tmp_path, place)

        async def secret():
            return (await secrets.read(login, found, environ=environ or {})).reveal()

        if not listening:
            await story(unit, secret)
            return
        async with unit:
            await story(unit, secret)

    asyncio.run(all_of_it())


@pytest.mark.parametrize("conf", ["", "KEYRING systemd-creds\n", "KEYRING dma_runtime.keyring_backend.Keyring\n"])
def test_each_read_is_fresh(tmp_path, place, conf):
    async def story(unit, secret):
        (place / NAME).write_bytes(b"first")
        assert await secret() == "first"
        (place / NAME).write_bytes(b"rotated\n")
        assert await secret() == "rotated"
        assert unit.asked == [NAME.encode() + b"\n"] * 2

    read(tmp_path, place, story, conf=conf)


async def refused(secret):
    with pytest.raises(secrets.SecretUnreadable) as caught:
        await secret()
    return caught.value


def test_what_cannot_be_decrypted_is_a_deferral_with_the_remedy(tmp_path, place, monkeypatch):
    monkeypatch.setattr(secrets, "DEADLINE", 0.5)

    async def story(unit, secret):
        problem = await refused(secret)  # not there
        assert "the password of alice@example.org at smtp.example.org cannot be read" in problem.text
        assert f"credential {NAME}: it is not there or cannot be decrypted" in problem.text
        assert "dma-setup secret set" in problem.hint
        assert "machine-id" in problem.hint
        unit.mode = "fails"  # systemd could not decrypt it: the process never ran
        assert "cannot be decrypted" in (await refused(secret)).text
        unit.mode = "hangs"
        assert "no answer at" in (await refused(secret)).text
        unit.mode = ""
        (place / NAME).write_bytes(b"mended")
        monkeypatch.setattr(secrets, "DEADLINE", 10.0)
        assert await secret() == "mended"

    read(tmp_path, place, story)


def test_without_the_unit_the_daemons_own_credentials_or_a_hint(tmp_path, place):
    async def story(unit, secret):
        assert await secret() == "own copy"

    (place / NAME).write_bytes(b"own copy")
    read(tmp_path, place, story, environ={"CREDENTIALS_DIRECTORY": str(place)}, listening=False)

    async def none(unit, secret):
        problem = await refused(secret)
        assert "nobody gives it out at" in problem.text
        assert "systemctl status dma-secret.socket" in problem.hint

    read(tmp_path, place, none, listening=False)


def test_a_listener_that_is_neither_root_nor_we_is_not_believed(tmp_path, place, monkeypatch):
    monkeypatch.setattr(secrets, "peer_uid", lambda line: 4242)

    async def story(unit, secret):
        assert "uid 4242 listens there" in (await refused(secret)).text
        assert unit.asked in ([], [b""])

    read(tmp_path, place, story)
