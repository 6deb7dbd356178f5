"""Measures of paths against SciPy, counts by hand, and what sampled paths must show."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from trajgen.analysis.bridges import path_probability, sample_bridges
from trajgen.analysis.paths import BRIDGES, LARGEST_JENSEN_SHANNON, path_measures, rarest_flux_pair
from trajgen.errors import InputError

#: Three states in a row: no direct way from the first to the last.
CHAIN = np.array([[0.9, 0.1, 0.0], [0.05, 0.8, 0.15], [0.0, 0.2, 0.8]])


def test_long_paths_do_not_underflow():
    T = np.array([[0.5, 0.5 - 1e-3, 1e-3], [0.5 - 1e-3, 0.5, 1e-3], [0.0, 0.0, 1.0]])
    length = 1200  # a single path has a probability near 2^-1200, below the smallest number
    paths = sample_bridges(T, 0, 1, length, 4, seed=0)
    measures = path_measures(paths, T, 0, 1, seed=0)
    assert measures.valid_share.value == 1


def test_draws_repeat_for_a_seed():
    paths = sample_bridges(CHAIN, 0, 2, 11, 40, seed=5)
    assert path_measures(paths, CHAIN, 0, 2, seed=1) == path_measures(paths, CHAIN, 0, 2, seed=1)
    assert path_measures(paths, CHAIN, 0, 2, seed=1) != path_measures(paths, CHAIN, 0, 2, seed=2)


def test_reference_paths_lie_at_the_floor():
    paths = sample_bridges(CHAIN, 0, 2, 11, 500, seed=9)
    measures = path_measures(paths, CHAIN, 0, 2, seed=1)
    distance = measures.occupancy_distance
    assert measures.valid_share.value == 1
    assert distance.value < 2 * distance.floor_max
    assert distance.low <= distance.value <= distance.high
    low, high = measures.mean_probability.low, measures.mean_probability.high
    assert low < measures.mean_probability.value < high
    assert low < 1.1 * measures.bridge_probability
    assert high > 0.9 * measures.bridge_probability


def test_paths_that_wait_at_the_start_are_told_apart():
    late = np.tile([0] * 9 + [1, 2], (200, 1))
    distance = path_measures(late, CHAIN, 0, 2, seed=1).occupancy_distance
    assert distance.value > 3 * distance.floor_max
    reference = sample_bridges(CHAIN, 0, 2, 11, 20_000, seed=4)
    counts = np.bincount(reference.ravel(), minlength=3)
    assert distance.value == pytest.approx(jensenshannon([9, 1, 1], counts), abs=0.02)


def test_floor_and_interval_narrow_with_more_paths():
    few, many = (
        path_measures(sample_bridges(CHAIN, 0, 2, 11, n, seed=2), CHAIN, 0, 2, seed=1)
        for n in (20, 2000)
    )
    assert few.occupancy_distance.floor_mean > many.occupancy_distance.floor_mean
    width = [m.mean_probability.high - m.mean_probability.low for m in (few, many)]
    assert width[0] > 3 * width[1]


def test_shares_count_paths_and_their_order_changes_nothing():
    good = sample_bridges(CHAIN, 0, 2, 6, 30, seed=2)
    bad = np.tile([0, 2, 2, 2, 2, 2], (10, 1))
    paths = np.concatenate([good, bad])
    measures = path_measures(paths, CHAIN, 0, 2, seed=1)
    assert measures.valid_share.value == pytest.approx(0.75)
    wanted = path_probability(good, CHAIN, 0, 2).sum() / 40
    assert measures.mean_probability.value == pytest.approx(wanted)
    turned = path_measures(paths[::-1], CHAIN, 0, 2, seed=1)
    for name in ("valid_share", "mean_probability", "occupancy_distance"):
        assert getattr(turned, name).value == pytest.approx(getattr(measures, name).value)
    backwards = path_measures(paths[:, ::-1], CHAIN, 0, 2, seed=1)
    assert backwards.valid_share.value == 0


def test_frames_in_no_state_are_a_state_of_their_own():
    lost = np.tile([-1] * 6, (10, 1))
    measures = path_measures(lost, CHAIN, 0, 2, seed=1)
    assert measures.valid_share.value == 0
    assert measures.occupancy_distance.value == pytest.approx(LARGEST_JENSEN_SHANNON)


def test_no_path_is_the_worst_result():
    measures = path_measures(np.empty((0, 11), dtype=int), CHAIN, 0, 2, seed=1)
    assert measures.valid_share.value == 0
    assert measures.mean_probability.value == 0
    assert measures.occupancy_distance.value == pytest.approx(np.sqrt(np.log(2)))
    assert measures.occupancy_distance.reason == "there is no path"
    assert measures.n_bridges == BRIDGES


def test_unconnected_states_are_a_result_with_a_reason():
    T = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    paths = np.array([[0, 1, 1, 2], [0, 0, 0, 2]])
    measures = path_measures(paths, T, 0, 2, seed=1)
    for measure in (measures.valid_share, measures.mean_probability, measures.occupancy_distance):
        assert measure.value is None
        assert "no path of 4 frames joins state 0 with 2" in measure.reason
    assert not path_probability(paths, T, 0, 2).any()
    with pytest.raises(InputError, match="no path of 4 frames"):
        sample_bridges(T, 0, 2, 4, 10, seed=0)


def test_paths_may_be_too_short_to_connect():
    assert path_measures(np.array([[0, 2]]), CHAIN, 0, 2, seed=1).valid_share.value is None
    longer = path_measures(np.array([[0, 1, 2]]), CHAIN, 0, 2, seed=1)
    assert longer.mean_probability.value == pytest.approx(1)
    assert longer.mean_probability.reason == "a single path gives no interval"


def test_rarest_flux_pair():
    pi = np.array([0.2, 0.5, 0.3])
    T = np.array([[0.7, 0.3, 0.0], [0.02, 0.9, 0.08], [0.0, 0.4, 0.6]])
    pair = rarest_flux_pair(T, pi)
    assert (pair.start, pair.end) == (1, 0)
    assert pair.flux == pytest.approx(0.5 * 0.02)
    target = rarest_flux_pair(T, pi, weight="target")  # 0.06, 0.15, 0.004, 0.024, 0.2
    assert (target.start, target.end) == (1, 0)
    assert target.flux == pytest.approx(0.2 * 0.02)
    assert T[0, 0] == 0.7  # the argument is left as it was


def test_weight_of_source_and_target_may_disagree():
    pi = np.array([0.9, 0.1])
    T = np.array([[0.98, 0.02], [0.15, 0.85]])
    assert (rarest_flux_pair(T, pi).start, rarest_flux_pair(T, pi).end) == (1, 0)
    target = rarest_flux_pair(T, pi, weight="target")
    assert (target.start, target.end) == (0, 1)


def test_direction_of_a_reversible_model_does_not_hang_on_rounding():
    generator = np.random.default_rng(0)
    for _ in range(20):
        counts = generator.uniform(0.1, 1, size=(4, 4))
        counts += counts.T
        pi = counts.sum(axis=1) / counts.sum()
        pair = rarest_flux_pair(counts / counts.sum(axis=1, keepdims=True), pi)
        assert pair.start < pair.end
        off_diagonal = counts[~np.eye(4, dtype=bool)]
        assert pair.flux == pytest.approx(off_diagonal.min() / counts.sum())


def test_states_without_flux_are_a_result_with_a_reason():
    pair = rarest_flux_pair(np.eye(3), np.full(3, 1 / 3))
    assert pair.start is None
    assert "no two of the 3 states" in pair.reason


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_arguments_are_named():
    paths = np.array([[0, 1, 2]])
    with pytest.raises(InputError, match="rows sum to"):
        path_measures(paths, CHAIN * 2, 0, 2, seed=0)
    with pytest.raises(InputError, match="T has shape"):
        path_measures(paths, CHAIN[:2], 0, 2, seed=0)
    with pytest.raises(InputError, match="end is 3"):
        path_measures(paths, CHAIN, 0, 3, seed=0)
    with pytest.raises(InputError, match="pi has shape"):
        rarest_flux_pair(CHAIN, np.array([0.5, 0.5]))
