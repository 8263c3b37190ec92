"""Addresses: taken apart, checked, found in header bytes; compared with the standard library where both have an opinion."""

import string
import time
from email.headerregistry import HeaderRegistry

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dma_runtime import address
from dma_runtime.errors import DataError


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a@b", ("a", "b")),
        ("root", ("root", "")),
        ("", ("", "")),
        ("a@b@c", ("a@b", "c")),
        ('"a@b"@c', ('"a@b"', "c")),
        ('"a@b"', ('"a@b"', "")),
        ("a@[IPv6:::1]", ("a", "[IPv6:::1]")),
    ],
)
def test_split(text, parts):
    assert address.split(text) == parts


# What stands in a field, and whom it names. RFC 5322 appendix A, and what is seen in the wild.
FIELDS = [
    (b"John Doe <jdoe@machine.example>", ["jdoe@machine.example"]),
    (b"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>", ["mary@x.test", "jdoe@example.org", "one@y.test"]),
    (b'<boss@nil.test>, "Giant; \\"Big\\" Box" <sysservices@example.net>', ["boss@nil.test", "sysservices@example.net"]),
    (b"A Group:Ed Jones <joe@where.test>,joe@where.test,John <jdoe@one.test>;", ["joe@where.test"] * 2 + ["jdoe@one.test"]),
    (b"Undisclosed recipients:;", []),
    (b"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", []),
    (b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", ["pete@silly.test"]),
    (
        b"A Group(Some people)\n     :Chris Jones <c@(Chris's host.)public.example>,\n joe@example.org;",
        ["c@public.example", "joe@example.org"],
    ),
    (b"Joe Q. Public <john.q.public@example.com>", ["john.q.public@example.com"]),
    (b"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example", ["mary@example.net", "jdoe@test.example"]),
    (b"<@a.test,@b.test:c@d.test>", ["c@d.test"]),
    (b"root", ["root"]),
    (b"root, admin", ["root", "admin"]),
    (b"root (Cron Daemon)", ["root"]),
    (b"<root>", ["root"]),
    (b"<>", []),
    (b"", []),
    (b" , ,", []),
    (b"a@x b@y", ["a@x", "b@y"]),
    (b"a@x\n\tb@y, c@z", ["a@x", "b@y", "c@z"]),
    (b"a@x (one) b@y", ["a@x", "b@y"]),
    (b"foo@bar.test <foo@bar.test>", ["foo@bar.test"]),
    (b"Re: x <a@b>", ["a@b"]),
    (b"A <a@x> B <b@y>", ["a@x", "b@y"]),
    (b'"Doe, Jane" <jane@x.test>', ["jane@x.test"]),
    (b'"jane"@x.test', ["jane@x.test"]),
    (b'"jane doe"@x.test', ['"jane doe"@x.test']),
    (b'<"a\\"b"@x.test>', ['"a\\"b"@x.test']),
    (b"user@[127.0.0.1]", ["user@[127.0.0.1]"]),
    (b"user@[IPv6:2001:db8::1]", ["user@[IPv6:2001:db8::1]"]),
    ("jörg@müller.example".encode(), ["jörg@müller.example"]),
    (b"\xff@x", ["\udcff@x"]),
    (b"=?utf-8?q?M=C3=BCller=2C_J=2E?= <m@x.test>", ["m@x.test"]),
    (b"a@b;c@d", ["a@b", "c@d"]),
    (b"mailto:a@b", ["a@b"]),
    (b"(never ends a@b", []),
    (b'"never ends <a@b>', ['"never ends <a@b>']),
    (b"John Doe", ["John Doe"]),
]


@pytest.mark.parametrize(("value", "expected"), FIELDS)
def test_fields(value, expected):
    assert address.addresses(value) == expected
    assert [span.address for span in address.scan(value)] == expected


@pytest.mark.parametrize(("value", "expected"), FIELDS)
def test_the_span_of_an_address_can_be_replaced(value, expected):
    out, done = b"", 0
    for span in address.scan(value):
        out += value[done : span.start] + b"new@place"
        done = span.end
    assert address.addresses(out + value[done:]) == ["new@place"] * len(expected)


_WORD = st.text(string.ascii_letters + string.digits, min_size=1, max_size=6)
_LOCAL = st.lists(_WORD, min_size=1, max_size=3).map(".".join)
_MAILBOX = st.builds(
    lambda name, local, domain, style: (style.format(n=name, a=f"{local}@{domain}"), f"{local}@{domain}"),
    _WORD,
    _LOCAL,
    _LOCAL,
    st.sampled_from(["{a}", "<{a}>", "{n} <{a}>", '"{n}, Jr." <{a}>', "{n} (c, (d)) <{a}>", "{a} ({n})", "G:{a};"]),
)


@settings(max_examples=300)
@given(st.lists(_MAILBOX, min_size=1, max_size=6), st.sampled_from([", ", ",", " ,\n "]))
def test_agrees_with_the_standard_library_on_valid_fields(boxes, separator):
    value = separator.join(text for text, _ in boxes)
    parsed = HeaderRegistry()("To", value.replace("\n", ""))
    assume(not parsed.defects)
    ours = address.addresses(value.encode())
    assert ours == [found for _, found in boxes]
    assert ours == [found.addr_spec for found in parsed.addresses]


@settings(max_examples=500)
@given(st.text('ab.@<>()",;:\\[] \n\té', max_size=60).map(str.encode))
@example(b"(((((((")
@example(b"\\")
@example(b"a\\")
@example(b'"\\')
def test_any_bytes_are_read_without_an_exception(value):
    # No exception; spans lie within the value, in order, and do not overlap; an address that has no fault has no specials.
    done = 0
    for span in address.scan(value):
        assert done <= span.start < span.end <= len(value)
        done = span.end
        if not address.fault(span.address):
            local, domain = address.split(span.address)
            assert not set(domain) & set(' <>()",;:\\') or domain.startswith("[")
            assert local
    assert isinstance(address.addresses(value), list)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_come_out_as_they_went_in(value):
    for span in address.scan(value):
        text = address.to_wire(span.address)
        assert set(text) <= set(value) | set(b" ")


def test_a_long_list_takes_linear_time():
    value = b", ".join(b'"Name %d" <user%d@example.test>' % (n, n) for n in range(20_000))
    began = time.process_time()
    assert len(address.addresses(value)) == 20_000
    missing_commas = b" (x) ".join(b"u%d@example.test" % n for n in range(20_000))
    assert len(address.addresses(missing_commas)) == 20_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["a@x\r\nRCPT TO:<b@y>", "a\0@x", "a@x\n", "a\tb@x", "\x7f@x", "a\x85@x"])
