"""Frames that stay in their files are those that were written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.stored_positions import StoredPositions
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError

TOPOLOGY = BeadTopology.from_residues(("GLY", "ALA", "GLY"))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset.create(tmp_path / "dataset", DatasetHeader(TOPOLOGY))
    generator = np.random.default_rng(0)
    for name, count in (("a", 5), ("b", 1), ("c", 9)):
        positions = generator.standard_normal((count, 3, 3)).astype(np.float32)
        label = ShardLabel(name, "import", "none", 300.0, 1.0)
        made.append_beads(label, BeadFrames(TOPOLOGY, positions, np.zeros(count, np.int64), 1.0))
    return made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(st.integers(0, 14), max_size=20))
def test_frames_are_read_as_they_are_named(dataset: Dataset, frames: list[int]) -> None:
    stored = StoredPositions.of_beads(dataset)
    every = dataset.read_all_beads().positions_nm
    named = torch.tensor(frames, dtype=torch.long)
    assert np.array_equal(stored.read(named).numpy(), every[frames])
    twice = stored.read(named[:, None].expand(-1, 2))
    assert np.array_equal(twice[:, 1].numpy(), every[frames])
    assert len(stored) == 15


def test_all_frames_come_in_chunks(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajgen.data.stored_positions.CHUNK_FRAMES", 4)
    stored = StoredPositions.of_beads(dataset)
    parts = list(stored.chunks())
    assert [len(frames) for frames, _ in parts] == [4, 4, 4, 3]
    joined = torch.cat([positions for _, positions in parts]).numpy()
    assert np.array_equal(joined, dataset.read_all_beads().positions_nm)


def test_some_sites_are_read_and_frames_are_named_by_their_shard(dataset: Dataset) -> None:
    stored = StoredPositions.of_beads(dataset)
    some = StoredPositions(stored.shards, stored.names, torch.tensor([2, 0]))
    frames = torch.tensor([14, 0, 5])
    assert torch.equal(some.read(frames), stored.read(frames)[:, [2, 0]])
    assert some.n_sites == 2
    assert [stored.describe(frame) for frame in (0, 4, 5, 6, 14)] == [
        "frame 0 of shard a", "frame 4 of shard a", "frame 0 of shard b",
        "frame 0 of shard c", "frame 8 of shard c",
    ]  # fmt: skip


def test_atoms_of_a_dataset_of_beads_are_refused(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="is of beads only; it holds no atoms"):
        StoredPositions.of_atoms(dataset, torch.tensor([0]))
