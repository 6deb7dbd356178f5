"""Coverage of one ensemble by another: how far each frame is from its nearest, superposed."""

import numpy as np
import torch
from jaxtyping import Float, Int

from trajgen.analysis.measures import Coverage
from trajgen.data.sources import Frames
from trajgen.geometry.superposition import nearest_rmsd
from trajgen.seeding import derive_seed, numpy_generator


def coverage(
    covered: Frames,
    by: Frames,
    names: tuple[str, str],
    frames: int,
    cutoff_nm: float,
    seed: int,
) -> Coverage:
    """Measure how near the frames of ``covered`` have a frame of ``by``.

    At most ``frames`` frames are drawn from either set, evenly and without replacement: the
    nearest distance depends on how many frames there are to choose from, so that sets of
    different size stay comparable. Means and quantiles use the weights of the covered frames.

    Args:
        covered: frames that look for their nearest.
        by: frames in which they look.
        names: what to call the two.
        frames: frames drawn from each.
        cutoff_nm: RMSD within which a frame counts as covered.
        seed: base of the draws.
    """
    if covered.n_frames == 0 or by.n_frames == 0:
        empty = names[0] if covered.n_frames == 0 else names[1]
        reason = f"there are no frames of the {empty}"
        return Coverage(*names, None, None, None, cutoff_nm, 0, 0, reason)
    mine = covered.take(_draw(covered.n_frames, frames, seed, names[0]))
    theirs = by.take(_draw(by.n_frames, frames, seed, names[1]))
    nearest, _ = nearest_rmsd(
        torch.from_numpy(mine.positions_nm), torch.from_numpy(theirs.positions_nm)
    )
    rmsd_nm = nearest.double().numpy()
    share = np.ones(mine.n_frames) if mine.weights is None else mine.weights.astype(np.float64)
    share = share / share.sum()
    return Coverage(
        covered=names[0],
        by=names[1],
        mean_nm=float(rmsd_nm @ share),
        quantile95_nm=weighted_quantile(rmsd_nm, share, 0.95),
        share_within=min(float(share[rmsd_nm <= cutoff_nm].sum()), 1.0),  # but for rounding
        cutoff_nm=cutoff_nm,
        n_covered=mine.n_frames,
        n_by=theirs.n_frames,
    )


def weighted_quantile(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], level: float
) -> float:
    """Return the smallest value at or below which lies at least ``level`` of the weight."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    # The last sum is a little below 1 after rounding; it must still be reached.
    index = min(int(np.searchsorted(total, level * total[-1])), len(values) - 1)
    return float(values[order[index]])


def _draw(available: int, wanted: int, seed: int, name: str) -> Int[np.ndarray, " drawn"]:
    if available <= wanted:
        return np.arange(available)
    generator = numpy_generator(derive_seed(seed, f"coverage {name}"))
    return np.sort(generator.choice(available, wanted, replace=False))
