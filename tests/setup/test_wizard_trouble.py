"""The wizard and people in trouble: mistyped, offline, behind a firewall, not root; leaving at any point. Golden screens."""

import contextlib
import os
import re
import signal
import subprocess

import golden_screen
import pytest
from agent import owners_of
from provisioning import tree
from wizard_room import ADDRESS, PASSWORD, PROGRAM, Wizard, questions, rest


@pytest.fixture
def wizard(tmp_path):
    found = Wizard(tmp_path)
    yield found
    for pid in owners_of(found.home):  # one that was interrupted has mail in its queue, and tries it for days
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- no way there


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("wizard-no-resolver", {"resolves": False}),
        ("wizard-firewall", {"ports": {"465": "silent", "587": "silent"}}),
        ("wizard-587-blocked", {"program": ("icloud", "--user"), "name": "smtp.mail.me.com", "ports": {"587": "silent"}}),
    ],
)
def test_nobody_can_be_reached(wizard, name, more):
    terminal = wizard.start(**more)
    terminal.wait("--no-verify --no-test", 40)
    assert terminal.end() == 1
    golden_screen.same(name, wizard.screen(terminal))
    assert list(wizard.home.iterdir()) == []


def test_what_is_advised_there_works(wizard):
    """Set up without trying: mail is taken and waits."""
    terminal = rest(questions(wizard.start("--no-verify", "--no-test", resolves=False)))
    terminal.wait("Apply?").type("").wait("elsewhere)")
    assert terminal.end() == 0
    assert (wizard.home / ".config/dma/dma.conf").exists()


def test_465_is_dropped_and_587_works(wizard):
    terminal = wizard.start(ports={"465": "silent", "587": "starttls"})
    rest(questions(terminal)).wait("signed in as", 40).wait("Apply?").interrupt()
    assert terminal.end() == 130
    assert "smtp.gmail.com:465 does not answer: timed out; using port 587 instead" in terminal.text


def test_a_mistyped_server_is_asked_for_again(wizard):
    """The recipe for any relay: its host is a question, and an unknown one is no reason to begin anew."""
    terminal = wizard.start(program=("smarthost", "--user"), ports={"587": "starttls"})
    terminal.wait("Relay").type("smtp.gmial.com:587")
    terminal.wait("Login").type(ADDRESS).wait("Password").type(PASSWORD)
    terminal.wait("sent from").type("")
    terminal.wait("root's mail?").type("").wait("Where should the password be kept?").type("")
    terminal.wait("attempt 2 of 3").type("smtp.gmail.com:587")
    terminal.wait("signed in as").wait("Apply?")
    golden_screen.same("wizard-mistyped-server", wizard.screen(terminal))
    terminal.interrupt()
    assert terminal.end() == 130
    assert list(wizard.home.iterdir()) == []


# ---------------------------------------------------------------- mistyped


def test_a_mistyped_address_can_be_mended_where_the_password_is_refused(wizard):
    terminal = wizard.start()
    terminal.wait("Gmail address").type("alcie@gmail.com").wait("App password:").type(PASSWORD)
    rest(terminal).wait("attempt 2 of 3").type("")
    terminal.wait("Gmail address").type(ADDRESS).wait("App password").type(PASSWORD)
    terminal.wait(f"signed in as {ADDRESS}").wait("Apply?").type("").wait("elsewhere)")
    assert terminal.end() == 0
    golden_screen.same("wizard-mistyped-address", wizard.screen(terminal))
    saw = wizard.saw()
    assert saw["messages"] == [[ADDRESS, [ADDRESS], ADDRESS]], "sender and root's reader too"
    holders = [path for path in wizard.home.rglob("*") if path.is_file() and b"alcie" in path.read_bytes()]
    assert holders == []


def test_what_is_pasted_comes_with_blanks_and_a_line_end(wizard):
    """Bracketed paste, as terminals send it."""
    terminal = wizard.start()
    terminal.wait("Gmail address").type(f"\x1b[200~ {ADDRESS} \r\n\x1b[201~")
    terminal.wait("App password:").type("\x1b[200~abcd\u00a0efgh ijkl mnop\r\n\x1b[201~")
    rest(terminal).wait(f"signed in as {ADDRESS}").wait("Apply?").interrupt()
    assert terminal.end() == 130


# ---------------------------------------------------------------- leaving


@pytest.mark.parametrize("at", ["Gmail address", "App password:", "root's mail?", "Apply?"])
def test_the_end_of_the_input_changes_nothing(wizard, at):
    """Ctrl-D, or a terminal that goes away."""
    terminal = wizard.start()
    for question, answer in (("Gmail address", ADDRESS), ("App password:", PASSWORD), ("root's mail?", ""), ("Where should", "")):
        terminal.wait(question)
        if at == question:
            break
        terminal.type(answer)
    else:
        terminal.wait("Apply?")
    terminal.type("\x04", enter=False).wait("stopped; nothing was changed")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert list(wizard.home.iterdir()) == []


def test_control_c_while_looking_around(wizard):
    terminal = wizard.start(ports={"465": "silent", "587": "silent"})
    terminal.wait("Looking around").interrupt().wait("stopped; nothing was changed")
    assert terminal.end() == 130
    assert list(wizard.home.iterdir()) == []


