"""The benchmark's numbers against a plain transcription of its definitions, and its flaws."""

from dataclasses import replace

import mdtraj
import numpy as np
import ot
import pytest
from deeptime.decomposition import TICA
from scipy.stats import gaussian_kde

from trajgen.analysis import legacy as module
from trajgen.analysis.legacy import LegacyStrides, legacy_numbers, legacy_sample_frames
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError

NUMBERS = ("tica", "reaction_coordinate", "bond", "angle", "dihedral")


def strides_of(lag: int, tica: int, internal: int, end_to_end: int, values: int) -> LegacyStrides:
    return LegacyStrides(
        lag_frames=lag,
        reference_tica=tica,
        reference_internal=internal,
        reference_end_to_end=end_to_end,
        sample_values=values,
    )


SMALL = strides_of(5, 2, 3, 4, 7)
EVERY = strides_of(5, 1, 1, 1, 1)


def transport(a: np.ndarray, b: np.ndarray, axes: list[np.ndarray]) -> float:
    """Return the transport of the densities of two sets on a grid, with POT."""
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
    p, q = (gaussian_kde(x)(grid) for x in (a, b))
    return ot.emd2(p / p.sum(), q / q.sum(), ot.dist(grid.T, grid.T, metric="euclidean"))


def transcription(samples: np.ndarray, reference: np.ndarray, s: LegacyStrides) -> list[float]:
    """Return the five numbers of a single chain by mdtraj, deeptime and POT, frames as given."""
    n = samples.shape[1]
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(n):
        topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue("ALA", chain))
    mine, theirs = (mdtraj.Trajectory(x, topology) for x in (samples, reference))
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    features = mdtraj.compute_distances(theirs, pairs).astype(np.float64)
    tica = TICA(lagtime=s.lag_frames, dim=None).fit(features).fetch_model()
    a = tica.transform(mdtraj.compute_distances(mine, pairs).astype(np.float64))[:, :2].T
    b = tica.transform(features)[:: s.reference_tica, :2].T
    both = np.concatenate([a, b], axis=1)
    low, high = both.min(axis=1), both.max(axis=1)
    edges = zip(low - 0.1 * (high - low), high + 0.1 * (high - low), strict=True)
    numbers = [transport(a, b, [np.linspace(*edge, 25) for edge in edges])]

    a, b = (mdtraj.compute_distances(x, [[0, n - 1]])[:, 0] for x in (mine, theirs))
    axis = np.linspace(0, max(a.max(), b.max()), 100)
    numbers.append(transport(a, b[:: s.reference_end_to_end], [axis]))

    for compute, k in (
        (mdtraj.compute_distances, 2),
        (mdtraj.compute_angles, 3),
        (mdtraj.compute_dihedrals, 4),
    ):
        terms = np.arange(n - k + 1)[:, None] + np.arange(k)
        a = compute(mine, terms).flatten()[:: s.sample_values]
        b = compute(theirs[:: s.reference_internal], terms).flatten()
        numbers.append(transport(a, b, [np.linspace(b.min(), b.max(), 100)]))
    return numbers


def values_of(*args) -> list[float]:
    numbers = legacy_numbers(*args)
    assert all(getattr(numbers, name).reason is None for name in NUMBERS)
    return [getattr(numbers, name).value for name in NUMBERS]


@pytest.fixture(scope="module")
def reference(fluctuating) -> BeadFrames:
    return fluctuating(3, 150, seed=1)


@pytest.fixture(scope="module")
def samples(fluctuating) -> BeadFrames:
    return fluctuating(4, 60, seed=2, shift=0.7)


@pytest.mark.parametrize("strides", [SMALL, EVERY])
def test_agree_with_a_transcription(samples, reference, strides, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 50)
    kept = samples.positions_nm.reshape(4, 60, 6, 3)[:, 5:-1].reshape(-1, 6, 3)
    wanted = transcription(kept, reference.positions_nm, strides)
    np.testing.assert_allclose(values_of(samples, reference, strides), wanted, rtol=2e-4)


def test_units_and_defaults_are_those_of_the_benchmark(samples, reference):
    numbers = legacy_numbers(samples, reference, SMALL)
    units = [getattr(numbers, name).unit for name in NUMBERS]
    assert units == ["TIC units", "nm", "nm", "rad", "rad"]
    assert LegacyStrides() == strides_of(20, 10, 50, 1000, 30)


