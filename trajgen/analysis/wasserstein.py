"""Exact Wasserstein-1 distances: on the line, on the circle, and sliced in the plane.

On the line (Villani, Topics in Optimal Transportation, 2003, theorem 2.18)

    W1 = ∫ |F(x) − G(x)| dx

with the cumulative distributions F and G. On the circle the starting point of F and G is free,
and the best one is the median of their difference (Werman, Peleg, Rosenfeld 1985; Rabin, Delon,
Gousseau 2011, J. Math. Imaging Vis. 41:147)

    W1 = min_m ∫ |F(x) − G(x) − m| dx.

Resamples and halves of one sample change only the weights of its values; the usual two-sample
distances are one such weighting (see ``trajgen.analysis.cumulative``).
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Int

from trajgen.analysis.cumulative import cumulative_differences
from trajgen.errors import InputError

#: Directions of the sliced distance, evenly over the half plane.
N_DIRECTIONS = 64

#: Bins that a median is looked for in first.
_MEDIAN_BINS = 4096

#: Sorting releases Python's lock, so some projections are sorted side by side.
THREADS = 2


def wasserstein(
    a: Float[np.ndarray, " a"],
    b: Float[np.ndarray, " b"],
    a_weights: Float[np.ndarray, " a"] | None = None,
    b_weights: Float[np.ndarray, " b"] | None = None,
    period: float | None = None,
) -> float:
    """Return the exact weighted Wasserstein-1 distance, in the unit of the values.

    Args:
        a: values of the first sample.
        b: values of the second sample.
        a_weights: weight of each value, None for equal weights.
        b_weights: weight of each value, None for equal weights.
        period: length of the circle that the values lie on, None for the line.

    Raises:
        InputError: a sample is empty, or its weights do not sum to a number above 0.
    """
    values = np.concatenate([a, b])
    weights = np.concatenate([_share(a, a_weights), _share(b, b_weights)])
    groups = np.repeat([0, 1], [len(a), len(b)])
    return float(group_wasserstein(values, weights, groups, np.array([[1.0, -1.0]]), period)[0])


def sliced_wasserstein(
    a: Float[np.ndarray, "a 2"],
    b: Float[np.ndarray, "b 2"],
    a_weights: Float[np.ndarray, " a"] | None = None,
    b_weights: Float[np.ndarray, " b"] | None = None,
) -> float:
    """Return the sliced Wasserstein-1 distance in the plane, in the unit of the values.

    See ``group_sliced_wasserstein``.
    """
    values = np.concatenate([a, b])
    weights = np.concatenate([_share(a, a_weights), _share(b, b_weights)])
    groups = np.repeat([0, 1], [len(a), len(b)])
    return float(group_sliced_wasserstein(values, weights, groups, np.array([[1.0, -1.0]]))[0])


def group_wasserstein(
    values: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    factors: Float[np.ndarray, "k groups"],
    period: float | None = None,
    exact: int | None = None,
) -> Float[np.ndarray, " k"]:
    """Return W1 between the positive and the negative part of ``k`` signed distributions.

    In row ``r`` value ``i`` has the mass ``weights[i] * factors[r, groups[i]]``; the masses of a
    row sum to 1 on either side. Groups are blocks of frames: a bootstrap row counts how often
    each block was drawn, a row of the split-half floor has one half positive and one negative.

    Args:
        values: all values of both sides.
        weights: weight of each value.
        groups: group of each value, counted from 0.
        factors: signed factor of each group, a row for each distance.
        period: length of the circle that the values lie on, None for the line.
        exact: rows that are exact, None for all; see ``cumulative_differences``.
    """
    values = values if period is None else np.mod(values, period)
    distances = np.empty(len(factors))
    rows = cumulative_differences(values, weights, groups, factors, exact)
    for row, (places, difference) in enumerate(rows):
        gaps = np.diff(places)
        if period is not None:
            # The arc from the last value over the seam to the first, where F − G is 0 again.
            gaps = np.append(gaps, period - places[-1] + places[0])
        difference = difference[: len(gaps)]
        if period is not None:
            difference -= weighted_median(difference, gaps)
        distances[row] = np.abs(difference, out=difference) @ gaps
    return distances


def group_sliced_wasserstein(
    values: Float[np.ndarray, "n 2"],
    weights: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    factors: Float[np.ndarray, "k groups"],
    exact: int | None = None,
) -> Float[np.ndarray, " k"]:
    """Return the sliced W1 in the plane of ``k`` signed distributions.

    The mean of the distances of the projections (Rabin, Peyré, Delon, Bernot 2011, SSVM) over 64
    directions that lie evenly in the half plane, times π/2: the mean of |cos| is 2/π, so a shift
    of all points by d has the distance d, as with the full two-dimensional W1. Arguments are
    those of ``group_wasserstein``.
    """
    angles = (np.arange(N_DIRECTIONS) + 0.5) * np.pi / N_DIRECTIONS

    def along(angle: float) -> Float[np.ndarray, " k"]:
        projection = values @ np.array([np.cos(angle), np.sin(angle)])
        return group_wasserstein(projection, weights, groups, factors, None, exact)

    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(along, angles))
    # Summed in the order of the directions, so that the threads change no bit.
    return np.sum(rows, axis=0) / N_DIRECTIONS * np.pi / 2


def weighted_median(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    """Return a value that minimises the weighted sum of absolute deviations.

    The values are binned first, and only those in the bin of the median are sorted.
    """
    low, high = values.min(), values.max()
    below, half = 0.0, weights.sum() / 2
    if high > low:
        scale = _MEDIAN_BINS / (high - low)
        bins = np.minimum(((values - low) * scale).astype(np.int64), _MEDIAN_BINS - 1)
        filled = np.cumsum(np.bincount(bins, weights, _MEDIAN_BINS))
        median_bin = min(int(np.searchsorted(filled, half)), _MEDIAN_BINS - 1)
        below = float(filled[median_bin - 1]) if median_bin else 0.0
        inside = bins == median_bin
        values, weights = values[inside], weights[inside]
    order = np.argsort(values)
    total = below + np.cumsum(weights[order])
    return float(values[order[min(int(np.searchsorted(total, half)), len(order) - 1)]])


def _share(
    values: Float[np.ndarray, "n ..."], weights: Float[np.ndarray, " n"] | None
) -> Float[np.ndarray, " n"]:
    if weights is None:
        weights = np.ones(len(values))
    total = weights.sum()
    if not total > 0:
        raise InputError(
            f"a sample of {len(values)} values has a total weight of {total:g}; a distance needs "
            "values with a weight above 0"
        )
    return weights / total
