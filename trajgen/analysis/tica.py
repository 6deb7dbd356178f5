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

#: Directions of a smaller variance are left out of the fit; the library's own default.
VARIANCE_CUTOFF = 1e-6


@dataclass(frozen=True)
class TicaModel:
    """A linear map from features to slow coordinates.

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


class TicaEstimator:
    """Gathers the covariances of TICA from frames that come in chunks.

    Pairs of frames lie ``lag_frames`` apart within a segment and have the weight of their first
    frame. The frames of a segment must follow each other, over chunks too.
    """

    def __init__(self, lag_frames: int) -> None:
        self.lag_frames = lag_frames
        self.n_pairs = 0
        self._estimator = TICA.covariance_estimator(lagtime=lag_frames)
        self._n_features = 0
        self._lengths: dict[int, int] = {}
        self._kept: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def add(
        self,
        features: Float[np.ndarray, "frames features"],
        segments: Int[np.ndarray, " frames"],
        weights: Float[np.ndarray, " frames"],
    ) -> None:
        """Take the next frames."""
        self._n_features = features.shape[1]
        for segment, count in zip(*np.unique(segments, return_counts=True), strict=True):
            self._lengths[int(segment)] = self._lengths.get(int(segment), 0) + int(count)
        if self._kept is not None:
            before = self._kept
            features = np.concatenate([before[0], features])
            segments = np.concatenate([before[1], segments])
            weights = np.concatenate([before[2], weights])
        first, second, _ = lagged_pairs(segments, self.lag_frames)
        weighted = weights[first] > 0
        first, second = first[weighted], second[weighted]
        self.n_pairs += len(first)
        for start in range(0, len(first), CHUNK):
            part = slice(start, start + CHUNK)
            self._estimator.partial_fit(
                (features[first[part]], features[second[part]]), weights[first[part]]
            )
        # Each of these is the first frame of a pair to come; none is that of a pair gone by.
        rest = slice(max(len(segments) - self.lag_frames, 0), None)
        self._kept = features[rest], segments[rest], weights[rest]

    def fit(self) -> TicaFit:
        """Fit TICA on all pairs so far.

        The sign of a coordinate is such that it grows with the mean of the features: with pair
        distances, extended shapes lie on its right side. Too few pairs, or features that do not
        vary, give a fit without a model and with the reason.
        """
        n_short = sum(length <= self.lag_frames for length in self._lengths.values())
        reason = self._too_few()
        if reason is not None:
            return TicaFit(None, reason, self.n_pairs, n_short)
        try:
            solver = TICA(lagtime=self.lag_frames, epsilon=VARIANCE_CUTOFF, scaling="kinetic_map")
            fitted = solver.fit_from_covariances(self._estimator.fetch_model()).fetch_model()
        except (ZeroRankError, np.linalg.LinAlgError) as error:
            reason = f"the features do not vary enough ({error})"
            return TicaFit(None, reason, self.n_pairs, n_short)
        # The covariance of each coordinate with the sum of the features, made positive.
        together = fitted.cov_00.sum(axis=0) @ fitted.singular_vectors_left
        projection = fitted.singular_vectors_left * np.where(together < 0, -1.0, 1.0)
        eigenvalues = np.asarray(fitted.singular_values, dtype=np.float64)
        if not (np.isfinite(projection).all() and np.isfinite(eigenvalues).all()):
            reason = "the covariances of the features have no finite eigenvectors"
            return TicaFit(None, reason, self.n_pairs, n_short)
        model = TicaModel(fitted.mean_0, projection, eigenvalues)
        return TicaFit(model, None, self.n_pairs, n_short)

    def _too_few(self) -> str | None:
        if self._n_features == 0:
            return "the molecule has no features to combine"
        wanted = 2 * self._n_features
        if self.n_pairs >= wanted:
            return None
        longest = max(self._lengths.values(), default=0)
        return (
            f"the reference has {self.n_pairs} pairs of frames {self.lag_frames} frames apart "
            f"within a segment, and {wanted} are wanted (twice the number of features); its "
            f"longest segment has {longest} frames, so a shorter lag or a longer reference would do"
        )


def fit_tica(
    features: Float[np.ndarray, "frames features"],
    segments: Int[np.ndarray, " frames"],
    weights: Float[np.ndarray, " frames"] | None,
    lag_frames: int,
) -> TicaFit:
    """Fit TICA on frames in memory; see ``TicaEstimator``.

    Args:
        features: such as pair distances (nm), or cosines and sines of torsions.
        segments: segment of each frame.
        weights: statistical weight of each frame, None for equal weights.
        lag_frames: lag in frames.
    """
    order = np.argsort(segments, kind="stable")
    shares = np.ones(len(features)) if weights is None else weights.astype(np.float64)
    estimator = TicaEstimator(lag_frames)
    estimator.add(features[order], segments[order], shares[order])
    return estimator.fit()
