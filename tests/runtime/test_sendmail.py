"""The real sendmail program: what it takes, what it refuses, and what lies in the spool afterwards."""

import email
import email.policy
import os
import pwd
import resource
import stat
import subprocess
import sys
import time
import types

import pytest
from sendmail_program import PYTHON, ROOT, Sendmail

from dma_runtime.cmd import options as cli
from dma_runtime.cmd import sendmail, submit
from dma_runtime.cmd.caller import Caller
from dma_runtime.errors import CannotSpool
from dma_runtime.system.maillog import MailLog

LOGIN = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def mail(tmp_path):
    return Sendmail(tmp_path)


def addresses(envelope):
    return [recipient.address for recipient in envelope.recipients]


def parsed(message):
    return email.message_from_bytes(message, policy=email.policy.default)


# ---------------------------------------------------------------- what is taken


def test_a_message_is_stored_with_its_header_completed(mail):
    envelope, message = mail.accepted("bob@there.test", stdin=b"Subject: s\nTo: bob@there.test\n\nbody \xff\n")
    assert addresses(envelope) == ["bob@there.test"]
    assert envelope.sender == f"{LOGIN}@here.test"
    assert (envelope.uid, envelope.login) == (os.getuid(), LOGIN)
    assert envelope.size == len(message)
    assert envelope.has_8bit
    assert not envelope.has_nul
    assert envelope.queue_only
    assert message[: envelope.header_end].count(b"\n\n") == 0
    assert message[envelope.header_end :] == b"\nbody \xff\n"
    found = parsed(message)
    assert found["Message-ID"] == envelope.message_id
    assert found["From"].addresses[0].addr_spec == f"{LOGIN}@here.test"
    assert abs(found["Date"].datetime.timestamp() - time.time()) < 60
    assert f"with local id {envelope.id}" in found["Received"]


def test_recipients_of_the_command_line_and_of_the_header(mail):
    header = b"To: a@x.test,\n b@x.test\nCc: <c@x.test>\nBcc: hidden@x.test,\n\tfolded@x.test\n\nx\n"
    envelope, message = mail.accepted("-t", "d@x.test", stdin=header)
    assert sorted(addresses(envelope)) == [f"{n}@x.test" for n in ("a", "b", "c", "d", "folded", "hidden")]
    assert b"hidden" not in message
    assert b"folded" not in message
    envelope, message = mail.accepted("d@x.test", stdin=header)
    assert addresses(envelope) == ["d@x.test"]
    assert b"hidden" not in message


def test_crlf_input_is_the_same_message(mail):
    _, unix = mail.accepted("a@x", stdin=b"Subject: t\nDate: d\nFrom: f@x\nMessage-ID: <m@x>\n\nbody\n")
    _, windows = mail.accepted("a@x", stdin=b"Subject: t\r\nDate: d\r\nFrom: f@x\r\nMessage-ID: <m@x>\r\n\r\nbody\r\n")
    assert b"\r" not in windows
    assert windows.partition(b"Subject")[2] == unix.partition(b"Subject")[2]


@pytest.mark.parametrize("data", [b"a\n.\nb\n", b"a\r\n.\r\nb\r\n"])
def test_a_lone_dot_ends_the_message_unless_ignored(mail, data):
    assert mail.accepted("a@x", stdin=b"S: t\n\n" + data)[1].endswith(b"\n\na\n")
    assert mail.accepted("-i", "a@x", stdin=b"S: t\n\n" + data)[1].endswith(b"\n\na\n.\nb\n")
    assert mail.accepted("-oi", "a@x", stdin=b"S: t\n\n" + data)[1].endswith(b"\n\na\n.\nb\n")


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"", b""),
        (b"Subject: headers only\n", b""),
        (b"Subject: no line end", b""),
        (b"hello no header\n", b"hello no header\n"),
        (b"hello", b"hello"),
        (b"From root Mon Jan 1\n>From x\nSubject: s\n\nb\n", b"b\n"),
        (b"\nonly a body\n", b"only a body\n"),
        (b"S: t\n\n" + b"x" * 5000, b"x" * 5000),
    ],
)
def test_odd_messages_are_taken_and_complete(mail, data, body):
    envelope, message = mail.accepted("a@x.test", stdin=data)
    assert message[envelope.header_end :] == b"\n" + body
    for name in ("Received", "Date", "Message-ID", "From"):
        assert len(parsed(message).get_all(name)) == 1
    assert not message.startswith(b"From ")


