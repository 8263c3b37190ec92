"""Stored messages on their way to a relay: untouched where they can be, re-encoded where they must be, never cut."""

import email
import email.policy
import quopri
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.message import headers
from dma_runtime.message.wire import goes_binary, wire


def envelope_for(data):
    envelope = Envelope("id", "a@x", [Recipient("b@y")], 0.0)
    envelope.size = len(data)
    envelope.has_8bit = not data.isascii()
    envelope.has_nul = b"\0" in data or b"\r" in data
    envelope.longest_line = max(map(len, data.split(b"\n")))
    envelope.header_end = data.find(b"\n\n") + 1 or len(data)
    return envelope


def sent(data, *, eightbit=True, bdat=True, **keywords):
    def read(length, at):
        assert 0 <= length <= 1 << 24
        return data[at : at + length]

    return b"".join(wire(read, envelope_for(data), eightbit=eightbit, bdat=bdat, **keywords))


def unstuffed(wire_bytes):
    """What a server makes of DATA's bytes (RFC 5321 4.5.2)."""
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in wire_bytes.split(b"\r\n"))


def legal(wire_bytes, *, ascii_only=False):
    assert b"\0" not in wire_bytes
    assert wire_bytes.replace(b"\r\n", b"").find(b"\r") < 0
    assert wire_bytes.replace(b"\r\n", b"").find(b"\n") < 0
    assert max(map(len, wire_bytes.split(b"\r\n"))) <= 998
    assert not ascii_only or wire_bytes.isascii()


def leaves(wire_bytes):
    message = email.message_from_bytes(wire_bytes, policy=email.policy.SMTP)
    return [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]


HEADER = b"From: a@x\nTo: b@y\nSubject: s\n"


def test_a_plain_message_changes_only_its_line_ends():
    data = HEADER + b"\n.dot\n..two\nx.\n"
    assert sent(data) == data.replace(b"\n", b"\r\n")


def test_dots_are_stuffed_for_data_only():
    data = HEADER + b"\n.\n.dot\n..two\nx.\n"
    stuffed = sent(data, bdat=False)
    assert b"\r\n..\r\n..dot\r\n...two\r\nx.\r\n" in stuffed
    assert unstuffed(stuffed) == data.replace(b"\n", b"\r\n")


def test_a_last_line_without_an_end_gets_one():
    assert sent(HEADER + b"\nend").endswith(b"\r\nend\r\n")


@given(st.lists(st.sampled_from([b".", b"\n", b"a"]), max_size=40).map(b"".join), st.integers(1, 5))
def test_dot_stuffing_does_not_depend_on_where_chunks_end(body, cut):
    data = HEADER + b"\n" + body
    pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
    from dma_runtime.message.wire import _on_the_wire

    assert b"".join(_on_the_wire(iter(pieces), stuff=True)) == b"".join(_on_the_wire(iter([data]), stuff=True))


def test_8bit_goes_as_it_is_to_a_relay_with_8bitmime():
    data = HEADER + "\nGrüße\n".encode()
    assert sent(data, eightbit=True) == data.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "body",
    [b"Gr\xc3\xbc\xc3\x9fe \n", b"latin \xfc\n", b"nul \0 here\n", b"cr \r here\n", b"x" * 5000 + b"\n", b"a" * 200_000],
)
def test_a_body_without_mime_is_carried_whole(body):
    out = sent(HEADER + b"\n" + body, eightbit=False)
    legal(out, ascii_only=True)
    message = email.message_from_bytes(out)
    assert message["MIME-Version"] == "1.0"
    assert message["Content-Transfer-Encoding"] == "quoted-printable"
    # The stored LF is a line end; what was a bare CR comes back as one.
    assert message.get_payload(decode=True).replace(b"\r\n", b"\n").rstrip(b"\n") == body.rstrip(b"\n")


