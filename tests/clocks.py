"""The clocks of this process, for a test to move: `monkeypatch.setattr(clock, "time", Clocks().namespace())`."""

import time
import types


class Clocks:
    """Those of the machine; `wall` seconds are added to the wall clock, `asleep` to that and the one that runs through
    suspend, `all` to every one."""

    def __init__(self):
        self.wall = self.asleep = self.all = 0.0

    def namespace(self):
        return types.SimpleNamespace(
            time=lambda: time.time() + self.wall + self.asleep + self.all,
            clock_gettime=lambda which: time.clock_gettime(which) + self.asleep + self.all,
            monotonic=lambda: time.monotonic() + self.all,
            CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
        )
