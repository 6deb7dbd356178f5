"""Synthetic trajectories have the populations and the transitions of the data that they walk on."""

import numpy as np
import pytest

from trajgen.analysis.kinetics.synthetic import synthetic_trajectories
from trajgen.errors import InputError

T = np.array([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.0, 0.2, 0.8]])


def chain(length: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    states = np.zeros(length, dtype=np.int64)
    for i in range(1, length):
        states[i] = generator.choice(3, p=T[states[i - 1]])
    return states


def test_the_walk_has_the_kinetics_of_the_data() -> None:
    states = chain(40_000, 0)
    segments = np.zeros(len(states), dtype=np.int64)
    frames = synthetic_trajectories(states, segments, 1, np.arange(200), 400, 1)
    assert frames.shape == (200, 400)
    np.testing.assert_array_equal(frames[:, 0], np.arange(200))
    walk = states[frames]
    counts = np.zeros((3, 3))
    np.add.at(counts, (walk[:, :-1], walk[:, 1:]), 1)
    np.testing.assert_allclose(counts / counts.sum(axis=1, keepdims=True), T, atol=0.02)
    late = np.bincount(walk[:, 100:].ravel()) / walk[:, 100:].size
    np.testing.assert_allclose(late, np.bincount(states) / len(states), atol=0.05)
    assert len(np.unique(frames)) > 0.8 * 40_000 * (1 - np.exp(-2))


def test_a_start_outside_the_connected_states_is_replaced() -> None:
    states = np.concatenate([chain(5000, 0), [3]])
    segments = np.zeros(len(states), dtype=np.int64)
    frames = synthetic_trajectories(states, segments, 1, np.array([5000, 7]), 5, 0)
    assert (states[frames] < 3).all()
    assert frames[1, 0] == 7
    again = synthetic_trajectories(states, segments, 1, np.array([5000, 7]), 5, 0)
    np.testing.assert_array_equal(frames, again)


def test_frames_without_transitions_are_refused() -> None:
    states, apart = np.array([0, 1, 2]), np.arange(3)
    with pytest.raises(InputError, match="carry no Markov model at lag_frames 1"):
        synthetic_trajectories(states, apart, 1, np.zeros(1, dtype=np.int64), 4, 0)
