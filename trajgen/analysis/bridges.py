"""Paths of a Markov chain that are conditioned on both of their ends (Markov bridges).

Everything follows from h(m, s) = (Tᵐ)(s, end), the probability of being at the end m steps after s
(Doob's h-transform; see Fitzsimmons, Pitman, Yor 1993, Seminar on Stochastic Processes, p. 101).
"""

import numpy as np
from jaxtyping import Float, Int

from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator


def path_probability(
    paths: Int[np.ndarray, "paths frames"],
    T: Float[np.ndarray, "states states"],
    start: int,
    end: int,
) -> Float[np.ndarray, " paths"]:
    """Return the probability of each path among all that join two states in as many steps.

    P = ∏ₖ T(sₖ, sₖ₊₁) h(n−k−1, sₖ₊₁) / h(n−k, sₖ) with h(m, s) = (Tᵐ)(s, end), n steps. The
    factors h cancel but for the first, so P = ∏ₖ T(sₖ, sₖ₊₁) / (Tⁿ)(start, end). It is zero for a
    path that has other ends, a transition that the model lacks, or a frame in no state.

    Args:
        paths: states of the frames, −1 for a frame in no state of the model.
        T: transition probabilities, a row for each state.
        start: the state that paths leave.
        end: the state that they reach.

    Raises:
        InputError: T is no transition matrix, or a state is not one of its rows.
    """
    return np.exp(log_path_probability(paths, T, start, end))


def log_path_probability(
    paths: Int[np.ndarray, "paths frames"],
    T: Float[np.ndarray, "states states"],
    start: int,
    end: int,
) -> Float[np.ndarray, " paths"]:
    """Return the logarithm of the probability of each path, −∞ where it is zero."""
    _require_model(T, start, end)
    if paths.shape[1] < 2:
        raise InputError(f"paths have {paths.shape[1]} frames; wanted are 2 or more")
    if paths.size and not (paths.min() >= -1 and paths.max() < len(T)):
        raise InputError(
            f"paths have states from {paths.min()} to {paths.max()}; wanted are those of T, 0 to "
            f"{len(T) - 1}, or -1 for a frame in no state"
        )
    reach, log_scale = _reach(T, end, paths.shape[1])
    if not reach[-1, start] > 0:
        return np.full(len(paths), -np.inf)
    # Behind the states comes one that nothing leads to or from: there −1 finds its zeros.
    with np.errstate(divide="ignore"):
        steps = np.log(np.pad(T, (0, 1)))
    total = steps[paths[:, :-1], paths[:, 1:]].sum(axis=1) - np.log(reach[-1, start]) - log_scale
    joins = (paths[:, 0] == start) & (paths[:, -1] == end)
    return np.where(joins, np.minimum(total, 0.0), -np.inf)


def sample_bridges(
    T: Float[np.ndarray, "states states"], start: int, end: int, length: int, n: int, seed: int
) -> Int[np.ndarray, "n length"]:
    """Draw paths of the Markov chain conditioned on both ends (a Markov bridge).

    The next state s′ of s with m steps left after it has probability T(s, s′) h(m, s′) / h(m+1, s).

    Args:
        T: transition probabilities, a row for each state.
        start: the first state of each path.
        end: the last state of each path.
        length: frames of a path, both ends included.
        n: number of paths.
        seed: base of the draws.

    Raises:
        InputError: T is no transition matrix, a state is not one of its rows, the length is below
            2, or the states are not connected by paths of this length.
    """
    _require_model(T, start, end)
    if length < 2:
        raise InputError(f"length is {length}; wanted are 2 frames or more, both ends included")
    reach, _ = _reach(T, end, length)
    if not reach[-1, start] > 0:
        raise InputError(
            f"no path of {length} frames joins state {start} with state {end}; take connected "
            "states, or longer paths"
        )
    generator = numpy_generator(derive_seed(seed, "bridges"))
    paths = np.empty((n, length), dtype=np.int64)
    paths[:, 0] = start
    for frame in range(1, length):
        weights = T * reach[length - 1 - frame]
        cumulative = np.cumsum(weights, axis=1)[paths[:, frame - 1]]
        total = cumulative[:, -1]
        # After rounding a draw may equal the total, behind which there is no state.
        drawn = np.minimum(generator.uniform(size=n) * total, np.nextafter(total, 0))
        paths[:, frame] = (cumulative <= drawn[:, None]).sum(axis=1)
    return paths


def are_connected(T: Float[np.ndarray, "states states"], start: int, end: int, length: int) -> bool:
    """Say whether a path of ``length`` frames can join two states."""
    reach, _ = _reach(T, end, length)
    return bool(reach[-1, start] > 0)


def require_transition_matrix(T: Float[np.ndarray, "states states"]) -> None:
    """Raise InputError unless T is square, not negative, and its rows sum to 1."""
    if T.ndim != 2 or T.shape[0] != T.shape[1] or len(T) == 0:
        raise InputError(f"T has shape {T.shape}; wanted is a square matrix, a row for each state")
    if not ((T >= 0).all() and np.allclose(T.sum(axis=1), 1, atol=1e-6)):
        raise InputError(
            "T is no transition matrix: wanted are entries of at least 0 and rows that sum to 1; "
            f"its smallest entry is {T.min():g}, its rows sum to {T.sum(axis=1).min():g} to "
            f"{T.sum(axis=1).max():g}"
        )


def _reach(
    T: Float[np.ndarray, "states states"], end: int, length: int
) -> tuple[Float[np.ndarray, "steps states"], float]:
    """Return h(m, s), the probability of being at the end m steps after s, for m below ``length``.

    Each row is scaled to a largest value of 1, or zero where nothing reaches the end; the second
    result is the logarithm of the last row's scale.
    """
    reach = np.zeros((length, len(T)))
    reach[0, end] = 1.0
    log_scale = 0.0
    for steps in range(1, length):
        row = T @ reach[steps - 1]
        largest = row.max()
        if not largest > 0:
            return np.zeros((length, len(T))), 0.0
        reach[steps] = row / largest
        log_scale += float(np.log(largest))
    return reach, log_scale


def _require_model(T: Float[np.ndarray, "states states"], start: int, end: int) -> None:
    require_transition_matrix(T)
    for name, state in (("start", start), ("end", end)):
        if not 0 <= state < len(T):
            raise InputError(f"{name} is {state}; wanted is a state of T, 0 to {len(T) - 1}")
