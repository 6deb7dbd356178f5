"""Distances against SciPy, optimal transport by linear programming, and closed forms."""

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance

from trajgen.analysis import cumulative
from trajgen.analysis.wasserstein import (
    group_wasserstein,
    sliced_wasserstein,
    wasserstein,
    weighted_median,
)
from trajgen.errors import InputError

TURN = 2 * np.pi
numbers = st.floats(-10, 10, allow_nan=False, width=32)
samples = st.integers(1, 12).flatmap(lambda n: arrays(np.float64, n, elements=numbers))


def weighted_pair(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=40), generator.normal(0.5, 2.0, size=25)
    return a, b, generator.uniform(size=40), generator.uniform(size=25)


@given(samples, samples)
def test_line_agrees_with_scipy(a, b):
    assert wasserstein(a, b) == pytest.approx(wasserstein_distance(a, b), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_weighted_line_agrees_with_scipy(seed):
    a, b, wa, wb = weighted_pair(seed)
    assert wasserstein(a, b, wa, wb) == pytest.approx(wasserstein_distance(a, b, wa, wb))


@pytest.mark.parametrize("seed", range(5))
def test_circle_agrees_with_linear_programming(seed):
    a, b, wa, wb = weighted_pair(seed)
    gap = np.abs(a[:, None] - b[None, :]) % TURN
    cost = np.minimum(gap, TURN - gap)
    wanted = ot.emd2(wa / wa.sum(), wb / wb.sum(), cost)
    assert wasserstein(a, b, wa, wb, period=TURN) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_circle_agrees_with_pot(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.uniform(size=30), generator.beta(2, 5, size=30)
    wanted = float(ot.wasserstein_circle(a[:, None], b[:, None], p=1)[0])
    assert wasserstein(a, b, period=1.0) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("angle", [0.3, 1.0, 3.0, 5.0])
def test_rotated_arc_is_as_far_as_it_was_turned(angle):
    arc = np.linspace(0, 0.1, 200)
    wanted = min(angle, TURN - angle)
    assert wasserstein(arc, arc + angle, period=TURN) == pytest.approx(wanted, abs=1e-9)


def test_opposite_arc_is_reached_both_ways_round():
    """Of an arc of width w the halves part, and each goes π − w/2 on average."""
    arc = np.linspace(0, 0.1, 2000)
    distance = wasserstein(arc, arc + np.pi, period=TURN)
    assert distance == pytest.approx(np.pi - 0.05, abs=1e-4)


def test_seam_of_the_circle_costs_nothing():
    a, b = np.radians([-179.0]), np.radians([179.0])
    assert wasserstein(a, b, period=TURN) == pytest.approx(np.radians(2))
    assert wasserstein(a, b) == pytest.approx(np.radians(358))


@given(samples, samples, st.floats(-20, 20))
def test_circle_is_symmetric_and_invariant_under_rotation(a, b, angle):
    distance = wasserstein(a, b, period=TURN)
    assert wasserstein(b, a, period=TURN) == pytest.approx(distance, abs=1e-9)
    assert wasserstein(a + angle, b + angle, period=TURN) == pytest.approx(distance, abs=1e-6)
    assert distance <= wasserstein(np.mod(a, TURN), np.mod(b, TURN)) + 1e-9
    assert distance <= np.pi + 1e-9


@given(samples)
def test_equal_samples_have_no_distance(a):
    assert wasserstein(a, a) == pytest.approx(0, abs=1e-12)
    assert wasserstein(a, a[::-1], period=TURN) == pytest.approx(0, abs=1e-12)


@given(samples, st.floats(-5, 5))
def test_line_grows_by_exactly_the_shift(a, shift):
    assert wasserstein(a, a + shift) == pytest.approx(abs(shift), abs=1e-9)


@settings(max_examples=30)
@given(st.floats(0, TURN), st.floats(0.1, 5))
def test_sliced_distance_of_a_shift_is_its_length(angle, length):
    cloud = np.random.default_rng(0).normal(size=(50, 2))
    shift = length * np.array([np.cos(angle), np.sin(angle)])
    assert sliced_wasserstein(cloud, cloud + shift) == pytest.approx(length, rel=1e-3)


def test_sliced_distance_is_near_that_of_pot():
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=(60, 2)), generator.normal(0.7, 1.5, size=(80, 2))
    wanted = ot.sliced_wasserstein_distance(a, b, n_projections=4000, p=1, seed=0)
    assert sliced_wasserstein(a, b) == pytest.approx(wanted * np.pi / 2, rel=0.02)


def test_sliced_distance_does_not_exceed_the_full_one_by_more_than_its_factor():
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=(40, 2)), generator.normal(0.5, 2.0, size=(40, 2))
    full = ot.emd2([], [], np.linalg.norm(a[:, None] - b[None], axis=2))
    assert 0 < sliced_wasserstein(a, b) <= np.pi / 2 * full


