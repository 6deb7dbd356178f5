"""Exact Wasserstein-1 in the plane, and the reduction of many points to the means of cells.

The full distance is the solution of a transport problem (Villani, Topics in Optimal
Transportation, 2003, chapter 1), here by the network simplex of POT (Bonneel et al. 2011, ACM
Trans. Graph. 30:158). Its time grows with the cube of the points and its memory with their square,
so it is for thousands of points: more are reduced to the means of cells, at an error that is
measured, or compared by the sliced distance.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from trajgen.analysis.histograms import reference_edges
from trajgen.errors import InputError, WorkError

#: Points of one side that the exact distance takes: a cost matrix of 32 MB, seconds.
MAX_POINTS = 2000

#: Steps of the network simplex; the default of POT is too few for that many points.
_MAX_STEPS = 10_000_000


@dataclass(frozen=True)
class CellMeans:
    """Weighted points that stand for many.

    Moving every point to the mean of its cell is a transport, so that the distance to any third
    distribution changes by no more than ``mean_displacement``; with both sides reduced, by no
    more than the sum of the two.

    Attributes:
        points: mean of each cell that holds a point.
        weights: total weight of each of them.
        mean_displacement: weighted mean distance of the points from the mean of their cell.
        largest_displacement: the largest such distance.
    """

    points: Float[np.ndarray, "cells 2"]
    weights: Float[np.ndarray, " cells"]
    mean_displacement: float
    largest_displacement: float


def plane_wasserstein(
    a: Float[np.ndarray, "a 2"],
    b: Float[np.ndarray, "b 2"],
    a_weights: Float[np.ndarray, " a"],
    b_weights: Float[np.ndarray, " b"],
) -> float:
    """Return the exact weighted Wasserstein-1 distance in the plane, in the unit of the points.

    Raises:
        InputError: a side has more than ``MAX_POINTS`` points, or no weight.
        WorkError: the transport problem was not solved.
    """
    for points, weights in ((a, a_weights), (b, b_weights)):
        if len(points) > MAX_POINTS:
            raise InputError(
                f"the exact distance in the plane takes at most {MAX_POINTS} points a side, and "
                f"{len(points)} came; reduce them with cell_means or use the sliced distance"
            )
        _require_weight(weights)
    import ot  # type: ignore[import-untyped]  # late: slow to import

    p, q = a_weights / a_weights.sum(), b_weights / b_weights.sum()
    distance, log = ot.emd2(p, q, cdist(a, b), numItermax=_MAX_STEPS, log=True)
    if log["warning"] is not None:
        raise WorkError(
            f"the transport of {len(a)} to {len(b)} points was not solved ({log['warning']}); "
            "use fewer points or the sliced distance"
        )
    return float(distance)


def cell_means(
    points: Float[np.ndarray, "n 2"],
    weights: Float[np.ndarray, " n"],
    reference: Float[np.ndarray, "m 2"],
    n_cells: int = MAX_POINTS,
) -> CellMeans:
    """Reduce weighted points to at most ``n_cells`` means of cells of a fixed grid.

    The grid is that of the reference, so that both sides of a distance share it; what lies
    outside falls into the open cells around it and is never dropped.

    Args:
        points: points to reduce; those of weight zero are left out.
        weights: weight of each point.
        reference: points whose range the closed cells cover.
        n_cells: largest number of cells, open ones included; 9 or more.

    Raises:
        InputError: there is no weight, no finite reference, or ``n_cells`` is below 9.
    """
    per_side = int(np.sqrt(n_cells))
    if per_side < 3:
        raise InputError(f"n_cells is {n_cells}; wanted are 9 or more, three a side")
    _require_weight(weights)
    points, weights = points[weights > 0], weights[weights > 0]
    sides = [
        np.searchsorted(reference_edges(known, per_side - 2, margin=0.0), values, side="right")
        for known, values in zip(reference.T, points.T, strict=True)
    ]
    _, cells = np.unique(sides[0] * per_side + sides[1], return_inverse=True)
    total = np.bincount(cells, weights)
    means = np.stack([np.bincount(cells, weights * x) / total for x in points.T], axis=1)
    displacements = np.linalg.norm(points - means[cells], axis=1)
    return CellMeans(
        points=means,
        weights=total,
        mean_displacement=float(displacements @ weights / weights.sum()),
        largest_displacement=float(displacements.max()),
    )


def _require_weight(weights: np.ndarray) -> None:
    if not weights.sum() > 0:
        raise InputError(
            f"a set of {len(weights)} points has a total weight of {weights.sum():g}; a distance "
            "needs points with a weight above 0"
        )
