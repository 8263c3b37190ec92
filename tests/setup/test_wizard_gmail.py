"""`dma-setup gmail` at a terminal of 80 columns, against servers that answer as Google's do. Screens are golden files."""

import os
import pwd
import subprocess

import golden_screen
import pytest
import secret_service
from provisioning import cut_off, tree
from wizard_room import ADDRESS, PASSWORD, PROGRAM, Wizard, questions, rest

NORMAL_PASSWORD = [
    "534-5.7.9 Application-specific password required. For more information, go to",
    "534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor a640c23a62f3a-b76ff4c1d1bsm41 - gsmtp",
]
NOT_ACCEPTED = [
    "535-5.7.8 Username and Password not accepted. For more information, go to",
    "535 5.7.8  https://support.google.com/mail/?p=BadCredentials a640c23a62f3a-b76ff4c1d1bsm41 - gsmtp",
]


@pytest.fixture
def wizard(tmp_path):
    return Wizard(tmp_path)


def test_the_way_through_with_the_normal_password_first(wizard):
    """Three questions, one more without a keyring; the wrong kind of password, advice, that question again, done."""
    terminal = wizard.start(refusals=[NORMAL_PASSWORD])
    questions(terminal, "my normal one").wait("Use it anyway?").type("y", enter=False)
    rest(terminal).wait("attempt 2 of 3").type("abcd efgh\u00a0ijkl mnop")  # as pasted from the page, one blank a no-break one
    terminal.wait("Apply?").type("").wait("elsewhere)")
    assert terminal.end() == 0
    golden_screen.same("wizard-gmail", wizard.screen(terminal))
    saw = wizard.saw()
    assert saw["messages"] == [[ADDRESS, [ADDRESS], ADDRESS]]
    assert "my normal one" not in terminal.raw
    assert PASSWORD not in terminal.raw
    assert (wizard.home / ".config/dma/secrets/dma.smtp.gmail.com.alice@gmail.com").read_text() == PASSWORD + "\n"


