"""Header fields on their way to a relay: what must be encoded or folded says the same afterwards, to any reader."""

import base64
import email
import email.policy
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dma_runtime import address
from dma_runtime.message import fieldwire, headers
from dma_runtime.message.headers import Field

WORD = re.compile(rb"(=\?[^? ]+\?B\?[^? ]*\?=)")


def fitted(raw, eightbit=False):
    """The field as it goes out, which is legal."""
    name = raw.partition(b":")[0].lower()
    out = fieldwire.fit(Field(name, raw), eightbit)
    lines = out.split(b"\n")
    assert max(map(len, lines)) <= 998
    assert all(line.strip() for line in lines)
    assert all(line[:1] in (b" ", b"\t") for line in lines[1:])
    assert b"\0" not in out
    assert b"\r" not in out
    return out


def read(value):
    """The text of a field as a reader shows it (RFC 2047 6.2), every run of blanks as one."""
    pieces = WORD.split(value.replace(b"\n", b""))
    said = b""
    for n, piece in enumerate(pieces):
        if n % 2:
            said += base64.b64decode(piece.split(b"?")[3])
        elif piece.strip() or n in (0, len(pieces) - 1):  # blanks between two encoded words are dropped
            said += piece
    return re.sub(rb"[ \t]+", b" ", said).strip()


def people(raw):
    message = email.message_from_bytes(fitted(raw) + b"\n\n", policy=email.policy.default)
    return [(" ".join(one.display_name.split()), one.addr_spec) for one in message["To"].addresses]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Änne <a@x.test>, Jörg <b@y.test>", [("Änne", "a@x.test"), ("Jörg", "b@y.test")]),
        ("<a@x.test>, Jörg Müller <b@y.test>, c@z.test", [("", "a@x.test"), ("Jörg Müller", "b@y.test"), ("", "c@z.test")]),
        ("a@x.test (Käthe), Jörg <b@y.test>", [("", "a@x.test"), ("Jörg", "b@y.test")]),
        (r'"Jörg \"der\" \\ Müller" <a@x.test>', [('Jörg "der" \\ Müller', "a@x.test")]),
        (r'"das ist \"ö\"" <a@x.test>', [('das ist "ö"', "a@x.test")]),
        ('"Müller, Jörg" <a@x.test>,"x, y" <b@x.test>', [("Müller, Jörg", "a@x.test"), ("x, y", "b@x.test")]),
        ("Gruppe Köln: a@x.test, Jörg <b@x.test>;", [("", "a@x.test"), ("Jörg", "b@x.test")]),
        ("(ein (zwei) drei ö \\) x) a@x.test, b@x.test", [("", "a@x.test"), ("", "b@x.test")]),
        ("Jörg\n <a@x.test>,\n\tÄnne <b@x.test>", [("Jörg", "a@x.test"), ("Änne", "b@x.test")]),
        ("=?utf-8?Q?M=C3=B6?= Jörg <a@x.test>", [("Mö Jörg", "a@x.test")]),
    ],
)
def test_names_are_encoded_and_every_address_stays(value, expected):
    assert people(b"To: " + value.encode()) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a@bücher.test", "a@xn--bcher-kva.test"),
        ("Jörg <a@BÜCHER.test>, b@x.test (c)", "=?utf-8?B?SsO2cmc=?= <a@xn--bcher-kva.test>, b@x.test (c)"),
        ('"a b"@bücher.test, <@relay.test:c@日本.test>', '"a b"@xn--bcher-kva.test, <@relay.test:c@xn--wgv71a.test>'),
        ("ü@bücher.test, a@x.test", "ü@bücher.test, a@x.test"),  # goes with SMTPUTF8 only
        ("a@[bücher]", "a@[bücher]"),
    ],
)
def test_a_domain_beyond_ascii_is_said_as_it_is_on_the_envelope(value, expected):
    assert fitted(b"To: " + value.encode()) == b"To: " + expected.encode()
    assert fitted(b"To: " + value.encode(), eightbit=True) == b"To: " + value.encode()


def test_a_name_that_looks_like_an_address_is_a_name():
    out = fitted("To: jörg@x.test <a@x.test>".encode())
    assert (address.addresses(out[3:]), read(out[3:])) == (["a@x.test"], "jörg@x.test <a@x.test>".encode())


