"""Apply and undo: twice is nothing, a failure or interruption at any step leaves nothing, undo leaves what was before."""

import hashlib
import json
import os

import pytest
from provisioning import FACTS, GMAIL, KEPT, SECRET, SMARTHOST, Machine, home_place, plan, tree

from dma_setup import apply, undo
from dma_setup import journal as journals
from dma_setup.changes import digest
from dma_setup.errors import SetupError
from dma_setup.system import Lock

VARIANTS = {
    "gmail, file": ("gmail", GMAIL, {}),
    "gmail, keyring and timer": ("gmail", {**GMAIL, "keyring": "secret-service"}, {"systemd_user": True}),
    "smarthost, crontab": ("smarthost", SMARTHOST, {"crontab": True}),
    "smarthost without login": ("smarthost", {"host": "relay.example.org"}, {}),
    "local": ("local", {}, {"systemd_user": True, "linger": True}),
}


def used_home(folder):
    """A home that somebody uses: an old dma.conf and auth.conf, a sendmail of their own."""
    home = folder / "home"
    conf = home / ".config/dma"
    conf.mkdir(parents=True)
    (conf / "dma.conf").write_text("# mine\nSMARTHOST old.example.org   # the old one\nNOTAKEY 1\nPORT 25\nFULLBOUNCE\n")
    (conf / "dma.conf").chmod(0o644)
    (conf / "auth.conf").write_text("bob|other.example.org:tell-nobody\nalice|relay.example.org:literally\n")
    (conf / "auth.conf").chmod(0o600)
    programs = home / ".local/bin"
    programs.mkdir(parents=True)
    (programs / "sendmail").write_text("#!/bin/sh\n")
    (programs / "sendmail").chmod(0o755)
    return home


def used_machine():
    """A machine with a crontab and an older password in its keyring."""
    machine = Machine()
    machine.crontab = "0 4 * * * backup\n"
    machine.keyring["dma:smtp.gmail.com", "alice@gmail.com"] = "an older one"
    return machine


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Syncs prove nothing without a loss of power, slow digests have their own test; here they cost most of the time."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(digest, "_slow", lambda content, salt: hashlib.sha256(salt + content).digest())


@pytest.fixture
def home(tmp_path):
    return used_home(tmp_path)


@pytest.fixture
def machine():
    return used_machine()


def run(recipe, given, home, machine, facts=()):
    place = home_place(home)
    made = plan(recipe, given, place, machine, facts)
    return made, apply.journaled(made, place, recipe, machine)


@pytest.mark.parametrize("variant", VARIANTS)
def test_applied_twice_changes_nothing(variant, home, machine):
    recipe, given, facts = VARIANTS[variant]
    first, applied = run(recipe, given, home, machine, facts)
    assert first.changes
    assert len(applied.made) == len(first.changes)
    before = tree(home), machine.state()
    again = plan(recipe, given, home_place(home), machine, {**facts, "linger": machine.lingering or facts.get("linger", False)})
    assert [change.subject for change in again.changes] == []
    assert again.right
    assert (tree(home), machine.state()) == before


@pytest.mark.parametrize("variant", VARIANTS)
def test_undo_leaves_what_was_before(variant, home, machine):
    recipe, given, facts = VARIANTS[variant]
    before = tree(home), machine.state()
    run(recipe, given, home, machine, facts)
    assert (tree(home), machine.state()) != before
    undone = undo.run(home_place(home), machine)
    assert undone.left == []
    assert undone.complete
    assert (tree(home), machine.state()) == before
    assert undo.run(home_place(home), machine).recipe == ""


def fail():
    raise OSError(28, "No space left on device")


def interrupt():
    raise KeyboardInterrupt


def failure_of(call):
    try:
        call()
    except SetupError as failure:
        return failure
    return None


def die():
    os._exit(9)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (0, "everything is as it was before"),
        (2, "the change made before was taken back"),  # a directory is two calls
        (3, "the 2 changes made before were taken back"),
    ],
)
def test_a_failure_says_what_was_taken_back(tmp_path, number, says):
    home, machine = tmp_path / "home", Machine()
    home.mkdir()
    machine.fail_at = (number, "before", fail)
    made = plan("smarthost", SMARTHOST, home_place(home), machine)
    failure = failure_of(lambda: apply.journaled(made, home_place(home), "smarthost", machine))
    assert failure.text.endswith(f": No space left on device; {says}")


