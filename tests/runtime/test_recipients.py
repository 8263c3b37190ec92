"""Who gets a message: local names, aliases, the mail name, and the switches that change it."""

import pytest

from dma_runtime import config
from dma_runtime.aliases import parse
from dma_runtime.envelope import Recipient
from dma_runtime.errors import EX_DATAERR, EX_NOHOST
from dma_runtime.policy.recipients import (
    NO_FILES_HERE,
    NO_PIPES,
    NOBODY_LEFT,
    NOT_HERE,
    NOT_OURS,
    NOTHING_LEAVES,
    NOTHING_STAYS,
    Resolver,
    identity_of,
)

SMARTHOST = "SMARTHOST relay.test\n"


def resolver(conf="", aliases="", accounts=("alice", "bob", "root"), owner="alice"):
    found = config.parse(conf, "dma.conf").sound()
    return Resolver(
        found,
        "here.test",
        account=lambda name: name.lower() if name.lower() in accounts else "",
        deliverable=lambda login: login == owner,
        aliases=lambda: parse(aliases, "aliases"),
        include=include,
    )


def include(path):
    if path == "/gone":
        raise OSError(2, "gone")
    return ""


def resolve(asked, conf="", aliases=""):
    return [(r.address, r.refused) for r in resolver(conf, aliases).resolve(asked)]


@pytest.mark.parametrize(
    ("asked", "conf", "aliases", "expected"),
    [
        ("x@there.test", "", "", [("x@there.test", "")]),
        ("alice", "", "", [("alice", "")]),
        ("ALICE", "", "", [("alice", "")]),
        ("alice@localhost", "", "", [("alice", "")]),
        ("x@there.test.", "", "", [("x@there.test", "")]),
        ("alice@localhost.", "", "", [("alice", "")]),
        ("root@here.test.", "", "root: b@x.test.\n", [("b@x.test", "")]),
        ("nobody@localhost.", SMARTHOST, "", [("nobody", NOT_HERE)]),
        ("\\alice", "", "alice: b@x.test\n", [("alice", "")]),
        ("\\alice@here.test", "", "alice: b@x.test\n", [("alice", "")]),
        ("\\nobody", "", "nobody: b@x.test\n", [("nobody", NOT_HERE)]),
        ("\\root", SMARTHOST + "NULLCLIENT\n", "root: b@x.test\n", [("root@here.test", "")]),
        ("alice@Here.Test", "", "", [("alice", "")]),
        ("alice@Here.Test", SMARTHOST, "", [("alice", "")]),
        ("nobody", "", "", [("nobody", NOT_HERE)]),
        ("bob", "", "", [("bob", NOT_OURS)]),
        ("nobody@localhost", SMARTHOST, "", [("nobody", NOT_HERE)]),
        ("nobody@here.test", "", "", [("nobody", NOT_HERE)]),
        ("nobody@here.test", SMARTHOST, "", [("nobody@here.test", "")]),
        ("bob@here.test", SMARTHOST, "", [("bob@here.test", "")]),
        ("root", "", "root: me@there.test", [("me@there.test", "")]),
        ("root", "", "root: alice, me@there.test", [("alice", ""), ("me@there.test", "")]),
        ("Root@here.test", SMARTHOST, "root: me@there.test", [("me@there.test", "")]),
        ("root", "", "root: ghost@here.test", [("ghost", NOT_HERE)]),
        ("anyone", "", "*: alice", [("alice", "")]),
        ("x", "", "x: |/bin/cat", [("x", f"{NO_PIPES}: |/bin/cat")]),
        ("x", "", "x: /var/box", [("x", f"{NO_PIPES}: /var/box")]),
        ("x", "", "x: /dev/null", [("> /dev/null", "")]),
        ("x", "PIPES", "x: |/bin/cat -n, /var/box", [("| /bin/cat -n", ""), ("> /var/box", "")]),
        ("x", "PIPES\nSOCKET /s", "x: |/bin/cat, /var/box", [("| /bin/cat", ""), ("x", f"{NO_FILES_HERE}: /var/box")]),
        ("x", "PIPES\nDELIVERY REMOTEONLY", "x: |/bin/cat", [("x", NOTHING_STAYS)]),
        ("x", "", "x: :include:/empty", [("x", NOBODY_LEFT)]),
        ("x", "", "x: :include:/gone, a@b", [("x", "can not read :include:/gone: gone"), ("a@b", "")]),
        ("alice", SMARTHOST + "NULLCLIENT", "", [("alice@here.test", "")]),
        ("nobody@localhost", SMARTHOST + "NULLCLIENT", "", [("nobody@here.test", "")]),
        ("root", SMARTHOST + "NULLCLIENT", "root: me@there.test", [("me@there.test", "")]),
        ("root", SMARTHOST + "NULLCLIENT", "root: bob", [("bob@here.test", "")]),
        ("x@there.test", "LOCALONLY", "", [("x@there.test", NOTHING_LEAVES)]),
        ("x@there.test", "DELIVERY LOCALONLY", "", [("x@there.test", NOTHING_LEAVES)]),
        ("alice", "LOCALONLY", "", [("alice", "")]),
        ("alice", "DELIVERY REMOTEONLY", "", [("alice", NOTHING_STAYS)]),
    ],
)
def test_where_an_address_goes(asked, conf, aliases, expected):
    assert resolve([asked], conf, aliases) == expected