PIECES = [
    *(b"Bob", b"B\xc3\xb6b", b'"a b"', b'"\xc3\xb6 \\"q\\""', b'"x, y"', b"(c \xc3\xb6)", b"(n (e) \xc3\xb6)", b"(p \\) \xc3\xb6)"),
    *(b"\xff", b" ", b"\n ", b"\t", b"x" * 300, b"\xe6\x97\xa5" * 40),
    *(b'"' + b"long \xc3\xa9 " * 50 + b'"', b'"\\\\"', b'"\xc3\xa9\\\\"'),
]
ADDRESSES = [b"a@x.test", b"<c@[1.2.3.4]>", b"c(d \xc3\xb6)@z.test", b"root", b'"q q"@x.test', b"\xc3\xb6@z.test", b"<@r:d@e.test>"]
MAILBOXES = st.one_of(
    st.sampled_from(ADDRESSES),
    st.builds(
        lambda name, inner, tail: b"".join(name) + b" <" + inner + b">" + tail,
        st.lists(st.sampled_from(PIECES), max_size=4),
        st.sampled_from([b"a@x.test", b'"q"@z.test', b"\xc3\xb6@z"]),
        st.sampled_from([b"", b" (c \xc3\xb6)", b"(x)"]),
    ),
)


@settings(max_examples=300)
@given(st.lists(MAILBOXES, min_size=1, max_size=12), st.sampled_from([b",", b", ", b",\n "]), st.booleans())
def test_any_address_field_names_the_same_people(mailboxes, comma, eightbit):
    raw = re.sub(rb"\n\s*\n", b"\n", b"To: " + comma.join(mailboxes)).rstrip()
    out = fitted(raw, eightbit)
    value, sent = raw.partition(b":")[2], out.partition(b":")[2]
    before = [span.address for span in address.scan(value)]
    assert [span.address for span in address.scan(sent)] == before
    assert eightbit or out.isascii() or not all(one.isascii() for one in before)
    if not eightbit:
        assert re.sub(rb'[\s"\\]', b"", read(sent)) == re.sub(rb'[\s"\\]', b"", value)
    for found in WORD.finditer(sent):  # an encoded word stands by itself
        assert sent[: found.start()][-1:] in (b" ", b"\t", b"(")
        assert sent[found.end() :][:1] in (b" ", b"\n", b"\t", b")", b"")


def test_a_quoted_local_part_may_be_folded():
    assert address.addresses(b' "a\n b"@x.test') == ['"a b"@x.test']


# ---------------------------------------------------------------- text

TEXTS = [
    *(b" hello ", b"B\xc3\xb6b", b"\xff", b" ", b"\n ", b"\t", b"x" * 1200, b"\xe6\x97\xa5" * 40, b" " * 1000, b"a b c " * 200),
    *(b" =?utf-8?B?w7Y=?= ", b" =?utf-8?B?TcO2?=\n ", b"\0"),
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=8), st.booleans())
def test_any_text_says_the_same(pieces, eightbit):
    raw = re.sub(rb"\n\s*\n", b"\n", b"Subject: x " + b"".join(pieces)).rstrip()
    out = fitted(raw, eightbit)
    assert eightbit or out.isascii()
    assert read(out.partition(b":")[2]) == read(raw.partition(b":")[2])


def test_words_on_two_lines_are_two_words():
    assert read(fitted("Subject: Grüße\n aus Köln\n\tüber Nürnberg".encode())[8:]) == "Grüße aus Köln über Nürnberg".encode()


@pytest.mark.parametrize(
    "raw",
    [
        *(b"Subject: x" + b" " * 1500, b"To:" + b" " * 2500 + b"a@x"),
        *(b"X-Y: a" + b" " * 3000 + b"b", b"X-Y: a\n" + b" " * 2000 + b"\n b"),
    ],
)
def test_blanks_without_end_make_no_blank_line(raw):
    assert fitted(raw, eightbit=True).split()[1:] == raw.split()[1:]


# ---------------------------------------------------------------- what it costs


@pytest.mark.parametrize(
    "raw",
    [
        b"To: " + b", ".join(b"user%d@example.test" % n for n in range(300_000)),
        b"Subject: " + b"\xc3\xb6" * 3_000_000,
        b"Subject: " + b"x y " * 2_000_000,
    ],
    ids=["addresses", "one word", "many words"],
)
def test_a_gigantic_field_is_made_fit_in_time(raw):
    began = time.process_time()
    fitted(raw)
    assert time.process_time() - began < 3  # the time grew with the square of the length


def test_a_header_of_nothing_but_resent_fields_is_read_in_time():
    fields = [Field(b"resent-%d" % n, b"Resent-%d: x" % n) for n in range(50_000)]
    began = time.process_time()
    assert headers.resent_block(fields) == fields
    assert time.process_time() - began < 2  # every user can send one to the machine's daemon