def test_first_tenth_and_last_frame_of_each_trajectory_are_left_out(samples):
    interleaved = np.argsort(np.tile(np.arange(60), 4), kind="stable")
    for frames in (samples, samples.take(interleaved)):
        kept = legacy_sample_frames(frames).positions_nm
        wanted = samples.positions_nm.reshape(4, 60, 6, 3)[:, 5:-1].reshape(-1, 6, 3)
        np.testing.assert_array_equal(kept, wanted)
    short = samples.take(samples.segments == 0).take(slice(19))
    assert legacy_sample_frames(short).n_frames == 19


def test_identical_sets_have_no_distance(samples):
    single = replace(samples, segments=np.arange(samples.n_frames))
    np.testing.assert_allclose(values_of(single, single, EVERY), 0, atol=1e-12)


def ten_beads(bonds_nm: np.ndarray) -> BeadFrames:
    """Return a bent zigzag of ten beads for each row of nine bond lengths."""
    zigzag = np.array([[0.6, 0.8 * (-1) ** i, 0.1 * (i % 3)] for i in range(9)])
    steps = bonds_nm[:, :, None] * zigzag / np.linalg.norm(zigzag, axis=1, keepdims=True)
    positions = np.cumsum(np.pad(steps, ((0, 0), (1, 0), (0, 0))), axis=1).astype(np.float32)
    topology = BeadTopology.from_residues(("ALA",) * 10)
    return BeadFrames(topology, positions, np.arange(len(bonds_nm)))


def test_of_nine_bonds_only_three_are_seen():
    """Flaw 1: a wrong bond 1 is invisible and a wrong bond 3 is not."""
    bonds = np.random.default_rng(0).normal(0.38, 0.005, size=(900, 9))
    reference = ten_beads(bonds)
    found = {}
    for wrong in (None, 1, 2, 4, 5, 7, 8, 0, 3, 6):
        changed = bonds.copy()
        if wrong is not None:
            changed[:, wrong] += 0.006
        strides = strides_of(5, 1, 1, 1, 30)
        found[wrong] = legacy_numbers(ten_beads(changed), reference, strides).bond.value
    unseen = [found[bond] for bond in (1, 2, 4, 5, 7, 8)]
    np.testing.assert_allclose(unseen, found[None], rtol=1e-4)
    assert min(found[bond] for bond in (0, 3, 6)) > 1.5 * found[None]


def test_chains_that_came_apart_score_well():
    """Flaw 2: half of the samples at ten times the bond length are dropped, not counted."""
    generator = np.random.default_rng(1)
    bonds = generator.normal(0.38, 0.005, size=(400, 9))
    broken = bonds.copy()
    broken[::2] *= generator.uniform(8, 12, size=(200, 9))
    found = legacy_numbers(ten_beads(broken), ten_beads(bonds), EVERY).bond.value
    spread = np.ptp(bonds)
    assert found < spread
    assert np.abs(broken - bonds).mean() > 20 * spread


def test_stray_frame_changes_the_grid_for_all(samples, reference):
    """Flaw 3: of 300 frames one that exploded moves the number of TICA by more than its share."""
    stray = samples.positions_nm.copy()
    stray[30] *= 20
    found = legacy_numbers(replace(samples, positions_nm=stray), reference, EVERY).tica.value
    without = legacy_numbers(samples, reference, EVERY).tica.value
    assert found > 3 * without


def test_fewer_values_of_one_ensemble_have_a_distance():
    """Flaw 4: the same bonds, every 30th of them, are smoothed more."""
    quantiles = 0.38 + 0.005 * np.linspace(-1, 1, 1800)
    reference = ten_beads(np.tile(quantiles[:, None], (1, 9)))
    few, all_values = (
        legacy_numbers(reference, reference, strides_of(5, 1, 1, 1, stride)).bond.value
        for stride in (300, 1)
    )
    assert all_values < 1e-12
    assert few > 1e-4


def test_dihedrals_are_compared_on_a_line():
    """Flaw 6: turned over the seam by 0.2 rad, a dihedral is nearly 2π away."""
    generator = np.random.default_rng(3)
    turns = generator.normal(0, 0.02, size=300)

    def four_beads(dihedral: np.ndarray) -> BeadFrames:
        beads = np.zeros((len(dihedral), 4, 3))
        beads[:, 0, 0] = beads[:, 2:, 2] = 1.0
        beads[:, 3, 0], beads[:, 3, 1] = np.cos(dihedral), np.sin(dihedral)
        positions = beads.astype(np.float32)
        topology = BeadTopology.from_residues(("ALA",) * 4)
        return BeadFrames(topology, positions, np.arange(len(dihedral)))

    both_ends = np.where(np.arange(300) < 150, np.pi, -np.pi) + np.where(
        np.arange(300) < 150, -1, 1
    ) * (0.1 + np.abs(turns))
    one_end = np.pi - 0.1 - np.abs(turns)
    number = legacy_numbers(four_beads(one_end), four_beads(both_ends), EVERY).dihedral
    assert number.value > 2.5


