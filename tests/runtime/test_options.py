"""The command line of every sendmail there is."""

import pytest

from dma_runtime.cmd import options as cli
from dma_runtime.errors import UsageError


def parse(text):
    return cli.parse(text.split(" ") if text else [])


@pytest.mark.parametrize(
    ("words", "operands"),
    [
        # C dma's own, sendmail(8), the LSB, Postfix, Exim, msmtp: what callers really write.
        ("-t -i", []),
        ("-ti", []),
        ("-oi -f me@x u@x", ["u@x"]),
        ("-oi -fme@x u@x", ["u@x"]),
        ("-FCronDaemon -i -odi -oem -oi -t -f root", []),
        ("-F Cron -B8BITMIME -oem root", ["root"]),
        ("-B 8BITMIME u", ["u"]),
        ("-i -f a@b -- -odd@x", ["-odd@x"]),
        ("-i u@x -f a@b", ["u@x"]),
        ("-Ac u", ["u"]),
        ("-Am u", ["u"]),
        ("-A c u", ["u"]),
        ("-C /f u", ["u"]),
        ("-d0.1 u", ["u"]),
        ("-d u", ["u"]),
        ("-d 99 u", ["u"]),
        ("-em u", ["u"]),
        ("-e m u", ["u"]),
        ("-G u", ["u"]),
        ("-h 3 u", ["u"]),
        ("-h3 u", ["u"]),
        ("-L tag u", ["u"]),
        ("-m u", ["u"]),
        ("-M rx u", ["u"]),
        ("-N never u", ["u"]),
        ("-N success,failure u", ["u"]),
        ("-n u", ["u"]),
        ("-O Timeout=1 u", ["u"]),
        ("-OTimeout=1 u", ["u"]),
        ("-o i u", ["u"]),
        ("-oMr proto u", ["u"]),
        ("-oMa 127.0.0.1 u", ["u"]),
        ("-oX 25 u", ["u"]),
        ("-odb u", ["u"]),
        ("-oee u", ["u"]),
        ("-om u", ["u"]),
        ("-p esmtp:host u", ["u"]),
        ("-R hdrs u", ["u"]),
        ("-r me u", ["u"]),
        ("-s u", ["u"]),
        ("-U u", ["u"]),
        ("-V envid u", ["u"]),
        ("-v u", ["u"]),
        ("-X log u", ["u"]),
        ("-x u", ["u"]),
        ("-E u", ["u"]),
        ("-Q u", ["u"]),
        ("-i5 u", ["u"]),
        ("-bm u", ["u"]),
        ("-a account u", ["u"]),
        ("-z line u", ["u"]),
        ("-tls-on-connect u", ["u"]),
        ("-dropcr u", ["u"]),
        ("--read-recipients", []),
        ("--from=a@b u", ["u"]),
        ("--from a@b u", ["u"]),
        ("--account=x u", ["u"]),
        ("- u", ["-", "u"]),
        ("", []),
    ],
)
def test_what_is_understood_or_passed_over_with_its_own_arity(words, operands):
    found = parse(words)
    assert found.mode == cli.SUBMIT
    assert found.operands == operands


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ("-bp", cli.SHOW_QUEUE),
        ("-b p", cli.SHOW_QUEUE),
        ("-q", cli.RUN_QUEUE),
        ("-q30m", cli.RUN_QUEUE),
        ("-q 30m", cli.RUN_QUEUE),
        ("-qf", cli.RUN_QUEUE),
        ("-D -q", cli.RUN_QUEUE),
        ("-q -D", cli.RUN_QUEUE),
        ("-bi", cli.ALIASES),
        ("-I", cli.ALIASES),
        ("-bv root", cli.VERIFY),
        ("-bs", cli.SMTP),
        ("--version", cli.VERSION),
        ("--help", cli.HELP),
    ],
)
def test_modes(words, mode):
    assert parse(words).mode == mode


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("-f a@b -f c@d", "sender", "c@d"),
        ("-r c@d", "sender", "c@d"),
        ("--from=c@d", "sender", "c@d"),
        ("-F Name", "full_name", "Name"),
        ("-t", "extract", True),
        ("-i", "ignore_dots", True),
        ("-oi", "ignore_dots", True),
        ("-oitrue", "ignore_dots", True),
        ("-oem", "ignore_dots", False),
        ("-bq", "queue_only", True),
        ("-D", "foreground", True),
        ("-L tag", "tag", "tag"),
        ("-C /f", "config", "/f"),
        ("-N Success,delay", "dsn_notify", "success,delay"),
        ("-R FULL", "dsn_return", "full"),
        ("-V id", "dsn_envelope", "id"),
    ],
)
def test_values(words, name, value):
    assert getattr(parse(words + " u"), name) == value


def test_an_empty_sender_is_not_no_sender():
    assert cli.parse(["-f", "", "u"]).sender == ""
    assert cli.parse(["u"]).sender is None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-Z", "invalid argument: `-Z'"),
        ("-f", "`-f' needs a value"),
        ("-bd", "no SMTP listener"),
        ("-bt", "not supported"),
        ("-bp u@x", "mutually exclusive"),
        ("-q -- u@x", "mutually exclusive"),
        ("-bp -q", "conflicting queue operations"),
        ("-N sometimes u", "invalid argument"),
        ("-Mrm 1abc", "dma-queue"),
        ("--nonsense", "invalid argument"),
        ("--from", "needs a value"),
        ("-\x1b", "invalid argument: `-\\x1b'"),
    ],
)
def test_what_is_refused(words, text):
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert text in caught.value.text
    assert caught.value.status == 64
