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
        ("-os u", ["u"]),
        ("-os 5m u", ["u"]),
        ("-or 30s u", ["u"]),
        ("-oB 3 u", ["u"]),
        ("-oB 3@x u", ["3@x", "u"]),
        ("-oA /etc/aliases u", ["u"]),
        ("-oA u", ["u"]),
        ("-oA/etc/aliases u", ["u"]),
        ("-oP /run/pid u", ["u"]),
        ("-oQ/var/spool u", ["u"]),
        ("-o7 -o8 u", ["u"]),
        ("-ba u", ["u"]),
        ("-c u", ["u"]),
        ("-T u", ["u"]),
        ("-XV u", ["u"]),
        ("-pd -ps u", ["u"]),
        ("-oMaa user -oMas a@b u", ["u"]),
        ("-G -i -oee -f <> -- u", ["u"]),
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
        ("--account x u", ["u"]),
        ("--logfile /f u", ["u"]),
        ("--timeout 5 u", ["u"]),
        ("--read-envelope-from u", ["u"]),
        ("--set-from-header=auto u", ["u"]),
        ("--debug u", ["u"]),
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
        ("-bS", cli.SMTP),
        ("-bP", cli.SHOW_QUEUE),
        ("-bpc", cli.SHOW_QUEUE),
        ("-bV", cli.VERSION),
        ("-bh", cli.NOTHING),
        ("-bH", cli.NOTHING),
        ("-qRhost", cli.RUN_QUEUE),
        ("-q!Iabc", cli.RUN_QUEUE),
        ("-qGname", cli.RUN_QUEUE),
        ("-qp5m", cli.RUN_QUEUE),
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
        ("-v", "foreground", True),
        ("-v", "verbose", True),
        ("-L tag", "tag", "tag"),
        ("-C /f", "config", "/f"),
        ("-N Success,delay", "dsn_notify", "success,delay"),
        ("-R FULL", "dsn_return", "full"),
        ("--dsn-notify=never", "dsn_notify", "never"),
        ("--dsn-return hdrs", "dsn_return", "hdrs"),
        ("-V id", "dsn_envelope", "id"),
    ],
)
def test_values(words, name, value):
    assert getattr(parse(words + " u"), name) == value


# The getopt strings of the originals, without what this one reads in its own way: -D (C dma's has no value), -q, -Q and -d.
GETOPT = {
    "sendmail 8.17": "A:B:b:C:ce:F:f:Gh:IiL:M:mN:nO:o:p:R:r:sTtUV:vX:",
    "Postfix 3.7": "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:tvx",
    "C dma 0.14": "A:b:B:C:Df:F:h:iL:N:no:O:r:R:tUV:vX:",
}
VALUES = {"b": "m", "N": "never", "R": "full", "o": "em"}


@pytest.mark.parametrize("original", GETOPT)
def test_every_flag_has_the_arity_of_the_original(original):
    letters = GETOPT[original]
    for at, letter in enumerate(letters):
        if letter == ":":
            continue
        takes = letters[at + 1 : at + 2] == ":"
        value = VALUES.get(letter, "5")
        assert cli.parse([f"-{letter}", value, "u"]).operands == (["u"] if takes else [value, "u"]), letter
        if takes:
            assert cli.parse([f"-i{letter}{value}", "u"]).operands == ["u"], letter
        else:
            assert cli.parse([f"-{letter}i", "u"]).ignore_dots, letter


def test_a_queue_run_of_sendmail_in_the_foreground():
    assert parse("-qf").foreground
    assert not parse("-q5m").foreground


@pytest.mark.parametrize(
    ("words", "ignored"),
    [
        (["-i"], True),
        (["-oi"], True),
        (["-o", "i"], True),
        (["-oitrue"], True),
        (["-oiTrue"], True),
        (["-OIgnoreDots"], True),
        (["-O", "IgnoreDots=True"], True),
        (["-O", "ignoredots = yes"], True),
        (["-OIgnoreDots=False"], False),
        (["-oiF"], False),
        (["-oif"], False),
        (["-oem"], False),
        (["-O", "DeliveryMode=i"], False),
    ],
)
def test_a_lone_dot_is_text_however_sendmail_is_told_so(words, ignored):
    assert cli.parse([*words, "a@x"]).ignore_dots == ignored


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
        ("-bD", "no SMTP listener"),
        ("-bl", "no SMTP listener"),
        ("-be", "not supported"),
        ("-bC", "not supported"),
        ("-bp u@x", "mutually exclusive"),
        ("-q -- u@x", "mutually exclusive"),
        ("-bp -q", "conflicting queue operations"),
        ("-N sometimes u", "invalid argument"),
        ("-Mrm 1abc", "dma-queue"),
        ("--nonsense", "invalid argument"),
        ("--from", "needs a value"),
        ("--account", "needs a value"),
        ("--pretend u", "invalid argument"),
        ("-P u", "invalid argument"),
        ("--host=x u", "invalid argument"),
        ("-\x1b", "invalid argument: `-\\x1b'"),
    ],
)
def test_what_is_refused(words, text):
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert text in caught.value.text
    assert caught.value.status == 64