@pytest.mark.parametrize("happens", [fail, interrupt])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_failure_at_any_call_leaves_nothing(variant, when, happens, tmp_path):
    recipe, given, facts = VARIANTS[variant]
    number = 0
    while True:
        home, machine = used_home(tmp_path / str(number)), used_machine()
        before = tree(home), machine.state()
        made = plan(recipe, given, home_place(home), machine, facts)
        machine.fail_at = (number, when, happens)
        place = home_place(home)
        failure = failure_of(lambda made=made, place=place, machine=machine: apply.journaled(made, place, recipe, machine))
        if failure is None:
            if number >= len(machine.calls):
                break  # every call has had its turn
            # Only what is optional may fail and be passed over.
            assert machine.calls[number].split()[0] in ("crontab", "systemctl", "loginctl")
            number += 1
            continue
        assert failure.status == (130 if happens is interrupt else 1), machine.calls[number]
        assert failure.details == []
        assert "Errno" not in failure.text
        assert (tree(home), machine.state()) == before, f"after a failure {when} {machine.calls[number]}"
        assert undo.find(home_place(home), machine) == []
        number += 1
    assert number >= len(made.changes)


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_a_run_that_was_killed_is_taken_back_by_undo(tmp_path, when):
    """The process ends inside each call, with nothing cleaned up: the journal alone must be enough."""
    number, deaths, status = 0, 0, 0
    while status != 7:
        home = used_home(tmp_path / str(number))
        before = tree(home)
        child = os.fork()
        if child == 0:
            try:
                machine = Machine()
                made = plan("smarthost", SMARTHOST, home_place(home), machine)
                machine.fail_at = (number, when, die)
                apply.journaled(made, home_place(home), "smarthost", machine)
                if number >= len(machine.calls):
                    os._exit(7)
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 9:
            undone = undo.run(home_place(home), Machine())
            assert undone.left == []
            assert tree(home) == before, f"killed at call {number}"
            deaths += 1
        number += 1
    assert deaths > (6 if when == "within" else 10)


