"""Systems from sequences: geometry, protonation, constraints, files."""

from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al.molecule.build import build_system
from al.molecule.molecule import Molecule
from al.molecule.peptide import build_peptide
from al.molecule.settings import CapSettings, SystemSettings
from al.molecule.side_chains import spread_side_chains
from al.molecule.structure import atom_topology, closest_contact, mirrored_residues
from trajgen.errors import InputError
from trajgen.residues import THREE_LETTER
from trajgen.settings import load_settings, parse_settings

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "systems"
ALL_RESIDUES = "".join(THREE_LETTER)


def make(**values: object) -> SystemSettings:
    return parse_settings(SystemSettings, {"name": "test", **values}, "test")


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Molecule:
    out = tmp_path_factory.mktemp("twenty") / "system"
    build_system(make(sequence=ALL_RESIDUES, solvent="none"), out, Path())
    return Molecule.load(out)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sequence": "GXA"}, "'X' at position 2"),
        ({"sequence": ""}, "sequence is empty"),
        ({}, "exactly one of"),
        ({"sequence": "GA", "pdb": "a.pdb"}, "exactly one of"),
        ({"sequence": "GA", "starts": {"bent": [[-60, -40]]}}, "1 residues"),
        ({"sequence": "GA", "starts": {"a/b": "extended"}}, "a/b"),
        ({"sequence": "GA", "starts": {"x": "pdb"}}, "no PDB file is given"),
        ({"pdb": "a.pdb", "caps": True}, "sequence only"),
        ({"pdb": "a.pdb", "starts": {"x": "extended"}}, "leave 'starts' out"),
        ({"sequence": "GA", "constraints": "none"}, "time_step_ps is 0.004"),
        ({"sequence": "GA", "solvant": "gbn2"}, "'solvant' is not a setting"),
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**values)


def test_settings_name_the_hamiltonian() -> None:
    assert make(sequence="GA").hamiltonian == "amber14/protein.ff14SB+gbn2"
    assert make(sequence="GA", solvent="none", cutoff_nm=2.0).hamiltonian == (
        "amber14/protein.ff14SB+cutoff-2nm"
    )


def test_unknown_force_field_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no-such\.xml"):
        build_system(make(sequence="GA", force_field=["no-such.xml"]), tmp_path / "s", Path())
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        build_system(make(sequence="GA"), tmp_path, Path())
    assert (tmp_path / "mine.txt").read_text() == "mine"


angle = st.floats(-179, 179)


@settings(max_examples=15, deadline=None)
@given(
    sequence=st.text(alphabet=ALL_RESIDUES, min_size=2, max_size=6),
    rows=st.lists(st.tuples(angle, angle, st.floats(150, 210)), min_size=6, max_size=6),
    capped=st.booleans(),
)
def test_dihedral_angles_are_those_asked_for(
    sequence: str, rows: list[tuple[float, float, float]], capped: bool
) -> None:
    rows = rows[: len(sequence)]
    built = build_peptide(sequence, rows, CapSettings(ace=capped, nme=capped))
    atoms = atom_topology(built.topology)
    trajectory = mdtraj.Trajectory(built.positions_nm, mdtraj.Topology.from_openmm(built.topology))
    names = {"phi": mdtraj.compute_phi, "psi": mdtraj.compute_psi, "omega": mdtraj.compute_omega}
    for column, (name, compute) in enumerate(names.items()):
        atoms_of, values = compute(trajectory)
        # A dihedral angle belongs to the residue of its CA (phi, psi) or its first CA (omega).
        owner_column = {"phi": 2, "psi": 1, "omega": 0}[name]
        for quadruple, value in zip(atoms_of, values[0], strict=True):
            residue = atoms.atom_residues[quadruple[owner_column]]
            if atoms.residues[residue] == "ACE":
                continue
            row = rows[atoms.residue_numbers[residue] - 1]
            difference = np.degrees(value) - row[column]
            assert abs((difference + 180) % 360 - 180) < 0.1, name
    assert mirrored_residues(atoms, built.positions_nm) == []


def test_all_residues_build_with_hydrogens_and_as_l(twenty: Molecule) -> None:
    atoms = twenty.topology
    assert atoms.residues == tuple(THREE_LETTER.values())
    positions = twenty.starts["extended"].astype(np.float64)
    assert mirrored_residues(atoms, positions) == []
    mirror = positions * np.array([-1.0, 1.0, 1.0])
    assert len(mirrored_residues(atoms, mirror)) == 19  # all but glycine
    assert closest_contact(atoms, positions)[2] > 0.25
    # Formula of the chain at pH 7: hydrogens of the free amino acids at pH 7 minus 2 per bond.
    free = dict(
        A=7, C=7, D=6, E=8, F=11, G=5, H=9, I=13, K=15, L=13,
        M=11, N=8, P=9, Q=10, R=15, S=7, T=9, V=11, W=12, Y=11,
    )  # fmt: skip
    assert atoms.elements.count("H") == sum(free.values()) - 2 * 19
    charge = _charge(twenty.system)
    assert charge == pytest.approx(0.0, abs=1e-4)  # D, E against K, R; the ends cancel
    assert twenty.alpha_carbons == tuple(i for i, name in enumerate(atoms.names) if name == "CA")


