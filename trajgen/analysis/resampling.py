"""Weightings of blocks of frames: the value, its block-bootstrap resamples, and split halves.

Frames of one segment are correlated, so segments are drawn or split whole (Künsch 1989, Ann.
Stat. 17:1217). A weighting is a row of signed factors of the blocks: positive mass is one side
of a distance, negative mass the other, and each side sums to 1.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trajgen.analysis.energy_distance import group_energy_distance
from trajgen.analysis.histograms import group_histograms
from trajgen.analysis.wasserstein import THREADS, group_sliced_wasserstein, group_wasserstein
from trajgen.seeding import derive_seed, numpy_generator


@dataclass(frozen=True)
class Weightings:
    """Rows of weightings of the same frames.

    Attributes:
        weights: weight of each frame.
        blocks: block of each frame, counted from 0.
        factors: signed factor of each block, a row for each weighting.
        exact: rows whose distances are exact; of the others only the spread is asked for, and
            their distances gather the values into runs (see ``trajgen.analysis.cumulative``).
    """

    weights: Float[np.ndarray, " frames"]
    blocks: Int[np.ndarray, " frames"]
    factors: Float[np.ndarray, "rows blocks"]
    exact: int

    def distances(
        self, values: Float[np.ndarray, "frames terms"], period: float | None
    ) -> Float[np.ndarray, "rows terms"]:
        """Return W1 of every term under every weighting."""
        return _columns(
            lambda column: group_wasserstein(
                column, self.weights, self.blocks, self.factors, period, self.exact
            ),
            values,
        )

    def sliced_distances(
        self, values: Float[np.ndarray, "frames 2"]
    ) -> Float[np.ndarray, "rows 1"]:
        """Return the sliced W1 in the plane under every weighting."""
        rows = group_sliced_wasserstein(values, self.weights, self.blocks, self.factors, self.exact)
        return rows[:, None]

    def energy_distances(
        self, values: Float[np.ndarray, "frames terms"]
    ) -> Float[np.ndarray, "rows terms"]:
        """Return the energy distance of every term under every weighting."""
        return _columns(
            lambda column: group_energy_distance(
                column, self.weights, self.blocks, self.factors, self.exact
            ),
            values,
        )

    def histograms(
        self, bins: Int[np.ndarray, " frames"], n_bins: int
    ) -> tuple[Float[np.ndarray, "rows bins"], Float[np.ndarray, "rows bins"]]:
        """Return the mass of each bin on either side of each row.

        What a side lacks to 1 is the mass of its frames off the grid, which have the bin −1.
        """
        sides = (
            group_histograms(bins, n_bins, self.weights, self.blocks, factors)[0]
            for factors in self.sides
        )
        positive, negative = sides
        return positive, negative

    @property
    def sides(self) -> tuple[Float[np.ndarray, "rows blocks"], Float[np.ndarray, "rows blocks"]]:
        """The factors of the blocks on the positive and on the negative side of each row."""
        return np.maximum(self.factors, 0.0), np.maximum(-self.factors, 0.0)


def _columns(
    distances: Callable[[Float[np.ndarray, " frames"]], Float[np.ndarray, " rows"]],
    values: Float[np.ndarray, "frames terms"],
) -> Float[np.ndarray, "rows terms"]:
    """Apply ``distances`` to each column, some side by side: sorting releases Python's lock."""
    with ThreadPoolExecutor(THREADS) as pool:
        return np.stack(list(pool.map(distances, values.T)), axis=1)


def segment_blocks(
    segments: Int[np.ndarray, " frames"], time_blocks: int
) -> Int[np.ndarray, " frames"]:
    """Return the block of each frame: its segment, or a stretch of time of a lone segment."""
    _, blocks = np.unique(segments, return_inverse=True)
    if len(blocks) and blocks.max() == 0:
        blocks = np.arange(len(blocks)) * min(time_blocks, len(blocks)) // len(blocks)
    return blocks.astype(np.int64)


def resampled_against(
    sample_weights: Float[np.ndarray, " samples"],
    sample_blocks: Int[np.ndarray, " samples"],
    reference_weights: Float[np.ndarray, " references"],
    resamples: int,
    seed: int,
) -> Weightings:
    """Return weightings of the samples (first) against the reference (behind them).

    Row 0 has every block once; the others are bootstrap resamples of the sample blocks. A single
    block cannot be resampled: then row 0 is the only one.
    """
    n_blocks = int(sample_blocks.max()) + 1
    generator = numpy_generator(derive_seed(seed, "bootstrap"))
    counts = np.ones((1, n_blocks))
    if n_blocks > 1:
        drawn = generator.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=resamples)
        counts = np.concatenate([counts, drawn])
    totals = counts @ np.bincount(sample_blocks, sample_weights, n_blocks)
    reference_factor = np.full((len(counts), 1), -1 / reference_weights.sum())
    return Weightings(
        weights=np.concatenate([sample_weights, reference_weights]),
        blocks=np.concatenate([sample_blocks, np.full(len(reference_weights), n_blocks)]),
        factors=np.concatenate([counts / totals[:, None], reference_factor], axis=1),
        exact=1,
    )


def split_halves(
    weights: Float[np.ndarray, " frames"],
    blocks: Int[np.ndarray, " frames"],
    splits: int,
    seed: int,
) -> Weightings:
    """Return weightings of one random half of the blocks against the other half.

    The blocks go, in random order, to the half that has fewer frames so far. Of two blocks there
    is one split only.
    """
    frames = np.bincount(blocks)
    rows = []
    for split in range(splits if len(frames) > 2 else 1):
        generator = numpy_generator(derive_seed(seed, "halves", index=split))
        sign, ahead = np.zeros(len(frames)), 0.0  # frames that the first half has more
        for block in generator.permutation(len(frames)):
            sign[block] = 1.0 if ahead <= 0 else -1.0
            ahead += sign[block] * frames[block]
        totals = np.bincount(blocks, weights)
        rows.append(np.where(sign > 0, 1 / totals[sign > 0].sum(), -1 / totals[sign < 0].sum()))
    return Weightings(weights, blocks, np.stack(rows), exact=len(rows))