@pytest.mark.parametrize(
    ("body", "charset"),
    [(b"\xc3\xbc\n", "utf-8"), (b"\xfc\n", "unknown-8bit"), (b"\0\n", "us-ascii"), (b"\xc3", "unknown-8bit")],
)
def test_the_charset_is_what_the_bytes_are(body, charset):
    message = email.message_from_bytes(sent(HEADER + b"\n" + body, eightbit=False))
    assert message.get_content_charset() == charset


@settings(max_examples=200)
@given(st.binary(max_size=400), st.integers(1, 60))
def test_quoted_printable_gives_back_every_byte(body, cut):
    from dma_runtime.message.recode import quoted_printable

    out = b"".join(quoted_printable(body[at : at + cut] for at in range(0, len(body), cut)))
    assert max(map(len, out.split(b"\n"))) <= 76
    assert out.isascii()
    assert not any(c in out for c in b"\0\r")
    assert quopri.decodestring(out) == body


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=300)))
def test_base64_gives_back_every_byte_with_crlf(chunks):
    import base64

    from dma_runtime.message import recode

    out = b"".join(recode.base64(chunks))
    assert max(map(len, out.split(b"\n"))) <= 76
    assert base64.b64decode(out) == b"".join(chunks).replace(b"\n", b"\r\n")


@settings(max_examples=200)
@given(st.binary(max_size=4000), st.integers(1, 90), st.integers(0, 5))
def test_base64_in_one_long_line_is_wrapped_again(data, cut, noise):
    import base64

    from dma_runtime.message import recode

    text = base64.b64encode(data)
    text = text[:noise] + b"\0\xff" + text[noise:]
    out = b"".join(recode.rewrapped_base64(text[at : at + cut] for at in range(0, len(text), cut)))
    assert base64.b64decode(out) == data
    assert max(map(len, out.split(b"\n"))) <= 76


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([b"=3D", b"=C3=BC", b"x" * 400, b"ab cd", b"=\n", b"\n", b"=20\n", b"\xff", b"\0"]), max_size=30),
    st.integers(1, 90),
)
def test_quoted_printable_with_long_lines_means_the_same(parts, cut):
    from dma_runtime.message import recode

    text = b"".join(parts)
    out = b"".join(recode.requoted(text[at : at + cut] for at in range(0, len(text), cut)))
    assert quopri.decodestring(out) == quopri.decodestring(text)
    assert out.isascii()
    assert b"\0" not in out
    assert max(map(len, out.split(b"\n"))) <= 998


@pytest.mark.parametrize("offset", range(4))
def test_a_soft_break_never_parts_an_encoded_byte(offset):
    from dma_runtime.message import recode

    text = b"x" * offset + b"=3D" * 700
    out = b"".join(recode.requoted([text]))
    assert not [line for line in out.split(b"\n") if line.endswith((b"==", b"=3="))]
    assert quopri.decodestring(out) == b"x" * offset + b"=" * 700


MIXED = (
    HEADER
    + b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="o"\n\npreamble\n--o\n'
    + b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGr\xc3\xbc\xc3\x9fe\n--o\n"
    + b"Content-Type: multipart/alternative; boundary=i\nContent-Transfer-Encoding: 8bit\n\n--i\n\nplain\n--i\n"
    + b"Content-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\n\xff\xfe\0\n\n--i--\n--o\n"
    + b"Content-Type: message/rfc822\n\nSubject: \xc3\xbc\n\ninner \xc3\xbc\n--o--\nepilogue\n"
)


def test_each_part_is_converted_by_itself():
    out = sent(MIXED, eightbit=False)
    legal(out, ascii_only=True)
    first, plain, binary, inner = leaves(out)
    assert first == "Grüße".encode()
    assert plain == b"plain"
    assert binary == b"\xff\xfe\0\r\n"
    assert inner == "inner ü".encode()
    message = email.message_from_bytes(out, policy=email.policy.SMTP)
    assert [p.get("Content-Transfer-Encoding") for p in message.walk()] == [
        None, "quoted-printable", "7bit", None, "base64", None, "quoted-printable",
    ]  # fmt: skip
    assert message.get_payload()[2].get_payload()[0]["Subject"] == "ü"
    assert out.startswith(HEADER.replace(b"\n", b"\r\n"))
    assert out.endswith(b"--o--\r\nepilogue\r\n")