def test_another_mail_agent_takes_names_we_do_not_know_but_not_those_of_our_domain_elsewhere():
    rules = resolver(SMARTHOST)
    rules.deliverable = lambda name: True
    found = rules.resolve(["nobody", "bob", "nobody@localhost", "nobody@here.test"])
    assert [(r.address, r.refused) for r in found] == [("nobody", ""), ("bob", ""), ("nobody@here.test", "")]


def test_each_address_once_compared_without_case_in_the_domain():
    assert resolve(["a@X.test", "a@x.TEST", "A@x.test", "alice", "alice@localhost"]) == [
        ("a@X.test", ""),
        ("A@x.test", ""),
        ("alice", ""),
    ]


def test_a_good_way_to_an_address_wins_over_a_refused_one():
    assert resolve(["x", "alice"], aliases="x: |/bin/cat\n") == [("x", f"{NO_PIPES}: |/bin/cat"), ("alice", "")]
    assert [r for _, r in resolve(["nobody", "y"], SMARTHOST, "y: nobody@here.test")] == [NOT_HERE]


def test_the_original_is_what_was_asked_for():
    found = resolver(aliases="team: a@x, b@x").resolve(["Team@localhost"])
    assert [(r.address, r.original) for r in found] == [("a@x", "Team@localhost"), ("b@x", "Team@localhost")]


def test_aliases_are_read_only_for_local_names():
    def never():
        raise AssertionError("read")

    rules = resolver()
    rules.aliases = never
    assert rules.resolve(["x@there.test"])


def test_the_status_when_nobody_is_left():
    rules = resolver()
    assert rules.status([Recipient("a@b", "a@b", NOTHING_LEAVES)]) == EX_NOHOST
    assert rules.status([Recipient("a@b", "a@b", NOTHING_LEAVES), Recipient("c", "c", NOT_HERE)]) == EX_DATAERR


def test_a_forward_is_asked_for_where_mail_is_delivered_here():
    asked = []

    def forward(login):
        asked.append(login)
        return "me@far.test, |/bin/cat"

    for conf, name, expected in (
        ("", "Alice", ["me@far.test", "Alice"]),
        ("PIPES", "alice", ["me@far.test", "|alice /bin/cat"]),
        (SMARTHOST + "NULLCLIENT", "alice", ["alice@here.test"]),
        ("", "bob", ["bob"]),  # another mail agent's business
        ("", "ghost", ["ghost"]),
        ("", "x@far.test", ["x@far.test"]),
    ):
        rules = resolver(conf)
        rules.forward = forward
        assert [r.address for r in rules.resolve([name])] == expected
    assert asked == ["alice", "alice"]


def test_commands_of_a_file_that_others_can_write_are_refused():
    rules = resolver("PIPES", "x: |/bin/cat, :include:/list\n")
    rules.include = lambda path: "|/bin/ls"
    rules.distrust = lambda path: f"{path} can be written by others" if path == "/list" else ""
    found = rules.resolve(["x"])
    assert [(r.address, r.refused) for r in found] == [
        ("| /bin/cat", ""),
        ("x", "|/bin/ls: /list can be written by others"),
    ]


def test_the_owner_of_a_list_belongs_to_its_recipients():
    rules = resolver(aliases="team: a@X.test, alice\nowner-team: chief@far.test\n")
    found = rules.resolve(["b@y.test", "team"])
    assert [(r.address, rules.owners[identity_of(r)]) for r in found] == [
        ("b@y.test", ""),
        ("a@X.test", "chief@far.test"),
        ("alice", "chief@far.test"),
    ]


def test_problems_of_the_aliases_are_handed_on():
    rules = resolver(aliases="a: b\nb: a\n")
    rules.resolve(["a"])
    assert rules.problems == ["aliases: alias loop: a -> b -> a"]


@pytest.mark.parametrize(
    ("whole", "good"),
    [
        *(("\\alice", True), ("\\alice@here.test", True), ("alice", True)),
        *(("\\alice@there.test", False), ("\\", False), ("\\\\alice", False)),
    ],
)
def test_a_backslash_is_for_names_of_this_machine(whole, good):
    assert (resolver().fault(whole) == "") == good
