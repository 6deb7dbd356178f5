"""Heavy atoms from backbone and torsions: round trips, every residue, caps, and what is refused."""

from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch

from al.molecule.peptide import build_peptide, extended_backbone
from al.molecule.settings import CapSettings
from trajgen.data.structures import solute_of
from trajgen.data.topology import AtomTopology
from trajgen.data.torsions import atom_places
from trajgen.errors import InputError
from trajgen.geometry.rotations import random_rotations
from trajgen.surrogate.heavy_atoms import TORSIONS, HeavyAtoms, backbone_frames

STRUCTURES = (
    "trpcage_2jof", "homeodomain_1enh", "lambda_1lmb", "wwdomain_1pin", "chignolin_1uao",
    "cln025_uncapped_allatom", "cln025_capped_allatom", "alanine-dipeptide", "proteing_1mi0",
)  # fmt: skip
ALL = "ARNDCQEGHILKMFPSTWYV"
CAPPED = CapSettings(ace=True, nme=True)
FREE = CapSettings(ace=False, nme=False)


def heavy(topology: mdtraj.Topology, xyz: np.ndarray) -> tuple[AtomTopology, torch.Tensor]:
    solute = solute_of(topology, Path("test.pdb"))
    atoms, kept = solute.topology.without_hydrogens()
    return atoms, torch.from_numpy(xyz[:, solute.indices][:, kept].astype(np.float64))


def made(sequence: str, caps: CapSettings = FREE) -> tuple[AtomTopology, torch.Tensor]:
    structure = build_peptide(sequence, extended_backbone(sequence), caps)
    return heavy(mdtraj.Topology.from_openmm(structure.topology), structure.positions_nm[None])


def rebuilt(molecule: HeavyAtoms, positions_nm: torch.Tensor) -> torch.Tensor:
    geometry = molecule.measure(positions_nm)
    backbone_nm = positions_nm[:, molecule.backbone]
    return geometry.build(backbone_nm, molecule.torsions(positions_nm))


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_come_back_with_their_own_geometry(shared_data, name):
    loaded = mdtraj.load(str(shared_data / "fastfolder_pdb" / f"{name}.pdb"))[:1]
    atoms, positions = heavy(loaded.topology, loaded.xyz)
    molecule = HeavyAtoms.of(atoms)
    assert (rebuilt(molecule, positions) - positions).norm(dim=-1).max() < 1e-6  # 1e-5 Å
    frames = backbone_frames(positions[:, molecule.backbone])
    backbone = molecule.measure(positions).backbone(frames)
    assert (backbone - positions[:, molecule.backbone]).norm(dim=-1).max() < 1e-6


@pytest.mark.parametrize("caps", [FREE, CAPPED])
def test_every_residue_comes_back(caps):
    atoms, positions = made(ALL, caps)
    molecule = HeavyAtoms.of(atoms)
    assert molecule.n_residues == 20
    assert (rebuilt(molecule, positions) - positions).norm(dim=-1).max() < 1e-6


def test_atoms_have_the_torsions_that_are_asked_and_the_geometry_of_the_molecule():
    atoms, positions = made(ALL, CAPPED)
    molecule = HeavyAtoms.of(atoms)
    geometry = molecule.measure(positions)
    generator = torch.Generator().manual_seed(0)
    asked = molecule.torsions(positions).repeat(5, 1, 1)
    turning = molecule.has_torsion.clone()
    turning[:, :3] = False  # omega, phi and psi are those of the backbone
    drawn = (2 * torch.rand(asked.shape, generator=generator) - 1) * torch.pi
    asked = torch.where(turning, drawn.double(), asked)
    built = geometry.build(positions[:, molecule.backbone].expand(5, -1, -1, -1), asked)
    away = molecule.torsions(built) - asked
    away[:, molecule.rings.residues, 3:] = 0  # proline's are what closes its ring
    assert torch.atan2(away.sin(), away.cos()).abs().max() < 1e-9
    for one, other in atoms.bonds:
        before = (positions[0, one] - positions[0, other]).norm()
        lengths = (built[:, one] - built[:, other]).norm(dim=-1)
        if atoms.atom_residues[one] == atoms.atom_residues[other]:
            torch.testing.assert_close(lengths, before.expand(5), rtol=0, atol=1e-9)


def test_torsions_are_those_of_mdtraj():
    atoms, positions = made(ALL)
    molecule = HeavyAtoms.of(atoms)
    found = molecule.torsions(positions)[0]
    structure = build_peptide(ALL, extended_backbone(ALL), FREE)
    topology = mdtraj.Topology.from_openmm(structure.topology)
    trajectory = mdtraj.Trajectory(structure.positions_nm[None], topology)
    for name in ("phi", "psi", "omega", "chi1", "chi2", "chi3", "chi4"):
        _, angles = getattr(mdtraj, f"compute_{name}")(trajectory)
        column = TORSIONS.index(name)
        ours = found[molecule.has_torsion[:, column], column].numpy()[: angles.shape[1]]
        apart = np.angle(np.exp(1j * (ours - angles[0])))
        np.testing.assert_allclose(apart, 0, atol=1e-4)


def test_the_geometry_of_many_frames_is_their_mean_and_turns_with_the_molecule():
    atoms, positions = made("GYDPETW")
    molecule = HeavyAtoms.of(atoms)
    rotations = random_rotations(4, torch.Generator().manual_seed(1), torch.float64)
    turned = positions @ rotations.mT + torch.arange(4)[:, None, None]
    torch.testing.assert_close(
        molecule.measure(turned).local_nm, molecule.measure(positions).local_nm
    )
    assert (rebuilt(molecule, turned) - turned).norm(dim=-1).max() < 1e-6


def test_gradients_are_finite():
    atoms, positions = made("GYDPETW")
    molecule = HeavyAtoms.of(atoms)
    backbone = positions[:, molecule.backbone].requires_grad_()
    torsions = molecule.torsions(positions).requires_grad_()
    molecule.measure(positions).build(backbone, torsions).square().sum().backward()
    assert backbone.grad is not None
    assert backbone.grad.isfinite().all()
    assert torsions.grad is not None
    assert torsions.grad.isfinite().all()


def test_a_residue_without_backbone_is_refused():
    atoms, _ = made("GYD")
    lost = atoms.index(1, "C")
    names = tuple("X" if i == lost else name for i, name in enumerate(atoms.names))
    with pytest.raises(InputError, match="residue TYR2 lacks one of the atoms N, CA and C"):
        HeavyAtoms.of(replace(atoms, names=names))


def test_atoms_that_hang_on_nothing_are_refused():
    atoms, _ = made("GYD", CAPPED)
    without = replace(atoms, bonds=tuple(b for b in atoms.bonds if 2 not in b and 1 not in b))
    with pytest.raises(InputError, match="atoms hang on no residue's backbone: CH3 of ACE0"):
        HeavyAtoms.of(without)


@pytest.mark.parametrize(
    ("sequence", "bond", "named"),
    [
        ("GCAC", ((1, "SG"), (3, "SG")), "SG of CYS2 and SG of CYS4 are bonded"),
        ("GYDP", ((0, "N"), (3, "C")), "N of GLY1 and C of PRO4 are bonded"),
    ],
)
def test_bonds_across_a_chain_are_refused(
    sequence: str, bond: tuple[tuple[int, str], tuple[int, str]], named: str
):
    atoms, _ = made(sequence)
    places = atom_places(atoms)
    across = (places[bond[0]], places[bond[1]])
    with pytest.raises(InputError, match=f"{named}.*use model.resolution=ca"):
        HeavyAtoms.of(replace(atoms, bonds=(*atoms.bonds, across)))