def test_only_the_part_that_needs_it_is_converted_for_a_relay_with_8bitmime():
    out = sent(MIXED, eightbit=True)
    legal(out)
    assert "\r\n\r\nGrüße\r\n".encode() in out
    assert leaves(out)[2] == b"\xff\xfe\0\r\n"


SIGNED = (
    HEADER + b'MIME-Version: 1.0\nContent-Type: multipart/signed; boundary="s"; protocol="x/y"\n\n--s\n'
    b"Content-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\n\xc3\xbc \n--s\nContent-Type: x/y\n\nsig\n--s--\n"
)


@pytest.mark.parametrize(
    "data", [b"DKIM-Signature: v=1; h=from\n" + HEADER + b"Subject: \xc3\xbc\n\n\xc3\xbc" + b"y" * 2000 + b"\n", SIGNED]
)
def test_signed_mail_is_never_rewritten(data):
    assert sent(data, eightbit=False) == data.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("head", [b"DKIM-Signature: v=1; h=from\n" + HEADER, HEADER + SIGNED[len(HEADER) :].partition(b"--s\n")[0]])
def test_a_bare_cr_of_signed_mail_ends_no_message(head):
    data = head + b"\nfoo\r.\nMAIL FROM:<evil@x>\r\r.\r\n.\n"
    assert sent(data, bdat=False).endswith(b"foo .\r\nMAIL FROM:<evil@x>  . \r\n..\r\n")
    assert b"\r" not in sent(data, bdat=False).replace(b"\r\n", b"")
    assert sent(data, bdat=True) == data.replace(b"\n", b"\r\n")  # it says its length


# ---------------------------------------------------------------- SMTPUTF8 and BINARYMIME

UTF8_HEADER = 'From: "Jörg Müller"<joerg@x.test>\nSubject: Grüße aus Köln\n'.encode()


def test_a_header_in_utf8_becomes_encoded_words_and_the_body_stays():
    out = sent(UTF8_HEADER + "Content-Transfer-Encoding: 8bit\nContent-Type: text/plain; charset=utf-8\n\nGrüße\n".encode())
    head, _, body = out.partition(b"\r\n\r\n")
    legal(head + b"\r\n\r\n", ascii_only=True)
    assert body == "Grüße\r\n".encode()
    message = email.message_from_bytes(out, policy=email.policy.SMTP)
    assert message["Subject"] == "Grüße aus Köln"
    assert message["From"].addresses[0].display_name == "Jörg Müller"


def test_a_header_in_utf8_goes_as_it_is_where_smtputf8_is_spoken():
    data = UTF8_HEADER + b"\nx\n"
    assert sent(data, utf8=True) == data.replace(b"\n", b"\r\n")


def test_a_header_in_a_charset_nobody_named_stays_for_8bitmime():
    data = HEADER + b"Subject: Gr\xfc\xdfe\n\nx\n"
    assert sent(data) == data.replace(b"\n", b"\r\n")
    legal(sent(data, eightbit=False), ascii_only=True)


def test_a_signed_header_in_utf8_is_not_touched():
    data = b"DKIM-Signature: v=1; h=subject\n" + UTF8_HEADER + b"\nx\n"
    assert sent(data) == data.replace(b"\n", b"\r\n")


LONG = b"y" * 2000 + b"\0\n"


@pytest.mark.parametrize(
    ("header", "binary"),
    [
        (b"DKIM-Signature: v=1; h=from\n", True),
        (b'Content-Type: multipart/signed; boundary="s"\n', True),
        (b"Content-Type: Multipart/Encrypted; boundary=s\n", True),
        (b"Content-Transfer-Encoding: Binary\n", True),
        (b"Content-Transfer-Encoding: 8bit\n", False),
        (b"Content-Type: multipart/mixed; boundary=s\n", False),
    ],
)
def test_what_goes_as_binarymime(header, binary):
    data = HEADER + header + b"\n" + LONG
    assert goes_binary(lambda n, at: data[at : at + n], envelope_for(data)) is binary
    fit = HEADER + header + b"\nshort\n"
    assert not goes_binary(lambda n, at: fit[at : at + n], envelope_for(fit))
    if binary:
        assert sent(data, binary=True) == data.replace(b"\n", b"\r\n")


