"""PULCHRA with virtual end beads, and the atoms it leaves out."""

import sys
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from al.backmapping import pulchra
from al.backmapping.completion import complete
from al.molecule.build import build_structures, load_force_field
from al.molecule.settings import SystemSettings
from al.molecule.structure import atom_topology
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError, WorkError
from trajgen.residues import parse_sequence


def strand(n: int) -> np.ndarray:
    """Beads of a twisted strand, 0.38 nm apart."""
    turn = np.deg2rad(160.0) * np.arange(n)
    radius, rise = 0.09, 0.336
    beads = np.stack([radius * np.cos(turn), radius * np.sin(turn), rise * np.arange(n)], axis=1)
    return beads * 0.38 / np.linalg.norm(beads[1] - beads[0])


def beads_of(sequence: str) -> BeadTopology:
    return BeadTopology.from_residues(parse_sequence(sequence))


@pytest.fixture(scope="module")
def capped() -> tuple[AtomTopology, np.ndarray]:
    settings = SystemSettings(name="capped", sequence="HKPTW", caps=True)
    structure = build_structures(settings, load_force_field(settings), Path())["extended"]
    return atom_topology(structure.topology), structure.positions_nm


def test_virtual_beads_continue_a_helical_strand():
    padded = pulchra.pad_trace(strand(6))
    assert padded.shape == (10, 3)
    np.testing.assert_allclose(padded[2:-2], strand(6))
    ends = np.concatenate([padded[:3], padded[-3:]])
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(ends, axis=0), axis=1)[[0, 1, 3, 4]], 0.38, atol=1e-9
    )
    trajectory = mdtraj.Trajectory(padded[None], None)
    torsions = mdtraj.compute_dihedrals(trajectory, [[i, i + 1, i + 2, i + 3] for i in range(7)])
    np.testing.assert_allclose(torsions, torsions[0, 3], atol=1e-4)


def test_virtual_beads_turn_with_the_chain():
    rotation = Rotation.from_rotvec([0.3, -1.0, 0.5])
    beads = np.random.default_rng(4).normal(size=(5, 3))
    turned = pulchra.pad_trace(rotation.apply(beads) + 1.0)
    np.testing.assert_allclose(turned, rotation.apply(pulchra.pad_trace(beads)) + 1.0, atol=1e-9)


@pytest.mark.parametrize("sequence", ["YPTW", "WGKY", "FRR"])
def test_terminal_side_chains_do_not_collapse(sequence):
    atoms = pulchra.reconstruct(strand(len(sequence)), beads_of(sequence), 10.0)
    assert pdist(np.array(list(atoms.values()))).min() > 0.1
    last = len(sequence) - 1
    for bead in (0, last):
        side = np.array([atoms[bead, "CA"], atoms[bead, "CB"], atoms[bead, "CG"]])
        lengths = np.linalg.norm(np.diff(side, axis=0), axis=1)
        assert ((lengths > 0.13) & (lengths < 0.18)).all()


def test_real_chignolin_is_rebuilt_near_its_backbone(shared_data):
    model = mdtraj.load(str(shared_data / "fastfolder_pdb" / "cln025_uncapped_allatom.pdb"))
    topology = model.topology
    beads = model.xyz[0, topology.select("name CA")]
    names = tuple(residue.name for residue in topology.residues)
    atoms = pulchra.reconstruct(beads, BeadTopology.from_residues(names), 10.0)
    assert pdist(np.array(list(atoms.values()))).min() > 0.1
    backbone = [
        atoms[residue.index, atom.name] - model.xyz[0, atom.index]
        for residue in topology.residues
        for atom in residue.atoms
        if atom.name in ("N", "CA", "C")
    ]
    assert np.sqrt(np.mean(np.sum(np.square(backbone), axis=1))) < 0.08