def test_constraint_groups_are_heavy_atoms_with_their_hydrogens(twenty: Molecule) -> None:
    atoms = twenty.topology
    expected: dict[int, set[int]] = {}
    for i, j in atoms.bonds:
        for heavy, light in ((i, j), (j, i)):
            if atoms.elements[light] == "H":
                expected.setdefault(heavy, {heavy}).add(light)
    assert twenty.constraint_groups == tuple(sorted(tuple(sorted(g)) for g in expected.values()))


def test_hydrogens_are_heavy_and_the_mass_is_kept(twenty: Molecule) -> None:
    system = twenty.system
    masses = np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])
    light = np.array([element == "H" for element in twenty.topology.elements])
    np.testing.assert_allclose(masses[light], 3.024)
    elements = twenty.topology.elements
    ordinary = sum(mdtraj.element.Element.getBySymbol(symbol).mass for symbol in elements)
    assert masses.sum() == pytest.approx(ordinary, rel=1e-4)
    assert masses.min() > 3.0


def test_caps_and_starts(tmp_path: Path) -> None:
    chosen = load_settings(SystemSettings, CONFIGS / "tetrapeptide.yaml")
    for name in ("a", "b"):
        build_system(chosen, tmp_path / name, Path())
    molecule = Molecule.load(tmp_path / "a")
    assert molecule.topology.residues == ("ACE", "ALA", "SER", "ALA", "GLY", "NME")
    header = molecule.dataset_header()
    assert header.beads.sequence == "ASAG"
    assert header.bead_atoms == molecule.alpha_carbons
    assert list(molecule.starts) == ["extended", "helix"]
    ends = {
        name: np.linalg.norm(np.subtract(*positions[list(molecule.alpha_carbons)][[0, -1]]))
        for name, positions in molecule.starts.items()
    }
    assert ends["helix"] < 0.7 < 0.95 < ends["extended"]
    # The same bits twice, and files that other programs read.
    for file in ("starts.safetensors", "system.xml", "topology.pdb", "system.yaml"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    for name, positions in molecule.starts.items():
        seen = mdtraj.load(tmp_path / "a" / "starts" / f"{name}.pdb")
        np.testing.assert_allclose(seen.xyz[0], positions, atol=6e-5)
    assert {tuple(sorted((a.index, b.index))) for a, b in seen.topology.bonds} == set(
        molecule.topology.bonds
    )


def test_one_cap_only(tmp_path: Path) -> None:
    build_system(make(sequence="GA", caps={"ace": True}), tmp_path / "s", Path())
    molecule = Molecule.load(tmp_path / "s")
    assert molecule.topology.residues == ("ACE", "GLY", "ALA")
    assert "OXT" in molecule.topology.names
    assert _charge(molecule.system) == pytest.approx(-1.0, abs=1e-4)


def test_acidity_decides_the_protonation(tmp_path: Path) -> None:
    charges = {}
    for ph in (2.0, 7.0):
        out = tmp_path / f"ph{ph:g}"
        build_system(make(sequence="DEH", caps=True, ph=ph, solvent="none"), out, Path())
        charges[ph] = round(_charge(Molecule.load(out).system), 3)
    assert charges == {2.0: 1.0, 7.0: -2.0}


def test_chain_that_runs_through_itself_is_refused(tmp_path: Path) -> None:
    knot = [[0.0, 0.0, 0.0]] * 8
    with pytest.raises(InputError, match=r"start 'knot': atoms .* nm apart"):
        build_system(make(sequence="AAAAAAAA", starts={"knot": knot}), tmp_path / "s", Path())
    assert list(tmp_path.iterdir()) == []


def test_chignolin_hairpin_is_that_of_the_pdb_entry(shared_data: Path) -> None:
    reference = mdtraj.load(shared_data / "fastfolder_pdb" / "chignolin_1uao.pdb")[0]
    chosen = load_settings(SystemSettings, CONFIGS / "chignolin.yaml")
    hairpin = chosen.starts["hairpin"]
    assert not isinstance(hairpin, str)
    built = spread_side_chains(build_peptide("GYDPETGTWG", hairpin, chosen.caps))
    atoms = atom_topology(built.topology)
    assert closest_contact(atoms, built.positions_nm)[2] > 0.2
    model = mdtraj.Trajectory(built.positions_nm, mdtraj.Topology.from_openmm(built.topology))
    difference = mdtraj.rmsd(
        model,
        reference,
        atom_indices=model.topology.select("name CA"),
        ref_atom_indices=reference.topology.select("name CA"),
    )
    assert difference[0] < 0.03


def test_damaged_folder_is_named(tmp_path: Path) -> None:
    build_system(make(sequence="GA", solvent="none"), tmp_path / "s", Path())
    for file in ("system.xml", "starts.safetensors", "topology.pdb"):
        content = (tmp_path / "s" / file).read_bytes()
        (tmp_path / "s" / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=r"again"):
            Molecule.load(tmp_path / "s")
        (tmp_path / "s" / file).write_bytes(content)
    Molecule.load(tmp_path / "s")
    with pytest.raises(InputError, match="al build"):
        Molecule.load(tmp_path)


def _charge(system: openmm.System) -> float:
    (force,) = (f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    return sum(force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles()))
