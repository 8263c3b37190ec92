"""The verbs, one idea at a time: what becomes of an existing file, and what is refused."""

import os
import stat

import pytest
from provisioning import FACTS, GMAIL, SMARTHOST, Machine, home_place, plan

from dma_runtime import authconf, config
from dma_setup import view as views
from dma_setup.changes import CHANGED, RESTORED, digest
from dma_setup.errors import SetupError
from dma_setup.verbs import alias, launcher, login, settings, wake
from dma_setup.view import View


@pytest.mark.parametrize(
    ("old", "wanted", "new"),
    [
        ("", {"PORT": "587"}, "PORT 587\n"),
        ("PORT 25\n", {"PORT": "587"}, "PORT 587\n"),
        ("PORT 25 # why\n", {"PORT": "587"}, "PORT 587 # why\n"),
        ("PORT 25", {"PORT": "587"}, "PORT 587\n"),
        ("  PORT\t587\n", {"PORT": "587"}, "  PORT\t587\n"),
        ("PORT submission\n", {"PORT": "587"}, "PORT submission\n"),
        ("PORT 1\nFULLBOUNCE\nPORT 2\n", {"PORT": "587"}, "FULLBOUNCE\nPORT 587\n"),
        ("PORT nonsense\n", {"PORT": "587"}, "PORT 587\n"),
        ("PORT 25\r\n# c\r\n", {"PORT": "587"}, "PORT 587\r\n# c\r\n"),
        ("STARTTLS\nPORT 25\n", {"STARTTLS": None}, "PORT 25\n"),
        ("#STARTTLS\n# text about it\nPORT 25\n", {"STARTTLS": ""}, "#STARTTLS\nSTARTTLS\n# text about it\nPORT 25\n"),
        ("#SMARTHOST mail.example.com\n", {"SMARTHOST": "a.b"}, "#SMARTHOST mail.example.com\nSMARTHOST a.b\n"),
        ("# SMARTHOST is what you want here\n", {"SMARTHOST": "a.b"}, "# SMARTHOST is what you want here\nSMARTHOST a.b\n"),
        ("STARTTLS yes\n", {"STARTTLS": ""}, "STARTTLS yes\n"),
        ("Unknown key\n\n# end\n", {"PORT": None}, "Unknown key\n\n# end\n"),
    ],
)
def test_settings_change_only_their_own_lines(old, wanted, new):
    assert settings.merge(old, wanted) == new
    assert settings.merge(new, wanted) == new


@pytest.mark.parametrize("value", ["a\nNULLCLIENT", "a\rb", "a # b", "# a", " a", "a\0b", "a\x7f"])
def test_a_value_that_dma_conf_cannot_hold(value):
    with pytest.raises(SetupError, match=r"dma\.conf cannot hold"):
        settings.render.dmaconf(value)


def test_what_a_recipe_may_want():
    keys = {"STARTTLS": "True", "SECURETRANSFER": "False", "PORT": "465", "MASQUERADE": "", "ALIASES": "None"}
    assert settings.wants(keys) == {"STARTTLS": "", "SECURETRANSFER": None, "PORT": "465", "MASQUERADE": None}
    with pytest.raises(SetupError, match="no key STARTLS"):
        settings.wants({"STARTLS": True})
    with pytest.raises(SetupError, match="switched on by true"):
        settings.wants({"STARTTLS": "maybe"})


def test_a_bad_value_of_somebody_elses_is_a_warning(tmp_path):
    conf = tmp_path / ".config/dma"
    conf.mkdir(parents=True)
    (conf / "dma.conf").write_text("RETRY never\n")
    made = plan("smarthost", SMARTHOST, home_place(tmp_path), Machine())
    assert any("dma.conf:1: RETRY needs two durations" in note and "no mail is taken" in note for note in made.notes)


def test_a_bad_value_of_ours_is_an_error(tmp_path):
    view = View(home_place(tmp_path), Machine(), FACTS, {"place": home_place(tmp_path), "recipe": "x"}, None, {})
    with pytest.raises(SetupError, match="PORT needs a port number"):
        settings.plan({"path": str(tmp_path / "dma.conf"), "mode": "0600", "keys": {"PORT": "many"}}, view)


