"""Which pairs may feel each other: all of a small chain, neighbour lists of a large one.

A list holds every pair within the cutoff and a skin, and serves until a bead of its chain has moved
by half the skin. Pairs stand in the order of their beads, and those beyond the cutoff add nothing,
so no result depends on how old a list is.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64

from trajgen.potential.fast.compiling import digest_of_sources, entry, kernel

#: Chains up to this size go through all their pairs, which is faster there than lists.
DENSE_BEADS = 256
#: A wider skin makes lists longer and new ones rarer.
SKIN_NM = 0.2
#: Most cells along an axis, so that a chain that flew apart takes no memory.
_MOST_CELLS = 32


class Candidates(NamedTuple):
    """Pairs of the beads of each frame.

    Attributes:
        pairs: beads, the smaller one first; frames may share theirs.
        strengths: ε σ⁶ of their repulsion, kJ/mol nm⁶.
        bounds: first pair of each frame and one beyond its last.
    """

    pairs: Int32[np.ndarray, "pairs 2"]
    strengths: Float32[np.ndarray, " pairs"]
    bounds: Int64[np.ndarray, "frames 2"]


class AllPairs:
    """All pairs of a small chain."""

    def __init__(self, strengths: Float32[np.ndarray, "beads beads"]) -> None:
        first, second = np.triu_indices(len(strengths), 1)
        self._pairs = np.stack([first, second], axis=1).astype(np.int32)
        self._strengths = strengths[first, second]

    def find(self, positions_nm: Float32[np.ndarray, "frames beads 3"]) -> Candidates:
        """Return the candidates of frames."""
        bounds = np.empty((len(positions_nm), 2), np.int64)
        bounds[:] = 0, len(self._pairs)
        return Candidates(self._pairs, self._strengths, bounds)


class NeighbourLists:
    """A list for each frame of a batch, kept from one call to the next."""

    def __init__(self, cutoff_nm: float, strengths: Float32[np.ndarray, "beads beads"]) -> None:
        """Build without lists.

        Args:
            cutoff_nm: distance from which on beads do not feel each other.
            strengths: ε σ⁶ of the repulsion of each pair above the diagonal, kJ/mol nm⁶.
        """
        self._reach_nm = cutoff_nm + SKIN_NM
        self._strengths = strengths
        self._origins = np.empty((0, 0, 3), np.float32)
        self._lists: list[np.ndarray] = []
        self._lists_strengths: list[np.ndarray] = []
        self._candidates = self._gather()

    def find(self, positions_nm: Float32[np.ndarray, "frames beads 3"]) -> Candidates:
        """Return the candidates of frames; new lists where a bead went too far."""
        if positions_nm.shape != self._origins.shape:
            self._origins = np.full_like(positions_nm, np.nan)
            self._lists = [np.empty((0, 2), np.int32)] * len(positions_nm)
            self._lists_strengths = [np.empty(0, np.float32)] * len(positions_nm)
        moved_nm = np.linalg.norm(positions_nm - self._origins, axis=-1).max(axis=1, initial=0)
        outdated = np.flatnonzero(~(moved_nm < SKIN_NM / 2))  # a comparison with NaN is false
        for frame in outdated:
            self._origins[frame] = positions_nm[frame]
            pairs = neighbour_pairs(positions_nm[frame], self._reach_nm)
            self._lists[frame] = pairs
            self._lists_strengths[frame] = self._strengths[pairs[:, 0], pairs[:, 1]]
        if len(outdated):
            self._candidates = self._gather()
        return self._candidates

    def _gather(self) -> Candidates:
        pairs = np.concatenate([np.empty((0, 2), np.int32), *self._lists])
        lengths = np.array([len(each) for each in self._lists], np.int64)
        ends = np.cumsum(lengths)
        strengths = np.concatenate([np.empty(0, np.float32), *self._lists_strengths])
        return Candidates(pairs, strengths, np.stack([ends - lengths, ends], axis=1))


@kernel
def _cells(x: np.ndarray, reach_nm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of each bead along the axes, and the number of cells along them."""
    shape = np.ones(3, np.int64)
    cells = np.zeros(x.shape, np.int64)
    for axis in range(3):
        low, high = np.float64(x[:, axis].min()), np.float64(x[:, axis].max())
        shape[axis] = int(min(max((high - low) / reach_nm, 1.0), _MOST_CELLS))
        for bead in range(x.shape[0]):
            place = (x[bead, axis] - low) / (high - low) * shape[axis] if high > low else 0.0
            cells[bead, axis] = min(int(place), shape[axis] - 1)
    return cells, shape


@kernel
def _sort_by_cell(cells: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the beads cell by cell, in order within each, and where each cell begins."""
    numbers = (cells[:, 0] * shape[1] + cells[:, 1]) * shape[2] + cells[:, 2]
    begins = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    for number in numbers:
        begins[number + 1] += 1
    begins = np.cumsum(begins)
    room, beads = begins.copy(), np.empty(len(numbers), np.int64)
    for bead, number in enumerate(numbers):
        beads[room[number]] = bead
        room[number] += 1
    return beads, begins


def _compile(digest: int) -> Callable[..., np.ndarray]:
    @entry
    def neighbour_pairs(
        x: Float32[np.ndarray, "beads 3"], reach_nm: float
    ) -> Int32[np.ndarray, "pairs 2"]:
        """Return all pairs of beads within reach, in order; none of a chain that is not finite.

        By cells no smaller than the reach: a bead meets those of its own cell and of the 26 around.
        """
        _ = digest  # the cache belongs to these sources
        n = x.shape[0]
        if not np.isfinite(x).all():
            return np.empty((0, 2), np.int32)
        cells, shape = _cells(x, reach_nm)
        beads, begins = _sort_by_cell(cells, shape)
        pairs, count = np.empty((32 * n, 2), np.int32), 0
        near = np.empty(n, np.int64)
        for i in range(n):
            found = 0
            for cx in range(max(cells[i, 0] - 1, 0), min(cells[i, 0] + 2, shape[0])):
                for cy in range(max(cells[i, 1] - 1, 0), min(cells[i, 1] + 2, shape[1])):
                    row = (cx * shape[1] + cy) * shape[2]
                    first = begins[row + max(cells[i, 2] - 1, 0)]
                    last = begins[row + min(cells[i, 2] + 2, shape[2])]
                    for place in range(first, last):
                        j = beads[place]
                        if j > i:
                            dx, dy, dz = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
                            if math.sqrt(dx * dx + dy * dy + dz * dz) < reach_nm:
                                near[found] = j
                                found += 1
            if count + found > len(pairs):
                longer = np.empty((2 * (count + found), 2), np.int32)
                longer[:count] = pairs[:count]
                pairs = longer
            pairs[count : count + found, 0] = i
            pairs[count : count + found, 1] = np.sort(near[:found])
            count += found
        return pairs[:count].copy()

    return neighbour_pairs


#: Compiled at its first call.
neighbour_pairs = _compile(digest_of_sources())
