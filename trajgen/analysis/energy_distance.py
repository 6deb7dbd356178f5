"""The energy distance of distributions on the line, exact and weighted.

With the cumulative distributions F and G (Székely, Rizzo 2013, J. Stat. Plan. Inference 143:1249)

    E = √(2 ∫ (F(x) − G(x))² dx) = √(2 E|X − Y| − E|X − X'| − E|Y − Y'|)

It weighs the tails less than Wasserstein-1 does, and its unit is the root of that of the values.
On the circle the starting point of F and G is free and no choice of it is canonical: the distance
is defined for the line only.
"""

import numpy as np
from jaxtyping import Float, Int

from trajgen.analysis.cumulative import cumulative_differences


def group_energy_distance(
    values: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    factors: Float[np.ndarray, "k groups"],
    exact: int | None = None,
) -> Float[np.ndarray, " k"]:
    """Return the energy distance between the two sides of ``k`` signed distributions.

    Weightings are those of ``group_wasserstein``: in row ``r`` value ``i`` has the mass
    ``weights[i] * factors[r, groups[i]]``, and the masses of a row sum to 1 on either side. The
    values are sorted once for all rows. Of two samples it is what
    ``scipy.stats.energy_distance`` returns.

    Args:
        values: all values of both sides.
        weights: weight of each value.
        groups: group of each value, counted from 0.
        factors: signed factor of each group, a row for each distance.
        exact: rows that are exact, None for all; see ``cumulative_differences``.
    """
    rows = cumulative_differences(values, weights, groups, factors, exact)
    squares = [np.square(f[:-1]) @ np.diff(places) for places, f in rows]
    return np.sqrt(2 * np.array(squares))
