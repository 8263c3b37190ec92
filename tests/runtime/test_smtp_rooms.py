"""The small pure rooms of smtp: replies, commands, capabilities, mechanisms."""

import base64
import random

import pytest

from dma_runtime.secret import Secret
from dma_runtime.smtp import command, sasl, scram
from dma_runtime.smtp.capabilities import Capabilities
from dma_runtime.smtp.engine import Engine, Unexpected
from dma_runtime.smtp.reply import LINE_LIMIT, REPLY_LIMIT, BadReply, ReplyParser, reply
from dma_runtime.smtp.transaction import BODY, Transaction


def parse(*pieces):
    parser, found = ReplyParser(), []
    for piece in pieces:
        parser.feed(piece)
        while (one := parser.next()) is not None:
            found.append((one.code, one.text))
    return found, parser


# ---------------------------------------------------------------- replies


def test_replies_do_not_depend_on_the_cut():
    said = b"220 a\r\n250-x\r\n250-\r\n250 y\r\n354\r\n550-5.1.1 no\n550 5.1.1 such\n"
    expected = [(220, "220 a"), (250, "250-x\n250-\n250 y"), (354, "354"), (550, "550-5.1.1 no\n550 5.1.1 such")]
    assert parse(said)[0] == expected
    dice = random.Random(1)
    for _ in range(200):
        cuts = sorted(dice.sample(range(1, len(said)), dice.randrange(0, 12)))
        pieces = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
        assert parse(*pieces)[0] == expected


NONSENSE = [b"hello", b"25", b"2500 x", b"150 x", b"650 x", b"", b"25a x", b"250_x", b"250-a\r\n251 b"]


@pytest.mark.parametrize("said", [text + b"\r\n" for text in NONSENSE])
def test_what_is_no_reply_is_refused(said):
    with pytest.raises(BadReply):
        parse(said)


def test_replies_before_the_nonsense_are_handed_out():
    parser = ReplyParser()
    parser.feed(b"250 ok\r\nnonsense\r\n")
    assert parser.next().code == 250
    with pytest.raises(BadReply):
        parser.next()


def test_long_lines_and_long_replies_end_somewhere():
    assert parse(b"250 " + b"x" * 4000 + b"\r\n")[0][0][0] == 250
    with pytest.raises(BadReply, match="longer than"):
        parse(b"250 " + b"x" * LINE_LIMIT)
    with pytest.raises(BadReply, match="longer than"):
        parse(*[b"250-" + b"x" * 1000 + b"\r\n"] * (REPLY_LIMIT // 1000 + 1))
    # Many replies are not one long reply.
    assert len(parse(*[b"250 " + b"x" * 1000 + b"\r\n"] * 100)[0]) == 100


def test_surplus_is_what_no_reply_accounts_for():
    for rest in (b"2", b"250-x\r\n", b"250 x\r\n"):
        parser = ReplyParser()
        parser.feed(b"220 go\r\n" + rest)
        parser.next()
        assert parser.surplus
    parser = ReplyParser()
    parser.feed(b"220 go\r\n")
    parser.next()
    assert not parser.surplus


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("550 5.1.1 no such user", "5.1.1"),
        ("550-no\n550 5.1.1 no", "5.1.1"),
        ("550-5.7.26 a\n550 5.7.26 b", "5.7.26"),
        ("450 5.1.1 of another class", ""),
        ("550 5.1 short", ""),
        ("550 127.0.0.1 address", ""),
        ("550 no", ""),
        ("250", ""),
    ],
)
def test_the_enhanced_status(text, status):
    assert reply(text).status == status


def test_what_is_shown_holds_no_control_characters():
    parser = ReplyParser()
    parser.feed(b"550 a\x1b[2J\x07 caf\xe9 \xc3\xa9 \xc2\x9b\r\n")
    text = parser.next().text
    assert text == "550 a\\x1b[2J\\x07 caf\\xe9 é \\x9b"


# ---------------------------------------------------------------- the engine


def test_replies_find_their_commands_in_order():
    engine, heard = Engine(), []
    engine.pipelining = True
    for name in ("a", "b", "c"):
        engine.sent(command.RCPT, lambda verb, reply, name=name: heard.append((name, reply.code)))
    engine.feed(b"250 x\r\n550 y\r\n450 z\r\n")
    while engine.answer_one():
        pass
    assert heard == [("a", 250), ("b", 550), ("c", 450)]


def test_who_may_be_sent_behind_whom():
    """RFC 2920 3.1: EHLO, DATA, QUIT and the like end a group; the end of a message does not."""
    ends = {command.GREETING, command.EHLO, command.HELO, command.STARTTLS, command.AUTH, command.DATA, command.QUIT}
    rides = {command.RSET, command.MAIL, command.RCPT, command.DOT, command.BDAT, command.LAST}
    for verb in ends | rides:
        engine = Engine()
        assert engine.may_send()
        engine.pipelining = True
        engine.sent(verb, print)
        assert engine.may_send() == (verb in rides)
        engine.pipelining = False
        assert not engine.may_send()


