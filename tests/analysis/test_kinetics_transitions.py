"""Transitions between cores, counted by hand and by a loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajgen.analysis.kinetics.transitions import core_transitions
from trajgen.errors import InputError


def test_grazes_and_ends_of_segments_do_not_count():
    values = np.array([0.0, 0.5, 0.1, 0.6, 1.0, 0.5, 0.9, 0.0, 1.0, 1.0, 0.0])
    segments = np.array([3, 3, 3, 3, 3, 3, 3, 3, 7, 7, 7])
    np.testing.assert_array_equal(core_transitions(values, segments, 0.2, 0.8), [2, 1])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 2)), min_size=1))
def test_agrees_with_a_loop(frames):
    values, segments = (np.array(column) for column in zip(*frames, strict=True))
    wanted = {}
    last = {}
    for value, segment in frames:
        wanted.setdefault(segment, 0)
        if value == 0.5:
            continue
        wanted[segment] += segment in last and last[segment] != value
        last[segment] = value
    found = core_transitions(values, segments.astype(np.int64), 0.2, 0.8)
    assert found.tolist() == [wanted[segment] for segment in sorted(wanted)]


def test_cores_that_overlap_are_refused():
    with pytest.raises(InputError, match="inside < outside"):
        core_transitions(np.zeros(2), np.zeros(2, np.int64), 0.5, 0.5)
