"""Features against mdtraj, and that no term spans two chains."""

import mdtraj
import numpy as np
import pytest

from trajgen.analysis.features import (
    bend_angles,
    bond_lengths,
    defined_frames,
    dihedral_angles,
    end_to_end_distances,
    pair_distances,
    radius_of_gyration,
)
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology


@pytest.fixture(scope="module")
def frames(fluctuating) -> BeadFrames:
    return fluctuating(2, 20, seed=0)


@pytest.fixture(scope="module")
def trajectory(frames) -> mdtraj.Trajectory:
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for name in frames.topology.residues:
        residue = topology.add_residue(name, chain)
        topology.add_atom("CA", mdtraj.element.carbon, residue)
    return mdtraj.Trajectory(frames.positions_nm, topology)


def test_internal_coordinates_agree_with_mdtraj(trajectory, frames):
    run = np.arange(6)
    bonds = np.stack([run[:-1], run[1:]], axis=1)
    triples = np.stack([run[:-2], run[1:-1], run[2:]], axis=1)
    quadruples = np.stack([run[:-3], run[1:-2], run[2:-1], run[3:]], axis=1)
    wanted = {
        bond_lengths: mdtraj.compute_distances(trajectory, bonds),
        bend_angles: mdtraj.compute_angles(trajectory, triples),
        dihedral_angles: mdtraj.compute_dihedrals(trajectory, quadruples),
        end_to_end_distances: mdtraj.compute_distances(trajectory, [[0, 5]]),
    }
    for compute, values in wanted.items():
        np.testing.assert_allclose(compute(frames).values, values, atol=2e-5)


def test_radius_of_gyration_and_pairs_agree_with_mdtraj(trajectory, frames):
    masses = np.ones(6)
    wanted = mdtraj.compute_rg(trajectory, masses)
    np.testing.assert_allclose(radius_of_gyration(frames).values[:, 0], wanted, rtol=1e-5)
    pairs = np.array([(i, j) for i in range(6) for j in range(i + 1, 6)])
    wanted = mdtraj.compute_distances(trajectory, pairs)
    np.testing.assert_allclose(pair_distances(frames).values, wanted, atol=1e-6)


def test_labels_and_units_name_every_term(frames):
    dihedrals = dihedral_angles(frames)
    assert dihedrals.labels[0] == "GLY1-TYR2-ASP3-PRO4"
    assert dihedrals.unit == "rad"
    assert dihedrals.period == pytest.approx(2 * np.pi)
    for feature in (dihedrals, bond_lengths(frames), end_to_end_distances(frames)):
        assert feature.values.shape == (40, len(feature.labels))


def test_no_term_spans_two_chains(frames):
    topology = BeadTopology(
        names=("CA",) * 6,
        residues=("GLY",) * 6,
        residue_numbers=(1, 2, 3, 1, 2, 3),
        chains=(0, 0, 0, 1, 1, 1),
        bonds=((0, 1), (1, 2), (3, 4), (4, 5)),
    )
    frames = BeadFrames(topology, frames.positions_nm, frames.segments)
    assert len(bond_lengths(frames).labels) == 4
    assert len(bend_angles(frames).labels) == 2
    assert dihedral_angles(frames).values.shape == (40, 0)
    ends = end_to_end_distances(frames)
    assert ends.labels == ("0:GLY1:CA-0:GLY3:CA", "1:GLY1:CA-1:GLY3:CA")
    first = frames.positions_nm[:, 2] - frames.positions_nm[:, 0]
    np.testing.assert_allclose(ends.values[:, 0], np.linalg.norm(first, axis=1), rtol=1e-6)


def test_coincident_and_straight_beads_have_no_dihedral(frames):
    positions = frames.positions_nm[:3].copy()
    positions[1, 2] = positions[1, 3]
    positions[2, :3] = [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    broken = BeadFrames(frames.topology, positions, frames.segments[:3])
    np.testing.assert_array_equal(defined_frames(broken), [True, False, False])
