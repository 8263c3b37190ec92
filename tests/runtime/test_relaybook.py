"""When what is known of relays is written down: at once, then with a pause, and at the end."""

import asyncio

from dma_runtime.delivery import relaybook
from dma_runtime.delivery.relaybook import RelayBook
from dma_runtime.envelope import Moment
from dma_runtime.outcome import DEFERRED, RELAY, Outcome
from dma_runtime.policy.relay import RelayState
from dma_runtime.system import relays

NOW = 1_800_000_000.0


def down():
    state = RelayState()
    state.refused(Outcome(DEFERRED, "no", scope=RELAY, answered=True), Moment(NOW), lambda last: 300.0)
    return state


def learnt(book, name):
    """What is on record once `name` was learnt."""
    book.states[name] = down()
    book.changed()
    return on_record(book)


def on_record(book):
    return sorted(relays.read(book.path, NOW))


def test_the_first_at_once_and_the_rest_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(relaybook, "PAUSE", 1000.0)

    async def scenario():
        book = RelayBook(str(tmp_path), lambda: NOW)
        assert learnt(book, "a") == ["a"]
        assert learnt(book, "b") == ["a"]
        book.close()
        return on_record(book)

    assert asyncio.run(scenario()) == ["a", "b"]


def test_what_came_too_soon_is_written_when_the_pause_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(relaybook, "PAUSE", 0.02)
    monkeypatch.setattr(relaybook, "_SHARE", 0)

    async def scenario():
        book = RelayBook(str(tmp_path), lambda: NOW)
        learnt(book, "a")
        assert learnt(book, "b") == ["a"]
        for _ in range(500):
            if on_record(book) == ["a", "b"]:
                break
            await asyncio.sleep(0.01)
        return on_record(book)

    assert asyncio.run(scenario()) == ["a", "b"]


def test_the_next_owner_begins_with_it(tmp_path):
    relays.write(str(tmp_path), {"a": down()}, NOW)
    assert RelayBook(str(tmp_path), lambda: NOW).states["a"].waits(NOW)
