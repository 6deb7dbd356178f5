"""The sets that the surrogate is compared with: shuffled frames, and the walk among states."""

from dataclasses import replace

import numpy as np
import pytest
from peptides.forward import evaluation_settings
from peptides.sets import at_most, first_ps, shuffled, walk_among_states
from toy_peptide import wobbling_peptide

from trajgen.analysis.evaluate import read_reference
from trajgen.data.records import AtomFrames
from trajgen.errors import InputError

FRAMES = 1500


@pytest.fixture(scope="module")
def dynamics() -> AtomFrames:
    topology, positions_nm = wobbling_peptide(FRAMES, 1, memory=0.9)
    return AtomFrames(topology, positions_nm, np.zeros(FRAMES, np.int64), 1.0)


def test_shuffled_frames_are_the_same_frames(dynamics: AtomFrames) -> None:
    mixed = shuffled(dynamics, 3)
    assert not np.array_equal(mixed.positions_nm, dynamics.positions_nm)
    ordered = [sorted(frame.tobytes() for frame in one.positions_nm) for one in (mixed, dynamics)]
    assert ordered[0] == ordered[1]


def test_lengths_count_from_the_first_frame(dynamics: AtomFrames) -> None:
    assert first_ps(dynamics, 20.5).n_frames == 21
    assert first_ps(dynamics, 0.1).n_frames == 2
    assert at_most(dynamics, 7).n_frames == 7
    assert at_most(dynamics, 7).time_step_ps is None
    assert at_most(dynamics.take(slice(5)), 7).n_frames == 5


def test_a_walk_shows_frames_of_the_dynamics(dynamics: AtomFrames) -> None:
    reference = read_reference(dynamics, evaluation_settings(1.0, 5.0), 0)
    walk = walk_among_states(dynamics, reference, 5, 3, 40, seed=1)
    assert walk.n_frames == 120
    assert walk.time_step_ps == 5.0
    assert np.array_equal(walk.segments, np.repeat(np.arange(3), 40))
    known = {frame.tobytes() for frame in dynamics.positions_nm}
    assert all(frame.tobytes() in known for frame in walk.positions_nm)
    still = replace(dynamics, positions_nm=dynamics.positions_nm[:1].repeat(FRAMES, axis=0))
    nothing = read_reference(still, evaluation_settings(1.0, 5.0), 0)
    with pytest.raises(InputError, match="no slow coordinates to find states in"):
        walk_among_states(still, nothing, 5, 3, 40, seed=1)
