"""What windows begin as at flow time zero: noise that moves from frame to frame as molecules do.

White noise is another in each frame, and a network must learn to the last percent how alike frames
are that follow each other. Here noise is a Gaussian process over the frames of a window with the
covariance that the data have, given the known frames: near a known frame it lies near that one,
between two it bridges them, and it is as rough as the motion is. What a network has to learn is in
what the data are not Gaussian.

How far a channel goes in a time, measured as the variance v(t) of its change, says the covariance
of any process whose changes depend on their length in time alone: of changes since the key frame,
⟨x(t) x(u)⟩ = ½ [v(t) + v(u) − v(|t − u|)] (v is twice the variogram; Cressie, "Statistics for
Spatial Data", 1993, section 2.3). A mixture of relaxations, v(t) = Σ_k a_k (1 − exp(−t/τ_k)) with
a_k ≥ 0, is one that some process has, whatever was measured.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.optimize import nnls
from torch import Tensor

BaseName = Literal["correlated", "white"]

#: Relaxation times of a mixture in a factor of ten; they reach so far beyond the measured times.
TIMES_PER_DECADE, BEYOND = 4, 10.0
#: Share of the variance that is another in each frame: frames are never known to the last digit.
OWN_SHARE = 0.01


@dataclass(frozen=True)
class Relaxations:
    """How the variance of each channel's change grows with time: a mixture of relaxations.

    Attributes:
        times_ps: relaxation times.
        variances: variance that each relaxation adds to a channel; all zero in a channel that is
            no change since the key frame.
    """

    times_ps: Float[Tensor, " relaxations"]
    variances: Float[Tensor, "relaxations channels"]

    @classmethod
    def fit(
        cls,
        times_ps: Float[Tensor, " times"],
        std: Float[Tensor, "times channels"],
        changes: Bool[Tensor, " channels"],
    ) -> "Relaxations":
        """Fit to the spread of changes by non-negative least squares of relative errors.

        Args:
            times_ps: times, rising.
            std: standard deviation of each channel's change over each of them.
            changes: channels that are a change since the key frame.
        """
        times = times_ps.double().cpu().numpy()
        count = 1 + round(TIMES_PER_DECADE * np.log10(times[-1] / times[0] * BEYOND**2))
        grid = np.geomspace(times[0] / BEYOND, times[-1] * BEYOND, count)
        grown = 1 - np.exp(-times[:, None] / grid)
        ones, variances = np.ones(len(times)), np.zeros((count, std.shape[1]))
        for channel in np.flatnonzero(changes.cpu().numpy()):
            wanted = std[:, channel].double().cpu().numpy() ** 2
            variances[:, channel] = nnls(grown / wanted[:, None], ones)[0]
        return cls(
            torch.tensor(grid, dtype=torch.float32), torch.tensor(variances, dtype=torch.float32)
        )

    def correlations(
        self, since_key_ps: Float[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch channels frames frames"]:
        """Return how changes of frames since the key frame go together; see the module."""
        # Most frames lie evenly, so that many pairs of them are the same time apart.
        apart = (since_key_ps[:, :, None] - since_key_ps[:, None]).abs()
        times_ps, where = apart.unique(return_inverse=True)
        between = self._variances_after(times_ps).index_select(1, where.flatten())
        grown = self._variances_after(since_key_ps.abs().flatten()).view(-1, *since_key_ps.shape)
        # The key frame does not change, nor does a channel that is no change.
        per_spread = torch.where(grown > 0, grown.rsqrt(), 0.0)
        shared = grown[..., :, None] + grown[..., None, :] - between.view(-1, *apart.shape)
        correlations = shared.mul_(0.5 * per_spread[..., :, None]).mul_(per_spread[..., None, :])
        return correlations.transpose(0, 1)

    def _variances_after(
        self, times_ps: Float[Tensor, " times"]
    ) -> Float[Tensor, "channels times"]:
        """Return the variance of each channel's change over times."""
        return self.variances.mT @ (1 - torch.exp(-times_ps / self.times_ps[:, None]))


