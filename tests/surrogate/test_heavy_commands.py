"""Heavy atoms by commands alone: from trajectory files to a model, and to trajectory files."""

import json
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from command import succeed
from tiny import TRAIN
from toy_peptide import LAG_PS, wobbling_peptide

from trajgen.data.topology import AtomTopology
from trajgen.data.writers import mdtraj_topology, write_structure

#: XTC files hold thousandths of a nanometre.
ROUNDING_NM = 2e-3


def write_run(path: Path, atoms: AtomTopology, positions_nm: np.ndarray, step_ps: float) -> Path:
    """Write frames so far apart, as a program for dynamics does."""
    times_ps = step_ps * np.arange(len(positions_nm))
    mdtraj.Trajectory(positions_nm, mdtraj_topology(atoms), time=times_ps).save(str(path))
    return path


def read_back(out: Path, atoms: AtomTopology, number: str = "") -> mdtraj.Trajectory:
    """Read what a command wrote, with nothing but mdtraj; the atoms must be those of the data."""
    file = out.with_name(out.stem + number + out.suffix)
    read: mdtraj.Trajectory = mdtraj.load(str(file), top=str(out.with_suffix(".pdb")))
    assert tuple(atom.name for atom in read.topology.atoms) == atoms.names
    assert tuple(residue.name for residue in read.topology.residues) == atoms.residues
    return read


@pytest.mark.slow
def test_every_task_goes_from_files_to_files(tmp_path: Path) -> None:
    runs = [tmp_path / f"md-{number}.xtc" for number in range(3)]
    for number, run in enumerate(runs):
        atoms, positions_nm = wobbling_peptide(30, number)
        write_run(run, atoms, positions_nm, LAG_PS)
    start, end = tmp_path / "start.pdb", tmp_path / "end.pdb"
    write_structure(start, atoms, positions_nm[0])
    write_structure(end, atoms, positions_nm[4])
    coarse = write_run(tmp_path / "coarse.xtc", atoms, positions_nm[:10:2], 2 * LAG_PS)
    data, model = tmp_path / "data", tmp_path / "model"
    succeed(
        "import", *runs, "--topology", start, "--time-step-ps", LAG_PS, "--temperature", 300,
        "--resolution", "heavy", "--out", data,
    )  # fmt: skip
    sets = [part for value in ("model.resolution=heavy", *TRAIN) for part in ("--set", value)]
    succeed("train", data, "--out", model, "--device", "cpu", *sets)

    def generate(task: str, *more: object) -> Path:
        out = tmp_path / f"{task}.xtc"
        few = ("--set", "evaluations=4", "--device", "cpu")
        succeed("generate", task, model, *few, "--out", out, *more)
        assert (
            json.loads(out.with_suffix(".json").read_text())["command"]
            == f"trajgen generate {task}"
        )
        return out

    one, other = np.array(atoms.bonds).T
    lengths_nm = np.linalg.norm(positions_nm[0, one] - positions_nm[0, other], axis=-1)

    def require_whole(read: mdtraj.Trajectory) -> None:
        found_nm = np.linalg.norm(read.xyz[:, one] - read.xyz[:, other], axis=-1)
        assert np.abs(found_nm - lengths_nm).max() < 2 * ROUNDING_NM

    out = generate("forward", "--start", start, "--frames", 9, "--replicas", 2)
    for number in ("_000", "_001"):
        read = read_back(out, atoms, number)
        require_whole(read)
        np.testing.assert_allclose(read.xyz[0], positions_nm[0], atol=ROUNDING_NM)
        np.testing.assert_allclose(read.time, LAG_PS * np.arange(9))

    out = generate("interpolate", "--from", start, "--to", end, "--frames", 5, "--paths", 2)
    for number in ("_000", "_001"):
        read = read_back(out, atoms, number)
        require_whole(read)
        np.testing.assert_allclose(read.xyz[0], positions_nm[0], atol=ROUNDING_NM)
        wanted = mdtraj.load(str(end))
        assert mdtraj.rmsd(read, wanted)[-1] < ROUNDING_NM

    out = generate("upsample", "--input", coarse, "--topology", start, "--factor", 2)
    read = read_back(out, atoms)
    require_whole(read)
    np.testing.assert_allclose(read.xyz[::2], positions_nm[:10:2], atol=ROUNDING_NM)
    np.testing.assert_allclose(read.time, LAG_PS * np.arange(9))

    out = generate("inpaint", "--known", runs[2], "--topology", start, "--residues", "1-2")
    read = read_back(out, atoms)
    assert read.n_frames == 30
    known = np.array(atoms.atom_residues) < 2
    np.testing.assert_allclose(read.xyz[:, known], positions_nm[:, known], atol=ROUNDING_NM)
    assert np.abs(read.xyz[:, ~known] - positions_nm[:, ~known]).max() > 0.1

    read = read_back(generate("ensemble", "--frames", 4), atoms)
    assert read.n_frames == 4
    require_whole(read)
