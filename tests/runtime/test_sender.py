"""Who a message is from."""

import pytest

from dma_runtime.errors import DataError
from dma_runtime.policy.sender import envelope_sender, is_own


def sender(option=None, email="", masquerade=None):
    return envelope_sender(option, email, "alice", "here.test", masquerade)


@pytest.mark.parametrize(
    ("option", "email", "masquerade", "expected"),
    [
        (None, "", None, "alice@here.test"),
        (None, "me@x.test", None, "me@x.test"),
        (None, "Me Myself <me@x.test>", None, "me@x.test"),
        (None, "me", None, "me@here.test"),
        (None, "me@x.test (Me Myself)", None, "me@x.test"),
        (None, '"Myself, Me" <me@x.test>', None, "me@x.test"),
        (None, "one@x.test, two@x.test", None, "alice@here.test"),
        (None, "bad\n@x", None, "alice@here.test"),
        ("bob@y.test", "me@x.test", None, "bob@y.test"),
        ("bob", "", None, "bob@here.test"),
        ("<bob@y.test>", "", None, "bob@y.test"),
        ("Bob <bob@y.test>", "", None, "bob@y.test"),
        ("bob@y.test (Bob)", "", None, "bob@y.test"),
        ("<@route.test:bob@y.test>", "", None, "bob@y.test"),
        ("", "me@x.test", None, ""),
        ("<>", "me@x.test", ("u", "h"), ""),
        ("bob@y.test.", "", None, "bob@y.test"),
        ("@x.test", "", None, "alice@x.test"),
        ("bob@", "", None, "bob@here.test"),
        ("<bob@>", "", ("", "corp.test"), "bob@corp.test"),
        (None, "@x.test", None, "alice@x.test"),
        (None, "Me <me@>", None, "me@here.test"),
        ("app@host", "", ("", "corp.test"), "app@corp.test"),
        ("app@host", "", ("u", ""), "u@host"),
        (None, "", ("u", "h.test"), "u@h.test"),
    ],
)
def test_the_envelope_sender(option, email, masquerade, expected):
    assert sender(option, email, masquerade) == expected


@pytest.mark.parametrize("option", ["a\r\nb@x", "b@x\n", "a\0@x", "a b@x", "@", "a@@", "a@x@", "a@x, b@x"])
def test_a_bad_option_is_refused(option):
    with pytest.raises(DataError, match="invalid sender"):
        sender(option)


@pytest.mark.parametrize(("domain", "own"), [("", 1), ("LocalHost", 1), ("HERE.test.", 1), ("box", 1), ("there.test", 0)])
def test_what_is_this_machines_own(domain, own):
    assert is_own(domain, "here.test", "box") == bool(own)