def test_three_questions_with_a_keyring(tmp_path):
    """On a desktop: the password goes into the Secret Service, no file holds it, and delivery finds it there."""
    secret_service.needed()
    if os.path.exists(f"/run/user/{os.getuid()}/bus"):
        pytest.skip("needs a user without a session bus of their own: run the tests in a container or as a system user")
    with secret_service.SecretService(tmp_path) as desktop:
        desktop.start(unlock="login password")
        wizard = Wizard(tmp_path)
        terminal = questions(wizard.start(bus=f"{desktop.runtime}/bus"))
        terminal.wait("root's mail?").type("").wait("Apply?").type("").wait("elsewhere)")
        assert terminal.end() == 0
        golden_screen.same("wizard-keyring", wizard.screen(terminal))
        assert wizard.saw()["messages"] == [[ADDRESS, [ADDRESS], ADDRESS]]
        holders = [path for path in wizard.home.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
        assert holders == []
        secret_service.end_all(wizard.home, except_for=desktop.pids)


def test_a_keyring_that_timers_cannot_reach_is_not_used(tmp_path):
    """Its bus is known to this session's environment alone: what cron starts would not find the password there."""
    secret_service.needed()
    if os.path.exists(f"/run/user/{os.getuid()}/bus"):
        pytest.skip("needs a user without a session bus of their own: run the tests in a container or as a system user")
    with secret_service.SecretService(tmp_path) as desktop:
        desktop.start(unlock="login password")
        session = {"DBUS_SESSION_BUS_ADDRESS": desktop.address}
        wizard = Wizard(tmp_path)
        terminal = wizard.start(environment=session).wait("Gmail address")
        said = " ".join(terminal.text.split())
        assert "this session's can be reached from this session alone, not by timers and cron" in said
        terminal.interrupt()
        assert terminal.end() == 130
        but = (".local/state/dma-setup", ".local/share/keyrings")
        before = tree(wizard.home, but)
        answers = tmp_path / "answers.yml"
        answers.write_text("address: alice@gmail.com\napp_password: {env: PW}\nkeyring: secret-service\n")
        forced = wizard.start("--answers", str(answers), "--yes", environment={**session, "PW": PASSWORD})
        assert forced.end() == 1
        said = "".join(forced.text.split())  # a path before it is as long as the test's folder, and lines are cut anywhere
        assert "cannotberead:keyringsecret-service" in said
        assert "changesmadebeforeweretakenback" in said
        assert tree(wizard.home, but) == before
        look = ["secret-tool", "lookup", "service", "dma:smtp.gmail.com", "username", ADDRESS]
        assert subprocess.run(look, env=desktop.environment(), capture_output=True).returncode == 1, "nor in the keyring"
        secret_service.end_all(wizard.home, except_for=desktop.pids)


def test_again_later_enter_is_enough(wizard):
    """The second time everything is known, the password too, which Google shows only once; nothing needs to change."""
    terminal = rest(questions(wizard.start()))
    terminal.wait("Apply?").type("").wait("elsewhere)")
    assert terminal.end() == 0
    before = tree(wizard.home)
    again = wizard.start("--no-test")
    again.wait("Gmail address").type("").wait("Enter keeps the one that is stored.").wait("App password:").type("")
    again.wait("root's mail?").type("")
    again.wait("elsewhere)")
    assert again.end() == 0
    golden_screen.same("wizard-again", wizard.screen(again))
    assert tree(wizard.home) == before


def test_another_address_has_no_stored_password(wizard):
    terminal = rest(questions(wizard.start("--no-test")))
    terminal.wait("Apply?").type("").wait("elsewhere)")
    assert terminal.end() == 0
    again = wizard.start()
    again.wait("Gmail address").type("bob@gmail.com").wait("App password:").type("").wait("That is empty").interrupt()
    assert again.end() == 130
    assert "Enter keeps" not in again.text


@pytest.mark.parametrize("at", ["Gmail address", "App password:", "root's mail?", "Where should", "Apply?"])
def test_control_c_anywhere_changes_nothing(wizard, at):
    terminal = wizard.start()
    for question, answer in (
        ("Gmail address", ADDRESS),
        ("App password:", PASSWORD),
        ("root's mail?", ""),
        ("Where should", ""),
    ):
        terminal.wait(question)
        if at == question:
            break
        terminal.type(answer)
    else:
        terminal.wait("Apply?")
    terminal.interrupt().wait("stopped; nothing was changed")
    assert terminal.end() == 130
    assert list(wizard.home.iterdir()) == []


def test_apply_answered_with_no(wizard):
    terminal = rest(questions(wizard.start()))
    terminal.wait("Apply?").type("diff").wait("+SMARTHOST smtp.gmail.com").wait("Apply?").type("n")
    terminal.wait("nothing was changed")
    assert terminal.end() == 130
    assert list(wizard.home.iterdir()) == []
    assert PASSWORD not in terminal.raw


def test_replacing_what_is_there_is_asked_with_no_as_default(wizard):
    programs = wizard.home / ".local/bin"
    programs.mkdir(parents=True)
    (programs / "sendmail").write_text("somebody's\n")
    before = tree(wizard.home)
    terminal = rest(questions(wizard.start()))
    terminal.wait("Apply? ~/.local/bin/sendmail will be replaced. [y/N/diff]").type("").wait("nothing was changed")
    assert terminal.end() == 130
    assert tree(wizard.home) == before


def test_three_wrong_passwords_end_it(wizard):
    terminal = rest(questions(wizard.start(refusals=[NOT_ACCEPTED] * 3)))
    terminal.wait("attempt 2 of 3").type("bbbbbbbbbbbbbbbb").wait("attempt 3 of 3").type("cccccccccccccccc")
    terminal.wait("signing in did not work; nothing was changed")
    assert terminal.end() == 1
    golden_screen.same("wizard-three-wrong", wizard.screen(terminal))
    assert list(wizard.home.iterdir()) == []


def test_port_465_is_blocked(wizard):
    terminal = rest(questions(wizard.start(ports={"587": "starttls"})))
    terminal.wait("Apply?").type("").wait("elsewhere)")
    assert terminal.end() == 0
    golden_screen.same("wizard-465-blocked", wizard.screen(terminal))
    conf = (wizard.home / ".config/dma/dma.conf").read_text()
    assert "\nPORT 587\n" in conf
    assert "\nSTARTTLS\n" in conf
    assert len(wizard.saw()["messages"]) == 1


def test_no_way_out(wizard):
    terminal = wizard.start(ports={})
    terminal.wait("nothing was changed")
    assert terminal.end() == 1
    golden_screen.same("wizard-no-network", wizard.screen(terminal))
    assert list(wizard.home.iterdir()) == []


def test_an_address_that_is_not_googles(wizard):
    """No resolver answers in this room: it is said, and nothing waits for it."""
    terminal = wizard.start()
    terminal.wait("Gmail address").type("alice@example.org").wait("App password:").type(PASSWORD)
    rest(terminal).wait("example.org is not one of Google's own domains").wait("refused the sign-in")
    terminal.interrupt()
    assert terminal.end() == 130


def test_a_run_that_was_cut_off_is_mentioned(wizard):
    journal = wizard.home / ".local/state/dma-setup/2026-01-01T00-00-00/journal"
    journal.parent.mkdir(parents=True)
    cut_off(journal, wizard.home)
    terminal = rest(questions(wizard.start())).wait("an earlier run was cut off").wait("Apply?").interrupt()
    assert terminal.end() == 130


def test_yes_asks_no_last_question(wizard):
    terminal = rest(questions(wizard.start("--yes", "--no-test")))
    terminal.wait("elsewhere)")
    assert terminal.end() == 0
    assert "Apply?" not in terminal.text


def test_mistyped_answers_are_asked_again(wizard):
    terminal = wizard.start()
    terminal.wait("Gmail address").type("alice at gmail").wait("not a mail address").wait("Gmail address").type(ADDRESS)
    terminal.wait("App password:").type("").wait("That is empty").wait("App password:").type(PASSWORD)
    terminal.wait("root's mail?").type("two words").wait("neither").wait("root's mail?")
    terminal.interrupt()
    assert terminal.end() == 130


@pytest.mark.parametrize("locale", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LANG": "", "LC_ALL": "de_DE.ISO-8859-1"}])
def test_marks_without_utf_8_and_without_colour(wizard, locale):
    plain = wizard.start(ports={}, environment={**locale, "NO_COLOR": "1"}.items())
    plain.wait("nothing was changed")
    plain.end()
    assert "  FAIL smtp.gmail.com:465 does not answer" in plain.text
    assert plain.text.isascii()
    assert "\x1b[3" not in plain.raw
    coloured = wizard.start(ports={})
    coloured.wait("nothing was changed")
    coloured.end()
    assert "\x1b[31m✗\x1b[0m" in coloured.raw


def test_a_machine_that_keeps_its_mail(wizard):
    terminal = wizard.start("--set", "root_mail=", program=("local", "--user"))
    terminal.wait("Apply?").type("").wait("without questions:")
    assert terminal.end() == 0
    assert "it lies in your mailbox on this machine" in terminal.text
    login = pwd.getpwuid(os.getuid()).pw_name
    golden_screen.same("wizard-local", wizard.screen(terminal).replace(f"`sendmail {login}`", "`sendmail LOGIN`"))


def test_choosing_a_recipe_from_the_list(wizard):
    terminal = wizard.start(program=())
    terminal.wait("What should this machine do with its mail?").wait("smarthost")
    terminal.interrupt()
    assert terminal.end() == 130


def test_neither_root_nor_told_which_way(tmp_path):
    if os.getuid() == 0:
        try:
            done = subprocess.run(
                [PROGRAM, "gmail"],
                user=65534,
                capture_output=True,
                text=True,
                env={"HOME": str(tmp_path), "PATH": "/usr/bin"},
            )
        except PermissionError:
            pytest.skip("needs a checkout that other users can enter")
        name = "nobody"
    else:
        done = subprocess.run([PROGRAM, "gmail"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        name = pwd.getpwuid(os.getuid()).pw_name
    assert done.returncode == 2
    user = f"  for {name} only (no daemon, your desktop's keyring)  {PROGRAM} gmail --user"
    assert done.stderr.splitlines()[-2] == user, "by its path, for the shell does not find it by name"
    assert done.stderr.splitlines()[-1].endswith(f"  sudo {PROGRAM} gmail")
    assert "You are not root. Two ways on:" in done.stderr
