"""The file with what is known of relays, read by whoever comes next: nothing in it can end an owner."""

import json

import pytest

from dma_runtime.envelope import Moment
from dma_runtime.outcome import DEFERRED, RELAY, Outcome
from dma_runtime.policy.relay import RelayState
from dma_runtime.system import relays

NOW = 1_800_000_000.0


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN", "1" * 400])
@pytest.mark.parametrize("name", ["rounds", "down_until", "backoff", "code", "heard"])
def test_nonsense_is_passed_over(tmp_path, name, value):
    state = RelayState()
    state.refused(Outcome(DEFERRED, "no", scope=RELAY, answered=True), Moment(NOW), lambda last: 300.0)
    relays.write(str(tmp_path), {"r:25": state}, NOW)
    path = tmp_path / relays.NAME
    values = json.loads(path.read_text())["r:25"]
    values[name] = [["@", 1, 1, "boot"]] if name == "heard" else "@"
    path.write_text(json.dumps({"r:25": values}).replace('"@"', value))
    assert not getattr(relays.read(str(tmp_path), NOW)["r:25"], name)
