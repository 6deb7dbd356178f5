"""PDB files: what is mended, dropped, refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
from disulfide import write_bridged_dimer
from openmm import app, unit

from al.molecule.build import build_system
from al.molecule.molecule import Molecule
from al.molecule.pdb_file import read_structure
from al.molecule.peptide import build_peptide, extended_backbone
from al.molecule.settings import CapSettings, SystemSettings
from al.molecule.structure import Structure, atom_topology
from trajgen.errors import InputError


def peptide(sequence: str) -> Structure:
    return build_peptide(sequence, extended_backbone(sequence), CapSettings())


def pdb_lines(structure: Structure, tmp_path: Path) -> list[str]:
    path = tmp_path / "whole.pdb"
    with path.open("w") as file:
        app.PDBFile.writeFile(structure.topology, structure.positions_nm * unit.nanometer, file)
    return path.read_text().splitlines()


def atom_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("ATOM")]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def test_whole_chain_comes_back(tmp_path: Path) -> None:
    built = peptide("GAWS")
    read = read_structure(write(tmp_path / "a.pdb", atom_lines(pdb_lines(built, tmp_path))))
    assert atom_topology(read.topology).names == atom_topology(built.topology).names
    np.testing.assert_allclose(read.positions_nm, built.positions_nm, atol=2e-4)


def test_chain_break_is_refused_and_named(tmp_path: Path) -> None:
    lines = [x for x in atom_lines(pdb_lines(peptide("GAWSV"), tmp_path)) if " TRP " not in x]
    with pytest.raises(InputError, match=r"chain A is broken between ALA2 and SER4"):
        read_structure(write(tmp_path / "a.pdb", lines))


def test_break_between_consecutive_numbers_is_refused(tmp_path: Path) -> None:
    lines = [
        line[:30] + f"{float(line[30:38]) + 5.0 * (int(line[22:26]) > 2):8.3f}" + line[38:]
        for line in atom_lines(pdb_lines(peptide("GAWSV"), tmp_path))
    ]
    with pytest.raises(InputError, match=r"broken between ALA2 and TRP3"):
        read_structure(write(tmp_path / "a.pdb", lines))


def test_numbering_gap_without_a_break_is_fine(tmp_path: Path) -> None:
    lines = [
        line[:22] + f"{int(line[22:26]) + 10 * (int(line[22:26]) > 2):4d}" + line[26:]
        for line in atom_lines(pdb_lines(peptide("GAWSV"), tmp_path))
    ]
    read = atom_topology(read_structure(write(tmp_path / "a.pdb", lines)).topology)
    assert read.residue_numbers == (1, 2, 13, 14, 15)


def test_missing_backbone_atom_is_refused(tmp_path: Path) -> None:
    lines = atom_lines(pdb_lines(peptide("GAS"), tmp_path))
    kept = [x for x in lines if not (x[12:16].strip() == "N" and " ALA " in x)]
    with pytest.raises(InputError, match="ALA2 lacks its backbone atom N"):
        read_structure(write(tmp_path / "a.pdb", kept))


def test_missing_side_chain_is_added(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = atom_lines(pdb_lines(peptide("GWG"), tmp_path))
    kept = [x for x in lines if x[12:16].strip() in {"N", "CA", "C", "O", "CB"}]
    with caplog.at_level(logging.INFO):
        read = read_structure(write(tmp_path / "a.pdb", kept))
    whole = atom_topology(peptide("GWG").topology)
    assert sorted(atom_topology(read.topology).names) == sorted(whole.names)
    assert "to TRP2" in caplog.text
    again = read_structure(tmp_path / "a.pdb")
    np.testing.assert_array_equal(read.positions_nm, again.positions_nm)


def test_waters_and_ions_are_dropped_with_a_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extra = [
        "HETATM  900  O   HOH A 101      20.000  20.000  20.000  1.00  0.00           O",
        "HETATM  901  O   HOH A 102      24.000  20.000  20.000  1.00  0.00           O",
        "HETATM  902 ZN    ZN A 103      28.000  20.000  20.000  1.00  0.00          ZN",
    ]
    path = write(tmp_path / "a.pdb", atom_lines(pdb_lines(peptide("GAS"), tmp_path)) + extra)
    assert atom_topology(read_structure(path).topology).residues == ("GLY", "ALA", "SER")
    assert "2 HOH, 1 ZN" in caplog.text


def test_alternate_locations_give_one_atom_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = []
    for line in atom_lines(pdb_lines(peptide("GSG"), tmp_path)):
        if line[12:16].strip() != "OG":
            lines.append(line)
            continue
        for letter, shift in (("A", 0.0), ("B", 1.0)):
            moved = f"{float(line[30:38]) + shift:8.3f}"
            lines.append(f"{line[:16]}{letter}{line[17:30]}{moved}{line[38:54]}  0.50{line[60:]}")
    with caplog.at_level(logging.INFO):
        read = read_structure(write(tmp_path / "a.pdb", lines))
    built = peptide("GSG")
    assert atom_topology(read.topology).names == atom_topology(built.topology).names
    np.testing.assert_allclose(read.positions_nm, built.positions_nm, atol=2e-4)
    assert "alternate locations A, B" in caplog.text


def test_modified_residue_becomes_its_parent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        line.replace("ATOM  ", "HETATM").replace(" MET ", " MSE ").replace(" SD ", "SE  ")
        if " MET " in line
        else line
        for line in atom_lines(pdb_lines(peptide("GMG"), tmp_path))
    ]
    lines = [x[:76] + "SE" + x[78:] if x[12:16].strip() == "SE" else x for x in lines]
    with caplog.at_level(logging.WARNING):
        read = atom_topology(read_structure(write(tmp_path / "a.pdb", lines)).topology)
    assert read.residues == ("GLY", "MET", "GLY")
    assert "SD" in read.names
    assert "MSE2 becomes its standard parent MET" in caplog.text


def test_unknown_amino_acid_is_refused(tmp_path: Path) -> None:
    lines = [x.replace(" ALA ", " XYZ ") for x in atom_lines(pdb_lines(peptide("GAS"), tmp_path))]
    with pytest.raises(InputError, match="XYZ2 is an amino acid that is not known"):
        read_structure(write(tmp_path / "a.pdb", lines))


def test_d_amino_acid_is_refused(tmp_path: Path) -> None:
    built = peptide("GAS")
    mirror = Structure(built.topology, built.positions_nm * np.array([-1.0, 1.0, 1.0]))
    path = write(tmp_path / "a.pdb", atom_lines(pdb_lines(mirror, tmp_path)))
    chosen = SystemSettings(name="d", pdb=str(path), solvent="none")
    with pytest.raises(InputError, match="ALA2, SER3 has the D configuration"):
        build_system(chosen, tmp_path / "s", Path())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\n", "no line begins with ATOM"),
        (b"", "no line begins with ATOM"),
        (b"\xff\xfe\x00\x01", "no text"),
        (
            b"HETATM    1  O   HOH A   1      20.000  20.000  20.000  1.00  0.00           O\n",
            "holds no protein",
        ),
    ],
)
def test_file_without_a_protein_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.pdb").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_structure(tmp_path / "a.pdb")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pdb is missing"):
        read_structure(tmp_path / "none.pdb")
    with pytest.raises(InputError, match="is a folder"):
        read_structure(tmp_path)


def test_disulfide_is_kept(tmp_path: Path) -> None:
    write_bridged_dimer(tmp_path / "a.pdb")
    chosen = SystemSettings(name="dimer", pdb="a.pdb", solvent="none")
    build_system(chosen, tmp_path / "s", tmp_path)
    molecule = Molecule.load(tmp_path / "s")
    atoms = molecule.topology
    i, j = (k for k, name in enumerate(atoms.names) if name == "SG")
    assert (i, j) in atoms.bonds
    assert "HG" not in atoms.names
    assert atoms.chains == (0, 0, 0, 1, 1, 1)
    bridge = molecule.starts["pdb"][i] - molecule.starts["pdb"][j]
    assert np.linalg.norm(bridge) == pytest.approx(0.204, abs=0.01)


@pytest.mark.parametrize(
    ("file", "residues"),
    [("trpcage_2jof.pdb", 20), ("chignolin_1uao.pdb", 10), ("cln025_capped_allatom.pdb", 10)],
)
def test_database_entries_build(
    shared_data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    file: str,
    residues: int,
) -> None:
    with caplog.at_level(logging.INFO):
        chosen = SystemSettings(name="entry", pdb=file, solvent="none")
        build_system(chosen, tmp_path / "s", shared_data / "fastfolder_pdb")
    molecule = Molecule.load(tmp_path / "s")
    assert len(molecule.alpha_carbons) == residues
    if file == "chignolin_1uao.pdb":
        assert "18 models" in caplog.text
        assert molecule.topology.n_atoms == 138
    if file == "cln025_capped_allatom.pdb":
        assert molecule.topology.n_atoms == 175
