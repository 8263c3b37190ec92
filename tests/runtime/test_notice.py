"""Telling the operator: what is a notice, when it is news, when it goes, and how it survives in its file."""

import json
import os
import pathlib
import stat
import subprocess
import sys

import pytest
import sendmail_program

from dma_runtime.outcome import DEFERRED, MACHINE, RECIPIENT, RELAY, SENDER, Outcome
from dma_runtime.policy import telling
from dma_runtime.policy.telling import Notice
from dma_runtime.system import notice

NOW = 1_790_000_000.0
RELAY_KEY = "smtp.gmail.com:587"


def refused(session="a1-20020", code=535, **more):
    text = f"{code}-5.7.8 Username and Password not accepted.\n{code} 5.7.8 https://support.test/ {session} - gsmtp"
    facts = {"scope": RELAY, "code": code, "status": "5.7.8", "stage": "AUTH", "tell": True, "hint": "make an app password"}
    return Outcome(DEFERRED, text, **{**facts, **more})


# ---------------------------------------------------------------- rules


def test_an_outcome_that_says_nothing_is_no_notice():
    assert telling.of_outcome(refused(tell=False), RELAY_KEY, NOW) is None


def test_a_refused_login_names_relay_reply_and_remedy():
    found = telling.of_outcome(refused(), RELAY_KEY, NOW)
    assert found.subject == f"relay {RELAY_KEY}"
    assert found.cause.startswith(
        f"{RELAY_KEY} takes no mail (AUTH): 535-5.7.8 Username and Password not accepted. / 535 5.7.8"
    )
    assert found.remedy == "make an app password"
    assert telling.log_line(found) == f"{found.cause}; {found.remedy}"


def test_the_subject_follows_the_scope():
    def subject(scope, where=RELAY_KEY):
        return telling.of_outcome(refused(scope=scope), where, NOW, sender="a@x", address="bob").subject

    assert subject(SENDER) == f"sender a@x at {RELAY_KEY}"
    assert subject(MACHINE) == "machine"
    assert subject(RECIPIENT, "") == "mailbox bob"


def test_what_outsiders_say_is_one_line():
    found = telling.of_outcome(refused(hint="a\nb\x1b[2J", code=0), RELAY_KEY, NOW)
    for line in telling.lines([found], NOW):
        assert line.isprintable()
    long = telling.of_outcome(Outcome(DEFERRED, "x" * 10_000, scope=RELAY, tell=True), RELAY_KEY, NOW)
    assert len(long.cause) <= 512
    assert long.remedy


def test_the_same_trouble_is_news_once_whatever_the_reply_s_session_id():
    first = telling.of_outcome(refused("a1"), RELAY_KEY, NOW)
    standing, news = telling.raised([], first)
    assert news
    standing, news = telling.raised(standing, telling.of_outcome(refused("b2"), RELAY_KEY, NOW + 600))
    assert not news
    (kept,) = standing
    assert "b2" in kept.cause
    assert kept.since == NOW
    standing, news = telling.raised(standing, telling.of_outcome(refused(code=534), RELAY_KEY, NOW + 700))
    assert news
    assert len(standing) == 1
    _, news = telling.raised(standing, telling.of_outcome(refused(), "other:25", NOW + 800))
    assert news


def test_a_delivery_withdraws_what_it_disproves():
    login = telling.of_outcome(refused(), RELAY_KEY, NOW)
    pair = telling.of_outcome(refused(scope=SENDER), RELAY_KEY, NOW, sender="a@x")
    other_pair = telling.of_outcome(refused(scope=SENDER), RELAY_KEY, NOW, sender="b@x")
    machine = telling.of_outcome(refused(scope=MACHINE), RELAY_KEY, NOW)
    box = telling.of_outcome(refused(), "", NOW, address="bob")
    old = telling.of_age(NOW - 90_000, NOW)
    standing = [login, pair, other_pair, machine, box, old]
    assert telling.withdrawn(standing, telling.flowing(RELAY_KEY, sender="a@x")) == [other_pair, box, old]
    assert telling.withdrawn(standing, telling.flowing("", address="bob")) == [login, pair, other_pair, machine, old]


def test_mail_is_old_after_a_day():
    assert telling.of_age(None, NOW) is None
    assert telling.of_age(NOW - 86_400, NOW) is None
    found = telling.of_age(NOW - 86_401, NOW)
    assert found.subject == telling.AGE
    assert found.since == NOW - 86_401


def test_stuck_messages_and_foreign_spools():
    assert telling.of_stuck(0, NOW) is None
    assert telling.of_stuck(1, NOW).cause.startswith("1 message can")
    assert telling.of_stuck(2, NOW).cause.startswith("2 messages can")
    assert "dma-queue adopt" in telling.of_foreign_spool(NOW).remedy


def test_lines_are_few_and_the_oldest_first():
    standing = [Notice(f"s{i}", "", f"cause {i}", "remedy", NOW - i * 4000) for i in range(5)]
    assert telling.lines(standing, NOW) == [
        "cause 4 (for 4 h); remedy",
        "cause 3 (for 3 h); remedy",
        "cause 2 (for 2 h); remedy",
        "and 2 more; `dma-setup doctor' shows all",
    ]
    assert telling.lines([], NOW) == []
    assert telling.lines([Notice("a", "", "c", "r", NOW)], NOW) == ["c (for less than a minute); r"]
    assert telling.lines([Notice("a", "", "c", "r", NOW - 200_000)], NOW) == ["c (for 2 d); r"]


# ---------------------------------------------------------------- the file


