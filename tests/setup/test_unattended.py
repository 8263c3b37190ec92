"""`dma-setup RECIPE --answers FILE`: the real program, a real mail server, the real sendmail it installs."""

import json
import os
import stat
import subprocess

import golden_screen
import pytest
from mail_server import Certificate, MailServer
from provisioning import tree
from secret_service import end_all
from setup_home import PASSWORD, Home, relay


@pytest.fixture(scope="module")
def server():
    with MailServer(tls="starttls", users={"alice": PASSWORD}) as server:
        yield server


@pytest.fixture(autouse=True)
def accepting(server):
    server.accept()
    server.messages.clear()


@pytest.fixture
def home(tmp_path):
    yield Home(tmp_path / "home")
    end_all(tmp_path / "home")


def screen(done, home, server):
    text = golden_screen.settle(done.stdout, home=home.path, port=server.port)
    return text + (
        f"-- standard error\n{golden_screen.settle(done.stderr, home=home.path, port=server.port)}" if done.stderr else ""
    )


def test_from_nothing_to_a_sent_message_and_back(home, server):
    answers = home.answers(relay(server))
    done = home.run("smarthost", "--user", "--answers", answers, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    golden_screen.same("unattended-first", screen(done, home, server))
    (message,) = server.messages
    assert (message.sender, message.recipients, message.login) == ("alice@example.org", ["bob@example.org"], "alice")
    assert b"Subject: dma works on" in message.content

    config = home.path / ".config/dma"
    for name in ("dma.conf", "auth.conf", "answers.smarthost.yml", "secrets/dma.localhost.alice"):
        assert stat.S_IMODE((config / name).stat().st_mode) == 0o600, name
    assert os.readlink(home.path / ".local/bin/sendmail") == str(home.path / ".local/lib/dma/dma")

    before = tree(home.path)
    again = home.run("smarthost", "--user", "--answers", answers, "--yes")
    assert (again.returncode, again.stdout) == (0, "Plan: nothing to change (13 things already right)\n")
    check = home.run("smarthost", "--user", "--answers", str(config / "answers.smarthost.yml"), "--check")
    assert (check.returncode, check.stdout) == (0, again.stdout)
    assert tree(home.path) == before
    assert len(server.messages) == 1

    undone = home.run("undo", "--user")
    assert undone.returncode == 0
    golden_screen.same("undo", screen(undone, home, server))
    assert tree(home.path) == {}
    assert home.run("undo", "--user").stdout == "Nothing to undo: everything dma-setup changed here has been taken back.\n"


def test_an_answer_that_was_left_empty_on_purpose_is_saved_as_that(home, server):
    """`root_mail: ""`: with the saved answers root's mail went to the sender, which is the default."""
    answers = home.answers(relay(server, root_mail='""'))
    assert home.run("smarthost", "--user", "--answers", answers, "--yes", "--no-test").returncode == 0
    saved = str(home.path / ".config/dma/answers.smarthost.yml")
    again = home.run("smarthost", "--user", "--answers", saved, "--check")
    assert (again.returncode, again.stdout[:24]) == (0, "Plan: nothing to change ")


def test_newaliases_checks_the_aliases_that_setup_wrote(home, server):
    assert home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--yes", "--no-test").returncode == 0
    program = [str(home.path / ".local/bin/newaliases")]
    environment = {**home.environment, "DMA_CONF": str(home.path / ".config/dma/dma.conf")}  # root reads it only when told
    ran = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    aliases = home.path / ".config/dma/aliases"
    aliases.write_text(aliases.read_text() + "no colon here\n")
    ran = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert ran.returncode == 70
    assert f"newaliases: {aliases}:" in ran.stderr


def test_check_writes_nothing_and_says_3(home, server):
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--check", "--diff")
    assert done.returncode == 3
    golden_screen.same("check-diff", screen(done, home, server).replace(server.fingerprint, "FINGERPRINT"))
    assert list(home.path.iterdir()) == []
    assert PASSWORD not in done.stdout + done.stderr


def test_a_wrong_password_changes_nothing(home, server):
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--yes", DMA_PW="wrong")
    assert done.returncode == 1
    golden_screen.same("wrong-password", screen(done, home, server))
    assert list(home.path.iterdir()) == []


def test_a_certificate_that_is_not_the_pinned_one(home, server):
    answers = home.answers(relay(server, fingerprint="ab" * 32))
    sign_ins = len(server.logins)
    done = home.run("smarthost", "--user", "--answers", answers, "--yes")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert len(server.logins) == sign_ins, "the password must not be sent"
    assert list(home.path.iterdir()) == []


def test_a_certificate_of_nobody_known(home, server):
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server, fingerprint=None)), "--yes")
    assert done.returncode == 1
    assert "certificate" in done.stdout.lower()
    assert list(home.path.iterdir()) == []


