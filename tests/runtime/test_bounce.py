"""Reports into a real spool: who gets them, that a repeated step makes no second one, and what stays in sight."""

import email
import errno
import os
import pwd

import pytest

from dma_runtime import config
from dma_runtime.aliases import parse as parse_aliases
from dma_runtime.delivery import bounce
from dma_runtime.delivery.news import News
from dma_runtime.envelope import Envelope, Moment, Recipient
from dma_runtime.history import fold
from dma_runtime.outcome import DEFERRED, DELIVERED, FAILED, Outcome
from dma_runtime.policy import retry
from dma_runtime.policy.recipients import Resolver
from dma_runtime.system.fs import FileSystem
from dma_runtime.system.spool import Spool

NOW = Moment(1_790_000_000.0, 50.0, 40.0, "boot")
HEADER = b"From: me@box.test\nSubject: hello\nMessage-ID: <m@box.test>\n"
REFUSED = Outcome(FAILED, "550 5.1.1 no such user", code=550, status="5.1.1", stage="RCPT TO", relay="mx.x.test [::1]")


@pytest.fixture
def spool(tmp_path):
    found = Spool(str(tmp_path / "spool"))
    found.prepare(own_only=True)
    return found


def spooled(spool, sender="me@box.test", recipients=("bob@x.test",), body=b"\nhello\n", **facts):
    envelope = Envelope("", sender, [Recipient(name) for name in recipients], 1_789_999_000.0)
    envelope.message_id = "<m@box.test>"
    envelope.uid, envelope.login = 1234, "me"
    for name, value in facts.items():
        setattr(envelope, name, value)
    envelope.header_end = len(HEADER)
    draft = spool.draft(envelope)
    draft.write(HEADER + body)
    draft.commit(envelope)
    return envelope


def reports(spool, conf="SMARTHOST relay.test", aliases="", accounts=("me",)):
    def resolver(found, mailname):
        return Resolver(
            found,
            mailname,
            account=lambda name: name.lower() if name.lower() in accounts else "",
            deliverable=lambda login: login == "me",
            aliases=lambda: parse_aliases(aliases, "aliases"),
            include=lambda path: "",
        )

    conf_in_force = config.parse(f"MAILNAME box.test\n{conf}", "t")
    return bounce.Reports(spool, lambda: conf_in_force, resolver=resolver, now=lambda: NOW)


def fail(made, envelope, *failures):
    return made.spool(envelope, fold(envelope, []), list(failures) or [(0, REFUSED)])


def read(spool, report):
    stored = spool.open(report)
    try:
        return stored.envelope, stored.pread(1 << 24, 0)
    finally:
        stored.close()


# ---------------------------------------------------------------- the report


def test_the_sender_gets_one_report_for_all_who_failed(spool):
    envelope = spooled(spool, recipients=("bob@x.test", "carol@y.test", "dave@z.test"))
    returned = fail(reports(spool), envelope, (0, REFUSED), (2, REFUSED))
    found, data = read(spool, returned.id)
    assert (returned.kept, returned.dropped) == (False, "")
    assert found.sender == ""
    assert [r.address for r in found.recipients] == ["me"]
    assert found.bounce_of == envelope.id
    assert (found.uid, found.login) == (1234, "me")
    assert found.accepted_at == NOW.wall
    assert data[: found.header_end].endswith(b'boundary="=_dma.' + returned.id.encode() + b'"\n')
    assert data[found.header_end :].startswith(b"\n")
    message = email.message_from_bytes(data)
    assert message["To"] == "<me@box.test>"
    assert message["Message-ID"] == found.message_id == f"<{returned.id}@box.test>"
    failed = [group["Final-Recipient"] for group in message.get_payload(1).get_payload()[1:]]
    assert failed == ["rfc822; bob@x.test", "rfc822; dave@z.test"]
    assert b"Giving up" not in data
    assert message.get_payload(2).get_payload(decode=True) == HEADER


def test_the_events_end_the_recipients(spool):
    envelope = spooled(spool, recipients=("bob@x.test", "carol@y.test"))
    returned = fail(reports(spool), envelope, (1, REFUSED))
    state = fold(envelope, returned.events)
    assert state.open == [0]
    assert state.recipients[1].state == FAILED
    assert state.recipients[1].last.text == "550 5.1.1 no such user"
    assert state.kept == ""


def test_the_whole_message_if_fullbounce(spool):
    envelope = spooled(spool, body=b"\n" + b"line\n" * 100_000)
    returned = fail(reports(spool, "FULLBOUNCE\nSMARTHOST relay.test"), envelope)
    _, data = read(spool, returned.id)
    assert HEADER + b"\n" + b"line\n" * 100_000 in data


