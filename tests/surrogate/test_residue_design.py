"""Design: residues are told from how others move, and the same noise gives the same design."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import succeed, trajgen
from test_forward import SETTINGS, STARTS
from toy_chain import LAG_PS, tiny_settings, wobbling_chain

from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.data.writers import write_structure
from trajgen.errors import InputError
from trajgen.surrogate import canvas
from trajgen.surrogate.checkpoints import load_surrogate
from trajgen.surrogate.conditioning import TASKS, TaskSettings
from trajgen.surrogate.design import LETTERS, design
from trajgen.surrogate.surrogate import Surrogate, SurrogateSettings
from trajgen.surrogate.train import train_surrogate
from trajgen.surrogate.training_windows import read_training_data

CPU = torch.device("cpu")
KNOWN = np.array([True, True, False, True, True])
RESIDUES = {"G": ("GLY", "TYR", "GLY", "PRO", "GLU"), "W": ("GLY", "TYR", "TRP", "PRO", "GLU")}


def chains(letter: str, seed: int, frames: int = 60) -> np.ndarray:
    """Return a chain that is longer where its middle residue is TRP."""
    return wobbling_chain(frames, seed) * np.float32(1.25 if letter == "W" else 1.0)


def make(path: Path, letter: str) -> Dataset:
    topology = BeadTopology.from_residues(RESIDUES[letter])
    dataset = Dataset.create(path, DatasetHeader(topology))
    for seed in range(3):
        label = ShardLabel(f"s{seed}", "import", "springs", 300.0, LAG_PS)
        ids = np.zeros(60, dtype=np.int64)
        dataset.append_beads(label, BeadFrames(topology, chains(letter, seed), ids, LAG_PS))
    return dataset


def trained(folder: Path, steps: int) -> Path:
    tasks = TaskSettings(**{**dict.fromkeys(TASKS, 0.0), "design": 1.0})
    settings = tiny_settings(steps, learning_rate=4e-3, validate_every=steps)
    settings = settings.model_copy(update={"tasks": tasks})
    datasets = [make(folder / letter, letter) for letter in RESIDUES]
    return train_surrogate(datasets, folder / "model", settings, 1, CPU)


@pytest.mark.slow
def test_a_residue_is_told_by_how_the_others_move(tmp_path: Path):
    model = trained(tmp_path, 200)
    for letter, residues in RESIDUES.items():
        topology, frames = BeadTopology.from_residues(residues), chains(letter, 9, 30)
        write_structure(tmp_path / f"{letter}.pdb", topology, frames[0])
        surrogate = load_surrogate(model, CPU, tmp_path / f"{letter}.pdb")
        found = design(surrogate, frames, KNOWN, 24, LAG_PS, SETTINGS, 1)
        assert found.chances.shape == (24, 1, 20)
        np.testing.assert_allclose(found.chances.sum(axis=-1), 1, rtol=1e-6)
        assert found.chances[:, 0, LETTERS.index(letter)].mean() > 0.6
        assert found.sequences("GYXPE").count(f"GY{letter}PE") > 14
        hidden = frames.copy()
        hidden[:, 2] = 0.0
        again = design(surrogate, hidden, KNOWN, 24, LAG_PS, SETTINGS, 1)
        assert np.array_equal(found.chances, again.chances)


@pytest.fixture(scope="module")
def barely_trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("design"), 2)


def ask(model: Path, folder: Path, samples: int, letter: str = "W") -> tuple[object, ...]:
    """Write a trajectory of a molecule, and return the command that asks for designs from it."""
    topology = BeadTopology.from_residues(RESIDUES[letter])
    write_structure(folder / "a.pdb", topology, chains("W", 9)[0])
    np.savez(
        folder / "t.npz", positions=chains("W", 9)[None], time_step_ps=LAG_PS,
        topology=json.dumps(topology.to_dict()),
    )  # fmt: skip
    return (
        "generate", "design", model, "--known", folder / "t.npz", "--topology", folder / "a.pdb",
        "--residues", "1-2,4-5", "--samples", samples, "--device", "cpu", "--set", "batch=2",
        "--out", folder / "designs.json",
    )  # fmt: skip


def test_the_command_writes_sequences_and_chances(barely_trained: Path, tmp_path: Path):
    said = succeed(*ask(barely_trained, tmp_path, 8)).out
    values = json.loads((tmp_path / "designs.json").read_text())
    assert sum(row["designs"] for row in values["sequences"]) == 8
    assert list(values["chances"]) == ["3"]
    assert values["sequences"][0]["sequence"] in said
    assert "model_sha256" in values
    assert not (tmp_path / "designs.json.generation").exists()


def test_a_killed_command_goes_on_to_the_same_designs(
    barely_trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    succeed(*ask(barely_trained, whole, 8))
    monkeypatch.setattr(canvas, "STORE_SECONDS", 0.0)
    looks, calls = Surrogate.residue_types, 0

    def counted(self: Surrogate, *arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return looks(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Surrogate, "residue_types", counted)
    assert trajgen(*ask(barely_trained, killed, 8)).code != 0
    assert (killed / "designs.json.generation" / "chances.f32").is_file()
    # The same positions, of another molecule of the model.
    refused = trajgen(*ask(barely_trained, killed, 8, "G"))
    assert "under way with another sequence" in refused.error
    succeed(*ask(barely_trained, killed, 8))
    assert calls == 3 + 2  # two of the four batches were done before the kill, and not again
    first, second = (
        json.loads((folder / "designs.json").read_text()) for folder in (whole, killed)
    )
    assert first["chances"] == second["chances"]
    assert first["sequences"] == second["sequences"]


def test_bad_requests_are_refused_with_what_is_wanted(surrogate: Surrogate):
    with pytest.raises(InputError, match="not trained for design, only for forward"):
        design(surrogate, STARTS, KNOWN, 1, LAG_PS, SETTINGS, 1)
    asked = replace(surrogate.molecule, tasks=TASKS, alone=False)
    surrogate = Surrogate(surrogate.network, surrogate.settings, asked)
    with pytest.raises(InputError, match="samples is 0"):
        design(surrogate, STARTS, KNOWN, 0, LAG_PS, SETTINGS, 1)
    with pytest.raises(InputError, match="5 of 5 residues are known"):
        design(surrogate, STARTS, np.ones(5, dtype=bool), 1, LAG_PS, SETTINGS, 1)


def test_one_molecule_alone_is_neither_designed_nor_trained_on_for_it(
    dataset: Dataset, surrogate: Surrogate
):
    """Nothing says what other residues look like; models of before say that they were trained."""
    asked = replace(surrogate.molecule, tasks=TASKS)
    model = Surrogate(surrogate.network, surrogate.settings, asked)
    with pytest.raises(InputError, match="trained on GYDPE alone, and knows no other residues"):
        design(model, STARTS, KNOWN, 1, LAG_PS, SETTINGS, 1)
    with pytest.raises(InputError, match=r"tasks\.design is 0\.25 and there is one molecule alone"):
        read_training_data([dataset], SurrogateSettings(), TaskSettings(design=0.25), 0.1, 0.0, 1)