def test_a_reply_to_nothing_is_a_fault():
    engine = Engine()
    engine.feed(b"421 4.4.2 idle\r\n")
    with pytest.raises(Unexpected) as fault:
        engine.answer_one()
    assert fault.value.reply.code == 421


# ---------------------------------------------------------------- transactions


def talk(transaction, *replies):
    """Send all it has to say, give the replies to its commands in order."""
    said = []
    while (step := transaction.next()) is not None:
        said.append(step[0])
    for verb, text in zip(said, replies, strict=True):
        transaction.reply(verb, reply(text))
    return transaction


def test_a_message_counts_as_delivered_only_for_those_who_were_accepted():
    yes = talk(Transaction(b"", [b"", b""], chunking=True), "250 ok", "250 ok", "550 no")
    assert yes.next() is None
    assert yes.body == BODY
    yes.part_sent(last=True)
    yes.reply(command.LAST, reply("250 ok"))
    assert (yes.delivered, yes.over, yes.clean) == (True, True, True)
    # A broken server accepts recipients and the body behind a MAIL it refused: that is nobody's delivery.
    no = talk(Transaction(b"", [b""], chunking=True, ahead=True), "550 no", "250 ok")
    assert not no.delivered
    no = Transaction(b"", [b""], chunking=True, ahead=True)
    said = [no.next(), no.next(), no.next()]
    assert said[2] is None
    no.part_sent(last=True)
    for verb, text in ((command.MAIL, "550 no"), (command.RCPT, "250 ok"), (command.LAST, "250 ok")):
        no.reply(verb, reply(text))
    assert not no.delivered
    assert no.answers[0][0] == "MAIL FROM"


# ---------------------------------------------------------------- commands


BAD = ["a@x>\r\nRCPT TO:<b@y", "a@x\n", "a\r@x", "a\0@x", "a@x> NOTIFY=NEVER", "<a@x", "a b@x", '"a@x']


@pytest.mark.parametrize("address", BAD)
def test_what_would_be_more_than_one_word_cannot_be_said(address):
    with pytest.raises(command.Unspeakable):
        command.rcpt(address)
    with pytest.raises(command.Unspeakable):
        command.mail(address)


def test_addresses_go_out_as_they_came():
    assert command.rcpt("jörg@y.example") == "RCPT TO:<jörg@y.example>\r\n".encode()
    assert command.rcpt("j\udcf6rg@y.example") == b"RCPT TO:<j\xf6rg@y.example>\r\n"
    assert command.rcpt('"a b\\">c"@y.example') == b'RCPT TO:<"a b\\">c"@y.example>\r\n'
    assert command.mail("") == b"MAIL FROM:<>\r\n"


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("box.example.org", "192.0.2.7", "box.example.org"),
        ("box.example.org.", "192.0.2.7", "box.example.org"),
        ("box", "192.0.2.7", "[192.0.2.7]"),
        ("my_box.example.org", "192.0.2.7", "[192.0.2.7]"),
        ("-a.example.org", "2001:db8::7", "[IPv6:2001:db8::7]"),
        ("", "fe80::1%eth0", "[IPv6:fe80::1]"),
        ("192.0.2.9", "192.0.2.7", "[192.0.2.7]"),
        ("[192.0.2.9]", "192.0.2.7", "[192.0.2.9]"),
        ("bücher.example", "192.0.2.7", "xn--bcher-kva.example"),
        ("a..b", "192.0.2.7", "[192.0.2.7]"),
        ("localhost", "", "localhost.localdomain"),
    ],
)
def test_the_greeting_name_is_a_domain_or_a_literal(name, address, said):
    assert command.hello_name(name, address) == said


# ---------------------------------------------------------------- capabilities


def test_capabilities():
    found = Capabilities(
        reply(
            "250-PIPELINING is my name\n250-size 1000\n250-AUTH plain LOGIN\n250-AUTH=LOGIN CRAM-MD5\n250-Chunking\n"
            "250-BINARYMIME\n250-LIMITS RCPTMAX=5 MAILMAX=x RCPTDOMAINMAX=2\n250-\n250 8BITMIME"
        )
    )
    assert not found.pipelining  # the first line is the name
    assert found.size == 1000
    assert found.mechanisms == ("PLAIN", "LOGIN", "CRAM-MD5")
    assert found.chunking
    assert found.binarymime
    assert (found.rcptmax, found.mailmax, found.rcptdomainmax) == (5, 0, 2)
    assert found.eightbitmime
    assert not found.starttls


def test_size_without_a_number_and_without_size():
    assert Capabilities(reply("250-x\n250 SIZE")).size == 0
    assert Capabilities(reply("250 x")).size is None
    assert Capabilities(reply("250-x\n250 SIZE many")).size == 0
    assert not Capabilities(reply("250-x\n250 BINARYMIME")).binarymime  # RFC 3030: only with CHUNKING