def test_nobody_answers(home, server):
    with MailServer() as gone:
        port = gone.port
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server, host=f"localhost:{port}")), "--yes")
    assert done.returncode == 1
    golden_screen.same("nobody-answers", golden_screen.settle(done.stdout + done.stderr, home=home.path, port=port))
    assert list(home.path.iterdir()) == []


def test_the_message_is_refused(home, server):
    server.refuse("RCPT TO", "550 5.1.1 no such person here", times=1)
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--yes")
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "refused: localhost [127.0.0.1] failed after RCPT TO: 550 5.1.1 no such person here" in said
    assert "but the relay did not take the message" in said
    assert (home.path / ".config/dma/dma.conf").exists()


def test_everything_missing_or_wrong_is_listed_at_once(home):
    answers = home.answers("adress: alice@gmail.com\nkeyring: sometimes\nroot_mail: 'a b'\n")
    done = home.run("gmail", "--user", "--answers", answers)
    assert done.returncode == 2
    golden_screen.same("answers-wrong", golden_screen.settle(done.stderr, home=home.path.parent))
    assert list(home.path.iterdir()) == []


def test_what_would_be_taken_from_a_wrong_answer_is_not_missing(home):
    done = home.run("gmail", "--user", "--answers", home.answers("address: alice\napp_password: {env: DMA_PW}\nkeyring: file\n"))
    assert done.returncode == 2
    assert done.stderr.startswith("dma-setup: 1 answer is wrong; nothing was changed\n  address is not a mail address")
    assert "sender" not in done.stderr


def test_a_password_without_a_login_is_told(home):
    """Whoever forgot the login would have a relay without one, and not know it."""
    answers = home.answers("host: relay.example.org\npassword: {env: DMA_PW}\n")
    done = home.run("smarthost", "--user", "--answers", answers, "--check", "--json")
    assert done.returncode == 3, done.stderr
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning == f"password is not used: nobody signs in with these answers  ({answers}:2)"


def test_a_missing_secret_as_in_the_transcript(home):
    done = home.run("gmail", "--user", "--answers", "-", given="address: alice@gmail.com\nkeyring: file\n")
    assert (done.returncode, done.stdout) == (2, "")
    golden_screen.same("answers-secret-missing", done.stderr)


@pytest.mark.parametrize(
    ("secret", "status", "says"),
    [
        ("{env: NOT_THERE}", 2, "environment variable NOT_THERE, which is not set"),
        ("{file: open}", 2, "which others can read; mend it with: chmod 600"),
        ("{file: missing}", 2, "No such file"),
        ("{command: 'printf x'}", 2, "absolute path"),
        ("{command: /bin/false}", 2, "gave nothing"),
        ("{stdin: true}", 2, "cannot come from standard input"),
        ("{keyring: true}", 2, "no password for alice at localhost is stored here"),
        ("{envv: A}", 2, "unknown reference envv"),
        ("[a]", 2, "must be a reference"),
        ("12345", 2, "must be a reference"),
        ("{env: EMPTY}", 2, "is empty"),
        ("'plain text'", 3, "stands in the answers in plain text"),
        ("{file: good}", 3, ""),
        ("{command: /bin/cat good}", 3, ""),
        ("{credential: good}", 3, ""),
    ],
)
def test_where_a_secret_may_come_from(home, server, secret, status, says):
    folder = home.path.parent
    (folder / "open").write_text(PASSWORD)
    (folder / "open").chmod(0o644)
    (folder / "good").write_text(PASSWORD + "\nanother line\n")
    (folder / "good").chmod(0o600)
    more = {"EMPTY": "", "CREDENTIALS_DIRECTORY": str(folder)}
    given = relay(server, password=secret, keyring=None if "good" in secret and "cred" not in secret else "file")
    words = ("-", given) if secret == "{stdin: true}" else (home.answers(given), "")
    done = home.run("smarthost", "--user", "--answers", words[0], "--check", given=words[1], **more)
    assert done.returncode == status, done.stdout + done.stderr
    assert says in " ".join((done.stdout + done.stderr).split())
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize("whose", ["another user's", "writable by others", "in an open folder", "root's"])
def test_root_runs_no_command_out_of_somebody_elses_file(home, server, whose):
    if os.getuid() != 0:
        pytest.skip("needs root: it is about what root runs")
    folder = home.path.parent / "place"
    folder.mkdir()
    mark = folder / "mark"
    answers = folder / "answers.yml"
    answers.write_text(relay(server, password=f"{{command: '/usr/bin/tee {mark}'}}"))
    answers.chmod(0o666 if whose == "writable by others" else 0o600)
    if whose == "another user's":
        os.chown(answers, 65534, 65534)
    folder.chmod(0o777 if whose == "in an open folder" else 0o755)
    done = home.run("smarthost", "--user", "--answers", str(answers), "--check")
    assert done.returncode == 2
    assert ("root runs none out of this file" in done.stderr) == (whose != "root's"), done.stderr
    assert mark.exists() == (whose == "root's")
    by_stdin = home.run("smarthost", "--user", "--answers", "-", "--check", given=answers.read_text())
    assert "root runs none" not in by_stdin.stderr


