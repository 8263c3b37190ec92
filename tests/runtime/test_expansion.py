"""`.forward` and `owner-`: where a local name's mail ends, and who hears of its failures."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dma_runtime.aliases import ADDRESS, FILE, LOCAL, PIPE, as_address, of_address, parse
from dma_runtime.envelope import Recipient
from dma_runtime.policy.expansion import BROKEN, Expansion

USERS = ("alice", "bob", "root")


def expand(name, forwards=None, aliases="", *, files=None, shared=False):
    """(destinations as (kind, text), problems) and the destinations themselves."""
    forwards, files = forwards or {}, files or {}

    def own(text):
        local, at, domain = text.rpartition("@")
        return text if not at else local if domain == "here.test" else ""

    def include(path):
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[path]

    def forward(user):
        return (user.lower(), forwards[user.lower()]) if user.lower() in forwards else None

    expansion = Expansion(parse(aliases, "aliases"), include=include, own=own, forward=forward, shared=shared)
    found = expansion.of(name)
    return [(end.kind, end.text) for end in found], expansion.problems, found


@pytest.mark.parametrize(
    ("forwards", "aliases", "expected"),
    [
        ({"alice": "me@far.test\n"}, "", [(ADDRESS, "me@far.test")]),
        ({"alice": "me@far.test"}, "", [(ADDRESS, "me@far.test")]),
        ({"alice": "# where I am\nme@far.test, you@far.test\nthird@far.test # too\r\n"}, "", [
            (ADDRESS, "me@far.test"), (ADDRESS, "you@far.test"), (ADDRESS, "third@far.test"),
        ]),
        ({"alice": "\\alice, me@far.test"}, "", [(LOCAL, "alice"), (ADDRESS, "me@far.test")]),
        ({"alice": "alice\nme@far.test"}, "", [(LOCAL, "alice"), (ADDRESS, "me@far.test")]),
        ({"alice": "Alice@here.test\nme@far.test"}, "", [(LOCAL, "Alice"), (ADDRESS, "me@far.test")]),
        ({"alice": ""}, "", [(LOCAL, "alice")]),
        ({"alice": "# nothing\n"}, "", [(LOCAL, "alice")]),
        ({"alice": "bob"}, "", [(LOCAL, "bob")]),
        ({"alice": "bob", "bob": "b@far.test"}, "", [(ADDRESS, "b@far.test")]),
        ({"alice": "bob", "bob": "alice"}, "", [(LOCAL, "alice")]),
        ({"alice": "bob, x@y", "bob": "alice"}, "", [(LOCAL, "alice"), (ADDRESS, "x@y")]),
        ({"alice": "team"}, "team: a@far.test, bob\n", [(ADDRESS, "a@far.test"), (LOCAL, "bob")]),
        ({"alice": '"|/usr/bin/filter -x", /home/alice/box'}, "", [(PIPE, "/usr/bin/filter -x"), (FILE, "/home/alice/box")]),
        # By way of aliases.
        ({"alice": "me@far.test"}, "alice: alice, x@y\n", [(ADDRESS, "me@far.test"), (ADDRESS, "x@y")]),
        ({"alice": "me@far.test"}, "alice: \\alice, x@y\n", [(LOCAL, "alice"), (ADDRESS, "x@y")]),
        ({"alice": "alice, me@far.test"}, "alice: alice, x@y\n", [
            (LOCAL, "alice"), (ADDRESS, "me@far.test"), (ADDRESS, "x@y"),
        ]),
        ({"bob": "me@far.test"}, "alice: bob\n", [(ADDRESS, "me@far.test")]),
        ({"alice": "b@far.test"}, "*: alice\n", [(ADDRESS, "b@far.test")]),
    ],
)  # fmt: skip
def test_where_alice_s_mail_goes(forwards, aliases, expected):
    assert expand("alice", forwards, aliases)[:2] == (expected, [])
    assert expand("ALICE", forwards, aliases)[0][0][1].lower() == expected[0][1].lower()


def test_two_ways_to_one_forward_are_one():
    found, problems, _ = expand("team", {"alice": "me@far.test", "bob": "alice"}, "team: alice, bob\n")
    assert (found, problems) == ([(ADDRESS, "me@far.test")], [])
    found, problems, _ = expand("team", {"alice": "me@far.test", "bob": "me@far.test"}, "team: alice, bob\n")
    assert (found, problems) == ([(ADDRESS, "me@far.test")], [])


def test_a_loop_through_an_alias_is_named_and_keeps_the_mail():
    found, problems, _ = expand("root", {"alice": "root"}, "root: alice\n")
    assert found == [(LOCAL, "root")]
    assert problems == ["aliases: alias loop: root -> root"]


def test_a_bad_line_is_a_problem_and_the_others_work():
    found, problems, _ = expand("alice", {"alice": 'me@far.test\n"open\n'})
    assert found == [(ADDRESS, "me@far.test")]
    assert problems == ["~alice/.forward:2: quote without an end"]
    assert expand("alice", {"alice": 'me@far.test\n"open\n'}, shared=True)[1] == ["~alice/.forward:2: not understood"]
    assert expand("alice", {"alice": '"open\n'})[0] == [(LOCAL, "alice")]
    assert expand("alice", {"alice": "a@x,\\\n"})[1] == ["~alice/.forward:1: `\\': empty address"]


def test_what_a_forward_includes():
    files = {"/list": "a@far.test\n"}
    assert expand("alice", {"alice": ":include:/list"}, files=files)[:2] == ([(ADDRESS, "a@far.test")], [])
    # In system mode it would be read by the mail account, which may read what alice may not.
    found, problems, _ = expand("alice", {"alice": ":include:/list"}, files=files, shared=True)
    assert found == [(LOCAL, "alice")]
    assert problems == ["~alice/.forward: includes no files here"]
    found, problems, _ = expand("alice", {"alice": ":include:/gone"})
    assert found == [(LOCAL, "alice")]
    assert problems == ["aliases: can not read :include:/gone: No such file or directory"]


def test_an_included_list_that_is_gone_is_an_end_of_its_own():
    found, _, _ = expand("list", aliases="list: :include:/gone, a@x\n")
    assert found == [(BROKEN, "can not read :include:/gone: No such file or directory"), (ADDRESS, "a@x")]
    assert expand("list", aliases="list: :include:/empty\n", files={"/empty": "# nobody yet\n"})[0] == []


# ---------------------------------------------------------------- who hears of failures


@pytest.mark.parametrize(
    ("aliases", "expected"),
    [
        ("team: a@x, bob\n", {"a@x": "", "bob": ""}),
        ("team: a@x, bob\nowner-team: chief@far.test\n", {"a@x": "chief@far.test", "bob": "chief@far.test"}),
        ("team: a@x\nowner-team: bob\n", {"a@x": "bob"}),
        ("team: a@x\nowner-team: c@x, d@x\n", {"a@x": "owner-team"}),
        ("team: a@x\nowner-team: |/bin/cat\n", {"a@x": "owner-team"}),
        ("Team: a@x\nOwner-TEAM: c@x\n", {"a@x": "c@x"}),
        ("team: :include:/list\nowner-team: c@x\n", {"l@x": "c@x"}),
        # The innermost list counts, and one without an owner has that of the list around it.
        ("team: a@x, inner\ninner: b@x\nowner-team: t@x\nowner-inner: i@x\n", {"a@x": "t@x", "b@x": "i@x"}),
        ("team: a@x, inner\ninner: b@x\nowner-team: t@x\n", {"a@x": "t@x", "b@x": "t@x"}),
        ("team: a@x, inner\ninner: b@x\nowner-inner: i@x\n", {"a@x": "", "b@x": "i@x"}),
        ("team: alice\nowner-team: t@x\n", {"me@far.test": "t@x"}),
    ],
)
def test_owners(aliases, expected):
    _, _, found = expand("team", {"alice": "me@far.test"}, aliases, files={"/list": "l@x\n"})
    assert {end.text: end.owner for end in found} == expected


def test_an_owner_has_none():
    _, _, (end,) = expand("owner-team", aliases="owner-team: c@x\nowner-owner-team: d@x\n")
    assert end.owner == ""


def test_who_named_a_command():
    _, _, (end,) = expand("alice", {"alice": "|/bin/cat"}, "alice: alice\n")
    assert (end.kind, end.user, end.source) == (PIPE, "alice", "")
    _, _, (end,) = expand("x", aliases="x: |/bin/cat\n")
    assert (end.user, end.source) == ("", "aliases")
    _, _, (end,) = expand("x", aliases="x: :include:/list\n", files={"/list": "|/bin/cat\n"})
    assert (end.user, end.source) == ("", "/list")
    _, _, (end,) = expand("alice", {"alice": "x"}, "x: |/bin/cat\n")
    assert (end.user, end.source) == ("", "aliases")
    _, _, found = expand("team", {"alice": "|/bin/cat", "bob": "|/bin/cat"}, "team: alice, bob\n")
    assert [end.user for end in found] == ["alice", "bob"]


def test_a_command_as_an_address_in_the_envelope():
    assert as_address(PIPE, "/bin/cat -x a@b") == "| /bin/cat -x a@b"
    assert as_address(FILE, "/box", "alice") == ">alice /box"
    for kind, text, user in ((PIPE, "/bin/cat -x a@b", ""), (FILE, "/a b", "alice")):
        assert of_address(as_address(kind, text, user)) == (kind, text, user)
    for plain in ("alice", "a@b", "|x@y", ">x@y", "/x@y", "|cmd", '"| cmd"@x', ""):
        assert of_address(plain) is None
        assert Recipient(plain, "asked").named == plain
    assert Recipient("|alice /bin/cat", "team").named == "alice"
    assert Recipient("| /bin/cat", "robot").named == "robot"


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(USERS),
        st.lists(st.sampled_from([*"ab,\n\\|/ #", "alice", "bob", "root", "x@y", ":include:/f"]), max_size=8).map("".join),
    ),
    st.lists(st.sampled_from([*"ab:,\n ", "alice", "bob", "root", "owner-", "x@y", ":include:/f"]), max_size=20).map("".join),
    st.booleans(),
)
def test_every_expansion_ends_and_loses_nobody(forwards, aliases, shared):
    # For all files: no exception; each destination once; an existing user whose files lead nowhere keeps his mail, unless
    # an alias takes it; INCLUDE never comes out.
    for user in USERS:
        found, _, ends = expand(user, forwards, aliases, files={"/f": "a@b, alice\n"}, shared=shared)
        assert len({(end.kind, end.text, end.user) for end in ends}) == len(ends)
        assert all(kind in (ADDRESS, LOCAL, PIPE, FILE, BROKEN) for kind, _ in found)
        assert found


@pytest.mark.parametrize("path", ["list", "~/list", "../list"])
def test_a_relative_path_would_be_another_file_in_each_caller_s_directory(path):
    found, problems, _ = expand("team", aliases=f"team: a@x, :include:{path}, b@x\n", files={path: "c@x"})
    why = f"can not read :include:{path}: an absolute path is needed"
    assert found == [(ADDRESS, "a@x"), (BROKEN, why), (ADDRESS, "b@x")]
    assert problems == [f"aliases: {why}"]
