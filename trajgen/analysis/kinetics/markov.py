"""Markov models of discrete states: counts by block, rates, passage times, and comparison.

A transition is a pair of frames one lag apart within a segment (sliding window). The transition
matrix is the most likely one that obeys detailed balance (Trendelkamp-Schroer, Wu, Paul, Noé
2015, J. Chem. Phys. 143:174101), estimated by deeptime. Counts are kept by block of frames, so
that a bootstrap resample is a weighted sum of counts and costs no pass over the frames.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from deeptime.markov.msm import MaximumLikelihoodMSM
from deeptime.markov.tools.analysis import mfpt
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.stats import spearmanr

from trajgen.analysis.histograms import jensen_shannon_distance
from trajgen.analysis.kinetics.estimates import Estimate
from trajgen.analysis.tica import lagged_pairs
from trajgen.errors import InputError

#: Iterations after which a transition matrix that still changes is given up.
MAX_ITERATIONS = 100_000


@dataclass(frozen=True)
class MarkovModel:
    """A reversible Markov model on the active ones of ``n_states`` states.

    Attributes:
        transitions: probability to be in the second active state one lag after the first.
        stationary: stationary probability of each active state.
        active: number of each active state, ascending.
        n_states: number of states, absent ones included.
        lag_ps: the lag, None where the frames have no time.
    """

    transitions: Float[np.ndarray, "active active"]
    stationary: Float[np.ndarray, " active"]
    active: Int[np.ndarray, " active"]
    n_states: int
    lag_ps: float | None

    def populations(self) -> Float[np.ndarray, " states"]:
        """Return the stationary probability of all states, 0 for absent ones."""
        populations = np.zeros(self.n_states)
        populations[self.active] = self.stationary
        return populations

    def all_transitions(self) -> Float[np.ndarray, "states states"]:
        """Return the transition matrix of all states, 0 from and to absent ones."""
        transitions = np.zeros((self.n_states, self.n_states))
        transitions[np.ix_(self.active, self.active)] = self.transitions
        return transitions

    def flux(self) -> Float[np.ndarray, "states states"]:
        """Return the equilibrium flux π_i T_ij of all states: the share of all transitions."""
        return self.populations()[:, None] * self.all_transitions()


@dataclass(frozen=True)
class MarkovFit:
    """What a fit came to; without a model there is a reason.

    Attributes:
        model: the fitted model, None where the counts did not carry one.
        reason: why there is no model, None where there is one.
        unvisited: states without any transition.
        disconnected: states that were visited and left out, since there is no way from them to
            the modelled states and back.
    """

    model: MarkovModel | None
    reason: str | None
    unvisited: tuple[int, ...]
    disconnected: tuple[int, ...]


@dataclass(frozen=True)
class ModelComparison:
    """How far the model of samples is from that of a reference.

    Attributes:
        population_jsd: Jensen-Shannon distance of the populations (natural logarithm, √ln 2 at
            most); a state that one of them lacks has the population 0 there.
        population_error: mean |ln p − ln p_ref| over the states that both have, kT.
        transition_rank_correlation: Spearman's ρ of the off-diagonal transition probabilities.
        flux_rank_correlation: Spearman's ρ of the off-diagonal fluxes.
        passage_error: root mean square of ln(t / t_ref) of the mean first passage times over the
            ordered pairs of states that both have.
        n_states_missing: states that the reference has and the samples lack.
        n_pairs_missing: ordered pairs of different states that the reference has and the samples
            lack.
    """

    population_jsd: Estimate
    population_error: Estimate
    transition_rank_correlation: Estimate
    flux_rank_correlation: Estimate
    passage_error: Estimate
    n_states_missing: int
    n_pairs_missing: int


def block_counts(
    states: Int[np.ndarray, " frames"],
    segments: Int[np.ndarray, " frames"],
    blocks: Int[np.ndarray, " frames"],
    n_states: int,
    lag_frames: int,
    weights: Float[np.ndarray, " frames"] | None = None,
) -> Float[np.ndarray, "blocks states states"]:
    """Count the transitions of each block of frames with a sliding window.

    A pair has the block and the weight of its first frame; a pair with a frame in no state (−1)
    is not counted.

    Args:
        states: state of each frame, −1 for none.
        segments: segment of each frame.
        blocks: block of each frame, counted from 0.
        n_states: number of states.
        lag_frames: lag in frames.
        weights: statistical weight of each frame, None for equal weights.

    Raises:
        InputError: a state is not among the ``n_states`` ones.
    """
    largest = int(states.max(initial=-1))
    if largest >= n_states:
        raise InputError(
            f"states holds the state {largest}, but n_states is {n_states}; states are counted "
            f"from 0, so give at least {largest + 1}"
        )
    first, second, _ = lagged_pairs(segments, lag_frames)
    inside = (states[first] >= 0) & (states[second] >= 0)
    first, second = first[inside], second[inside]
    n_blocks = int(blocks.max(initial=-1)) + 1
    cell = (blocks[first] * n_states + states[first]) * n_states + states[second]
    pair_weights = None if weights is None else weights[first].astype(np.float64)
    counts = np.bincount(cell, pair_weights, n_blocks * n_states**2)
    return counts.astype(np.float64).reshape(n_blocks, n_states, n_states)


def fit_markov(counts: Float[np.ndarray, "states states"], lag_ps: float | None) -> MarkovFit:
    """Fit a reversible model on the largest set of states that are connected both ways.

    The largest set is that of the most states, and among equals that of the most transitions.

    Args:
        counts: transitions from the first to the second state, weighted or not.
        lag_ps: lag at which they were counted, None where the frames have no time.
    """
    visited = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    unvisited = tuple(int(state) for state in np.flatnonzero(~visited))
    active = _largest_connected(counts)
    outside = visited.copy()
    outside[active] = False
    disconnected = tuple(int(state) for state in np.flatnonzero(outside))
    if len(active) == 0:
        what = "no state was left and entered again" if visited.any() else "there is no transition"
        return MarkovFit(None, f"{what} within a segment at the lag", unvisited, disconnected)
    estimator = MaximumLikelihoodMSM(reversible=True, maxiter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = estimator.fit_from_counts(counts[np.ix_(active, active)]).fetch_model()
    if any("converge" in str(warning.message) for warning in caught):
        reason = f"the transition matrix did not settle within {MAX_ITERATIONS} iterations"
        return MarkovFit(None, reason, unvisited, disconnected)
    model = MarkovModel(
        np.asarray(fitted.transition_matrix, dtype=np.float64),
        np.asarray(fitted.stationary_distribution, dtype=np.float64),
        active,
        len(counts),
        lag_ps,
    )
    return MarkovFit(model, None, unvisited, disconnected)


def mean_first_passage_times(model: MarkovModel) -> Float[np.ndarray, "states states"]:
    """Return the mean time in ps from each state (row) until the other (column) is first reached.

    It solves t_i = τ + Σ_k T_ik t_k with t = 0 at the target (Hoel, Port, Stone 1972,
    Introduction to Stochastic Processes, ch. 1). It is infinite from and to absent states, and 0
    from a state to itself.

    Raises:
        InputError: the model has no time.
    """
    if model.lag_ps is None:
        raise InputError("the model has lag_ps None, so it gives no times; give the lag in ps")
    times = np.full((model.n_states, model.n_states), np.inf)
    np.fill_diagonal(times, 0.0)
    for target, state in enumerate(model.active):
        times[model.active, state] = mfpt(model.transitions, target) * model.lag_ps
    return times


def compare_models(sample: MarkovModel, reference: MarkovModel) -> ModelComparison:
    """Compare the model of samples with that of a reference on the same states.

    The rank correlations are those of the public comparison of generated with simulated
    peptides (Jing, Stärk, Jaakkola, Berger 2024, MDGen): entries between all states of the
    reference, 0 where the samples lack a state.

    Raises:
        InputError: the two have different states or different lags.
    """
    if sample.n_states != reference.n_states:
        raise InputError(
            f"the sample model has {sample.n_states} states and the reference model "
            f"{reference.n_states}; fit both on the states of the reference"
        )
    if sample.lag_ps != reference.lag_ps:
        raise InputError(
            f"the sample model has the lag {sample.lag_ps} ps and the reference model "
            f"{reference.lag_ps} ps; count both at one lag"
        )
    both = np.intersect1d(sample.active, reference.active)
    n_reference, n_both = len(reference.active), len(both)
    mine, theirs = sample.populations(), reference.populations()
    if n_both:
        gaps = np.abs(np.log(mine[both]) - np.log(theirs[both]))
        population_error = Estimate(float(gaps.mean()))
    else:
        population_error = Estimate(None, "the two have no state in common")
    known = reference.active
    return ModelComparison(
        population_jsd=Estimate(float(jensen_shannon_distance(mine, theirs))),
        population_error=population_error,
        transition_rank_correlation=_rank_correlation(
            sample.all_transitions(), reference.all_transitions(), known
        ),
        flux_rank_correlation=_rank_correlation(sample.flux(), reference.flux(), known),
        passage_error=_passage_error(sample, reference, both),
        n_states_missing=n_reference - n_both,
        n_pairs_missing=n_reference * (n_reference - 1) - n_both * (n_both - 1),
    )


def _largest_connected(counts: Float[np.ndarray, "states states"]) -> Int[np.ndarray, " active"]:
    n_sets, labels = connected_components(counts > 0, directed=True, connection="strong")
    largest, size = np.empty(0, dtype=np.int64), (0, 0.0)
    for label in range(n_sets):
        members = np.flatnonzero(labels == label)
        inside = float(counts[np.ix_(members, members)].sum())
        if inside > 0 and (len(members), inside) > size:
            largest, size = members, (len(members), inside)
    return largest


def _rank_correlation(
    a: Float[np.ndarray, "states states"],
    b: Float[np.ndarray, "states states"],
    states: Int[np.ndarray, " known"],
) -> Estimate:
    off_diagonal = ~np.eye(len(states), dtype=bool)
    mine = a[np.ix_(states, states)][off_diagonal]
    theirs = b[np.ix_(states, states)][off_diagonal]
    if len(states) < 3:
        return Estimate(None, "ranks want at least 3 states")
    if np.ptp(mine) == 0 or np.ptp(theirs) == 0:
        return Estimate(None, "all entries are equal, so they have no ranks")
    return Estimate(float(spearmanr(mine, theirs).statistic))


def _passage_error(
    sample: MarkovModel, reference: MarkovModel, both: Int[np.ndarray, " both"]
) -> Estimate:
    if sample.lag_ps is None:
        return Estimate(None, "the frames have no time")
    if len(both) < 2:
        return Estimate(None, "the two have no pair of states in common")
    off_diagonal = ~np.eye(len(both), dtype=bool)
    mine = mean_first_passage_times(sample)[np.ix_(both, both)][off_diagonal]
    theirs = mean_first_passage_times(reference)[np.ix_(both, both)][off_diagonal]
    return Estimate(math.sqrt(float(np.mean(np.log(mine / theirs) ** 2))))
