"""Contacts against mdtraj, weightings against plain averages, and what counts as a pair."""

import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajgen.analysis import contacts as module
from trajgen.analysis.contacts import (
    Contacts,
    contact_counts,
    contact_indicators,
    contact_pairs,
)
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError


def alpha_helix(n: int) -> np.ndarray:
    """Return C-alpha beads of an ideal helix: radius 0.23 nm, 100° and 0.15 nm a residue."""
    turn = np.radians(100) * np.arange(n)
    return np.stack([0.23 * np.cos(turn), 0.23 * np.sin(turn), 0.15 * np.arange(n)], axis=1)


@pytest.fixture
def helix() -> BeadFrames:
    noise = (
        np.random.default_rng(0).normal(size=(40, 12, 3)) * np.linspace(0, 0.2, 40)[:, None, None]
    )
    positions = (alpha_helix(12) + noise).astype(np.float32)
    return BeadFrames(BeadTopology.from_residues(("ALA",) * 12), positions, np.zeros(40, np.int64))


@pytest.mark.parametrize("cutoff_nm", [0.6, 0.8])
def test_agree_with_mdtraj(helix, cutoff_nm):
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for name in helix.topology.residues:
        topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue(name, chain))
    trajectory = mdtraj.Trajectory(helix.positions_nm, topology)
    distances, pairs = mdtraj.compute_contacts(trajectory, scheme="ca")
    np.testing.assert_array_equal(contact_pairs(helix.topology), pairs)
    found = contact_indicators(helix, cutoff_nm)
    np.testing.assert_array_equal(found.values, distances < cutoff_nm)
    assert found.values.any()
    assert not found.values.all()


def test_ideal_helix_touches_up_to_its_fourth_neighbour(helix):
    first = contact_indicators(helix.take(slice(1)), 0.65).values[0]
    separation = np.diff(contact_pairs(helix.topology), axis=1)[:, 0]
    np.testing.assert_array_equal(first, separation <= 4)


def test_chunks_change_nothing(helix, monkeypatch):
    whole = contact_indicators(helix)
    monkeypatch.setattr(module, "CHUNK", 7)
    np.testing.assert_array_equal(contact_indicators(helix).values, whole.values)


def test_labels_name_the_pairs_and_chains_all_meet(helix):
    assert contact_indicators(helix).labels[0] == "ALA1-ALA4"
    topology = BeadTopology(
        names=("CA",) * 12,
        residues=("ALA",) * 12,
        residue_numbers=(*range(1, 7), *range(1, 7)),
        chains=(0,) * 6 + (1,) * 6,
        bonds=(),
    )
    pairs = contact_pairs(topology).tolist()
    assert [5, 6] in pairs
    assert [0, 2] not in pairs
    assert len(pairs) == 36 + 2 * 6
    two = BeadFrames(topology, helix.positions_nm, helix.segments)
    labels = contact_indicators(two).labels
    assert labels[pairs.index([5, 6])] == "0:ALA6:CA-1:ALA1:CA"


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_counts_are_weighted_sums_of_groups_in_any_order_and_chunks(seed):
    generator = np.random.default_rng(seed)
    values = generator.uniform(size=(30, 4)) < 0.4
    weights, groups = generator.uniform(0.1, 1, size=30), generator.integers(3, size=30)

    def counts(*parts):
        return sum(
            contact_counts(Contacts(("",) * 4, values[i], 0.8), weights[i], groups[i], 3)
            for i in parts
        )

    found = counts(np.arange(30))
    for group in range(3):
        inside = groups == group
        np.testing.assert_allclose(found[group], weights[inside] @ values[inside])
    order = generator.permutation(30)
    np.testing.assert_allclose(counts(order[:11], order[11:]), found)


def test_no_pair_is_no_column_and_no_cutoff_is_refused(helix):
    short = BeadTopology.from_residues(("ALA",) * 3)
    frames = BeadFrames(short, helix.positions_nm[:, :3], helix.segments)
    assert contact_indicators(frames).values.shape == (40, 0)
    with pytest.raises(InputError, match="cutoff_nm is 0"):
        contact_indicators(helix, 0.0)
