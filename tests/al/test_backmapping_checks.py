"""What the checks see in structures whose fault is known."""

import mdtraj
import numpy as np
import pytest

from al.backmapping.checks import Measures, bead_rmsd, judge
from al.backmapping.peptide_bonds import cis_among, peptide_bonds, trans_bonds
from al.backmapping.settings import CheckSettings
from al.molecule.build import build_structures, load_force_field
from al.molecule.settings import SystemSettings
from al.molecule.structure import atom_topology, closest_contact
from al.outcomes import BackmapOutcome
from trajgen.data.topology import AtomTopology

SOUND = Measures(
    bead_rmsd_nm=0.01, min_heavy_distance_nm=0.26, energy_kJ_per_mol=-100.0, strain_kJ_per_mol=8.0
)
TRANS, CIS = 180.0, 0.0


def peptide(tmp_path, sequence: str, omegas: list[float]) -> tuple[AtomTopology, np.ndarray]:
    settings = SystemSettings(
        name="peptide",
        sequence=sequence,
        caps=True,
        starts={"given": tuple((-120.0, 130.0, omega) for omega in omegas)},
    )
    structure = build_structures(settings, load_force_field(settings), tmp_path)["given"]
    return atom_topology(structure.topology), structure.positions_nm


def outcome(topology: AtomTopology, positions_nm: np.ndarray, known=(), **changes):
    measures = Measures(**{**vars(SOUND), **changes})
    trans = trans_bonds(topology, known)
    return judge(positions_nm, topology, trans, measures, CheckSettings())[0]


def cis_residues(topology: AtomTopology, positions_nm: np.ndarray) -> list[int]:
    cis = cis_among(trans_bonds(topology, ()), positions_nm)
    return [topology.atom_residues[bond[2]] for bond in cis]


def test_a_sound_structure_is_accepted(tmp_path):
    topology, positions = peptide(tmp_path, "ASP", [TRANS] * 3)
    assert cis_residues(topology, positions) == []
    assert outcome(topology, positions) == BackmapOutcome.ACCEPTED


def test_a_cis_bond_counts_unless_a_known_structure_has_it(tmp_path):
    topology, positions = peptide(tmp_path, "AS", [CIS, TRANS])
    assert topology.residues == ("ACE", "ALA", "SER", "NME")
    assert cis_residues(topology, positions) == [2]
    assert outcome(topology, positions) == BackmapOutcome.CIS_PEPTIDE
    assert outcome(topology, positions, known=[positions]) == BackmapOutcome.ACCEPTED


def test_a_cis_bond_before_proline_does_not_count(tmp_path):
    topology, positions = peptide(tmp_path, "AP", [CIS, TRANS])
    omega = [topology.index(*atom) for atom in ((1, "CA"), (1, "C"), (2, "N"), (2, "CA"))]
    assert tuple(omega) in peptide_bonds(topology)
    trajectory = mdtraj.Trajectory(positions[None], None)
    assert abs(mdtraj.compute_dihedrals(trajectory, [omega])[0, 0]) < 0.1
    assert cis_residues(topology, positions) == []


def test_the_bonds_of_caps_are_looked_at(tmp_path):
    topology, positions = peptide(tmp_path, "AA", [TRANS, CIS])
    assert cis_residues(topology, positions) == [3]


def test_a_mirror_image_has_the_wrong_chirality(tmp_path):
    topology, positions = peptide(tmp_path, "ASP", [TRANS] * 3)
    assert outcome(topology, -positions) == BackmapOutcome.CHIRALITY


def test_one_d_residue_is_found(tmp_path):
    topology, positions = peptide(tmp_path, "AAA", [TRANS] * 3)
    swapped = positions.copy()
    hydrogen, carbon = topology.index(2, "HA"), topology.index(2, "CB")
    swapped[[hydrogen, carbon]] = positions[[carbon, hydrogen]]
    found, reason = judge(swapped, topology, [], SOUND, CheckSettings())
    assert found == BackmapOutcome.CHIRALITY
    assert "ALA2" in reason or f"ALA{topology.residue_numbers[2]}" in reason


def test_a_clash_is_measured(tmp_path):
    topology, positions = peptide(tmp_path, "AAA", [TRANS] * 3)
    first, last = topology.index(1, "CB"), topology.index(3, "CB")
    crashed = positions.copy()
    crashed[last] = crashed[first] + [0.07, 0.0, 0.0]
    distance = closest_contact(topology, crashed)[2]
    assert distance == pytest.approx(0.07)
    assert outcome(topology, crashed, min_heavy_distance_nm=distance) == BackmapOutcome.CLASH


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bead_rmsd_nm": 0.3}, BackmapOutcome.TOO_FAR),
        ({"bead_rmsd_nm": float("nan")}, BackmapOutcome.TOO_FAR),
        ({"energy_kJ_per_mol": float("inf")}, BackmapOutcome.DIVERGED),
        ({"energy_kJ_per_mol": float("nan")}, BackmapOutcome.DIVERGED),
        ({"strain_kJ_per_mol": 1e4}, BackmapOutcome.DIVERGED),
        ({"min_heavy_distance_nm": float("nan")}, BackmapOutcome.CLASH),
    ],
)
def test_numbers_beyond_the_limits_and_nan_pass_nothing(tmp_path, changes, expected):
    topology, positions = peptide(tmp_path, "A", [TRANS])
    assert outcome(topology, positions, **changes) == expected


def test_coordinates_that_are_not_finite_have_diverged(tmp_path):
    topology, positions = peptide(tmp_path, "A", [TRANS])
    positions[0] = np.nan
    assert outcome(topology, positions) == BackmapOutcome.DIVERGED


def test_bead_rmsd_sees_no_motion_but_sees_a_mirror():
    rng = np.random.default_rng(1)
    beads = rng.normal(size=(6, 3))
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert bead_rmsd(beads @ turn.T + 3.0, beads) == pytest.approx(0.0, abs=1e-9)
    assert bead_rmsd(-beads, beads) > 0.1
