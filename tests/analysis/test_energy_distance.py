"""The energy distance against SciPy, its expectations over pairs, and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import energy_distance

from trajgen.analysis.energy_distance import group_energy_distance

numbers = st.floats(-10, 10, allow_nan=False, width=32)
samples = arrays(np.float64, st.integers(1, 12), elements=numbers)


def of_two(a: np.ndarray, b: np.ndarray, wa: np.ndarray, wb: np.ndarray) -> float:
    values, groups = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    factors = np.array([[1 / wa.sum(), -1 / wb.sum()]])
    return float(group_energy_distance(values, np.concatenate([wa, wb]), groups, factors)[0])


@given(samples, samples)
def test_agrees_with_scipy(a, b):
    found = of_two(a, b, np.ones(len(a)), np.ones(len(b)))
    assert found == pytest.approx(energy_distance(a, b), abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_weighted_agrees_with_scipy_and_with_expectations_over_pairs(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=40), generator.normal(0.5, 2.0, size=25)
    wa, wb = generator.uniform(size=40), generator.uniform(size=25)
    found = of_two(a, b, wa, wb)
    assert found == pytest.approx(energy_distance(a, b, wa, wb))
    p, q = wa / wa.sum(), wb / wb.sum()

    def mean(x, u, y, v):
        return u @ np.abs(x[:, None] - y[None]) @ v

    square = 2 * mean(a, p, b, q) - mean(a, p, a, p) - mean(b, q, b, q)
    assert found == pytest.approx(math.sqrt(square))


def test_of_two_points_is_the_root_of_twice_their_distance():
    one = np.ones(1)
    assert of_two(np.array([1.0]), np.array([3.0]), one, one) == pytest.approx(2.0)


def test_rows_agree_with_separate_samples():
    generator = np.random.default_rng(3)
    values, weights = generator.normal(size=60), generator.uniform(0.5, 1, size=60)
    groups = np.repeat([0, 1, 2], 20)
    total = np.bincount(groups, weights)
    twice = 2 * total[0] + total[1]
    factors = np.array([[2 / twice, 1 / twice, -1 / total[2]], [0, 1 / total[1], -1 / total[2]]])
    a, b, c = (slice(20 * k, 20 * k + 20) for k in range(3))
    wanted = [
        energy_distance(
            np.concatenate([values[a], values[b]]),
            values[c],
            np.concatenate([2 * weights[a], weights[b]]),
            weights[c],
        ),
        energy_distance(values[b], values[c], weights[b], weights[c]),
    ]
    found = group_energy_distance(values, weights, groups, factors)
    np.testing.assert_allclose(found, wanted)
    order = generator.permutation(60)
    moved = group_energy_distance(values[order], weights[order], groups[order], factors)
    np.testing.assert_allclose(moved, found)
