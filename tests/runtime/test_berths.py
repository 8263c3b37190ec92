"""Berths for direct delivery: a thousand tarpits of one user keep nobody else's mail waiting."""

import asyncio

import pytest

from dma_runtime.delivery.berths import Berths

ALICE, BOB, MALLORY = 1001, 1002, 1003


def in_loop(story):
    async def run():
        story()

    asyncio.run(run())


def granted(tickets):
    return [ticket for ticket in tickets if ticket.granted.done() and ticket.granted.result()]


def test_one_user_has_half_and_the_others_the_rest():
    def story():
        berths = Berths(10, 5)
        theirs = [berths.ask({MALLORY}) for _ in range(1000)]
        assert len(granted(theirs)) == 5
        mine = [berths.ask({ALICE}) for _ in range(3)]
        assert len(granted(mine)) == 3
        assert len(granted([berths.ask({BOB}) for _ in range(9)])) == 2, "and then all are taken"
        berths.leave(mine[0])
        assert len(granted(theirs)) == 5

    in_loop(story)


def test_who_waits_is_let_in_by_turns_of_the_users():
    def story():
        berths = Berths(2, 2)
        first = [berths.ask({MALLORY}) for _ in range(2)]
        theirs = [berths.ask({MALLORY}) for _ in range(50)]
        mine, bobs = berths.ask({ALICE}), berths.ask({BOB})
        order = []
        for ticket in first:
            berths.leave(ticket)
        order += [ticket.uid for ticket in (*theirs, mine, bobs) if ticket.uid >= 0]
        berths.leave(theirs[0])
        assert sorted(order) == [ALICE, MALLORY]
        assert bobs.uid == BOB

    in_loop(story)


def test_whoever_comes_first_brings_a_domain_its_session():
    def story():
        berths = Berths(4, 1)
        berths.ask({MALLORY})
        shared = berths.ask({MALLORY})  # mail to a domain that others write to as well
        assert granted([shared]) == []
        shared.also(ALICE)
        assert (granted([shared]), shared.uid) == ([shared], ALICE)
        assert berths.ask({ALICE}).granted.done() is False
        berths.leave(shared)
        assert len(granted([berths.ask({BOB}), berths.ask({BOB, ALICE})])) == 1  # she has one again, of the ticket that waited

    in_loop(story)


def test_a_ticket_given_back_is_passed_over_and_none_is_counted_twice():
    def story():
        berths = Berths(1, 1)
        first, second, third = (berths.ask({ALICE}) for _ in range(3))
        berths.leave(second)
        berths.leave(second)
        berths.leave(first)
        berths.leave(first)
        assert granted([third]) == [third]
        berths.leave(third)
        assert berths._free == 1
        assert berths._used == {}

    in_loop(story)


@pytest.mark.parametrize("before", [True, False])
def test_when_we_stop_nobody_is_let_in(before):
    def story():
        berths = Berths(1, 1)
        inside = berths.ask({ALICE})
        waiting = None if before else berths.ask({BOB})
        berths.close()
        waiting = waiting or berths.ask({BOB})
        berths.leave(inside)
        assert waiting.granted.result() is False

    in_loop(story)
