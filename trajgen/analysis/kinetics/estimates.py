"""Numbers that may be missing, and measures made of a number, its resamples and its floor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trajgen.analysis.measures import Measure

#: An interval needs a number from this share of the resamples; fewer would show the tame ones.
LEAST_SHARE = 0.9


@dataclass(frozen=True)
class Estimate:
    """A number, or the reason why there is none.

    Attributes:
        value: the number.
        reason: why it is None, None where it is there.
    """

    value: float | None
    reason: str | None = None


def finite(value: float, reason: str) -> Estimate:
    """Return the value, or the reason where it is not a finite number."""
    return Estimate(float(value)) if math.isfinite(value) else Estimate(None, reason)


def log_ratio(a: Estimate, b: Estimate) -> Estimate:
    """Return |ln(a / b)| of two positive numbers: 0.1 is a tenth apart, whichever is larger."""
    for estimate in (a, b):
        if estimate.value is None:
            return estimate
    if a.value is None or b.value is None or min(a.value, b.value) <= 0:
        return Estimate(None, "a time of zero has no ratio")
    return Estimate(abs(math.log(a.value / b.value)))


def measure(
    label: str,
    unit: str,
    rows: Sequence[Estimate],
    floor: Sequence[Estimate] | None = None,
    bounds: tuple[float, float] = (0.0, math.inf),
) -> Measure:
    """Turn a number (first row), its resamples (other rows) and its floor into a measure.

    Args:
        label: what was measured.
        unit: unit of all numbers.
        rows: the number, then one for each bootstrap resample.
        floor: the same number between halves of the reference, None where it has no floor.
        bounds: smallest and largest value that the number can have.
    """
    value = rows[0].value
    low, high, reason = None, None, rows[0].reason
    if value is not None:
        low, high, reason = _interval(value, rows[1:], bounds)
    floors = [split.value for split in floor or () if split.value is not None]
    if floor and not floors and reason is None:
        reason = f"no floor between halves of the reference: {floor[0].reason}"
    return Measure(
        label,
        unit,
        value,
        low,
        high,
        float(np.mean(floors)) if floors else None,
        max(floors) if floors else None,
        reason,
    )


def interval(
    value: float, resamples: Float[np.ndarray, " rows"], bounds: tuple[float, float]
) -> tuple[float, float]:
    """Return the 95 % interval of the resamples, moved so that their median is the value.

    A resample repeats blocks and lacks others, which makes it differ from anything more than the
    data do; the median takes that bias away (Efron, Tibshirani 1993, An Introduction to the
    Bootstrap, ch. 10) and stays put where single resamples lie far out, as times do.
    """
    low, high = np.quantile(resamples, [0.025, 0.975]) - np.median(resamples) + value
    return max(float(low), bounds[0]), min(float(high), bounds[1])


def _interval(
    value: float, resamples: Sequence[Estimate], bounds: tuple[float, float]
) -> tuple[float | None, float | None, str | None]:
    numbers = [row.value for row in resamples if row.value is not None]
    if not resamples:
        return None, None, "a single block of frames gives no interval"
    if len(numbers) < LEAST_SHARE * len(resamples):
        missing = next(row.reason for row in resamples if row.value is None)
        return (
            None,
            None,
            f"{len(resamples) - len(numbers)} of {len(resamples)} resamples gave no number, so "
            f"there is no interval: {missing}",
        )
    return *interval(value, np.array(numbers), bounds), None
