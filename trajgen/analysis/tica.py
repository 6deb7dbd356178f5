"""Slow collective coordinates (TICA) of bead frames, fitted on a reference only.

Time-lagged independent component analysis solves C(τ) v = λ C(0) v for the covariances of pairs
of frames a lag τ apart (Pérez-Hernández et al. 2013, J. Chem. Phys. 139:015102), symmetrised in
time. The kinetic map scales each coordinate by its eigenvalue, so that Euclidean distances are
kinetic distances (Noé, Clementi 2015, J. Chem. Theory Comput. 11:5002).
"""

from dataclasses import dataclass

import numpy as np
from deeptime.decomposition import TICA
from deeptime.numeric import ZeroRankError
from jaxtyping import Float, Int

#: Pairs of frames handed to the covariances at once; bounds the memory.
CHUNK = 50_000

#: Directions of a smaller variance (nm²) are left out of the fit; the library's own default.
VARIANCE_CUTOFF = 1e-6


@dataclass(frozen=True)
class TicaModel:
    """A linear map from pair distances to slow coordinates.

    Attributes:
        mean: the feature vector that is mapped to zero.
        projection: weight of each feature in each coordinate, kinetic map, slowest first.
        eigenvalues: autocorrelation of each coordinate at the lag.
    """

    mean: Float[np.ndarray, " features"]
    projection: Float[np.ndarray, "features dims"]
    eigenvalues: Float[np.ndarray, " dims"]

    def transform(
        self, features: Float[np.ndarray, "frames features"]
    ) -> Float[np.ndarray, "frames dims"]:
        """Return the slow coordinates of frames, in TIC units."""
        return (features - self.mean) @ self.projection


@dataclass(frozen=True)
class TicaFit:
    """What a fit came to; without a model there is a reason.

    Attributes:
        model: the fitted map, None where the data did not carry one.
        reason: why there is no model, None where there is one.
        n_pairs: pairs of frames that were used.
        n_short_segments: segments that are not longer than the lag and gave no pair.
    """

    model: TicaModel | None
    reason: str | None
    n_pairs: int
    n_short_segments: int


def lagged_pairs(
    segments: Int[np.ndarray, " frames"], lag_frames: int
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], int]:
    """Return the first and second frame of each pair, and how many segments gave none.

    The frames of a segment follow each other in file order; a pair never leaves its segment.
    """
    order = np.argsort(segments, kind="stable")
    earlier, later = order[: max(len(order) - lag_frames, 0)], order[lag_frames:]
    inside = segments[earlier] == segments[later]
    first, second = earlier[inside], later[inside]
    n_short = len(np.unique(segments)) - len(np.unique(segments[first]))
    return first, second, n_short


def fit_tica(
    features: Float[np.ndarray, "frames features"],
    segments: Int[np.ndarray, " frames"],
    weights: Float[np.ndarray, " frames"] | None,
    lag_frames: int,
) -> TicaFit:
    """Fit TICA on the pairs of frames that lie ``lag_frames`` apart within a segment.

    A pair has the weight of its first frame. The sign of a coordinate is such that it grows with
    the mean of the features: with pair distances, extended shapes lie on its right side.
    Too few pairs, or features that do not vary, give a fit without a model and with the reason.

    Args:
        features: pair distances, nm.
        segments: segment of each frame.
        weights: statistical weight of each frame, None for equal weights.
        lag_frames: lag in frames.
    """
    first, second, n_short = lagged_pairs(segments, lag_frames)
    if weights is not None:
        kept = weights[first] > 0
        first, second = first[kept], second[kept]
    wanted = 2 * features.shape[1]
    if features.shape[1] == 0:
        return TicaFit(None, "the molecule has no pair of beads", len(first), n_short)
    if len(first) < wanted:
        longest = int(np.unique(segments, return_counts=True)[1].max(initial=0))
        reason = (
            f"the reference has {len(first)} pairs of frames {lag_frames} frames apart within a "
            f"segment, and {wanted} are wanted (twice the number of features); its longest "
            f"segment has {longest} frames, so a shorter lag or a longer reference would do"
        )
        return TicaFit(None, reason, len(first), n_short)
    estimator = TICA.covariance_estimator(lagtime=lag_frames)
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        pair_weights = None if weights is None else weights[first[part]].astype(np.float64)
        estimator.partial_fit((features[first[part]], features[second[part]]), pair_weights)
    try:
        solver = TICA(lagtime=lag_frames, epsilon=VARIANCE_CUTOFF, scaling="kinetic_map")
        fitted = solver.fit_from_covariances(estimator.fetch_model()).fetch_model()
    except (ZeroRankError, np.linalg.LinAlgError) as error:
        return TicaFit(None, f"the features do not vary enough ({error})", len(first), n_short)
    mean = fitted.mean_0
    # The covariance of each coordinate with the sum of the features, made positive.
    together = fitted.cov_00.sum(axis=0) @ fitted.singular_vectors_left
    projection = fitted.singular_vectors_left * np.where(together < 0, -1.0, 1.0)
    eigenvalues = np.asarray(fitted.singular_values, dtype=np.float64)
    if not (np.isfinite(projection).all() and np.isfinite(eigenvalues).all()):
        reason = "the covariances of the features have no finite eigenvectors"
        return TicaFit(None, reason, len(first), n_short)
    return TicaFit(TicaModel(mean, projection, eigenvalues), None, len(first), n_short)
