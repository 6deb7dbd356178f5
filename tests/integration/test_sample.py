"""``al build`` and ``al sample`` as a user calls them, on a tetrapeptide."""

import json
import subprocess
import sys
from pathlib import Path

import mdtraj
import numpy as np

from trajgen.data.store import Dataset

ROOT = Path(__file__).resolve().parents[2]


def al(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "al.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_from_a_sequence_to_a_dataset_and_trajectories(tmp_path: Path) -> None:
    system, data = tmp_path / "system", tmp_path / "data"
    built = al("build", str(ROOT / "configs/systems/tetrapeptide.yaml"), "--out", str(system))
    assert built.returncode == 0, built.stderr
    for wrong in (["--save-interval-ps", "2"], ["--save-interval-ps", "0.0051"]):
        refused = al("sample", str(system), "--ps", "1", "--out", str(data), *wrong)
        assert refused.returncode == 2
        assert "choose a multiple" in refused.stderr
        assert sorted(file.name for file in tmp_path.iterdir()) == ["system"]
    sampling = ["sample", str(system), "--ps", "1", "--out", str(data), "--json"]
    options = ["--save-interval-ps", "0.1", "--equilibration-ps", "0.2", "--workers", "1"]
    sampled = al(*sampling, *options)
    assert sampled.returncode == 0, sampled.stderr
    assert json.loads(sampled.stdout)["frames"] == 20
    dataset = Dataset.open(data)
    beads = dataset.read_all_beads()
    assert beads.forces is not None
    assert beads.n_frames == 20
    names = [entry.label.name for entry in dataset.entries]
    assert names == ["replica-000", "replica-001"]
    for entry in dataset.entries:
        path = data / "trajectories" / f"{entry.label.name}.xtc"
        trajectory = mdtraj.load(str(path), top=str(data / "trajectories/topology.pdb"))
        atoms = dataset.read_atoms(entry).positions_nm
        np.testing.assert_allclose(trajectory.xyz, atoms, atol=1e-3)
        np.testing.assert_allclose(np.diff(trajectory.time), 0.1, atol=1e-4)
    assert not (tmp_path / "data.sampling").exists()
    again = al(*sampling, *options)
    assert again.returncode == 2
    assert "exists already" in again.stderr
