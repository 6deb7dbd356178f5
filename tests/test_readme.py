"""The Python example of the README runs, but for its lengths, and its commands name settings."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from command import succeed
from tiny import SEQUENCE, TRAIN, Made

from al.run_settings import load_run_settings
from trajgen.data.store import Dataset
from trajgen.data.writers import write_structure
from trajgen.potential.fit import FitSettings
from trajgen.settings import load_settings
from trajgen.surrogate.training_settings import TrainSettings

README = Path(__file__).parents[1] / "README.md"
#: What is made smaller, so that it takes a second.
SHORTER = {
    "SimulationSettings()": "SimulationSettings(steps=10, save_every=5)",
    "starts, 1000, 5.0": "starts, 9, 2.0",
    "40, 8, 5.0": "5, 2, 2.0",
    "paths, 5.0": "paths, 2.0",
    "run[::10], 10, 50.0": "run[::4], 2, 4.0",
    "known, 4, 5.0": "known, 2, 2.0",
    "model, 1000,": "model, 4,",
    "known, 100, 5.0": "known, 3, 2.0",
    "[:16]": "[:3]",
}


def test_the_python_example_runs(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for text, shorter in SHORTER.items():
        assert text in example
        example = example.replace(text, shorter)
    for name in ("data", "potential", "surrogate"):
        source = made.dataset if name == "data" else getattr(made, name)
        (tmp_path / name).symlink_to(source)
    arrays, other = made.arrays.flags(), tmp_path / "other"
    succeed("import", *("GYAPE" if word == SEQUENCE else word for word in arrays), "--out", other)
    few = [part for value in (*TRAIN, "tasks.design=0.25") for part in ("--set", value)]
    several = tmp_path / "several"
    succeed("train", made.dataset, other, "--out", several, "--device", "cpu", *few)
    beads = Dataset.open(made.dataset).read_all_beads()
    write_structure(tmp_path / "a.pdb", beads.topology, beads.positions_nm[0])
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(example, found)
    assert found["dynamics"].positions_nm.shape == (3, 2, 5, 3)
    assert found["rolled"].positions_nm.shape == (3, 9, 5, 3)
    assert found["paths"].positions_nm.shape == (2, 5, 5, 3)
    assert found["fine"].positions_nm.shape == (1, 5, 5, 3)
    assert found["best_first"].positions_nm.shape == (2, 5, 5, 3)
    assert len(found["scores"]) == 2
    assert len(found["designs"].sequences(SEQUENCE)) == 3
    assert found["whole"].positions_nm.shape == (2, 9, 5, 3)
    assert found["drawn"].positions_nm.shape == (1, 4, 5, 3)


def test_settings_in_its_commands_are_known() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    kinds = {"fit": FitSettings, "train": TrainSettings}
    seen = 0
    for line in (line for line in lines if re.match(r"trajgen (fit|train) ", line)):
        words = shlex.split(line, comments=True)
        changes = [after for word, after in pairwise(words) if word == "--set"]
        load_settings(kinds[words[1]], None, changes)
        seen += len(changes)
    assert seen >= 4


def test_the_run_it_copies_is_one_for_science(tmp_path: Path) -> None:
    name = "configs/loop/science.yaml"
    assert name in README.read_text(encoding="utf-8")
    settings = load_run_settings(README.parent / name)
    assert set(settings.surrogate.tasks.wanted()) >= {"upsample", "inpaint", "ensemble"}
    assert settings.evaluation.kinetics is not None
    sampled = settings.sampling.replicas * settings.sampling.ps
    judging = settings.sampling.reference_replicas * settings.sampling.reference_ps
    queried = settings.rounds * settings.selection.picks * settings.oracle.ps
    assert sampled + judging + queried == 80_000  # what the file and the README say
