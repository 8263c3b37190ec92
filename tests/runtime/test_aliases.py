"""The aliases file: sendmail's grammar, one bad line never stops the others, loops end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dma_runtime.aliases import ADDRESS, FILE, INCLUDE, LOCAL, PIPE, Target, parse
from dma_runtime.policy import expansion
from dma_runtime.policy.expansion import BROKEN, Expansion

OWN = ("localhost", "here.test")


def own(text):
    local, _, domain = text.rpartition("@") if "@" in text else (text, "", "")
    return local if not domain or domain in OWN else ""


def no_files(path):
    raise FileNotFoundError(2, "No such file or directory")


def expand(text, name, include=no_files):
    aliases = parse(text, "f")
    found = Expansion(aliases, include=include, own=own)
    return [(t.kind, t.text) for t in found.of(name)], aliases.problems + found.problems


def addresses(text, name):
    targets, problems = expand(text, name)
    assert problems == []
    return [found for _, found in targets]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("root: a@x\n", ["a@x"]),
        ("root: a@x", ["a@x"]),  # the last line without its end: C dma refused all mail
        ("root:a@x b@x\n", ["a@x", "b@x"]),
        ("root: a@x, b@x\n", ["a@x", "b@x"]),
        ("root: a@x,\n  b@x,\n\tc@x\n", ["a@x", "b@x", "c@x"]),
        ("root: a@x, \\\nb@x\n", ["a@x", "b@x"]),
        ("root: a@x\nroot: b@x\n", ["a@x", "b@x"]),
        ("Root: a@x\n", ["a@x"]),
        ("# c\n\nroot: a@x # why\n", ["a@x"]),
        ("root: a#b@x\n", ["a#b@x"]),
        ('"root": a@x\n', ["a@x"]),
        ("root : a@x\r\n", ["a@x"]),
        ("root: Me <a@x>\n", ["a@x"]),
        ("root: bob\nbob: a@x\n", ["a@x"]),
        ("root: bob@here.test\nbob: a@x\n", ["a@x"]),
        ("root: a@x, a@x\n", ["a@x"]),
        ("other: a@x\n", ["root"]),
    ],
)
def test_where_roots_mail_goes(text, expected):
    assert addresses(text, "root") == expected
    assert addresses(text, "ROOT")[0].lower() == expected[0].lower()


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("root: root, admin@x\n", "root", ["root", "admin@x"]),
        ("root: root\n", "root", ["root"]),
        ("*: root\n", "root", ["root"]),
        ("*: root\n", "bob", ["root"]),
        ("*: a@x\nbob: b@x\n", "bob", ["b@x"]),
        ("root: carl\n*: a@x\n", "root", ["carl"]),  # `*` is not for what comes out of an expansion
        ("root: \\root, a@x\n", "root", ["root", "a@x"]),
        ("root: \\bob\nbob: a@x\n", "root", ["bob"]),
        ('root: "\\bob"\nbob: a@x\n', "root", ["bob"]),
    ],
)
def test_local_copies_and_the_catch_all(text, name, expected):
    assert addresses(text, name) == expected


def test_the_kinds_of_destination():
    text = 'x: "|/bin/prog arg, two", /var/spool/file, :include:/list, "quoted user"@h, |/bin/other arg\n'
    assert parse(text, "f").entries["x"] == [
        Target(PIPE, "/bin/prog arg, two"),
        Target(FILE, "/var/spool/file"),
        Target(INCLUDE, "/list"),
        Target(ADDRESS, '"quoted user"@h'),
        Target(PIPE, "/bin/other arg"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('|"/usr/bin/vacation alice"', [Target(PIPE, "/usr/bin/vacation alice")]),  # sendmail's quote on either side of the bar
        ('| "/usr/bin/mailman post \\"my list\\""', [Target(PIPE, '/usr/bin/mailman post "my list"')]),
        ('|"/usr/bin/my prog" -a "x y"', [Target(PIPE, '"/usr/bin/my prog" -a "x y"')]),  # the shell's
        ('|/usr/bin/vacation -a "x y" alice', [Target(PIPE, '/usr/bin/vacation -a "x y" alice')]),
        ('"|/bin/a" "|/bin/b c"', [Target(PIPE, "/bin/a"), Target(PIPE, "/bin/b c")]),
        ('\\alice "|/usr/bin/vacation alice"', [Target(LOCAL, "alice"), Target(PIPE, "/usr/bin/vacation alice")]),
        ('a@x "/var/spool/a b" "\\bob"', [Target(ADDRESS, "a@x"), Target(FILE, "/var/spool/a b"), Target(LOCAL, "bob")]),
        ('"\\\\alice", b@x', [Target(LOCAL, "alice"), Target(ADDRESS, "b@x")]),
    ],
)
def test_quotes_and_blanks_as_sendmail_has_them(text, expected):
    assert parse(f"x: {text}\n", "f").entries["x"] == expected


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ("no colon here", "syntax error"),
        ("empty:", "no destination"),
        (": a@x", "syntax error"),
        ('"unclosed: a@x', "syntax error"),
        ('q: "unclosed', "quote"),
        ("p: |", "pipe"),
        ('p: |""', "pipe"),
        ('q: ""', "not an address"),
        ("p: \\b(c", "needs quotes"),
        ("c: a\x01@x", "control character"),
        ("two words: a@x", "syntax error"),
        ("e: error:5.1.1 no", "not understood"),
        ("a@b: c", "has a domain"),
        ("l: a@x, b: c@x", "a colon"),
        ("l: group: a@x, b@x;", "a colon"),
    ],
)
def test_a_bad_line_is_one_problem_with_its_true_number(bad, word):
    aliases = parse(f"# first\nroot: a@x,\n  b@x\n{bad}\nlast: c@x", "/etc/aliases")
    assert len(aliases.problems) == 1
    assert aliases.problems[0].startswith("/etc/aliases:4: ")
    assert word in aliases.problems[0]
    assert set(aliases.entries) == {"root", "last"}


def test_an_indented_file_is_not_one_alias():
    # A here-document in a script: `www: root` went on the first line, and what was meant for root was lost.
    aliases = parse("  root: me@x.test,\n    you@x.test\n  www: root\n\tops : a@x\n  # end\n  b@x\n", "f")
    assert {name: [target.text for target in targets] for name, targets in aliases.entries.items()} == {
        "root": ["me@x.test", "you@x.test"],
        "www": ["root"],
        "ops": ["a@x", "b@x"],
    }
    assert [problem.partition(" ")[0] for problem in aliases.problems] == ["f:3:", "f:4:"]


def test_colons_that_are_no_mistake():
    text = 'l: u@[IPv6:::1], <@r:u@x>, "a:b"@x, c@x (why: so), :include:/a:b, "|/bin/x a:b", /var/a:b'
    assert parse(text, "f").problems == []


def test_a_loop_ends_and_is_named():
    targets, problems = expand("a: b\nb: c, x@y\nc: a\n", "a")
    assert (ADDRESS, "x@y") in targets
    assert problems == ["f: alias loop: a -> b -> c -> a"]


def test_included_files():
    files = {"/l": "# list\na@x\nbob, c@x\n", "/self": ":include:/self\nb@x\n"}
    text = "list: :include:/l\nbob: b@x\nself: :include:/self\ngone: :include:/gone, d@x\n"
    assert expand(text, "list", lambda p: files[p]) == ([(ADDRESS, "a@x"), (ADDRESS, "b@x"), (ADDRESS, "c@x")], [])
    targets, problems = expand(text, "self", lambda p: files[p])
    assert targets == [(ADDRESS, "b@x")]
    assert problems == ["f: alias loop: /self includes itself"]
    targets, problems = expand(text, "gone", no_files)
    why = "can not read :include:/gone: No such file or directory"
    assert targets == [(BROKEN, why), (ADDRESS, "d@x")]
    assert problems == ["f: can not read :include:/gone: No such file or directory"]


def test_a_chain_without_end_is_cut():
    text = "".join(f"a{n}: a{n + 1}\n" for n in range(500))
    targets, problems = expand(text, "a0")
    assert problems == ["f: alias a0 has too many destinations"]
    assert targets == [(BROKEN, "alias a0 has too many destinations")]  # the sender hears of it


def test_an_explosion_is_cut():
    # Each name doubles: without a limit 2^40 steps.
    text = "".join(f"a{n}: a{n + 1}, b{n}@x, a{n + 1}\n" for n in range(40))
    targets, _ = expand(text, "a0")
    assert len(targets) <= 10_001


def test_a_list_that_is_too_long_is_told_to_the_sender(monkeypatch):
    monkeypatch.setattr(expansion, "_MANY", 20)
    targets, problems = expand("l: " + ", ".join(f"u{n}@x" for n in range(30)) + "\n", "l")
    assert targets[:2] == [(ADDRESS, "u0@x"), (ADDRESS, "u1@x")]
    assert targets[-1] == (BROKEN, "alias l has too many destinations")
    assert problems == ["f: alias l has too many destinations"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*'ab:,|"\\/#* \n\t@<>();', ":include:/f", "\0", "é"]), max_size=40).map("".join))
def test_any_text_is_read_without_an_exception(text):
    # Problems name a line that exists; expanding every name ends, and gives only destinations without INCLUDE.
    aliases = parse(text, "f")
    for problem in aliases.problems:
        assert 1 <= int(problem.split(":")[1]) <= text.count("\n") + 1
    for name in aliases.entries:
        targets = Expansion(aliases, include=no_files, own=own).of(name)
        assert all(target.kind in (ADDRESS, LOCAL, PIPE, FILE, BROKEN) for target in targets)


def test_local_of_a_backslash_is_not_an_address():
    assert parse("x: \\bob", "f").entries["x"] == [Target(LOCAL, "bob")]
