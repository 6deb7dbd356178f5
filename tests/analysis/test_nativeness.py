"""Distances to a fold and its mirror image against mdtraj, and shares of known mixtures."""

import mdtraj
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trajgen.analysis import nativeness as module
from trajgen.analysis.nativeness import (
    NativeDistances,
    at_mirror,
    at_native,
    mirror_image_distance,
    native_distances,
)
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError

TURN = np.radians(100) * np.arange(10)
HELIX = np.stack([0.23 * np.cos(TURN), 0.23 * np.sin(TURN), 0.15 * np.arange(10)], axis=1)
MIRRORED = HELIX * [1, 1, -1]
STRAND = np.stack([0.33 * np.arange(10), 0.1 * (np.arange(10) % 2), np.zeros(10)], axis=1)


def frames_of(structures: list[np.ndarray], seed: int = 0) -> BeadFrames:
    """Return the structures turned, moved and shaken a little."""
    generator = np.random.default_rng(seed)
    turns = Rotation.random(len(structures), random_state=seed).as_matrix()
    positions = np.einsum("fij,fbj->fbi", turns, np.array(structures))
    positions += generator.normal(size=(len(positions), 1, 3))
    positions += 0.02 * generator.normal(size=positions.shape)
    topology = BeadTopology.from_residues(("ALA",) * 10)
    return BeadFrames(topology, positions.astype(np.float32), np.zeros(len(positions), np.int64))


def shares(distances: NativeDistances, weights: np.ndarray, cutoff_nm: float = 0.25) -> np.ndarray:
    flags = np.stack([at_native(distances, cutoff_nm), at_mirror(distances, cutoff_nm)], axis=1)
    return np.average(flags, axis=0, weights=weights)


def test_distances_agree_with_mdtraj():
    frames = frames_of([HELIX, MIRRORED, STRAND] * 5)
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for name in frames.topology.residues:
        topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue(name, chain))
    trajectory = mdtraj.Trajectory(frames.positions_nm, topology)
    found = native_distances(frames, HELIX)
    for structure, distance in ((HELIX, found.native_nm), (MIRRORED, found.mirror_nm)):
        wanted = mdtraj.rmsd(trajectory, mdtraj.Trajectory(structure[None], topology))
        np.testing.assert_allclose(distance, wanted, atol=1e-4)


def test_mirrored_helix_is_at_the_mirror_image_only():
    distances = native_distances(frames_of([MIRRORED] * 6), HELIX)
    np.testing.assert_array_equal(shares(distances, np.ones(6)), [0, 1])
    assert (distances.mirror_nm < 0.05).all()
    wanted = mirror_image_distance(HELIX)
    np.testing.assert_allclose(distances.native_nm, wanted, atol=0.05)


def test_shares_of_a_mixture_are_its_weights():
    frames = frames_of([HELIX, MIRRORED, STRAND, HELIX])
    found = shares(native_distances(frames, HELIX), np.array([1.0, 2.0, 4.0, 3.0]))
    np.testing.assert_allclose(found, [0.4, 0.2])


def test_frame_near_both_is_at_the_closer_and_on_the_fence_at_neither():
    near = NativeDistances(np.array([0.1, 0.2, 0.15, 0.3]), np.array([0.2, 0.1, 0.15, 0.26]))
    np.testing.assert_allclose(shares(near, np.ones(4)), [0.25, 0.25])
    np.testing.assert_allclose(shares(near, np.ones(4), cutoff_nm=0.27), [0.25, 0.5])


def test_flat_structure_is_its_own_mirror_image():
    assert mirror_image_distance(STRAND) < 1e-6
    assert mirror_image_distance(HELIX) > 0.2


def test_chunks_and_order_change_nothing(monkeypatch):
    frames = frames_of([HELIX, MIRRORED, STRAND] * 4)
    whole = native_distances(frames, HELIX)
    monkeypatch.setattr(module, "CHUNK", 5)
    np.testing.assert_allclose(native_distances(frames, HELIX).native_nm, whole.native_nm)
    turned = native_distances(frames.take(slice(None, None, -1)), HELIX)
    np.testing.assert_allclose(turned.mirror_nm[::-1], whole.mirror_nm)


def test_other_structures_and_no_cutoff_are_refused():
    frames = frames_of([HELIX])
    with pytest.raises(InputError, match="9 beads and the frames have 10"):
        native_distances(frames, HELIX[:9])
    with pytest.raises(InputError, match="complete structure"):
        native_distances(frames, HELIX * np.nan)
    distances = native_distances(frames, HELIX)
    with pytest.raises(InputError, match="cutoff_nm is -1"):
        shares(distances, np.ones(1), -1.0)
