"""The report: golden files, read back by strict parsers and by bounce parsers, and what outsiders may not break."""

import email
import email.policy
import io
import os
import pathlib
import tracemalloc

import pytest
from flufl.bounce import all_failures
from hypothesis import given, settings
from hypothesis import strategies as st

from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.errors import BrokenMessage
from dma_runtime.message import dsn
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, Outcome

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
HEADER = b"From: alice@box.test\nTo: bob@x.test\nSubject: hello\nMessage-ID: <m1@box.test>\n"
MESSAGE = HEADER + b"\nHow are you?\n"
NOW = 1_790_000_000.0


@pytest.fixture(autouse=True)
def version(monkeypatch):
    monkeypatch.setattr(dsn, "__version__", "9.9")


def envelope(message=MESSAGE, header_end=None, **facts):
    found = Envelope("01hq3kabcde4f5g6h7", "alice@box.test", [Recipient("bob@x.test")], NOW - 3600)
    found.size = len(message)
    end = message.find(b"\n\n")
    found.header_end = (end + 1 if end >= 0 else 0) if header_end is None else header_end
    found.has_8bit = not message.isascii()
    found.has_nul = b"\0" in message
    found.longest_line = max(map(len, message.split(b"\n")))
    found.message_id = "<m1@box.test>"
    for name, value in facts.items():
        setattr(found, name, value)
    return found


def refused(text="550 5.1.1 <bob@x.test>: no such user", status="5.1.1", stage="RCPT TO", **more):
    code = int(text[:3])
    return Outcome(FAILED, text, code=code, status=status, stage=stage, relay="mx.x.test [192.0.2.7]", answered=True, **more)


def fate(address="bob@x.test", outcome=None, original="", **times):
    return dsn.Fate(Recipient(address, original), outcome or refused(), **times)


def make(fates=None, message=MESSAGE, **options):
    given_envelope = options.pop("original", None) or envelope(message)
    pieces = dsn.report(
        **{
            "id": "01hq3kabcde4f5g6h7b2",
            "to": "alice@box.test",
            "original": given_envelope,
            "fates": fates or [fate(attempted_at=NOW - 5)],
            "mailname": "box.test",
            "hostname": "box",
            "now": NOW,
            "read": lambda n, at: message[at : at + n],
            **options,
        }
    )
    return b"".join(pieces)


def strict(data):
    """Parse with every defect an error; header values looked at too."""
    found = email.message_from_bytes(data, policy=email.policy.strict)
    for part in found.walk():
        for name in part.keys():  # noqa: SIM118 a Message is no dict
            for value in part.get_all(name):
                assert not value.defects, (name, value, value.defects)
    return found


def as_sisimai_does(data):
    """What sisimai's DragonFly module looks for, in its order; gives back {recipient: diagnosis}."""
    found = email.message_from_bytes(data)
    assert "Mail delivery failed" in found["Subject"]
    assert " (DragonFly Mail Agent" in found["Received"]
    body = found.get_payload(0).get_payload(decode=True).decode()
    assert body.startswith("This is the DragonFly Mail Agent ")
    text, mark, _ = body.partition("Message headers follow")
    if not mark:
        text, mark, _ = body.partition("Original message follows.")
    assert mark
    result = {}
    for block in text.split("There was an error delivering your mail to <")[1:]:
        address, _, reason = block.partition(">.")
        result[address] = reason.strip()
    return result


# ---------------------------------------------------------------- golden


def several():
    return [
        fate(attempted_at=NOW - 5),
        fate(
            "carol@y.test",
            Outcome(
                FAILED,
                "552-5.2.2 The email account that you tried to reach is over quota. Please direct\n"
                "552-5.2.2 the recipient to\n552 5.2.2  https://support.example/?p=OverQuotaPerm a1-20020 - gsmtp",
                code=552,
                status="5.2.2",
                stage="final DATA",
                relay="mx.y.test [2001:db8::1]",
            ),
            original="staff@box.test",
            attempted_at=NOW - 4,
        ),
        fate(
            "dave@z.test",
            Outcome(DEFERRED, "connection refused", stage="connect", relay="mx.z.test [192.0.2.9]"),
            given_up_after=432000,
            attempted_at=NOW - 3,
        ),
        fate("erin@nowhere.test", Outcome(FAILED, "DNS lookup failure: host nowhere.test not found", status="5.1.2")),
    ]


EIGHTBIT = "From: alice@box.test\nTo: bob@x.test\nSubject: grüße aus köln\n\nMit ß und NUL \0.\n".encode()

