"""The whole ring on a tetrapeptide: it closes, and a killed run ends like one left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from al.ledger import read_events
from al.parts.judge import DISTANCE_NAMES
from al.status import read_status
from trajgen.data.frame_files import load_atom_frames, load_bead_frames, load_rollouts
from trajgen.data.store import Dataset

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    *("--set", "sampling.ps=2.0", "--set", "sampling.reference_ps=2.0"),
    *("--set", "sampling.equilibration_ps=0.4", "--set", "potential.training.steps=20"),
    *("--set", "surrogate.training.steps=60", "--set", "surrogate.training.save_every=5"),
    *("--set", "selection.picks=2"),
    *("--set", "exploration.potential.dynamics.steps=200"),
    *("--set", "exploration.surrogate.pairs=1"),
]
pytestmark = pytest.mark.slow


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "al.cli", "run", str(ROOT / "configs/smoke.yaml")]
    return subprocess.Popen(
        [*command, "--out", str(out), *SMALL, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(out: Path, *more: str) -> None:
    process = start(out, *more)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()


def kill_when(out: Path, reached: Callable[[], bool]) -> None:
    """Run until ``reached``, then kill -9."""
    process = start(out)
    for _ in range(30_000):
        if process.poll() is not None or reached():
            break
        time.sleep(0.01)
    assert process.poll() is None, process.stderr and process.stderr.read().decode()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "alone"
    finish(out)
    return out


def test_the_ring_closes(left_alone: Path) -> None:
    metrics = json.loads((left_alone / "metrics.json").read_text())
    first, second = metrics["rounds"]
    assert second["oracle_accepted"] > 0
    assert second["new_windows"] > 0
    assert second["dataset_frames"] > first["dataset_frames"]
    assert second["oracle_ps"] > first["oracle_ps"]
    assert second["potential_sha256"] != first["potential_sha256"]
    assert second["surrogate_sha256"] != first["surrogate_sha256"]
    for entry in metrics["rounds"]:
        for model in ("potential", "surrogate"):
            names = set(entry["distances"][model])
            assert names == set(DISTANCE_NAMES)
    status = read_status(left_alone)
    assert (status.state, status.seconds_left) == ("finished", 0.0)


def test_the_reference_is_never_trained_on(left_alone: Path) -> None:
    dataset = Dataset.open(left_alone / "dataset").read_all_beads().positions_nm
    reference = Dataset.open(left_alone / "reference").read_all_beads().positions_nm
    assert not any((dataset == frame).all(axis=(1, 2)).any() for frame in reference)


def test_oracle_frames_know_their_parent_and_have_atoms(left_alone: Path) -> None:
    dataset = Dataset.open(left_alone / "dataset")
    grown = [entry for entry in dataset.entries if entry.label.source == "oracle"]
    assert grown
    for entry in grown:
        assert entry.label.sampling == "seeded"
        atoms = dataset.read_atoms(entry)
        beads = dataset.read_beads(entry)
        assert atoms.forces is not None
        assert beads.forces is not None
        assert dataset.header.bead_atoms is not None
        carbons = atoms.positions_nm[:, list(dataset.header.bead_atoms)]
        np.testing.assert_array_equal(carbons, beads.positions_nm)


def test_the_report_is_whole_and_opens_offline(left_alone: Path) -> None:
    text = (left_alone / "report.html").read_text()
    HTMLParser().feed(text)
    assert "http://" not in text
    assert "https://" not in text
    for title in ("Distance to the reference", "Coverage", "Free-energy", "Distributions",
                  "Structures and movies", "Selection", "Training", "All-atom budget",
                  "built of atoms", "Uncertainty of the potential: 1 network"):  # fmt: skip
        assert title in text
    for title in ("Selection", "Training", "All-atom budget", "Provenance"):
        assert title in text
    assert text.count("other half of the reference") == 1  # as in every round


def test_a_killed_run_ends_like_one_left_alone(left_alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"

    def started(step: str, round: int) -> bool:
        path = out / "ledger.jsonl"
        return any((e.kind, e.step, e.round) == ("started", step, round) for e in read_events(path))

    kill_when(out, lambda: (out / "rounds/000/sample/dataset-000/result.json").exists())
    kill_when(out, lambda: any(out.glob("surrogate/000.training/state.json")))
    kill_when(out, lambda: started("query", 1))
    finish(out)
    assert Dataset.open(out / "dataset").digest() == Dataset.open(left_alone / "dataset").digest()
    alone, killed = (json.loads((run / "metrics.json").read_text()) for run in (left_alone, out))
    assert alone == killed
    asked = [e for e in read_events(out / "ledger.jsonl") if e.kind == "finished"]
    assert len(asked) == len({(e.round, e.step) for e in asked})


def test_atoms_of_a_surrogate_go_to_the_oracle_as_they_are(tmp_path: Path) -> None:
    out = tmp_path / "heavy"
    finish(
        out, "--set", "surrogate.model.resolution=heavy", "--set", "exploration.potential.chains=1"
    )
    explored = load_rollouts(out / "rounds/000/explore/surrogate_atoms.safetensors")
    beads = load_rollouts(out / "rounds/000/explore/surrogate.safetensors")
    carbons = [atom for atom, name in enumerate(explored.topology.names) if name == "CA"]
    np.testing.assert_array_equal(explored.positions_nm[:, :, carbons], beads.positions_nm)
    chosen = load_bead_frames(out / "rounds/001/select/chosen.safetensors")
    atoms = load_atom_frames(out / "rounds/001/select/chosen_atoms.safetensors")
    np.testing.assert_array_equal(
        atoms.positions_nm[:, carbons], chosen.positions_nm[atoms.segments]
    )
    (mapped,) = [
        event.data["frames"]
        for event in read_events(out / "ledger.jsonl")
        if (event.kind, event.step, event.round) == ("finished", "backmap", 1)
    ]
    assert "atoms" in [record["method"] for record in mapped]


def test_other_settings_are_refused(left_alone: Path) -> None:
    command = [sys.executable, "-m", "al.cli", "run", str(ROOT / "configs/smoke.yaml")]
    result = subprocess.run(
        [*command, "--out", str(left_alone), *SMALL, "--seed", "7"], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "seed is 0 there and 7 now" in result.stderr
