"""Markov bridges against enumeration of all paths."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajgen.analysis.bridges import (
    are_connected,
    log_path_probability,
    path_probability,
    sample_bridges,
)
from trajgen.errors import InputError

#: Three states in a row: no direct way from the first to the last.
CHAIN = np.array([[0.9, 0.1, 0.0], [0.05, 0.8, 0.15], [0.0, 0.2, 0.8]])


def random_matrix(seed: int, n: int = 4) -> np.ndarray:
    generator = np.random.default_rng(seed)
    T = generator.uniform(size=(n, n)) * (generator.uniform(size=(n, n)) > 0.3) + np.eye(n) * 0.1
    return T / T.sum(axis=1, keepdims=True)


def all_paths(n_states: int, length: int, start: int, end: int) -> np.ndarray:
    inner = itertools.product(range(n_states), repeat=length - 2)
    return np.array([(start, *states, end) for states in inner])


def brute_force(paths: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Return the weight of each path among all of them, a product of bare transitions."""
    weights = np.array([np.prod([T[a, b] for a, b in itertools.pairwise(p)]) for p in paths])
    return weights / weights.sum()


def stepwise(paths: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Return products of bridge-conditioned transition probabilities, as MDGen writes them."""
    n = paths.shape[1] - 1
    powers = [np.linalg.matrix_power(T, m) for m in range(n + 1)]
    product = np.ones(len(paths))
    for k in range(n):
        now, then, end = paths[:, k], paths[:, k + 1], paths[:, -1]
        product *= T[now, then] * powers[n - k - 1][then, end] / powers[n - k][now, end]
    return product


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length", [2, 3, 6])
def test_probability_agrees_with_enumeration(seed, length):
    T = random_matrix(seed)
    for start, end in ((0, 3), (2, 1), (1, 1)):
        paths = all_paths(4, length, start, end)
        if np.linalg.matrix_power(T, length - 1)[start, end] == 0:
            assert not path_probability(paths, T, start, end).any()
            continue
        found = path_probability(paths, T, start, end)
        np.testing.assert_allclose(found, brute_force(paths, T), rtol=1e-10)
        assert found.sum() == pytest.approx(1)


def test_probability_agrees_with_the_stepwise_formula():
    paths = sample_bridges(CHAIN, 0, 2, 11, 50, seed=1)
    found = path_probability(paths, CHAIN, 0, 2)
    np.testing.assert_allclose(found, stepwise(paths, CHAIN), rtol=1e-10)


def test_impossible_paths_have_probability_zero():
    paths = np.array(
        [
            [0, 1, 1, 2],
            [0, 0, 2, 2],  # a jump that the chain lacks
            [1, 1, 1, 2],  # another start
            [0, 1, 1, 1],  # another end
            [0, 1, -1, 2],  # a frame in no state
        ]
    )
    found = path_probability(paths, CHAIN, 0, 2)
    assert found[0] > 0
    assert not found[1:].any()


@pytest.mark.parametrize(("start", "end", "length"), [(0, 2, 5), (2, 0, 4), (1, 1, 4)])
def test_sampled_bridges_have_the_exact_frequencies(start, end, length):
    n = 20_000
    paths = sample_bridges(CHAIN, start, end, length, n, seed=3)
    every = all_paths(3, length, start, end)
    wanted = brute_force(every, CHAIN)
    code = 3 ** np.arange(length)
    found = np.array([(paths @ code == path @ code).mean() for path in every])
    assert found.sum() == pytest.approx(1)
    assert (np.abs(found - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / n)).all()


@given(seed=st.integers(0, 2**32), matrix=st.integers(0, 50), length=st.integers(2, 20))
def test_sampled_bridges_are_possible(seed, matrix, length):
    T = random_matrix(matrix)
    if np.linalg.matrix_power(T, length - 1)[0, 3] == 0:
        return
    paths = sample_bridges(T, 0, 3, length, 20, seed)
    assert (paths[:, 0] == 0).all()
    assert (paths[:, -1] == 3).all()
    assert (path_probability(paths, T, 0, 3) > 0).all()


def test_long_paths_neither_underflow_nor_overflow():
    """Both leave the first two states with 1e-3 a step, so that hardly a path comes back."""
    T = np.array([[0.5, 0.499, 1e-3], [0.499, 0.5, 1e-3], [0.0, 0.0, 1.0]])
    length = 3000
    paths = sample_bridges(T, 0, 1, length, 4, seed=0)
    assert not path_probability(paths, T, 0, 1).any()  # below the smallest number
    assert np.isfinite(log_path_probability(paths, T, 0, 1)).all()
    assert (paths < 2).all()
    certain = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert path_probability(np.zeros((1, 9000), dtype=int), certain, 0, 0) == pytest.approx(1)
    leaving = np.array([[1e-3, 0.999], [0.0, 1.0]])  # staying 400 steps has 1e-1200
    stayed = np.zeros((1, 400), dtype=int)
    assert path_probability(stayed, leaving, 0, 0) == pytest.approx(1)


def test_connection_depends_on_the_length():
    assert not are_connected(CHAIN, 0, 2, 2)
    assert are_connected(CHAIN, 0, 2, 3)
    assert not are_connected(np.eye(2), 0, 1, 50)
    one_way = np.array([[0.5, 0.5], [0.0, 1.0]])
    assert not are_connected(one_way, 1, 0, 50)
    swaps = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert [are_connected(swaps, 0, 1, length) for length in (2, 3, 4)] == [True, False, True]


def test_draws_repeat_for_a_seed():
    first, again, other = (sample_bridges(CHAIN, 0, 2, 11, 40, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_arguments_are_named():
    paths = np.array([[0, 1, 2]])
    with pytest.raises(InputError, match="states from 0 to 5"):
        path_probability(np.array([[0, 5, 2]]), CHAIN, 0, 2)
    with pytest.raises(InputError, match="have 1 frames"):
        path_probability(paths[:, :1], CHAIN, 0, 2)
    with pytest.raises(InputError, match="start is -1"):
        path_probability(paths, CHAIN, -1, 2)
    with pytest.raises(InputError, match="rows sum to"):
        path_probability(paths, CHAIN - 0.1, 0, 2)
    with pytest.raises(InputError, match="length is 1"):
        sample_bridges(CHAIN, 0, 2, 1, 5, seed=0)
    with pytest.raises(InputError, match="no path of 2 frames"):
        sample_bridges(CHAIN, 0, 2, 2, 5, seed=0)
