"""Numbers with units, noise and reasons, as frozen records."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

Verdict = Literal["better", "worse", "within noise", "not measured"]


@dataclass(frozen=True)
class Measure:
    """One number with its noise; what could not be measured is None with a reason.

    Attributes:
        label: what was measured, such as ``GLY1-TYR2`` or ``mean over terms``.
        unit: unit of all numbers.
        value: the number.
        low: lower end of the 95 % block-bootstrap interval.
        high: upper end of it.
        floor_mean: the same measure between random halves of the reference, mean over splits.
        floor_max: the largest over splits.
        reason: why a number is None, None where all are there.
    """

    label: str
    unit: str
    value: float | None
    low: float | None = None
    high: float | None = None
    floor_mean: float | None = None
    floor_max: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Distance:
    """A distance of two ensembles, pooled (mean over terms) and per term.

    Attributes:
        name: the coordinate, such as ``tica_2d`` or ``bond``; before it the kind of measure
            where it is not Wasserstein-1, as in ``energy_bond``.
        method: the formula in words.
        pooled: the mean over the terms.
        terms: one entry for each term.
    """

    name: str
    method: str
    pooled: Measure
    terms: tuple[Measure, ...]


@dataclass(frozen=True)
class Share:
    """The share of frames with some property, in the samples and in the reference.

    Attributes:
        name: the property, such as ``clash`` or ``native``.
        what: the property in words.
        samples: the share of the samples, with its interval.
        reference: the share of the reference. The floor of both is how far the shares of halves of
            the reference lie apart: to be compared with the difference of the two, not with one.
    """

    name: str
    what: str
    samples: Measure
    reference: Measure


@dataclass(frozen=True)
class Coverage:
    """How near the frames of one set lie to those of another (nearest superposed RMSD).

    Attributes:
        covered: the set whose frames look for their nearest.
        by: the set in which they look.
        mean_nm: weighted mean of the nearest RMSD.
        quantile95_nm: weighted 95 % quantile of it.
        share_within: share of the covered set within the cutoff.
        cutoff_nm: the cutoff.
        n_covered: frames drawn from the covered set.
        n_by: frames drawn from the other set.
        reason: why the numbers are None, None where they are there.
    """

    covered: str
    by: str
    mean_nm: float | None
    quantile95_nm: float | None
    share_within: float | None
    cutoff_nm: float
    n_covered: int
    n_by: int
    reason: str | None = None


def measures_of_rows(
    labels: Sequence[str],
    unit: str,
    rows: Float[np.ndarray, "rows terms"] | None,
    floor: Float[np.ndarray, "splits terms"],
    largest: float = math.inf,
) -> tuple[Measure, ...]:
    """Return the measure of each term from its value, its resamples and its floors.

    All terms at once, since a large protein has tens of thousands.

    Args:
        labels: what was measured, term by term.
        unit: unit of all numbers.
        rows: the value of each term, then its resamples; None where there are no samples.
        floor: the measure between halves of the reference.
        largest: the largest value that a number can have; the smallest is 0.
    """
    empty = tuple(
        Measure(label, unit, None, floor_mean=float(mean), floor_max=float(maximum))
        for label, mean, maximum in zip(labels, floor.mean(axis=0), floor.max(axis=0), strict=True)
    )
    if rows is None:
        why = "the samples have no frame that can be measured"
        return tuple(replace(measure, reason=why) for measure in empty)
    values = np.minimum(rows[0], largest)  # but for rounding
    lows, highs = _intervals(values, rows[1:], largest)
    too_large = ~np.isfinite(rows).all(axis=0)
    measures = []
    for i, measure in enumerate(empty):
        if too_large[i]:
            filled = replace(measure, reason="the coordinates are too large for a number")
        elif len(rows) == 1:
            why = "a single frame gives no interval"
            filled = replace(measure, value=float(values[i]), reason=why)
        else:
            low, high = float(lows[i]), float(highs[i])
            filled = replace(measure, value=float(values[i]), low=low, high=high)
        measures.append(filled)
    return tuple(measures)


def _intervals(
    values: Float[np.ndarray, " terms"],
    resamples: Float[np.ndarray, "resamples terms"],
    largest: float,
) -> tuple[Float[np.ndarray, " terms"], Float[np.ndarray, " terms"]]:
    """Return the ends of the 95 % interval of each term; NaN where there are no resamples."""
    if not len(resamples):
        return np.full_like(values, np.nan), np.full_like(values, np.nan)
    with np.errstate(invalid="ignore", over="ignore"):  # terms too large get a reason instead
        # A resample of few segments is farther from anything than the sample itself is: without
        # this bias (Efron, Tibshirani 1993, An Introduction to the Bootstrap, ch. 10) the
        # percentiles would lie to one side of the value.
        centred = resamples - resamples.mean(axis=0) + values
        low, high = np.quantile(centred, [0.025, 0.975], axis=0)
    # Where resamples hardly differ, rounding alone may put the value outside.
    return np.maximum(np.minimum(low, values), 0.0), np.minimum(np.maximum(high, values), largest)


def unmeasured(name: str, method: str, unit: str, reason: str) -> Distance:
    """Return a distance without numbers and with the reason."""
    return Distance(name, method, Measure("mean over terms", unit, None, reason=reason), ())


def compare_measures(before: Measure, after: Measure) -> Verdict:
    """Say whether a distance changed by more than its noise.

    It is better (or worse) where the two intervals do not overlap and the larger of the two
    values lies above every split-half distance of the reference; below that floor the reference
    itself cannot tell the two apart.
    """
    if before.value is None or after.value is None:
        return "not measured"
    noise = (before.low, before.high, after.low, after.high, before.floor_max)
    if any(number is None for number in noise):
        return "within noise"
    before_low, before_high, after_low, after_high, floor = (float(n or 0.0) for n in noise)
    if max(before.value, after.value) <= floor:
        return "within noise"
    if after_high < before_low:
        return "better"
    if after_low > before_high:
        return "worse"
    return "within noise"
