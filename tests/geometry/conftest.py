"""Structures that several files of tests share."""

import mdtraj as md
import numpy as np
import pytest
import torch


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture
def points(generator: torch.Generator) -> torch.Tensor:
    """Twelve random clouds of seven points, nm."""
    return 0.5 * torch.randn(12, 7, 3, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="session")
def bead_topology():
    """Make the mdtraj topology of n C-alpha atoms."""

    def make(n: int) -> md.Topology:
        topology = md.Topology()
        chain = topology.add_chain()
        for _ in range(n):
            topology.add_atom("CA", md.element.carbon, topology.add_residue("ALA", chain))
        return topology

    return make


@pytest.fixture(scope="session")
def chignolin(shared_data) -> torch.Tensor:
    """Chignolin C-alpha frames of all-atom MD at 350 K, nm, float64."""
    folder = shared_data / "chignolin_ca_forces"
    angstrom = np.load(folder / "chignolin_ca_coords_first13000.npy").reshape(-1, 10, 3)
    return torch.from_numpy(angstrom.astype(np.float64) * 0.1)
