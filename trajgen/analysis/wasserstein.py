"""Exact Wasserstein-1 distances: on the line, on the circle, and sliced in the plane.

On the line (Villani, Topics in Optimal Transportation, 2003, theorem 2.18)

    W1 = ∫ |F(x) − G(x)| dx

with the cumulative distributions F and G. On the circle the starting point of F and G is free,
and the best one is the median of their difference (Werman, Peleg, Rosenfeld 1985; Rabin, Delon,
Gousseau 2011, J. Math. Imaging Vis. 41:147)

    W1 = min_m ∫ |F(x) − G(x) − m| dx.

Resamples and halves of one sample change only the weights of its values. So the core sorts the
values once and takes many weightings of them; the usual two-sample distances are one such.
"""

import numpy as np
from jaxtyping import Float, Int

from trajgen.errors import InputError

#: Directions of the sliced distance, evenly over the half plane.
N_DIRECTIONS = 64


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
    """
    values = values if period is None else np.mod(values, period)
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])
    if period is not None:
        # The arc from the last value over the seam to the first, where F − G is 0 again.
        gaps = np.append(gaps, period - values[order[-1]] + values[order[0]])
    weights, groups = weights[order], groups[order]
    distances = np.empty(len(factors))
    mass = np.empty(len(values))
    for row, factor in enumerate(factors):
        np.take(factor, groups, out=mass)
        mass *= weights
        difference = np.cumsum(mass, out=mass)[: len(gaps)]
        if period is not None:
            difference -= weighted_median(difference, gaps)
        distances[row] = np.abs(difference, out=difference) @ gaps
    return distances


def group_sliced_wasserstein(
    values: Float[np.ndarray, "n 2"],
    weights: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    factors: Float[np.ndarray, "k groups"],
) -> Float[np.ndarray, " k"]:
    """Return the sliced W1 in the plane of ``k`` signed distributions.

    The mean of the distances of the projections (Rabin, Peyré, Delon, Bernot 2011, SSVM) over 64
    directions that lie evenly in the half plane, times π/2: the mean of |cos| is 2/π, so a shift
    of all points by d has the distance d, as with the full two-dimensional W1.
    """
    angles = (np.arange(N_DIRECTIONS) + 0.5) * np.pi / N_DIRECTIONS
    total = np.zeros(len(factors))
    for angle in angles:
        projection = values @ np.array([np.cos(angle), np.sin(angle)])
        total += group_wasserstein(projection, weights, groups, factors)
    return total / N_DIRECTIONS * np.pi / 2


def weighted_median(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    """Return a value that minimises the weighted sum of absolute deviations."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])


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
