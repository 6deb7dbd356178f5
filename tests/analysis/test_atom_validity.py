"""Validity of structures that are known to be good, that are known to be bad, and that we break."""

from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from trajgen.analysis import atom_validity as module
from trajgen.analysis.atom_validity import CHECKS, RADII_NM, AtomLimits, atom_validity
from trajgen.data.records import AtomFrames
from trajgen.data.structures import solute_of
from trajgen.data.topology import AtomTopology
from trajgen.errors import InputError


def read(path: Path) -> AtomFrames:
    loaded = mdtraj.load(str(path))
    solute = solute_of(loaded.topology, path)
    positions = loaded.xyz[:, solute.indices].astype(np.float32)
    return AtomFrames(solute.topology, positions, np.arange(len(positions)))


def stacked(frames: AtomFrames, positions: list[np.ndarray]) -> AtomFrames:
    stack = np.stack(positions).astype(np.float32)
    return replace(frames, positions_nm=stack, segments=np.arange(len(stack)))


@pytest.fixture
def chignolin(shared_data) -> AtomFrames:
    return read(shared_data / "fastfolder_pdb" / "cln025_uncapped_allatom.pdb")


def failing(frames: AtomFrames) -> list[set[str]]:
    """Return the names of the checks that each frame fails."""
    validity = atom_validity(frames)
    columns = {name: validity.failed(name) for name in CHECKS}
    return [{name for name in CHECKS if columns[name][i]} for i in range(frames.n_frames)]


@pytest.mark.parametrize("name", ["trpcage_2jof", "chignolin_1uao", "homeodomain_1enh"])
def test_known_structures_are_sound(shared_data, name):
    validity = atom_validity(read(shared_data / "fastfolder_pdb" / f"{name}.pdb"))
    shares = validity.term_shares()
    for check in ("explosion", "bond", "chirality", "peptide plane", "cis peptide"):
        assert validity.counts()[check] == 0
    assert shares["ramachandran"].value < 0.03
    assert shares["clash"].value < 1e-3


def test_crystal_and_minimised_structures_pass_all_checks(shared_data):
    for name in ("trpcage_2jof", "chignolin_cln025", "cln025_capped_allatom"):
        validity = atom_validity(read(shared_data / "fastfolder_pdb" / f"{name}.pdb"))
        assert validity.valid.all()
        assert all(share.value == 0 for share in validity.shares().values())


@pytest.mark.parametrize("name", ["cln_bad_sample", "cln_bad_sample_hpacked"])
def test_bad_samples_fail(shared_data, name):
    (found,) = failing(read(shared_data / "fastfolder_pdb" / f"{name}.pdb"))
    assert {"bond", "clash", "ramachandran"} <= found


def test_dynamics_fails_rarely(shared_data):
    folder = shared_data / "nnqq_timewarp"
    frames = read(folder / "long_2olx-traj-state0.pdb")
    positions = np.load(folder / "long_2olx-traj-arrays.npz")["positions"]
    validity = atom_validity(stacked(frames, list(positions)))
    assert validity.valid.mean() > 0.95
    assert validity.checks["bond"].n_terms == len(frames.topology.bonds)


def test_mirror_image_is_all_d(chignolin):
    mirrored = stacked(chignolin, [chignolin.positions_nm[0] * [1, 1, -1]])
    check = atom_validity(mirrored).checks["chirality"]
    assert check.failures.tolist() == [check.n_terms] == [9]
    assert failing(mirrored) == [{"chirality", "ramachandran"}]


def test_one_swapped_centre_is_counted_once(chignolin):
    topology, positions = chignolin.topology, chignolin.positions_nm[0].copy()
    beta, hydrogen = topology.index(4, "CB"), topology.index(4, "HA")
    positions[[beta, hydrogen]] = positions[[hydrogen, beta]]
    assert atom_validity(stacked(chignolin, [positions])).checks["chirality"].failures == [1]


def test_stretched_bond_and_explosion_are_told_apart(chignolin):
    end = chignolin.topology.index(0, "H2")  # a hydrogen that only its bond holds
    start = chignolin.positions_nm[0]
    along = start[end] - start[chignolin.topology.index(0, "N")]
    positions = [start.copy() for _ in range(4)]
    for frame, factor in enumerate((0.1, 0.5, 3.0, -0.5)):
        positions[frame][end] += factor * along
    found = failing(stacked(chignolin, positions))
    assert found == [set(), {"bond"}, {"bond", "explosion"}, {"bond"}]


def test_clash_of_two_atoms_is_found(chignolin):
    topology, positions = chignolin.topology, chignolin.positions_nm[0].copy()
    oxygen, ring = topology.index(9, "OH"), topology.index(4, "CD")
    positions[oxygen] = positions[ring] + np.float32([0.1, 0.1, 0.1])
    found = atom_validity(stacked(chignolin, [chignolin.positions_nm[0], positions]))
    assert found.checks["clash"].failures[0] == 0
    assert found.checks["clash"].failures[1] > 0


