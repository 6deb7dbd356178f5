"""Torsions against mdtraj, their labels, and that none spans a break of the chain."""

from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from trajgen.analysis import torsions
from trajgen.analysis.torsions import (
    backbone_torsions,
    omega_torsions,
    side_chain_torsions,
)
from trajgen.data.records import AtomFrames
from trajgen.data.structures import read_structure, solute_of
from trajgen.data.torsions import find_backbone, find_omega, find_side_chains

STRUCTURES = ("trpcage_2jof", "homeodomain_1enh", "lambda_1lmb", "wwdomain_1pin", "a3d_2a3d")


def read(path: Path) -> tuple[AtomFrames, mdtraj.Trajectory]:
    """Return all models of a structure, and the same atoms as mdtraj holds them."""
    loaded = mdtraj.load(str(path))
    solute = solute_of(loaded.topology, path)
    loaded = loaded.atom_slice(solute.indices)
    segments = np.arange(loaded.n_frames)
    return AtomFrames(solute.topology, loaded.xyz.astype(np.float32), segments), loaded


def columns(atoms: np.ndarray, angles: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    return {tuple(row): angles[:, i] for i, row in enumerate(atoms.tolist())}


def require_equal(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for atoms, angles in wanted.items():
        apart = np.angle(np.exp(1j * (found[atoms] - angles)))
        np.testing.assert_allclose(apart, 0, atol=2e-3)


@pytest.mark.parametrize("name", [*STRUCTURES, "chignolin_1uao", "cln025_uncapped_allatom"])
def test_agree_with_mdtraj(shared_data, name):
    frames, loaded = read(shared_data / "fastfolder_pdb" / f"{name}.pdb")
    topology = frames.topology
    for compute, find, rivals in (
        (backbone_torsions, find_backbone, (mdtraj.compute_phi, mdtraj.compute_psi)),
        (omega_torsions, find_omega, (mdtraj.compute_omega,)),
        (
            side_chain_torsions,
            find_side_chains,
            tuple(getattr(mdtraj, f"compute_chi{k}") for k in range(1, 6)),
        ),
    ):
        feature, terms = compute(frames), find(topology)
        assert feature.values.shape == (frames.n_frames, len(feature.labels))
        found = columns(np.array([term.atoms for term in terms]), feature.values)
        wanted = {}
        for rival in rivals:
            wanted |= columns(*rival(loaded))
        require_equal(found, wanted)


def test_agree_with_mdtraj_over_time(shared_data):
    folder = shared_data / "nnqq_timewarp"
    solute, _ = read_structure(folder / "implicit-2olx-traj-state0.pdb")
    positions = np.load(folder / "implicit-2olx-traj-arrays.npz")["positions"]
    segments = np.zeros(len(positions), dtype=np.int64)
    frames = AtomFrames(solute.topology, positions.astype(np.float32), segments)
    top = mdtraj.load_topology(str(folder / "implicit-2olx-traj-state0.pdb"))
    atoms, phi = mdtraj.compute_phi(mdtraj.Trajectory(positions, top))
    terms = [term for term in find_backbone(solute.topology) if term.name == "phi"]
    assert [list(term.atoms) for term in terms] == atoms.tolist()
    values = backbone_torsions(frames).values
    mine = values[:, [label.startswith("phi") for label in backbone_torsions(frames).labels]]
    np.testing.assert_allclose(np.angle(np.exp(1j * (mine - phi))), 0, atol=2e-3)


def test_caps_end_torsions(shared_data):
    folder = shared_data / "fastfolder_pdb"
    frames, loaded = read(folder / "alanine-dipeptide.pdb")
    assert backbone_torsions(frames).labels == ("phi ALA2", "psi ALA2")
    omega = omega_torsions(frames)
    assert omega.labels == ("omega ACE1-ALA2", "omega ALA2-NME3")
    place = {(a.residue.index, a.name): a.index for a in loaded.topology.atoms}
    methyl = place.get((2, "CH3"), place.get((2, "C")))
    quadruples = [
        [place[0, "CH3"], place[0, "C"], place[1, "N"], place[1, "CA"]],
        [place[1, "CA"], place[1, "C"], place[2, "N"], methyl],
    ]
    wanted = mdtraj.compute_dihedrals(loaded, quadruples)
    np.testing.assert_allclose(np.abs(omega.values), np.abs(wanted), atol=2e-3)
    capped, _ = read(folder / "cln025_capped_allatom.pdb")
    assert len(omega_torsions(capped).labels) == 11
    assert len(backbone_torsions(capped).labels) == 20


def test_labels_name_residue_and_angle(shared_data):
    frames, _ = read(shared_data / "fastfolder_pdb" / "cln025_uncapped_allatom.pdb")
    backbone = backbone_torsions(frames)
    assert backbone.labels[:3] == ("psi TYR1", "phi TYR2", "psi TYR2")
    assert backbone.period == pytest.approx(2 * np.pi)
    assert "omega ASP3-PRO4" in omega_torsions(frames).labels
    chi = [label for label in side_chain_torsions(frames).labels if label.endswith("GLU5")]
    assert chi == ["chi1 GLU5", "chi2 GLU5", "chi3 GLU5"]


def test_no_torsion_spans_two_chains_or_a_missing_bond(shared_data):
    frames, _ = read(shared_data / "fastfolder_pdb" / "cln025_uncapped_allatom.pdb")
    topology = frames.topology
    cut = replace(topology, chains=(0,) * 5 + (1,) * 5)
    carbon, nitrogen = topology.index(4, "C"), topology.index(5, "N")
    lost = replace(topology, bonds=tuple(b for b in topology.bonds if set(b) != {carbon, nitrogen}))
    whole = set(find_backbone(topology))
    for broken in (cut, lost):
        gone = {(t.name, t.residues) for t in whole - set(find_backbone(broken))}
        assert gone == {("psi", (4,)), ("phi", (5,))}
        assert len(find_omega(broken)) == 8


def test_same_numbers_in_two_chains_get_labels_of_their_own(shared_data):
    frames, _ = read(shared_data / "fastfolder_pdb" / "cln025_uncapped_allatom.pdb")
    topology = replace(
        frames.topology,
        residues=("ALA",) * 10,
        residue_numbers=(1, 2, 3, 4, 5) * 2,
        chains=(0,) * 5 + (1,) * 5,
    )
    labels = backbone_torsions(replace(frames, topology=topology)).labels
    assert len(set(labels)) == len(labels)
    assert "phi 1:ALA2" in labels


def test_missing_side_chain_atoms_are_no_torsion(shared_data):
    frames, _ = read(shared_data / "fastfolder_pdb" / "chignolin_bioemu_backbone.pdb")
    chi = side_chain_torsions(frames)
    assert chi.labels == ()
    assert chi.values.shape == (1, 0)
    assert len(omega_torsions(frames).labels) == 9


def test_isoleucine_may_be_named_either_way(shared_data):
    frames, _ = read(shared_data / "fastfolder_pdb" / "homeodomain_1enh.pdb")
    names = list(frames.topology.names)
    residues = frames.topology.residues
    for atom, residue in enumerate(frames.topology.atom_residues):
        if residues[residue] == "ILE" and names[atom] == "CD1":
            names[atom] = "CD"
    renamed = replace(frames, topology=replace(frames.topology, names=tuple(names)))
    assert side_chain_torsions(renamed).labels == side_chain_torsions(frames).labels


def test_mirror_image_turns_every_sign(shared_data):
    frames, _ = read(shared_data / "fastfolder_pdb" / "trpcage_2jof.pdb")
    mirrored = replace(frames, positions_nm=frames.positions_nm * np.float32([1, 1, -1]))
    for compute in (backbone_torsions, omega_torsions, side_chain_torsions):
        np.testing.assert_allclose(compute(mirrored).values, -compute(frames).values, atol=1e-6)


def test_chunks_change_nothing(shared_data, monkeypatch):
    frames, _ = read(shared_data / "fastfolder_pdb" / "chignolin_1uao.pdb")
    whole = backbone_torsions(frames).values
    monkeypatch.setattr(torsions, "ANGLES_AT_ONCE", 50)
    np.testing.assert_array_equal(backbone_torsions(frames).values, whole)