@pytest.mark.parametrize(
    ("secret", "reference"),
    [("{file: good}", "file:{folder}/good"), ("{command: '/bin/cat {folder}/good'}", "command:/bin/cat {folder}/good")],
)
def test_a_reference_stays_one(home, server, secret, reference):
    folder = home.path.parent
    (folder / "good").write_text(PASSWORD + "\n")
    (folder / "good").chmod(0o600)
    answers = home.answers(relay(server, password=secret.replace("{folder}", str(folder)), keyring=None))
    done = home.run("smarthost", "--user", "--answers", answers, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    text = (home.path / ".config/dma/auth.conf").read_text().splitlines()[-1]
    assert text == "alice|localhost:" + reference.replace("{folder}", str(folder))
    assert len(server.messages) == 1
    saved = str(home.path / ".config/dma/answers.smarthost.yml")
    assert home.run("smarthost", "--user", "--answers", saved, "--check").returncode == 0


def test_a_stored_password_that_is_not_there_is_a_missing_answer(home, server):
    """As with the saved answers of another machine."""
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server, password="{keyring: true}")), "--check")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "dma-setup: 1 answer is missing; nothing was changed"
    assert lines[1].split()[:2] == ["password", "secret"]
    assert lines[2].startswith("  ({keyring: true}, but no password for alice at localhost is stored here")
    assert lines[-1].startswith("  password: {env: DMA_PASSWORD}")


def test_a_secret_on_the_command_line_is_refused(home, server):
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--set", "password=x")
    assert done.returncode == 2
    assert "never taken from the command line" in done.stderr


def test_set_wins_over_the_file(home, server):
    answers = home.answers(relay(server))
    done = home.run("smarthost", "--user", "--answers", answers, "--set", "sender=carol@example.org", "--check", "--diff")
    assert done.returncode == 3
    assert "+MASQUERADE carol@example.org" in done.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'host = "relay.example.org"\nport = 25\n'),
        ("a.json", '{"host": "relay.example.org", "port": 25}'),
        ("a.yml", "host: relay.example.org\nport: 25\n"),
    ],
)
def test_three_formats_say_the_same(home, name, text):
    done = home.run("smarthost", "--user", "--answers", home.answers(text, name), "--check", "--json")
    assert done.returncode == 3, done.stderr
    plan = json.loads(done.stdout)["plan"]
    assert any("+SMARTHOST relay.example.org" in change.get("diff", "") for change in plan["changes"])
    assert any("+PORT 25\n" in change.get("diff", "") for change in plan["changes"])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.yml", "host: x\nhost: y\n", "a.yml:2: host stands here twice"),
        ("a.yml", "host: yes\n", "a.yml:1: `yes' means true or false to YAML"),
        ("a.yml", "host: x\nport: 0465\n", "a.yml:2: `0465' is a different number to YAML"),
        ("a.yml", "host: [\n", "a.yml:2: "),
        ("a.yml", "- host\n", "a.yml:1: must hold answers"),
        ("a.toml", "host = \n", "a.toml:1: Invalid value\n"),
        pytest.param("a.toml", "port = " + "9" * 5000, "a.toml: Exceeds the limit", id="digits in TOML"),
        pytest.param("a.json", '{"port": ' + "9" * 5000 + "}", "a.json: ", id="digits in JSON"),
        ("a.json", '{"host": \n}', "a.json:2: "),
        ("a.json", "[]", "a.json:1: must hold one object"),
        ("missing.yml", None, "missing.yml: No such file"),
        ("a.yml", "host: !!python/object:os.system x\n", "a.yml:1: "),
        ("a.yml", "host: 'a\\nb c'\n", "needs a host name"),
        ("a.yml", 'host: "a\\nb"\n', "control character"),
        ("a.yml", "host: true\n", "must be a host name or host:port, not true or false"),
    ],
)
def test_a_file_that_cannot_be_understood(home, name, text, says):
    path = home.answers(text, name) if text is not None else str(home.path.parent / name)
    done = home.run("smarthost", "--user", "--answers", path)
    assert done.returncode == 2
    assert says in done.stderr


def test_one_json_document(home, server):
    done = home.run("smarthost", "--user", "--answers", home.answers(relay(server)), "--yes", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"format", "facts", "plan", "proof", "result"}
    assert found["result"]["status"] == 0
    assert found["result"]["changes"] == len(found["plan"]["changes"]) == 13
    assert found["proof"]["reply"].startswith("250 2.0.0 Ok")
    assert PASSWORD not in done.stdout
    assert "Applying" in done.stderr or "changes made" in done.stderr


