"""Synthetic trajectories of a Markov model with a frame of the data at each step.

What a model of trajectories must beat: a walk among fine states of its own training data, each
shown by one of its frames, has the populations and the slow kinetics of the data at no cost
("synthetic MD" of arXiv:2204.04343).
"""

import numpy as np
from jaxtyping import Int

from trajgen.analysis.kinetics.markov import block_counts, fit_markov
from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator


def synthetic_trajectories(
    states: Int[np.ndarray, " frames"],
    segments: Int[np.ndarray, " frames"],
    lag_frames: int,
    starts: Int[np.ndarray, " replicas"],
    length: int,
    seed: int,
) -> Int[np.ndarray, "replicas length"]:
    """Walk among states by a reversible Markov model of them, and draw a frame of each.

    Args:
        states: fine state of each frame of the data, counted from 0.
        segments: segment of each frame.
        lag_frames: frames of the data that one step stands for.
        starts: the frame that each replica begins with; where its state is not connected with the
            others, the replica begins in a state drawn by population.
        length: frames of a trajectory, one lag apart; the first is the start.
        seed: base of the draws.

    Returns:
        Frames of the data.

    Raises:
        InputError: the transitions between the states carry no model.
    """
    n_states = int(states.max(initial=0)) + 1
    one_block = np.zeros(len(states), dtype=np.int64)
    counts = block_counts(states, segments, one_block, n_states, lag_frames)
    fit = fit_markov(counts[0], lag_ps=None)
    if fit.model is None:
        raise InputError(f"states carry no Markov model at lag_frames {lag_frames}: {fit.reason}")
    model, generator = fit.model, numpy_generator(derive_seed(seed, "synthetic"))
    place = np.full(n_states, -1)
    place[model.active] = np.arange(len(model.active))
    members = [np.flatnonzero(states == state) for state in model.active]
    cumulative = np.cumsum(model.transitions, axis=1)
    walk = np.empty((len(starts), length), dtype=np.int64)
    first = place[states[starts]]
    drawn = generator.choice(len(model.active), size=len(starts), p=model.stationary)
    walk[:, 0] = np.where(first >= 0, first, drawn)
    for step in range(1, length):
        rows = cumulative[walk[:, step - 1]]
        draws = generator.uniform(size=len(starts)) * rows[:, -1]
        walk[:, step] = np.minimum((rows <= draws[:, None]).sum(axis=1), len(rows[0]) - 1)
    sizes = np.array([len(some) for some in members])
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    chosen = (generator.uniform(size=walk.shape) * sizes[walk]).astype(np.int64)
    frames = np.concatenate(members)[offsets[walk] + chosen]
    frames[:, 0] = np.where(first >= 0, starts, frames[:, 0])
    return frames
