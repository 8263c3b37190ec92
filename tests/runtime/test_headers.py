"""The header of a submitted message: found whatever comes, completed as RFC 5322 and C dma have it."""

import email
import email.policy
import re
import time
from email.header import decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dma_runtime.errors import DataError
from dma_runtime.message import headers

NOW = 1_700_000_000.0
STAMP = "Tue, 14 Nov 2023 22:13:20 +0000"


def read(data, cut=1 << 20):
    chunks = iter([data[at : at + cut] for at in range(0, len(data), cut)])
    more = lambda: next(chunks, b"")  # noqa: E731
    fields, body = headers.read(more)
    return fields, body + b"".join(chunks)


def facts(**changes):
    found = headers.Facts(id="0abc", sender="alice@here.test", mailname="here.test", hostname="box", now=NOW, stamp=STAMP)
    found.login, found.uid, found.version = "alice", 1000, "9.9"
    found.dice = lambda n: b"\x01" * n
    for name, value in changes.items():
        assert hasattr(found, name)
        setattr(found, name, value)
    return found


def completed(data, **changes):
    fields, _ = read(data)
    header, message_id = headers.complete(fields, facts(**changes))
    assert header.endswith(b"\n")
    assert b"\n\n" not in header
    return header, message_id


def parsed(data, **changes):
    return email.message_from_bytes(completed(data, **changes)[0] + b"\n", policy=email.policy.default)


# ---------------------------------------------------------------- finding it


@pytest.mark.parametrize(
    ("data", "names", "body"),
    [
        (b"Subject: s\nTo: a@b\n\nbody\n", [b"subject", b"to"], b"body\n"),
        (b"Subject: s\n", [b"subject"], b""),
        (b"Subject: s", [b"subject"], b""),
        (b"", [], b""),
        (b"\n", [], b""),
        (b"\nbody\n", [], b"body\n"),
        (b"hello no header\n", [], b"hello no header\n"),
        (b"hello", [], b"hello"),
        (b" starts with a blank\n", [], b" starts with a blank\n"),
        (b"Subject: s\nnot a field\n\nx", [b"subject"], b"not a field\n\nx"),
        (b"Subject: s\n folded\n\ttwice\n\nx", [b"subject"], b"x"),
        (b"From root Mon Jan  1\nSubject: s\n\nx", [b"subject"], b"x"),
        (b"From root Mon\n>From bob Tue\nSubject: s\n\nx", [b"subject"], b"x"),
        (b"From root Mon\nhello\n", [], b"hello\n"),
        (b"Subject : s\n\nx", [b"subject"], b"x"),
        (b"Two words: s\n\nx", [], b"Two words: s\n\nx"),
        (b"S\xc3\xbcbject: s\n\nx", [], b"S\xc3\xbcbject: s\n\nx"),
        (b": no name\n", [], b": no name\n"),
        (b"A:\nB:\n\n", [b"a", b"b"], b""),
    ],
)
@pytest.mark.parametrize("cut", [1, 2, 5, 100])
def test_where_the_header_ends(data, names, body, cut):
    fields, rest = read(data, cut)
    assert [field.name for field in fields] == names
    assert rest == body


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([b"A: b", b"\n", b" x", b"From y", b":", b"\xff", b"\0", b"\r", b"zz"]), max_size=25).map(
        b"".join
    ),
    st.integers(1, 9),
)
def test_no_byte_gets_lost_between_header_and_body(data, cut):
    fields, body = read(data, cut)
    head = b"".join(field.raw + b"\n" for field in fields)
    missing_end = data + (b"\n" if not data.endswith(b"\n") else b"")
    rest = missing_end
    while rest.startswith((b"From ", b">From ")):
        rest = rest[rest.index(b"\n") + 1 :]
    assert rest.startswith(head)
    assert rest[len(head) :].removesuffix(b"\n") in (body.removesuffix(b"\n"), b"\n" + body.removesuffix(b"\n"), b"")
    assert body == read(data)[1]


def test_a_body_without_header_and_line_end_is_not_collected():
    calls = []

    def more():
        calls.append(1)
        return b"x" * 5000

    fields, body = headers.read(more)
    assert fields == []
    assert body == b"x" * 5000
    assert len(calls) == 1


