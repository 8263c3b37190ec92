"""mboxrd's quoting: reversible, the same for every way to cut the message, in constant memory."""

import re
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dma_runtime.message import mboxrd

WHEN = time.gmtime(1_795_375_321)


def quote_simply(data):
    return re.sub(rb"(?m)^(>*From )", rb">\1", data)


@pytest.mark.parametrize(
    ("plain", "quoted"),
    [
        (b"From me\n", b">From me\n"),
        (b">From me\n", b">>From me\n"),
        (b">>>From \n", b">>>>From \n"),
        (b"From: me\n", b"From: me\n"),
        (b"from me\n", b"from me\n"),
        (b" From me\n", b" From me\n"),
        (b"a\nFrom b", b"a\n>From b"),
        (b"a From b\n>F", b"a From b\n>F"),
        (b"\r\nFrom b\r\nFrom", b"\r\n>From b\r\nFrom"),
        (b"", b""),
    ],
)
def test_what_is_quoted(plain, quoted):
    assert b"".join(mboxrd.quoted([plain])) == quoted
    assert b"".join(mboxrd.quoted([plain[i : i + 1] for i in range(len(plain))])) == quoted


pieces = st.lists(
    st.sampled_from([b"From ", b"From", b"Fro", b"F", b"m", b" ", b">", b">>", b"\n", b"\n\n", b"x", b"\r", b""])
)


@given(pieces)
def test_cuts_do_not_matter(chunks):
    """However the message is cut, each line gets what one pass over the whole would give it."""
    assert b"".join(mboxrd.quoted(chunks)) == quote_simply(b"".join(chunks))


@given(pieces)
def test_quoting_is_reversible(chunks):
    data = b"".join(chunks)
    assert re.sub(rb"(?m)^>(>*From )", rb"\1", b"".join(mboxrd.quoted(chunks))) == data


def test_a_line_of_nothing_but_quotes_is_not_held_back():
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in mboxrd.quoted(b">" * 65536 for _ in range(400)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 400 * 65536
    assert peak < 1_000_000


def test_the_from_line_is_asctime():
    assert mboxrd.from_line("a@x.test", WHEN) == b"From a@x.test " + time.asctime(WHEN).encode() + b"\n"
    assert mboxrd.from_line("", WHEN).startswith(b"From MAILER-DAEMON Sun Nov 22 ")
    early = time.gmtime(1_793_500_000)
    assert mboxrd.from_line("a@x", early) == b"From a@x " + time.asctime(early).encode() + b"\n"


def test_no_address_adds_a_line_or_a_word():
    line = mboxrd.from_line('"a b\n\x00c"@x', WHEN)
    assert line.count(b"\n") == 1
    assert len(line.split()) == 7
    assert mboxrd.trace("a\r\nX: 1@x", "b\x1b@y").count(b"\n") == 2
    assert "bücher".encode() in mboxrd.trace("bücher@x", "b")
    assert b"\xff@x" in mboxrd.trace("\udcff@x", "b")


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"\nFrom", b"\n>"])
def test_an_entry_ends_in_an_empty_line(end):
    data = b"".join(mboxrd.mbox_entry("a@x", "b", WHEN, [b"Subject: x\n\nbody", end]))
    assert data.startswith(b"From a@x ")
    assert data.split(b"\n")[1:3] == [b"Return-Path: <a@x>", b"Delivered-To: b"]
    assert data.endswith(b"\n\n")
    assert b"body" + end in data