@dataclass(frozen=True)
class BaseNoise:
    """Noise of unit spread over the frames of windows, given the known frames.

    Attributes:
        order: the frames of each window, those that are known whole before the others.
        factor: Cholesky factor of the correlations of frames in this order; the identity where
            frames are independent.
        correlated: residues whose frames are not independent.
    """

    order: Int64[Tensor, "batch frames"]
    factor: Float[Tensor, "batch channels frames frames"]
    correlated: Bool[Tensor, "batch residues"]

    @classmethod
    def of(
        cls,
        relaxations: Relaxations,
        since_key_ps: Float[Tensor, "batch frames"],
        known: Bool[Tensor, "batch frames residues"],
        present: Bool[Tensor, "batch frames"] | None,
        own: Bool[Tensor, "batch residues"],
    ) -> "BaseNoise":
        """Build the noise of windows.

        Args:
            relaxations: how far the channels go in a time.
            since_key_ps: time of each frame since the key frame.
            known: cells that are given.
            present: frames that exist; None for all.
            own: residues that are in the key frame. Tokens of the others are no change since.
        """
        whole, frame = known.all(dim=2), torch.arange(known.shape[1], device=known.device)
        order = torch.where(whole, frame, frame + len(frame)).argsort(dim=1)
        correlations = relaxations.correlations(since_key_ps.gather(1, order))
        correlations *= 1 - OWN_SHARE
        if present is not None:
            there = present.gather(1, order)
            correlations *= there[:, None, :, None] & there[:, None, None]
        correlations.diagonal(dim1=-2, dim2=-1).fill_(1.0)
        return cls(order, torch.linalg.cholesky(correlations), own)

    def point(
        self,
        white: Float[Tensor, "batch frames residues channels"],
        known: Bool[Tensor, "batch frames residues"],
        tokens: Float[Tensor, "batch frames residues channels"],
    ) -> Float[Tensor, "batch frames residues channels"]:
        """Turn white noise into noise over time, given the tokens of known cells."""
        given = self.whitened(torch.where(known[..., None], tokens, 0.0))
        drawn = torch.where(known[..., None], given, white)
        point = self._put_back(self.factor @ self._ordered(drawn))
        return self._where_correlated(point, white)

    def about_mean(
        self,
        white: Float[Tensor, "batch frames residues channels"],
        known: Bool[Tensor, "batch frames residues"],
    ) -> Float[Tensor, "batch frames residues channels"]:
        """Turn white noise into that of ``point`` less its mean, which known cells make."""
        drawn = torch.where(known[..., None], 0.0, white)
        noise = self._put_back(self.factor @ self._ordered(drawn))
        return self._where_correlated(noise, white)

    def whitened(
        self, point: Float[Tensor, "batch frames residues channels"]
    ) -> Float[Tensor, "batch frames residues channels"]:
        """Undo ``point``: each frame in units of its spread, given known frames and those before.

        Of known frames the result depends on known frames alone.
        """
        ordered = self._ordered(point)
        white = torch.linalg.solve_triangular(self.factor, ordered, upper=False)
        return self._where_correlated(self._put_back(white), point)

    def log_spread(self) -> Float[Tensor, "batch frames residues channels"]:
        """Return the logarithm of the spread of each frame, given known frames and those before."""
        logarithms = self.factor.diagonal(dim1=-2, dim2=-1).log()[..., None]
        spread = self._put_back(logarithms.expand(-1, -1, -1, self.correlated.shape[1]))
        return self._where_correlated(spread, torch.zeros_like(spread))

    def _ordered(self, values: Tensor) -> Tensor:
        index = self.order[:, :, None, None].expand_as(values)
        return values.gather(1, index).permute(0, 3, 1, 2)

    def _put_back(self, values: Tensor) -> Tensor:
        in_order = values.permute(0, 2, 3, 1)
        return in_order.gather(1, self.order.argsort(dim=1)[:, :, None, None].expand_as(in_order))

    def _where_correlated(self, values: Tensor, others: Tensor) -> Tensor:
        return torch.where(self.correlated[:, None, :, None], values, others)
