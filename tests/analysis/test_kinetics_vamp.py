"""VAMP-2 scores and the shuffle control: deeptime, known processes, folds, and gaps."""

import math

import numpy as np
import pytest
from deeptime.decomposition import VAMP
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from trajgen.analysis.kinetics.shuffle import shuffle_within_segments
from trajgen.analysis.kinetics.vamp import cross_validated_vamp2, lagged_moments, vamp2


def process(n_segments: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two independent coordinates that decay as 0.98 and 0.8 a frame, mixed."""
    noise = np.random.default_rng(seed).normal(size=(n_segments, length, 2))
    columns = []
    for column, decay in enumerate((0.98, 0.8)):
        noise[:, 1:, column] *= math.sqrt(1 - decay**2)
        columns.append(lfilter([1.0], [1.0, -decay], noise[:, :, column], axis=1))
    mixed = np.stack(columns, axis=2).reshape(-1, 2) @ np.array([[1.0, 0.5], [0.2, 1.0]])
    return mixed, np.repeat(np.arange(n_segments), length)


def test_score_is_one_and_the_squared_correlations():
    tics, segments = process(50, 4000, seed=0)
    score = vamp2(lagged_moments(tics, segments, segments, 5), np.ones(50))
    assert score.value == pytest.approx(1 + 0.98**10 + 0.8**10, abs=0.02)


def test_agrees_with_deeptime_whatever_the_unit():
    tics, segments = process(4, 500, seed=1)
    parts = np.split(tics, 4)
    pairs = np.concatenate([p[:-3] for p in parts]), np.concatenate([p[3:] for p in parts])
    wanted = VAMP(lagtime=3, epsilon=1e-12).fit(pairs).fetch_model().score(2)
    for unit in (1.0, 1e-6, 1e5):
        moments = lagged_moments(unit * tics + unit, segments, segments, 3)
        assert vamp2(moments, np.ones(4)).value == pytest.approx(wanted, rel=1e-6)


def test_a_draw_is_the_score_of_the_repeated_segments_and_weights_of_the_weighted_ones(monkeypatch):
    tics, segments = process(3, 200, seed=2)
    draw = np.array([2.0, 0.0, 1.0])
    repeated = np.concatenate([tics[:200], tics[:200], tics[400:]])
    again = np.repeat(np.arange(3), 200)
    wanted = vamp2(lagged_moments(repeated, again, again, 2), np.ones(3)).value
    found = vamp2(lagged_moments(tics, segments, segments, 2), draw).value
    assert found == pytest.approx(wanted)
    weighted = lagged_moments(tics, segments, np.zeros_like(segments), 2, draw[segments])
    assert vamp2(weighted, np.ones(1)).value == pytest.approx(wanted)
    monkeypatch.setattr("trajgen.analysis.kinetics.vamp.CHUNK", 17)
    assert vamp2(lagged_moments(tics, segments, segments, 2), draw).value == pytest.approx(wanted)


def test_cross_validated_score_agrees_with_deeptime():
    tics, segments = process(4, 400, seed=3)
    first, second = tics[:800], tics[800:]

    def fitted(part):
        halves = np.split(part, 2)
        pairs = np.concatenate([h[:-2] for h in halves]), np.concatenate([h[2:] for h in halves])
        return VAMP(lagtime=2, dim=2).fit(pairs).fetch_model()

    wanted = fitted(first).score(2, test_model=fitted(second))
    moments = lagged_moments(tics, segments, segments, 2)
    train = np.array([1.0, 1.0, 0.0, 0.0])
    assert cross_validated_vamp2(moments, train, 1 - train).value == pytest.approx(wanted, rel=1e-6)


def test_shuffled_frames_score_one():
    tics, segments = process(10, 2000, seed=4)
    order = shuffle_within_segments(segments, seed=1)
    blocks = np.zeros_like(segments)
    kept = vamp2(lagged_moments(tics, segments, blocks, 1), np.ones(1)).value
    lost = vamp2(lagged_moments(tics[order], segments, blocks, 1), np.ones(1)).value
    # Means of single segments differ a little and stay.
    assert 1 <= lost < 1.02 < 2.5 < kept <= 3


@given(st.lists(st.integers(-2, 2), max_size=30), st.integers(0, 5))
def test_the_shuffle_keeps_every_frame_in_its_segment(labels, seed):
    segments = np.array(labels, dtype=np.int64)
    order = shuffle_within_segments(segments, seed)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
    np.testing.assert_array_equal(segments[order], segments)
    np.testing.assert_array_equal(order, shuffle_within_segments(segments, seed))


def test_the_shuffle_depends_on_the_seed_and_is_even():
    segments = np.array([0, 1] * 3000)
    orders = [shuffle_within_segments(segments, seed) for seed in (1, 2)]
    assert not np.array_equal(*orders)
    moved = np.corrcoef(np.flatnonzero(segments == 0), orders[0][segments == 0])[0, 1]
    assert abs(moved) < 0.08


def test_order_of_segments_changes_nothing():
    tics, segments = process(3, 200, seed=5)
    blocks = np.zeros_like(segments)
    wanted = vamp2(lagged_moments(tics, segments, blocks, 2), np.ones(1)).value
    interleaved = np.argsort(np.tile(np.arange(200), 3), kind="stable")
    moments = lagged_moments(tics[interleaved], segments[interleaved], blocks, 2)
    assert vamp2(moments, np.ones(1)).value == pytest.approx(wanted)


def test_constant_coordinates_and_short_segments_are_reasons():
    zeros = np.zeros(20, dtype=int)
    constant = vamp2(lagged_moments(np.full((20, 2), 3.3), zeros, zeros, 2), np.ones(1))
    assert constant.value is None
    assert "no coordinate varies" in constant.reason
    tics, segments = process(1, 300, seed=6)
    beside = np.hstack([tics, np.full((300, 1), 7.0)])
    with_constant = vamp2(lagged_moments(beside, segments, segments, 2), np.ones(1)).value
    without = vamp2(lagged_moments(tics, segments, segments, 2), np.ones(1)).value
    assert with_constant == pytest.approx(without)
    short = vamp2(lagged_moments(tics[:20], np.arange(20), zeros, 2), np.ones(1))
    assert short.value is None
    empty = vamp2(lagged_moments(tics[:0], zeros[:0], zeros[:0], 2), np.ones(0))
    assert empty.value is None
