"""VAMP-2 scores of fixed slow coordinates on trajectories.

With the covariances C_00 and C_ττ of the first and the second frames of all pairs one lag apart
and C_0τ between them, the score is

    R2 = 1 + Σ_i σ_i²,   σ_i the singular values of C_00^(−1/2) C_0τ C_ττ^(−1/2)

(Wu, Noé 2020, J. Nonlinear Sci. 30:23, equation 33, r = 2); the 1 is that of the constant
function. It is 1 for frames without memory, and 1 + the number of coordinates for coordinates
that do not change within a lag. Sums are kept by block of frames, so that a resample costs no
pass over the frames.
"""

from dataclasses import dataclass

import numpy as np
from deeptime.covariance import CovarianceModel
from deeptime.decomposition import VAMP, vamp_score
from deeptime.numeric import ZeroRankError
from jaxtyping import Float, Int

from trajgen.analysis.kinetics.estimates import Estimate, finite
from trajgen.analysis.tica import lagged_pairs

#: Directions of a smaller share of the variance of a coordinate are left out of a score.
VARIANCE_CUTOFF = 1e-6

#: Pairs of frames that are summed at once; bounds the memory.
CHUNK = 100_000


@dataclass(frozen=True)
class LaggedMoments:
    """Weighted sums over the pairs of frames of each block; a pair has that of its first frame.

    Attributes:
        weight: total weight of the pairs.
        first: sum of the first and then the second values.
        second: sum of their products.
    """

    weight: Float[np.ndarray, " blocks"]
    first: Float[np.ndarray, "blocks both"]
    second: Float[np.ndarray, "blocks both both"]


def lagged_moments(
    tics: Float[np.ndarray, "frames dims"],
    segments: Int[np.ndarray, " frames"],
    blocks: Int[np.ndarray, " frames"],
    lag_frames: int,
    weights: Float[np.ndarray, " frames"] | None = None,
) -> LaggedMoments:
    """Return the sums behind the scores of coordinates.

    Args:
        tics: the coordinates of each frame.
        segments: segment of each frame.
        blocks: block of each frame, counted from 0.
        lag_frames: lag in frames.
        weights: statistical weight of each frame, None for equal weights.
    """
    first, second, _ = lagged_pairs(segments, lag_frames)
    order = np.argsort(blocks[first], kind="stable")
    first, second = first[order], second[order]
    n_blocks, n_both = int(blocks.max(initial=-1)) + 1, 2 * tics.shape[1]
    bounds = np.searchsorted(blocks[first], np.arange(n_blocks + 1))
    moments = LaggedMoments(
        np.zeros(n_blocks), np.zeros((n_blocks, n_both)), np.zeros((n_blocks, n_both, n_both))
    )
    for block in range(n_blocks):
        for start in range(bounds[block], bounds[block + 1], CHUNK):
            part = slice(start, min(start + CHUNK, bounds[block + 1]))
            both = np.hstack([tics[first[part]], tics[second[part]]]).astype(np.float64)
            share = np.ones(len(both)) if weights is None else weights[first[part]]
            weighted = both * share[:, None]
            moments.weight[block] += share.sum()
            moments.first[block] += weighted.sum(axis=0)
            moments.second[block] += weighted.T @ both
    return moments


def vamp2(moments: LaggedMoments, draw: Float[np.ndarray, " blocks"]) -> Estimate:
    """Return the VAMP-2 score of the coordinates on the drawn blocks.

    Args:
        moments: sums of the blocks.
        draw: how often each block is taken.
    """
    return cross_validated_vamp2(moments, draw, draw)


def cross_validated_vamp2(
    moments: LaggedMoments,
    train: Float[np.ndarray, " blocks"],
    test: Float[np.ndarray, " blocks"],
) -> Estimate:
    """Return the score, on test blocks, of the singular functions found on training blocks.

    Args:
        moments: sums of the blocks.
        train: how often each block is taken for the singular functions.
        test: how often each block is taken for the score.
    """
    scale = _spread(moments, train)
    varies = scale > 0
    both = np.tile(varies, 2)
    if not varies.any():
        return Estimate(None, "no coordinate varies over the pairs of frames one lag apart")
    trained = _covariances(moments, train, both, scale[varies])
    tested = _covariances(moments, test, both, scale[varies])
    if trained is None or tested is None:
        return Estimate(None, "there is no pair of frames one lag apart within a segment")
    try:
        model = VAMP(epsilon=VARIANCE_CUTOFF).fit_from_covariances(trained).fetch_model()
        score = vamp_score(model, 2, covariances_test=tested, epsilon=VARIANCE_CUTOFF)
    except (ZeroRankError, np.linalg.LinAlgError) as error:
        return Estimate(None, f"the coordinates do not vary enough ({error})")
    return finite(float(score), "the covariances are too large for a number")


def _spread(
    moments: LaggedMoments, draw: Float[np.ndarray, " blocks"]
) -> Float[np.ndarray, " dims"]:
    """Return the standard deviation of each coordinate over the first frames, 0 for rounding."""
    weight = float(draw @ moments.weight)
    n_dims = moments.first.shape[1] // 2
    if not weight > 0:
        return np.zeros(n_dims)
    mean = (draw @ moments.first)[:n_dims] / weight
    squares = np.diag(np.tensordot(draw, moments.second, 1))[:n_dims] / weight
    variance = squares - mean**2
    return np.sqrt(np.where(variance > 1e-12 * squares, variance, 0.0))


def _covariances(
    moments: LaggedMoments,
    draw: Float[np.ndarray, " blocks"],
    kept: np.ndarray,
    scale: Float[np.ndarray, " dims"],
) -> CovarianceModel | None:
    """Return the covariances of the coordinates in units of ``scale``, None without pairs."""
    weight = float(draw @ moments.weight)
    if not weight > 0:
        return None
    units = np.tile(scale, 2)
    mean = (draw @ moments.first)[kept] / weight / units
    second = np.tensordot(draw, moments.second, 1)[np.ix_(kept, kept)] / weight
    covariance = second / np.outer(units, units) - np.outer(mean, mean)
    n = len(scale)
    return CovarianceModel(
        cov_00=covariance[:n, :n],
        cov_0t=covariance[:n, n:],
        cov_tt=covariance[n:, n:],
        mean_0=mean[:n],
        mean_t=mean[n:],
        bessels_correction=False,
        data_mean_removed=True,
    )
