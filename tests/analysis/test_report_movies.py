"""Movies: frames as models of a PDB text, placed on the first, not too many."""

import io

import numpy as np
import pytest
import torch

from trajgen.analysis.report.movies import MOST_FRAMES, MOST_LINES, movie, trajectory_movie
from trajgen.data.sources import no_beads
from trajgen.data.topology import BeadTopology
from trajgen.geometry.superposition import rmsd


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
    residues = MOST_LINES // 10
    large = BeadTopology.from_residues(("ALA",) * residues)
    line = np.zeros((20, residues, 3), np.float32)
    line[:, :, 0] = 0.05 * np.arange(residues)  # an angstrom more has no room in a PDB file
    assert movie("n", "c", large, line).frames == 10


def test_a_source_shows_its_first_trajectory(fluctuating) -> None:
    frames = fluctuating(3, 12, seed=1)
    found = trajectory_movie("n", "c", frames)
    assert found is not None
    assert found.frames == 12
    assert trajectory_movie("n", "c", no_beads(frames.topology)) is None
