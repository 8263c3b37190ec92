"""Line 1 of a spool file: written bare, read back equal, and never guessed at."""

import json

import pytest

from dma_runtime.envelope import STEP, Envelope, Recipient, decode, encode, reserved
from dma_runtime.errors import BrokenMessage


def envelope():
    made = Envelope("abc123", 'o"brien@example.org', [Recipient("a@b.example"), Recipient("x", "alias")], 1e9 + 0.25)
    made.uid, made.login, made.message_id, made.bounce_of = 1000, "ada", "<1@x>", ""
    made.size, made.header_end, made.longest_line = 12345, 200, 77
    made.has_8bit, made.has_nul = True, False
    made.up, made.boot = 12.5, "0123abcd"
    return made


def everything(value):
    return {name: getattr(value, name) for name in value.__slots__}


def test_line_1_comes_back_as_it_was():
    made = envelope()
    made.recipients.append(Recipient("bad", "bad", "no such user"))
    made.queue_only = True
    made.ret, made.envid = "full", "my \"name\" grüße"
    made.recipients[0].notify, made.recipients[1].orcpt = "success,delay", "rfc822;who@else.example"
    assert everything(decode(encode(made))) == everything(made)


def test_it_is_json_for_other_programs():
    said = json.loads(encode(envelope(), 1024))
    assert said["recipients"] == [["a@b.example"], ["x", "alias"]]
    assert said["size"] == 12345


def test_bytes_that_are_not_utf8_survive():
    made = envelope()
    made.sender = b"\xff\xfe\xe9@x".decode("utf-8", "surrogateescape")
    made.recipients = [Recipient("grüße@bücher.example"), Recipient("\U0001f4ec@x")]
    back = decode(encode(made))
    assert back.sender.encode("utf-8", "surrogateescape") == b"\xff\xfe\xe9@x"
    assert back.recipients == made.recipients


def test_padding_keeps_the_length_and_one_line():
    line = encode(envelope(), 1024)
    assert len(line) == 1024
    assert line.endswith(b" \n")
    assert line.count(b"\n") == 1
    assert line.isascii()


def test_what_is_kept_holds_the_largest_numbers():
    made = Envelope("abc123", "", [Recipient("a@b")], 0.0)
    length = reserved(made)
    assert length % STEP == 0
    made.size = made.header_end = made.longest_line = 10**15 - 1
    made.accepted_at = made.up = 1234567890.1234567
    made.boot = "01234567"
    made.has_8bit = made.has_nul = True
    assert len(encode(made, length)) == length


def test_too_long_for_what_is_kept_is_an_error():
    with pytest.raises(ValueError, match="line 1 takes"):
        encode(envelope(), 100)


def without(key):
    said = json.loads(encode(envelope()))
    del said[key]
    return said


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0" * 256,
        b"[]\n",
        b"null",
        b"\xff\xfe{}",
        encode(envelope())[:-40],
        *(json.dumps(without(key)).encode() for key in json.loads(encode(envelope()))),
        json.dumps({**without("v"), "v": 2}).encode(),
        json.dumps({**without("size"), "size": "1"}).encode(),
        json.dumps({**without("recipients"), "recipients": []}).encode(),
        json.dumps({**without("recipients"), "recipients": ["a@b"]}).encode(),
        json.dumps({**without("recipients"), "recipients": [["a", "b", "c", "d"]]}).encode(),
        json.dumps({**without("v"), "v": 1, "ret": 1}).encode(),
        json.dumps({**without("v"), "v": 1, "envid": None}).encode(),
        json.dumps({**without("v"), "v": 1, "notify": ["never"]}).encode(),
        json.dumps({**without("v"), "v": 1, "orcpt": "rfc822;a@b"}).encode(),
        json.dumps({**without("v"), "v": 1, "notify": [1, 2]}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_bad_line_is_broken_never_a_guess(line):
    with pytest.raises(BrokenMessage):
        decode(line)


def test_keys_of_the_future_are_passed_over():
    said = {**json.loads(encode(envelope())), "requiretls": True}
    assert everything(decode(json.dumps(said).encode())) == everything(envelope())


def test_a_message_without_wishes_is_written_as_by_the_first_version():
    """So that either version reads what the other wrote."""
    assert set(json.loads(encode(envelope()))) & {"ret", "envid", "notify", "orcpt"} == set()


def test_what_is_kept_holds_the_wishes_too():
    made = Envelope("abc123", "", [Recipient("a@b", notify="never", orcpt="rfc822;" + "x" * 300)], 0.0)
    made.envid = "e" * 100
    length = reserved(made)
    made.size = 10**15 - 1
    assert len(encode(made, length)) == length


@pytest.mark.parametrize(
    ("notify", "asked"),
    [
        ("", {"failure", "delay"}),
        ("never", set()),
        ("success", {"success"}),
        ("success,failure,delay", {"success", "failure", "delay"}),
        ("delay", {"delay"}),
    ],
)
def test_what_a_sender_asks_to_be_told_of(notify, asked):
    recipient = Recipient("a@b", notify=notify)
    assert {event for event in ("success", "failure", "delay") if recipient.asks(event)} == asked
