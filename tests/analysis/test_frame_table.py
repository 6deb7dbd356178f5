"""Tables: the same from any chunks, consecutive frames only, nothing left out without a count."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajgen.analysis import frame_table
from trajgen.analysis.contacts import contact_indicators
from trajgen.analysis.evaluate import EvaluationSettings, evaluate
from trajgen.analysis.features import bond_lengths
from trajgen.analysis.frame_table import (
    UNDEFINED,
    WEIGHTLESS,
    fit_reference_tica,
    scan,
    slow_coordinates,
    tabulate,
    tabulate_reference,
)
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology


@dataclass(frozen=True)
class Pieces:
    """A source that gives its frames in chunks of given lengths."""

    frames: BeadFrames
    lengths: tuple[int, ...]

    @property
    def topology(self) -> BeadTopology:
        return self.frames.topology

    def chunks(self) -> Iterator[BeadFrames]:
        ends = np.cumsum(self.lengths)
        for begin, end in zip([0, *ends], [*ends, self.frames.n_frames], strict=True):
            if end > begin:
                yield self.frames.take(slice(int(begin), int(end)))


@dataclass(frozen=True)
class Chunks:
    """A source that gives these chunks."""

    topology: BeadTopology
    made: list[BeadFrames]

    def chunks(self) -> Iterator[BeadFrames]:
        return iter(self.made)


@pytest.fixture(scope="module")
def frames(fluctuating):
    made = fluctuating(5, 40, seed=3)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, made.n_frames)
    weights[17] = 0.0
    positions = made.positions_nm.copy()
    positions[63, 1] = positions[63, 2]
    return replace(made, positions_nm=positions, weights=weights)


@given(st.lists(st.integers(1, 60), max_size=5).filter(lambda x: sum(x) <= 200))
@settings(max_examples=15, deadline=None)
def test_chunks_change_nothing(frames, lengths):
    whole, whole_fit = tabulate_reference(frames, 3, 50, seed=1)
    parts, parts_fit = tabulate_reference(Pieces(frames, tuple(lengths)), 3, 50, seed=1)
    assert whole_fit.n_pairs == parts_fit.n_pairs
    np.testing.assert_allclose(whole_fit.model.eigenvalues, parts_fit.model.eigenvalues)
    np.testing.assert_allclose(whole.tics, parts.tics, atol=1e-9)
    for name, feature in whole.features.items():
        # The last bit depends on where the vectorised loops of a chunk end.
        np.testing.assert_allclose(feature.values, parts.features[name].values, atol=1e-12)
    for name in ("segments", "runs", "blocks", "weights", "drawn_rows"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_allclose(whole.contacts, parts.contacts)
    np.testing.assert_array_equal(whole.drawn.positions_nm, parts.drawn.positions_nm)
    assert whole.left_out == parts.left_out == {UNDEFINED: 1, WEIGHTLESS: 1}


def test_evaluations_of_chunks_are_those_in_memory(frames, fluctuating, monkeypatch):
    choice = EvaluationSettings(
        tica_lag_frames=3, bootstrap_resamples=20, coverage_frames=30, kinetics=None
    )
    samples = fluctuating(4, 30, seed=8, shift=0.4)
    whole = evaluate(samples, frames, choice, seed=2)
    monkeypatch.setattr(frame_table, "CHUNK", 7)
    monkeypatch.setattr(frame_table, "_MOST_BYTES", 100)  # and tables that lie in a file
    parts = evaluate(Pieces(samples, (11, 50)), Pieces(frames, (100, 3)), choice, seed=2)
    both = zip(
        (*whole.distances, *whole.divergences),
        (*parts.distances, *parts.divergences),
        strict=True,
    )
    for mine, theirs in both:
        assert mine.pooled.value == pytest.approx(theirs.pooled.value, rel=1e-6), mine.name
        assert mine.pooled.high == pytest.approx(theirs.pooled.high, rel=1e-6), mine.name
    assert whole.coverage == parts.coverage


def test_a_table_in_a_file_takes_its_space_before_it_is_filled(monkeypatch):
    def full(file, begin, size):
        assert (begin, size) == (0, 8 * 50 * 3)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(frame_table, "_MOST_BYTES", 0)
    room = frame_table._room(50, 3)
    room[:] = 1.0
    assert room.sum() == 150
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        frame_table._room(50, 3)


def test_frames_around_one_that_was_left_out_are_not_consecutive(frames):
    found = scan(frames)
    # Frame 17 of the first segment has no weight; frame 63 is in the second.
    assert np.count_nonzero(np.diff(found.runs)) == 5 - 1 + 2
    assert found.runs[16] != found.runs[17]
    assert found.segments[16] == found.segments[17]
    lag = 4
    pairs = sum(max(n - lag, 0) for n in np.unique(found.runs, return_counts=True)[1])
    assert fit_reference_tica(frames, lag).n_pairs == pairs


@pytest.mark.parametrize(
    ("segments", "steps_ps", "wanted_ps"),
    [
        ([[0, 0, 0], [1]], [2.0, None], 2.0),  # a file of one frame beside a trajectory
        ([[1], [2, 2, 2]], [None, 2.0], 2.0),
        ([[0, 1, 2], [3, 3]], [None, 2.0], 2.0),
        ([[0, 0, 0], [0]], [2.0, None], None),  # the last frame comes at another time
        ([[0, 0, 0], [1, 1]], [2.0, None], None),
        ([[0, 0, 0], [1, 1]], [2.0, 1.0], None),
        ([[0], [1]], [None, None], None),
    ],
)
def test_the_step_is_that_of_all_frames_with_a_neighbour(frames, segments, steps_ps, wanted_ps):
    chunks, begin = [], 0
    for numbers, step_ps in zip(segments, steps_ps, strict=True):
        part = frames.take(slice(begin, begin + len(numbers)))
        begin += len(numbers)
        chunks.append(replace(part, segments=np.array(numbers), time_step_ps=step_ps))
    assert scan(Chunks(frames.topology, chunks)).time_step_ps == wanted_ps


def test_columns_are_those_of_the_frames(frames):
    table, fit = tabulate_reference(frames, 3, 20, seed=4)
    kept = np.ones(frames.n_frames, bool)
    kept[[17, 63]] = False
    usable = frames.take(kept)
    np.testing.assert_array_equal(table.features["bond"].values, bond_lengths(usable).values)
    np.testing.assert_allclose(table.tics, slow_coordinates(fit.model, usable)[:, :4])
    touching = contact_indicators(usable).values * usable.weights[:, None]
    for block in range(5):
        np.testing.assert_allclose(
            table.contacts[block], touching[usable.segments == block].sum(axis=0)
        )
    np.testing.assert_array_equal(table.drawn.positions_nm, usable.positions_nm[table.drawn_rows])


def test_a_set_without_frames_is_a_table_without_rows(frames):
    nothing = frames.take(slice(0, 0))
    model = fit_reference_tica(frames, 3).model
    table = tabulate(nothing, scan(nothing), model, 10, 5, seed=1)
    assert table.n_frames == table.n_segments == 0
    assert table.tics.shape == (0, 4)
    assert table.drawn.n_frames == 0
