"""Autocorrelation functions over segments, and the times in which they decay.

The autocovariance at the lag l is the mean of (x_t − m)(x_{t+l} − m) over all pairs of frames
that lie l apart within a segment, with the mean m of all frames; each lag has its own number of
pairs, so that no lag is damped. For an angle the sum of that of its cosine and of its sine is
the mean of cos(x_t − x_{t+l}) less the squared mean direction (Jing, Stärk, Jaakkola, Berger
2024, MDGen). Sums are kept by block of frames, so that a resample costs no pass over the frames.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.signal import fftconvolve

from trajgen.analysis.kinetics.estimates import Estimate
from trajgen.errors import InputError


@dataclass(frozen=True)
class LaggedSums:
    """Sums over the pairs of frames of each block, from which every autocorrelation follows.

    A pair belongs to the block of its first frame.

    Attributes:
        products: sum of the products of the two values, around ``centre``.
        ends: sum of the two values of the pairs, around ``centre``.
        pairs: number of pairs.
        centre: a number near the mean of each column, which keeps the sums small.
        terms: columns of one quantity: 1 for a line, 2 for the cosine and sine of an angle.
    """

    products: Float[np.ndarray, "blocks lags columns"]
    ends: Float[np.ndarray, "blocks lags columns"]
    pairs: Float[np.ndarray, "blocks lags"]
    centre: Float[np.ndarray, " columns"]
    terms: int

    def autocorrelation(
        self, draw: Float[np.ndarray, " blocks"]
    ) -> Float[np.ndarray, "lags quantities"]:
        """Return the autocorrelation of each quantity, 1 at the lag 0.

        It ends at the longest lag that has a pair; a quantity that does not vary is 0 throughout.

        Args:
            draw: how often each block is taken.
        """
        pairs = draw @ self.pairs
        n_lags = int((pairs > 0).sum())  # longer lags have fewer pairs
        if n_lags == 0:
            return np.zeros((0, len(self.centre) // self.terms))
        share = 1 / pairs[:n_lags, None]
        products = np.tensordot(draw, self.products[:, :n_lags], 1) * share
        ends = np.tensordot(draw, self.ends[:, :n_lags], 1) * share
        mean = ends[0] / 2
        covariance = products - mean * ends + mean**2
        pooled = covariance.reshape(n_lags, -1, self.terms).sum(axis=2)
        squares = (products[0] + self.centre**2).reshape(-1, self.terms).sum(axis=1)
        varies = pooled[0] > np.finfo(np.float64).eps * squares
        return np.divide(pooled, pooled[0], out=np.zeros_like(pooled), where=varies)


def lagged_sums(
    values: Float[np.ndarray, "frames columns"],
    segments: Int[np.ndarray, " frames"],
    blocks: Int[np.ndarray, " frames"],
    max_lag_frames: int,
) -> LaggedSums:
    """Return the sums behind the autocorrelation of lines, such as slow coordinates.

    Args:
        values: a column for each quantity.
        segments: segment of each frame.
        blocks: block of each frame, counted from 0: unions of segments, or stretches of one.
        max_lag_frames: longest lag in frames; no longer than half of the longest segment is kept.
    """
    return _lagged_sums(values, segments, blocks, max_lag_frames, 1)


def torsion_lagged_sums(
    angles: Float[np.ndarray, "frames torsions"],
    segments: Int[np.ndarray, " frames"],
    blocks: Int[np.ndarray, " frames"],
    max_lag_frames: int,
) -> LaggedSums:
    """Return the sums behind the autocorrelation of angles, rad, as ``lagged_sums`` for lines."""
    both = np.stack([np.cos(angles), np.sin(angles)], axis=2).reshape(len(angles), -1)
    return _lagged_sums(both, segments, blocks, max_lag_frames, 2)


def decorrelation_time(
    autocorrelation: Float[np.ndarray, " lags"], time_step_ps: float, level: float = 1 / math.e
) -> Estimate:
    """Return the time in ps at which the autocorrelation first falls to the level.

    Between two lags it is taken as a straight line.

    Raises:
        InputError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level:g}; give a number between 0 and 1, such as 1/e")
    missing = _not_an_autocorrelation(autocorrelation)
    if missing is not None:
        return Estimate(None, missing)
    below = np.flatnonzero(autocorrelation <= level)
    if below.size == 0:
        name = "1/e" if level == 1 / math.e else f"{level:g}"
        longest = len(autocorrelation) - 1
        return Estimate(None, f"it does not fall to {name} within {longest} frames")
    after = int(below[0])
    upper, lower = autocorrelation[after - 1], autocorrelation[after]
    return Estimate(float(after - 1 + (upper - level) / (upper - lower)) * time_step_ps)


