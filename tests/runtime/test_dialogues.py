"""Every conversation of tests/dialogues, without a socket: the server's bytes whole, byte by byte, and cut at random."""

import asyncio
import random

import dialogue
import pytest
import wire_check

ALL = dialogue.load()


def whole(data):
    return [data]


def bytewise(data):
    return [data[at : at + 1] for at in range(len(data))]


def at_random(seed):
    dice = random.Random(seed)

    def cut(data):
        pieces, at = [], 0
        while at < len(data):
            size = dice.choice([1, 2, 3, 5, 8, 40])
            pieces.append(data[at : at + size])
            at += size
        return pieces

    return cut


def played(wanted, cut):
    result = asyncio.run(dialogue.play(wanted, cut))
    dialogue.check(wanted, result)
    wire_check.check(wanted.name, result.writes)


def test_every_dialogue_says_what_it_proves():
    assert len(ALL) >= 70
    assert not [one.name for one in ALL if not one.proves or not one.expected]


@pytest.mark.parametrize("wanted", ALL, ids=lambda one: one.name)
def test_whole(wanted):
    played(wanted, whole)


@pytest.mark.parametrize("wanted", ALL, ids=lambda one: one.name)
def test_byte_by_byte(wanted):
    played(wanted, bytewise)


@pytest.mark.parametrize("wanted", ALL, ids=lambda one: one.name)
def test_cut_at_random(wanted):
    for seed in range(8):
        played(wanted, at_random(seed))
