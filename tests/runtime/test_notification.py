"""RET, ENVID, NOTIFY and ORCPT as a relay with DSN is told them (RFC 3461)."""

import pytest

from dma_runtime.cmd.options import parse
from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.errors import UsageError
from dma_runtime.smtp.command import xtext
from dma_runtime.smtp.notification import of_mail, of_recipient


def envelope(ret="", envid=""):
    made = Envelope("id", "me@box.test", [Recipient("a@b.test")], 0.0)
    made.ret, made.envid = ret, envid
    return made


@pytest.mark.parametrize(
    ("ret", "envid", "said"),
    [
        ("", "", b""),
        ("full", "", b" RET=FULL"),
        ("hdrs", "QQ314159", b" RET=HDRS ENVID=QQ314159"),  # RFC 3461 10.1
        ("", "a b+c=d", b" ENVID=a+20b+2Bc+3Dd"),
        ("other", "x" * 101, b""),
    ],
)
def test_of_mail(ret, envid, said):
    assert of_mail(envelope(ret, envid)) == said


@pytest.mark.parametrize(
    ("recipient", "said"),
    [
        (Recipient("a@b.test"), b""),
        (Recipient("a@b.test", "alias"), b""),
        (Recipient("a@b.test", notify="never"), b" NOTIFY=NEVER"),
        (Recipient("a@b.test", notify="success,delay"), b" NOTIFY=SUCCESS,DELAY"),
        (Recipient("a@b.test", "root", notify="success"), b" NOTIFY=SUCCESS ORCPT=rfc822;root@box.test"),
        (Recipient("a@b.test", "r+x@c.test", notify="failure"), b" NOTIFY=FAILURE ORCPT=rfc822;r+2Bx@c.test"),
        (Recipient("a@b.test", orcpt="rfc822;first@c.test"), b" ORCPT=rfc822;first@c.test"),
        (Recipient("a@b.test", "root", notify="never", orcpt="x400;c=x"), b" NOTIFY=NEVER ORCPT=x400;c+3Dx"),
        (Recipient("a@b.test", "grüße@c.test", notify="never"), b" NOTIFY=NEVER"),
        (Recipient("a@b.test", "x" * 600 + "@c.test", notify="never"), b" NOTIFY=NEVER"),
        (Recipient("a@b.test", orcpt="rfc822;a b\r\nDATA"), b" ORCPT=rfc822;a+20b+0D+0ADATA"),
        (Recipient("a@b.test", orcpt="rfc822 x;a@b"), b""),
        (Recipient("a@b.test", notify="never\r\nDATA"), b""),
    ],
)
def test_of_recipient(recipient, said):
    assert of_recipient(recipient, "box.test") == said


def test_xtext_leaves_nothing_that_could_end_a_word():
    assert xtext("".join(map(chr, range(256)))).translate(None, b"+0123456789ABCDEF").isalnum() is False
    wrapped = xtext("\0\r\n\t \x7f+=é")
    assert wrapped == b"+00+0D+0A+09+20+7F+2B+3D+C3+A9"


@pytest.mark.parametrize(("word", "envid"), [("QQ314159", "QQ314159"), ("a+2Bb+3Dc+20d", "a+b=c d"), ("a+b", "a+b"), ("", "")])
def test_minus_v_is_xtext_or_plain(word, envid):
    assert parse(["-V" + word, "a@b"] if word else ["-V", "", "a@b"]).dsn_envelope == envid


@pytest.mark.parametrize("word", ["x" * 101, "a\nb", "+0A", "grüße"])
def test_minus_v_that_cannot_be_said(word):
    with pytest.raises(UsageError, match="100 printable characters"):
        parse(["-V", word, "a@b"])