def test_without_a_terminal_and_without_answers(home):
    done = home.run("smarthost", "--user")
    assert done.returncode == 2
    assert "host" in done.stderr
    assert home.run().returncode == 2


def test_two_runs_at_once(home, server):
    from dma_setup.system import Lock

    state = home.path / ".local/state/dma-setup"
    state.mkdir(parents=True)
    held = Lock(str(state / "lock"))
    before = tree(home.path)
    words = ("smarthost", "--user", "--answers", home.answers(relay(server)), "--yes")
    done = home.run(*words)
    assert done.returncode == 1
    assert f"another dma-setup is at work here (process {os.getpid()})" in done.stderr
    assert tree(home.path) == before
    assert home.run(*words, "--check").returncode == 3, "looking is always allowed"
    held.release()
    assert home.run(*words).returncode == 0


def test_system_mode_below_a_root(home, server, tmp_path):
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc/aliases").write_text("postmaster: root\n")
    (image / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (image / "etc/group").write_text("root:x:0:\n")
    before = tree(image)
    answers = home.answers(relay(server))
    done = home.run("smarthost", "--root", str(image), "--answers", answers, "--yes", "--no-verify")
    assert done.returncode == 0, done.stdout + done.stderr
    found = tree(image, without=("var/lib/dma-setup",))
    assert found["etc/aliases"][2] == b"postmaster: root\nroot: bob@example.org\n"
    assert found["usr/sbin/sendmail"] == ("link", 0, "/usr/local/lib/dma/dma")
    assert b"AUTHPATH /etc/dma/auth.conf\n" in found["etc/dma/dma.conf"][2]
    assert found["etc/passwd"][2].endswith(b"\ndma:x:999:999:Mail queue:/var/spool/dma:/bin/false\n")
    if os.getuid() == 0:
        assert (image / "etc/dma/auth.conf").stat().st_gid == (image / "var/spool/dma").stat().st_uid == 999
    assert found["etc/systemd/system/sockets.target.wants/dma.socket"][2] == "/etc/systemd/system/dma.socket"
    assert str(image).encode() not in b"".join(item[2] for item in found.values() if item[0] == "file")
    assert list(home.path.iterdir()) == []
    assert home.run("smarthost", "--root", str(image), "--answers", answers, "--check").returncode == 0
    assert home.run("undo", "--root", str(image)).returncode == 0
    assert tree(image, without=("var/lib/dma-setup",)) == before


def test_system_mode_here_is_planned(home, server):
    if os.getuid() != 0:
        pytest.skip("needs root: system mode on the running machine")
    done = home.run("smarthost", "--system", "--answers", home.answers(relay(server)), "--no-verify", "--check")
    assert done.returncode == 3, done.stderr
    assert "account dma" in done.stdout
    assert not os.path.exists("/var/lib/dma-setup")


def test_a_relay_by_name_and_certificate(home, tmp_path):
    """Verified as a stranger's would be: the authority is trusted, the name is right."""
    certificate = Certificate("localhost")
    certificate.write_authority(tmp_path / "ca.pem")
    with MailServer(tls="implicit", users={"alice": PASSWORD}, certificate=certificate) as server:
        answers = home.answers(relay(server, fingerprint=None, tls="implicit"))
        done = home.run("smarthost", "--user", "--answers", answers, "--yes", SSL_CERT_FILE=str(tmp_path / "ca.pem"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(server.messages) == 1


@pytest.mark.parametrize("words", [["set", PASSWORD], ["set", "--json", PASSWORD], ["check", PASSWORD], ["rotate", PASSWORD]])
def test_a_password_typed_behind_the_verb_is_not_repeated(home, words):
    done = home.run("secret", *words)
    assert done.returncode == 2
    assert PASSWORD not in done.stdout + done.stderr
    assert f"secret {words[0]} takes no password on the command line" in done.stderr


def test_programs_that_setup_runs_are_not_given_the_variable_with_the_secret(home, server):
    """`{env: NAME}`: the interpreter that compiles the library, crontab and sendmail had it in their environment."""
    program = home.path / ".local" / "bin" / "crontab"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nset >> {home.path}/seen\n[ $1 = -l ] && exit 1\nwhile read line; do :; done\n")
    program.chmod(0o755)
    answers = home.answers(relay(server, password="{env: DMA_PW}"))
    done = home.run("smarthost", "--user", "--answers", answers, "--yes", "--no-test", DMA_PW=PASSWORD, OTHER="kept")
    assert done.returncode == 0, done.stderr
    seen = (home.path / "seen").read_text()
    assert "OTHER='kept'" in seen
    assert "DMA_PW" not in seen
