"""The hand-over protocol: frames however they are cut, lengths that lie, garbage, versions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dma_runtime import frames, request
from dma_runtime.frames import BadFrame, Body, Parser
from dma_runtime.request import Request

KINDS = {"do": str, "on": bool, "names": list, "env": dict, "n": int, "at": float}


def read(**fields):
    return frames.read_object(json.dumps(fields).encode(), KINDS)


def all_frames(parser, pieces):
    return [found for piece in pieces for found in parser.feed(piece)]


@given(
    st.lists(st.tuples(st.sampled_from([b"H", b"D", b"A", b"O", b"L", b"S"]), st.binary(max_size=200)), max_size=8),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_frames_do_not_depend_on_how_the_bytes_are_cut(wanted, cuts):
    data = b"".join(frames.frame(kind, payload) for kind, payload in wanted)
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    pieces.append(data)
    parser = Parser()
    assert all_frames(parser, pieces) == wanted
    assert parser.waiting == 0


@given(st.binary(max_size=400))
def test_garbage_is_frames_or_bad_never_anything_else(data):
    parser = Parser()
    try:
        for kind, payload in parser.feed(data):
            assert kind in (b"H", b"D", b"C", b"A", b"O", b"L", b"R", b"S")
            assert len(payload) <= 1 << 20
    except BadFrame:
        return
    assert parser.waiting <= len(data)


@pytest.mark.parametrize("kind", [b"H", b"D", b"C", b"S", b"x"])
def test_a_length_beyond_the_kinds_limit_is_refused_before_anything_is_kept(kind):
    parser = Parser()
    with pytest.raises(BadFrame):
        all_frames(parser, [kind + b"\xff\xff\xff\xff"])
    assert parser.waiting <= 5


@pytest.mark.parametrize("start", [b"GET / HTTP/1.0\r\n\r\n", b"\0\0\0\0", b"EHLO x\r\n", b"\xff", b"Z\0\0\0\0"])
def test_what_is_no_frame_is_refused_at_its_first_byte(start):
    with pytest.raises(BadFrame):
        all_frames(Parser(), [start[:1]])


def test_a_frame_of_a_later_version_is_passed_over_when_it_says_so():
    later = b"x\0\0\0\2hi"
    assert all_frames(Parser(), [later + frames.frame(b"S", b"0 ")]) == [(b"S", b"0 ")]


def test_nothing_is_sent_that_the_other_side_would_refuse():
    with pytest.raises(ValueError, match="a frame D"):
        frames.frame(b"D", bytes((1 << 18) + 1))


# ---------------------------------------------------------------- the message


def test_a_message_is_whole_with_a_true_commit():
    body = Body()
    assert body.take(b"D", b"ab") + body.take(b"D", b"c") + body.take(b"C", b"3") == b"abc"
    assert (body.whole, body.size) == (True, 3)


@pytest.mark.parametrize("count", [b"2", b"4", b"-3", b"", b"3 ", b"\xb2", b"0x3"])
def test_a_count_that_lies_is_refused(count):
    body = Body()
    body.take(b"D", b"abc")
    with pytest.raises(BadFrame):
        body.take(b"C", count)
    assert not body.whole


def test_nothing_may_stand_inside_or_behind_a_message():
    with pytest.raises(BadFrame, match="inside a message"):
        Body().take(b"H", b"{}")
    body = Body()
    body.take(b"C", b"0")
    with pytest.raises(BadFrame, match="behind the commit"):
        body.take(b"D", b"x")


# ---------------------------------------------------------------- objects


def test_an_object_keeps_what_is_known_and_passes_over_the_rest():
    assert read(v=7, do="x", on=True, names=["a"], env={"A": "b"}, n=3, at=1, later=[1]) == {
        "do": "x", "on": True, "names": ["a"], "env": {"A": "b"}, "n": 3, "at": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"do": 1}, {"do": None}, {"on": 1}, {"on": "yes"}, {"names": "a"}, {"names": [1]}, {"names": [["a"]]},
        {"env": ["a"]}, {"env": {"A": 1}}, {"n": True}, {"n": 1.5}, {"n": 1 << 60}, {"at": "1"}, {"at": float("nan")},
        {"at": float("inf")},
        {"do": "\ud800"}, {"names": ["\udfff"]}, {"env": {"\ud801": "x"}}, {"v": "1"}, {"v": 0}, {"v": True}, {"v": None},
        {"needs": "x"}, {"needs": ["what-only-a-later-version-knows"]}, {"needs": [1]},
    ],
)  # fmt: skip
def test_values_of_the_wrong_kind_are_refused(fields):
    with pytest.raises(BadFrame):
        read(**{"v": 1, **fields})


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"1", b"{", b'{"v":1', b"\xff\xfe", b"[" * 100_000, b'{"v":' + b"9" * 10_000 + b"}", b'{"a":' * 50_000],
)
def test_what_is_no_object_is_refused(payload):
    with pytest.raises(BadFrame):
        frames.read_object(payload, KINDS)


def test_what_is_not_utf8_comes_back_as_the_command_line_has_it():
    assert read(v=1, do="\udcff")["do"] == "\udcff"
    assert read(v=1, do="\udcc3\udca9")["do"] == "é"  # bytes that are UTF-8 after all


@given(st.binary(max_size=300))
def test_any_header_frame_is_a_request_or_bad(payload):
    try:
        assert isinstance(request.decode(payload), Request)
    except BadFrame:
        pass


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.just("\udcff\udc80@x")


@given(TEXT, st.none() | TEXT, st.lists(TEXT, max_size=5), st.booleans(), st.booleans())
def test_a_request_arrives_as_it_was(name, sender, recipients, extract, terminal):
    asked = Request()
    asked.name, asked.sender, asked.recipients = name, sender, recipients
    asked.extract, asked.terminal = extract, terminal
    asked.environ = {"EMAIL": name}
    ((kind, payload),) = Parser().feed(request.encode(asked))
    assert kind == frames.HEADER
    assert payload.isascii()
    assert request.decode(payload) == asked


def test_a_newer_client_is_understood_and_an_older_one_too():
    newer = request.decode(b'{"v":9,"do":"submit","recipients":["a@x"],"colour":{"deep":[1,2]},"needs":[]}')
    assert newer.recipients == ["a@x"]
    assert request.decode(b'{"v":1}') == Request()
    with pytest.raises(BadFrame, match=r"does not know 'colour', which version 9 asks for"):
        request.decode(b'{"v":9,"needs":["colour"]}')


def test_only_what_identity_may_use_is_taken_of_the_environment():
    assert request.decode(b'{"v":1,"environ":{"LOGNAME":"a","LD_PRELOAD":"x"}}').environ == {"LOGNAME": "a"}


def test_a_status_is_a_number_and_a_line():
    ((_, payload),) = Parser().feed(frames.status(75, "später \udcff"))
    assert frames.read_status(payload) == (75, "später \\udcff")
    for bad in (b"", b"x y", b"256 no", b"-1 no", b"0075 x"):
        with pytest.raises(BadFrame):
            frames.read_status(bad)
