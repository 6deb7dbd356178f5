"""Small molecules that the data tests make themselves."""

from pathlib import Path

import numpy as np
import pytest
from peptide import Solvated, write_solvated

from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology


@pytest.fixture
def solvated(tmp_path: Path) -> Solvated:
    return write_solvated(tmp_path)


def chain_of(sequence_length: int, n_frames: int, seed: int = 0) -> np.ndarray:
    """Return random chains with bonds of 0.38 nm."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(n_frames, sequence_length, 3))
    steps *= 0.38 / np.linalg.norm(steps, axis=-1, keepdims=True)
    return np.cumsum(steps, axis=1).astype(np.float32)


@pytest.fixture
def beads() -> BeadFrames:
    """Two segments of a five-bead chain with forces, weights and variances."""
    random = np.random.default_rng(3)
    return BeadFrames(
        topology=BeadTopology.from_residues(("GLY", "TYR", "ASP", "PRO", "GLU")),
        positions_nm=chain_of(5, 12),
        segments=np.repeat(np.array([4, 9]), 6).astype(np.int64),
        time_step_ps=2.0,
        forces=random.normal(size=(12, 5, 3)).astype(np.float32),
        weights=random.uniform(0.5, 2, 12),
        force_variance=random.uniform(1, 2, 12),
    )
