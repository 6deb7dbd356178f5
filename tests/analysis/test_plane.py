"""The plane distance against SciPy's linear programme, one dimension, and the bound of cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance_nd

from trajgen.analysis.plane import MAX_POINTS, cell_means, plane_wasserstein
from trajgen.analysis.wasserstein import sliced_wasserstein, wasserstein
from trajgen.errors import InputError


def weighted_clouds(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(n, 2)), generator.normal(0.4, 1.5, size=(n + 7, 2))
    return a, b, generator.uniform(size=n), generator.uniform(size=n + 7)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_linear_programming(seed):
    a, b, wa, wb = weighted_clouds(seed, 20)
    wanted = wasserstein_distance_nd(a, b, wa, wb)
    assert plane_wasserstein(a, b, wa, wb) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1.1, 2.5])
def test_shift_costs_its_length(angle):
    cloud, _, weights, _ = weighted_clouds(0, 50)
    shift = 0.7 * np.array([np.cos(angle), np.sin(angle)])
    assert plane_wasserstein(cloud, cloud + shift, weights, weights) == pytest.approx(0.7)


def test_points_on_a_line_have_the_distance_of_the_line():
    a, b, wa, wb = weighted_clouds(1, 30)
    direction = np.array([0.6, 0.8])
    found = plane_wasserstein(a[:, :1] * direction, b[:, :1] * direction, wa, wb)
    assert found == pytest.approx(wasserstein(a[:, 0], b[:, 0], wa, wb))


def test_is_not_below_the_sliced_distance():
    """A projected distance is on average at most 2/π of the full one, and is scaled by π/2."""
    a, b, wa, wb = weighted_clouds(2, 40)
    assert sliced_wasserstein(a, b, wa, wb) <= plane_wasserstein(a, b, wa, wb) * 1.001


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(9, 120))
def test_reduction_changes_the_distance_by_no_more_than_its_bound(seed, n_cells):
    a, b, wa, wb = weighted_clouds(seed, 80)
    exact = plane_wasserstein(a, b, wa, wb)
    first, second = (cell_means(x, w, b, n_cells) for x, w in ((a, wa), (b, wb)))
    reduced = plane_wasserstein(first.points, second.points, first.weights, second.weights)
    bound = first.mean_displacement + second.mean_displacement
    assert abs(reduced - exact) <= bound + 1e-12
    for means, points, weights in ((first, a, wa), (second, b, wb)):
        assert len(means.points) <= n_cells
        assert means.weights.sum() == pytest.approx(weights.sum())
        centre = np.average(means.points, axis=0, weights=means.weights)
        np.testing.assert_allclose(centre, np.average(points, axis=0, weights=weights))
        assert means.mean_displacement <= means.largest_displacement


def test_finer_cells_displace_less():
    a, b, wa, _ = weighted_clouds(3, 500)
    coarse, fine = cell_means(a, wa, b, 25), cell_means(a, wa, b, 900)
    assert fine.mean_displacement < coarse.mean_displacement / 3


def test_points_off_the_grid_keep_their_mass_and_place():
    generator = np.random.default_rng(4)
    reference = generator.uniform(size=(100, 2))
    stray = np.concatenate([reference, [[50.0, -50.0]]])
    means = cell_means(stray, np.ones(101), reference, 100)
    assert means.weights.sum() == 101
    assert (means.points == [50.0, -50.0]).all(axis=1).sum() == 1
    assert means.largest_displacement < 0.2


def test_points_without_weight_are_left_out():
    reference = np.random.default_rng(5).uniform(size=(50, 2))
    weights = np.zeros(50)
    weights[3] = 2.0
    means = cell_means(reference, weights, reference)
    np.testing.assert_allclose(means.points, reference[3:4])
    assert means.largest_displacement == 0


def test_too_many_points_no_weight_and_too_few_cells_are_refused():
    many = np.zeros((MAX_POINTS + 1, 2))
    with pytest.raises(InputError, match="sliced distance"):
        plane_wasserstein(many, many[:1], np.ones(len(many)), np.ones(1))
    with pytest.raises(InputError, match="total weight of 0"):
        plane_wasserstein(many[:2], many[:2], np.zeros(2), np.ones(2))
    with pytest.raises(InputError, match="n_cells is 4"):
        cell_means(many, np.ones(len(many)), many, 4)