def test_a_signed_part_inside_is_left_alone_and_its_neighbour_converted():
    inner = SIGNED[len(HEADER) + len(b"MIME-Version: 1.0\n") :]
    data = HEADER + b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=m\n\n--m\n" + inner + b"--m\n\n\xc3\xb6\n--m--\n"
    out = sent(data, eightbit=False)
    assert inner.replace(b"\n", b"\r\n") in out
    assert b"\r\n\r\n=C3=B6\r\n--m--" in out


def test_an_address_list_on_one_line_is_folded():
    addresses = [f"user{n}@example.test" for n in range(100)]
    out = sent(b"To: " + ", ".join(addresses).encode() + b"\n\nx\n")
    legal(out)
    message = email.message_from_bytes(out, policy=email.policy.SMTP)
    assert [a.addr_spec for a in message["To"].addresses] == addresses
    assert "Content-Transfer-Encoding" not in message


def test_an_address_list_without_blanks_is_folded_behind_commas():
    addresses = [f"user{n}@example.test" for n in range(100)]
    out = sent(b"To: " + ",".join(addresses).encode() + b"\n\nx\n")
    legal(out)
    message = email.message_from_bytes(out, policy=email.policy.SMTP)
    assert [a.addr_spec for a in message["To"].addresses] == addresses


@pytest.mark.parametrize("subject", ["x" * 5000, "ü" * 900 + " end", "word " * 600, "a\0b", "\x00", "Grüße aus Köln am Rhein"])
def test_a_subject_arrives_whole(subject):
    out = sent(b"Subject: " + subject.encode() + b"\n\nx\n", eightbit=False)
    legal(out, ascii_only=True)
    from email.header import decode_header, make_header

    got = str(make_header(decode_header(email.message_from_bytes(out)["Subject"].replace("\r\n", ""))))
    assert got.strip() == subject.strip()


def test_names_in_addresses_are_encoded_and_addresses_are_not():
    out = sent('From: "Jörg Müller"<joerg@x.test>\nTo: Änne B <b@y.test>, c@z.test (Käthe)\n\nx\n'.encode(), eightbit=False)
    legal(out, ascii_only=True)
    message = email.message_from_bytes(out, policy=email.policy.SMTP)
    assert [(a.display_name, a.addr_spec) for a in message["From"].addresses] == [("Jörg Müller", "joerg@x.test")]
    assert [a.addr_spec for a in message["To"].addresses] == ["b@y.test", "c@z.test"]
    assert message["To"].addresses[0].display_name == "Änne B"


def test_a_file_name_beyond_ascii_becomes_rfc_2231():
    data = (
        HEADER
        + 'MIME-Version: 1.0\nContent-Type: application/x; name="ü.bin"\n'.encode()
        + 'Content-Disposition: attachment; filename="ä b.bin"; size=3\n\nüü\n'.encode()
    )
    out = sent(data, eightbit=False)
    legal(out, ascii_only=True)
    message = email.message_from_bytes(out)
    assert message.get_filename() == "ä b.bin"
    assert message.get_param("size", header="content-disposition") == "3"


