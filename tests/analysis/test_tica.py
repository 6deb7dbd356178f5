"""TICA against a generalised eigenproblem, and that pairs stay within segments."""

import numpy as np
import pytest
from scipy.linalg import eigh

from trajgen.analysis.tica import fit_tica, lagged_pairs


def ornstein_uhlenbeck(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return three mixed coordinates whose sources decay as 0.98, 0.9 and 0.3 a frame."""
    generator = np.random.default_rng(seed)
    decay = np.array([0.98, 0.9, 0.3])
    mixing = np.random.default_rng(11).normal(size=(3, 3))
    parts = []
    for length in lengths:
        source = np.empty((length, 3))
        state = generator.normal(size=3)
        for frame in range(length):
            state = decay * state + np.sqrt(1 - decay**2) * generator.normal(size=3)
            source[frame] = state
        parts.append(source @ mixing)
    return np.concatenate(parts), np.repeat(np.arange(len(lengths)), lengths)


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_the_generalised_eigenproblem(weighted):
    lag = 4
    features, segments = ornstein_uhlenbeck([600, 3, 500, 700])
    weights = np.random.default_rng(1).uniform(0.2, 1, len(features)) if weighted else None
    fit = fit_tica(features, segments, weights, lag)

    pairs = [
        (start, start + lag)
        for start in range(len(features) - lag)
        if segments[start] == segments[start + lag]
    ]
    first, second = np.array(pairs).T
    share = np.ones(len(first)) if weights is None else weights[first]
    share = share / share.sum()
    mean = share @ (features[first] + features[second]) / 2
    x, y = features[first] - mean, features[second] - mean
    instantaneous = (x.T * share @ x + y.T * share @ y) / 2
    lagged = x.T * share @ y
    values, vectors = eigh((lagged + lagged.T) / 2, instantaneous)
    values, vectors = values[::-1], vectors[:, ::-1]

    assert fit.n_pairs == len(first)
    assert fit.n_short_segments == 1
    np.testing.assert_allclose(fit.model.eigenvalues, values, rtol=1e-8)
    np.testing.assert_allclose(np.abs(fit.model.projection), np.abs(vectors * values), rtol=1e-6)
    np.testing.assert_allclose(fit.model.mean, mean, rtol=1e-8)


def test_finds_the_known_decay():
    features, segments = ornstein_uhlenbeck([20000, 20000])
    fit = fit_tica(features, segments, None, 5)
    np.testing.assert_allclose(fit.model.eigenvalues[:2], [0.98**5, 0.9**5], atol=0.02)


def test_order_of_segments_changes_nothing_and_of_frames_everything():
    features, segments = ornstein_uhlenbeck([300, 300, 300])
    fit = fit_tica(features, segments, None, 3)
    generator = np.random.default_rng(0)
    moved = np.concatenate([np.flatnonzero(segments == s) for s in (2, 0, 1)])
    interleaved = np.argsort(np.tile(np.arange(300), 3), kind="stable")
    for order in (moved, interleaved):
        other = fit_tica(features[order], segments[order], None, 3)
        assert other.n_pairs == fit.n_pairs
        np.testing.assert_allclose(other.model.projection, fit.model.projection, rtol=1e-8)
    inside = np.concatenate(
        [generator.permutation(np.flatnonzero(segments == s)) for s in range(3)]
    )
    shuffled = fit_tica(features[inside], segments, None, 3)
    assert shuffled.model.eigenvalues[0] < 0.5 < fit.model.eigenvalues[0]


def test_pairs_never_leave_their_segment():
    segments = np.array([5, 5, 2, 5, 2, 2, 9])
    first, second, short = lagged_pairs(segments, 2)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 3), (2, 5)]
    assert short == 1
    assert lagged_pairs(segments, 10)[0].size == 0
    assert lagged_pairs(segments, 10)[2] == 3


def test_sign_lets_coordinates_grow_with_the_features():
    features, segments = ornstein_uhlenbeck([900])
    for sign in (1, -1):
        fit = fit_tica(sign * features, segments, None, 2)
        tics = fit.model.transform(sign * features)
        size = (sign * features).mean(axis=1)
        assert (np.cov(tics.T, size)[-1, :-1] > 0).all()


def test_too_few_pairs_are_a_reason_and_not_an_exception():
    features, segments = ornstein_uhlenbeck([5] * 40)
    fit = fit_tica(features, segments, None, 10)
    assert fit.model is None
    assert "longest segment has 5 frames" in fit.reason
    assert fit.n_short_segments == 40


def test_constant_features_are_a_reason_and_not_an_exception():
    fit = fit_tica(np.ones((100, 3)), np.zeros(100, dtype=int), None, 2)
    assert fit.model is None
    assert "do not vary" in fit.reason


def test_no_feature_is_a_reason_and_one_feature_is_fitted():
    features, segments = ornstein_uhlenbeck([400])
    assert fit_tica(features[:, :0], segments, None, 2).model is None
    single = fit_tica(features[:, :1], segments, None, 2)
    assert single.model.projection.shape == (1, 1)


def test_dependent_features_lose_their_rank_only():
    features, segments = ornstein_uhlenbeck([400])
    fit = fit_tica(np.hstack([features, features[:, :1]]), segments, None, 2)
    assert fit.model.projection.shape == (4, 3)
