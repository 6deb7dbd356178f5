"""Compare the kinetics of samples with those of a reference, with noise, floor and control."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from pydantic import Field

from trajgen.analysis.kinetics.block_sums import (
    CORRELATED_TICS,
    Numbers,
    compare_numbers,
    missing_numbers,
    numbers,
)
from trajgen.analysis.kinetics.estimates import Estimate, measure
from trajgen.analysis.kinetics.records import Kinetics, TimeSeries
from trajgen.analysis.kinetics.resampled_set import (
    MOST_BLOCKS,
    TIME_BLOCKS,
    ResampledSet,
    describe,
    describe_missing,
    resampled_set,
    shuffled_set,
)
from trajgen.analysis.kinetics.states import StateSettings, StatesFit, fit_states
from trajgen.analysis.kinetics.time_scales import chapman_kolmogorov
from trajgen.analysis.kinetics.vamp import cross_validated_vamp2
from trajgen.analysis.measures import Measure
from trajgen.analysis.resampling import split_halves
from trajgen.errors import InputError
from trajgen.seeding import derive_seed
from trajgen.settings import Settings

#: Unit and bounds of the measures that are not plain errors from 0 up in unit 1.
_UNITS = {"population_error": "kT"}
_BOUNDS = {
    "population_jsd": (0.0, math.sqrt(math.log(2))),
    "transition_rank_correlation": (-1.0, 1.0),
    "flux_rank_correlation": (-1.0, 1.0),
}


_CROSS_VALIDATED = "VAMP-2, cross-validated"


class KineticsSettings(Settings):
    """What an evaluation of kinetics computes.

    Attributes:
        lag_ps: lag of the models, None for the lag of TICA.
        lag_multiples: lags τ, 2 τ, … of the time scales and of the Chapman-Kolmogorov test.
        processes: slowest implied time scales that are given.
        correlation_frames: longest lag of the autocorrelation, in frames of each set.
        bootstrap_resamples: resamples of the block-bootstrap interval.
        floor_splits: random splits of the reference into halves.
        states: how the states are found.
    """

    lag_ps: float | None = Field(default=None, gt=0)
    lag_multiples: int = Field(default=5, ge=1)
    processes: int = Field(default=3, ge=1)
    correlation_frames: int = Field(default=1000, ge=1)
    bootstrap_resamples: int = Field(default=50, ge=10)
    floor_splits: int = Field(default=10, ge=1)
    states: StateSettings = StateSettings()


def evaluate_kinetics(
    samples: TimeSeries,
    reference: TimeSeries,
    settings: KineticsSettings,
    seed: int,
    tica_lag_frames: int = 10,
) -> Kinetics:
    """Measure the kinetics of samples and of a reference on the states of the reference.

    Lags are times: each set is counted at the same lag in ps, whatever its time step. Without a
    time step, or where the lag is no multiple of it, nothing is measured and the reason says so.

    Args:
        samples: frames to judge, in the slow coordinates of the reference.
        reference: frames to judge by; states and floor use only these.
        settings: what to compute.
        seed: base of every draw.
        tica_lag_frames: lag of the slow coordinates in frames of the reference; the lag of the
            models where the settings give none.

    Raises:
        InputError: the two have different numbers of coordinates.
    """
    if samples.tics.shape[1] != reference.tics.shape[1]:
        raise InputError(
            f"the samples have {samples.tics.shape[1]} slow coordinates and the reference "
            f"{reference.tics.shape[1]}; map both by the same TICA model"
        )
    used = settings.states.tics
    samples, reference = _sorted(samples, used), _sorted(reference, used)
    lag_ps = settings.lag_ps
    if lag_ps is None and reference.time_step_ps is not None:
        lag_ps = tica_lag_frames * reference.time_step_ps
    reason = (
        "the reference has no frame"
        if len(reference.tics) == 0
        else _no_lag(lag_ps, reference, "reference") or _no_lag(lag_ps, samples, "samples")
    )
    if reason is not None or lag_ps is None:
        return _unmeasured(samples, reference, reason or "there is no lag", settings, seed)
    return _measured(samples, reference, lag_ps, settings, seed)


def _measured(
    samples: TimeSeries,
    reference: TimeSeries,
    lag_ps: float,
    settings: KineticsSettings,
    seed: int,
) -> Kinetics:
    lag = _lag_frames(lag_ps, reference)
    fit = fit_states(
        reference.tics, reference.consecutive, reference.weights, lag, settings.states, seed
    )

    def resampled(series: TimeSeries, name: str) -> ResampledSet:
        return resampled_set(
            series,
            fit,
            _lag_frames(lag_ps, series),
            settings.lag_multiples,
            settings.correlation_frames,
            settings.bootstrap_resamples,
            derive_seed(seed, f"kinetics of the {name}"),
        )

    theirs, mine = resampled(reference, "reference"), resampled(samples, "samples")
    sample_lag = _lag_frames(lag_ps, samples)
    shuffled = shuffled_set(mine, fit, sample_lag, seed)
    halves = _halves(theirs, settings.floor_splits, seed)
    floor = [
        compare_numbers(numbers(theirs.sums, first), numbers(theirs.sums, second))
        for first, second in halves
    ]
    model = fit.model
    return Kinetics(
        lag_ps=lag_ps,
        reason=None,
        n_microstates=0 if model is None else len(model.centres),
        n_macrostates=0 if model is None else model.n_macrostates,
        samples=describe(mine, fit, sample_lag, settings.processes),
        reference=describe(theirs, fit, lag, settings.processes),
        reference_vamp2=_cross_validated(theirs, halves),
        chapman_kolmogorov=None
        if model is None
        else chapman_kolmogorov(theirs.sums.macrostate_counts, lag_ps, theirs.draws),
        comparison=_comparison(mine.rows, theirs.rows[0], floor),
        control=_comparison(shuffled.rows, theirs.rows[0], floor) | _own_numbers(shuffled.rows),
        notes=_notes(samples, reference, fit),
        settings=settings.model_dump(mode="json"),
        seed=seed,
    )


def _unmeasured(
    samples: TimeSeries,
    reference: TimeSeries,
    reason: str,
    settings: KineticsSettings,
    seed: int,
) -> Kinetics:
    n_curves = min(CORRELATED_TICS, reference.tics.shape[1])
    missing = missing_numbers(reason, n_curves)
    comparison = _comparison([missing], missing, [])
    return Kinetics(
        lag_ps=None,
        reason=reason,
        n_microstates=0,
        n_macrostates=0,
        samples=describe_missing(samples, reason, n_curves),
        reference=describe_missing(reference, reason, n_curves),
        reference_vamp2=Measure(_CROSS_VALIDATED, "1", None, reason=reason),
        chapman_kolmogorov=None,
        comparison=comparison,
        control=comparison | _own_numbers([missing]),
        notes=(f"kinetics were left out: {reason}",),
        settings=settings.model_dump(mode="json"),
        seed=seed,
    )


def _sorted(series: TimeSeries, n_tics: int) -> TimeSeries:
    """Return the frames segment by segment, which every later pass finds faster, and few TICs."""
    order = np.argsort(series.segments, kind="stable")
    return replace(
        series,
        tics=series.tics[order, :n_tics].astype(np.float64),
        segments=series.segments[order],
        runs=None if series.runs is None else series.runs[order],
        weights=None if series.weights is None else series.weights[order].astype(np.float64),
    )


def _no_lag(lag_ps: float | None, series: TimeSeries, name: str) -> str | None:
    """Say why the lag is no number of frames of a set, None where it is one."""
    step_ps = series.time_step_ps
    if lag_ps is None or step_ps is None:
        return f"the time step of the {name} is not known"
    frames = round(lag_ps / step_ps)
    if frames < 1 or not math.isclose(frames * step_ps, lag_ps, rel_tol=1e-6):
        return (
            f"the lag of {lag_ps:g} ps is no multiple of the time step of the {name}, "
            f"{step_ps:g} ps; give lag_ps a multiple of both time steps"
        )
    return None


def _lag_frames(lag_ps: float, series: TimeSeries) -> int:
    return round(lag_ps / float(series.time_step_ps or lag_ps))


def _halves(
    of: ResampledSet, splits: int, seed: int
) -> list[tuple[Float[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]]:
    """Return draws of random halves of the blocks, or of both halves in time of one segment."""
    n_blocks = of.draws.shape[1]
    if n_blocks < 2:
        return []
    if len(np.unique(of.series.segments)) == 1:
        first = (np.arange(n_blocks) < n_blocks // 2).astype(np.float64)
        return [(first, 1 - first)]
    # Which block goes to which half depends on its number of frames, not on their weights.
    factors = split_halves(np.ones(len(of.blocks)), of.blocks, splits, seed).factors
    return [((row > 0).astype(np.float64), (row < 0).astype(np.float64)) for row in factors]


def _comparison(
    rows: Sequence[Numbers], reference: Numbers, floor: Sequence[Mapping[str, Estimate]]
) -> dict[str, Measure]:
    compared = [compare_numbers(row, reference) for row in rows]
    return {
        name: measure(
            name,
            _UNITS.get(name, "1"),
            [row[name] for row in compared],
            [split[name] for split in floor],
            _BOUNDS.get(name, (0.0, math.inf)),
        )
        for name in compared[0]
    }


def _own_numbers(rows: Sequence[Numbers]) -> dict[str, Measure]:
    """Return the numbers of a set that are not relative to the reference."""
    measures = {
        "slowest_time_scale": measure("slowest_time_scale", "ps", [row.slowest for row in rows]),
        "vamp2": measure("vamp2", "1", [row.vamp2 for row in rows]),
    }
    for tic in range(len(rows[0].decorrelation_times)):
        name = f"decorrelation_time_tic_{tic}"
        measures[name] = measure(name, "ps", [row.decorrelation_times[tic] for row in rows])
    return measures


def _cross_validated(
    of: ResampledSet,
    halves: Sequence[tuple[Float[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]],
) -> Measure:
    scores = [cross_validated_vamp2(of.sums.moments, train, test) for train, test in halves]
    values = [score.value for score in scores if score.value is not None]
    if not values:
        reason = scores[0].reason if scores else "the reference has a single block of frames"
        return Measure(_CROSS_VALIDATED, "1", None, reason=reason)
    reason = "a mean over overlapping splits has no interval"
    return Measure(_CROSS_VALIDATED, "1", float(np.mean(values)), reason=reason)


def _notes(samples: TimeSeries, reference: TimeSeries, fit: StatesFit) -> tuple[str, ...]:
    notes = list(fit.notes)
    if fit.reason is not None:
        notes.append(f"states were left out: {fit.reason}")
    for series, name in ((samples, "samples"), (reference, "reference")):
        n_segments = len(np.unique(series.segments))
        if n_segments == 0:
            notes.append(f"there is no frame of the {name}")
        if n_segments == 1:
            notes.append(
                f"there is one segment of the {name}: its blocks are stretches of its time (at "
                f"most {TIME_BLOCKS}), which are correlated, so intervals and floors may be too "
                "narrow"
            )
        if series.weights is not None:
            notes.append(f"autocorrelations count every frame of the {name} alike, without weight")
        if n_segments > MOST_BLOCKS:
            notes.append(
                f"the {n_segments} segments of the {name} are gathered to {MOST_BLOCKS} blocks"
            )
    return tuple(notes)