def test_a_nul_in_the_body_is_kept_and_known(mail):
    envelope, message = mail.accepted("a@x", stdin=b"S: t\n\na\0b\n")
    assert message.endswith(b"\n\na\0b\n")
    assert envelope.has_nul


def test_a_bare_cr_is_kept_and_known(mail):
    envelope, message = mail.accepted("a@x", stdin=b"S: t\n\na\rb\n")
    assert message.endswith(b"\n\na\rb\n")
    assert envelope.has_nul


def test_a_hundred_recipients(mail):
    wanted = [f"user{n}@x.test" for n in range(100)]
    assert addresses(mail.accepted(*wanted)[0]) == wanted
    assert addresses(mail.accepted("-t", stdin=b"To: " + ", ".join(wanted).encode() + b"\n\n")[0]) == wanted


def test_a_five_megabyte_header_is_taken(mail):
    header = b"".join(b"X-%d: %s\n" % (n, b"y" * 90) for n in range(53_000))
    _, message = mail.accepted("a@x", stdin=header + b"\nend\n")
    assert header in message


@pytest.mark.parametrize(
    ("words", "environment", "conf", "sender"),
    [
        ([], {}, "", f"{LOGIN}@here.test"),
        (["-f", "me@x.test"], {}, "", "me@x.test"),
        (["-r", "me@x.test"], {}, "", "me@x.test"),
        (["-f", ""], {}, "", ""),
        (["-f", "<>"], {}, "MASQUERADE u@h.test", ""),
        ([], {"EMAIL": "Me <me@mail.test>"}, "", "me@mail.test"),
        (["-f", "app@host"], {}, "MASQUERADE corp.test", "app@corp.test"),
        ([], {}, "MASQUERADE me@corp.test", "me@corp.test"),
    ],
)
def test_the_sender(mail, words, environment, conf, sender):
    mail.environment.update(environment)
    mail.configure(f"SMARTHOST r.invalid\n{conf}\n")
    envelope, message = mail.accepted(*words, "a@x.test")
    assert envelope.sender == sender
    assert parsed(message)["From"].addresses[0].addr_spec == (sender or "MAILER-DAEMON@here.test")


def test_the_full_name_and_hideuser(mail):
    mail.configure("SMARTHOST r.invalid\nHIDEUSER\n")
    _, message = mail.accepted("-F", "Cron Daemon", "-f", "x@y", "a@x")
    assert parsed(message)["From"] == "Cron Daemon <x@y>"
    assert f"uid {os.getuid()}" not in parsed(message)["Received"]


def test_masquerade_in_the_header_keeps_the_original(mail):
    mail.configure("SMARTHOST r.invalid\nMASQUERADE me@corp.test\n")
    _, message = mail.accepted("a@x", stdin=b"From: root (Cron)\nTo: root\n\nx\n")
    assert b"\nFrom: me@corp.test (Cron)\nX-Original-From: root (Cron)\nTo: root@here.test\n" in message


def test_aliases_and_a_bad_line_among_them(mail):
    mail.aliases.write_text('bad line\nroot: me@there.test\npipe: "|/bin/x y"')
    envelope, _ = mail.accepted("ROOT")
    assert [(r.address, r.original) for r in envelope.recipients] == [("me@there.test", "ROOT")]


def test_the_owner_s_own_forward(mail):
    home = mail.directory / "home"
    home.mkdir()
    mail.environment["HOME"] = str(home)
    (home / ".forward").write_text("me@far.test\n")
    assert addresses(mail.accepted(LOGIN)[0]) == ["me@far.test"]
    (home / ".forward").write_text(f"\\{LOGIN}, me@far.test\n")
    assert addresses(mail.accepted(f"{LOGIN}@here.test")[0]) == [LOGIN, "me@far.test"]
    (home / ".forward").chmod(0o666)
    assert addresses(mail.accepted(LOGIN)[0]) == [LOGIN]
    status, shown = mail.on_terminal("-bq", LOGIN, stdin=b"Subject: s\n\n")
    assert status == 0
    assert "is not used: others can write it" in shown


