"""Differences of cumulative distributions under many weightings of the same values.

The values are sorted once, whatever the number of weightings. Where only the spread of the
weightings is asked for, the sorted values are first gathered into runs of equal count, each at
its mean: Wasserstein-1 then moves by no more than twice the mean distance of a value from the
mean of its run, and a weighting costs nothing that grows with the number of values.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

#: Runs that sorted values are gathered into, at most.
MOST_RUNS = 4096
#: Masses (groups x runs) that are held at once.
_MOST_MASSES = 8_000_000


def cumulative_differences(
    values: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    factors: Float[np.ndarray, "k groups"],
    exact: int | None = None,
) -> Iterator[tuple[Float[np.ndarray, " places"], Float[np.ndarray, " places"]]]:
    """Yield, for each of ``k`` signed distributions, sorted places and F − G behind each.

    In row ``r`` value ``i`` has the mass ``weights[i] * factors[r, groups[i]]``, positive on the
    side of F and negative on that of G. The differences may be overwritten, the places not.

    Args:
        values: all values of both sides.
        weights: weight of each value.
        groups: group of each value, counted from 0.
        factors: signed factor of each group, a row for each pair of distributions.
        exact: rows whose places are the values themselves; those of the others are the means of at
            most ``MOST_RUNS`` runs. None for all.
    """
    order = np.argsort(values)  # equal values lie no distance apart, so their order is all one
    values, weights, groups = values[order], weights[order], groups[order]
    n_exact = len(factors) if exact is None else min(exact, len(factors))
    mass = np.empty(len(values))
    for factor in factors[:n_exact]:
        np.take(factor, groups, out=mass, mode="clip")  # any other mode copies through a buffer
        mass *= weights
        yield values, np.cumsum(mass, out=mass)
    if n_exact < len(factors):
        places, masses = _gathered(values, weights, groups, factors.shape[1])
        for difference in np.cumsum(factors[n_exact:] @ masses, axis=1):
            yield places, difference


def _gathered(
    values: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    n_groups: int,
) -> tuple[Float[np.ndarray, " runs"], Float[np.ndarray, "groups runs"]]:
    """Gather sorted values into runs of equal count; return their means and masses by group."""
    runs = max(1, min(len(values), MOST_RUNS, _MOST_MASSES // n_groups))
    begins = np.arange(runs) * len(values) // runs
    counts = np.diff(np.append(begins, len(values)))
    places = np.add.reduceat(values, begins) / counts
    cell = groups * runs + np.repeat(np.arange(runs), counts)
    masses = np.bincount(cell, weights, n_groups * runs).reshape(n_groups, runs)
    return places, masses
