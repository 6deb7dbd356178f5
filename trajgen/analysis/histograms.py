"""Histograms of ensembles and how far apart two of them are.

A histogram is the masses of its bins on the last axis; axes before it are rows of weightings (the
value and its resamples, see ``trajgen.analysis.resampling``). Bins are those of
``numpy.histogram``: closed on the left, the last one closed on both sides. Frames outside a grid
have the bin −1, so that they can be counted and never vanish from a total.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.special import rel_entr

from trajgen.errors import InputError

#: Distance of two histograms that share no bin.
LARGEST_JENSEN_SHANNON = math.sqrt(math.log(2))


def jensen_shannon_distance(
    p: Float[np.ndarray, "*#rows bins"], q: Float[np.ndarray, "*#rows bins"]
) -> Float[np.ndarray, "*result"]:
    """Return the Jensen-Shannon distance of histograms, the square root of the divergence.

    JSD² = ½ Σ p ln(p/m) + ½ Σ q ln(q/m) with m = (p + q)/2 (Endres, Schindelin 2003, IEEE Trans.
    Inf. Theory 49:1858), as ``scipy.spatial.distance.jensenshannon``: natural logarithm, each
    side divided by its own sum, √(ln 2) at most. A side without any mass overlaps with nothing
    and is at that largest distance.

    Args:
        p: masses of one side, 0 or more.
        q: masses of the other side; rows of both broadcast.
    """
    sums = p.sum(axis=-1, keepdims=True), q.sum(axis=-1, keepdims=True)
    a, b = (x / np.where(total > 0, total, 1.0) for x, total in zip((p, q), sums, strict=True))
    mean = (a + b) / 2
    divergence = (rel_entr(a, mean) + rel_entr(b, mean)).sum(axis=-1) / 2
    empty = ((sums[0] <= 0) | (sums[1] <= 0))[..., 0]
    # The sum of nearly equal histograms may round to a little below zero.
    distance = np.sqrt(np.clip(divergence, 0.0, math.log(2)))
    return np.asarray(np.where(empty, LARGEST_JENSEN_SHANNON, distance))


def free_energy_difference(
    p: Float[np.ndarray, "*#rows bins"],
    q: Float[np.ndarray, "*#rows bins"],
    p_total: Float[np.ndarray, "*#rows"],
    n_frames: int,
    least_share: float = 0.0,
) -> tuple[Float[np.ndarray, "*result"], Int[np.ndarray, "*result"]]:
    """Return the root mean square free energy difference, kT, and the number of unvisited bins.

    ΔF² = Σ q (ln p − ln q)² / Σ q over the bins that the reference visits, each weighted by its
    share of the reference: F = −ln p in kT is that of normalised probabilities, so there is no
    free constant to align. Shares of the samples are of their total mass, on and off the grid:
    what lies where the reference never was makes every bin of the reference poorer. A bin that the
    samples never visited gets the mass of one pseudo count, so it costs a finite amount, and is
    counted.

    Args:
        p: masses of the samples in the bins.
        q: masses of the reference on the grid that spans it.
        p_total: mass of all samples, those off the grid included.
        n_frames: frames of the samples; one pseudo count is ``p_total / n_frames``.
        least_share: bins with a smaller share of the reference are left out.

    Raises:
        InputError: the samples or the reference have no mass, the samples have more mass in the
            bins than in all, or no bin of the reference has the least share.
    """
    q_total = q.sum(axis=-1, keepdims=True)
    if n_frames < 1 or not ((p_total > 0).all() and (q_total > 0).all()):
        raise InputError(
            f"the free energy difference needs frames with a mass above 0 on both sides; there are "
            f"{n_frames} sample frames of mass {p_total.min(initial=math.inf):g} or more and a "
            f"reference of {q_total.min(initial=math.inf):g} or more"
        )
    if (p.sum(axis=-1) > p_total * (1 + 1e-9)).any():
        raise InputError(
            "p_total is smaller than the mass in the bins; give the mass of all samples, on and "
            "off the grid"
        )
    share = q / q_total
    kept = (share > 0) & (share >= least_share)
    if not kept.any(axis=-1).all():
        raise InputError(
            f"least_share is {least_share:g}, but the fullest bin of the reference has a share of "
            f"{share.max(axis=-1).min():g}; give a smaller share or fewer bins"
        )
    weight = np.where(kept, share, 0.0)
    visited = np.where(p > 0, p / p_total[..., None], 1.0 / n_frames)
    difference = np.log(visited) - np.log(np.where(kept, share, 1.0))
    square = (weight * difference**2).sum(axis=-1) / weight.sum(axis=-1)
    return np.asarray(np.sqrt(square)), np.asarray((kept & (p <= 0)).sum(axis=-1))


def group_histograms(
    bins: Int[np.ndarray, " n"],
    n_bins: int,
    weights: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    factors: Float[np.ndarray, "k groups"],
) -> tuple[Float[np.ndarray, "k n_bins"], Float[np.ndarray, " k"]]:
    """Return the masses of bins, and the mass off the grid, under ``k`` weightings of groups.

    In row ``r`` frame ``i`` has the mass ``weights[i] * factors[r, groups[i]]``, as in
    ``group_wasserstein``. The frames are counted once; every row is a sum over groups.

    Args:
        bins: bin of each frame, −1 off the grid.
        n_bins: number of bins.
        weights: weight of each frame.
        groups: group of each frame, counted from 0.
        factors: factor of each group, a row for each weighting; of signed weightings give the
            positive and the negative part in turn.
    """
    n_groups = factors.shape[1]
    cells = groups * (n_bins + 1) + np.where(bins < 0, n_bins, bins)
    table = np.bincount(cells, weights, n_groups * (n_bins + 1)).reshape(n_groups, n_bins + 1)
    masses = factors @ table
    return masses[:, :n_bins], masses[:, n_bins]


def bin_line(
    values: Float[np.ndarray, " frames"], edges: Float[np.ndarray, " edges"]
) -> Int[np.ndarray, " frames"]:
    """Return the bin of each value, −1 for one outside the edges."""
    n_bins = len(edges) - 1
    bins = np.searchsorted(edges, values, side="right") - 1
    bins[values == edges[-1]] = n_bins - 1
    bins[bins >= n_bins] = -1
    return bins


def bin_plane(
    values: Float[np.ndarray, "frames 2"],
    edges0: Float[np.ndarray, " edges0"],
    edges1: Float[np.ndarray, " edges1"],
) -> Int[np.ndarray, " frames"]:
    """Return the flat bin of each point, row-major, −1 for one outside the edges of either axis."""
    first, second = bin_line(values[:, 0], edges0), bin_line(values[:, 1], edges1)
    flat = first * (len(edges1) - 1) + second
    flat[(first < 0) | (second < 0)] = -1
    return flat


def torsion_edges(bins: int = 100) -> Float[np.ndarray, " edges"]:
    """Return edges of equal bins over the circle from −π to π, rad.

    The defaults of MDGen (Jing et al. 2024, arXiv:2409.17808, public code) are 100 bins for a
    torsion and 50 by 50 for a pair of torsions.
    """
    return np.linspace(-math.pi, math.pi, bins + 1)


def joint_edges(
    a: Float[np.ndarray, " a"], b: Float[np.ndarray, " b"], bins: int
) -> Float[np.ndarray, " edges"]:
    """Return edges of equal bins over the range of both samples together.

    As MDGen bins slow coordinates (100 bins for one, 50 by 50 for two). The grid depends on both
    sides: a single stray frame widens all bins, which ``reference_edges`` does not let happen.

    Raises:
        InputError: there is no value, or one that is not finite.
    """
    return _edges(np.concatenate([a, b]), bins, 0.0)


def reference_edges(
    values: Float[np.ndarray, " frames"], bins: int, margin: float = 0.1
) -> Float[np.ndarray, " edges"]:
    """Return edges of equal bins over the range of the reference and a margin on either side.

    Args:
        values: values of the reference.
        bins: number of bins.
        margin: share of the range that is added on either side.

    Raises:
        InputError: there is no value, or one that is not finite.
    """
    return _edges(values, bins, margin)


def _edges(values: np.ndarray, bins: int, margin: float) -> np.ndarray:
    if len(values) == 0 or not np.isfinite(values).all():
        raise InputError(
            f"a grid needs finite values to span; {int(np.isfinite(values).sum())} of "
            f"{len(values)} are. Leave out the others first"
        )
    low, high = float(values.min()), float(values.max())
    added = margin * (high - low)
    # NumPy widens a range of no length, so that equal values still have a bin.
    return np.histogram_bin_edges(values[:0], bins, (low - added, high + added))
