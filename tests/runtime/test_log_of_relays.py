"""The line about a relay that takes no mail."""

import pytest

from dma_runtime.outcome import DEFERRED, RELAY, Outcome
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