def test_control_c_while_signing_in(wizard):
    terminal = rest(questions(wizard.start(hangs="AUTH")))
    terminal.wait("Trying it with Google").interrupt().wait("stopped; nothing was changed")
    assert terminal.end() == 130
    assert list(wizard.home.iterdir()) == []


def test_control_c_at_the_second_attempt(wizard):
    terminal = rest(questions(wizard.start(refusals=["535 5.7.8 no"])))
    terminal.wait("attempt 2 of 3").interrupt().wait("stopped; nothing was changed")
    assert terminal.end() == 130
    assert list(wizard.home.iterdir()) == []


def test_control_c_while_proving(wizard):
    """What was applied stays, and it says so."""
    terminal = rest(questions(wizard.start(hangs="final DATA")))
    terminal.wait("Apply?").type("").wait("Proving it").interrupt()
    terminal.wait("stopped; mail is set up, but not proved").wait("dma-setup test --user").wait("dma-setup undo --user")
    assert terminal.end() == 130
    assert "dma.conf" in {path.name for path in wizard.home.rglob("*")}
    assert "Traceback" not in terminal.text


# ---------------------------------------------------------------- other terminals


@pytest.mark.parametrize("environment", [{"ACCESSIBLE": "1"}, {"TERM": "dumb"}])
def test_plain_lines_for_screen_readers_and_dumb_terminals(wizard, environment):
    """Nothing is drawn anew, choices have numbers, marks are words."""
    terminal = wizard.start(environment=environment, refusals=["535 5.7.8 no"])
    terminal.wait("Gmail address:").type("nonsense").wait("Gmail address:").type(ADDRESS)
    terminal.wait("App password: (not shown)").type("short").wait("Use it anyway? [y/N]").type("y")
    terminal.wait("root's mail?").type("")
    terminal.wait("Number or name [1]").type("nine").wait("Number or name [1]").type("1")
    terminal.wait("attempt 2 of 3").type(PASSWORD)
    terminal.wait("Apply?").type("").wait("elsewhere)")
    assert terminal.end() == 0
    assert set(re.findall(r"\x1b\[[0-9;?]*([A-Za-z])", terminal.raw)) <= {"m"}, "colours at most"
    if "ACCESSIBLE" in environment:
        golden_screen.same("wizard-plain", wizard.screen(terminal))
        assert "✓" not in terminal.text
    assert PASSWORD not in terminal.raw
    assert len(wizard.saw()["messages"]) == 1


def test_plain_lines_end_with_the_input(wizard):
    terminal = wizard.start(environment={"ACCESSIBLE": "1"})
    terminal.wait("Gmail address:").type("\x04", enter=False).wait("stopped; nothing was changed")
    assert terminal.end() == 130


def test_no_colour_from_end_to_end(wizard):
    terminal = rest(questions(wizard.start(environment={"NO_COLOR": "1"}, refusals=["535 5.7.8 no"])))
    terminal.wait("attempt 2 of 3").type(PASSWORD).wait("Apply?").type("").wait("elsewhere)")
    assert terminal.end() == 0
    colours = [code for code in re.findall(r"\x1b\[([0-9;]*)m", terminal.raw) for code in code.split(";")]
    assert set(colours) <= {"", "0", "1"}, "bold is no colour"


def test_a_long_list_in_plain_lines(wizard):
    terminal = wizard.start(program=(), environment={"ACCESSIBLE": "1"})
    terminal.wait("Number or name [1]")
    assert all(len(line) < 80 for line in terminal.raw.replace("\r", "").splitlines())
    assert "  16  outlook                 Send everything through Outlook.com or Hotmail\n" in terminal.text
    terminal.type("outlook").wait("recipe: outlook").interrupt()
    assert terminal.end() == 130


def test_a_long_list_is_searched_by_typing(wizard):
    terminal = wizard.start(program=())
    terminal.wait("What should this machine do with its mail? (type to search)").wait("zoho")
    assert all(len(line) < 80 for line in terminal.text.splitlines()), "nothing is cut off at the edge"
    terminal.type("fastm", enter=False)
    terminal.until(lambda text: "» fastmail" in text and "smarthost" not in text)
    terminal.interrupt()
    assert terminal.end() == 130


# ---------------------------------------------------------------- somebody's settings are here


def test_a_configuration_of_ones_own_is_replaced_only_on_purpose(wizard):
    config = wizard.home / ".config/dma"
    config.mkdir(parents=True)
    (config / "dma.conf").write_text("# by hand\nSMARTHOST mail.example.org\nMAXSIZE 5M\n")
    before = tree(wizard.home)
    terminal = rest(questions(wizard.start()))
    terminal.wait("Apply? ~/.config/dma/dma.conf will be replaced. [y/N/diff]")
    golden_screen.same("wizard-own-settings", wizard.screen(terminal))
    terminal.type("").wait("nothing was changed")
    assert terminal.end() == 130
    assert tree(wizard.home) == before


def test_not_root(tmp_path):
    words = [PROGRAM, "gmail"]
    who = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    try:
        done = subprocess.run(words, capture_output=True, text=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin"}, **who)
    except PermissionError:
        pytest.skip("needs a checkout that other users can enter")
    assert (done.returncode, done.stdout) == (2, "")
    login = "nobody" if who else golden_screen.settle(os.environ.get("USER", "")).strip()
    golden_screen.same("not-root", done.stderr.replace(login, "LOGIN").replace(PROGRAM, "dma-setup"))