def test_clashes_agree_with_all_pairs(shared_data, monkeypatch):
    frames = read(shared_data / "fastfolder_pdb" / "chignolin_1uao.pdb")
    topology = frames.topology
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.03, size=frames.positions_nm.shape)
    frames = replace(frames, positions_nm=(frames.positions_nm + noise).astype(np.float32))
    n = topology.n_atoms
    first, second = np.array(topology.bonds).T
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(n, n))
    far = shortest_path(graph, directed=False, unweighted=True) > 3
    wanted = np.zeros(frames.n_frames, dtype=int)
    n_terms = 0
    for i in range(n):
        for j in range(i + 1, n):
            a, b = topology.elements[i], topology.elements[j]
            if "H" in (a, b) or not far[i, j]:
                continue
            overlap = 0.06 if {a, b} <= {"N", "O"} else 0.04
            gap = np.linalg.norm(
                frames.positions_nm[:, i].astype(float) - frames.positions_nm[:, j], axis=1
            )
            wanted += gap < RADII_NM[a] + RADII_NM[b] - overlap
            n_terms += 1
    assert wanted.min() < wanted.max()
    for atoms in (module.ATOMS_AT_ONCE, 300):
        monkeypatch.setattr(module, "ATOMS_AT_ONCE", atoms)
        check = atom_validity(frames).checks["clash"]
        assert check.n_terms == n_terms
        np.testing.assert_array_equal(check.failures, wanted)


def turned(frames: AtomFrames, residue: int, degrees: float) -> np.ndarray:
    """Return positions with all behind one peptide bond turned about it."""
    topology, positions = frames.topology, frames.positions_nm[0].astype(float)
    carbon, nitrogen = topology.index(residue, "C"), topology.index(residue + 1, "N")
    axis = positions[nitrogen] - positions[carbon]
    axis /= np.linalg.norm(axis)
    angle = np.radians(degrees)
    behind = np.array(topology.atom_residues) > residue
    moved = positions[behind] - positions[carbon]
    positions[behind] = (
        positions[carbon]
        + moved * np.cos(angle)
        + np.cross(axis, moved) * np.sin(angle)
        + (moved @ axis)[:, None] * axis * (1 - np.cos(angle))
    )
    return positions


def test_twisted_and_cis_peptides(chignolin):
    rotated = [turned(chignolin, 6, 60), turned(chignolin, 6, 180), turned(chignolin, 2, 180)]
    validity = atom_validity(stacked(chignolin, rotated))
    assert chignolin.topology.residues[3] == "PRO"
    assert validity.failed("peptide plane").tolist() == [True, False, False]
    assert validity.failed("cis peptide").tolist() == [False, True, False]
    assert validity.cis_proline.failures.tolist() == [0, 0, 1]
    assert validity.cis_proline.n_terms == 1
    assert validity.term_shares()["cis proline"].value == pytest.approx(1 / 3)
    assert not validity.failed("chirality").any()


def test_shares_use_weights(chignolin):
    start = chignolin.positions_nm[0]
    frames = replace(stacked(chignolin, [start, start * [1, 1, -1]]), weights=np.array([3.0, 1.0]))
    validity = atom_validity(frames)
    assert validity.shares()["chirality"].value == pytest.approx(0.25)
    assert validity.shares()["any"].value == pytest.approx(0.25)
    assert validity.counts()["chirality"] == 1
    assert validity.valid.tolist() == [True, False]


def test_order_of_frames_changes_nothing(shared_data):
    frames = read(shared_data / "fastfolder_pdb" / "1l2y.pdb")
    order = np.random.default_rng(0).permutation(frames.n_frames)
    validity, shuffled = atom_validity(frames), atom_validity(frames.take(order))
    for name in CHECKS:
        np.testing.assert_array_equal(validity.failed(name)[order], shuffled.failed(name))


def test_what_cannot_be_checked_has_a_reason(shared_data):
    validity = atom_validity(read(shared_data / "fastfolder_pdb" / "chignolin_cln025_ca.pdb"))
    shares = validity.shares()
    assert shares["bond"].value is None
    assert "no bonds" in shares["bond"].reason
    assert "lack one of" in shares["chirality"].reason
    assert shares["clash"].value == 0
    assert "not checked: explosion, bond, chirality" in shares["any"].reason
    with pytest.raises(InputError, match="'bonds' is not known"):
        validity.failed("bonds")


def test_unknown_elements_are_left_out_and_counted():
    topology = AtomTopology(("FE", "N"), ("Fe", "N"), (0, 0), ("HEM",), (1,), (0,), bonds=((0, 1),))
    positions = np.zeros((1, 2, 3), dtype=np.float32)
    positions[0, 1, 0] = 0.2
    bond = atom_validity(AtomFrames(topology, positions, np.zeros(1, dtype=np.int64))).checks[
        "bond"
    ]
    assert (bond.n_terms, bond.n_left_out) == (0, 1)
    assert "without a typical length" in bond.reason


def test_no_frame_is_no_error(chignolin):
    share = atom_validity(chignolin.take(slice(0, 0))).shares()["bond"]
    assert share.value is None
    assert "no frame" in share.reason


def test_limits_are_used(chignolin):
    strict = atom_validity(chignolin, AtomLimits(bond_tolerance_nm=-0.01))
    assert strict.failed("bond").all()