def test_deep_nesting_and_many_parts_are_carried_as_they_are():
    nest = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(200))
    sent(HEADER + b"MIME-Version: 1.0\n" + nest + b"\n\xff\n", eightbit=False)
    many = b"--b\n\n\xff\n" * 20_000
    sent(HEADER + b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n' + many, eightbit=False)


def test_a_large_message_is_converted_in_pieces():
    line = random.Random(1).randbytes(60).replace(b"\n", b"").replace(b"\r", b"") + b"\n"
    body = line * 100_000
    data = HEADER + b"\n" + body
    pieces = list(wire(lambda n, at: data[at : at + n], envelope_for(data), eightbit=False, bdat=False))
    assert max(map(len, pieces)) < 1 << 20
    assert len(pieces) > 20


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [
                *(b"\n", b"\n\n", b"--o", b"--i", b"--", b"\xff", b"\0", b"\r", b"=C3=", b":", b" ", b"x" * 1200),
                *(b"Content-Type: multipart/mixed; boundary=o\n", b"Content-Type: multipart/mixed; boundary=i\n"),
                *(b"Content-Type: text/x\n", b"Content-Type: message/rfc822\n", b"To: a,b\n"),
                *(b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n"),
            ]
        ),
        max_size=40,
    ),
    st.booleans(),
)  # fmt: skip
def test_any_message_becomes_legal_and_loses_no_text(parts, eightbit):
    # Whatever the structure: no exception, whole lines, and an ordinary text that is in it comes out.
    data = b"Subject: s\n\n" + b"".join(parts) + b"\nthe last line\n"
    out = sent(data, eightbit=eightbit)
    assert out.endswith(b"\r\n")
    assert b"base64" in data or b"the last line" in quopri.decodestring(out)


# ---------------------------------------------------------------- found by fuzzing

PARTS_OF_B = HEADER + b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n'


@pytest.mark.parametrize("body", [b"no part at all \xff\n", b"a\0b\n", b"x" * 2000 + b"\n", b"one\n--c\n\0\n--c--\n"])
def test_a_multipart_without_parts_becomes_text(body):
    out = unstuffed(sent(PARTS_OF_B + b"\n" + body, eightbit=False, bdat=False))
    legal(out, ascii_only=True)
    message = email.message_from_bytes(out, policy=email.policy.SMTP)
    assert message.get_content_type() == "text/plain"
    assert message.get_payload(decode=True).replace(b"\r\n", b"\n") == body
    # One that needs no change is left alone.
    assert b"multipart/mixed" in sent(PARTS_OF_B + b"\nno part at all\n")


@pytest.mark.parametrize("body", [b"a\rb\n", b"a\0b\n", b"x" * 2000 + b"\n", "grün\n".encode()])
@pytest.mark.parametrize("kind", [b"text/plain", b"application/x-thing"])
def test_an_encoding_that_is_not_known_is_carried_in_one_that_is(body, kind):
    head = HEADER + b"MIME-Version: 1.0\nContent-Type: " + kind + b"\nContent-Transfer-Encoding: X-Uuencode\n\n"
    out = unstuffed(sent(head + body, eightbit=False, bdat=False))
    legal(out, ascii_only=True)
    message = email.message_from_bytes(out, policy=email.policy.SMTP)
    assert message["X-Original-Content-Transfer-Encoding"] == "x-uuencode"
    assert message.get_payload(decode=True).replace(b"\r\n", b"\n") == body
    # One that needs no change is left alone.
    fit = head + b"begin 644 a\n#0V%T\n`\nend\n"
    assert sent(fit, eightbit=False) == fit.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("boundary", [b"a\0b", b"a\rb", "gr\xfcn".encode()])
def test_a_boundary_that_no_header_can_carry_parts_nothing(boundary):
    data = HEADER + b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"" + boundary + b"\"\n\n"
    data += b"--" + boundary + b"\n\none\n--" + boundary + b"--\n"
    out = unstuffed(sent(data, eightbit=False, bdat=False))
    legal(out, ascii_only=True)
    message = email.message_from_bytes(out, policy=email.policy.SMTP)
    assert message.get_content_type() == "text/plain"
    assert message.get_payload(decode=True).replace(b"\r\n", b"\n") == data.partition(b"\n\n")[2]


def test_a_boundary_with_a_carriage_return_is_read_as_it_will_be():
    data = HEADER + b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\rb\n\n--b\n\ngr\xc3\xbcn\n--b--\n"
    for eightbit in (True, False):
        out = sent(data, eightbit=eightbit)
        legal(out)
        (part,) = email.message_from_bytes(out, policy=email.policy.SMTP).get_payload()
        assert part.get_payload(decode=True).replace(b"\r\n", b"\n") in (b"gr\xc3\xbcn", b"gr\xc3\xbcn\n")