def test_the_owner_of_a_list_gets_its_failures(mail):
    mail.aliases.write_text("team: a@x.test, b@x.test\nowner-team: chief@far.test\nroot: admin@far.test\n")
    ran = mail.run("-bq", "-f", "me@here.test", "team", "root", "c@x.test", stdin=b"Subject: s\n\nbody \xff\0\n" + b"x" * 2000)
    assert ran.returncode == 0, ran.stderr
    (first, text), (second, other) = sorted(mail.stored(), key=lambda found: found[0].sender)
    assert (first.sender, addresses(first)) == ("chief@far.test", ["a@x.test", "b@x.test"])
    assert (second.sender, addresses(second)) == ("me@here.test", ["admin@far.test", "c@x.test"])
    assert first.message_id == second.message_id == parsed(text)["Message-ID"] == parsed(other)["Message-ID"]
    for envelope, message in ((first, text), (second, other)):
        assert message[envelope.header_end :] == b"\nbody \xff\0\n" + b"x" * 2000
        assert (envelope.has_nul, envelope.has_8bit, envelope.longest_line, envelope.size) == (True, True, 2000, len(message))
        assert parsed(message)["From"] == "me@here.test"
    # A report keeps the null sender, whoever owns the list.
    assert mail.accepted("-f", "", "team")[0].sender == ""


def test_a_list_with_nobody_on_it(mail):
    (mail.directory / "empty").write_text("# nobody yet\n")
    mail.aliases.write_text(f"team: :include:{mail.directory}/empty\nlost: :include:{mail.directory}/lost\n")
    mail.refused(65, "the alias has no destination", "team")
    mail.refused(65, "can not read :include:", "lost")


def test_one_bad_recipient_among_good_ones_is_carried_for_the_report(mail):
    envelope, _ = mail.accepted("nosuchuser", "a@x.test")
    assert [(r.address, r.refused) for r in envelope.recipients] == [("nosuchuser", "no such user here"), ("a@x.test", "")]


def test_arguments_as_people_write_them(mail):
    envelope, _ = mail.accepted("<a@x.test>", "Bob <b@x.test>", "c@x.test, d@x.test")
    assert addresses(envelope) == ["a@x.test", "b@x.test", "c@x.test", "d@x.test"]