def test_a_dma_conf_that_is_a_link_stays_one(tmp_path):
    home, dotfiles = tmp_path / "home", tmp_path / "dotfiles"
    (home / ".config/dma").mkdir(parents=True)
    dotfiles.mkdir()
    (dotfiles / "dma.conf").write_text("FULLBOUNCE\n")
    (home / ".config/dma/dma.conf").symlink_to(dotfiles / "dma.conf")
    made = plan("smarthost", SMARTHOST, home_place(home), Machine())
    assert str(dotfiles / "dma.conf") in [getattr(change, "path", "") for change in made.changes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "u|h:keyring:\n"),
        ("# c\nv|x:pw\n", "# c\nv|x:pw\nu|h:keyring:\n"),
        ("u|h:old\nv|x:pw\n", "u|h:keyring:\nv|x:pw\n"),
        ("u|h:keyring:\n", "u|h:keyring:\n"),
        ("u|H.:keyring:\n", "u|H.:keyring:\n"),
        ("u|h:old\nu|h:older\n", "u|h:keyring:\n"),
        ("u|h:keyring:\nw|h:pw\n", "w|h:pw\nu|h:keyring:\n"),
        ("u|h:587:old\n", "u|h:keyring:\n"),
        ("u|h:old", "u|h:keyring:\n"),
    ],
)
def test_the_line_of_auth_conf_is_the_one_that_counts(old, new):
    assert login.merge(old, "h", "u|h:keyring:") == new
    assert login.merge(new, "h", "u|h:keyring:") == new
    found = authconf.parse(new, "").find("h", 25)
    assert (found.user, repr(found.reference)) == ("u", "keyring:")


@pytest.mark.parametrize("user", ["a|b", "a\nb", "#a", ""])
def test_a_login_that_auth_conf_cannot_hold(tmp_path, user):
    view = View(home_place(tmp_path), Machine(), FACTS, {}, None, {"keyring": "pass"})
    with pytest.raises(SetupError, match="cannot hold the login"):
        login.plan({"path": str(tmp_path / "auth.conf"), "host": "h", "user": user}, view)


@pytest.mark.parametrize(
    ("old", "new", "target"),
    [
        ("", "root: a@b\n", ""),
        ("postmaster: root\n", "postmaster: root\nroot: a@b\n", ""),
        ("root: x\nnobody: root\n", "root: a@b\nnobody: root\n", "x"),
        ("Root :\tx,\n  y\nnobody: root\n", "root: a@b\nnobody: root\n", ""),
        ("#root: x\n", "#root: x\nroot: a@b\n", ""),
        ("root: a@b   \n", "root: a@b   \n", "a@b"),
        ('"root": x\nroot: y\n', "root: a@b\n", "y"),
        ("x: |prog\n\n  # comment\nroot: y", "x: |prog\n\n  # comment\nroot: a@b\n", "y"),
    ],
)
def test_one_alias_among_others(old, new, target):
    assert alias.merge(old, "root", "a@b") == new
    assert alias.merge(new, "root", "a@b") == new
    assert alias.target(old, "root") == target


@pytest.mark.parametrize("to", ["a, b", "|prog", ":include:/x", "/file", 'a"b', "a b"])
def test_an_alias_that_would_be_more_than_an_address(tmp_path, to):
    view = View(home_place(tmp_path), Machine(), FACTS, {}, None, {})
    with pytest.raises(SetupError, match="aliases cannot hold"):
        alias.plan({"path": str(tmp_path / "aliases"), "name": "root", "to": to}, view)


@pytest.mark.parametrize("python", ["", "python3", "/opt/my python/bin/python", "/" + "x" * 250])
def test_an_interpreter_the_kernel_cannot_start(tmp_path, python, monkeypatch):
    monkeypatch.setattr(launcher.sys, "executable", python)
    view = View(home_place(tmp_path), Machine(), FACTS, {}, None, {})
    with pytest.raises(SetupError, match=r"Python|cannot start a program"):
        launcher.plan({}, view)


def test_the_launcher_is_a_program(tmp_path):
    view = View(home_place(tmp_path), Machine(), FACTS, {}, None, {})
    made = launcher.plan({}, view)
    assert [os.path.basename(change.path) for change in made] == ["dma", "dma-queue"]
    assert all(stat.S_IMODE(change.after.mode) == 0o755 for change in made)
    for change in made:
        compile(change.after.content, change.path, "exec")