def test_a_long_line_in_small_pieces_is_read_in_time():
    # A client of the machine's daemon chooses the pieces.
    line = b"To: " + b"a@x.test, " * 80_000
    pieces = iter([line[at : at + 1] for at in range(len(line))])
    began = time.process_time()
    (field,), _ = headers.read(lambda: next(pieces, b""))
    assert field.raw == line
    assert time.process_time() - began < 2  # the time grew with the square of the length


def test_five_megabytes_of_header_are_taken():
    data = b"".join(b"X-Line-%d: %s\n" % (n, b"y" * 80) for n in range(55_000)) + b"\nbody"
    began = time.process_time()
    fields, body = read(data, 1 << 16)
    assert len(fields) == 55_000
    assert body == b"body"
    assert time.process_time() - began < 5
    fields, body = read(b"To: " + b"a@b,\n " * 800_000 + b"c@d\n\nbody", 1 << 16)
    assert len(headers.recipients(fields)) == 800_001


@pytest.mark.parametrize("data", [b"X-Long: " + b"y" * 20_000_000, (b"X: " + b"y" * 400 + b"\n") * 50_000])
def test_a_header_without_end_is_refused(data):
    with pytest.raises(DataError, match="header is larger than 16 MB"):
        read(data, 1 << 16)


def test_in_a_daemon_for_everybody_a_megabyte_is_taken_and_a_line_counts_for_what_it_takes_to_hold():
    def shared(data):
        pieces = iter([data])
        return headers.read(lambda: next(pieces, b""), shared=True)

    fields, body = shared(b"To: " + b"somebody@example.org,\n " * 10_000 + b"c@d\n\nbody")
    assert (len(headers.recipients(fields)), body) == (10_001, b"body")
    for data in (b"X: " + b"y" * (1 << 20), b"a:\n" * 30_000, b"X: y\n" + b" z\n" * 30_000):
        with pytest.raises(DataError, match="header is larger than 1 MB"):
            shared(data)


# ---------------------------------------------------------------- recipients


def test_recipients_of_to_cc_and_bcc_folded_lines_included():
    fields, _ = read(b"To: a@x,\n b@x\nCc: c@x\nBcc: d@x,\n\te@x\nbcc: f@x\nReply-To: no@x\n\n")
    assert headers.recipients(fields) == ["a@x", "b@x", "c@x", "d@x", "e@x", "f@x"]


def test_recipients_of_a_resent_message_are_those_of_its_newest_block():
    fields, _ = read(
        b"Resent-From: r@x\nResent-To: new@x\nResent-Bcc: hid@x\nReceived: x\n"
        b"Resent-From: q@x\nResent-To: old@x\nTo: a@x\n\n"
    )
    assert headers.recipients(fields) == ["new@x", "hid@x"]


def test_a_repeated_name_starts_an_older_block():
    fields, _ = read(b"Resent-To: new@x\nResent-From: r@x\nResent-To: old@x\nResent-Cc: older@x\n\n")
    assert headers.recipients(fields) == ["new@x"]


# ---------------------------------------------------------------- completing


def test_missing_fields_are_added_at_the_end_in_order():
    header, message_id = completed(b"Subject: s\n\n")
    names = [line.split(b":")[0] for line in header.split(b"\n") if line and line[:1] != b"\t"]
    assert names == [b"Received", b"Subject", b"Date", b"Message-Id", b"From"]
    assert message_id == "<6553f100.0abc.01010101@here.test>"
    assert b"\nMessage-Id: " + message_id.encode() + b"\n" in header
    assert b"\nDate: " + STAMP.encode() + b"\n" in header
    assert b"\nFrom: <alice@here.test>\n" in header


def test_fields_that_are_there_stay_byte_for_byte():
    given_header = b"Date: Mon,  1 Jan 2001 00:00:00 +0000\nMESSAGE-ID:\n <mine@x>\nfrom:  Me\t<me@x>\nX-Odd : \xff\n"
    header, message_id = completed(given_header + b"\n")
    assert header.partition(STAMP.encode() + b"\n")[2] == given_header
    assert message_id == "<mine@x>"


