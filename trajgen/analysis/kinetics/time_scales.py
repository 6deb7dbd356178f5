"""Implied time scales and the Chapman-Kolmogorov test of Markov models, with their noise.

Both ask whether the lag is long enough (Swope, Pitera, Suits 2004, J. Phys. Chem. B 108:6571;
Prinz et al. 2011, J. Chem. Phys. 134:174105): the time scales t_i = −τ / ln|λ_i| level off with
the lag, and T(τ)^k predicts the matrix that is estimated at the lag k τ.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from deeptime.markov.tools.analysis import timescales
from deeptime.util.exceptions import SpectralWarning
from jaxtyping import Float

from trajgen.analysis.kinetics.estimates import Estimate, finite, measure
from trajgen.analysis.kinetics.markov import MarkovFit, MarkovModel, fit_markov
from trajgen.analysis.measures import Measure
from trajgen.errors import InputError


@dataclass(frozen=True)
class LagTimeScales:
    """The slowest implied time scales at one lag.

    Attributes:
        lag_ps: the lag.
        time_scales: one measure for each process, slowest first.
        n_states_absent: states that the model at this lag lacks.
    """

    lag_ps: float
    time_scales: tuple[Measure, ...]
    n_states_absent: int


@dataclass(frozen=True)
class StateTest:
    """The Chapman-Kolmogorov test of one state.

    Attributes:
        state: the state.
        predicted: probability to be in the state again, from T(τ)^k, for each k; None where the
            state is absent.
        estimated: the same from T(k τ), with its interval, for each k.
        largest_deviation: largest |T(τ)^k − T(k τ)| over k and over all states to go to.
        mean_deviation: its mean.
        reason: why a deviation is None, None where both are there.
    """

    state: int
    predicted: tuple[float | None, ...]
    estimated: tuple[Measure, ...]
    largest_deviation: float | None
    mean_deviation: float | None
    reason: str | None


@dataclass(frozen=True)
class ChapmanKolmogorov:
    """The Chapman-Kolmogorov test of a model.

    Attributes:
        lags_ps: the lags k τ, τ first.
        states: the test of each state.
    """

    lags_ps: tuple[float, ...]
    states: tuple[StateTest, ...]


def implied_time_scales(model: MarkovModel, processes: int) -> tuple[Estimate, ...]:
    """Return t_i = −τ / ln|λ_i| in ps of the slowest processes, slowest first.

    Args:
        model: the model.
        processes: number of time scales.

    Raises:
        InputError: the model has no time.
    """
    if model.lag_ps is None:
        raise InputError("the model has lag_ps None, so it gives no times; give the lag in ps")
    n_found = min(processes, len(model.active) - 1)
    found: tuple[Estimate, ...] = ()
    if n_found:
        # An eigenvalue of exactly zero has the time zero, by way of an infinite logarithm; one of
        # −1 belongs to states that take turns, which the library warns of and the reason says.
        with np.errstate(divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", SpectralWarning)
            times = timescales(
                model.transitions, model.lag_ps, n_found + 1, reversible=True, mu=model.stationary
            )
        reason = "the process does not decay within the accuracy of the eigenvalue"
        found = tuple(finite(float(time), reason) for time in times[1:])
    missing = Estimate(None, f"{len(model.active)} connected states have {n_found} processes")
    return found + (missing,) * (processes - n_found)


def time_scales_by_lag(
    counts: Sequence[Float[np.ndarray, "blocks states states"]],
    lags_ps: Sequence[float],
    draws: Float[np.ndarray, "rows blocks"],
    processes: int,
) -> tuple[LagTimeScales, ...]:
    """Return the implied time scales at several lags, with block-bootstrap intervals.

    Args:
        counts: transitions of each block of frames, at each lag.
        lags_ps: the lags.
        draws: how often each block is taken; the first row gives the numbers, the other rows
            the resamples.
        processes: number of time scales.
    """
    levels = []
    for block_counts, lag_ps in zip(counts, lags_ps, strict=True):
        fits = [fit_markov(np.tensordot(draw, block_counts, 1), lag_ps) for draw in draws]
        rows = [model_time_scales(fit, processes) for fit in fits]
        measures = tuple(
            measure(f"process {process} at {lag_ps:g} ps", "ps", [row[process] for row in rows])
            for process in range(processes)
        )
        absent = len(fits[0].unvisited) + len(fits[0].disconnected)
        levels.append(LagTimeScales(lag_ps, measures, absent))
    return tuple(levels)


def model_time_scales(fit: MarkovFit, processes: int) -> tuple[Estimate, ...]:
    """Return the time scales of a fit, or its reason as often where it has no model."""
    if fit.model is None:
        return (Estimate(None, fit.reason),) * processes
    return implied_time_scales(fit.model, processes)


def chapman_kolmogorov(
    counts: Sequence[Float[np.ndarray, "blocks states states"]],
    lag_ps: float,
    draws: Float[np.ndarray, "rows blocks"],
) -> ChapmanKolmogorov:
    """Compare T(τ)^k with T(k τ) for k = 1, 2, … state by state.

    A state that one of the models lacks has no curve there; its entries are left out.

    Args:
        counts: transitions of each block of frames, at the lags τ, 2 τ, 3 τ, …
        lag_ps: the lag τ.
        draws: how often each block is taken; the first row gives the numbers, the other rows
            the resamples.
    """
    n_states = counts[0].shape[1]
    lags_ps = tuple(lag_ps * k for k in range(1, len(counts) + 1))
    fits = [
        [fit_markov(np.tensordot(draw, block_counts, 1), lag) for draw in draws]
        for block_counts, lag in zip(counts, lags_ps, strict=True)
    ]
    estimated = np.stack([[_matrix(fit, n_states) for fit in level] for level in fits])
    predicted = np.stack(
        [_matrix(fits[0][0], n_states, power=k) for k in range(1, len(counts) + 1)]
    )
    return ChapmanKolmogorov(
        lags_ps,
        tuple(_state_test(state, lags_ps, predicted, estimated) for state in range(n_states)),
    )


def _matrix(fit: MarkovFit, n_states: int, power: int = 1) -> Float[np.ndarray, "states states"]:
    """Return the power of the transition matrix of all states, NaN from and to absent ones."""
    matrix = np.full((n_states, n_states), np.nan)
    if fit.model is not None:
        active = np.ix_(fit.model.active, fit.model.active)
        matrix[active] = np.linalg.matrix_power(fit.model.transitions, power)
    return matrix


def _state_test(
    state: int,
    lags_ps: tuple[float, ...],
    predicted: Float[np.ndarray, "lags states states"],
    estimated: Float[np.ndarray, "lags rows states states"],
) -> StateTest:
    absent = f"state {state} is not among the connected states at the lag"
    curves = []
    for lag, lag_ps in enumerate(lags_ps):
        rows = [finite(value, absent) for value in estimated[lag, :, state, state]]
        curves.append(measure(f"state {state} at {lag_ps:g} ps", "1", rows, bounds=(0.0, 1.0)))
    gaps = np.abs(predicted[1:, state] - estimated[1:, 0, state])
    gaps = gaps[np.isfinite(gaps)]
    stays = [finite(value, absent).value for value in predicted[:, state, state]]
    if gaps.size == 0:
        reason = absent if len(lags_ps) > 1 else "the test wants at least two lags"
        return StateTest(state, tuple(stays), tuple(curves), None, None, reason)
    return StateTest(
        state, tuple(stays), tuple(curves), float(gaps.max()), float(gaps.mean()), None
    )
