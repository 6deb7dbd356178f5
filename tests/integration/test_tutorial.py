"""The tutorial notebook runs from its first cell to its last, and is stored with its results."""

import re
from pathlib import Path

import pytest

from al.molecule.pdb_file import read_structure

nbformat = pytest.importorskip("nbformat", reason="nbformat is part of the dev extras")
nbclient = pytest.importorskip("nbclient", reason="nbclient is part of the dev extras")

#: What the tutorial takes, and what is enough to see that each cell runs.
SHORTER = {"ps=30.0": "ps=6.0", "steps=400": "steps=80", "steps=20_000": "steps=4_001"}
NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"


def outputs_of(notebook) -> list:
    """Return the outputs of all code cells."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures_of(notebook) -> int:
    """Return the number of pictures in the outputs."""
    return sum("image/png" in output.get("data", {}) for output in outputs_of(notebook))


def test_the_stored_notebook_holds_its_results_and_nothing_of_a_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert pictures_of(notebook) == 1
    texts = [output.get("text", "") for output in outputs_of(notebook)]
    assert all(output.get("name") != "stderr" for output in outputs_of(notebook))
    assert not any(place in text for text in texts for place in ("/home", "/tmp", "/work"))


def test_it_begins_from_a_pdb_file(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    (text,) = re.findall(r'PDB = """\\\n(.*?)"""', code[1], re.DOTALL)
    (tmp_path / "peptide.pdb").write_text(text)
    structure = read_structure(tmp_path / "peptide.pdb")
    residues = [residue.name for residue in structure.topology.residues()]
    assert residues == ["ACE", *["ALA"] * 5, "NME"]
    assert len(structure.positions_nm) == text.count("ATOM") + text.count("HETATM") == 30
    (system,) = [source for source in code if "SystemSettings(" in source]
    assert "pdb=str(peptide)" in system
    assert "sequence=" not in system


@pytest.mark.slow
def test_the_notebook_runs_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAJGEN_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        for asked, enough in SHORTER.items():
            cell.source = cell.source.replace(asked, enough)
    assert all("".join(c.source for c in notebook.cells).count(n) == 1 for n in SHORTER.values())
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=resources
    ).execute()
    assert pictures_of(notebook) == 1
    printed = "".join(output.get("text", "") for output in outputs_of(notebook))
    assert "62 atoms with hydrogens" in printed
    assert "the same forces on the beads: True" in printed
    assert "0 frames lost of 12800" in printed
    # The surface has numbers beside it: the distance of its dihedrals from those of the data.
    assert re.search(r"dihedral +\d\.\d{4} rad, floor \d\.\d{4}", printed)
