"""Movies: frames as models of a PDB text, placed on the first, not too many."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from trajgen.analysis.report.movies import (
    LEAST_SHARES,
    MOST_FRAMES,
    MOST_LINES,
    movie,
    trajectory_movie,
)
from trajgen.data.records import BeadFrames
from trajgen.data.sources import no_beads
from trajgen.data.topology import BeadTopology
from trajgen.geometry.superposition import rmsd, rmsd_matrix


def models(pdb: str) -> np.ndarray:
    """Return the coordinates of each model, nm."""
    found: list[list[list[float]]] = []
    for line in io.StringIO(pdb):
        if line.startswith("MODEL"):
            found.append([])
        if line.startswith("ATOM"):
            found[-1].append([float(line[start : start + 8]) / 10 for start in (30, 38, 46)])
    return np.array(found, dtype=np.float32)


def test_frames_keep_their_shape_and_lie_on_the_first(fluctuating) -> None:
    frames = fluctuating(1, 30, seed=0)
    turned = frames.positions_nm[:, :, [1, 2, 0]] + 40
    made = movie("n", "c", frames.topology, turned)
    shown = models(made.pdb)
    assert made.frames == len(shown) == 30
    assert made.pdb.count("CONECT") == frames.topology.n_beads
    assert np.abs(shown[0].mean(axis=0)).max() < 1e-3
    apart = rmsd(torch.from_numpy(shown), torch.from_numpy(turned.copy()))
    assert apart.max() < 2e-4  # three digits of an angstrom
    unplaced = np.sqrt(np.square(shown - shown[:1]).sum(axis=2).mean(axis=1))
    best = rmsd(torch.from_numpy(shown), torch.from_numpy(shown[:1])).numpy()
    assert unplaced == pytest.approx(best, abs=2e-4)


def test_long_and_large_ones_are_thinned(fluctuating) -> None:
    many = fluctuating(1, 3 * MOST_FRAMES, seed=0)
    made = movie("n", "c", many.topology, many.positions_nm)
    assert made.frames == MOST_FRAMES
    first, last = models(made.pdb)[[0, -1]]
    ends = torch.from_numpy(many.positions_nm[[0, -1]])
    assert rmsd(torch.from_numpy(np.stack([first, last])), ends).max() < 2e-4
    residues = MOST_LINES // LEAST_SHARES // 10
    large = BeadTopology.from_residues(("ALA",) * residues)
    line = np.zeros((20, residues, 3), np.float32)
    line[:, :, 0] = 0.05 * np.arange(residues)  # an angstrom more has no room in a PDB file
    assert movie("n", "c", large, line).frames == 10
    assert movie("n", "c", large, line, shares=2 * LEAST_SHARES).frames == 5


def test_a_source_shows_its_first_trajectory(fluctuating) -> None:
    frames = fluctuating(3, 12, seed=1)
    found = trajectory_movie("n", "c", frames)
    assert found is not None
    assert found.frames == 12
    assert trajectory_movie("n", "c", no_beads(frames.topology)) is None


class Chunks:
    """A source of one segment in many chunks, and of another behind it."""

    def __init__(self, frames: BeadFrames, size: int) -> None:
        self.frames, self.size, self.topology = frames, size, frames.topology

    def chunks(self) -> Iterator[BeadFrames]:
        for begin in range(0, self.frames.n_frames, self.size):
            yield self.frames.take(slice(begin, begin + self.size))


@pytest.mark.parametrize("size", [7, 90, 5000])
def test_a_long_trajectory_is_seen_to_its_end(fluctuating, size: int) -> None:
    frames = fluctuating(2, 1000, seed=1)
    found = trajectory_movie("n", "c", Chunks(frames, size))
    assert found is not None
    assert MOST_FRAMES / 2 < found.frames <= MOST_FRAMES
    shown = torch.from_numpy(models(found.pdb)[[0, -1]])
    near = rmsd_matrix(shown, torch.from_numpy(frames.positions_nm)).argmin(dim=1).tolist()
    assert near[0] == 0
    assert 980 <= near[1] < 1000


def test_frames_that_exploded_are_left_out_and_counted(fluctuating) -> None:
    frames = fluctuating(1, 10, seed=1)
    broken = frames.positions_nm.copy()
    broken[3, 0, 0], broken[5, 1, 1] = 1e12, np.nan
    made = movie("n", "Frames.", frames.topology, broken)
    assert made is not None
    assert made.frames == 8
    assert made.caption == "Frames. Without 2 frames that exploded."
    assert movie("n", "c", frames.topology, broken[[3, 5]]) is None
