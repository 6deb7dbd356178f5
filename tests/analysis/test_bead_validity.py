"""Shares of bead frames that fail: made to fail one check each, and lost frames."""

from dataclasses import replace

import numpy as np
import pytest

from trajgen.analysis import bead_validity as module
from trajgen.analysis.bead_validity import bead_validity
from trajgen.data.records import BeadFrames, Rollouts
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.geometry.validity import ChainLimits

ZIGZAG = np.array([[0.34 * i, 0.17 * (i % 2), 0.0] for i in range(6)], dtype=np.float32)
TOPOLOGY = BeadTopology.from_residues(("GLY", "TYR", "ASP", "PRO", "GLU", "THR"))


def frames_of(*positions: np.ndarray, **fields) -> BeadFrames:
    stack = np.stack(positions).astype(np.float32)
    return BeadFrames(TOPOLOGY, stack, np.zeros(len(stack), dtype=np.int64), **fields)


def stretched() -> np.ndarray:
    positions = ZIGZAG.copy()
    positions[3:, 0] += 0.2
    return positions


def exploded() -> np.ndarray:
    positions = ZIGZAG.copy()
    positions[3:, 0] += 5
    return positions


def folded_onto_itself() -> np.ndarray:
    """Return a chain with its ends 0.15 nm apart and all bonds whole."""
    angle = np.arange(6) * 2 * np.pi / 5.6
    radius = 0.19 / np.sin(np.pi / 5.6)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], axis=1)
    return ring.astype(np.float32)


def test_each_fault_fails_its_own_check():
    found = bead_validity(frames_of(ZIGZAG, stretched(), exploded(), folded_onto_itself()))
    assert found.bond.tolist() == [False, True, True, False]
    assert found.explosion.tolist() == [False, False, True, False]
    assert found.clash.tolist() == [False, False, False, True]
    assert found.valid.tolist() == [True, False, False, False]
    assert found.counts() == {"bond": 2, "clash": 1, "explosion": 1, "lost": 0}
    values = {name: share.value for name, share in found.shares().items()}
    assert values == {"bond": 0.5, "clash": 0.25, "explosion": 0.25, "any": 0.75, "lost": 0.0}


def test_shares_use_weights():
    weights = np.array([1.0, 3.0])
    found = bead_validity(frames_of(ZIGZAG, stretched(), weights=weights))
    assert found.shares()["bond"].value == pytest.approx(0.75)
    assert found.counts()["bond"] == 1


def test_lost_frames_are_a_share_of_all():
    positions = np.stack([np.stack([ZIGZAG] * 4)] * 2)
    alive = np.array([[True] * 4, [True, False, False, False]])
    positions[~alive] = np.nan
    rollouts = Rollouts(TOPOLOGY, positions, alive, 1.0)
    found = bead_validity(rollouts.to_frames(), n_lost=rollouts.n_lost)
    assert found.shares()["lost"].value == pytest.approx(3 / 8)
    assert found.shares()["any"].value == 0
    assert found.counts()["lost"] == 3


def test_all_frames_lost_is_a_result():
    shares = bead_validity(frames_of(ZIGZAG).take(slice(0, 0)), n_lost=5).shares()
    assert shares["lost"].value == 1
    assert shares["bond"].value is None
    assert "no frame" in shares["bond"].reason
    empty = bead_validity(frames_of(ZIGZAG).take(slice(0, 0))).shares()["lost"]
    assert (empty.value, empty.reason) == (None, "there is no frame to look at")


def test_bonds_are_those_of_the_topology():
    """Two chains side by side: the gap between them is no bond, and no explosion."""
    positions = ZIGZAG.copy()
    positions[3:, 1] += 2
    frames = frames_of(positions)
    cut = replace(TOPOLOGY, bonds=tuple(b for b in TOPOLOGY.bonds if b != (2, 3)))
    assert bead_validity(frames).explosion.all()
    assert bead_validity(replace(frames, topology=cut)).valid.all()


def test_real_starts_are_valid(shared_data):
    coords = np.load(
        shared_data / "chignolin_ca_forces" / "chignolin_ca_coords_first13000.npy", mmap_mode="r"
    )[::20]
    positions = (coords * 0.1).astype(np.float32)
    topology = BeadTopology.from_residues(("GLY",) * positions.shape[1])
    frames = BeadFrames(topology, positions, np.zeros(len(positions), dtype=np.int64))
    assert bead_validity(frames).valid.all()


def test_chunks_and_order_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    noisy = frames_of(*(ZIGZAG + generator.normal(0, 0.04, size=(50, 6, 3))))
    whole = bead_validity(noisy)
    assert 0 < whole.valid.sum() < 50
    order = generator.permutation(50)
    np.testing.assert_array_equal(bead_validity(noisy.take(order)).valid, whole.valid[order])
    monkeypatch.setattr(module, "CHUNK", 7)
    np.testing.assert_array_equal(bead_validity(noisy).valid, whole.valid)


def test_other_beads_need_limits_of_their_own():
    frames = frames_of(ZIGZAG)
    other = replace(frames, topology=replace(TOPOLOGY, names=("CA", "CB") * 3))
    with pytest.raises(InputError, match="give limits"):
        bead_validity(other)
    assert bead_validity(other, ChainLimits()).valid.all()
    with pytest.raises(InputError, match="n_lost is -1"):
        bead_validity(frames, n_lost=-1)
