"""Records refuse what is not right, and joining keeps segments apart."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajgen.data.records import BeadFrames, Rollouts, alive_segments, concatenate
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError

TOPOLOGY = BeadTopology.from_residues(("GLY", "ALA", "SER"))


def frames_of(segments: list[int], **more: object) -> BeadFrames:
    positions = np.random.default_rng(len(segments)).normal(size=(len(segments), 3, 3))
    return BeadFrames(
        TOPOLOGY, positions.astype(np.float32), np.array(segments, dtype=np.int64), **more
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["positions_nm", "forces"])
def test_a_number_that_is_not_finite_is_refused_with_its_frame(
    beads: BeadFrames, field: str, bad: float
) -> None:
    array = getattr(beads, field).copy()
    array[7, 2, 1] = bad
    with pytest.raises(InputError, match=r"1 of 12 frames, first in frame 7"):
        replace(beads, **{field: array})


@pytest.mark.usefixtures("no_shape_checks")
def test_forces_of_another_length_are_refused_with_both_shapes(beads: BeadFrames) -> None:
    with pytest.raises(InputError, match=r"\(11, 5, 3\), positions \(12, 5, 3\)"):
        replace(beads, forces=beads.forces[:-1])


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("field", ["segments", "weights", "force_variance"])
def test_per_frame_values_of_another_length_are_refused(beads: BeadFrames, field: str) -> None:
    with pytest.raises(InputError, match=f"{field} have shape"):
        replace(beads, **{field: getattr(beads, field)[:-1]})


def test_negative_weights_and_time_steps_are_refused(beads: BeadFrames) -> None:
    with pytest.raises(InputError, match="negative"):
        replace(beads, weights=-beads.weights)
    with pytest.raises(InputError, match="time_step_ps"):
        replace(beads, time_step_ps=0.0)
    with pytest.raises(InputError, match="time_step_ps is inf"):
        replace(beads, time_step_ps=np.inf)


@pytest.mark.usefixtures("no_shape_checks")
def test_positions_of_another_molecule_are_refused(beads: BeadFrames) -> None:
    with pytest.raises(InputError, match="for 3 beads"):
        replace(beads, topology=TOPOLOGY)


def test_take_picks_every_array_alike(beads: BeadFrames) -> None:
    picked = beads.take(np.array([8, 1]))
    for name in ("positions_nm", "forces", "weights", "force_variance", "segments"):
        np.testing.assert_array_equal(getattr(picked, name), getattr(beads, name)[[8, 1]])


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=4))
def test_joined_frames_share_a_segment_only_where_their_parts_did(
    parts: list[list[int]],
) -> None:
    joined = concatenate([frames_of(part) for part in parts])
    origin = [(number, segment) for number, part in enumerate(parts) for segment in part]
    same_before = np.array([[a == b for b in origin] for a in origin])
    same_after = joined.segments[:, None] == joined.segments[None]
    np.testing.assert_array_equal(same_after, same_before)


def test_joining_keeps_what_is_common_and_fills_what_is_not(beads: BeadFrames) -> None:
    bare = replace(beads, forces=None, weights=None, force_variance=None, time_step_ps=1.0)
    joined = concatenate([beads, bare])
    assert joined.forces is None
    assert joined.time_step_ps is None
    np.testing.assert_allclose(joined.weights, [*beads.weights, *np.full(12, beads.weights.mean())])
    np.testing.assert_array_equal(joined.force_variance, [*beads.force_variance, *np.zeros(12)])


def test_frames_of_two_molecules_do_not_join(beads: BeadFrames) -> None:
    with pytest.raises(InputError, match="different molecules"):
        concatenate([beads, frames_of([0])])
    with pytest.raises(InputError, match="empty"):
        concatenate([])


def test_frozen_frames_are_counted_and_left_out() -> None:
    positions = np.random.default_rng(0).normal(size=(2, 4, 3, 3)).astype(np.float32)
    alive = np.ones((2, 4), dtype=bool)
    positions[1, 2:], alive[1, 2:] = np.nan, False
    rollouts = Rollouts(TOPOLOGY, positions, alive, time_step_ps=0.5)
    frames = rollouts.to_frames()
    assert rollouts.n_lost == 2
    np.testing.assert_array_equal(frames.segments, [0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(frames.positions_nm[4:], positions[1, :2])
    with pytest.raises(InputError, match="marked alive"):
        Rollouts(TOPOLOGY, positions, np.ones((2, 4), dtype=bool), time_step_ps=0.5)


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_only_neighbours_in_a_chain_share_a_segment(rows: list[list[bool]]) -> None:
    alive = np.array(rows)
    chain, frame = np.nonzero(alive)
    positions = np.where(alive[..., None, None], np.zeros((1, 1, 3, 3)), np.nan)
    rollouts = Rollouts(TOPOLOGY, positions.astype(np.float32), alive, time_step_ps=0.5)
    segments = rollouts.to_frames().segments
    np.testing.assert_array_equal(segments, alive_segments(alive))
    together = np.diff(segments) == 0
    np.testing.assert_array_equal(together, (np.diff(chain) == 0) & (np.diff(frame) == 1))
    assert (np.diff(segments) >= 0).all()