def test_control_characters_are_refused_everywhere(text):
    assert address.fault(text) == address.CONTROL
    if text.strip(" \t") == text:
        with pytest.raises(DataError, match="control character"):
            address.check_argument(text)


@pytest.mark.parametrize(
    "text",
    [
        "a b@x",
        "@x",
        "a@",
        "<a@x",
        "a@x>",
        "a,b@x",
        'a"b@x',
        '"a@x',
        '"""',
        '"a"b"@x',
        r'"a\"@x',
        "a@b c",
        "a@b..c",
        "a@.b",
        "a@[1.2",
        "x" * 600 + "@y",
        "a@b@c",
    ],
)
def test_what_cannot_be_an_address(text):
    assert address.fault(text)


@pytest.mark.parametrize(
    "text",
    [
        *("a@x", "root", r'"a\"b\\"@x', '""@x', "a+b=c/d@x.test", '"a b"@x', "a@[127.0.0.1]", "jörg@müller.example"),
        *("x!y%z@h", "a@x.test.", "\udcff@x"),
    ],
)
def test_what_can(text):
    assert address.fault(text) == ""


@pytest.mark.parametrize(("text", "found"), [("<a@x>", "a@x"), ("<>", ""), ("", ""), (" root ", "root"), ("< a@x >", "a@x")])
def test_an_argument_loses_its_brackets(text, found):
    assert address.check_argument(text) == found


def test_the_wire_has_the_bytes_that_came_in():
    assert address.to_wire(address.from_bytes(b"\xff\xc3\xbc@x")) == b"\xff\xc3\xbc@x"
    assert address.needs_smtputf8("ü@x")
    assert not address.needs_smtputf8("u@x")
