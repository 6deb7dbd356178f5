"""Implied time scales and the Chapman-Kolmogorov test: known rates, deeptime, and noise."""

import numpy as np
import pytest
from deeptime.markov.msm import MarkovStateModel, MaximumLikelihoodMSM

from trajgen.analysis.kinetics.markov import MarkovModel, block_counts
from trajgen.analysis.kinetics.time_scales import (
    chapman_kolmogorov,
    implied_time_scales,
    time_scales_by_lag,
)
from trajgen.errors import InputError

TRANSITIONS = np.array([[0.97, 0.03, 0.0], [0.02, 0.90, 0.08], [0.0, 0.10, 0.90]])
STATIONARY = MarkovStateModel(TRANSITIONS).stationary_distribution
EIGENVALUES = np.sort(np.linalg.eigvals(TRANSITIONS).real)[::-1]


def chain(n_segments: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    model = MarkovStateModel(TRANSITIONS)
    parts = [model.simulate(length, start=i % 3, seed=seed + i) for i in range(n_segments)]
    return np.concatenate(parts).astype(np.int64), np.repeat(np.arange(n_segments), length)


def counts_by_lag(states, segments, lags, n_states=3):
    return [block_counts(states, segments, segments, n_states, lag) for lag in lags]


def draws(n_blocks: int, resamples: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=resamples)
    return np.concatenate([np.ones((1, n_blocks)), drawn])


def test_time_scales_of_a_known_matrix():
    model = MarkovModel(TRANSITIONS, STATIONARY, np.arange(3), 3, 5.0)
    found = [estimate.value for estimate in implied_time_scales(model, 2)]
    np.testing.assert_allclose(found, -5 / np.log(EIGENVALUES[1:]))
    wanted = MarkovStateModel(TRANSITIONS, lagtime=5).timescales()
    np.testing.assert_allclose(found, wanted)
    third = implied_time_scales(model, 3)[2]
    assert third.value is None
    assert "3 connected states have 2 processes" in third.reason


def test_a_negative_eigenvalue_counts_by_its_size():
    transitions = np.array([[0.1, 0.9], [0.9, 0.1]])
    model = MarkovModel(transitions, np.full(2, 0.5), np.arange(2), 2, 1.0)
    assert implied_time_scales(model, 1)[0].value == pytest.approx(-1 / np.log(0.8))


def test_states_that_take_turns_do_not_decay():
    model = MarkovModel(np.array([[0.0, 1.0], [1.0, 0.0]]), np.full(2, 0.5), np.arange(2), 2, 1.0)
    estimate = implied_time_scales(model, 1)[0]
    assert estimate.value is None
    assert "does not decay" in estimate.reason


def test_known_time_scales_lie_in_their_intervals_at_every_lag():
    states, segments = chain(20, 4000, seed=1)
    lags = (1, 3, 6)
    found = time_scales_by_lag(
        counts_by_lag(states, segments, lags), [2.0 * lag for lag in lags], draws(20, 60), 2
    )
    wanted = -2 / np.log(EIGENVALUES[1:])
    assert [level.lag_ps for level in found] == [2, 6, 12]
    for level in found:
        assert level.n_states_absent == 0
        for process, scale in enumerate(level.time_scales):
            assert scale.low <= scale.value <= scale.high
            assert 0 < scale.high - scale.low < 0.5 * scale.value
            assert scale.value == pytest.approx(wanted[process], rel=0.15)
    slowest = found[0].time_scales[0]
    assert slowest.low < wanted[0] < slowest.high
    assert (slowest.unit, slowest.label) == ("ps", "process 0 at 2 ps")


def test_resamples_are_the_models_of_the_repeated_segments():
    states, segments = chain(4, 500, seed=2)
    draw = np.array([[2.0, 0.0, 1.0, 1.0]])
    found = time_scales_by_lag(counts_by_lag(states, segments, [1]), [1.0], draw, 1)
    parts = [states[segments == s] for s in (0, 0, 2, 3)]
    wanted = MaximumLikelihoodMSM().fit(parts, lagtime=1).fetch_model().timescales()[0]
    assert found[0].time_scales[0].value == pytest.approx(wanted, rel=1e-6)
    assert "single block" in found[0].time_scales[0].reason


def test_shuffled_frames_have_no_time_scale():
    states, segments = chain(4, 3000, seed=3)
    shuffled = np.random.default_rng(0).permutation(states)
    one = np.ones((1, 4))
    kept = time_scales_by_lag(counts_by_lag(states, segments, [1]), [1.0], one, 1)
    lost = time_scales_by_lag(counts_by_lag(shuffled, segments, [1]), [1.0], one, 1)
    assert lost[0].time_scales[0].value < 1 < 20 < kept[0].time_scales[0].value


def test_too_long_a_lag_is_a_reason():
    states, segments = chain(3, 20, seed=4)
    found = time_scales_by_lag(counts_by_lag(states, segments, [30]), [30.0], draws(3, 5), 2)
    assert found[0].n_states_absent == 3
    for scale in found[0].time_scales:
        assert scale.value is None
        assert "no transition" in scale.reason
    with pytest.raises(InputError, match="lag_ps None"):
        implied_time_scales(MarkovModel(TRANSITIONS, STATIONARY, np.arange(3), 3, None), 1)


def test_a_markov_chain_passes_the_test():
    states, segments = chain(20, 4000, seed=5)
    test = chapman_kolmogorov(counts_by_lag(states, segments, (2, 4, 6, 8)), 2.0, draws(20, 60))
    assert test.lags_ps == (2, 4, 6, 8)
    for state in test.states:
        assert 0 < state.mean_deviation <= state.largest_deviation < 0.03
        for k, (predicted, estimated) in enumerate(
            zip(state.predicted, state.estimated, strict=True), start=1
        ):
            exact = np.linalg.matrix_power(TRANSITIONS, 2 * k)[state.state, state.state]
            assert predicted == pytest.approx(exact, abs=0.02)
            assert estimated.low <= estimated.value <= estimated.high <= 1
            assert estimated.value == pytest.approx(exact, abs=0.02)


def test_a_process_with_a_hidden_state_fails_the_test():
    """Two of the three states are seen as one, so that what is seen has a memory."""
    states, segments = chain(20, 20_000, seed=6)
    seen = np.where(states == 2, 0, states)
    lags, one = (5, 10, 15, 20), np.ones((1, 20))
    markov = chapman_kolmogorov(counts_by_lag(states, segments, lags), 5.0, one)
    hidden = chapman_kolmogorov(counts_by_lag(seen, segments, lags, n_states=2), 5.0, one)
    assert hidden.states[1].largest_deviation > 4 * markov.states[1].largest_deviation


def test_deviations_agree_with_deeptime_and_hold_the_whole_row():
    states, segments = chain(6, 800, seed=7)
    parts = np.split(states, 6)
    models = [MaximumLikelihoodMSM().fit(parts, lagtime=k).fetch_model() for k in (1, 2, 3)]
    test = chapman_kolmogorov(counts_by_lag(states, segments, (1, 2, 3)), 1.0, np.ones((1, 6)))
    for state in range(3):
        gaps = [
            np.linalg.matrix_power(models[0].transition_matrix, k)[state]
            - models[k - 1].transition_matrix[state]
            for k in (2, 3)
        ]
        found = test.states[state]
        assert found.largest_deviation == pytest.approx(np.abs(gaps).max(), abs=1e-7)
        assert found.mean_deviation == pytest.approx(np.abs(gaps).mean(), abs=1e-7)
    # With as many sets as states, the library's own test has the same curves.
    curves = models[0].ck_test(models, 3, include_lag0=False)
    predicted = np.sort([np.asarray(curves.predictions)[:, i, i] for i in range(3)], axis=0)
    mine = np.sort([state.predicted for state in test.states], axis=0)
    np.testing.assert_allclose(mine, predicted, atol=0.02)


def test_an_absent_state_has_a_reason_and_the_others_numbers():
    states, segments = chain(4, 500, seed=8)
    test = chapman_kolmogorov(
        counts_by_lag(states, segments, (1, 2), n_states=4), 1.0, draws(4, 10)
    )
    absent = test.states[3]
    assert absent.predicted == (None, None)
    assert absent.largest_deviation is None
    assert "state 3 is not among" in absent.reason
    assert all(measure.value is None for measure in absent.estimated)
    assert test.states[0].reason is None
