"""The wall clock is set while mail waits (hard-parts.md, Time): waits stay as long as they were meant, whoever keeps them."""

import calendar
import json
import time

import pytest
from clocks import Clocks
from exchange import Exchange

from dma_runtime.policy.relay import RelayState
from dma_runtime.system import clock, relays

DAY = 86400
RELAY = "mx2.test"


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(clock, "time", clocks.namespace())
    return clocks


@pytest.fixture
def exchange(tmp_path, monkeypatch, clocks):
    with Exchange(tmp_path, monkeypatch, conf=f"SMARTHOST {RELAY}:9\nRETRY 5m 3h") as exchange:
        yield exchange


def waits(owner):
    """Seconds until each recipient is tried again, as the operator is told."""
    now = clock.now().wall
    dues = [one["next_attempt"] for row in owner.rows() for one in row["recipients"]]
    return [(clock_of(due) - now) for due in dues]


def clock_of(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_what_waits_with_its_relay_waits_five_minutes_whatever_the_clock(exchange, clocks, jump):
    exchange.send("a@x.test")
    exchange.send("b@x.test")
    owner = exchange.run()
    assert all(290 < wait <= 301 for wait in waits(owner))
    clocks.wall += jump
    owner._look_around()
    assert all(290 < wait <= 301 for wait in waits(owner)), waits(owner)
    assert 290 < owner.queue.next_due() - clock.now().wall <= 301
    (state,) = owner.rounds.relays.values()
    assert 290 < state.down_until - clock.now().wall <= 301


def test_an_attempt_that_is_asked_for_keeps_the_schedule_as_it_is_now(exchange, clocks):
    exchange.send("a@x.test")
    owner = exchange.run()
    clocks.wall -= DAY
    owner._look_around()
    (item,) = owner.queue.items.values()
    assert 290 < item.state.due - clock.now().wall <= 301


def test_a_host_that_is_passed_over_is_tried_again_in_time(exchange, clocks):
    exchange.agent.configure(f"SMARTHOST {RELAY}:9\nFALLBACK mx3.test:9\nRETRY 5m 3h")
    exchange.send("a@x.test")
    owner = exchange.run()
    (relay,) = owner.rounds._relays.values()
    clocks.wall -= DAY
    owner._look_around()
    now = clock.now().wall
    assert relay.approach._paused
    assert all(290 < until - now <= 301 for until in relay.approach._paused.values())


def test_the_clock_was_set_while_nobody_owned_the_queue(exchange, clocks):
    """What the file of the relays says of a time to come is believed no further than its last step."""
    clocks.wall += 400 * DAY
    exchange.send("a@x.test")
    exchange.run()
    clocks.wall = 0.0
    path = str(exchange.agent.spool)
    (state,) = relays.read(path, clock.now().wall).values()
    assert state.down_until - clock.now().wall <= 300
    clocks.all += 301
    exchange.host(2)
    exchange.agent.configure(f"SMARTHOST {RELAY}:{exchange.port}\nRETRY 5m 3h")
    exchange.run()
    assert exchange.got(2) == [["a@x.test"]]


def test_a_file_of_relays_that_makes_no_sense_is_no_file(tmp_path):
    odd = '{"a": {"rounds": NaN, "down_until": Infinity, "heard": [[1], 2, ["x", 1, 2, "b"], null]}}'
    for said in (odd, "[]", "{", '{"a": 1}'):
        (tmp_path / relays.NAME).write_text(said)
        for state in relays.read(str(tmp_path), 1.0).values():
            assert state.to_json() == RelayState().to_json()


def test_what_is_written_is_read_again(tmp_path):
    state = RelayState.from_json({"rounds": 3, "text": "no", "down_until": 90.0, "backoff": 300.0, "heard": [[1.0, 2, 3.5, "b"]]})
    relays.write(str(tmp_path), {"r": state}, 100.0)
    again = relays.read(str(tmp_path), 1.0)["r"]
    assert again.to_json() == state.to_json()
    assert json.loads((tmp_path / relays.NAME).read_text())["r"]["heard"] == [[1.0, 2.0, 3.5, "b"]]
