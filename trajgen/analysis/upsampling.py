"""How true the fast motions are that upsampling adds between known frames.

MDGen (Jing et al. 2024, NeurIPS) shows the autocorrelation of torsions in figures and gives no
number. These are three: the error of the logarithm of the autocorrelation at short lags, the error
of the spectral power above the Nyquist frequency of the known frames (which they cannot tell), and
the size of the steps where windows are joined.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from trajgen.analysis.fast_motions import (
    Series,
    autocorrelations,
    in_order,
    join_ratios,
    power_above,
)
from trajgen.analysis.features import Feature
from trajgen.analysis.measures import Measure
from trajgen.analysis.resampling import split_halves
from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator

#: Lags at which autocorrelations are compared, ps.
LAGS_PS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

#: Below this autocorrelation its logarithm is noise.
SMALLEST_CORRELATION = 0.05

#: Known frames in one stretch of a spectrum, which then has four frequencies up to their Nyquist
#: frequency.
STRETCH = 8

#: Bootstrap resamples of the generated frames, and splits of the reference behind the floor.
RESAMPLES = 100
SPLITS = 10


@dataclass(frozen=True)
class UpsamplingMeasures:
    """How upsampled frames compare with reference frames of the same time step.

    Attributes:
        autocorrelation: mean of |ln C − ln C_reference| over lags and terms.
        lags: the same for each lag of ``LAGS_PS``, mean over terms.
        power: mean over terms of |P / P_reference − 1|, with P the spectral power above the
            Nyquist frequency of the known frames.
        power_ratio: mean over terms of P / P_reference; below 1 the motion is too smooth.
        joins: root mean square step over joins of windows divided by that within windows, mean
            over terms; 1 where a join cannot be told from any other step.
        left_out: what could not be measured, counted by reason.
    """

    autocorrelation: Measure
    lags: tuple[Measure, ...]
    power: Measure
    power_ratio: Measure
    joins: Measure
    left_out: Mapping[str, int]


def upsampling_measures(
    generated: Feature,
    generated_segments: Int[np.ndarray, " frames"],
    joins: Int[np.ndarray, " joins"],
    reference: Feature,
    reference_segments: Int[np.ndarray, " references"],
    time_step_ps: float,
    factor: int,
    seed: int,
) -> UpsamplingMeasures:
    """Compare upsampled frames with a reference of the same, short time step.

    Intervals are of bootstrap resamples of the generated segments (a lone one is cut into
    stretches of time), about the mean of all frames. Floors are of random halves of the reference,
    that of the joins is of as many joins at random places of it.

    Args:
        generated: a coordinate in the upsampled frames.
        generated_segments: segment of each of them.
        joins: index of the first frame of each window; one that begins a segment joins nothing.
        reference: the same coordinate in the reference frames.
        reference_segments: segment of each of them.
        time_step_ps: time between consecutive frames of both.
        factor: frames for each known frame.
        seed: base of every draw.

    Raises:
        InputError: the two have other terms, or a NaN, or the time step, the factor or a join is
            impossible.
    """
    _require(generated, joins, reference, time_step_ps, factor)
    mine = in_order(generated, generated_segments, joins)
    theirs = in_order(reference, reference_segments, np.empty(0, dtype=np.int64))
    rows, halves = _bootstrap(mine, seed), _halves(theirs, seed)
    left_out: dict[str, int] = {}
    lags, autocorrelation = _compare_correlations(
        mine, theirs, rows, halves, time_step_ps, left_out
    )
    power, power_ratio = _compare_power(mine, theirs, rows, halves, factor, left_out)
    joined = _judge_joins(mine, theirs, rows, seed, left_out)
    left_out = {reason: count for reason, count in left_out.items() if count}
    return UpsamplingMeasures(autocorrelation, lags, power, power_ratio, joined, left_out)


def _compare_correlations(
    mine: Series,
    theirs: Series,
    rows: Float[np.ndarray, "rows blocks"],
    halves: Float[np.ndarray, "halves references"],
    time_step_ps: float,
    left_out: dict[str, int],
) -> tuple[tuple[Measure, ...], Measure]:
    """Return the error at each lag and of all lags, and count the lags of terms without one."""
    unit = "natural logarithm"
    steps = {lag: round(lag / time_step_ps) for lag in LAGS_PS}
    used = {lag: k for lag, k in steps.items() if math.isclose(k * time_step_ps, lag)}
    lags = list(used.values())
    logarithms = _logarithms(autocorrelations(theirs, halves, lags))
    first, second = np.split(logarithms[1:], 2)
    errors = np.abs(_logarithms(autocorrelations(mine, rows, lags)) - logarithms[0])
    # Where the reference itself is at the bottom, the logarithm says nothing; NaN stays NaN.
    errors[:, ~(logarithms[0] > math.log(SMALLEST_CORRELATION))] = np.nan
    floor = np.abs(first - second)
    small = int(np.isnan(errors[0]).sum())
    left_out["autocorrelation of a term at a lag is too small, or not known"] = small
    measures = []
    for lag in LAGS_PS:
        empty = Measure(f"{lag:g} ps", unit, None)
        if lag not in used:
            reason = f"the lag is no multiple of the time step of {time_step_ps:g} ps"
            measures.append(replace(empty, reason=reason))
            continue
        at = list(used).index(lag)
        reason = "no segment is so long, or no term of the reference is correlated over this lag"
        measures.append(_measure(empty, errors[:, at], floor[:, at], reason))
    empty = Measure("mean over lags and terms", unit, None)
    reason = "there is no lag at which the autocorrelation can be compared"
    pooled = _measure(empty, _flat(errors), _flat(floor), reason)
    return tuple(measures), pooled


def _compare_power(
    mine: Series,
    theirs: Series,
    rows: Float[np.ndarray, "rows blocks"],
    halves: Float[np.ndarray, "halves references"],
    factor: int,
    left_out: dict[str, int],
) -> tuple[Measure, Measure]:
    """Return the relative error of the power and its ratio; count the blocks and terms left out."""
    stretch = STRETCH * factor
    known, short = power_above(theirs, halves, factor, stretch)
    power, short_too = power_above(mine, rows, factor, stretch)
    first, second = np.split(known[1:], 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(known[0] > 0, power / known[0], np.nan)
        floor = first / second
    reason = (
        f"no stretch of {stretch} frames ({STRETCH} known ones) within a segment, or no power in "
        "the reference above the Nyquist frequency of the known frames"
    )
    error = Measure("mean over terms", "relative error", None)
    ratio = Measure("mean over terms", "ratio", None)
    left_out["stretch of time is too short for a spectrum"] = short + short_too
    left_out["term has no fast motion in the reference"] = int((known[0] == 0).sum())
    return (
        _measure(error, np.abs(ratios - 1), np.abs(floor - 1), reason),
        _measure(ratio, ratios, floor, reason),
    )


def _judge_joins(
    mine: Series,
    theirs: Series,
    rows: Float[np.ndarray, "rows blocks"],
    seed: int,
    left_out: dict[str, int],
) -> Measure:
    """Return how steps over joins compare with others; count joins and terms left out."""
    ratios, n_joins = join_ratios(mine, rows)
    inside = np.flatnonzero(theirs.segments[1:] == theirs.segments[:-1]) + 1
    floor = []
    for split in range(SPLITS if 0 < n_joins < len(inside) else 0):
        generator = numpy_generator(derive_seed(seed, "joins", index=split))
        is_join = np.zeros(len(theirs.segments), dtype=bool)
        is_join[generator.choice(inside, n_joins, replace=False)] = True
        all_blocks = np.ones((1, theirs.n_blocks))
        floor.append(join_ratios(replace(theirs, is_join=is_join), all_blocks)[0][0])
    reason = "no windows are joined within a segment, or nothing moves within them"
    empty = Measure("mean over terms", "ratio", None)
    first_of_segment = int(mine.is_join.sum()) - n_joins
    left_out["join of windows is at the start of a segment"] = first_of_segment
    still = int(np.isnan(ratios[0]).sum()) if n_joins else 0
    left_out["term does not move between joins"] = still
    return _measure(empty, ratios, np.array(floor).reshape(-1, ratios.shape[1]), reason)


def _bootstrap(series: Series, seed: int) -> Float[np.ndarray, "rows blocks"]:
    """Return how often each block is drawn: once in the first row, at random in the others."""
    n = series.n_blocks
    once = np.ones((1, n))
    if n < 2:
        return once
    generator = numpy_generator(derive_seed(seed, "bootstrap"))
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.concatenate([once, drawn])


def _halves(series: Series, seed: int) -> Float[np.ndarray, "rows blocks"]:
    """Return a row for all blocks, then one half of them a row, then the other halves."""
    n = series.n_blocks
    if n < 2:
        return np.ones((1, n))
    signs = split_halves(np.ones(len(series.blocks)), series.blocks, SPLITS, seed).factors
    return np.concatenate([np.ones((1, n)), signs > 0, signs < 0])


def _logarithms(
    correlations: Float[np.ndarray, "rows lags terms"],
) -> Float[np.ndarray, "rows lags terms"]:
    return np.log(np.maximum(correlations, SMALLEST_CORRELATION))


def _flat(values: Float[np.ndarray, "rows lags terms"]) -> Float[np.ndarray, "rows columns"]:
    return values.reshape(len(values), -1)


def _measure(
    empty: Measure,
    rows: Float[np.ndarray, "rows terms"],
    floor: Float[np.ndarray, "splits terms"],
    reason: str,
) -> Measure:
    """Fill a measure with the mean over terms of the first row, the interval, and the floor.

    Terms without a number are left out; where no term has one the reason says why.
    """
    known = np.isfinite(rows[0]) if len(rows) else np.zeros(0, dtype=bool)
    if not known.any():
        return replace(empty, reason=reason)
    means = rows[:, known].mean(axis=1)
    floors = floor[:, known].mean(axis=1)
    means, floors = means[np.isfinite(means)], floors[np.isfinite(floors)]
    value = float(means[0])
    measure = replace(empty, value=value)
    if len(floors):
        measure = replace(measure, floor_mean=float(floors.mean()), floor_max=float(floors.max()))
    if len(means) < 3:
        return replace(measure, reason="a single stretch of time gives no interval")
    # As in measures.measures_of_rows: a resample of few blocks is farther off than all of them are.
    centred = np.maximum(means[1:] - means[1:].mean() + value, 0.0)
    low, high = np.quantile(centred, [0.025, 0.975])
    return replace(measure, low=float(low), high=float(high))


def _require(
    generated: Feature,
    joins: Int[np.ndarray, " joins"],
    reference: Feature,
    time_step_ps: float,
    factor: int,
) -> None:
    if (generated.labels, generated.period) != (reference.labels, reference.period):
        raise InputError(
            f"generated is {generated.name} with {len(generated.labels)} terms, the reference "
            f"{reference.name} with {len(reference.labels)}; wanted are the same terms"
        )
    for name, feature in (("generated", generated), ("reference", reference)):
        if not np.isfinite(feature.values).all():
            raise InputError(f"{name} has a NaN or infinity; remove those frames first")
    if not time_step_ps > 0:
        raise InputError(f"time_step_ps is {time_step_ps}; wanted is a time above 0")
    if factor < 2:
        raise InputError(f"factor is {factor}; wanted are 2 or more frames for each known one")
    n = len(generated.values)
    if joins.size and not (joins.min() >= 0 and joins.max() < n):
        raise InputError(
            f"joins go from {joins.min()} to {joins.max()}; wanted are frames, 0 to {n - 1}"
        )