def test_lagged_pairs_cross_trajectories(reference):
    """Flaw 7: where segments are cut changes nothing, in which order they are stacked does."""
    strides = strides_of(20, 1, 1, 1, 1)
    lone = replace(reference, segments=np.zeros(reference.n_frames, np.int64))
    samples = reference.take(slice(0, 19))
    found = legacy_numbers(samples, reference, strides).tica.value
    assert legacy_numbers(samples, lone, strides).tica.value == pytest.approx(found)
    cut = replace(reference, segments=(2 - reference.segments))
    assert legacy_numbers(samples, cut, strides).tica.value != pytest.approx(found, rel=1e-6)


def test_weights_count_for_samples_in_tica_only(samples, reference):
    """Flaw 10."""
    weights = np.random.default_rng(0).uniform(0, 1, size=samples.n_frames) ** 4
    plain = values_of(samples, reference, EVERY)
    weighted = values_of(replace(samples, weights=weights), reference, EVERY)
    assert weighted[0] != pytest.approx(plain[0], rel=1e-3)
    assert weighted[1:] == plain[1:]
    known = replace(reference, weights=np.linspace(0, 1, reference.n_frames))
    assert values_of(samples, known, EVERY) == plain


def test_what_cannot_be_computed_has_a_reason(samples, reference):
    numbers = legacy_numbers(samples.take(slice(0)), reference, EVERY)
    assert all(getattr(numbers, name).value is None for name in NUMBERS)
    assert "the sample set has 0 values" in numbers.bond.reason
    small = legacy_numbers(samples, reference.take(slice(30)), LegacyStrides())
    assert "pairs of frames 20 frames apart" in small.tica.reason
    assert "the reference has 1 values" in small.reaction_coordinate.reason
    still = BeadFrames(
        samples.topology, np.tile(samples.positions_nm[:1], (50, 1, 1)), np.arange(50)
    )
    assert "do not vary" in legacy_numbers(still, still, EVERY).tica.reason
    assert "do not vary" in legacy_numbers(still, reference, EVERY).reaction_coordinate.reason
    bonds = np.random.default_rng(0).normal(0.38, 0.005, size=(50, 9))
    far = legacy_numbers(ten_beads(bonds + 5), ten_beads(bonds), EVERY)
    assert "vanishes on the whole grid" in far.bond.reason
    weightless = replace(samples, weights=np.zeros(samples.n_frames))
    assert "weights of the sample set are zero" in (
        legacy_numbers(weightless, reference, EVERY).tica.reason
    )


def test_pair_of_beads_has_no_angle_and_no_plane(samples, reference):
    two = BeadTopology.from_residues(("ALA",) * 2)
    cut = [BeadFrames(two, f.positions_nm[:, :2], f.segments) for f in (samples, reference)]
    numbers = legacy_numbers(cut[0], cut[1], EVERY)
    assert "one slow coordinate only" in numbers.tica.reason
    assert numbers.bond.value == pytest.approx(numbers.reaction_coordinate.value, rel=0.2)
    assert "no value of this coordinate" in numbers.angle.reason


def test_longest_chain_is_the_reaction_coordinate(samples, reference):
    topology = BeadTopology(
        names=("CA",) * 6,
        residues=samples.topology.residues,
        residue_numbers=(1, 1, 2, 1, 2, 3),
        chains=(0, 1, 1, 2, 2, 2),
        bonds=((1, 2), (3, 4), (4, 5)),
    )
    three = BeadTopology.from_residues(samples.topology.residues[3:])
    split = [replace(f, topology=topology) for f in (samples, reference)]
    alone = [BeadFrames(three, f.positions_nm[:, 3:], f.segments) for f in (samples, reference)]
    found = [legacy_numbers(*pair, EVERY).reaction_coordinate.value for pair in (split, alone)]
    assert found[0] == found[1]


def test_other_molecule_is_refused(samples, reference):
    other = replace(samples, topology=BeadTopology.from_residues(("ALA",) * 6))
    with pytest.raises(InputError, match="the sample set"):
        legacy_numbers(other, reference)