def image(folder):
    """The tree of a machine: what system mode needs, and things of each kind that it changes."""
    (folder / "etc/cron.d").mkdir(parents=True)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    (folder / "etc/shadow").write_text("root:*:::::::\n")
    (folder / "etc/aliases").write_text("postmaster: root\nroot: old@example.org\n")
    (folder / "etc/cron.d/dma").write_text("*/5 * * * * root dma -q\n")
    (folder / "usr/sbin").mkdir(parents=True)
    (folder / "usr/sbin/sendmail").write_text("#!/bin/sh\n")
    return folder


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_a_machines_tree_after_a_kill_and_undo(tmp_path, when):
    """System mode below --root: account, library, units, links. A sample of the calls, for the library has many."""
    from dma_setup import place as places

    facts = {"systemd": True}
    dry = Machine()
    place = places.for_system(str(image(tmp_path / "dry")))
    apply.journaled(plan("smarthost", SMARTHOST, place, dry, facts), place, "smarthost", dry)
    library = [number for number, call in enumerate(dry.calls) if "/python-" in call]
    others = [number for number in range(len(dry.calls)) if number not in library]
    deaths = 0
    for number in [*others[::4], *library[:: max(1, len(library) // 3)]]:
        root = image(tmp_path / f"{number}")
        before = tree(root)
        place = places.for_system(str(root))
        child = os.fork()
        if child == 0:
            try:
                machine = Machine()
                made = plan("smarthost", SMARTHOST, place, machine, facts)
                machine.fail_at = (number, when, die)
                apply.journaled(made, place, "smarthost", machine)
            finally:
                os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9:
            deaths += 1
            undone = undo.run(place, Machine())
            assert undone.left == [], f"killed {when} {dry.calls[number]}"
            after = tree(root, without=("var/lib/dma-setup",))
            after.pop("etc/.pwd.lock", None)  # empty, as passwd(1) leaves it on every machine
            assert after == before, f"killed {when} {dry.calls[number]}"
    assert deaths > 5


def test_what_a_killed_run_left_half_written_goes_with_the_next_run(home, machine):
    """A file beside its place may hold a password: nothing keeps it once somebody has the lock again."""
    run("gmail", GMAIL, home, machine)
    left = home / ".config/dma/secrets/.dma-setup.0123456789ab"
    left.write_text(KEPT)
    run("gmail", {**GMAIL, "app_password": "z" * 16}, home, machine)
    assert not left.exists()
    (home / ".config/dma/.dma-setup.notes").write_text("somebody's own")
    undo.run(home_place(home), machine)
    assert (home / ".config/dma/.dma-setup.notes").exists()


def test_a_run_that_ended_before_its_first_change_is_none(home, machine):
    before = tree(home), machine.state()
    run("gmail", GMAIL, home, machine)
    for line in ("", '{"begin": {"version": 1, "recipe": "gmail", "mode": "user", "root": "", "at": 0}}\n', '{"beg'):
        folder = home / f".local/state/dma-setup/9999-01-01T00-00-00.{len(line)}"
        folder.mkdir()
        (folder / "journal").write_text(line)
    undone = undo.run(home_place(home), machine)
    assert undone.complete
    assert (tree(home), machine.state()) == before


def test_a_keyring_keeps_the_older_passwords_for_undo(tmp_path):
    """Two applies, two undos: each puts back the password it found."""
    home, machine = used_home(tmp_path), used_machine()
    given = {**GMAIL, "keyring": "secret-service"}
    entry = ("dma:smtp.gmail.com", "alice@gmail.com")
    run("gmail", given, home, machine)
    run("gmail", {**given, "app_password": "z" * 16}, home, machine)
    assert machine.keyring[entry] == "z" * 16
    assert undo.run(home_place(home), machine).complete
    assert machine.keyring[entry] == KEPT
    assert undo.run(home_place(home), machine).complete
    assert machine.keyring == {entry: "an older one"}


@pytest.mark.parametrize(("old", "new"), [("file", "secret-service"), ("secret-service", "file"), ("pass", "secret-service")])
def test_a_password_that_moves_leaves_no_copy(tmp_path, old, new):
    home = tmp_path / "home"
    home.mkdir()
    machine = Machine()
    run("gmail", {**GMAIL, "keyring": old}, home, machine)
    before = tree(home), machine.state()
    run("gmail", {**GMAIL, "keyring": new}, home, machine, {"keyring_now": old})
    holders = [path for path in home.rglob("*") if path.is_file() and KEPT.encode() in path.read_bytes()]
    holders = [path for path in holders if "dma-setup" not in str(path)]
    entries = [key for key, value in machine.keyring.items() if value == KEPT and "dma:" in key[0]]
    assert (len(holders), len(entries)) == ((1, 0) if new == "file" else (0, 1))
    assert plan("gmail", {**GMAIL, "keyring": new}, home_place(home), machine, {"keyring_now": new}).changes == ()
    assert undo.run(home_place(home), machine).complete
    assert (tree(home), machine.state()) == before


@pytest.mark.parametrize(("old", "new"), [("file", "secret-service"), ("secret-service", "file"), ("pass", "secret-service")])
def test_the_old_copy_goes_only_when_the_new_one_is_proved(tmp_path, old, new):
    home, machine = tmp_path / "home", Machine()
    home.mkdir()
    place = home_place(home)
    run("gmail", {**GMAIL, "keyring": old}, home, machine)
    before = tree(home), machine.state()

    def copies():
        files = [path for path in (home / ".config").rglob("*") if path.is_file() and KEPT.encode() in path.read_bytes()]
        return len(files) + [value for key, value in machine.keyring.items() if "dma:" in key[0]].count(KEPT)

    seen = []

    def prove():
        seen.append(copies())
        raise SetupError("it cannot be read")

    made = plan("gmail", {**GMAIL, "keyring": new}, place, machine, {"keyring_now": old})
    with pytest.raises(SetupError, match="it cannot be read"):
        apply.journaled(made, place, "gmail", machine, prove)
    assert seen == [2], "the old one was still there"
    assert (tree(home), machine.state()) == before
    made = plan("gmail", {**GMAIL, "keyring": new}, place, machine, {"keyring_now": old})
    apply.journaled(made, place, "gmail", machine, lambda: seen.append(copies()))
    assert (seen, copies()) == ([2, 2], 1)


def test_a_password_is_never_deleted_for_want_of_the_older_one(tmp_path):
    home, machine = used_home(tmp_path), used_machine()
    run("gmail", {**GMAIL, "keyring": "secret-service"}, home, machine)
    for service, user in [key for key in machine.keyring if key[0].startswith("dma-setup:")]:
        del machine.keyring[service, user]
    undone = undo.run(home_place(home), machine)
    assert not undone.complete
    assert any("no longer in secret-service" in text for text in undone.left)
    assert machine.keyring["dma:smtp.gmail.com", "alice@gmail.com"] == KEPT


def test_a_changed_file_is_shown_and_left(home, machine):
    run("gmail", GMAIL, home, machine)
    conf = home / ".config/dma/dma.conf"
    conf.write_text(conf.read_text() + "FULLBOUNCE\nMAXSIZE 5M\n")
    undone = undo.run(home_place(home), machine)
    assert not undone.complete
    assert any("dma.conf was changed since" in text for text in undone.left)
    assert any("+MAXSIZE 5M" in diff for diff in undone.diffs)
    assert "MAXSIZE 5M" in conf.read_text()
    assert (home / ".local/bin/sendmail").read_text() == "#!/bin/sh\n", "the rest is put back"


def test_a_queue_with_mail_is_kept_with_all_it_needs(tmp_path, machine):
    home = tmp_path / "new"
    home.mkdir()
    run("gmail", GMAIL, home, machine)
    queue = home / ".local/state/dma/spool/queue"
    queue.mkdir()
    (queue / "0abc").write_text("{}")
    undone = undo.run(home_place(home), machine)
    assert undone.waiting == 1
    assert not undone.complete
    assert (queue / "0abc").exists()
    for name in (".config/dma/dma.conf", ".config/dma/auth.conf", ".local/lib/dma/dma"):
        assert (home / name).exists(), name
    assert not (home / ".local/bin/sendmail").exists()
    (queue / "0abc").unlink()
    again = undo.run(home_place(home), machine)
    assert again.complete
    assert tree(home) == {}


def test_an_empty_queue_goes_with_what_the_runtime_left_in_it(tmp_path, machine):
    home = tmp_path / "new"
    home.mkdir()
    run("gmail", GMAIL, home, machine)
    spool = home / ".local/state/dma/spool"
    for name in ("queue", "log", "tmp"):
        (spool / name).mkdir()
    for name in ("lock", "owner"):
        (spool / name).write_text("")
    assert undo.run(home_place(home), machine).complete
    assert tree(home) == {}


def test_a_foreign_file_in_the_spool_is_never_removed(tmp_path, machine):
    home = tmp_path / "new"
    home.mkdir()
    run("gmail", GMAIL, home, machine)
    (home / ".local/state/dma/spool/M123.abc").write_text("mail of C dma")
    undone = undo.run(home_place(home), machine)
    assert any("spool" in text for text in undone.left)
    assert (home / ".local/state/dma/spool/M123.abc").exists()


@pytest.mark.parametrize("keyring", ["file", "secret-service"])
def test_the_secret_is_nowhere_but_where_it_belongs(keyring, home, machine):
    made, applied = run("gmail", {**GMAIL, "keyring": keyring}, home, machine)
    shown = "".join(change.diff() + change.says + json.dumps(change.facts()) for change in made.changes) + repr(made)
    for text in (SECRET, KEPT, "tell-nobody", "literally"):
        assert text not in shown
    holders = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and KEPT.encode() in path.read_bytes()]
    assert holders == ([".config/dma/secrets/dma.smtp.gmail.com.alice@gmail.com"] if keyring == "file" else [])
    # What already held a password in the clear is kept for undo.
    # Without a keyring it lies in the journal, and the person is told where; with one it lies there.
    known = {os.path.basename(path) for path in applied.old_secrets}
    kept = {path.name for path in journal_files(home) if b"tell-nobody" in path.read_bytes()}
    assert kept == known
    sealed = [service for service, _ in machine.keyring if service.startswith("dma-setup:journal:")]
    assert (len(kept), len(sealed)) == ((1, 0) if keyring == "file" else (0, 1))
    for path in journal_files(home):
        assert path.stat().st_mode & 0o777 == 0o600
    assert os.stat(applied.journal).st_mode & 0o777 == 0o700


def test_forgetting_deletes_the_journals_and_what_they_put_into_the_keyring(home, machine):
    run("gmail", {**GMAIL, "keyring": "secret-service"}, home, machine)
    assert undo.forget(home_place(home), machine) == 1
    assert journal_files(home) == []
    assert list(machine.keyring) == [("dma:smtp.gmail.com", "alice@gmail.com")]
    assert undo.run(home_place(home), machine).recipe == ""


def journal_files(home):
    return [path for path in (home / ".local/state/dma-setup").glob("*/*") if path.is_file()]


def test_two_runs_at_once(home):
    base = journals.prepare(home_place(home))
    held = Lock(os.path.join(base, "lock"))
    with pytest.raises(SetupError, match=f"another dma-setup is at work here .process {os.getpid()}."):
        Lock(os.path.join(base, "lock"))
    held.release()
    Lock(os.path.join(base, "lock")).release()


def test_a_plan_made_before_another_run_is_not_applied(home, machine):
    place = home_place(home)
    early = plan("gmail", {**GMAIL, "keyring": "secret-service"}, place, machine)
    run("gmail", {**GMAIL, "keyring": "secret-service", "app_password": "z" * 16}, home, machine)
    before = tree(home), machine.state()
    with pytest.raises(SetupError, match="another dma-setup changed something meanwhile"):
        apply.journaled(early, place, "gmail", machine)
    assert (tree(home), machine.state()) == before


def test_a_file_changed_between_plan_and_apply_stops_it(home, machine):
    place = home_place(home)
    made = plan("gmail", GMAIL, place, machine)
    (home / ".config/dma/auth.conf").write_text("carol|x.example:y\n")
    before = tree(home)
    with pytest.raises(SetupError, match=r"auth.conf was changed by somebody else meanwhile"):
        apply.journaled(made, place, "gmail", machine)
    assert tree(home) == before


def test_what_stays_of_an_existing_configuration(home, machine):
    run("gmail", GMAIL, home, machine)
    conf = (home / ".config/dma/dma.conf").read_text().splitlines()
    assert conf[:4] == ["# mine", "SMARTHOST smtp.gmail.com   # the old one", "NOTAKEY 1", "PORT 465"]
    assert "FULLBOUNCE" in conf
    auth = (home / ".config/dma/auth.conf").read_text().splitlines()
    assert auth[:2] == ["bob|other.example.org:tell-nobody", "alice|relay.example.org:literally"]
    assert auth[2].startswith("alice@gmail.com|smtp.gmail.com:file:")
    assert os.stat(home / ".config/dma/dma.conf").st_mode & 0o777 == 0o600


@pytest.mark.optional(reason="not every file system has extended attributes")
def test_a_label_on_a_file_stays(home, machine):
    """SELinux gives a new file the type of its directory; the one that is replaced may have had another."""
    conf = home / ".config/dma/dma.conf"
    try:
        os.setxattr(conf, "user.label", b"x")
    except OSError:
        pytest.skip("needs a file system with extended attributes")
    run("gmail", GMAIL, home, machine)
    assert os.getxattr(conf, "user.label") == b"x"
    undo.run(home_place(home), machine)
    assert os.getxattr(conf, "user.label") == b"x"


def test_facts_of_the_tests_are_those_of_a_bare_machine():
    assert not any(FACTS[name] for name in ("systemd_user", "crontab", "linger", "keyring"))
