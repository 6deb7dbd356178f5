"""One set of frames with its sums by block, the numbers of its resamples, and their description."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from trajgen.analysis.kinetics.block_sums import (
    BlockSums,
    Numbers,
    block_sums,
    missing_numbers,
    numbers,
)
from trajgen.analysis.kinetics.estimates import LEAST_SHARE, Estimate, interval, measure
from trajgen.analysis.kinetics.markov import mean_first_passage_times
from trajgen.analysis.kinetics.records import (
    Curve,
    Matrix,
    PassageTimes,
    SetKinetics,
    TimeSeries,
)
from trajgen.analysis.kinetics.shuffle import shuffle_within_segments
from trajgen.analysis.kinetics.states import StatesFit
from trajgen.analysis.kinetics.time_scales import time_scales_by_lag
from trajgen.analysis.measures import Measure
from trajgen.analysis.resampling import resampled_against, segment_blocks

#: Stretches of time that a lone segment is cut into for the bootstrap.
TIME_BLOCKS = 10

#: Blocks of the bootstrap; where there are more segments, neighbours share a block.
MOST_BLOCKS = 100


@dataclass(frozen=True)
class ResampledSet:
    """A set of frames, its blocks, and the numbers of its resamples.

    Attributes:
        series: the frames.
        microstates: microstate of each frame, None without states.
        blocks: block of each frame, counted from 0.
        draws: how often each block is taken; the first row takes each once, the others are
            bootstrap resamples.
        sums: sums of the blocks.
        rows: the numbers of each draw.
    """

    series: TimeSeries
    microstates: Int[np.ndarray, " frames"] | None
    blocks: Int[np.ndarray, " frames"]
    draws: Float[np.ndarray, "rows blocks"]
    sums: BlockSums
    rows: tuple[Numbers, ...]


def resampled_set(
    series: TimeSeries,
    fit: StatesFit,
    lag_frames: int,
    multiples: int,
    max_lag_frames: int,
    resamples: int,
    seed: int,
) -> ResampledSet:
    """Return a set with the numbers of its bootstrap resamples.

    Args:
        series: the frames, whose time step is known.
        fit: states of the reference.
        lag_frames: the lag τ in frames of this set.
        multiples: number of lags τ, 2 τ, … at which transitions are counted.
        max_lag_frames: longest lag of the autocorrelation.
        resamples: number of bootstrap resamples.
        seed: base of their draw.
    """
    microstates = None if fit.model is None else fit.model.assign(series.tics)
    blocks = bootstrap_blocks(series.segments)
    sums = block_sums(
        series, microstates, fit.model, fit.reason, blocks, lag_frames, multiples, max_lag_frames
    )
    draws = np.ones((1, 0))
    if len(blocks):
        equal = np.ones(len(blocks))
        drawn = resampled_against(equal, blocks, np.ones(1), resamples, seed)
        # The numbers do not depend on the scale of a row, nor on the set to compare with.
        draws = drawn.factors[:, :-1]
    rows = tuple(numbers(sums, draw) for draw in draws)
    return ResampledSet(series, microstates, blocks, draws, sums, rows)


def shuffled_set(of: ResampledSet, fit: StatesFit, lag_frames: int, seed: int) -> ResampledSet:
    """Return the same set, blocks and draws with the frames of each segment in random order."""
    order = shuffle_within_segments(of.series.segments, seed)
    weights = of.series.weights
    series = replace(
        of.series,
        tics=of.series.tics[order],
        weights=None if weights is None else weights[order],
    )
    microstates = None if of.microstates is None else of.microstates[order]
    # A curve of frames without memory needs few lags.
    sums = block_sums(series, microstates, fit.model, fit.reason, of.blocks, lag_frames, 1, 10)
    rows = tuple(numbers(sums, draw) for draw in of.draws)
    return ResampledSet(series, microstates, of.blocks, of.draws, sums, rows)


def bootstrap_blocks(segments: Int[np.ndarray, " frames"]) -> Int[np.ndarray, " frames"]:
    """Return the block of each frame: segments, neighbours together where there are many."""
    blocks = segment_blocks(segments, TIME_BLOCKS)
    n_blocks = int(blocks.max(initial=-1)) + 1
    return blocks * MOST_BLOCKS // n_blocks if n_blocks > MOST_BLOCKS else blocks


def describe(of: ResampledSet, fit: StatesFit, lag_frames: int, processes: int) -> SetKinetics:
    """Return all numbers of a set with their intervals."""
    lags_ps = [of.sums.lag_ps * k for k in range(1, len(of.sums.microstate_counts) + 1)]
    curves = of.sums.correlations.autocorrelation(of.draws[0]).T
    return replace(
        _described(of.series, of.rows, fit, len(curves)),
        left_out=_left_out(of, fit, lag_frames),
        time_scales=time_scales_by_lag(of.sums.microstate_counts, lags_ps, of.draws, processes),
        autocorrelations=tuple(
            Curve(
                f"TIC {tic}",
                tuple((np.arange(len(curve)) * of.sums.time_step_ps).tolist()),
                tuple(curve.tolist()),
            )
            for tic, curve in enumerate(curves)
        ),
    )


def describe_missing(series: TimeSeries, reason: str, n_curves: int) -> SetKinetics:
    """Return the description of a set of which nothing could be measured."""
    rows = (missing_numbers(reason, n_curves),)
    return _described(series, rows, StatesFit(None, reason, {}, ()), n_curves)


def _described(
    series: TimeSeries, rows: Sequence[Numbers], fit: StatesFit, n_curves: int
) -> SetKinetics:
    n_states = 0 if fit.model is None else fit.model.n_macrostates
    model = rows[0].markov.model
    return SetKinetics(
        n_frames=len(series.tics),
        n_segments=len(np.unique(series.segments)),
        left_out={},
        time_scales=(),
        decorrelation_times=tuple(
            measure(f"TIC {tic}", "ps", [row.decorrelation_times[tic] for row in rows])
            for tic in range(n_curves)
        ),
        integrated_times=tuple(
            measure(f"TIC {tic}", "ps", [row.integrated_times[tic] for row in rows])
            for tic in range(n_curves)
        ),
        autocorrelations=(),
        vamp2=measure("VAMP-2", "1", [row.vamp2 for row in rows]),
        populations=tuple(_population(state, rows) for state in range(n_states)),
        transitions=() if model is None else _matrix(model.all_transitions()),
        passage_times=_passage_times(rows),
    )


def _population(state: int, rows: Sequence[Numbers]) -> Measure:
    estimates = [
        Estimate(None, row.markov.reason)
        if row.markov.model is None
        else Estimate(float(row.markov.model.populations()[state]))
        for row in rows
    ]
    return measure(f"state {state}", "1", estimates, bounds=(0.0, 1.0))


def _passage_times(rows: Sequence[Numbers]) -> PassageTimes:
    models = [row.markov.model for row in rows]
    if models[0] is None:
        return PassageTimes((), (), (), rows[0].markov.reason)
    value = mean_first_passage_times(models[0])
    times = [mean_first_passage_times(model) for model in models[1:] if model is not None]
    low, high = np.full_like(value, np.inf), np.full_like(value, np.inf)
    for pair in zip(*np.nonzero(np.isfinite(value)), strict=True):
        resamples = np.array([time[pair] for time in times])
        resamples = resamples[np.isfinite(resamples)]
        if len(models) > 1 and len(resamples) >= LEAST_SHARE * (len(models) - 1):
            low[pair], high[pair] = interval(float(value[pair]), resamples, (0.0, np.inf))
    return PassageTimes(_matrix(value), _matrix(low), _matrix(high))


def _matrix(values: Float[np.ndarray, "states states"]) -> Matrix:
    return tuple(
        tuple(float(value) if np.isfinite(value) else None for value in row) for row in values
    )


def _left_out(of: ResampledSet, fit: StatesFit, lag_frames: int) -> dict[str, int]:
    _, lengths = np.unique(of.series.consecutive, return_counts=True)
    counts = {
        "frames in segments that are not longer than the lag": int(
            lengths[lengths <= lag_frames].sum()
        ),
        "frames in microstates that are not connected in the reference": 0
        if fit.model is None or of.microstates is None
        else int((fit.model.macrostates(of.microstates) < 0).sum()),
    }
    return {reason: count for reason, count in counts.items() if count}
