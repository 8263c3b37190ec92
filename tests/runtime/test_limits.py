"""Limits with their numbers: each refused on the far side of its line, and passing on the near side."""

from dma_runtime.policy.limits import MESSAGE, QUESTION, RUN, Limits, most_recipients, on_disk

ALICE, BOB = 1001, 1002


def granted(answers):
    return [not answer for answer in answers].count(True)


def test_twenty_conversations_at_once_and_the_twentyfirst_when_one_has_left():
    limits = Limits()
    assert granted(limits.enter(ALICE) for _ in range(25)) == 20
    assert "20 programs of this user" in limits.enter(ALICE)
    assert limits.enter(BOB) == ""
    limits.leave(ALICE)
    assert limits.enter(ALICE) == ""
    assert limits.enter(ALICE) != ""


def test_root_has_ten_times_as_many():
    limits = Limits()
    assert granted(limits.enter(0) for _ in range(300)) == 200


def test_sixty_messages_a_minute_in_any_minute():
    limits = Limits()
    assert granted(limits.ask(ALICE, MESSAGE, second / 2) for second in range(100)) == 60  # in 50 s
    assert "more than 60 messages a minute from this user; try again in 1 s" in limits.ask(ALICE, MESSAGE, 59.9)
    assert limits.ask(ALICE, MESSAGE, 60.0) == ""  # the first is a minute ago
    assert limits.ask(ALICE, MESSAGE, 60.1) != ""
    assert limits.ask(BOB, MESSAGE, 60.1) == ""
    assert granted(limits.ask(0, MESSAGE, 0.0) for _ in range(700)) == 600


def test_questions_are_counted_by_themselves():
    limits = Limits()
    assert granted(limits.ask(ALICE, QUESTION, 0.0) for _ in range(70)) == 60
    assert limits.ask(ALICE, MESSAGE, 0.0) == ""


def test_a_queue_run_a_minute_and_root_whenever_it_likes():
    limits = Limits()
    assert limits.ask(ALICE, RUN, 5.0) == ""
    assert "more than 1 queue run a minute" in limits.ask(ALICE, RUN, 64.9)
    assert limits.ask(ALICE, RUN, 65.0) == ""
    assert granted(limits.ask(0, RUN, 5.0) for _ in range(2000)) == 2000


def test_a_quarter_of_the_spool():
    limits, quarter = Limits(), 250 << 20
    assert limits.store(ALICE, 50 << 20, 200 << 20, 4 * quarter) == ""
    assert "250 MB" in limits.store(ALICE, (50 << 20) + 1, 200 << 20, 4 * quarter)
    assert limits.store(0, 4 * quarter, 0, 4 * quarter) == ""


def test_a_quarter_of_its_files_and_an_empty_message_is_a_block():
    limits = Limits()
    assert limits.keep(ALICE, 249, 1000) == ""
    assert "250 messages" in limits.keep(ALICE, 250, 1000)
    assert limits.keep(0, 1000, 1000) == ""
    assert [on_disk(size) for size in (0, 3584, 3585, 1 << 20)] == [4096, 4096, 8192, (1 << 20) + 4096]


def test_a_thousand_recipients_and_root_ten_thousand():
    assert (most_recipients(1001), most_recipients(0)) == (1000, 10_000)


def test_who_has_not_been_here_for_a_minute_is_forgotten():
    limits = Limits()
    for uid in range(10_000):
        limits.ask(uid, MESSAGE, 0.0)
        if not limits.enter(uid):
            limits.leave(uid)
    limits.ask(ALICE, MESSAGE, 61.0)
    assert len(limits._asked) == 1
    assert limits._open == {}
