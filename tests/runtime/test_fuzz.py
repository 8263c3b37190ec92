"""Each fuzz target for a moment, by hypothesis: bytes of every kind, and words that mean something to the target."""

import fuzz_targets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
def test_its_invariant_holds(name):
    target, words = fuzz_targets.TARGETS[name]

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from(words) | st.binary(max_size=6), max_size=30).map(b"".join) | st.binary(max_size=200))
    def holds(data):
        target(data)

    holds()