def test_empty_fields_count_as_missing():
    header, _ = completed(b"Date:\nFrom: \nMessage-ID:\n\n")
    assert header.count(b"Date:") == header.count(b"From:") == header.count(b"Message-Id:") == 1
    assert b"Message-ID:" not in header


def test_the_trace_field_is_rfc_5321s():
    header, _ = completed(b"\n")
    value = header.partition(b"\nDate")[0].decode()
    assert value == (
        "Received: from alice (uid 1000)\n\tby here.test (dma 9.9 on box)\n\twith local id 0abc\n"
        "\t(envelope-from <alice@here.test>);\n\tTue, 14 Nov 2023 22:13:20 +0000"
    )
    flat = re.sub(r"\([^)]*\)", "", value.replace("\n", ""))
    assert re.fullmatch(r"Received: from\s+\S+\s+by\s+\S+\s+with\s+\S+\s+id\s+\S+\s*;\s+.+", flat)


def test_the_trace_field_says_a_domain_beyond_ascii_in_ascii():
    """Nothing in it can be encoded on the way to a relay without SMTPUTF8."""
    header, _ = completed(b"From: a@x\n\n", sender="bob@bücher.test")
    assert b"(envelope-from <bob@xn--bcher-kva.test>)" in header
    assert header.isascii()


def test_hideuser_keeps_login_and_uid_out():
    header, _ = completed(b"\n", hide_user=True, sender="x@y")
    assert b"alice" not in header
    assert b"1000" not in header
    assert b"from localhost\n" in header


def test_an_odd_login_and_sender_cannot_break_the_trace_field():
    header, _ = completed(b"\n", login="a b(c\u00fc", sender='"a)("@x')
    assert b"from a_b_c_ (uid 1000)" in header
    assert b'(envelope-from <"a\\)\\("@x>)' in header


@pytest.mark.parametrize(
    "hidden",
    [b"Bcc: secret@x,\n\tfolded@secret\n", b"BCC : secret@x\n", b"Resent-Bcc: secret@x\n", b"Return-Path: <secret@x>\n"],
)
def test_what_must_not_leave_does_not(hidden):
    header, _ = completed(b"To: a@x\n" + hidden + b"Subject: s\n\n")
    assert b"secret" not in header
    assert b"folded" not in header
    assert b"\nSubject: s\n" in header


def test_the_full_name():
    assert parsed(b"\n", full_name="Cron Daemon")["From"] == "Cron Daemon <alice@here.test>"
    assert parsed(b"\n", full_name='O"Brien, J. \\ x')["From"].addresses[0].display_name == 'O"Brien, J. \\ x'
    header, _ = completed(b"\n", full_name="Jörg " + "ü" * 60)
    assert max(map(len, header.split(b"\n"))) <= 78
    words = header.partition(b"\nFrom:")[2].replace(b"\n", b"").partition(b"<")[0].decode()
    assert str(make_header(decode_header(words.strip()))) == "Jörg " + "ü" * 60
    header, _ = completed(b"\n", full_name="a\r\nBcc: x@y")
    assert b"\nBcc" not in header
    assert completed(b"From: x@y\n\n", full_name="Nobody")[0].count(b"Nobody") == 0


def test_the_null_sender_has_an_author_all_the_same():
    assert b"\nFrom: <MAILER-DAEMON@here.test>\n" in completed(b"\n", sender="")[0]


def test_a_resent_message_gets_what_its_block_lacks():
    header, _ = completed(b"Resent-To: b@x\nDate: d\nFrom: f@x\nMessage-ID: <m@x>\n\n")
    names = [line.split(b":")[0] for line in header.split(b"\n") if line and line[:1] != b"\t"]
    assert names == [
        b"Received",
        b"Resent-Date",
        b"Resent-Message-Id",
        b"Resent-From",
        b"Resent-To",
        b"Date",
        b"From",
        b"Message-ID",
    ]


