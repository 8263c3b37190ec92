"""A file that an editor began with a byte order mark: its first line counts like any other."""

from dma_runtime import aliases, authconf, config
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