CASES = {
    "bounce-one": lambda: make(),
    "bounce-several": lambda: make(several()),
    "bounce-full": lambda: make(full=True),
    "bounce-full-8bit": lambda: make(message=EIGHTBIT.replace(b"\0", b"0"), full=True),
    "bounce-8bit-header": lambda: make(message=EIGHTBIT),
    "bounce-utf8": lambda: make(
        [fate("bücher@x.test", refused("550 5.1.1 kein Empfänger „bücher“"), original="büro+1@x.test")]
    ),
    "bounce-delayed": lambda: make(
        [
            fate(
                outcome=Outcome(DEFERRED, "451 4.7.1 try later", code=451, status="4.7.1", stage="RCPT TO", relay="mx [::1]")
            )
        ],
        action="delayed",
        retry_until=NOW + 86400,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    data = CASES[name]()
    path = GOLDEN / f"{name}.eml"
    if os.environ.get("DMA_WRITE_GOLDEN"):
        path.write_bytes(data)
    assert data == path.read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_golden_files_are_sound(name):
    data = (GOLDEN / f"{name}.eml").read_bytes()
    found = strict(data)
    assert found.get_content_type() == "multipart/report"
    assert found.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in found.get_payload()] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822" if "full" in name else "text/rfc822-headers",
    ]
    assert found["From"].addresses[0].addr_spec == "MAILER-DAEMON@box.test"
    assert found["To"].addresses[0].addr_spec == "alice@box.test"
    assert found["Auto-Submitted"] == "auto-replied"
    assert found["In-Reply-To"] == found["References"] == "<m1@box.test>"
    assert found["Date"].datetime.timestamp() == NOW
    for line in data.split(b"\n"):
        assert len(line) <= 998
        assert b"\r" not in line
    if name != "bounce-full-8bit":
        assert data.isascii()


# ---------------------------------------------------------------- read back


def status_groups(data):
    part = strict(data).get_payload(1)
    return [dict(group.items()) for group in part.get_payload()]


def test_status_fields_of_several_recipients():
    about, bob, carol, dave, erin = status_groups(make(several()))
    assert about["Reporting-MTA"] == "dns; box.test"
    assert about["X-DMA-Queue-ID"] == "01hq3kabcde4f5g6h7"
    assert bob["Final-Recipient"] == "rfc822; bob@x.test"
    assert "Original-Recipient" not in bob
    assert (bob["Action"], bob["Status"], bob["Remote-MTA"]) == ("failed", "5.1.1", "dns; mx.x.test")
    assert bob["Diagnostic-Code"] == "smtp; 550 5.1.1 <bob@x.test>: no such user"
    assert carol["Original-Recipient"] == "rfc822; staff@box.test"
    assert carol["Diagnostic-Code"].startswith("smtp; 552-5.2.2 The email account")
    assert carol["Diagnostic-Code"].endswith("a1-20020 - gsmtp")
    # An address that expired has no final code of its own; no server spoke, so the type is not smtp (RFC 3464 2.3.6).
    assert (dave["Action"], dave["Status"]) == ("failed", "4.4.7")
    assert dave["Diagnostic-Code"] == "X-DMA; connection refused"
    assert erin["Status"] == "5.1.2"
    assert "Remote-MTA" not in erin


def test_bounce_parsers_find_every_recipient():
    data = make(several())
    temporary, permanent = all_failures(email.message_from_bytes(data))
    # flufl.bounce names the address the sender wrote to, where there is one.
    assert permanent == {b"bob@x.test", b"staff@box.test", b"dave@z.test", b"erin@nowhere.test"}
    assert not temporary
    found = as_sisimai_does(data)
    assert set(found) == {"bob@x.test", "carol@y.test", "dave@z.test", "erin@nowhere.test"}
    wanted = "mx.x.test [192.0.2.7] did not like our RCPT TO:\n550 5.1.1 <bob@x.test>: no such user"
    assert found["bob@x.test"] == wanted
    assert "Could not deliver for the last 432000 seconds. Giving up." in found["dave@z.test"]
    assert "mx.z.test [192.0.2.9]: connection refused" in found["dave@z.test"]
    assert found["carol@y.test"].startswith("(You wrote to <staff@box.test>.)")


