"""When a sender is told of a delay, once, and of success, if asked for and if the relay does not do it."""

import pytest

from dma_runtime.config import parse
from dma_runtime.delivery import news
from dma_runtime.delivery.queue import Item, Round
from dma_runtime.envelope import Envelope, Moment, Recipient
from dma_runtime.history import fold
from dma_runtime.outcome import DEFERRED, DELIVERED, Outcome

ACCEPTED = 1_790_000_000.0
LATER = Outcome(DEFERRED, "451 later", code=451, stage="RCPT TO", relay="mx [::1]")
GOOD = Outcome(DELIVERED, "250 ok", code=250, stage="final DATA", relay="mx [::1]")


def item(*recipients, sender="me@box.test", events=()):
    envelope = Envelope("id", sender, list(recipients) or [Recipient("a@x.test")], ACCEPTED)
    made = Item(envelope, fold(envelope, list(events)))
    made.round = Round(False)
    made.round.deferred = dict.fromkeys(made.state.open, LATER)
    return made


def delay(made, age, conf="DELAYWARNING 4h"):
    return news.of_delay(made, parse(conf, "t"), Moment(ACCEPTED + age))


class TestDelay:
    def test_older_than_the_key(self):
        told = delay(item(), 4 * 3600 + 1)
        assert (told.kind, told.pairs) == ("delayed", [(0, LATER)])
        assert told.until == ACCEPTED + 432000

    def test_not_before(self):
        assert delay(item(), 4 * 3600) is None

    def test_off_by_default(self):
        assert delay(item(), 86400, "") is None

    def test_once(self):
        made = item()
        moment = Moment(ACCEPTED + 20000)
        made.state.apply(news.delayed_event(moment))
        assert delay(made, 90000) is None
        assert delay(item(events=[news.delayed_event(moment)]), 90000) is None

    def test_only_of_those_who_wait_and_may_be_told(self):
        made = item(
            Recipient("gone@x.test"),
            Recipient("waits@x.test"),
            Recipient("never@x.test", notify="never"),
            Recipient("fail@x.test", notify="failure"),
            Recipient("delay@x.test", notify="delay"),
        )
        made.round.closed = {0}
        assert [index for index, _ in delay(made, 20000).pairs] == [1, 4]

    def test_nobody_waits(self):
        made = item()
        made.round.closed = {0}
        assert delay(made, 20000) is None

    def test_no_report_on_a_report(self):
        assert delay(item(sender=""), 20000) is None

    def test_the_last_answer_of_an_earlier_round_will_do(self):
        made = item()
        made.state.recipients[0].last = LATER
        made.round.deferred = {}
        assert delay(made, 20000).pairs == [(0, LATER)]

    def test_it_never_promises_the_past(self):
        told = delay(item(), 500000)
        assert told.until == ACCEPTED + 500000 + 3600


@pytest.mark.parametrize(("handed_on", "kind"), [(True, "relayed"), (False, "delivered")])
def test_success_for_those_who_asked(handed_on, kind):
    made = item(Recipient("a@x.test", notify="success"), Recipient("b@x.test"), Recipient("c@x.test", notify="never"))
    told = news.of_delivery(made, GOOD, [0, 1, 2], handed_on=handed_on)
    assert (told.kind, told.pairs) == (kind, [(0, GOOD)])
    assert news.of_delivery(made, GOOD, [1, 2], handed_on=handed_on) is None


def test_no_success_for_the_null_sender():
    made = item(Recipient("a@x.test", notify="success"), sender="")
    assert news.of_delivery(made, GOOD, [0], handed_on=True) is None
