"""Runs of peptides that lie there are kept only where they are what is asked for."""

from pathlib import Path

import make_peptides
import numpy as np
import pytest
from make_peptides import EQUILIBRATION_PS, choose_platform, missing_tasks

from al.molecule.molecule import Molecule
from al.parts.sampler import SamplingSettings
from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.seeding import derive_seed

SEED = 3
BEADS = BeadTopology.from_residues(("GLY", "GLY"))


def settings(ps: float = 20.0, save_interval_ps: float = 0.1) -> SamplingSettings:
    return SamplingSettings(
        replicas=2, ps=ps, equilibration_ps=EQUILIBRATION_PS, save_interval_ps=save_interval_ps
    )


def numbers(folder: Path, asked: SamplingSettings, seed: int = SEED) -> list[str]:
    """Return the names of the tasks that are missing."""
    return [task.name for task in missing_tasks(folder, asked, seed, folder / "scratch")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a peptide whose first run of 20 ps is there, and whose second was killed."""
    folder = tmp_path_factory.mktemp("peptides") / "GG"
    make_peptides.build("GG", folder)
    label = ShardLabel(
        name="GG-000",
        source="sample",
        hamiltonian="none",
        temperature_K=350.0,
        save_interval_ps=0.1,
        seed=derive_seed(SEED, "sample-GG", 0, 0),
        oracle_ps=30_000 * 0.004,  # 20 ps behind the equilibration, in time steps
    )
    frames = BeadFrames(BEADS, np.zeros((2, 2, 3), np.float32), np.zeros(2, np.int64), 0.1)
    Dataset.create(folder / "run-0", DatasetHeader(BEADS)).append_beads(label, frames)
    Dataset.create(folder / "run-1", DatasetHeader(BEADS))
    return folder


def test_what_is_there_is_not_run_again(folder: Path) -> None:
    assert numbers(folder, settings()) == ["GG-001"]


def test_a_run_of_another_length_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"run-0 is of --ps 20 instead of 40; ask for what is"):
        numbers(folder, settings(ps=40.0))


def test_a_run_with_other_frames_or_another_seed_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"--save-interval-ps 0\.1 instead of 0\.2, of another"):
        numbers(folder, settings(save_interval_ps=0.2), seed=4)


def test_gpus_are_taken_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_peptides, "usable_gpus", lambda _: ("0", "1"))
    assert [choose_platform(asked) for asked in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]

    def none(_: str) -> tuple[str, ...]:
        raise InputError("OpenMM sees no GPU")

    monkeypatch.setattr(make_peptides, "usable_gpus", none)
    assert [choose_platform(asked) for asked in ("auto", "cpu", "cuda")] == ["cpu", "cpu", "cuda"]


def test_peptides_are_simulated_as_the_benchmark_says(folder: Path) -> None:
    found = Molecule.load(folder / "system").settings
    assert (found.temperature_K, found.solvent, found.time_step_ps) == (350.0, "gbn2", 0.004)
    assert found.force_field == ("amber14/protein.ff14SB.xml",)
    assert (found.friction_per_ps, found.constraints) == (0.3, "h-bonds")
    assert (found.caps.ace, found.caps.nme) == (False, False)
