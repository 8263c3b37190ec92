"""Bytes from a program, made into a message with LF line ends, wherever the chunks end."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dma_runtime.message.intake import Intake


def taken(data, *, ignore_dots=False, cut=1 << 20):
    chunks = iter([data[at : at + cut] for at in range(0, len(data), cut)])
    intake = Intake(lambda: next(chunks, b""), ignore_dots=ignore_dots)
    out = []
    while chunk := intake.read():
        out.append(chunk)
    assert intake.read() == b""
    return b"".join(out), intake.bare_cr


@pytest.mark.parametrize(
    ("data", "expected", "bare"),
    [
        (b"a\nb\n", b"a\nb\n", False),
        (b"a\r\nb\r\n", b"a\nb\n", False),
        (b"a\r\n\nb\n", b"a\n\nb\n", False),
        (b"a\rb\n", b"a\rb\n", True),
        (b"a\n.\nb\rc", b"a\n", False),  # what stands behind the end is not the message's
        (b"a\r\r\n\r\r\n", b"a\n\n", False),
        (b"a\r", b"a\r", True),
        (b"", b"", False),
        (b"\0\xff", b"\0\xff", False),
        (b"no end", b"no end", False),
    ],
)
@pytest.mark.parametrize("cut", [1, 2, 3, 100])
def test_line_ends(data, expected, bare, cut):
    assert taken(data, cut=cut) == (expected, bare)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\n.\nb\n", b"a\n"),
        (b"a\r\n.\r\nb\r\n", b"a\n"),
        (b".\n", b""),
        (b"a\n.", b"a\n"),
        (b"a\n..\n.b\nc.\n", b"a\n..\n.b\nc.\n"),
        (b"\n.\n", b"\n"),
        (b"a.\n", b"a.\n"),
        (b".a\n.", b".a\n"),
    ],
)
@pytest.mark.parametrize("cut", [1, 2, 3, 100])
def test_a_lone_dot_ends_the_message(data, expected, cut):
    assert taken(data, cut=cut)[0] == expected


@pytest.mark.parametrize("cut", [1, 2, 3, 100])
def test_dots_are_kept_with_i(cut):
    assert taken(b"a\n.\nb\n.", ignore_dots=True, cut=cut)[0] == b"a\n.\nb\n."


def test_nothing_is_read_behind_the_dot():
    chunks = iter([b"a\n.\n"])

    def read():
        return next(chunks)  # a second call would raise StopIteration

    intake = Intake(read, ignore_dots=False)
    assert intake.read() == b"a\n"
    assert intake.read() == b""


def by_lines(data):
    """The same, slowly: the whole input at once."""
    lines = re.sub(rb"\r+\n", b"\n", data).split(b"\n")
    if b"." in lines:
        return b"".join(line + b"\n" for line in lines[: lines.index(b".")])
    return b"\n".join(lines)


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\n.\n", b"\0"]), max_size=25).map(b"".join),
    st.integers(1, 7),
)
@example(b"\n.\r", 1)
def test_chunks_make_no_difference(data, cut):
    assert taken(data, cut=cut)[0] == by_lines(data)
    assert taken(data, cut=cut, ignore_dots=True)[0] == re.sub(rb"\r+\n", b"\n", data)
