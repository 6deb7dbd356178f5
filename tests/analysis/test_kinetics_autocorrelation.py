"""Autocorrelation: against plain sums, processes with a known decay, angles, and gaps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from trajgen.analysis.kinetics.autocorrelation import (
    decorrelation_time,
    integrated_time,
    lagged_sums,
    torsion_lagged_sums,
)
from trajgen.errors import InputError


def autoregressive(n_segments: int, length: int, decay: float, seed: int) -> np.ndarray:
    """Return stationary AR(1) values of unit variance whose autocorrelation is decay ** lag."""
    noise = np.random.default_rng(seed).normal(size=(n_segments, length))
    noise[:, 1:] *= math.sqrt(1 - decay**2)
    return lfilter([1.0], [1.0, -decay], noise, axis=1)


def plain(values: np.ndarray, segments: np.ndarray, n_lags: int) -> np.ndarray:
    mean = values.mean()
    sums, pairs = np.zeros(n_lags), np.zeros(n_lags)
    for segment in np.unique(segments):
        part = values[segments == segment] - mean
        for lag in range(min(n_lags, len(part))):
            sums[lag] += part[: len(part) - lag] @ part[lag:]
            pairs[lag] += len(part) - lag
    covariance = sums / pairs
    return covariance / covariance[0]


@pytest.mark.parametrize("max_lag", [1, 7, 20, 39])
def test_agrees_with_plain_sums(max_lag):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(90, 2)).cumsum(axis=0) + 50
    segments = np.repeat([4, 1, 9, 2], [40, 30, 1, 19])
    _, blocks = np.unique(segments, return_inverse=True)
    found = lagged_sums(values, segments, blocks, max_lag).autocorrelation(np.ones(4))
    assert found.shape == (min(max_lag, 20) + 1, 2)  # half of the longest segment
    for column in range(2):
        wanted = plain(values[:, column], segments, len(found))
        np.testing.assert_allclose(found[:, column], wanted, atol=1e-10)


def test_agrees_with_numpy_correlate():
    values = autoregressive(1, 300, 0.8, seed=1).ravel()
    zeros = np.zeros(300, dtype=int)
    found = lagged_sums(values[:, None], zeros, zeros, 50).autocorrelation(np.ones(1))[:, 0]
    part = values - values.mean()
    wanted = np.correlate(part, part, mode="full")[299:350] / (300 - np.arange(51))
    np.testing.assert_allclose(found, wanted / wanted[0], atol=1e-12)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 6), st.integers(1, 9))
def test_sums_of_stretches_are_those_of_the_whole(lengths, n_blocks, max_lag):
    """Blocks may cut a segment; pairs across a cut are counted once."""
    segments = np.repeat(np.arange(len(lengths)), lengths)
    values = np.random.default_rng(sum(lengths)).normal(size=(len(segments), 2))
    blocks = np.arange(len(segments)) * n_blocks // len(segments)
    whole = lagged_sums(values, segments, np.zeros_like(segments), max_lag)
    parts = lagged_sums(values, segments, blocks, max_lag)
    np.testing.assert_allclose(parts.products.sum(axis=0), whole.products[0], atol=1e-9)
    np.testing.assert_allclose(parts.ends.sum(axis=0), whole.ends[0], atol=1e-9)
    np.testing.assert_array_equal(parts.pairs.sum(axis=0), whole.pairs[0])


def test_a_draw_is_the_autocorrelation_of_the_repeated_segments():
    values = autoregressive(3, 60, 0.9, seed=2)
    segments = np.repeat(np.arange(3), 60)
    sums = lagged_sums(values.reshape(-1, 1), segments, segments, 20)
    repeated = np.concatenate([values[0], values[0], values[2]])
    wanted = plain(repeated, np.repeat(np.arange(3), 60), 21)
    found = sums.autocorrelation(np.array([2.0, 0.0, 1.0]))[:, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_known_decay_gives_known_times():
    decay, step_ps = 0.95, 0.5
    segments = np.repeat(np.arange(100), 5000)
    values = autoregressive(100, 5000, decay, seed=3).reshape(-1, 1)
    blocks = np.zeros_like(segments)
    found = lagged_sums(values, segments, blocks, 400).autocorrelation(np.ones(1))[:, 0]
    np.testing.assert_allclose(found[:60], decay ** np.arange(60), atol=0.03)
    wanted = -step_ps / math.log(decay)
    assert decorrelation_time(found, step_ps).value == pytest.approx(wanted, rel=0.05)
    exact = step_ps * (0.5 + decay / (1 - decay))
    assert integrated_time(found, step_ps).value == pytest.approx(exact, rel=0.1)


def test_times_of_exact_curves():
    curve = np.array([1.0, 0.6, 0.2, -0.1, -0.2, 0.0])
    assert decorrelation_time(curve, 2.0, level=0.5).value == pytest.approx(2 * 1.25)
    assert decorrelation_time(curve, 2.0, level=0.6).value == pytest.approx(2)
    # Sums of pairs: 1.6, 0.1, −0.2; the last ends the sequence.
    assert integrated_time(curve, 2.0).value == pytest.approx(2 * (1.7 - 0.5))


def test_a_slow_curve_is_a_reason():
    slow = np.linspace(1, 0.8, 11)
    estimate = decorrelation_time(slow, 1.0)
    assert estimate.value is None
    assert estimate.reason == "it does not fall to 1/e within 10 frames"
    assert "within 10 frames" in integrated_time(slow, 1.0).reason
    with pytest.raises(InputError, match="level is 1"):
        decorrelation_time(slow, 1.0, level=1.0)


def test_angles_correlate_by_the_cosine_of_their_difference():
    generator = np.random.default_rng(4)
    angles = generator.normal(size=(200, 2)).cumsum(axis=0) * 0.3
    zeros = np.zeros(200, dtype=int)
    found = torsion_lagged_sums(angles, zeros, zeros, 10).autocorrelation(np.ones(1))
    assert found.shape == (11, 2)
    for torsion in range(2):
        unit = np.exp(1j * angles[:, torsion])
        unit = unit - unit.mean()
        wanted = [(unit[: 200 - lag] * unit[lag:].conj()).real.mean() for lag in range(11)]
        np.testing.assert_allclose(found[:, torsion], np.array(wanted) / wanted[0], atol=1e-10)
    turned = torsion_lagged_sums(angles + 2.0, zeros, zeros, 10).autocorrelation(np.ones(1))
    np.testing.assert_allclose(turned, found, atol=1e-10)


def test_angles_of_a_long_run_are_as_the_published_formula():
    """Mean of cos(x_t − x_{t+l}) less the squared mean direction."""
    angles = 0.5 * autoregressive(1, 200_000, 0.9, seed=5).reshape(-1, 1)
    zeros = np.zeros(200_000, dtype=int)
    found = torsion_lagged_sums(angles, zeros, zeros, 20).autocorrelation(np.ones(1))[:, 0]
    turn = angles[:-20, 0] - angles[20:, 0]
    baseline = abs(np.exp(1j * angles).mean()) ** 2
    assert found[20] == pytest.approx((np.cos(turn).mean() - baseline) / (1 - baseline), abs=1e-3)


def test_order_of_segments_changes_nothing_and_of_frames_everything():
    values = autoregressive(3, 400, 0.95, seed=6).reshape(-1, 1)
    segments = np.repeat(np.arange(3), 400)
    blocks = np.zeros_like(segments)
    found = lagged_sums(values, segments, blocks, 10).autocorrelation(np.ones(1))
    interleaved = np.argsort(np.tile(np.arange(400), 3), kind="stable")
    other = lagged_sums(values[interleaved], segments[interleaved], blocks, 10)
    np.testing.assert_allclose(other.autocorrelation(np.ones(1)), found, atol=1e-12)
    shuffled = np.random.default_rng(0).permutation(values)
    lost = lagged_sums(shuffled, segments, blocks, 10).autocorrelation(np.ones(1))
    assert abs(lost[1, 0]) < 0.2 < 0.8 < found[1, 0]


def test_gaps_are_reasons():
    zeros = np.zeros(5, dtype=int)
    still = lagged_sums(np.full((5, 1), 3.3), zeros, zeros, 3).autocorrelation(np.ones(1))
    assert decorrelation_time(still[:, 0], 1.0).reason == "the quantity does not vary"
    single = lagged_sums(np.arange(3.0)[:, None], np.arange(3), zeros[:3], 3)
    curve = single.autocorrelation(np.ones(1))[:, 0]
    assert curve.tolist() == [1.0]
    assert "no segment has two frames" in integrated_time(curve, 1.0).reason
    none = lagged_sums(np.zeros((0, 2)), zeros[:0], zeros[:0], 3).autocorrelation(np.ones(0))
    assert none.shape == (0, 2)
    with pytest.raises(InputError, match="max_lag_frames is 0"):
        lagged_sums(np.zeros((5, 1)), zeros, zeros, 0)