def test_an_address_that_expired_is_told_in_c_dma_s_words(spool):
    envelope = spooled(spool)
    last = Outcome(DEFERRED, "451 4.7.1 later", code=451, status="4.7.1", stage="RCPT TO", relay="mx.x.test [::1]")
    returned = fail(reports(spool), envelope, (0, retry.given_up(last, 432000)))
    text = email.message_from_bytes(read(spool, returned.id)[1]).get_payload(0).get_payload()
    wanted = (
        "Could not deliver for the last 432000 seconds. Giving up.\n\n"
        "mx.x.test [::1] did not like our RCPT TO:\n451 4.7.1 later\n"
    )
    assert wanted in text


def test_a_relay_s_words_are_not_taken_for_ours(spool):
    envelope = spooled(spool)
    for text in ("Could not deliver for the last straw", "Could not deliver for the last x seconds. Giving up.\nz", ""):
        returned = fail(reports(spool), envelope, (0, Outcome(FAILED, text, code=554, stage="DATA", relay="mx [::1]")))
        _, data = read(spool, returned.id)
        assert b"mx [::1] did not like our DATA:\n554 " + text.encode() in data
        os.unlink(f"{spool.queue}/{returned.id}")


def test_the_end_of_the_header_is_found_however_it_is_cut():
    whole = b"A: b\nC: d\n\nbody\n\nmore"
    for cut in range(len(whole)):
        assert bounce._copy([whole[:cut], whole[cut:]], lambda piece: None) == 10
    assert bounce._copy([whole[i : i + 1] for i in range(len(whole))], lambda piece: None) == 10
    assert bounce._copy([b"A: b\n"], lambda piece: None) == 5


# ---------------------------------------------------------------- who gets it


def recipients_of(spool, sender, conf="SMARTHOST relay.test", **more):
    returned = fail(reports(spool, conf, **more), spooled(spool, sender=sender))
    return [r.address for r in read(spool, returned.id)[0].recipients] if returned.id else returned.why


def test_a_sender_elsewhere_is_told_there(spool):
    assert recipients_of(spool, "alice@gmail.test") == ["alice@gmail.test"]


def test_a_local_sender_is_told_through_the_aliases(spool):
    assert recipients_of(spool, "app@box.test", aliases="app: alice@gmail.test, me") == ["alice@gmail.test", "me"]


def test_a_sender_who_does_not_exist_here_is_told_by_way_of_postmaster(spool):
    assert recipients_of(spool, "app@box.test", "", aliases="postmaster: root\nroot: me") == ["me"]
    assert recipients_of(spool, "app@localhost", aliases="postmaster: alice@gmail.test") == ["alice@gmail.test"]
    # Our domain, but there is a relay that may know the address.
    assert recipients_of(spool, "app@box.test", aliases="postmaster: me") == ["app@box.test"]


def test_nobody_to_tell_keeps_the_message(spool):
    envelope = spooled(spool, sender="app@box.test")
    returned = fail(reports(spool, ""), envelope)
    assert returned.kept
    assert returned.id == ""
    assert returned.why == bounce.NO_SENDER
    assert fold(envelope, returned.events).kept == bounce.NO_SENDER
    assert returned.events[-1]["r"] == [0]  # whom `dma-queue retry` is about
    assert spool.ids() == [envelope.id]


def test_a_remote_sender_with_localonly_is_told_by_way_of_postmaster(spool):
    assert recipients_of(spool, "alice@gmail.test", "LOCALONLY", aliases="postmaster: me") == ["me"]
    assert recipients_of(spool, "alice@gmail.test", "LOCALONLY") == bounce.NO_SENDER


def test_unreadable_aliases_keep_the_message(spool, tmp_path):
    (tmp_path / "aliases").mkdir()
    conf_in_force = config.parse(f"MAILNAME box.test\nALIASES {tmp_path}/aliases", "t")
    returned = fail(bounce.Reports(spool, lambda: conf_in_force), spooled(spool, sender="nobody-here@box.test"))
    assert returned.kept


def test_by_default_local_senders_are_this_machine_s(spool):
    try:
        login = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        pytest.skip("needs a passwd entry for the user who runs the tests")
    conf_in_force = config.parse("MAILNAME box.test\nALIASES /nonexistent", "t")
    returned = fail(bounce.Reports(spool, lambda: conf_in_force), spooled(spool, sender=f"{login}@box.test"))
    assert [r.address for r in read(spool, returned.id)[0].recipients] == [login]


# ---------------------------------------------------------------- no report for a report


def test_the_null_sender_of_others_asked_for_no_report(spool):
    envelope = spooled(spool, sender="")
    returned = fail(reports(spool, aliases="postmaster: me"), envelope)
    assert (returned.kept, returned.id) == (False, "")
    assert returned.dropped == "can not bounce a bounce message, discarding: <bob@x.test>"
    assert fold(envelope, returned.events).open == []
    assert spool.ids() == [envelope.id]