def test_bytes_beyond_utf8_go_through(mail):
    words = [str(mail.program).encode(), b"-bq", b"-f", b"j\xf6rg@x.test", b"\xff@x.test"]
    ran = subprocess.run(words, input=b"x", env={**mail.environment, "LC_ALL": "C"}, capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")
    ((envelope, _),) = mail.stored()
    assert envelope.sender.encode("utf-8", "surrogateescape") == b"j\xf6rg@x.test"
    assert addresses(envelope)[0].encode("utf-8", "surrogateescape") == b"\xff@x.test"


def test_the_spool_is_private_whatever_the_umask(mail):
    ran = mail.run("-bq", "a@x", stdin=b"x", umask=0o000)
    assert ran.returncode == 0
    assert stat.S_IMODE(mail.spool.stat().st_mode) == 0o700
    (name,) = mail.ids()
    assert stat.S_IMODE((mail.spool / "queue" / name).stat().st_mode) == 0o600


# ---------------------------------------------------------------- what is refused


def test_no_recipients(mail):
    mail.refused(66, "no recipients from command line")
    mail.refused(66, "no recipients from headers", "-t")


@pytest.mark.parametrize("recipient", ["a@x\r\nRCPT TO:<b@y>", "a\n@x", "a@x\r", "a\x01b"])
def test_control_characters_in_a_recipient(mail, recipient):
    mail.refused(65, "control character", recipient)
    mail.refused(65, "control character", "good@x.test", recipient)


def test_control_characters_in_a_sender_and_in_the_header(mail):
    mail.refused(65, "invalid sender", "-f", "a\r\nb@x", "u@x")
    mail.refused(65, "invalid address in header", "-t", stdin=b"To: a\0b@x\n\n")
    mail.refused(65, "invalid address in header", "u@x", stdin=b"To: a\rb@x\n\n")


@pytest.mark.parametrize("recipient", ["nosuchuser", "nosuchuser@localhost", "a b", "@x", "a@", "", "<>"])
def test_a_recipient_that_is_none(mail, recipient):
    mail.refused(65, f"invalid recipient `{recipient}'", "-bq", recipient)


def test_nothing_leaves_with_localonly(mail):
    mail.configure("LOCALONLY\n")
    mail.refused(68, "LOCALONLY", "a@x.test")


def test_the_size_limit_both_sides_of_the_line(mail):
    mail.configure("SMARTHOST r.invalid\nMAXSIZE 64K\n")
    mail.refused(69, "MAXSIZE (64K)", "-bq", "a@x", stdin=b"S: t\n\n" + b"x" * (64 << 10))
    head = len(mail.accepted("a@x", stdin=b"S: t\n\n")[1])
    assert mail.accepted("a@x", stdin=b"S: t\n\n" + b"x" * ((64 << 10) - head - 20))


def test_the_space_limit_both_sides_of_the_line(mail):
    found = os.statvfs(mail.directory)
    free = found.f_bavail * found.f_frsize
    mail.configure(f"SMARTHOST r.invalid\nMINFREE {free * 2}\n")
    mail.refused(75, "MINFREE", "-bq", "a@x")
    mail.configure(f"SMARTHOST r.invalid\nMINFREE {free // 2}\n")
    assert mail.accepted("a@x")


@pytest.mark.parametrize(
    ("conf", "text"),
    [("PORT nonsense", "dma.conf:4: PORT"), ("NULLCLIENT", "requires SMARTHOST"), ("MAXSIZE x", "such as 100M")],
)
def test_a_bad_configuration_value(mail, conf, text):
    mail.configure(conf + "\n")
    mail.refused(78, text, "a@x")


def test_an_unknown_key_is_no_obstacle(mail):
    mail.configure("SMARTHOST r.invalid\nNONSENSE 1\n")
    assert mail.accepted("a@x")


@pytest.mark.parametrize("place", ["fifo", "/dev/zero", "/"])
def test_a_configuration_that_is_no_file(mail, place):
    """A FIFO has nobody who writes to it, a device no end."""
    why = "Is a directory" if place == "/" else "Not a regular file"
    if place == "fifo":
        place = str(mail.directory / place)
        os.mkfifo(place)
    mail.environment["DMA_CONF"] = place
    mail.refused(66, f"can not open config `{place}': {why}", "a@x")


def test_a_file_without_one_known_key_is_not_a_configuration(mail):
    (mail.directory / "sendmail.cf").write_text("O DeliveryMode=b\nDj$w\n")
    assert mail.accepted("-C", str(mail.directory / "sendmail.cf"), "a@x")


def test_a_spool_that_cannot_be_made(mail):
    mail.spool = mail.directory / "file" / "spool"
    (mail.directory / "file").write_text("")
    mail.configure("SMARTHOST r.invalid\n")
    mail.refused(73, f"(SPOOLDIR in {mail.conf})", "a@x")


def test_closed_standard_files(mail):
    command = [str(mail.program), "-bq", "a@x"]
    shell = ["sh", "-c", 'exec "$@" <&- 2>&1', "sh", *command]
    ran = subprocess.run(shell, env=mail.environment, capture_output=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (66, b"sendmail: can not read mail: Bad file descriptor\n")
    shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command, "nosuchuser"]
    ran = subprocess.run(shell, env=mail.environment, input=b"Subject: s\n\nx\n", timeout=60)
    assert ran.returncode == 0
    assert [message.endswith(b"\n\nx\n") for _, message in mail.stored()] == [True]


def test_no_file_is_opened_in_the_place_of_a_standard_one(mail):
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from dma_runtime.cmd.sendmail import open_standard_files\n"
        "open_standard_files()\n"
        "sys.exit(os.open('/dev/null', os.O_RDONLY))\n"
    )
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", PYTHON, "-IS", "-c", code]
    assert subprocess.run(shell).returncode == 3


