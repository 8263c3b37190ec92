"""RELAYMAP: sender patterns, relays and logins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dma_runtime.config import Host
from dma_runtime.policy.relaymap import parse

MAP = """\
# who                 relay                  login
Alice@Example.org     one.test:587           alice
@example.org          two.test               # no third word
@.example.org         three.test             -
@.deep.example.org    four.test
backup@               [2001:db8::1]:2525     backup user
*                     rest.test:465          me@rest.test
<>                    null.test
"""


def found(text, sender):
    entry = parse(text, "/map").find(sender)
    return None if entry is None else (str(entry.relay), entry.login)


@pytest.mark.parametrize(
    ("sender", "wanted"),
    [
        ("alice@example.org", ("one.test:587", "alice")),
        ("ALICE@EXAMPLE.ORG", ("one.test:587", "alice")),
        ("bob@example.org", ("two.test", "")),
        ("bob@sub.example.org", ("three.test", "-")),
        ("bob@a.b.example.org", ("three.test", "-")),
        ("bob@x.deep.example.org", ("four.test", "")),
        ("bob@deep.example.org", ("three.test", "-")),
        ("bob@notexample.org", ("rest.test:465", "me@rest.test")),
        ("backup@elsewhere.test", ("[2001:db8::1]:2525", "backup user")),
        ("backup@example.org", ("two.test", "")),  # the domain is more specific than the local part
        ("", ("null.test", "")),
    ],
)
def test_the_most_specific_pattern_wins(sender, wanted):
    assert found(MAP, sender) == wanted
    assert found("\n".join(reversed(MAP.splitlines())), sender) == wanted  # whatever the order


def test_no_line_no_entry():
    assert found("@example.org a.test\n", "bob@example.net") is None
    assert found("", "bob@example.net") is None


def test_the_null_sender_is_not_in_any_domain():
    assert found("@ a.test\n", "") is None
    assert found("@. a.test\n", "") is None
    assert found("* a.test\n", "") == ("a.test", "")


def test_the_later_of_two_lines_for_a_pattern_wins():
    assert found("@example.org a.test\n@EXAMPLE.org b.test\n", "x@example.org") == ("b.test", "")


@pytest.mark.parametrize(
    "line",
    [
        "alice@example.org",  # no relay
        "alice a.test",  # a bare name is no pattern
        "@ a.test",
        "@. a.test",
        "@example.org. a.test",
        "alice@example.org a.test:0",
        "alice@example.org a.test:",
        "alice@example.org [::1",
        "<alice@example.org> a.test",
        "** a.test",
    ],
)
def test_a_bad_line_is_a_problem_with_its_number_and_the_others_work(line):
    relays = parse(f"# top\n{line}\n@good.test a.test x\n", "/etc/dma/relays")
    (problem,) = relays.problems
    assert problem.text.startswith("/etc/dma/relays:2: ")
    assert relays.find("x@good.test").relay == Host("a.test", 0)
    assert len(relays.entries) == 1


def test_tabs_crlf_and_comments():
    relays = parse("@a.test\tb.test:587\tlogin \t # why\r\n\r\n  # nothing\r\n", "/map")
    assert not relays.problems
    entry = relays.find("x@a.test")
    assert (entry.relay, entry.login, entry.line) == (Host("b.test", 587), "login", 1)


@given(st.text(), st.text())
def test_nothing_is_raised(text, sender):
    """Invariant: any text is a map with problems, any sender has an entry or none."""
    parse(text, "/map").find(sender)
