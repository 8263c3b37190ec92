"""The system's own sendmail takes what is for others on this machine, if it is there and is not ours."""

import os
import sys

import pytest
from sendmail_program import Sendmail

from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED
from dma_runtime.system import othermta


@pytest.fixture
def other(tmp_path, monkeypatch):
    """A stand-in that writes down what it was given and ends as told."""
    path = tmp_path / "other-sendmail"
    path.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/args\nenv > {tmp_path}/env\n'
        f"[ -e {tmp_path}/deaf ] || cat > {tmp_path}/message\n"
        f"echo 'some reason' >&2\nexit $(cat {tmp_path}/status)\n"
    )
    path.chmod(0o755)
    (tmp_path / "status").write_text("0")
    monkeypatch.delenv(othermta.HANDED)
    monkeypatch.setattr(othermta, "PLACES", (str(path),))
    return path


def test_the_first_program_that_is_not_ours(tmp_path, other):
    ours = Sendmail(tmp_path).program
    text = tmp_path / "text"
    text.write_text("not executable")
    assert othermta.find((str(tmp_path / "absent"), str(tmp_path), str(text), str(ours), str(other))) == str(other)
    assert othermta.find((str(ours),)) == ""
    link = tmp_path / "link"
    link.symlink_to(ours)
    assert othermta.find((str(link),)) == ""


def test_what_was_handed_on_is_not_handed_on_again(other, monkeypatch):
    monkeypatch.setenv(othermta.HANDED, "1")
    assert othermta.find((str(other),)) == ""


def test_it_is_given_the_message_and_nothing_of_ours(tmp_path, other, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    outcome = othermta.hand_on(str(other), "me@x", "bob", iter([b"Subject: s\n", b"\n.\nb\n"]))
    assert (outcome.kind, outcome.text) == (DELIVERED, f"handed to {other} for bob")
    assert (tmp_path / "args").read_text().splitlines() == ["-i", "-f", "me@x", "--", "bob"]
    assert (tmp_path / "message").read_bytes() == b"Subject: s\n\n.\nb\n"
    assert "SECRET" not in (tmp_path / "env").read_text()
    assert othermta.HANDED in (tmp_path / "env").read_text()


def test_the_null_sender_stays_one(tmp_path, other):
    othermta.hand_on(str(other), "", "bob", [b"x"])
    assert (tmp_path / "args").read_text().splitlines()[2] == "<>"


@pytest.mark.parametrize(("status", "kind"), [(67, FAILED), (65, FAILED), (75, DEFERRED), (1, DEFERRED), (78, DEFERRED)])
def test_its_status_is_the_answer(tmp_path, other, status, kind):
    (tmp_path / "status").write_text(str(status))
    outcome = othermta.hand_on(str(other), "me@x", "bob", [b"x"])
    assert outcome.kind == kind
    assert f"exit status {status}): some reason" in outcome.text


def test_one_that_does_not_read_does_not_stop_us(tmp_path, other):
    (tmp_path / "deaf").touch()
    assert othermta.hand_on(str(other), "me@x", "bob", [b"x" * 1_000_000]).kind == DELIVERED


def test_one_that_cannot_run_or_does_not_end_defers(tmp_path, other):
    other.write_text("#!/nonexistent/interpreter\n")
    assert othermta.hand_on(str(other), "me@x", "bob", [b"x"]).kind == DEFERRED
    other.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    assert "did not take" in othermta.hand_on(str(other), "me@x", "bob", [b"x"], wait=0.5).text


def test_an_owner_hands_on_what_is_for_others(tmp_path, other):
    """Through the spool: local delivery of a message for somebody else runs the program, and its answer counts."""
    from dma_runtime import config
    from dma_runtime.delivery import local
    from dma_runtime.envelope import Envelope, Recipient
    from dma_runtime.system.spool import Spool

    spool = Spool(str(tmp_path / "spool"))
    spool.prepare(own_only=True)
    envelope = Envelope("", "me@x", [Recipient("not-an-account")], 1.0)
    draft = spool.draft(envelope)
    draft.write(b"Subject: s\n\nhello\n")
    name = draft.commit(envelope)
    assert local.deliver(spool, name, envelope.recipients[0], config.parse("", "f")).kind == DELIVERED
    assert (tmp_path / "message").read_bytes() == b"Subject: s\n\nhello\n"
    assert (tmp_path / "args").read_text().splitlines()[-1] == "not-an-account"


def test_who_can_be_reached(monkeypatch, other):
    import pwd

    me = pwd.getpwuid(os.getuid()).pw_name
    someone = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_uid != os.getuid())
    assert othermta.deliverable(me)
    monkeypatch.setattr(othermta, "find", lambda: str(other))
    assert othermta.deliverable(someone)
    assert othermta.deliverable("not-an-account")  # it may have aliases of its own
    monkeypatch.setattr(othermta, "find", lambda: "")
    assert not othermta.deliverable(someone)
    assert not othermta.deliverable("not-an-account")
