"""Ramachandran regions against crystal structures, and the class of a residue."""

import numpy as np
import pytest

from trajgen.analysis.ramachandran import BOXES, is_allowed, outliers, residue_class
from trajgen.data.structures import read_structure
from trajgen.data.torsions import find_backbone


def test_coarse_regions_hold_what_crystal_structures_show():
    """The histogram of MDAnalysis is of all residues of the 500 structures of Lovell et al."""
    files = pytest.importorskip("MDAnalysis.analysis.data.filenames")
    counts = np.load(files.Rama_ref)  # psi in rows, phi in columns, 4 degrees wide
    centres = np.radians(np.arange(-178, 180, 4.0))
    phi, psi = np.meshgrid(centres, centres)
    general = is_allowed(phi, psi, "general")
    glycine = is_allowed(phi, psi, "glycine")
    share = counts / counts.sum()
    assert share[general].sum() > 0.93  # the rest is mostly glycine
    assert share[general | glycine].sum() > 0.99
    assert general.mean() < 0.5
    assert is_allowed(phi, psi, "proline").mean() < is_allowed(phi, psi, "pre-proline").mean()
    assert is_allowed(phi, psi, "pre-proline").mean() < general.mean() < glycine.mean()


def test_map_of_glycine_is_symmetric():
    phi, psi = np.random.default_rng(0).uniform(-np.pi, np.pi, size=(2, 2000))
    np.testing.assert_array_equal(
        is_allowed(phi, psi, "glycine"), is_allowed(-phi, -psi, "glycine")
    )


@pytest.mark.parametrize("of_class", sorted(BOXES))
def test_canonical_structures_are_allowed(of_class):
    angles = np.radians([[-63.0, -43.0], [-75.0, 150.0]])  # alpha helix, polyproline II
    assert is_allowed(angles[:, 0], angles[:, 1], of_class).all()
    assert not is_allowed(np.zeros(1), np.zeros(1), of_class)[0]
    seam = np.radians([[-70.0, 180.0], [-70.0, -180.0]])
    assert is_allowed(seam[:, 0], seam[:, 1], of_class).all()


def test_classes_follow_the_next_residue(shared_data):
    solute, _ = read_structure(shared_data / "fastfolder_pdb" / "cln025_uncapped_allatom.pdb")
    topology = solute.topology  # YYDPETGTWY
    classes = [residue_class(topology, r, r + 1 if r < 9 else None) for r in range(10)]
    assert classes[2:4] == ["pre-proline", "proline"]
    assert classes[6] == "glycine"
    assert set(classes[:2] + classes[4:6] + classes[7:]) == {"general"}


def test_each_residue_is_judged_by_its_own_class(shared_data):
    solute, _ = read_structure(shared_data / "fastfolder_pdb" / "cln025_uncapped_allatom.pdb")
    torsions = find_backbone(solute.topology)
    degrees = {"phi": 100.0, "psi": -170.0}  # for glycine alone
    angles = np.radians([[degrees[torsion.name] for torsion in torsions]])
    found = outliers(solute.topology, torsions, angles)
    assert found.shape == (1, 8)  # the ends lack phi or psi
    assert np.flatnonzero(~found[0]).tolist() == [5]  # the seventh residue
