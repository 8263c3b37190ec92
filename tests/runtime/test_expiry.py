"""Giving up, from end to end: an owner at work through days that pass in a moment (hard-parts.md, Time)."""

import email
import email.policy

import pytest
from clocks import Clocks
from exchange import Exchange

from dma_runtime.system import clock

HOUR, DAY = 3600, 86400
LATER = "451 4.2.0 not today"


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(clock, "time", clocks.namespace())
    return clocks


@pytest.fixture
def exchange(tmp_path, monkeypatch, clocks):
    with Exchange(tmp_path, monkeypatch) as exchange:
        exchange.host(2)
        exchange.agent.configure(f"SMARTHOST mx2.test:{exchange.port}\nDELAYWARNING 4h")
        yield exchange


def pass_time(exchange, clocks, seconds, step=3 * HOUR):
    """Let it pass, with an attempt of what is due at each step."""
    while seconds > 0:
        clocks.all += min(step, seconds)
        seconds -= step
        exchange.run()


def told(exchange):
    """(subject, to, action of each recipient, text) of each report that is in the queue or left."""
    texts = [raw.partition("\n")[2] for raw in exchange.reports()]
    texts += [m.content.decode() for m in exchange.host(2).messages if m.sender == "<>"]
    found = []
    for text in texts:
        report = email.message_from_string(text, policy=email.policy.default)
        groups = report.get_payload(1).get_payload()[1:]
        actions = [(group["Final-Recipient"].partition("; ")[2], group["Action"]) for group in groups]
        found.append((report["Subject"], actions, report.get_payload(0).get_content()))
    return sorted(found)


def test_five_days_of_refusals_end_in_a_report_and_four_hours_in_a_warning(exchange, clocks):
    exchange.host(2).refuse("RCPT TO", LATER, when="slow@")
    exchange.send("slow@x.test", "fast@x.test")
    exchange.run()
    pass_time(exchange, clocks, 3 * HOUR)
    assert told(exchange) == []
    pass_time(exchange, clocks, 3 * HOUR)
    ((subject, actions, text),) = told(exchange)
    assert (subject, actions) == ("Mail delivery delayed", [("slow@x.test", "delayed")])
    assert LATER in text
    pass_time(exchange, clocks, 4 * DAY)
    assert len(told(exchange)) == 1
    assert exchange.recipients()["slow@x.test"]["attempts"] > 20
    pass_time(exchange, clocks, DAY)
    _, (subject, actions, text) = told(exchange)
    assert (subject, actions) == ("Mail delivery failed", [("slow@x.test", "failed")])
    assert "Could not deliver for the last 432000 seconds. Giving up." in text
    assert LATER in text
    exchange.run()
    assert exchange.agent.files() == exchange.agent.files("log") == []


def test_a_relay_that_is_down_for_weeks_ends_each_message_in_its_time(exchange, clocks):
    """Those too that came while it was down, which are never tried themselves."""
    exchange.host(2).pause()
    for day in range(3):
        for name in "abc":
            exchange.send(f"{name}{day}@x.test", sender="")  # no report: what is left is what waits
        exchange.run()
        pass_time(exchange, clocks, DAY)
    assert len(waiting(exchange)) == 9
    pass_time(exchange, clocks, 2 * DAY + 3 * HOUR)
    assert {address[1] for address in waiting(exchange)} == {"1", "2"}
    pass_time(exchange, clocks, 2 * DAY)
    assert waiting(exchange) == []
    exchange.host(2).resume()


def waiting(exchange):
    return [one["address"] for row in exchange._rows() for one in row["recipients"]]


@pytest.mark.parametrize("asleep", [True, False])
def test_a_notebook_that_slept_bounces_nothing(exchange, clocks, asleep):
    exchange.host(2).refuse("RCPT TO", LATER)
    exchange.send("slow@x.test")
    exchange.run()
    for _ in range(5):
        if asleep:
            clocks.asleep += 30 * HOUR
        else:
            clocks.all += 30 * HOUR
        exchange.run()
        clocks.all += 60
        exchange.run()
    said = [subject for subject, _, _ in told(exchange)]
    assert ("Mail delivery failed" in said) == (not asleep)
    assert bool(exchange.recipients()) == asleep