def test_a_delay_is_no_failure_to_bounce_parsers():
    data = make(
        [fate(outcome=Outcome(DEFERRED, "451 4.7.1 later", code=451, status="4.7.1", stage="DATA"))],
        action="delayed",
        retry_until=NOW,
    )
    temporary, permanent = all_failures(email.message_from_bytes(data))
    assert (temporary, permanent) == ({b"bob@x.test"}, set())
    group = status_groups(data)[1]
    assert (group["Action"], group["Status"]) == ("delayed", "4.7.1")
    assert "Will-Retry-Until" in group
    assert b"There was an error" not in data


def test_the_header_comes_back_as_it_was():
    part = strict(make()).get_payload(2)
    assert part.get_payload(decode=True) == HEADER


def test_an_odd_header_comes_back_as_it_was():
    header = b"Subject: gr\xfc\xdfe \r in \r\n latin\nX-Long: " + b"x" * 70000 + b" \nX-Nul: \0 .\nLast: 1\n"
    data = make(message=header + b"\nbody\n")
    assert strict(data).get_payload(2).get_payload(decode=True) == header
    assert b"\r" not in data
    assert max(map(len, data[data.rindex(b"Content-Type") :].split(b"\n"))) <= 77


def test_the_whole_message_comes_back_as_it_was():
    for message in (MESSAGE, MESSAGE + b"no newline at the end", b"\nno header\n", b"", EIGHTBIT):
        data = make(message=message, full=True)
        start = data.index(b"Content-Type: message/rfc822\n")
        start = data.index(b"\n\n", start) + 2
        assert data[start : data.rindex(b"\n--=_dma.")] == message


@pytest.mark.parametrize(
    ("message", "label"),
    [
        (MESSAGE, None),
        (HEADER + b"\n\xfc\n", "8bit"),
        (HEADER + b"\n\0\n", "binary"),
        (HEADER + b"\n" + b"x" * 999, "binary"),
    ],
)
def test_a_returned_message_is_labelled_truly(message, label):
    found = email.message_from_bytes(make(message=message, full=True))
    assert found["Content-Transfer-Encoding"] == label
    assert found.get_payload(2)["Content-Transfer-Encoding"] == label


def test_eight_bits_in_the_body_do_not_encode_a_plain_header():
    data = make(message=HEADER + b"\n\xfc\0" + b"x" * 2000)
    assert b"Content-Type: text/rfc822-headers\n\n" + HEADER in data


def test_a_long_header_line_is_seen_across_reads():
    header = b"X: " + b"y" * 65000 + b"\nZ: " + b"z" * 990 + b"\nA: 1\n"
    data = make(message=header + b"\n\n")
    assert max(map(len, data.split(b"\n"))) <= 998
    # Two reads, neither of which holds a long line alone.
    header = b"a: b\n" * 13000 + b"c: " + b"d" * 1000 + b"\n"
    assert len(header) > 65536
    assert max(map(len, make(message=header + b"\n\n").split(b"\n"))) <= 998


def test_a_message_shorter_than_it_says_is_never_guessed():
    with pytest.raises(BrokenMessage):
        make(original=envelope(MESSAGE + b"x" * 100), full=True)


def test_fifty_megabytes_take_constant_memory():
    block = b"x" * 65535 + b"\n"
    size = 800 * len(block)
    original = envelope()
    original.size = size
    tracemalloc.start()
    try:
        total = 0
        for piece in dsn.report(
            id="i", to="a@b", original=original, fates=[fate()], mailname="m", hostname="h", now=NOW, full=True,
            read=lambda n, at: block[:n],
        ):  # fmt: skip
            total += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total > size
    assert peak < 2_000_000


# ---------------------------------------------------------------- what outsiders may not break


def test_a_local_recipient_and_sender_get_a_domain():
    data = make([fate("root", Outcome(FAILED, "no such user here", status="5.1.1"))], to="alice")
    assert strict(data)["To"].addresses[0].addr_spec == "alice@box.test"
    assert status_groups(data)[1]["Final-Recipient"] == "rfc822; root@box.test"


def test_non_ascii_recipients_are_named_in_ascii():
    group = status_groups(CASES["bounce-utf8"]())[1]
    assert group["Final-Recipient"] == "utf-8; b\\x{FC}cher@x.test"
    assert group["Original-Recipient"] == "utf-8; b\\x{FC}ro\\x{2B}1@x.test"


def test_a_status_of_the_wrong_class_is_not_repeated():
    for status in ("2.0.0", "4.2.2", "5.1", "5.1.x", "", "5.1.1\r\nX: y", "5.1234.1"):
        assert status_groups(make([fate(outcome=refused(status=status))]))[1]["Status"] == "5.0.0"