def test_a_report_of_ours_goes_on_to_postmaster_once_and_is_then_kept(spool):
    made = reports(spool, aliases="postmaster: root@far.test")
    original = spooled(spool, sender="alice@gmail.test")
    first = fail(made, original)
    report, data = read(spool, first.id)
    second = fail(made, report)
    passed_on, again = read(spool, second.id)
    assert [(r.address, r.original) for r in passed_on.recipients] == [("root@far.test", "postmaster")]
    assert (passed_on.sender, passed_on.bounce_of) == ("", report.id)
    assert again == b"X-Undelivered-To: <alice@gmail.test>\n" + data
    assert again[passed_on.header_end :] == data[report.header_end :]
    third = fail(made, passed_on)
    assert third.kept
    assert third.why == bounce.NO_POSTMASTER
    assert sorted(spool.ids()) == sorted([original.id, report.id, passed_on.id])


def test_a_report_without_a_postmaster_is_kept(spool):
    made = reports(spool)
    report, _ = read(spool, fail(made, spooled(spool, sender="alice@gmail.test")).id)
    assert fail(made, report).kept


def test_a_relay_that_refuses_everything_ends_in_silence(spool):
    """However often it goes round: the number of messages in the spool is bounded."""
    made = reports(spool, aliases="postmaster: boss@far.test")
    waiting, seen = [spooled(spool, sender="alice@gmail.test")], 1
    while waiting:
        returned = fail(made, waiting.pop())
        if returned.id:
            waiting.append(read(spool, returned.id)[0])
            seen += 1
        assert seen <= 3
    assert seen == 3


# ---------------------------------------------------------------- repeated, damaged, full


def test_a_repeated_step_makes_no_second_report(spool):
    envelope = spooled(spool)
    first = fail(reports(spool), envelope)
    before = read(spool, first.id)[1]
    second = fail(reports(spool), envelope)
    assert second.id == first.id
    assert len(spool.ids()) == 2
    assert read(spool, first.id)[1] == before


def test_a_repeated_step_that_lost_the_race_makes_no_second_report(spool, monkeypatch):
    envelope = spooled(spool)
    first = fail(reports(spool), envelope)
    monkeypatch.setattr(Spool, "holds", lambda self, name: False)
    assert fail(reports(spool), envelope).id == first.id
    monkeypatch.undo()
    assert len(spool.ids()) == 2


def test_a_repeated_step_with_other_failures_leaves_nobody_untold(spool):
    envelope = spooled(spool, recipients=[f"u{i}@x.test" for i in range(40)])
    made = reports(spool)
    sets = [[0], [0, 1], [0, 2], [1], list(range(40)), [0, 39]]
    ids = {fail(made, envelope, *[(index, REFUSED) for index in failing]).id for failing in sets}
    assert len(ids) == len(sets)
    assert all(one.isalnum() and one == one.lower() for one in ids)


def test_the_order_of_failures_does_not_matter(spool):
    envelope = spooled(spool, recipients=("a@x", "b@x"))
    made = reports(spool)
    assert fail(made, envelope, (1, REFUSED), (0, REFUSED)).id == fail(made, envelope, (0, REFUSED), (1, REFUSED)).id


def test_a_damaged_message_is_kept(spool):
    envelope = spooled(spool)
    os.truncate(f"{spool.queue}/{envelope.id}", os.path.getsize(f"{spool.queue}/{envelope.id}") - 3)
    returned = fail(reports(spool), envelope)
    assert returned.kept
    assert "damaged" in returned.why


