"""Small ensembles of bead frames with known properties."""

from collections.abc import Callable

import numpy as np
import pytest

from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology

#: A bent chain of six beads, nm.
CHAIN = np.cumsum(
    [[0, 0, 0], [0.38, 0, 0], [0.1, 0.36, 0], [0.2, 0.1, 0.3], [0.3, -0.2, 0.1], [0.1, 0.3, 0.2]],
    axis=0,
)
TOPOLOGY = BeadTopology.from_residues(("GLY", "TYR", "ASP", "PRO", "GLU", "THR"))


def make_frames(
    n_segments: int, length: int, seed: int, spread_nm: float = 0.03, shift: float = 0.0
) -> BeadFrames:
    """Return frames that wander slowly along two directions and shake along all."""
    generator = np.random.default_rng(seed)
    directions = np.random.default_rng(7).normal(size=(2, 6, 3)) * spread_nm
    memory = np.array([0.95, 0.8])
    frames = []
    for _ in range(n_segments):
        state = generator.normal(size=2) + shift
        for _ in range(length):
            noise = np.sqrt(1 - memory**2) * generator.normal(size=2)
            state = shift + memory * (state - shift) + noise
            frames.append(CHAIN + np.tensordot(state, directions, axes=1))
    positions = np.array(frames) + generator.normal(size=(len(frames), 6, 3)) * 0.01
    segments = np.repeat(np.arange(n_segments), length)
    return BeadFrames(TOPOLOGY, positions.astype(np.float32), segments, time_step_ps=1.0)


@pytest.fixture(scope="session")
def fluctuating() -> Callable[..., BeadFrames]:
    """Return the function that makes frames: (n_segments, length, seed, spread_nm, shift)."""
    return make_frames