class TestWake:
    """What looks after the queue."""

    def subjects(self, tmp_path, **facts):
        machine = Machine()
        machine.crontab = facts.pop("old", None)
        view = View(home_place(tmp_path), machine, {**FACTS, **facts}, {}, None, {})
        for change in wake.plan({}, view):
            view.add(change)
        return [change.subject for change in view.changes], view, machine

    def test_a_timer_with_lingering(self, tmp_path):
        subjects, view, _ = self.subjects(tmp_path, systemd_user=True, crontab=True)
        login_name = view.place.login
        assert subjects[-2:] == ["dma-queue.timer", f"lingering for {login_name}"]
        service = view.text(f"{view.place.units}/dma-queue.service")
        assert f'ExecStart="{view.place.library}/dma-queue" "run" "--due"\n' in service
        assert ("DMA_CONF" in service) == (os.getuid() == 0)

    def test_no_lingering_where_it_is_on(self, tmp_path):
        assert self.subjects(tmp_path, systemd_user=True, linger=True)[0][-1] == "dma-queue.timer"

    def test_a_crontab_line(self, tmp_path):
        old = "MAILTO=x\n# dma\n5 4 * * * backup\n"
        subjects, view, machine = self.subjects(tmp_path, crontab=True, old=old)
        assert subjects == ["crontab"]
        view.changes[0].apply(machine)
        assert machine.crontab.startswith(old)
        assert machine.crontab.endswith(f"{view.place.library}/dma-queue run --due >/dev/null 2>&1\n")
        assert self.subjects(tmp_path, crontab=True, old=machine.crontab)[0] == []
        assert view.changes[0].take_back(machine).result == "restored"
        assert machine.crontab == old

    def test_a_crontab_that_was_changed_between_plan_and_apply_is_left(self, tmp_path):
        _, view, machine = self.subjects(tmp_path, crontab=True, old="0 4 * * * backup\n")
        machine.crontab += "5 5 * * * another\n"
        with pytest.raises(SetupError, match="crontab was changed by somebody else meanwhile"):
            view.changes[0].apply(machine)
        assert machine.crontab.endswith("5 5 * * * another\n")

    def test_of_a_crontab_that_was_changed_since_only_our_line_goes(self, tmp_path):
        _, view, machine = self.subjects(tmp_path, crontab=True, old="a\n")
        view.changes[0].apply(machine)
        machine.crontab += "b\n"
        assert view.changes[0].take_back(machine).result == "restored"
        assert machine.crontab == "a\nb\n"

    @pytest.mark.parametrize(("old", "result"), [(None, RESTORED), ("a\n", CHANGED)])
    def test_a_crontab_that_was_removed_since_is_not_brought_back(self, tmp_path, old, result):
        """Nor does undo fail for want of one to remove: `crontab -r` without a crontab is an error."""
        _, view, machine = self.subjects(tmp_path, crontab=True, old=old)
        assert view.changes[-1].take_back(machine).result == RESTORED, "cut off before it was made"
        view.changes[-1].apply(machine)
        machine.crontab = None
        assert view.changes[-1].take_back(machine).result == result
        assert machine.crontab is None

    def test_a_crontab_whose_line_was_changed_since_is_left(self, tmp_path):
        _, view, machine = self.subjects(tmp_path, crontab=True, old="a\n")
        view.changes[0].apply(machine)
        machine.crontab = now = machine.crontab.replace("*/15", "*/30")
        assert view.changes[0].take_back(machine).result == "changed"
        assert machine.crontab == now

    def test_neither(self, tmp_path):
        subjects, view, _ = self.subjects(tmp_path)
        assert subjects == []
        assert "waits until the next message" in " ".join(view.notes)


def test_the_view_shows_what_was_planned_before(tmp_path):
    place = home_place(tmp_path)
    view = View(place, Machine(), FACTS, {}, None, {})
    path = str(tmp_path / "a/b")
    view.add(view.path_change(path, views.file("one\n", 0o600), "first"))
    assert view.text(path) == "one\n"
    view.add(view.path_change(path, views.file("two\n", 0o600), "second"))
    (change,) = view.changes
    assert (change.before, change.after.content, change.says) == (None, b"two\n", "first")
    assert change.parents == (str(tmp_path / "a"),)
    assert not os.path.exists(path)


def test_a_digest_of_a_secret_is_slow_and_salted():
    one, two = (digest.of(b"secret", is_secret=True) for _ in range(2))
    assert one != two
    assert digest.fits(b"secret", one)
    assert digest.fits(b"secret", two)
    assert not digest.fits(b"other", one)
    plain = digest.of(b"text", is_secret=False)
    assert digest.fits(b"text", plain)
    assert not digest.fits(b"text2", plain)


def test_everything_written_is_understood_by_the_runtime(tmp_path):
    made = plan("gmail", GMAIL, home_place(tmp_path), Machine())
    found = made.config
    assert (found.problems, found.warnings) == ([], [])
    assert isinstance(found, config.Config)
    assert (repr(found.SMARTHOST), found.PORT, found.SECURETRANSFER, found.STARTTLS) == ("smtp.gmail.com", 465, True, False)
    assert found.MASQUERADE == ("alice", "gmail.com")
    for name in ("SPOOLDIR", "AUTHPATH"):
        assert name in found.values
