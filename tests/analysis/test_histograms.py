"""Histograms and their distances against NumPy, SciPy and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon

from trajgen.analysis.histograms import (
    LARGEST_JENSEN_SHANNON,
    bin_line,
    bin_plane,
    free_energy_difference,
    group_histograms,
    jensen_shannon_distance,
    joint_edges,
    reference_edges,
    torsion_edges,
)
from trajgen.errors import InputError

masses = arrays(np.float64, (3, 8), elements=st.floats(0.01, 10))
numbers = arrays(np.float64, st.integers(2, 60), elements=st.floats(-4, 4, width=32))


def counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    bins = bin_line(values, edges)
    return np.bincount(bins[bins >= 0], minlength=len(edges) - 1)


@given(masses, masses)
def test_distance_of_rows_agrees_with_scipy(p, q):
    wanted = np.nan_to_num(jensenshannon(p, q, axis=1))
    np.testing.assert_allclose(jensen_shannon_distance(p, q), wanted, atol=1e-7)


def test_distance_has_its_bounds():
    p, q = np.array([1.0, 3.0, 0.0, 0.0]), np.array([0.0, 0.0, 2.0, 5.0])
    assert jensen_shannon_distance(p, q) == pytest.approx(math.sqrt(math.log(2)))
    assert jensen_shannon_distance(p, 7 * p) == 0


def test_distance_of_nearly_equal_histograms_is_a_number():
    generator = np.random.default_rng(0)
    p = generator.uniform(size=(2000, 5))
    distance = jensen_shannon_distance(p, p * (1 + 1e-16 * generator.uniform(size=p.shape)))
    assert (distance >= 0).all()
    assert (distance < 1e-7).all()


def test_one_reference_serves_all_rows():
    generator = np.random.default_rng(1)
    p, q = generator.uniform(size=(2, 3, 6)), generator.uniform(size=6)
    wanted = jensenshannon(p, np.broadcast_to(q, p.shape), axis=-1)
    np.testing.assert_allclose(jensen_shannon_distance(p, q[None, None]), wanted)


def test_side_without_mass_is_as_far_as_can_be():
    p = np.array([[0.0, 0.0], [1.0, 1.0]])
    q = np.array([[1.0, 1.0], [1.0, 1.0]])
    np.testing.assert_array_equal(jensen_shannon_distance(p, q), [LARGEST_JENSEN_SHANNON, 0])


@given(numbers, st.integers(1, 12))
def test_bins_of_a_line_are_those_of_numpy(values, bins):
    edges = np.linspace(-2, 3, bins + 1)
    np.testing.assert_array_equal(counts(values, edges), np.histogram(values, edges)[0])
    assert ((bin_line(values, edges) == -1) == ((values < -2) | (values > 3))).all()


@given(numbers, numbers)
def test_bins_of_a_plane_are_those_of_numpy(first, second):
    n = min(len(first), len(second))
    points = np.stack([first[:n], second[:n]], axis=1)
    edges = np.linspace(-2, 3, 5), np.linspace(-1, 1, 4)
    flat = bin_plane(points, *edges)
    wanted = np.histogram2d(points[:, 0], points[:, 1], edges)[0]
    np.testing.assert_array_equal(np.bincount(flat[flat >= 0], minlength=12), wanted.ravel())


def test_circle_is_covered_to_both_ends():
    edges = torsion_edges()
    assert len(edges) == 101
    np.testing.assert_array_equal(bin_line(np.array([-np.pi, 0.01, np.pi]), edges), [0, 50, 99])


@given(numbers, numbers)
def test_joint_grid_holds_both_sides_and_that_of_the_reference_its_own(a, b):
    edges = joint_edges(a, b, 10)
    np.testing.assert_allclose(edges, np.histogram_bin_edges(np.concatenate([a, b]), 10))
    assert (bin_line(a, edges) >= 0).all()
    assert (bin_line(b, edges) >= 0).all()
    own = reference_edges(a, 10, margin=0.2)
    assert (bin_line(a, own) >= 0).all()
    spread = np.ptp(a)
    if spread > 0:
        assert own[-1] - own[0] == pytest.approx(1.4 * spread)


def test_stray_frame_moves_the_joint_grid_only():
    a, stray = np.linspace(0, 1, 50), np.array([0.5, 1000.0])
    assert joint_edges(a, stray, 10)[1] == pytest.approx(100)
    np.testing.assert_array_equal(bin_line(stray, reference_edges(a, 10)) >= 0, [True, False])


@pytest.mark.parametrize("values", [np.ones(0), np.array([1.0, np.inf])])
def test_grid_of_nothing_or_infinity_is_refused(values):
    with pytest.raises(InputError, match="finite values"):
        reference_edges(values, 10)


def test_rows_of_groups_agree_with_counting_each():
    generator = np.random.default_rng(2)
    values, weights = generator.normal(size=300), generator.uniform(size=300)
    groups = generator.integers(4, size=300)
    factors = np.array([[1.0, 1, 1, 1], [2, 0, 1, 0.5]])
    edges = np.linspace(-1, 1, 8)
    found, outside = group_histograms(bin_line(values, edges), 7, weights, groups, factors)
    for row, factor in enumerate(factors):
        mass = weights * factor[groups]
        np.testing.assert_allclose(found[row], np.histogram(values, edges, weights=mass)[0])
        assert found[row].sum() + outside[row] == pytest.approx(mass.sum())


def test_order_of_frames_changes_no_histogram():
    generator = np.random.default_rng(3)
    bins, weights = generator.integers(-1, 5, size=100), generator.uniform(size=100)
    groups, order = generator.integers(3, size=100), generator.permutation(100)
    factors = np.ones((1, 3))
    found, outside = group_histograms(bins, 5, weights, groups, factors)
    moved = group_histograms(bins[order], 5, weights[order], groups[order], factors)
    np.testing.assert_allclose(moved[0], found)
    np.testing.assert_allclose(moved[1], outside)


def test_free_energy_of_two_states_is_that_of_their_ratio():
    """Of ½ and ½ against ¾ and ¼ the differences are ln ⅔ and ln 2."""
    p, q = np.array([0.5, 0.5]), np.array([3.0, 1.0])
    value, unvisited = free_energy_difference(p, q, np.array(1.0), 1000)
    wanted = math.sqrt(0.75 * math.log(2 / 3) ** 2 + 0.25 * math.log(2) ** 2)
    assert value == pytest.approx(wanted)
    assert unvisited == 0


def test_weighted_samples_are_at_no_distance_from_themselves():
    """A bin whose weight is below that of one frame is a visited bin."""
    q = np.array([1.0, 1e-6])
    value, unvisited = free_energy_difference(q, q, np.array(q.sum()), 10)
    assert value == pytest.approx(0, abs=1e-12)
    assert unvisited == 0


def test_mass_off_the_grid_is_not_renormalised_away():
    """Half of the samples elsewhere: every state of the reference is ln 2 higher."""
    q = np.array([2.0, 3.0, 5.0])
    value, _ = free_energy_difference(q / 2, q, np.array(10.0), 1000)
    assert value == pytest.approx(math.log(2))
    with pytest.raises(InputError, match="on and off the grid"):
        free_energy_difference(q, q, np.array(5.0), 1000)


def test_unvisited_bins_cost_one_count_and_are_counted():
    p, q = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.5, 0.5]])
    value, unvisited = free_energy_difference(p, q, np.ones(2), 100)
    wanted = math.sqrt((math.log(2) ** 2 + math.log(50) ** 2) / 2)
    np.testing.assert_allclose(value, [wanted, 0])
    np.testing.assert_array_equal(unvisited, [1, 0])


def test_rare_bins_of_the_reference_can_be_left_out():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.499, 0.499, 0.002])
    _, unvisited = free_energy_difference(p, q, np.array(1.0), 100)
    value, kept_unvisited = free_energy_difference(p, q, np.array(1.0), 100, least_share=0.01)
    assert (unvisited, kept_unvisited) == (1, 0)
    assert value == pytest.approx(-math.log(0.998))
    with pytest.raises(InputError, match="fullest bin"):
        free_energy_difference(p, q, np.array(1.0), 100, least_share=0.5)


def test_free_energy_without_mass_is_refused():
    q = np.array([1.0, 1.0])
    for p_total, reference, n in ((0.0, q, 10), (1.0, 0 * q, 10), (1.0, q, 0)):
        with pytest.raises(InputError, match="mass above 0"):
            free_energy_difference(0 * q, reference, np.array(p_total), n)
