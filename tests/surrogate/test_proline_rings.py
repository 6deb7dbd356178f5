"""Rings of proline: closed whatever is asked, with the pucker that is asked, else left alone."""

import math

import mdtraj
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_heavy_atoms import heavy, made

from trajgen.surrogate.heavy_atoms import HeavyAtoms, HeavyGeometry

CHI = st.floats(-math.pi, math.pi, allow_nan=False)


@pytest.fixture(scope="module")
def chignolin(shared_data) -> tuple[HeavyGeometry, torch.Tensor]:
    loaded = mdtraj.load(str(shared_data / "fastfolder_pdb" / "chignolin_1uao.pdb"))[:1]
    atoms, positions = heavy(loaded.topology, loaded.xyz)
    return HeavyAtoms.of(atoms).measure(positions), positions


def with_chis(geometry: HeavyGeometry, positions: torch.Tensor, chis: torch.Tensor) -> torch.Tensor:
    """Return the atoms built with these chi1 and chi2, radian, in the only ring."""
    torsions = geometry.atoms.torsions(positions)
    torsions = torsions.expand(len(chis), -1, -1).clone()
    torsions[:, geometry.atoms.rings.residues, 3:5] = chis[:, None].to(torsions)
    backbone = positions[:, geometry.atoms.backbone].expand(len(chis), -1, -1, -1)
    return geometry.build(backbone, torsions)


def test_the_prolines_of_a_molecule_are_found(shared_data):
    loaded = mdtraj.load(str(shared_data / "fastfolder_pdb" / "trpcage_2jof.pdb"))[:1]
    atoms, _ = heavy(loaded.topology, loaded.xyz)
    rings = HeavyAtoms.of(atoms).rings
    assert atoms.residues.count("PRO") == len(rings.residues) == 4
    found = [[atoms.names[atom] for atom in ring] for ring in rings.atoms.tolist()]
    assert found == [["N", "CA", "CB", "CG", "CD"]] * 4
    assert not len(HeavyAtoms.of(made("GYDW")[0]).rings.residues)


@given(chi1=CHI, chi2=CHI)
def test_the_ring_closes_with_the_ratio_of_its_torsions(chignolin, chi1: float, chi2: float):
    geometry, positions = chignolin
    asked = torch.tensor([[chi1, chi2]], dtype=torch.float64)
    if asked.abs().max() < 1e-3:
        return  # a flat ring says nothing of how it should pucker
    built = with_chis(geometry, positions, asked)
    own = geometry.atoms.rings.lengths_nm(positions)
    torch.testing.assert_close(geometry.atoms.rings.lengths_nm(built), own, rtol=0, atol=1e-7)
    found = geometry.atoms.torsions(built)[0, geometry.atoms.rings.residues[0], 3:5]
    size = float(found.norm())
    assert math.radians(10) < size < math.radians(80)
    np.testing.assert_allclose(found / size, asked[0] / asked.norm(), atol=1e-9)


def test_a_ring_without_a_pucker_is_left_flat(chignolin):
    geometry, positions = chignolin
    built = with_chis(geometry, positions, torch.zeros(1, 2, dtype=torch.float64))
    found = geometry.atoms.torsions(built)[0, geometry.atoms.rings.residues[0], 3:5]
    assert found.abs().max() < 1e-9


def test_in_single_precision_far_from_the_origin_rings_close_as_well(chignolin):
    geometry, positions = chignolin
    far = (positions + 20.0).float()
    chis = torch.tensor([[0.6, -0.4], [-0.5, 0.6], [2.0, 0.1]])
    single = HeavyGeometry(
        geometry.atoms, geometry.local_nm.float(), geometry.backbone_nm.float(),
        geometry.rings_nm.float(),
    )  # fmt: skip
    built = with_chis(single, far, chis)
    away = geometry.atoms.rings.lengths_nm(built) - geometry.rings_nm
    assert away.abs().max() < 2e-5