def test_a_reply_that_plays_tricks_stays_text():
    text = "550 a\n\n--=_dma.01hq3kabcde4f5g6h7b2--\nFinal-Recipient: rfc822; eve@x\x1b[2J\0\x07\u202e"
    data = make([fate(outcome=refused(text))])
    parts = strict(data).get_payload()
    assert len(parts) == 3
    assert len(status_groups(data)) == 2
    assert status_groups(data)[1]["Final-Recipient"] == "rfc822; bob@x.test"
    assert not set(data) & (set(range(32)) - {9, 10})
    assert "\\x1b[2J\\x00\\x07\\u202e" in parts[0].get_payload(decode=True).decode()


def test_an_endless_reply_is_bounded():
    data = make([fate(outcome=refused("550 " + "x" * 5_000_000))])
    assert len(data) < 100_000
    strict(data)


def test_a_message_id_that_cannot_stand_in_a_header_is_left_out():
    for odd in ("", "x", "<a\nb>", "<" + "x" * 400 + ">", "<a> <b>", "<ü@x>"):
        found = strict(make(original=envelope(message_id=odd)))
        assert found["In-Reply-To"] is None


def test_a_sender_that_cannot_stand_in_a_header_is_left_out():
    for odd in ("a b@x", "a\n@x", "x" * 2000 + "@x"):
        assert strict(make(to=odd))["To"].groups[0].display_name == "undisclosed-recipients"


texts = st.text(st.characters(), max_size=300)


@settings(max_examples=150, deadline=None)
@given(reply=texts, address=texts, first=texts, relay=texts, hint=texts, status=texts, header=st.binary(max_size=300))
def test_never_anything_but_three_parts(reply, address, first, relay, hint, status, header):
    """Whatever the peer, the recipient and the message hold: 3 parts, no raw control, no long line, ASCII."""
    outcome = Outcome(FAILED, reply, code=550, status=status, stage="DATA", relay=relay, hint=hint)
    fates = [fate(address or "a", outcome, original=first), fate(outcome=Outcome(FAILED, reply, relay=relay))]
    header = header.replace(b"\n\n", b"\n")
    data = make(fates, message=header + b"\nx\n", original=envelope(header + b"\nx\n", header_end=len(header)))
    found = email.message_from_binary_file(io.BytesIO(data))
    assert len(found.get_payload()) == 3
    assert data.isascii()
    body = data[: data.index(b"Content-Type: text/rfc822-headers")]
    assert not set(body) & (set(range(32)) - {9, 10})
    assert max(map(len, data.split(b"\n"))) <= 998
    assert len([f for f in found.get_payload(1).get_payload() if f["Final-Recipient"]]) == 2


GOOD = Outcome(DELIVERED, "250 2.1.5 ok", code=250, status="2.1.5", stage="final DATA", relay="mx.x.test [192.0.2.1]")


@pytest.mark.parametrize(
    ("action", "outcome", "status", "words"),
    [
        ("relayed", GOOD, "2.1.5", b"was handed to mx.x.test [192.0.2.1]"),
        ("delivered", Outcome(DELIVERED, "delivered to /var/mail/bob"), "2.0.0", b"was delivered"),
    ],
)
def test_a_success_is_no_failure_to_bounce_parsers(action, outcome, status, words):
    data = make([fate(outcome=outcome)], action=action)
    assert all_failures(email.message_from_bytes(data)) == (set(), set())
    group = status_groups(data)[1]
    assert (group["Action"], group["Status"]) == (action, status)
    assert words in data
    assert b"There was an error" not in data
    assert b"/var/mail/bob" not in data.partition(b"message/delivery-status")[2]
    assert strict(data)["Subject"] == f"Mail {action}"


def test_what_the_sender_gave_comes_back():
    """RFC 3461 6.3, RFC 3464 2.2.1 and 2.3.1."""
    one = fate()
    one.recipient.orcpt = "rfc822;list+a@else.test"
    data = make([one, fate("carl@y.test", original="staff@box.test")], original=envelope(envid="QQ 314+159"))
    groups = status_groups(data)
    assert groups[0]["Original-Envelope-Id"] == "QQ 314+159"
    assert groups[1]["Original-Recipient"] == "rfc822; list+a@else.test"
    assert groups[2]["Original-Recipient"] == "rfc822; staff@box.test"
    assert "Original-Envelope-Id" not in status_groups(make())[0]
