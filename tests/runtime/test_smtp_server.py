"""The serving side of SMTP without a process: a desk that remembers, and the same conversation however it is cut."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dma_runtime.smtp import server as rooms
from dma_runtime.smtp.arguments import Refused
from dma_runtime.smtp.content import Content
from dma_runtime.smtp.server import Server


class Desk:
    """Takes everything but what is in `no`: words of an address to the refusal."""

    def __init__(self, largest=1000, dsn=True, no=(), fails=None):
        self.largest = largest
        self.dsn = dsn
        self.no = dict(no)
        self.fails = fails
        self.accepted = []
        self.forget()

    def forget(self):
        self.mail, self.recipients, self.text = None, [], b""

    def sender(self, mail):
        self._ask(mail.sender)
        self.mail = mail

    def recipient(self, rcpt):
        self._ask(rcpt.address)
        self.recipients.append(rcpt)

    def _ask(self, address):
        if address in self.no:
            raise self.no[address]

    def take(self, data):
        self.text += data

    def finish(self):
        if self.fails:
            raise self.fails
        self.accepted.append((self.mail.sender, [r.address for r in self.recipients], self.text))
        return "queued as 1"


GONE = {"gone@x": Refused(550, "5.1.1", "no such user here")}


def talk(text, desk=None, cuts=()):
    """(codes of the replies, desk, all replies) to what a client sends without waiting."""
    desk = desk or Desk()
    server = Server("here.test", desk)
    out = b""
    at = 0
    for end in [*cuts, len(text)]:
        out += server.feed(text[at:end])
        at = end
    lines = [line for line in out.split(b"\r\n") if line]
    return [int(line[:3]) for line in lines if line[3:4] == b" "], desk, out


BODY = b"Subject: s\r\n\r\nhello\r\n"
MESSAGE = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + BODY + b".\r\n"


def test_a_message():
    codes, desk, out = talk(b"EHLO me\r\n" + MESSAGE + b"QUIT\r\n")
    assert codes == [250, 250, 250, 354, 250, 221]
    assert desk.accepted == [("a@b", ["c@d"], BODY)]
    assert b"250 2.0.0 queued as 1\r\n" in out


def test_what_is_offered():
    _, _, out = talk(b"EHLO me\r\n")
    assert out == (
        b"250-here.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
        b"250-REQUIRETLS\r\n250-SIZE 1000\r\n250-DSN\r\n250 HELP\r\n"
    )
    assert b"DSN" not in talk(b"EHLO me\r\n", Desk(dsn=False))[2]
    assert talk(b"HELO me\r\n")[2] == b"250 here.test\r\n"
    assert Server("here.test", Desk()).greeting() == b"220 here.test ESMTP dma\r\n"


def test_many_messages_and_what_is_forgotten_between_them():
    codes, desk, _ = talk(MESSAGE + b"MAIL FROM:<x@y>\r\nRCPT TO:<1@y>\r\nRSET\r\n" + MESSAGE.replace(b"a@b", b""))
    assert codes == [250, 250, 354, 250, 250, 250, 250, 250, 250, 354, 250]
    assert [(sender, to) for sender, to, _ in desk.accepted] == [("a@b", ["c@d"]), ("", ["c@d"])]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (b"RCPT TO:<a@b>\r\n", [503]),
        (b"DATA\r\n", [503]),
        (b"MAIL FROM:<a@b>\r\nDATA\r\n", [250, 503]),
        (b"MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n", [250, 503]),
        (b"MAIL FROM:<a@b>\r\nEHLO me\r\nRCPT TO:<a@b>\r\n", [250, 250, 503]),
        (b"EHLO\r\nHELO \r\n", [501, 501]),
        (b"MAIL a@b\r\nMAIL FROM:\r\nMAIL FROM:<a@b\r\nMAIL FROM:<a@b>x\r\n", [501, 501, 501, 501]),
        (b"MAIL FROM:<a@b> FOO\r\nMAIL FROM:<a@b> SIZE=x\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\n", [555, 501, 501]),
        (b"MAIL FROM:<a@b> SIZE=1 SIZE=1\r\n", [501]),
        (b"MAIL FROM:<a@b> SIZE=1000\r\n", [250]),
        (b"MAIL FROM:<a@b> SIZE=1001\r\n", [552]),
        (b"MAIL FROM:<a@b> AUTH=<> BODY=7BIT\r\n", [250]),
        (b"MAIL FROM:<a@b> RET=HDRS ENVID=a+2Bb\r\n", [250]),
        (b"MAIL FROM:<a@b> RET=X\r\nMAIL FROM:<a@b> ENVID=a+2b\r\nMAIL FROM:<a@b> ENVID=a+0Ab\r\n", [501, 501, 501]),
        (b"MAIL FROM:<>\r\nRCPT TO:<>\r\n", [250, 501]),
        (b"MAIL FROM:<>\r\nRCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b\r\n", [250, 250]),
        (b"MAIL FROM:<>\r\nRCPT TO:<a@b> NOTIFY=NEVER,DELAY\r\nRCPT TO:<a@b> X=1\r\n", [250, 501, 555]),
        (b"MAIL FROM:<a\0@b>\r\nNOOP \x01\r\n", [501, 501]),
        (b"MAIL FROM:<a b@c>\r\n", [501]),
        (b'mail from:<"a> b"@c>\r\nrcpt to:root\r\n', [250, 250]),
        (rb'MAIL FROM:<"a\"> SIZE=x"@c> SIZE=1' + b"\r\n", [250]),
        (b"MAIL FROM: <a@b>  SIZE=5\r\nRCPT TO: <a@b>\r\n", [250, 250]),
        (b"MAIL FROM:<@r1,@r2:a@b>\r\n", [250]),
        (b"VRFY root\r\nVRFY\r\nHELP\r\nHELP MAIL\r\nNOOP x\r\nVERB\r\nONEX\r\n", [252, 501, 214, 214, 250, 250, 250]),
        (b"EXPN x\r\nBDAT 3 LAST\r\nSTARTTLS\r\nAUTH PLAIN x\r\nETRN x\r\nFOO\r\n\r\n", [502, 502, 502, 502, 502, 500, 500]),
        (b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA x\r\n", [250, 250, 501]),
        (b"NOOP " + b"x" * (rooms.LINE - 7) + b"\r\n", [250]),
        (b"NOOP " + b"x" * (rooms.LINE - 6) + b"\r\nNOOP\r\n", [500, 250]),
        (b"NOOP " + b"x" * 50_000 + b"\r\nNOOP\r\n", [500, 250]),
    ],
)
def test_commands(text, codes):
    assert talk(text)[0] == codes
    assert talk(text, cuts=range(1, min(len(text), 2000)))[0] == codes


def test_what_the_parameters_say():
    server = Server("h", desk := Desk())
    server.feed(b"MAIL FROM:<@r:a@b> SMTPUTF8 SIZE=7 RET=full ENVID=Q+2BQ\r\n")
    server.feed(b"RCPT TO:<c@d> notify=Failure,success ORCPT=rfc822;C+2Bc@d\r\n")
    mail, (rcpt,) = desk.mail, desk.recipients
    assert (mail.sender, mail.smtputf8, mail.size, mail.ret, mail.envid) == ("a@b", True, 7, "full", "Q+Q")
    assert (rcpt.address, rcpt.notify, rcpt.orcpt) == ("c@d", "failure,success", "rfc822;C+c@d")


def test_without_dsn_its_parameters_are_not_known():
    text = b"MAIL FROM:<a@b> RET=FULL\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d> NOTIFY=NEVER\r\n"
    assert talk(text, Desk(dsn=False))[0] == [555, 250, 555]


@pytest.mark.parametrize("byte", [b"\xc3\xa4", b"\xff"])
def test_bytes_beyond_ascii_in_an_address_stay(byte):
    _, desk, _ = talk(MESSAGE.replace(b"c@d", b"c" + byte + b"@d"))
    assert desk.accepted[0][1] == [b"c%s@d".replace(b"%s", byte).decode("utf-8", "surrogateescape")]


def test_a_refused_recipient_among_good_ones():
    codes, desk, _ = talk(MESSAGE.replace(b"DATA", b"RCPT TO:<gone@x>\r\nDATA"), Desk(no=GONE))
    assert codes == [250, 250, 550, 354, 250]
    assert desk.accepted[0][1] == ["c@d"]


@pytest.mark.parametrize(("good", "bad"), [(b"c@d", b"gone@x"), (b"a@b", b"gone@x"), (b"a@b>", b"a@b> SIZE=2000")])
def test_text_behind_a_refusal_is_not_commands(good, bad):
    text = MESSAGE.replace(good, bad).replace(BODY, b"MAIL FROM:<evil@x>\r\nRCPT TO:<victim@x>\r\nDATA\r\n")
    codes, desk, out = talk(text + MESSAGE, Desk(no=GONE))
    assert codes[-6:] == [354, 554, 250, 250, 354, 250]
    assert desk.accepted == [("a@b", ["c@d"], BODY)]
    assert b"554 5.5.1 no valid recipients\r\n" in out


def test_the_size_limit_on_both_sides_of_the_line():
    fits = MESSAGE.replace(BODY, b"x" * 998 + b"\r\n")
    assert talk(fits)[0] == [250, 250, 354, 250]
    codes, desk, out = talk(fits.replace(b"x\r\n", b"xx\r\n") + MESSAGE)
    assert codes == [250, 250, 354, 552, 250, 250, 354, 250]
    assert desk.accepted == [("a@b", ["c@d"], BODY)]
    assert b"552 5.3.4 message larger than 1000 bytes" in out


def test_a_desk_that_cannot_keep_it():
    codes, desk, out = talk(MESSAGE, Desk(fails=Refused(452, "4.3.1", "disk\r\nfull")))
    assert codes == [250, 250, 354, 452]
    assert out.endswith(b"452 4.3.1 disk / full\r\n")
    assert not desk.accepted


def test_a_client_that_goes_leaves_nothing():
    server = Server("h", desk := Desk())
    server.feed(MESSAGE[:-3])
    server.end()
    assert (desk.accepted, desk.text, server.closed) == ([], b"", True)


def test_nothing_is_read_behind_quit():
    codes, desk, _ = talk(b"QUIT\r\n" + MESSAGE)
    assert codes == [221]
    assert not desk.accepted


def test_somebody_who_does_not_speak_smtp_is_sent_away():
    codes, _, out = talk(b"GET / HTTP/1.1\r\n" * 100)
    assert codes == [500] * (rooms.MISTAKES - 1) + [421]
    assert out.endswith(b"421 4.7.0 here.test too many errors\r\n")


def test_too_many_recipients(monkeypatch):
    monkeypatch.setattr(rooms, "RECIPIENTS", 2)
    codes, desk, _ = talk(MESSAGE.replace(b"DATA", b"RCPT TO:<2@d>\r\nRCPT TO:<3@d>\r\nDATA"))
    assert codes == [250, 250, 250, 452, 354, 250]
    assert desk.accepted[0][1] == ["c@d", "2@d"]


# ---------------------------------------------------------------- where the text ends


@pytest.mark.parametrize(
    ("sent", "message", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
        (b"..\r\n.a\r\n.\r\n", b".\r\na\r\n", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        # Only CRLF . CRLF ends it; what others take for an end is text.
        (b"a\n.\nMAIL\r\n.\r\n", b"a\n.\nMAIL\r\n", b""),
        (b"a\n.\r\nMAIL\r\n.\r\n", b"a\n.\r\nMAIL\r\n", b""),
        (b"a\r\n.\nMAIL\r\n.\r\n", b"a\r\n\nMAIL\r\n", b""),
        (b"a\r.\rMAIL\r\n.\r\n", b"a\r.\rMAIL\r\n", b""),
        (b"a\n..b\r\n.\r\n", b"a\n..b\r\n", b""),
        (b"a\r\r\n.\r\n", b"a\r\r\n", b""),
    ],
)
def test_the_end_of_the_text(sent, message, rest):
    for cuts in (range(0), range(1, len(sent))):
        found, content, at = b"", Content(), 0
        for end in [*cuts, len(sent)]:
            if content.ended:
                content.rest += sent[at:end]
            else:
                found += content.feed(sent[at:end])
            at = end
        assert (found, content.rest, content.ended) == (message, rest, True)


@pytest.mark.parametrize(
    ("sent", "message", "rest"),
    [
        (b"a\n.\nQUIT\n", b"a\n", b"QUIT\n"),
        (b"a\n.\r\nQUIT\n", b"a\n", b"QUIT\n"),
        (b"a\r\n.\r\nQUIT\n", b"a\r\n", b"QUIT\n"),
        (b"..a\n.\n", b".a\n", b""),
    ],
)
def test_the_end_of_the_text_of_a_client_that_speaks_lf(sent, message, rest):
    content = Content(lf=True)
    assert (content.feed(sent), content.rest) == (message, rest)
    whole = b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n" + sent
    codes, desk, _ = talk(whole)
    assert codes[:4] == [250, 250, 354, 250]
    assert desk.accepted == [("a@b", ["c@d"], message)]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"a", b"RSET", b"\r\n.\r\n"])).map(b"".join), st.randoms())
def test_any_text_comes_through_a_client_that_doubles_its_dots(text, dice):
    # For every text: what a client sends by RFC 5321 4.5.2 is what the desk gets, and nothing of it is a command.
    whole = b"DATA\r\n" + (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:] + b"\r\n.\r\nNOOP\r\n"
    start = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
    cuts = sorted(dice.sample(range(len(start + whole)), min(5, len(whole))))
    codes, desk, _ = talk(start + whole, Desk(largest=0), cuts)
    assert codes == [250, 250, 354, 250, 250]
    assert desk.accepted == [("a@b", ["c@d"], text + b"\r\n")]


COMMANDS = [b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"RCPT TO:<gone@x>", b"DATA", b".", b"..", b"x", b"RSET", b"QUIT"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(COMMANDS) | st.binary(max_size=8)), st.sampled_from([b"\r\n", b"\n"]))
def test_any_bytes_in_any_pieces_get_the_same_replies(words, end):
    # For every input: no exception, and replies and messages do not depend on how it was cut.
    text = end.join(words) + end
    cuts = sorted(random.Random(1).sample(range(len(text)), min(20, len(text))))
    whole, one, cut = (talk(text, Desk(no=GONE), where) for where in ([], range(1, len(text)), cuts))
    assert whole[2] == one[2] == cut[2]
    assert whole[1].accepted == one[1].accepted == cut[1].accepted