def test_usage_errors(mail):
    mail.refused(64, "invalid argument: `-Z'", "-Z")
    mail.refused(64, "no SMTP listener", "-bd")
    mail.refused(64, "mutually exclusive", "-bp", "a@x")
    mail.refused(64, "conflicting queue operations", "-bp", "-q")


def test_without_any_configuration_it_says_what_to_do(mail):
    if os.path.exists("/etc/dma/dma.conf"):
        pytest.skip("needs a machine without /etc/dma/dma.conf")
    del mail.environment["DMA_CONF"]
    mail.refused(75, "dma-setup --user", "a@x")


def test_interrupted_while_reading_leaves_nothing(mail):
    ran = subprocess.Popen([str(mail.program), "-bq", "a@x"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=mail.environment)
    ran.stdin.write(b"Subject: s\n\n" + b"x\n" * 100_000)
    ran.stdin.flush()
    time.sleep(0.3)
    ran.send_signal(2)
    _, shown = ran.communicate(timeout=20)
    assert ran.returncode in (130, -2)
    assert shown == b""
    assert mail.stored() == []


# ---------------------------------------------------------------- users and rights


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: another user's file is the point")
def test_root_does_not_honour_what_others_own_or_can_write(mail):
    mail.accepted("a@x")
    for name in mail.ids():
        os.unlink(mail.spool / "queue" / name)
    mail.conf.chmod(0o666)
    mail.refused(78, "can be written by others", "a@x")
    mail.conf.chmod(0o644)
    os.chown(mail.conf, 1, 1)
    mail.refused(78, "belongs to uid 1", "a@x")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_has_a_spool_of_their_own(mail):
    for path in (mail.directory, *mail.directory.parents):
        if path.stat().st_uid == 0 and path.stat().st_mode & 0o005 != 0o005 and "pytest" in str(path):
            path.chmod(0o755)
    os.chown(mail.directory, 65534, 65534)
    os.chown(mail.conf, 65534, 65534)
    if subprocess.run([PYTHON, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import dma_runtime"], user=65534).returncode:
        pytest.skip("needs a checkout that other users can read")
    envelope, _ = mail.accepted("a@x", user=65534, group=65534)
    assert envelope.uid == 65534
    assert mail.spool.stat().st_uid == 65534


# ---------------------------------------------------------------- a person at a terminal


def test_warnings_are_shown_on_a_terminal_only(mail):
    mail.configure("SMARTHOST r.invalid\nNONSENSE 1\n")
    status, shown = mail.on_terminal("-bq", "a@x", stdin=b"x")
    assert status == 0
    assert shown.startswith(f"sendmail: warning: {mail.conf}:5: unknown key NONSENSE")


def test_what_cannot_be_spooled_is_kept_for_a_person(mail, monkeypatch):
    # In this process, for the home is that of the passwd entry, and that must not be the real one.
    entry = list(pwd.getpwuid(os.getuid()))
    entry[5] = str(mail.directory)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(entry))
    chunks = iter([b"Subject: s\n\n", b"precious\n"])
    terminal = types.SimpleNamespace(**vars(os))
    terminal.read, terminal.isatty = lambda fd, n: next(chunks, b""), lambda fd: fd == 2
    monkeypatch.setattr(submit, "os", terminal)
    shown = []
    monkeypatch.setattr(submit, "say", shown.append)
    monkeypatch.setattr(os, "environ", {"DMA_CONF": str(mail.conf)})
    (mail.directory / "spool").write_text("in the way")
    with pytest.raises(CannotSpool):
        submit.submit(Caller("sendmail", cli.parse(["a@x"]), MailLog(device="/nonexistent")))
    assert shown == [f"sendmail: the message was kept in {mail.directory}/dead.letter\n"]
    assert b"Subject: s\n\nprecious\n" in (mail.directory / "dead.letter").read_bytes()


def test_what_is_too_large_to_be_kept_is_said(mail):
    (mail.directory / "spool").write_text("in the way")
    status, shown = mail.on_terminal("a@x", stdin=b"Subject: s\n\n" + b"x" * (5 << 20))
    assert status == 73
    assert "larger than 4 MB and was not kept in dead.letter" in shown


def test_without_a_home_the_person_is_told(mail):
    (mail.directory / "spool").write_text("in the way")
    if os.getuid() != 0:
        pytest.skip("needs root to become a user without a home")
    os.chown(mail.conf, 4_000_000, 4_000_000)
    for path in (mail.directory, *mail.directory.parents):
        if path.stat().st_uid == 0 and path.stat().st_mode & 0o005 != 0o005 and "pytest" in str(path):
            path.chmod(0o755)
    status, shown = mail.on_terminal("a@x", stdin=b"x", user=4_000_000, group=4_000_000)
    assert status == 73
    assert "could not be kept in dead.letter" in shown


@pytest.mark.parametrize("what", [ModuleNotFoundError("No module named 'dma_runtime.address'"), MemoryError()])
def test_what_passes_by_itself_is_75(mail, monkeypatch, capfd, what):
    """The library is being upgraded this moment, or there is no memory."""
    monkeypatch.setattr(sendmail, "run", lambda *_: (_ for _ in ()).throw(what))
    assert sendmail.main(["sendmail", "a@x"]) == 75
    assert capfd.readouterr().err == f"sendmail: can not go on: {type(what).__name__}{': ' if str(what) else ''}{what}\n"


def test_other_faces(mail):
    mail.aliases.write_text("root: a@x\n")
    newaliases = mail.launcher("newaliases")
    ran = mail.run(program=newaliases)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    mail.aliases.write_text("root: a@x\nbroken\n")
    for ran in (mail.run("-x", program=newaliases), mail.run("-bi")):
        assert ran.returncode == 70
        assert f"{mail.aliases}:2: syntax error" in ran.stderr.decode()
    (mail.directory / "other.conf").write_text(f"ALIASES {mail.directory}/none\n")
    assert mail.run("-C", str(mail.directory / "other.conf"), program=newaliases).returncode == 0
    mailq = mail.launcher("mailq")
    for words in ([], ["-v"], ["-Ac"], ["-q"]):
        ran = mail.run(*words, program=mailq)
        assert (ran.returncode, ran.stdout) == (0, b"Mail queue is empty\n"), ran


def test_verify(mail):
    mail.aliases.write_text("root: me@there.test\n")
    ran = mail.run("-bv", "root", "a@x.test")
    assert ran.returncode == 0
    assert ran.stdout.decode().splitlines() == [
        "root... deliverable: mailer relay, user me@there.test",
        "a@x.test... deliverable: mailer relay, user a@x.test",
    ]
    ran = mail.run("-bv", "nosuchuser")
    assert (ran.returncode, ran.stdout) == (67, b"nosuchuser... no such user here\n")
    assert mail.stored() == []


def test_version_and_help(mail):
    assert mail.run("--version").stdout.startswith(b"dma ")
    assert b"usage" in mail.run("--help").stdout


# ---------------------------------------------------------------- limits of the process


def test_fifty_megabytes_in_little_memory(mail):
    code = (
        "import resource, subprocess, sys\n"
        "p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "p.stdin.write(b'Subject: s\\n\\n')\n"
        "for _ in range(800): p.stdin.write((b'y' * 79 + b'\\n') * 820)\n"
        "p.stdin.close(); status = p.wait()\n"
        "print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(mail.program), "-bq", "a@x"], env=mail.environment, capture_output=True, timeout=100
    )
    status, peak = ran.stdout.split()
    assert int(status) == 0, ran.stderr
    assert int(peak) < 60 << 10
    ((envelope, _),) = mail.stored()
    assert envelope.size > 50 << 20


def test_a_full_disk_is_75_and_leaves_nothing(mail):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    # Like a full disk, but for everybody to try: EFBIG at the same place. SIGXFSZ is ignored by Python.
    mail.refused(75, "can not write the spool", "-bq", "a@x", stdin=b"S: t\n\n" + b"x" * 400_000, preexec_fn=small_files)