def test_each_chain_is_rebuilt_by_itself():
    one = beads_of("GAY")
    two = BeadTopology(
        names=one.names * 2,
        residues=one.residues * 2,
        residue_numbers=(1, 2, 3, 1, 2, 3),
        chains=(0, 0, 0, 1, 1, 1),
        bonds=((0, 1), (1, 2), (3, 4), (4, 5)),
    )
    shift = np.array([1.5, 0.0, 0.0])
    single = pulchra.reconstruct(strand(3), one, 10.0)
    double = pulchra.reconstruct(np.concatenate([strand(3), strand(3) + shift]), two, 10.0)
    for (bead, name), position in single.items():
        np.testing.assert_allclose(double[bead, name], position, atol=1e-9)
        np.testing.assert_allclose(double[bead + 3, name], position + shift, atol=1e-9)


@pytest.mark.parametrize("names", [("GLY", "ALA"), ("GLY", "UNK", "ALA", "GLY")])
def test_a_chain_that_cannot_be_rebuilt_is_refused(names):
    with pytest.raises(InputError, match="nearest"):
        pulchra.reconstruct(strand(len(names)), BeadTopology.from_residues(names), 10.0)


def program(folder: Path, body: str) -> Path:
    """A program with the interface of the original PULCHRA: pulchra -c FILE.pdb."""
    path = folder / "pulchra"
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o755)
    return path


REBUILD = """
import sys
from pulchra import Pulchra
assert sys.argv[1] == "-c"
name = sys.argv[2]
Pulchra(ca_optimize=False).reconstruct(name, name.replace(".pdb", ".rebuilt.pdb"))
"""


def test_a_program_on_the_path_is_used(tmp_path, monkeypatch):
    own = pulchra.reconstruct(strand(5), beads_of("YPTWK"), 10.0)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pulchra.find_program() is None
    assert program(tmp_path, REBUILD) == pulchra.find_program()
    theirs = pulchra.reconstruct(strand(5), beads_of("YPTWK"), 60.0)
    assert {key for key in own if key[1] != "OXT"} <= set(theirs)
    for key in own:
        # PDB files hold three digits of an angstrom.
        np.testing.assert_allclose(theirs[key], own[key], atol=2e-3)


def test_the_command_of_the_python_package_is_no_program(tmp_path, monkeypatch):
    program(tmp_path, "from pulchra.cli import main\nmain()")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pulchra.find_program() is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import time\ntime.sleep(60)", "did not end"),
        ("raise SystemExit(3)", "failed"),
        ("pass", "wrote no"),
    ],
)
def test_a_program_that_fails_says_so(tmp_path, monkeypatch, body, reason):
    program(tmp_path, body)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkError, match=reason):
        pulchra.reconstruct(strand(4), beads_of("GAGA"), 2.0)


def test_hydrogens_and_caps_return_to_where_they_were(capped):
    topology, positions = capped
    rotation = Rotation.from_rotvec([1.0, 0.4, -2.0])
    moved = rotation.apply(positions) + np.array([3.0, -1.0, 0.5])
    known = {
        atom: moved[atom]
        for atom in range(topology.n_atoms)
        if topology.elements[atom] != "H"
        and topology.residues[topology.atom_residues[atom]] not in ("ACE", "NME")
    }
    assert len(known) < topology.n_atoms / 2
    np.testing.assert_allclose(complete(known, positions, topology), moved, atol=1e-6)


def test_bonds_of_placed_atoms_keep_their_length_where_heavy_atoms_moved(capped):
    topology, positions = capped
    noise = np.random.default_rng(2).normal(scale=0.01, size=positions.shape)
    known = {
        atom: (positions + noise)[atom]
        for atom in range(topology.n_atoms)
        if topology.elements[atom] != "H"
    }
    whole = complete(known, positions, topology)
    for i, j in topology.bonds:
        if i not in known or j not in known:
            length = np.linalg.norm(positions[i] - positions[j])
            assert np.linalg.norm(whole[i] - whole[j]) == pytest.approx(length, abs=1e-9)


def test_an_atom_without_a_known_neighbour_is_named(capped):
    topology, positions = capped
    with pytest.raises(InputError, match="bonded to no rebuilt atom"):
        complete({}, positions, topology)