@pytest.mark.parametrize("body", [b"Status: a\rb\n", b"Status: a\0b\n", b"Status: " + b"x" * 2000 + b"\n"])
def test_a_report_s_fields_that_no_relay_takes_are_encoded_all_the_same(body):
    head = HEADER + b"MIME-Version: 1.0\nContent-Type: message/delivery-status\n\n"
    out = sent(head + body)
    legal(out)
    assert quopri.decodestring(out.partition(b"\r\n\r\n")[2]).replace(b"\r\n", b"\n") == body
    fit = head + "Status: grün\n".encode()
    assert sent(fit, eightbit=False).endswith("\r\n\r\nStatus: grün\r\n".encode())  # RFC 2046 5.2


def test_a_type_with_a_nul_in_it_is_read_as_it_will_be():
    """It becomes a blank on the wire; what is message/rfc822 there is converted as such."""
    data = HEADER + b"MIME-Version: 1.0\nContent-Type: message\0/rfc822\n\nSubject: inner\n\ngr\xc3\xbcn\n"
    out = sent(data, eightbit=False)
    legal(out, ascii_only=True)
    assert b"\r\nContent-Type: message /rfc822\r\n" in out
    assert b"\r\n\r\nSubject: inner\r\n" in out
    assert out.endswith(b"\r\n\r\ngr=C3=BCn\r\n")


def test_preamble_and_epilogue_are_made_fit_and_the_delimiters_stay():
    data = (
        PARTS_OF_B.replace(b'"b"', b'"=_b"') + b"\npre\0\xff" + b"y" * 2000 + b"\n--=_b\n\nhello\n--=_b--\nepi\r\xff" + b"z" * 2000
    )
    out = unstuffed(sent(data, eightbit=False, bdat=False))
    legal(out, ascii_only=True)
    assert leaves(out) == [b"hello"]
    assert out.count(b"\r\n--=_b\r\n") == out.count(b"\r\n--=_b--\r\n") == 1
    again = quopri.decodestring(out.replace(b"\r\n", b"\n"))
    assert b"pre\0\xff" + b"y" * 2000 in again
    assert b"epi\r\xff" + b"z" * 2000 in again


@pytest.mark.parametrize("filler", [b"x", b"\r"])
@pytest.mark.parametrize("encoding", [b"", b"Content-Transfer-Encoding: quoted-printable\n"])
def test_a_soft_break_makes_no_delimiter(encoding, filler):
    # Long lines are broken somewhere before `--b--`; wherever that is, the part goes on behind it.
    for width in range(60, 160):
        text = b"\xff" + filler * width + b"--b--\n" + b"x" * 1100 + b"\nthe end"
        data = PARTS_OF_B + b"\n--b\n" + encoding + b"\n" + text + b"\n--b--\n"
        out = unstuffed(sent(data, eightbit=False, bdat=False))
        (part,) = leaves(out)
        assert part.replace(b"\r\n", b"\n") == text


def test_a_soft_break_between_pieces_of_an_endless_line_makes_no_delimiter():
    text = b"x" * (2 << 16) + b"--b\nthe end"  # encoded in pieces of 64 KB
    (part,) = leaves(sent(PARTS_OF_B + b"\n--b\n\n" + text + b"\n--b--\n"))
    assert part.replace(b"\r\n", b"\n") == text


def test_an_equals_sign_that_starts_nothing_hides_nothing():
    data = HEADER + b"Content-Transfer-Encoding: quoted-printable\n\na=\0\0b=ZZ=3D\xff=\nc\n"
    out = sent(data, eightbit=False)
    legal(out, ascii_only=True)
    assert leaves(out) == [b"a=\0\0b=ZZ=\xffc\r\n"]


def test_a_field_name_that_no_line_can_hold_is_text():
    data = b"x" * 950 + b": y\nz\n"
    assert headers.read(iter([data, b""]).__next__) == ([], data)
