"""Markov models: counts by block, a chain with known rates, deeptime, and absent states."""

import itertools

import numpy as np
import pytest
from deeptime.markov import TransitionCountEstimator
from deeptime.markov.msm import MarkovStateModel, MaximumLikelihoodMSM
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from trajgen.analysis.kinetics.markov import (
    MarkovModel,
    block_counts,
    compare_models,
    fit_markov,
    mean_first_passage_times,
)
from trajgen.errors import InputError

#: A reversible chain: a slow basin (0, 1) and a slow basin (2, 3) beside it.
TRANSITIONS = np.array(
    [
        [0.90, 0.10, 0.00, 0.00],
        [0.20, 0.77, 0.03, 0.00],
        [0.00, 0.04, 0.66, 0.30],
        [0.00, 0.00, 0.15, 0.85],
    ]
)


def chain(n_segments: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return states of the known chain and their segments."""
    model = MarkovStateModel(TRANSITIONS)
    start = np.random.default_rng(seed).choice(4, n_segments, p=model.stationary_distribution)
    parts = [
        model.simulate(length, start=int(state), seed=seed * 1000 + i)
        for i, state in enumerate(start)
    ]
    return np.concatenate(parts).astype(np.int64), np.repeat(np.arange(n_segments), length)


def exact(lag_ps: float | None = 2.0) -> MarkovModel:
    pi = MarkovStateModel(TRANSITIONS).stationary_distribution
    return MarkovModel(TRANSITIONS, pi, np.arange(4), 4, lag_ps)


@given(
    st.lists(
        st.tuples(st.integers(-1, 2), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=30
    ),
    st.integers(1, 3),
)
def test_counts_are_those_of_all_pairs_of_a_segment(frames, lag):
    states, segments, blocks = (np.array(column) for column in zip(*frames, strict=True))
    weights = np.linspace(0.5, 2, len(states))
    wanted = np.zeros((int(blocks.max()) + 1, 3, 3))
    for segment in np.unique(segments):
        inside = np.flatnonzero(segments == segment)
        for a, b in zip(inside, inside[lag:], strict=False):
            if min(states[a], states[b]) >= 0:
                wanted[blocks[a], states[a], states[b]] += weights[a]
    np.testing.assert_allclose(block_counts(states, segments, blocks, 3, lag, weights), wanted)


def test_counts_agree_with_deeptime():
    states, segments = chain(5, 300, seed=1)
    for lag in (1, 7):
        counts = block_counts(states, segments, segments, 4, lag)
        assert counts.shape == (5, 4, 4)
        estimator = TransitionCountEstimator(lag, "sliding")
        wanted = estimator.fit(np.split(states, 5)).fetch_model().count_matrix
        np.testing.assert_array_equal(counts.sum(axis=0), np.asarray(wanted))


def test_model_agrees_with_deeptime_and_obeys_detailed_balance():
    states, segments = chain(5, 400, seed=2)
    counts = block_counts(states, segments, segments, 4, 1).sum(axis=0)
    model = fit_markov(counts, 2.0).model
    wanted = MaximumLikelihoodMSM().fit_from_counts(counts).fetch_model()
    np.testing.assert_allclose(model.transitions, wanted.transition_matrix, atol=1e-10)
    np.testing.assert_allclose(model.stationary, wanted.stationary_distribution, atol=1e-10)
    np.testing.assert_allclose(model.flux(), model.flux().T, atol=1e-8)
    assert model.flux().sum() == pytest.approx(1)


def test_known_chain_is_found():
    states, segments = chain(20, 5000, seed=3)
    counts = block_counts(states, segments, np.zeros_like(states), 4, 1)[0]
    model, known = fit_markov(counts, 2.0).model, exact()
    np.testing.assert_allclose(model.transitions, TRANSITIONS, atol=0.01)
    np.testing.assert_allclose(model.stationary, known.stationary, atol=0.03)
    np.testing.assert_allclose(model.flux(), known.flux(), atol=0.03)
    times, wanted = mean_first_passage_times(model), mean_first_passage_times(known)
    off_diagonal = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(times[off_diagonal], wanted[off_diagonal], rtol=0.12)


def test_passage_times_of_two_states_are_the_inverse_rates():
    a, b = 0.02, 0.05
    transitions = np.array([[1 - a, a], [b, 1 - b]])
    model = MarkovModel(transitions, np.array([b, a]) / (a + b), np.array([1, 3]), 5, 10.0)
    times = mean_first_passage_times(model)
    assert times[1, 3] == pytest.approx(10 / a)
    assert times[3, 1] == pytest.approx(10 / b)
    assert (np.diag(times) == 0).all()
    assert np.isinf(times[0, [1, 2, 3, 4]]).all()
    assert np.isinf(times[[0, 2, 4], 3]).all()


def test_passage_times_agree_with_deeptime_and_with_waiting():
    known = exact(lag_ps=1.0)
    wanted = [MarkovStateModel(TRANSITIONS).mfpt([i], [3]) for i in range(3)]
    np.testing.assert_allclose(mean_first_passage_times(known)[:3, 3], wanted)
    states, _ = chain(1, 100_000, seed=4)
    arrivals = np.flatnonzero(states == 3)
    starts = np.flatnonzero(states == 0)
    starts = starts[starts < arrivals[-1]]
    waited = arrivals[np.searchsorted(arrivals, starts)] - starts
    assert waited.mean() == pytest.approx(wanted[0], rel=0.1)


def test_absent_states_are_listed_and_the_rest_is_modelled():
    counts = np.zeros((7, 7))
    counts[np.ix_([1, 2, 4], [1, 2, 4])] = [[5, 2, 0], [1, 6, 3], [0, 2, 4]]
    counts[np.ix_([5, 6], [5, 6])] = 100  # many transitions, few states
    counts[4, 0] = 1  # entered and never left
    fit = fit_markov(counts, 1.0)
    assert fit.model.active.tolist() == [1, 2, 4]
    assert fit.unvisited == (3,)
    assert fit.disconnected == (0, 5, 6)
    assert fit.model.populations()[[0, 3, 5, 6]].tolist() == [0, 0, 0, 0]
    assert fit.model.populations().sum() == pytest.approx(1)
    assert fit.model.all_transitions().shape == (7, 7)


def test_of_two_sets_of_one_size_the_one_with_more_transitions_is_modelled():
    counts = np.zeros((4, 4))
    counts[:2, :2], counts[2:, 2:] = 1, 2
    assert fit_markov(counts, 1.0).model.active.tolist() == [2, 3]


def test_no_transition_is_a_reason_and_a_single_state_a_model():
    fit = fit_markov(np.zeros((3, 3)), 1.0)
    assert (fit.model, fit.unvisited) == (None, (0, 1, 2))
    assert "no transition" in fit.reason
    onward = np.zeros((3, 3))
    onward[0, 1] = onward[1, 2] = 1
    fit = fit_markov(onward, 1.0)
    assert fit.model is None
    assert "no state was left and entered again" in fit.reason
    assert fit.disconnected == (0, 1, 2)
    alone = fit_markov(np.diag([0.0, 4.0]), 1.0).model
    assert alone.active.tolist() == [1]
    assert alone.transitions.tolist() == [[1.0]]


def test_a_model_equals_itself():
    comparison = compare_models(exact(), exact())
    for error in (
        comparison.population_jsd,
        comparison.population_error,
        comparison.passage_error,
    ):
        assert error.value == pytest.approx(0, abs=1e-7)
    assert comparison.transition_rank_correlation.value == pytest.approx(1)
    assert comparison.flux_rank_correlation.value == pytest.approx(1)
    assert (comparison.n_states_missing, comparison.n_pairs_missing) == (0, 0)


def test_slower_rates_are_seen_in_passage_times_only():
    slow = 0.5 * TRANSITIONS + 0.5 * np.eye(4)
    known = exact()
    model = MarkovModel(slow, known.stationary, known.active, 4, 2.0)
    comparison = compare_models(model, known)
    assert comparison.passage_error.value == pytest.approx(np.log(2))
    assert comparison.population_jsd.value == pytest.approx(0, abs=1e-7)
    assert comparison.flux_rank_correlation.value == pytest.approx(1)


def test_comparison_of_known_populations():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.3, 0.5])
    two = MarkovModel(np.tile(p[:2], (2, 1)), p[:2], np.array([0, 1]), 3, 1.0)
    three = MarkovModel(np.tile(q, (3, 1)), q, np.arange(3), 3, 1.0)
    comparison = compare_models(two, three)
    assert comparison.population_jsd.value == pytest.approx(jensenshannon(p, q))
    gaps = [abs(np.log(0.5 / 0.2)), abs(np.log(0.5 / 0.3))]
    assert comparison.population_error.value == pytest.approx(np.mean(gaps))
    assert (comparison.n_states_missing, comparison.n_pairs_missing) == (1, 4)
    # Passage times of independent draws are 1 / p.
    assert comparison.passage_error.value == pytest.approx(np.sqrt(np.mean(np.square(gaps))))
    # Reference columns rank 0.2 < 0.3 < 0.5; the sample has 0.5, 0.5, 0 with zeros to state 2.
    assert comparison.transition_rank_correlation.value < 0


def test_models_without_a_common_state_have_reasons():
    a = MarkovModel(np.ones((1, 1)), np.ones(1), np.array([0]), 2, 1.0)
    b = MarkovModel(np.ones((1, 1)), np.ones(1), np.array([1]), 2, 1.0)
    comparison = compare_models(a, b)
    assert comparison.population_jsd.value == pytest.approx(np.sqrt(np.log(2)))
    assert comparison.population_error.value is None
    assert "no state in common" in comparison.population_error.reason
    assert "no pair" in comparison.passage_error.reason
    assert "3 states" in comparison.flux_rank_correlation.reason


def test_bad_arguments_name_themselves():
    states = np.array([0, 1, 2])
    with pytest.raises(InputError, match="n_states is 2"):
        block_counts(states, states * 0, states * 0, 2, 1)
    with pytest.raises(InputError, match="lag_ps None"):
        mean_first_passage_times(exact(lag_ps=None))
    with pytest.raises(InputError, match="count both at one lag"):
        compare_models(exact(1.0), exact(2.0))
    smaller = MarkovModel(np.ones((1, 1)), np.ones(1), np.array([0]), 2, 2.0)
    with pytest.raises(InputError, match="2 states and the reference model 4"):
        compare_models(smaller, exact())


def test_order_of_segments_changes_nothing_and_of_frames_everything():
    states, segments = chain(3, 200, seed=5)
    block = np.zeros_like(states)
    counts = block_counts(states, segments, block, 4, 1)
    for order in itertools.permutations(range(3)):
        moved = np.concatenate([np.flatnonzero(segments == s) for s in order])
        other = block_counts(states[moved], segments[moved], block, 4, 1)
        np.testing.assert_array_equal(other, counts)
    shuffled = np.random.default_rng(0).permutation(states)
    assert (block_counts(shuffled, segments, block, 4, 1)[0, 0, 3]) > counts[0, 0, 3]
