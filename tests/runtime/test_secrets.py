"""References of auth.conf: what is read, what is refused and with which words, and that the secret shows nowhere."""

import asyncio
import os
import pathlib
import stat
import time

import pytest

from dma_runtime import authconf, config
from dma_runtime.secret import Secret
from dma_runtime.system import secrets, shortlived
from dma_runtime.system.account import Identity
from dma_runtime.system.secrets import SecretStore, SecretUnreadable

SETTINGS = config.parse("AUTHPATH /etc/dma/auth.conf\n", "/etc/dma/dma.conf")


def login(reference, user="alice"):
    found = authconf.parse(f"{user}|smtp.example.org:{reference}", "/etc/dma/auth.conf")
    assert not found.problems
    return found.logins[0]


@pytest.fixture
def identity(tmp_path):
    return Identity(os.getuid(), "alice", str(tmp_path), str(tmp_path / "run"))


@pytest.fixture
def read(identity):
    def read(reference, **environ):
        return asyncio.run(secrets.read(login(reference), SETTINGS, environ=environ, identity=identity))

    return read


@pytest.fixture
def refused(read):
    def refused(reference, **environ):
        with pytest.raises(SecretUnreadable) as caught:
            read(reference, **environ)
        error = caught.value
        assert error.status == 75
        assert error.hint
        assert "\n" not in error.text + error.hint
        assert error.text.startswith("/etc/dma/auth.conf:1: the password of alice at smtp.example.org cannot be read: ")
        return error.text.split("cannot be read: ", 1)[1]

    return refused


