import mdtraj as md
import numpy as np
import pytest
import torch

from trajgen.geometry.rotations import random_rotations
from trajgen.geometry.validity import ChainLimits, check_chain, chirality_signs, holds_together


def helix(n: int) -> torch.Tensor:
    """C-alpha atoms of an ideal alpha helix: radius 0.23 nm, 100 degrees and 0.15 nm a residue."""
    i = torch.arange(n, dtype=torch.float64)
    turn = i * np.deg2rad(100.0)
    return torch.stack((0.23 * turn.cos(), 0.23 * turn.sin(), 0.15 * i), dim=-1)


def flags(positions: torch.Tensor, **arguments) -> dict[str, list[bool]]:
    report = check_chain(positions, **arguments)
    names = ("finite", "bonds_ok", "no_clash", "not_exploded", "valid")
    return {name: getattr(report, name).tolist() for name in names}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_helix_is_valid_and_each_fault_is_named(generator, dtype):
    frames = helix(12).expand(5, 12, 3).clone()
    frames[1, 4] = torch.nan
    frames[2, 6:] += torch.tensor([0.0, 0.0, 0.4])
    frames[3, 11] = frames[3, 2] + torch.tensor([0.1, 0.1, 0.0])
    frames[4, 6:] += torch.tensor([0.0, 0.0, 50.0])
    rotated = frames @ random_rotations(5, generator, torch.float64).mT
    found = flags(rotated.to(dtype))
    assert found["finite"] == [True, False, True, True, True]
    assert found["bonds_ok"] == [True, False, False, False, False]
    assert found["no_clash"] == [True, False, True, False, True]
    assert found["not_exploded"] == [True, False, True, False, False]
    assert found["valid"] == [True, False, False, False, False]
    assert holds_together(rotated.to(dtype)).tolist() == found["not_exploded"]


def test_all_atom_md_is_valid(chignolin):
    report = check_chain(chignolin)
    assert report.valid.shape == (13000,)
    assert report.valid.all()


def test_implosion_is_a_clash(chignolin):
    report = check_chain(0.2 * chignolin[:5])
    assert not report.no_clash.any()
    assert not report.bonds_ok.any()
    assert report.not_exploded.all()


def test_a_cis_bond_is_allowed_and_a_fold_back_is_not():
    chain = torch.tensor([[[0.0, 0, 0], [0.295, 0, 0], [0.5, 0.38, 0]]])
    assert check_chain(chain).valid.all()
    folded = torch.tensor([[[0.0, 0, 0], [0.38, 0, 0], [0.19, 0.329, 0]]])
    assert flags(folded)["bonds_ok"] == [True]
    assert flags(folded)["no_clash"] == [False]


def test_bonds_decide_what_is_a_neighbour():
    """Two chains: the beads on both sides of the gap are non-bonded, not a broken bond."""
    chain = 0.38 * torch.arange(3.0)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    apart = torch.cat((chain, chain + torch.tensor([0.0, 0.6, 0.0])))[None]
    bonds = torch.tensor([[0, 1], [1, 2], [3, 4], [4, 5]])
    assert check_chain(apart, bonds=bonds).valid.all()
    assert not check_chain(apart).bonds_ok.any()
    close = torch.cat((chain, chain + torch.tensor([0.0, 0.2, 0.0])))[None]
    assert flags(close, bonds=bonds)["no_clash"] == [False]
    with pytest.raises(ValueError, match="outside 0 to 5"):
        check_chain(apart, bonds=torch.tensor([[0, 6]]))
    with pytest.raises(ValueError, match="outside 0 to 5"):
        holds_together(apart, bonds=torch.tensor([[0, 6]]))


def test_chains_that_drift_far_apart_have_exploded():
    beads = torch.zeros(2, 2, 3)
    beads[0, 1, 0], beads[1, 1, 0] = 0.9, 9.0
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert flags(beads, bonds=none)["not_exploded"] == [True, False]
    tight = ChainLimits(max_radius_of_gyration_nm=0.2)
    assert flags(beads, bonds=none, limits=tight)["not_exploded"] == [False, False]
    assert holds_together(beads, tight, none).tolist() == [False, False]


def test_single_beads_empty_sets_and_wrong_limits():
    assert check_chain(torch.zeros(3, 1, 3)).valid.all()
    assert check_chain(torch.zeros(0, 10, 3)).valid.shape == (0,)
    with pytest.raises(ValueError, match=r"min_bond_nm 0\.5"):
        ChainLimits(min_bond_nm=0.5)


def test_proteins_are_left_handed_amino_acids(shared_data):
    structure = md.load_pdb(str(shared_data / "fastfolder_pdb" / "chignolin_1uao.pdb"))
    rows = []
    for residue in structure.topology.residues:
        atoms = {atom.name: atom.index for atom in residue.atoms}
        if {"N", "CA", "C", "CB"} <= atoms.keys():
            rows.append([atoms[name] for name in ("N", "CA", "C", "CB")])
    xyz = torch.from_numpy(structure.xyz)
    assert len(rows) == 7
    signs = chirality_signs(*(xyz[:, column] for column in torch.tensor(rows).T))
    assert (signs == 1).all()
    mirrored = xyz * torch.tensor([-1.0, 1.0, 1.0])
    assert (chirality_signs(*(mirrored[:, c] for c in torch.tensor(rows).T)) == -1).all()