def integrated_time(autocorrelation: Float[np.ndarray, " lags"], time_step_ps: float) -> Estimate:
    """Return the integral of the autocorrelation over positive lags, ps.

    The trapezium rule Δt (1/2 + Σ_{l≥1} ρ_l), up to the first of the sums ρ_{2m} + ρ_{2m+1} that
    is not positive: the initial positive sequence (Geyer 1992, Stat. Sci. 7:473, section 3.3).
    A frame counts as one independent sample in every 2 such times.
    """
    missing = _not_an_autocorrelation(autocorrelation)
    if missing is not None:
        return Estimate(None, missing)
    n_sums = len(autocorrelation) // 2
    sums = autocorrelation[: 2 * n_sums].reshape(n_sums, 2).sum(axis=1)
    ends = np.flatnonzero(sums <= 0)
    if ends.size == 0:
        longest = len(autocorrelation) - 1
        return Estimate(None, f"it does not fall to 0 within {longest} frames")
    return Estimate(float(sums[: ends[0]].sum() - 0.5) * time_step_ps)


def _not_an_autocorrelation(autocorrelation: Float[np.ndarray, " lags"]) -> str | None:
    if len(autocorrelation) < 2:
        return "no segment has two frames"
    if autocorrelation[0] == 0:
        return "the quantity does not vary"
    return None


def _lagged_sums(
    values: Float[np.ndarray, "frames columns"],
    segments: Int[np.ndarray, " frames"],
    blocks: Int[np.ndarray, " frames"],
    max_lag_frames: int,
    terms: int,
) -> LaggedSums:
    if max_lag_frames < 1:
        raise InputError(f"max_lag_frames is {max_lag_frames}; give at least 1")
    longest = int(np.unique(segments, return_counts=True)[1].max(initial=0))
    # Beyond half of a segment its two ends are compared, and they are one observation.
    n_lags = min(max_lag_frames, longest // 2) + 1 if longest else 0
    n_blocks = int(blocks.max(initial=-1)) + 1
    n_columns = values.shape[1]
    centre = values.mean(axis=0) if len(values) else np.zeros(n_columns)
    products = np.zeros((n_blocks, n_lags, n_columns))
    ends = np.zeros((n_blocks, n_lags, n_columns))
    pairs = np.zeros((n_blocks, n_lags))
    for block, frames, length in _stretches(segments, blocks, n_lags):
        part = values[frames] - centre
        lags = min(n_lags, len(part))
        convolved = fftconvolve(part, part[length - 1 :: -1], axes=0)
        products[block, :lags] += convolved[length - 1 : length - 1 + lags]
        lag = np.arange(lags)
        n_pairs = np.minimum(length, len(part) - lag)
        total = np.concatenate([np.zeros((1, n_columns)), np.cumsum(part, axis=0)])
        ends[block, :lags] += total[n_pairs] + total[lag + n_pairs] - total[lag]
        pairs[block, :lags] += n_pairs
    return LaggedSums(products, ends, pairs, centre, terms)


def _stretches(
    segments: Int[np.ndarray, " frames"], blocks: Int[np.ndarray, " frames"], n_lags: int
) -> Iterator[tuple[int, Int[np.ndarray, " part"], int]]:
    """Yield each stretch of one segment and one block: block, frames, and its own length.

    Behind its own frames come those of the same segment that can be their partners.
    """
    if len(segments) == 0:
        return
    order = np.argsort(segments, kind="stable")
    segment, block = segments[order], blocks[order]
    new = (segment[1:] != segment[:-1]) | (block[1:] != block[:-1])
    starts = np.concatenate([[0], np.flatnonzero(new) + 1])
    stops = np.append(starts[1:], len(order))
    segment_ends = np.searchsorted(segment, segment[starts], side="right")
    for start, stop, end in zip(starts, stops, segment_ends, strict=True):
        yield int(block[start]), order[start : min(stop + n_lags - 1, end)], int(stop - start)
