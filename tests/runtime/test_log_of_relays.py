"""The lines about a relay that takes no mail, and about mail that was not delivered."""

import pytest

from dma_runtime.envelope import Envelope, Recipient
from dma_runtime.outcome import DEFERRED, FAILED, RELAY, Outcome
from dma_runtime.system.maillog import MailLog


@pytest.mark.parametrize(
    ("stage", "said"),
    [("AUTH", "takes no mail: AUTH: no good;"), ("", "takes no mail: no good;")],
)
def test_a_stage_is_named_where_there_is_one(stage, said, capfd, tmp_path):
    log = MailLog(stderr=True, device=str(tmp_path / "log"))
    outcome = Outcome(DEFERRED, "no good", scope=RELAY, stage=stage)
    log.relay_down("relay.test:25", outcome, 1, 300)
    log.hop_down("relay.test:25", outcome, 300)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(said in line for line in lines)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome(DEFERRED, "full"), "<bob> local delivery deferred: full; next attempt in 300s, "),
        (Outcome(FAILED, "no such user"), "<bob> local delivery failed: no such user; message-id="),
        (Outcome(DEFERRED, "no auth.conf", scope=RELAY), "<bob> remote delivery deferred: no auth.conf; "),
        (
            Outcome(DEFERRED, "451 later", code=451, stage="RCPT TO", relay="r [192.0.2.1]"),
            "<bob> remote delivery deferred: r [192.0.2.1] failed after RCPT TO: 451 later; ",
        ),
        (
            Outcome(FAILED, "550 no", code=550, stage="RCPT TO", relay="r [192.0.2.1]"),
            "<bob> remote delivery to r [192.0.2.1] failed after RCPT TO: 550 no; ",
        ),
    ],
)
def test_what_happened_here_is_not_called_remote(outcome, said, capfd, tmp_path):
    envelope, wait = Envelope("abc", "a@b", [Recipient("bob")], 1.0), 300 if outcome.kind == DEFERRED else None
    MailLog(stderr=True, device=str(tmp_path / "log")).outcome(envelope, "bob", outcome, 0.1, wait)
    assert said in capfd.readouterr().err
