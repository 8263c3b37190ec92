"""What has stood for a day is told to root by one letter, in system mode: what is due, how it reads, and that it is one."""

import asyncio
import email
import email.policy
import time

import pytest

from dma_runtime.config import Config, parse
from dma_runtime.delivery import rootmail
from dma_runtime.delivery.owner import Goal, Owner
from dma_runtime.message.letter import letter
from dma_runtime.policy import telling
from dma_runtime.policy.telling import Notice
from dma_runtime.system import notice
from dma_runtime.system.maillog import MailLog
from dma_runtime.system.ownership import Ownership
from dma_runtime.system.spool import Spool

NOW = 1_795_000_000.0
DAY = 86400


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    return spool


def stands(spool, subject="relay r:587", *, since=NOW - DAY - 1, cause="r:587 takes no mail (AUTH): 535 no"):
    notice.raise_(spool.path, Notice(subject, "AUTH 535 5.7.8", cause, "store the right password", since))


def written(spool, now=NOW):
    return rootmail.write(spool, parse("MAILNAME here.test\n", "x"), now)


def test_only_what_has_stood_for_a_day(spool):
    stands(spool, since=NOW - DAY)
    assert written(spool) == ""
    assert written(spool, NOW + 1) != ""


def test_once_and_again_only_when_it_went_and_came_back(spool):
    stands(spool)
    assert written(spool)
    stands(spool, cause="r:587 takes no mail (AUTH): 534 no")
    assert written(spool) == ""
    assert written(spool, NOW + 30 * DAY) == ""
    notice.withdraw(spool.path, ["relay r:587"])
    stands(spool, since=NOW)
    assert written(spool, NOW + DAY) == ""
    assert written(spool, NOW + DAY + 1) != ""


def test_another_trouble_of_the_same_subject_is_no_letter_more(spool):
    """Messages that cannot be returned: every one more is another notice."""
    notice.raise_(spool.path, telling.of_stuck(1, NOW - 2 * DAY))
    assert written(spool)
    notice.raise_(spool.path, telling.of_stuck(2, NOW))
    assert written(spool) == ""


def test_what_is_wrong_with_root_s_mailbox_is_not_told_there(spool):
    for subject in ("mailbox root", "mailbox root@here.test"):
        stands(spool, subject)
    assert written(spool) == ""
    stands(spool, "mailbox bob")
    assert written(spool)


def test_it_goes_to_root_here_with_the_null_sender(spool):
    stands(spool)
    stored = spool.open(written(spool))
    assert (stored.envelope.sender, [r.address for r in stored.envelope.recipients]) == ("", ["root"])
    message = email.message_from_bytes(stored.pread(1 << 20, 0), policy=email.policy.default)
    assert not message.defects
    assert (message["To"], message["Auto-Submitted"]) == ("root@here.test", "auto-generated")
    assert message["Subject"].startswith("Mail does not leave ")
    text = message.get_content()
    assert "r:587 takes no mail (AUTH): 535 no (for 1 d); store the right password" in " ".join(text.split())
    assert stored.pread(stored.envelope.header_end, 0).endswith(b"auto-generated\n")


def test_it_is_ascii_and_its_lines_are_short():
    head, body = letter("id", ["grün " + "x " * 900, "y" * 300], mailname="here.test", hostname="here", now=NOW)
    assert (head + body).isascii()
    assert max(map(len, (head + body).split(b"\n"))) < 400
    assert b"gr\\xfcn" in body


def test_a_spool_that_takes_nothing_leaves_it_to_the_next_time(spool, monkeypatch):
    stands(spool)
    monkeypatch.setattr(Spool, "draft", refuse)
    with pytest.raises(OSError, match="No space"):
        written(spool)
    monkeypatch.undo()
    assert written(spool)


def refuse(*words):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("system", [True, False])
def test_the_owner_of_a_machine_s_queue_tells_and_that_of_a_user_s_does_not(spool, system):
    notice.raise_(spool.path, Notice("relay 127.0.0.1:1", "", "no", "do", time.time() - 2 * DAY))
    config = Config()
    config.values = {"SPOOLDIR": spool.path, "SMARTHOST": parse("SMARTHOST 127.0.0.1:1", "x").SMARTHOST}
    config.system = system
    ownership = Ownership.take(spool)
    owner = Owner(ownership, spool, config, MailLog())
    asyncio.run(owner.serve(Goal(run=True, once=True)))
    ownership.release()
    assert len(spool.ids()) == (1 if system else 0)
