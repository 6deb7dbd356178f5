"""A summary counts what is there, and does not hold it in memory."""

from dataclasses import replace
from pathlib import Path

import pytest
from peptide import Solvated

from trajgen.data import sources
from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.summary import summarise


def forbidden(*arguments: object, **more: object) -> None:
    raise AssertionError("frames were read all at once")


def test_a_dataset_is_counted_without_its_frames(
    tmp_path: Path, beads: BeadFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset.create(tmp_path / "D", DatasetHeader(beads.topology))
    label = ShardLabel("a", "import", "test", 300.0, 2.0)
    bare = replace(beads, forces=None, weights=None, force_variance=None)
    dataset.append_beads(label, bare)
    dataset.append_beads(replace(label, name="b", continues=True), beads)
    dataset.append_beads(replace(label, name="c"), bare)
    monkeypatch.setattr(Dataset, "read_beads", forbidden)
    values = summarise(tmp_path / "D")
    counts = ("frames", "shards", "segments", "frames_with_forces", "weighted")
    assert [values[name] for name in counts] == [36, 3, 5, 12, True]
    assert values["damaged_files"] == []


def test_a_trajectory_is_counted_chunk_by_chunk(
    solvated: Solvated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FILE_CHUNK", 12)  # the last chunk is one frame
    monkeypatch.setattr(sources, "join_chunks", forbidden)
    values = summarise(solvated.trajectory, solvated.structure)
    assert values == {
        "kind": "trajectory",
        "sequence": "GAHW",
        "beads": 4,
        "frames": 25,
        "segments": 1,
        "time_step_ps": 2.0,
        "left_out": {},
    }