@pytest.fixture
def spool(tmp_path):
    return str(tmp_path)


def raise_login(spool, now=NOW, **more):
    return notice.raise_(spool, telling.of_outcome(refused(**more), RELAY_KEY, now))


def test_a_notice_outlives_its_owner_and_is_withdrawn(spool):
    assert notice.current(spool) == []
    assert raise_login(spool) is True
    assert raise_login(spool, NOW + 600) is False
    (found,) = notice.current(spool)
    assert found == telling.of_outcome(refused(), RELAY_KEY, NOW)
    assert stat.S_IMODE(os.stat(f"{spool}/notices").st_mode) == 0o600
    assert notice.withdraw(spool, ["relay other:25"]) is False
    assert notice.withdraw(spool, telling.flowing(RELAY_KEY)) is True
    assert notice.current(spool) == []
    assert os.listdir(spool) == []


def test_keep_raises_and_withdraws(spool):
    assert notice.keep(spool, telling.AGE, telling.of_age(NOW - 90_000, NOW)) is True
    assert notice.keep(spool, telling.AGE, telling.of_age(NOW - 90_000, NOW + 60)) is False
    assert len(notice.current(spool)) == 1
    assert notice.keep(spool, telling.AGE, None) is False
    assert notice.current(spool) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[1]", b"{}", b'[{"subject": 1}]', b"\xff", b'[{"subject":"a","kind":"","cause":"c","remedy":"r"}]'],
)
def test_a_damaged_file_is_no_notice_and_stops_nothing(spool, data):
    pathlib.Path(spool, "notices").write_bytes(data)
    assert notice.current(spool) == []
    assert raise_login(spool) is True
    assert len(notice.current(spool)) == 1


def test_a_spool_that_cannot_be_written_or_read_stops_nothing(tmp_path):
    gone = str(tmp_path / "gone")
    assert raise_login(gone) is True
    assert notice.current(gone) == []
    assert notice.withdraw(gone, ["x"]) is False
    os.symlink("/etc/passwd", tmp_path / "notices")
    assert notice.current(str(tmp_path)) == []
    os.unlink(tmp_path / "notices")
    os.mkfifo(tmp_path / "notices")
    assert notice.current(str(tmp_path)) == []


def test_it_is_replaced_never_rewritten(spool):
    raise_login(spool)
    with open(f"{spool}/notices", "rb") as before:
        notice.raise_(spool, telling.of_stuck(3, NOW))
        assert len(json.load(before)) == 1
    assert len(notice.current(spool)) == 2


def test_programs_say_it_on_standard_error(spool, capfd):
    assert notice.say(spool, "mailq", NOW) is False
    raise_login(spool)
    assert notice.say(spool, "mailq", NOW + 7200) is True
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"mailq: {RELAY_KEY} takes no mail (AUTH): 535-5.7.8 ")
    assert err.endswith("(for 2 h); make an app password\n")
    assert err.count("\n") == 1


def test_sendmail_says_it_first_on_a_terminal_only(tmp_path):
    mail = sendmail_program.Sendmail(tmp_path)
    mail.accepted("a@x.test")
    assert mail.on_terminal("-bq", "a@x.test", stdin=b"x") == (0, "")
    raise_login(str(mail.spool), NOW)
    status, shown = mail.on_terminal("-bq", "a@x.test", stdin=b"x")
    assert status == 0
    assert shown.startswith(f"sendmail: {RELAY_KEY} takes no mail (AUTH): 535-5.7.8 ")
    assert shown.endswith("; make an app password\r\n")
    mail.accepted("a@x.test")  # says nothing where there is no terminal


def test_looking_for_notices_costs_the_submit_path_nothing(spool):
    code = (
        "import os, sys; before = set(sys.modules)\n"
        "from dma_runtime.system import notice\n"
        f"assert notice.current({spool!r}) == []\n"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('dma_runtime')))"
    )
    root = pathlib.Path(__file__).resolve().parents[2]
    found = subprocess.run([sys.executable, "-ISc", f"import sys; sys.path.insert(0, {str(root)!r})\n" + code],
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert set(found.stdout.split()) <= {"__future__"}


@pytest.mark.parametrize(
    ("subject", "named", "waiting", "gone"),
    [
        ("relay a:25", {"a:25"}, set(), False),
        ("relay a:25", {"b:25"}, set(), True),
        ("relay a:25 (others are used meanwhile)", {"a:25"}, set(), False),
        ("relay a:25 (REQUIRETLS)", {"a:25"}, set(), False),
        ("relay a:25 (others are used meanwhile)", {"b:25"}, {"relay b:25"}, True),
        ("relay example.org", set(), {"relay example.org"}, False),  # direct: nobody names it
        ("relay example.org", set(), {"relay example.net"}, True),
        ("sender a@x at a:25", {"a:25"}, {"relay a:25"}, True),
        ("sender a@x at a:25", {"a:25"}, {"sender a@x at a:25"}, False),
        ("mailbox bob", set(), set(), True),
        ("mailbox bob", set(), {"mailbox bob"}, False),
        ("machine", set(), set(), True),
        ("machine", set(), {"relay example.org"}, False),
        (telling.AGE, set(), set(), False),  # these have rules of their own
        (telling.STUCK, set(), set(), False),
        (telling.FOREIGN, set(), set(), False),
    ],
)
def test_what_nobody_has_to_see_to_any_more(subject, named, waiting, gone):
    assert telling.outlived([Notice(subject, "", "x", "y", NOW)], named, waiting) == [subject] * gone
