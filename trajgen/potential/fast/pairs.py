"""The pairs of a chain: how they repel, and where on the grid of the tables the network sees them.

Distances are computed in double precision, which costs next to nothing.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int32

from trajgen.potential.fast.compiling import kernel
from trajgen.potential.fast.repulsion import repel


class Grid(NamedTuple):
    """The even grid of the filters' tables.

    Attributes:
        lower_nm: distance of the first knot; nothing is seen below it.
        upper_nm: distance of the last one; nothing is seen from there on.
        knots: their number.
    """

    lower_nm: float
    upper_nm: float
    knots: int


class Seen(NamedTuple):
    """Room for the pairs that the network sees, of the chains of a block one after another.

    Attributes:
        first: row of the smaller bead.
        second: row of the larger one.
        knot: knot of the grid below the distance.
        part: share of the way to the next knot.
        direction: unit vector from the first to the second bead.
        slope: gradient of the energy by the distance, kJ/mol/nm.
    """

    first: Int32[np.ndarray, " pairs"]
    second: Int32[np.ndarray, " pairs"]
    knot: Int32[np.ndarray, " pairs"]
    part: Float32[np.ndarray, " pairs"]
    direction: Float64[np.ndarray, "pairs 3"]
    slope: Float64[np.ndarray, " pairs"]


@kernel
def room_for_pairs(size: int) -> Seen:
    """Return room for pairs."""
    return Seen(
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.float32),
        np.empty((size, 3), np.float64),
        np.empty(size, np.float64),
    )


@kernel
def meet_pairs(
    x: Float64[np.ndarray, "rows 3"],
    offset: int,
    candidates: Int32[np.ndarray, "pairs 2"],
    strengths: Float32[np.ndarray, " pairs"],
    grid: Grid,
    seen: Seen,
    count: int,
    forces: Float64[np.ndarray, "rows 3"],
) -> tuple[int, float]:
    """Add the repulsion of a chain's candidate pairs, and append those between the cutoffs.

    Args:
        x: positions of a block of chains, nm.
        offset: row of the chain's first bead.
        candidates: pairs of beads of the chain.
        strengths: ε σ⁶ of each, kJ/mol nm⁶.
        grid: grid of the tables.
        seen: written to.
        count: pairs in ``seen`` so far.
        forces: the forces of the repulsion are added to these.

    Returns:
        The new count, and the energy of the repulsion, kJ/mol.
    """
    per_nm = (grid.knots - 1) / (grid.upper_nm - grid.lower_nm)
    energy = 0.0
    for pair in range(candidates.shape[0]):
        i, j = offset + candidates[pair, 0], offset + candidates[pair, 1]
        dx, dy, dz = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
        square = dx * dx + dy * dy + dz * dz
        repulsion, push = repel(square, np.float64(strengths[pair]))
        if push != 0:
            energy += repulsion
            forces[i, 0] -= push * dx
            forces[i, 1] -= push * dy
            forces[i, 2] -= push * dz
            forces[j, 0] += push * dx
            forces[j, 1] += push * dy
            forces[j, 2] += push * dz
        distance_nm = math.sqrt(square)
        # False for NaN, so that no index comes from one.
        if grid.lower_nm <= distance_nm < grid.upper_nm:
            inverse = 1 / distance_nm if distance_nm != 0 else 0.0
            place = (distance_nm - grid.lower_nm) * per_nm
            knot = min(int(place), grid.knots - 2)
            seen.first[count], seen.second[count], seen.knot[count] = i, j, knot
            seen.part[count] = place - knot
            seen.direction[count, 0] = dx * inverse
            seen.direction[count, 1] = dy * inverse
            seen.direction[count, 2] = dz * inverse
            seen.slope[count] = 0.0
            count += 1
    return count, energy


@kernel
def add_pair_forces(seen: Seen, count: int, forces: Float64[np.ndarray, "rows 3"]) -> None:
    """Add the forces of the energy whose slopes by the distances are given."""
    for pair in range(count):
        i, j = seen.first[pair], seen.second[pair]
        for axis in range(3):
            pull = seen.slope[pair] * seen.direction[pair, axis]
            forces[i, axis] += pull
            forces[j, axis] -= pull