# ---------------------------------------------------------------- rewriting


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"From: root", b"From: root@here.test"),
        (b"From: root (Cron Daemon)", b"From: root@here.test (Cron Daemon)"),
        (b'From: "Root" <root>', b'From: "Root" <root@here.test>'),
        (b"To: root, bob@x,\n admin", b"To: root@here.test, bob@x,\n admin@here.test"),
        (b"Cc: G: a, b@x;", b"Cc: G: a@here.test, b@x;"),
        (b"To: undisclosed-recipients:;", b"To: undisclosed-recipients:;"),
        (b"Sender: daemon", b"Sender: daemon@here.test"),
        (b"Reply-To: bob@x", b"Reply-To: bob@x"),
        (b"To: John Doe", b"To: John Doe"),
        (b"To: <>", b"To: <>"),
        (b"Subject: root", b"Subject: root"),
    ],
)
def test_bare_names_get_the_mail_name(field, expected):
    assert b"\n" + expected + b"\n" in completed(field + b"\n\n")[0]


@pytest.mark.parametrize(
    ("value", "masquerade", "expected"),
    [
        (b"root@box", ("me", "x.test"), b"me@x.test"),
        (b"root", ("me", "x.test"), b"me@x.test"),
        (b"Root <root@LOCALHOST>", ("", "x.test"), b"Root <root@x.test>"),
        (b"root@here.test (Cron)", ("me", ""), b"me@here.test (Cron)"),
        (b"else@elsewhere.test", ("me", "x.test"), b"else@elsewhere.test"),
    ],
)
def test_masquerade_rewrites_this_machines_own_and_keeps_the_original(value, masquerade, expected):
    header, _ = completed(b"From: " + value + b"\n\n", masquerade=masquerade)
    assert b"\nFrom: " + expected + b"\n" in header
    assert (b"\nX-Original-From: " + value + b"\n" in header) == (value != expected)


def test_rewritefrom_takes_every_author():
    header, _ = completed(b"From: X <else@elsewhere.test>\n\n", masquerade=("me", "x.test"), rewrite_from=True)
    assert b"\nFrom: X <me@x.test>\nX-Original-From: X <else@elsewhere.test>\n" in header


def test_no_original_is_kept_when_only_the_domain_was_missing():
    assert b"X-Original-From" not in completed(b"From: root\n\n")[0]


def test_a_signed_header_is_not_changed():
    signed = b"DKIM-Signature: v=1; h=From : To:\n Date:message-id; b=x\nFrom: root\nTo: bob\n"
    header, _ = completed(signed + b"\n", masquerade=("me", "x"))
    assert header.endswith(signed)  # not even Date and Message-Id, which it covers, are added


def test_an_empty_field_of_signed_mail_stays_and_is_not_made_up():
    signed = b"DKIM-Signature: v=1; h=from:message-id; b=x\nFrom: a@x\nMessage-Id:\n"
    header, _ = completed(signed + b"Date: \n\n")
    assert header.endswith(signed + b"Date: " + STAMP.encode() + b"\n")  # the date is not covered


def test_what_a_signature_does_not_cover_is_added():
    header, _ = completed(b"DKIM-Signature: v=1; h=from\nFrom: a@b\n\n")
    assert b"\nDate: " in header
    assert b"\nMessage-Id: " in header


@pytest.mark.parametrize("value", [b"a\0b@x", b"a\rb@x", b"<a\0@x>"])
def test_controls_in_an_address_are_refused(value):
    with pytest.raises(DataError, match="invalid address in header"):
        completed(b"To: " + value + b"\n\n")


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [b"From", b"To", b"Bcc", b":", b" ", b"\n", b"root", b"@", b"a@b", b"<", b">", b'"', b"(", b",", b"\xff"]
        ),
        max_size=30,
    ).map(b"".join),
    st.booleans(),
)
def test_any_header_is_completed_and_stays_one(data, masquerade):
    # What comes out is one header: it reads back as fields only, with exactly one Received, no Bcc, and at least a From.
    header, _ = completed(data, masquerade=("me", "x") if masquerade else None)
    fields, rest = read(header + b"\nbody")
    assert rest == b"body"
    names = [field.name for field in fields]
    assert names.count(b"received") == 1
    assert b"bcc" not in names
    assert {b"date", b"from", b"message-id"} <= set(names)


def test_the_date_is_rfc_5322s():
    assert headers.date((2026, 3, 1, 4, 5, 6, 6), -12_600) == "Sun, 01 Mar 2026 04:05:06 -0330"
    assert headers.date((2026, 3, 1, 4, 5, 6, 6), 20_700) == "Sun, 01 Mar 2026 04:05:06 +0545"