# ---------------------------------------------------------------- mechanisms


def test_the_best_common_mechanism_comes_first():
    offered = ["login", "CRAM-MD5", "PLAIN", "XOAUTH2"]
    assert sasl.choose(offered, trusted=True) == ["PLAIN", "LOGIN", "CRAM-MD5"]
    assert sasl.choose(offered, trusted=False) == ["CRAM-MD5", "PLAIN", "LOGIN"]
    assert sasl.choose(["XOAUTH2"], trusted=True) == []
    scram = ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]
    assert sasl.choose(scram, trusted=False)[0] == "SCRAM-SHA-256"
    assert sasl.choose(scram, trusted=False, bound=True)[0] == "SCRAM-SHA-256-PLUS"
    assert sasl.choose(scram, trusted=True)[0] == "PLAIN"


# The examples of RFC 5802 5 and RFC 7677 3: digest, client nonce, server first, client final, server final.
SCRAM = [
    (
        "sha1",
        "fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    (
        "sha256",
        "rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
]


def scram_of(digest, nonce, **more):
    """With a dice that gives the bytes whose base64 is the example's nonce."""
    return scram.Scram(digest, "user", Secret("pencil"), lambda size: base64.b64decode(nonce), **more)


@pytest.mark.parametrize(("digest", "nonce", "first", "final", "proof"), SCRAM)
def test_scram_is_that_of_its_rfc(digest, nonce, first, final, proof):
    machine = scram_of(digest, nonce)
    assert machine.initial() == b"n,,n=user,r=" + nonce.encode()
    assert machine.answer(first) == final
    assert not machine.proved
    assert machine.answer(proof) == b""
    assert machine.proved
    with pytest.raises(sasl.Stuck):
        machine.answer(b"more")


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=another,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=fyko+d2lbbFgONRv9qkxdawL,s=QSXCR+Q6sek8bf92,i=4096",  # the relay added nothing
        b"r=fyko+d2lbbFgONRv9qkxdawLx,s=QSXCR+Q6sek8bf92,i=100",
        b"r=fyko+d2lbbFgONRv9qkxdawLx,s=QSXCR+Q6sek8bf92,i=99999999",
        b"r=fyko+d2lbbFgONRv9qkxdawLx,s=!,i=4096",
        b"m=ext,r=fyko+d2lbbFgONRv9qkxdawLx,s=QSXCR+Q6sek8bf92,i=4096",
        b"e=other-error",
    ],
)
def test_scram_refuses_what_does_not_answer_it(challenge):
    with pytest.raises(sasl.Stuck):
        scram_of(*SCRAM[0][:2]).answer(challenge)


def test_scram_takes_no_relay_that_does_not_know_the_password():
    for last in (b"v=AAAAqV8S7suAoZWja4dJRkFsKQA=", b"e=invalid-proof", b"", b"v=!"):
        machine = scram_of(*SCRAM[0][:2])
        machine.answer(SCRAM[0][2])
        with pytest.raises(sasl.Stuck):
            machine.answer(last)
        assert not machine.proved


def test_scram_binds_the_channel():
    bound = scram_of(*SCRAM[0][:2], binding=b"finished")
    assert bound.initial().startswith(b"p=tls-unique,,")
    said = bound.answer(SCRAM[0][2])
    assert base64.b64decode(said.split(b",")[0][2:]) == b"p=tls-unique,,finished"
    assert scram_of(*SCRAM[0][:2], could_bind=True).initial().startswith(b"y,,")


def test_scram_escapes_the_name():
    machine = scram.Scram("sha1", "a,b=c", Secret("x"), lambda size: b"x" * size)
    assert b"n=a=2Cb=3Dc," in machine.initial()


def test_cram_md5_is_that_of_rfc_2195():
    machine = sasl.CramMd5("tim", Secret("tanstaaftanstaaf"))
    challenge = base64.b64decode("PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
    assert machine.answer(challenge) == b"tim b913a602c7eda7a495b4e6e7334d3890"


def test_mechanisms_have_an_end():
    for kind, answers in ((sasl.Plain, 1), (sasl.Login, 2), (sasl.CramMd5, 1)):
        machine = kind("user", Secret("secret"))
        for _ in range(answers):
            machine.answer(b"challenge")
        with pytest.raises(sasl.Stuck):
            machine.answer(b"challenge")


def test_a_nul_in_a_password_is_said_not_sent():
    with pytest.raises(sasl.Stuck, match="NUL"):
        sasl.Plain("user", Secret("a\0b")).initial()


def test_a_password_beyond_ascii_is_utf8():
    assert sasl.Plain("jörg", Secret("schlüssel")).initial() == "\0jörg\0schlüssel".encode()
