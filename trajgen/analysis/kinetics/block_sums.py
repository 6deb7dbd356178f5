"""All sums over blocks of frames of one set, and the kinetic numbers of any draw of its blocks.

The sums cost one pass over the frames; the numbers of a resample or of a half cost none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trajgen.analysis.kinetics.autocorrelation import (
    LaggedSums,
    decorrelation_time,
    integrated_time,
    lagged_sums,
)
from trajgen.analysis.kinetics.estimates import Estimate, log_ratio
from trajgen.analysis.kinetics.markov import MarkovFit, block_counts, compare_models, fit_markov
from trajgen.analysis.kinetics.records import TimeSeries
from trajgen.analysis.kinetics.states import StateModel
from trajgen.analysis.kinetics.time_scales import model_time_scales
from trajgen.analysis.kinetics.vamp import LaggedMoments, lagged_moments, vamp2

#: Slow coordinates whose autocorrelation is measured.
CORRELATED_TICS = 2


@dataclass(frozen=True)
class BlockSums:
    """Sums over the frames of each block of a set.

    Attributes:
        microstate_counts: transitions between microstates at the lags τ, 2 τ, …; empty without
            states.
        macrostate_counts: the same between macrostates.
        no_states: why there are no states, None where there are.
        moments: sums behind the VAMP-2 score at the lag τ.
        correlations: sums behind the autocorrelation of the leading slow coordinates.
        lag_ps: the lag τ.
        time_step_ps: time between frames.
    """

    microstate_counts: tuple[Float[np.ndarray, "blocks micro micro"], ...]
    macrostate_counts: tuple[Float[np.ndarray, "blocks macro macro"], ...]
    no_states: str | None
    moments: LaggedMoments
    correlations: LaggedSums
    lag_ps: float
    time_step_ps: float


@dataclass(frozen=True)
class Numbers:
    """The kinetic numbers of one draw of blocks.

    Attributes:
        markov: the fit of the macrostates' model.
        slowest: slowest implied time scale of the microstates, ps.
        decorrelation_times: of each leading slow coordinate, ps.
        integrated_times: of each leading slow coordinate, ps.
        vamp2: VAMP-2 score.
    """

    markov: MarkovFit
    slowest: Estimate
    decorrelation_times: tuple[Estimate, ...]
    integrated_times: tuple[Estimate, ...]
    vamp2: Estimate


def block_sums(
    series: TimeSeries,
    microstates: Int[np.ndarray, " frames"] | None,
    states: StateModel | None,
    no_states: str | None,
    blocks: Int[np.ndarray, " frames"],
    lag_frames: int,
    multiples: int,
    max_lag_frames: int,
) -> BlockSums:
    """Return the sums of a set whose time step is known.

    Args:
        series: the frames.
        microstates: microstate of each frame, None without states.
        states: the states of the reference, None where it has none.
        no_states: why there are no states, None where there are.
        blocks: block of each frame, counted from 0.
        lag_frames: the lag τ in frames of this set.
        multiples: number of lags τ, 2 τ, … at which transitions are counted.
        max_lag_frames: longest lag of the autocorrelation.
    """
    tics, segments, weights = series.tics, series.consecutive, series.weights
    time_step_ps = float(series.time_step_ps or 0.0)
    micro, macro = [], []
    if states is not None and microstates is not None:
        macrostates = states.macrostates(microstates)
        n_micro, n_macro = len(states.centres), states.n_macrostates
        for lag in (lag_frames * k for k in range(1, multiples + 1)):
            micro.append(block_counts(microstates, segments, blocks, n_micro, lag, weights))
            macro.append(block_counts(macrostates, segments, blocks, n_macro, lag, weights))
    return BlockSums(
        tuple(micro),
        tuple(macro),
        no_states,
        lagged_moments(tics, segments, blocks, lag_frames, weights),
        lagged_sums(tics[:, :CORRELATED_TICS], segments, blocks, max_lag_frames),
        lag_frames * time_step_ps,
        time_step_ps,
    )


def numbers(sums: BlockSums, draw: Float[np.ndarray, " blocks"]) -> Numbers:
    """Return the kinetic numbers of a draw of blocks.

    Args:
        sums: sums of the blocks.
        draw: how often each block is taken.
    """
    curves = sums.correlations.autocorrelation(draw).T
    markov, slowest = MarkovFit(None, sums.no_states, (), ()), Estimate(None, sums.no_states)
    if sums.no_states is None:
        markov = fit_markov(np.tensordot(draw, sums.macrostate_counts[0], 1), sums.lag_ps)
        micro = fit_markov(np.tensordot(draw, sums.microstate_counts[0], 1), sums.lag_ps)
        slowest = model_time_scales(micro, 1)[0]
    return Numbers(
        markov,
        slowest,
        tuple(decorrelation_time(curve, sums.time_step_ps) for curve in curves),
        tuple(integrated_time(curve, sums.time_step_ps) for curve in curves),
        vamp2(sums.moments, draw),
    )


def missing_numbers(reason: str, n_curves: int) -> Numbers:
    """Return numbers that are all missing for one reason."""
    missing = Estimate(None, reason)
    curves = (missing,) * n_curves
    return Numbers(MarkovFit(None, reason, (), ()), missing, curves, curves, missing)


def compare_numbers(sample: Numbers, reference: Numbers) -> Mapping[str, Estimate]:
    """Return how far the numbers of samples are from those of a reference, by name.

    Times are compared as |ln(t / t_ref)|, scores by their difference, models as
    ``compare_models`` does.
    """
    entries: dict[str, Estimate] = {}
    if sample.markov.model is not None and reference.markov.model is not None:
        models = compare_models(sample.markov.model, reference.markov.model)
        for name in MODEL_MEASURES:
            entries[name] = getattr(models, name)
    else:
        lacking = reference if reference.markov.model is None else sample
        entries = dict.fromkeys(MODEL_MEASURES, Estimate(None, lacking.markov.reason))
    entries["time_scale_error"] = log_ratio(sample.slowest, reference.slowest)
    for tic, times in enumerate(
        zip(sample.decorrelation_times, reference.decorrelation_times, strict=True)
    ):
        entries[f"decorrelation_error_tic_{tic}"] = log_ratio(*times)
    entries["vamp2_error"] = _difference(sample.vamp2, reference.vamp2)
    return entries


#: Numbers of ``compare_models`` that are measures.
MODEL_MEASURES = (
    "population_jsd",
    "population_error",
    "transition_rank_correlation",
    "flux_rank_correlation",
    "passage_error",
)


def _difference(a: Estimate, b: Estimate) -> Estimate:
    if a.value is None or b.value is None:
        return a if a.value is None else b
    return Estimate(abs(a.value - b.value))