def processes_showing(text):
    """Who has `text` in a command line or environment (of what we may look at)."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                if text in pathlib.Path(f"/proc/{pid}/{name}").read_bytes():
                    found.append((pid, name))
            except OSError:
                continue
    return found


# ---------------------------------------------------------------- literal


def test_literal(read, refused):
    assert read("plain").reveal() == "plain"
    assert read("literal:keyring:").reveal() == "keyring:"
    assert read("pässwörd").reveal() == "pässwörd"
    assert refused("literal:") == "the password: empty"


# ---------------------------------------------------------------- command:


@pytest.mark.parametrize(
    ("words", "secret"),
    [
        ("/bin/echo secret", "secret"),
        ("/usr/bin/printf 'two\\nlines\\n'", "two"),
        ("/usr/bin/printf 'dos\\r\\n'", "dos"),
        ("/usr/bin/printf 'no line end'", "no line end"),
        ("/usr/bin/printf '%s\\n' ' blanks '", " blanks "),
        ('/bin/echo "$HOME `id` $(id); id | cat > /x && * ~"', "$HOME `id` $(id); id | cat > /x && * ~"),
        ("/bin/echo a'b c'd", "ab cd"),
    ],
)
def test_command_words(read, words, secret):
    assert read(f"command:{words}").reveal() == secret


def test_command_has_the_fixed_environment_and_nothing_else(read, identity, tmp_path):
    show = 'command:/bin/sh -c \'{ env; pwd; umask; cat; } | tr "\\n" " "\''
    shown = read(show, HOME="/elsewhere", LD_PRELOAD="x.so", DBUS_SESSION_BUS_ADDRESS="unix:path=/given").reveal()
    for part in (f"HOME={tmp_path}", "USER=alice", f"XDG_CONFIG_HOME={tmp_path}/.config", f"XDG_RUNTIME_DIR={tmp_path}/run"):
        assert f"{part} " in shown
    assert "DBUS_SESSION_BUS_ADDRESS=unix:path=/given " in shown
    assert "elsewhere" not in shown
    assert "LD_PRELOAD" not in shown
    assert " / 0077 " in shown
    assert f"DBUS_SESSION_BUS_ADDRESS=unix:path={tmp_path}/run/bus " in read(show).reveal()


def test_identity_is_that_of_the_passwd_entry():
    import pwd

    entry = pwd.getpwuid(os.getuid())
    who = Identity.of(os.getuid())
    assert (who.user, who.home, who.runtime_dir) == (entry.pw_name, entry.pw_dir, f"/run/user/{os.getuid()}")
    nobody = Identity.of(3_999_999)
    assert (nobody.user, nobody.home) == ("3999999", "/")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("echo secret", "needs the absolute path"),
        ("./echo secret", "needs the absolute path"),
        ("''", "needs the absolute path"),
        ("/bin/echo 'open", "No closing quotation"),
        ("/bin/false", "/bin/false: exit status 1"),
        ("/bin/true", "/bin/true: empty"),
        ("/bin/echo", "/bin/echo: empty"),
        ("/nowhere/program", "/nowhere/program: No such file or directory"),
        ("/etc", "/etc: Permission denied"),
        ("/usr/bin/yes", "printed more than 4096 bytes"),
        ("/usr/bin/head -c 4097 /dev/zero", "printed more than 4096 bytes"),
        ("/bin/sh -c 'kill -TERM $$'", "ended by signal 15"),
        ("/bin/sh -c 'echo first >&2; echo \"the \033[1mreason\" >&2; echo >&2; exit 10'", "/bin/sh: the \\x1b[1mreason"),
        ("/bin/sh -c 'echo secret; echo half done with secret >&2; exit 1'", "/bin/sh: half done with ***"),
        ("/usr/bin/printf 'a\\0b'", "a NUL byte in the password"),
        ("/bin/sh -c 'yes | head -c 100000 >&2; echo reason >&2; exit 1'", "/bin/sh: reason"),
    ],
)
def test_command_refused(refused, words, reason):
    assert reason in refused(f"command:{words}")


def test_the_hint_for_a_command_is_not_that_for_a_keyring(identity):
    """Whatever status a command ends with, it is not our own reader child."""
    with pytest.raises(SecretUnreadable) as caught:
        asyncio.run(secrets.read(login("command:/bin/sh -c 'exit 11'"), SETTINGS, environ={}, identity=identity))
    assert caught.value.hint == "run it by hand and see"


def test_command_at_the_limit(read):
    assert len(read("command:/bin/sh -c 'yes | tr -d \"\\n\" | head -c 4096'").reveal()) == 4096


def test_a_program_without_the_right_to_run(refused, tmp_path):
    program = tmp_path / "reader"
    program.write_text("#!/bin/sh\necho secret\n")
    program.chmod(0o600)
    assert "Permission denied" in refused(f"command:{program}")


def test_a_slow_command_is_ended_with_all_it_started(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(secrets, "DEADLINE", 0.3)
    began = time.monotonic()
    script = f"sleep 77 & echo $! > {tmp_path}/pid; echo late; wait"
    assert "no answer within" in refused(f'command:/bin/sh -c "{script}"')
    assert time.monotonic() - began < 3
    pid = int((tmp_path / "pid").read_text())
    assert gone(pid)


def gone(pid):
    for _ in range(100):
        try:
            if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_a_background_process_that_keeps_the_pipe_delays_nobody(read, tmp_path):
    began = time.monotonic()
    assert read(f"command:/bin/sh -c 'sleep 77 & echo $! > {tmp_path}/pid; echo secret'").reveal() == "secret"
    assert time.monotonic() - began < 3
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_command_that_wants_to_ask(refused):
    """No terminal and no input: what asks there fails at once."""
    assert "exit status 1" in refused("command:/bin/sh -c 'read -r answer'")
    assert "/dev/tty" in refused("command:/bin/sh -c 'echo pw? > /dev/tty'")


def test_cancelled_with_its_command(identity, tmp_path):
    async def main():
        words = f"command:/bin/sh -c 'echo $$ > {tmp_path}/pid; exec sleep 77'"
        task = asyncio.ensure_future(secrets.read(login(words), SETTINGS, environ={}, identity=identity))
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert gone(int((tmp_path / "pid").read_text()))


def test_no_file_is_left_open(read, refused, monkeypatch):
    monkeypatch.setattr(secrets, "DEADLINE", 0.2)
    before = set(os.listdir("/proc/self/fd"))
    read("command:/bin/echo x")
    for words in ("/bin/sleep 77", "/usr/bin/yes", "/nowhere/x", "/etc", "/bin/false"):
        refused(f"command:{words}")
    refused("file:/nowhere")
    refused("file:/etc/passwd")
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_secret_is_in_no_command_line_and_no_environment(identity, tmp_path):
    """Looked at from outside while the secret is under way: printed, read, and its program still running."""
    secret = b"needle-" + os.urandom(8).hex().encode()
    (tmp_path / "store").write_bytes(secret + b"\n")

    async def main():
        script = f"cat {tmp_path}/store; touch {tmp_path}/printed; while test ! -e {tmp_path}/go; do sleep 0.01; done"
        words = f"command:/bin/sh -c '{script}'"
        task = asyncio.ensure_future(secrets.read(login(words), SETTINGS, environ={}, identity=identity))
        while not (tmp_path / "printed").exists():
            await asyncio.sleep(0.01)
        seen = processes_showing(secret)
        assert processes_showing(bytes(tmp_path / "store")), "the looking itself does not work"
        (tmp_path / "go").touch()
        return await task, seen

    read, seen = asyncio.run(main())
    assert read.reveal().encode() == secret
    assert seen == []
    assert secret.decode() not in repr(read) + str(read) + f"{read}"


# ---------------------------------------------------------------- file:


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "password"
    path.write_text("secret\nnot this\n")
    path.chmod(0o600)
    return path


def test_file(read, file, tmp_path):
    assert read(f"file:{file}").reveal() == "secret"
    file.chmod(0o400)
    assert read(f"file:{file}").reveal() == "secret"
    (tmp_path / "link").symlink_to(file)
    assert read(f"file:{tmp_path}/link").reveal() == "secret"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o601, 0o610])
def test_file_that_others_may_read(refused, file, mode):
    file.chmod(mode)
    assert "by others" in refused(f"file:{file}")


def test_file_of_the_daemons_group(file, monkeypatch):
    """root:dma 0640 is what auth.conf itself has; nothing wider, no other group, no other owner."""

    class Group:
        gr_gid = 4711

    monkeypatch.setattr(secrets.grp, "getgrnam", lambda name: Group)

    def accepted(uid, gid, mode):
        return secrets._for_the_daemon(os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0)))

    assert accepted(0, 4711, 0o640)
    assert not accepted(0, 4711, 0o660)
    assert not accepted(0, 4711, 0o644)
    assert not accepted(0, 4712, 0o640)
    assert not accepted(1000, 4711, 0o640)


def test_file_refused(refused, file, tmp_path):
    assert "needs an absolute path" in refused("file:password")
    assert "No such file" in refused(f"file:{tmp_path}/nothing")
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "not a regular file" in refused(f"file:{tmp_path}/fifo")
    (tmp_path / "folder").mkdir(0o700)
    assert "not a regular file" in refused(f"file:{tmp_path}/folder")
    file.write_text("\nsecret\n")
    assert "empty" in refused(f"file:{file}")
    file.write_text("x" * 4097)
    assert "more than 4096 bytes" in refused(f"file:{file}")
    file.write_bytes(b"a\0b\n")
    assert "NUL" in refused(f"file:{file}")


def test_file_keeps_any_other_byte(read, file):
    file.write_bytes(b" \xff \xc3\xa4 \t\r\n")
    assert read(f"file:{file}").reveal().encode("utf-8", "surrogateescape") == b" \xff \xc3\xa4 \t"


def test_root_trusts_only_what_root_alone_can_change(read, refused, file, tmp_path):
    if os.getuid() != 0:
        pytest.skip("needs root: run the tests as root")
    os.chown(file, 1000, -1)
    assert "belongs to uid 1000" in refused(f"file:{file}")
    os.chown(file, 0, -1)
    tmp_path.chmod(0o777)
    assert f"the directory {tmp_path} can be written by others" in refused(f"file:{file}")
    assert f"the directory {tmp_path} can be written by others" in refused(f"command:{file}")
    tmp_path.chmod(0o700)
    assert read(f"file:{file}").reveal() == "secret"


# ---------------------------------------------------------------- credential:


def test_credential(read, refused, file, tmp_path):
    assert read("credential:password", CREDENTIALS_DIRECTORY=str(tmp_path)).reveal() == "secret"
    file.chmod(0o444)  # as systemd hands them to some
    assert read("credential:password", CREDENTIALS_DIRECTORY=str(tmp_path)).reveal() == "secret"
    assert "no CREDENTIALS_DIRECTORY" in refused("credential:password")
    assert "No such file" in refused("credential:other", CREDENTIALS_DIRECTORY=str(tmp_path))
    for name in ("../password", "/etc/passwd", "..", "."):
        assert "not a path" in refused(f"credential:{name}", CREDENTIALS_DIRECTORY=str(tmp_path / "run"))


# ---------------------------------------------------------------- the store


class Keyring:
    """Counts reads; gives the values in turn, an exception among them is raised."""

    def __init__(self, *values):
        self.values = list(values)
        self.reads = 0
        self.gate = None

    async def __call__(self, login, settings):
        self.reads += 1
        value = self.values.pop(0)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(value, Exception):
            raise value
        return Secret(value)


def test_the_store_keeps_for_an_hour():
    now = [100.0]
    source = Keyring("first", "second")
    store = SecretStore(lambda: now[0], source)

    async def get():
        return (await store.get(login("keyring:"), SETTINGS)).reveal()

    async def main():
        assert await get() == "first"
        now[0] += 3599.9
        assert await get() == "first"
        assert source.reads == 1
        now[0] += 0.2
        assert await get() == "second"

    asyncio.run(main())


def test_the_store_forgets_what_was_refused_and_what_changed():
    source = Keyring("a1", "b1", "a2", "b2", "a3")
    store = SecretStore(lambda: 0.0, source)
    alice, bob = login("keyring:"), login("keyring:", user="bob")

    async def main():
        async def get(who):
            return (await store.get(who, SETTINGS)).reveal()

        assert [await get(alice), await get(bob)] == ["a1", "b1"]
        store.forget(alice)
        assert [await get(alice), await get(bob)] == ["a2", "b1"]
        store.clear()
        assert [await get(bob), await get(alice)] == ["b2", "a3"]

    asyncio.run(main())


def test_the_store_keys_by_reference():
    source = Keyring("one", "two", "three")
    store = SecretStore(lambda: 0.0, source)
    other = config.parse("KEYRING pass\n", "dma.conf")

    async def main():
        first = await store.get(login("file:/a"), SETTINGS)
        second = await store.get(login("file:/b"), SETTINGS)
        third = await store.get(login("file:/b"), other)
        assert [first.reveal(), second.reveal(), third.reveal()] == ["one", "two", "three"]

    asyncio.run(main())


def test_the_store_keeps_no_failure():
    source = Keyring(SecretUnreadable("locked", "unlock it"), "value")
    store = SecretStore(lambda: 0.0, source)

    async def main():
        with pytest.raises(SecretUnreadable):
            await store.get(login("keyring:"), SETTINGS)
        assert (await store.get(login("keyring:"), SETTINGS)).reveal() == "value"

    asyncio.run(main())


def test_sessions_share_one_read_and_one_that_leaves_spoils_it_for_nobody():
    source = Keyring("value")

    async def main():
        source.gate = asyncio.Event()
        store = SecretStore(lambda: 0.0, source)
        waiting = [asyncio.ensure_future(store.get(login("keyring:"), SETTINGS)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        source.gate.set()
        assert [(await task).reveal() for task in waiting[1:]] == ["value", "value"]

    asyncio.run(main())
    assert source.reads == 1


def test_a_read_under_way_when_the_login_is_refused_is_not_kept():
    source = Keyring("old", "new")

    async def main():
        source.gate = asyncio.Event()
        store = SecretStore(lambda: 0.0, source)
        under_way = asyncio.ensure_future(store.get(login("keyring:"), SETTINGS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        store.forget(login("keyring:"))
        source.gate.set()
        assert (await under_way).reveal() == "old"
        assert (await store.get(login("keyring:"), SETTINGS)).reveal() == "new"

    asyncio.run(main())


def test_nothing_shows_a_secret():
    secret = "needle-in-no-log"
    found = authconf.parse(f"alice|smtp.example.org:{secret}\nbob|smtp.example.org:literal:{secret}", "auth.conf")
    store = SecretStore(lambda: 0.0)
    asyncio.run(store.get(found.logins[0], SETTINGS))
    assert secret not in repr(found.logins) + repr(store.__dict__) + repr(vars(found))


def test_the_programs_output_is_bounded_in_memory():
    async def main():
        words = ["/bin/sh", "-c", "head -c 3000000 /dev/zero >&2"]
        return await shortlived.run(words, {"PATH": "/usr/bin:/bin"}, seconds=10, limit=4096)

    assert len(asyncio.run(main()).err) == 4096