class Full(FileSystem):
    full = False

    def pwrite(self, fd, data, at):
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().pwrite(fd, data, at)


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_a_full_disk_is_an_error_to_repeat_and_leaves_nothing(tmp_path, size):
    fs = Full()
    spool = Spool(str(tmp_path / "spool"), fs)
    spool.prepare(own_only=True)
    envelope = spooled(spool, body=b"\n" + b"x\n" * (size // 2))
    made = reports(spool, "FULLBOUNCE\nSMARTHOST relay.test")
    descriptors = set(os.listdir("/proc/self/fd"))
    fs.full = True
    with pytest.raises(OSError, match="No space left"):
        fail(made, envelope)
    assert spool.ids() == [envelope.id]
    assert set(os.listdir("/proc/self/fd")) == descriptors
    fs.full = False
    first = fail(made, envelope).id
    assert first
    fs.full = True
    assert fail(made, envelope).id == first  # repeated: there is nothing to write


# ---------------------------------------------------------------- what the sender asked for (RFC 3461)


def wished(spool, *notify, ret="", body=b"\nhello\n"):
    names = [f"r{n}@x.test" for n in range(len(notify))]
    envelope = Envelope("", "me@box.test", [Recipient(a, notify=n) for a, n in zip(names, notify, strict=True)], 1_789_999_000.0)
    envelope.message_id, envelope.ret, envelope.envid, envelope.header_end = "<m@box.test>", ret, "E1", len(HEADER)
    draft = spool.draft(envelope)
    draft.write(HEADER + body)
    draft.commit(envelope)
    return envelope


def test_notify_never_gets_no_report_and_the_message_ends(spool):
    envelope = wished(spool, "never", "success,delay")
    returned = fail(reports(spool), envelope, (0, REFUSED), (1, REFUSED))
    assert (returned.id, returned.kept) == ("", False)
    assert "asked not to be told: <r0@x.test>, <r1@x.test>" in returned.dropped
    assert [event["r"] for event in returned.events] == [[0], [1]]
    assert spool.ids() == [envelope.id]


def test_those_who_asked_are_in_the_report_the_others_are_not(spool):
    envelope = wished(spool, "never", "failure", "")
    returned = fail(reports(spool), envelope, (0, REFUSED), (1, REFUSED), (2, REFUSED))
    text = whole(spool, returned.id)
    assert b"r0@x.test" not in text
    assert b"Final-Recipient: rfc822; r1@x.test" in text
    assert b"Final-Recipient: rfc822; r2@x.test" in text
    assert b"Original-Envelope-Id: E1" in text
    assert len(returned.events) == 3


@pytest.mark.parametrize(
    ("conf", "ret", "full"), [("", "", False), ("", "full", True), ("FULLBOUNCE", "", True), ("FULLBOUNCE", "hdrs", False)]
)
def test_ret_says_what_comes_back(spool, conf, ret, full):
    returned = fail(reports(spool, f"SMARTHOST relay.test\n{conf}"), wished(spool, "", ret=ret))
    assert (b"\nhello\n" in whole(spool, returned.id)) == full


def whole(spool, name):
    stored = spool.open(name)
    try:
        return stored.pread(1 << 20, 0)
    finally:
        stored.close()


@pytest.mark.parametrize("kind", ["relayed", "delivered"])
def test_a_report_of_success(spool, kind):
    envelope = wished(spool, "success", "success", ret="full")
    outcome = Outcome(DELIVERED, "250 ok", code=250, stage="final DATA", relay="mx [::1]")
    made = reports(spool)
    name = made.tell(envelope, News(kind, [(0, outcome)]))
    assert name == made.tell(envelope, News(kind, [(0, outcome)]))  # a repeated step
    assert made.tell(envelope, News(kind, [(1, outcome)])) != name
    report = spool.read(name)
    assert (report.sender, report.recipients[0].address, report.bounce_of) == ("", "me", envelope.id)
    text = whole(spool, name)
    assert f"Action: {kind}".encode() in text
    assert b"\nhello\n" not in text  # RFC 3461 4.3: RET is for failures


def test_one_report_of_a_delay_whoever_waits(spool):
    envelope = wished(spool, "", "")
    late = Outcome(DEFERRED, "451 4.7.1 later", code=451, status="4.7.1", stage="RCPT TO", relay="mx [::1]")
    made = reports(spool)
    name = made.tell(envelope, News("delayed", [(0, late), (1, late)], NOW.wall + 100))
    assert name == envelope.id + "w" == made.tell(envelope, News("delayed", [(1, late)], NOW.wall + 100))
    text = whole(spool, name)
    assert text.count(b"Action: delayed") == 2
    assert b"Will-Retry-Until: " in text
    assert b"451 4.7.1 later" in text


def test_who_cannot_be_told_of_what_has_not_failed_is_not_and_nobody_else(spool):
    late = Outcome(DEFERRED, "451 later", code=451)
    envelope = spooled(spool, sender="nobody@box.test")
    assert reports(spool, "", "postmaster: me").tell(envelope, News("delayed", [(0, late)], NOW.wall)) == ""
    envelope = spooled(spool, sender="")
    assert reports(spool, "", "postmaster: me").tell(envelope, News("delayed", [(0, late)], NOW.wall)) == ""


def test_what_has_gone_or_is_damaged_is_not_told_of(spool):
    late = News("delayed", [(0, Outcome(DEFERRED, "451 later", code=451))], NOW.wall)
    envelope = spooled(spool)
    with open(f"{spool.queue}/{envelope.id}", "r+b") as file:
        file.truncate(600)
    assert reports(spool).tell(envelope, late) == ""
    os.unlink(f"{spool.queue}/{envelope.id}")
    assert reports(spool).tell(envelope, late) == ""
