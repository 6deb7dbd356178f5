"""Laws of the selection: every frame is accounted for, and each rule picks what it says."""

import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al.outcomes import Rejection
from al.selection.scores import (
    histogram_gap,
    nearest_rmsd_nm,
    own_nearest_rmsd_nm,
    score_candidates,
)
from al.selection.select import classify, pick_diverse, select_frames
from al.selection.settings import SelectionSettings
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology
from trajgen.residues import parse_sequence

TOPOLOGY = BeadTopology.from_residues(parse_sequence("GYDPETGTWG"))


def chains(n: int, seed: int, noise: float = 0.02) -> np.ndarray:
    """Return conformations around a helix-like C-alpha chain, nm."""
    turn = np.arange(10) * np.deg2rad(100)
    helix = np.stack([0.23 * np.cos(turn), 0.23 * np.sin(turn), 0.15 * np.arange(10)], axis=1)
    noise_nm = np.random.default_rng(seed).normal(size=(n, 10, 3)) * noise
    return (helix + noise_nm).astype(np.float32)


def frames(positions: np.ndarray, segments: np.ndarray | None = None) -> BeadFrames:
    if segments is None:
        segments = np.zeros(len(positions), dtype=np.int64)
    return BeadFrames(TOPOLOGY, positions, segments)


def test_nearest_rmsd_agrees_with_mdtraj() -> None:
    a, b = chains(20, 1), chains(30, 2)
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(10):
        topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue("GLY", chain))
    of_a, of_b = mdtraj.Trajectory(a, topology), mdtraj.Trajectory(b, topology)
    expected = np.stack([mdtraj.rmsd(of_b, of_a, frame) for frame in range(len(a))])
    distance, index = nearest_rmsd_nm(a, b)
    np.testing.assert_allclose(distance, expected.min(axis=1), atol=1e-4)
    assert (index == expected.argmin(axis=1)).mean() > 0.9  # equal but for ties in rounding


@given(n_bad=st.integers(0, 5), picks=st.integers(1, 8), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("rule", ["rmsd-min", "rmsd-hist", "rmsd-gap", "random"])
def test_every_candidate_is_chosen_or_counted(rule: str, n_bad: int, picks: int, seed: int) -> None:
    positions = chains(40, seed, 0.03)
    positions[:n_bad, 4:] += 5.0  # a broken chain
    known = frames(chains(20, 7), np.repeat([0, 1], 10))
    chosen_by = SelectionSettings(rule=rule, picks=picks, max_candidates=30)  # type: ignore[arg-type]
    sources = np.arange(40) % 2
    picked = select_frames(frames(positions), sources, known, chosen_by, seed)
    assert len(picked.chosen) + sum(picked.rejected.values()) == 40
    assert len(picked.chosen) == len(set(picked.chosen.tolist())) <= picks
    assert all(index >= n_bad for index in picked.chosen)
    again = select_frames(frames(positions), sources, known, chosen_by, seed)
    np.testing.assert_array_equal(picked.chosen, again.chosen)


def test_exploded_and_imploded_frames_are_named() -> None:
    known = frames(chains(5, 0))
    exploded, imploded, good = chains(3, 1)
    exploded[5:] += 4.0
    imploded *= 0.3
    settings = SelectionSettings(bond_margin_nm=0.2)  # the chains of this test are noisy
    labels = classify(np.stack([exploded, imploded, good]), known, settings)
    assert labels[0] == Rejection.EXPLODED
    assert labels[1] in (Rejection.IMPLODED, Rejection.BROKEN_BOND)
    assert labels[2] is None


def test_a_bond_that_the_data_never_has_is_refused() -> None:
    known = frames(chains(40, 0, 0.005))
    cis = chains(1, 1, 0.0)[0]
    step = cis[4] - cis[3]
    cis[4:] -= 0.25 * step  # a cis peptide bond: 0.29 nm in place of 0.38 nm
    labels = classify(np.stack([cis, chains(1, 2, 0.005)[0]]), known, SelectionSettings())
    assert labels == [Rejection.BROKEN_BOND, None]


def test_minimum_rmsd_takes_the_farthest_first() -> None:
    known = frames(chains(30, 3))
    positions = chains(50, 4, 0.025)
    picked = select_frames(
        frames(positions),
        np.zeros(50, dtype=np.int64),
        known,
        SelectionSettings(rule="rmsd-min", picks=1, duplicate_nm=0.0),
        seed=0,
    )
    distance, _ = nearest_rmsd_nm(positions, known.positions_nm)
    valid = [label is None for label in classify(positions, known, SelectionSettings())]
    assert picked.chosen[0] == np.flatnonzero(valid)[distance[valid].argmax()]


def test_near_duplicates_are_passed_over() -> None:
    positions = np.repeat(chains(3, 5, 0.05), 4, axis=0)
    alone = np.zeros(12, dtype=np.int64)
    taken, duplicates = pick_diverse(positions, np.arange(12.0), alone, 12, duplicate_nm=0.01)
    assert sorted(taken // 4) == [0, 1, 2]
    assert duplicates == 9


def test_generators_choose_in_turn() -> None:
    positions = chains(8, 5, 0.05)
    sources = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    scores = np.arange(8.0)[::-1].copy()
    taken, _ = pick_diverse(positions, scores, sources, 6, duplicate_nm=0.0)
    assert taken.tolist() == [0, 6, 1, 7, 2, 3]  # source 1 is exhausted after two turns
    alone, _ = pick_diverse(positions, scores, np.zeros(8, dtype=np.int64), 3, duplicate_nm=0.0)
    assert alone.tolist() == [0, 1, 2]


def test_gap_is_largest_where_only_the_simulation_is() -> None:
    simulated = np.array([0.1] * 10 + [0.9] * 10)
    known = np.array([0.1] * 20)
    gap = histogram_gap(simulated, known, bins=10)
    np.testing.assert_allclose(gap[:10], -0.5)
    np.testing.assert_allclose(gap[10:], 0.5)


def test_histogram_rules_choose_from_the_bin_with_the_largest_gap() -> None:
    known = frames(chains(40, 6, 0.01), np.repeat([0, 1], 20))
    near, far = chains(30, 8, 0.01), chains(10, 9, 0.08)
    positions = np.concatenate([near, far])
    distance, _ = nearest_rmsd_nm(positions, known.positions_nm)
    for rule in ("rmsd-hist", "rmsd-gap"):
        scores = score_candidates(rule, positions, distance, known, 20, seed=1)
        assert scores.argmax() >= 30


def test_own_nearest_leaves_the_own_segment_out() -> None:
    base = chains(2, 10, 0.1)
    positions = np.concatenate([np.repeat(base[:1], 5, axis=0), np.repeat(base[1:], 5, axis=0)])
    segments = np.repeat([0, 1], 5)
    assert own_nearest_rmsd_nm(frames(positions, segments)).min() > 0.05
    alone = own_nearest_rmsd_nm(frames(positions, np.zeros(10, dtype=np.int64)))
    assert alone.max() < 1e-4
