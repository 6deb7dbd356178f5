"""Correlation, power and steps of fast motions, for every weighting of blocks of frames.

A block is a segment, or a stretch of time of a lone one. Sums are kept for each block, so that a
bootstrap resample, or a half of the frames, costs no second pass over the frames.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float, Int
from scipy.signal import welch

from trajgen.analysis.features import Feature
from trajgen.analysis.resampling import segment_blocks

#: Stretches of time that a lone segment is cut into.
TIME_BLOCKS = 10

#: A smaller variance (nm², or of points on the unit circle) is that of a constant after rounding.
SMALLEST_VARIANCE = 1e-20


@dataclass(frozen=True)
class Series:
    """A coordinate in the order of time, segment after segment.

    Attributes:
        values: a column for each term.
        period: length of the circle of the values, None for a line.
        segments: segment of each frame.
        blocks: block of each frame.
        is_join: whether a window of frames begins at a frame.
    """

    values: Float[np.ndarray, "frames terms"]
    period: float | None
    segments: Int[np.ndarray, " frames"]
    blocks: Int[np.ndarray, " frames"]
    is_join: Bool[np.ndarray, " frames"]

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return int(self.blocks.max(initial=-1)) + 1

    def signal(self, column: int) -> Complex[np.ndarray, " frames"] | Float[np.ndarray, " frames"]:
        """Return one term; an angle as points on the unit circle, which has no seam."""
        values = self.values[:, column]
        return values if self.period is None else np.exp(2j * np.pi / self.period * values)


def in_order(
    feature: Feature, segments: Int[np.ndarray, " frames"], joins: Int[np.ndarray, " joins"]
) -> Series:
    """Put the frames of each segment together; they keep their order.

    Args:
        feature: the coordinate.
        segments: segment of each frame.
        joins: indices of the first frame of each window.
    """
    is_join = np.zeros(len(segments), dtype=bool)
    is_join[joins] = True
    order = np.argsort(segments, kind="stable")
    blocks = segment_blocks(segments[order], TIME_BLOCKS)
    return Series(feature.values[order], feature.period, segments[order], blocks, is_join[order])


def autocorrelations(
    series: Series, rows: Float[np.ndarray, "rows blocks"], lags: list[int]
) -> Float[np.ndarray, "rows lags terms"]:
    """Return C(k) = <Re z*(t) z(t + k)> / <|z|²> with z about its mean, for lags in frames.

    Pairs stay within a segment and count for the block of their first frame. It is NaN of a term
    that does not vary, and of a lag that no segment is long enough for.
    """
    n, n_blocks = series.values.shape[0], series.n_blocks
    pairs = []
    for lag in (0, *lags):
        earlier, later = slice(max(n - lag, 0)), slice(min(lag, n), None)
        inside = series.segments[earlier] == series.segments[later]
        # Pairs that leave their segment go to a block of their own, behind the others.
        pairs.append((earlier, later, np.where(inside, series.blocks[earlier], n_blocks)))
    counts = np.stack([np.bincount(block, minlength=n_blocks + 1)[:-1] for *_, block in pairs])
    sums = np.empty((len(pairs), series.values.shape[1], n_blocks))
    for column in range(series.values.shape[1]):
        signal = series.signal(column)
        signal = signal - signal.sum() / max(n, 1)
        for row, (earlier, later, block) in enumerate(pairs):
            products = (np.conj(signal[earlier]) * signal[later]).real
            sums[row, column] = np.bincount(block, products, minlength=n_blocks + 1)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.einsum("ltb,rb->rlt", sums, rows) / (rows @ counts.T)[:, :, None]
        varies = means[:, :1] > SMALLEST_VARIANCE
        return np.where(varies, means[:, 1:] / means[:, :1], np.nan)


def power_above(
    series: Series, rows: Float[np.ndarray, "rows blocks"], known_every: int, stretch: int
) -> tuple[Float[np.ndarray, "rows terms"], int]:
    """Return the variance at frequencies above the Nyquist frequency of every k-th frame.

    The spectrum is Welch's (1967, IEEE Trans. Audio Electroacoust. 15:70), with a Hann window.
    Blocks shorter than a stretch are left out; how many is the second result. NaN where none is
    left.

    Args:
        series: the coordinate.
        rows: weightings of the blocks.
        known_every: k; the Nyquist frequency is 1/(2 k) a frame.
        stretch: frames of one periodogram.
    """
    n_terms, n_blocks = series.values.shape[1], series.n_blocks
    lengths = np.bincount(series.blocks, minlength=n_blocks)
    long_enough = lengths >= stretch
    powers = np.zeros((n_blocks, n_terms))
    for block, end in enumerate(np.cumsum(lengths)):
        if not long_enough[block]:
            continue
        run = series.values[end - lengths[block] : end]
        if series.period is not None:
            run = np.exp(2j * np.pi / series.period * run)
        frequencies, density = welch(run, nperseg=stretch, return_onesided=False, axis=0)
        # Of a bin that the Nyquist frequency halves, half lies above it.
        above = np.abs(frequencies) * 2 * known_every - 1
        share = np.where(np.isclose(above, 0), 0.5, above > 0)
        powers[block] = share @ density / stretch
    powers[powers < SMALLEST_VARIANCE] = 0.0
    frames = rows * np.where(long_enough, lengths, 0)
    with np.errstate(invalid="ignore"):
        return frames @ powers / frames.sum(axis=1, keepdims=True), int((~long_enough).sum())


def join_ratios(
    series: Series, rows: Float[np.ndarray, "rows blocks"]
) -> tuple[Float[np.ndarray, "rows terms"], int]:
    """Return the root mean square step over joins divided by that of all other steps.

    Steps stay within a segment. The second result is the number of joins. NaN where there is none,
    or no other step, or a term that does not move.
    """
    inside = series.segments[1:] == series.segments[:-1]
    joined = series.is_join[1:] & inside
    kinds = [series.blocks[1:][kind] for kind in (joined, inside & ~joined)]
    counts = np.stack([np.bincount(kind, minlength=series.n_blocks) for kind in kinds])
    squares = np.empty((2, series.n_blocks, series.values.shape[1]))
    for column in range(series.values.shape[1]):
        steps = np.diff(series.values[:, column])
        if series.period is not None:
            steps -= series.period * np.round(steps / series.period)
        for row, kind in enumerate((joined, inside & ~joined)):
            sums = np.bincount(kinds[row], steps[kind] ** 2, minlength=series.n_blocks)
            squares[row, :, column] = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        over, within = (rows @ squares[i] / (rows @ counts[i])[:, None] for i in (0, 1))
        ratios = np.where(within > 0, np.sqrt(over / within), np.nan)
    return ratios, int(joined.sum())