@pytest.mark.parametrize("period", [None, TURN])
def test_weightings_of_groups_agree_with_separate_samples(period):
    generator = np.random.default_rng(3)
    values, weights = generator.normal(size=60), generator.uniform(0.5, 1, size=60)
    groups = np.repeat([0, 1, 2], 20)
    totals = np.bincount(groups, weights)
    factors = np.array(
        [
            [2 / (2 * totals[0] + totals[1]), 1 / (2 * totals[0] + totals[1]), -1 / totals[2]],
            [0.0, 1 / totals[1], -1 / totals[2]],
        ]
    )
    a, b, c = (slice(20 * k, 20 * k + 20) for k in range(3))
    twice = np.concatenate([values[a], values[a], values[b]])
    twice_weights = np.concatenate([weights[a], weights[a], weights[b]])
    wanted = [
        wasserstein(twice, values[c], twice_weights, weights[c], period),
        wasserstein(values[b], values[c], weights[b], weights[c], period),
    ]
    np.testing.assert_allclose(group_wasserstein(values, weights, groups, factors, period), wanted)


@given(arrays(np.float64, 7, elements=numbers), arrays(np.float64, 7, elements=st.floats(0.1, 3)))
def test_weighted_median_is_the_best_centre(values, weights):
    cost = np.abs(values[:, None] - values[None, :]).T @ weights
    median = weighted_median(values, weights)
    assert np.abs(values - median) @ weights == pytest.approx(cost.min(), abs=1e-9)


def test_sample_without_weight_is_refused():
    with pytest.raises(InputError, match="total weight of 0"):
        wasserstein(np.ones(3), np.ones(3), np.zeros(3))
    with pytest.raises(InputError, match="0 values"):
        wasserstein(np.ones(0), np.ones(3))


@pytest.mark.parametrize("period", [None, 2 * np.pi])
@pytest.mark.parametrize("runs", [16, 128])
def test_gathered_rows_lie_within_their_bound(monkeypatch, period, runs):
    monkeypatch.setattr(cumulative, "MOST_RUNS", runs)
    generator = np.random.default_rng(5)
    values = generator.normal(scale=1.0, size=4000)
    weights = generator.uniform(0.1, 1, 4000)
    groups = generator.integers(0, 6, 4000)
    totals = np.bincount(groups, weights)
    counts = generator.multinomial(3, np.full(3, 1 / 3), size=8)
    factors = np.concatenate(
        [counts / (counts @ totals[:3])[:, None], np.full((8, 3), -1 / totals[3:].sum())], axis=1
    )
    exact = group_wasserstein(values, weights, groups, factors, period)
    gathered = group_wasserstein(values, weights, groups, factors, period, exact=1)
    assert gathered[0] == exact[0]
    on_circle = values if period is None else np.mod(values, period)
    parts = np.array_split(np.sort(on_circle), runs)
    # Weights are up to ten times their least, so a run may hold ten times its share of the mass.
    bound = 20 * np.concatenate([np.abs(part - part.mean()) for part in parts]).mean()
    assert 0 < np.abs(gathered - exact).max() < bound < (3.0 if runs == 16 else 0.3)
