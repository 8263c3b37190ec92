"""A file that an editor began with a byte order mark: its first line counts like any other."""

import pytest

from dma_runtime import aliases, authconf, config
from dma_runtime.message import headers
from dma_runtime.policy import relaymap

BOM = b"\xef\xbb\xbf".decode()


def test_dma_conf():
    found = config.parse(f"{BOM}SMARTHOST relay.test\r\nPORT 587\r\n", "dma.conf")
    assert (str(found.SMARTHOST), found.PORT, found.warnings, found.problems) == ("relay.test", 587, [], [])


def test_auth_conf():
    found = authconf.parse(f"{BOM}alice|relay.test:secret\r\n", "auth.conf")
    assert [(login.user, login.host) for login in found.logins] == [("alice", "relay.test")]


def test_aliases():
    found = aliases.parse(f"{BOM}root: alice@example.org\r\n", "aliases")
    assert (list(found.entries), found.problems) == (["root"], [])


def test_relay_map():
    found = relaymap.parse(f"{BOM}alice@example.org relay.test\r\n", "relays")
    assert found.find("alice@example.org") is not None
    assert found.problems == []


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_message(size):
    long = b"To: " + b", ".join(b"u%d@x.test" % n for n in range(500))
    data = BOM.encode() + long + b"\nSubject: s\n\nbody\n"
    pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
    fields, rest = headers.read(lambda: next(pieces, b""))
    assert [field.raw for field in fields] == [long, b"Subject: s"]
    assert (rest + b"".join(pieces)) == b"body\n"
    assert headers.recipients(fields)[0] == "u0@x.test"


@pytest.mark.parametrize("text", [b"no field\n", b"\n", b"", BOM.encode() + b"To: a@x\n"])
def test_a_body_that_begins_with_one_keeps_it(text):
    data = BOM.encode() + text
    pieces = iter([data])
    assert headers.read(lambda: next(pieces, b"")) == ([], data)
