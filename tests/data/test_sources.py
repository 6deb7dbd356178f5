"""Sources in chunks hold the same frames as when they are read at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajgen.data import records, sources
from trajgen.data.frame_files import save_atom_frames, save_bead_frames, save_rollouts
from trajgen.data.records import AtomFrames, BeadFrames, Rollouts, concatenate
from trajgen.data.shards import ShardLabel
from trajgen.data.sources import FrameSource, Resolution, open_samples, read_all
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.data.writers import mdtraj_topology
from trajgen.errors import InputError

TOPOLOGY = BeadTopology.from_residues(("GLY", "TYR", "ASP"))


def some(segments: list[int], seed: int = 0, **more: object) -> BeadFrames:
    places = np.random.default_rng(seed).normal(size=(len(segments), 3, 3)).astype(np.float32)
    return BeadFrames(TOPOLOGY, places, np.array(segments, dtype=np.int64), 1.0, **more)


def joined(source: FrameSource) -> BeadFrames:
    """Join chunks without a look at their boundaries."""
    chunks = list(source.chunks())
    return BeadFrames(
        TOPOLOGY,
        np.concatenate([chunk.positions_nm for chunk in chunks]),
        np.concatenate([chunk.segments for chunk in chunks]),
        chunks[0].time_step_ps,
        weights=None
        if chunks[0].weights is None
        else np.concatenate([chunk.weights for chunk in chunks]),
    )


def require_same(a: BeadFrames, b: BeadFrames) -> None:
    np.testing.assert_array_equal(a.positions_nm, b.positions_nm)
    np.testing.assert_array_equal(a.segments, b.segments)
    assert a.time_step_ps == b.time_step_ps
    if b.weights is None:
        assert a.weights is None
    else:
        np.testing.assert_allclose(a.weights, b.weights)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_chunks_in_memory_keep_segments_together_and_frames_in_order(
    segments: list[int], size: int
) -> None:
    frames = some(segments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "CHUNK_FRAMES", size)
        assert isinstance(frames, FrameSource)
        assert max(chunk.n_frames for chunk in frames.chunks()) <= size
        together = joined(frames)
    assert (np.diff(together.segments) >= 0).all()
    for segment in set(segments):
        np.testing.assert_array_equal(
            together.positions_nm[together.segments == segment],
            frames.positions_nm[frames.segments == segment],
        )


def test_files_in_chunks_are_the_files_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = some([0] * 25, seed=3)
    trajectory = mdtraj.Trajectory(frames.positions_nm, mdtraj_topology(TOPOLOGY), np.arange(25))
    trajectory[0].save_pdb(str(tmp_path / "a.pdb"))
    trajectory.save_dcd(str(tmp_path / "a.dcd"))
    trajectory.save_xtc(str(tmp_path / "a.xtc"))
    dataset = Dataset.create(tmp_path / "data", DatasetHeader(TOPOLOGY))
    label = ShardLabel("a", "import", "unknown", 300.0, 1.0)
    dataset.append_beads(label, some([4, 4, 7], seed=1, weights=np.array([1.0, 2.0, 3.0])))
    dataset.append_beads(replace(label, name="b"), some([0, 0], seed=2))
    save_bead_frames(tmp_path / "c.safetensors", some([5, 9, 9], seed=4))
    monkeypatch.setattr(sources, "FILE_CHUNK", 10)
    monkeypatch.setattr(records, "CHUNK_FRAMES", 2)
    for names in (["a.xtc"], ["a.dcd"], ["data"], ["data", "c.safetensors"], ["a.xtc", "data"]):
        source = open_samples([tmp_path / name for name in names], tmp_path / "a.pdb")
        require_same(joined(source), read_all(source))
    chunks = open_samples([tmp_path / "a.xtc"], tmp_path / "a.pdb").chunks()
    assert [chunk.n_frames for chunk in chunks] == [10, 10, 5]


def test_an_uneven_step_between_chunks_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FILE_CHUNK", 10)
    times_ps = np.concatenate([np.arange(10), 15 + np.arange(10)])
    frames = some([0] * 20)
    trajectory = mdtraj.Trajectory(frames.positions_nm, mdtraj_topology(TOPOLOGY), times_ps)
    trajectory[0].save_pdb(str(tmp_path / "a.pdb"))
    trajectory.save_xtc(str(tmp_path / "a.xtc"))
    source = open_samples([tmp_path / "a.xtc"], tmp_path / "a.pdb")
    assert [chunk.time_step_ps for chunk in source.chunks()] == [1.0, None]
    assert read_all(source).time_step_ps is None


def test_a_frame_without_a_weight_counts_as_the_mean_of_the_others(tmp_path: Path) -> None:
    save_bead_frames(tmp_path / "a.safetensors", some([0, 0], weights=np.array([1.0, 4.0])))
    save_bead_frames(tmp_path / "b.safetensors", some([0]))
    source = open_samples([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    assert joined(source).weights.tolist() == [1.0, 4.0, 2.5]
    assert read_all(source).weights.tolist() == [1.0, 4.0, 2.5]
    assert concatenate([some([0]), some([0])]).weights is None


def test_single_precision_of_times_late_in_a_run_is_no_uneven_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 30 ns single precision moves a time by 0.002 ps, a fiftieth of the step."""
    monkeypatch.setattr(sources, "FILE_CHUNK", 999)
    times_ps = 30_000 + 0.1 * np.arange(2000)
    trajectory = mdtraj.Trajectory(
        some([0] * 2000).positions_nm, mdtraj_topology(TOPOLOGY), times_ps
    )
    trajectory[0].save_pdb(str(tmp_path / "a.pdb"))
    trajectory.save_xtc(str(tmp_path / "a.xtc"))
    source = open_samples([tmp_path / "a.xtc"], tmp_path / "a.pdb")
    steps = [chunk.time_step_ps for chunk in source.chunks()]
    assert steps[0] == pytest.approx(0.1, rel=1e-4)
    assert steps == [steps[0]] * 3


@pytest.mark.parametrize("resolution", ["ca", "heavy"])
def test_a_structure_file_is_its_own_topology_whatever_beads_are_known(
    tmp_path: Path, resolution: Resolution
) -> None:
    trajectory = mdtraj.Trajectory(some([0] * 3).positions_nm, mdtraj_topology(TOPOLOGY))
    trajectory.save_pdb(str(tmp_path / "a.pdb"))
    source = open_samples([tmp_path / "a.pdb"], TOPOLOGY, resolution)
    assert sum(chunk.n_frames for chunk in source.chunks()) == 3
    trajectory.save_xtc(str(tmp_path / "a.xtc"))
    with pytest.raises(InputError, match="add --topology"):
        open_samples([tmp_path / "a.xtc"], TOPOLOGY, resolution)


def test_heavy_atoms_of_a_dataset_are_read_without_their_forces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = AtomTopology(("CA", "HA"), ("C", "H"), (0, 0), ("GLY",), (1,), (0,), ((0, 1),))
    beads = BeadTopology.from_residues(("GLY",))
    dataset = Dataset.create(tmp_path / "D", DatasetHeader(beads, atoms, (0,)))
    places = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    frames = AtomFrames(atoms, places, np.zeros(4, dtype=np.int64), 1.0, forces=places)
    dataset.append_atoms(ShardLabel("a", "sample", "test", 300.0, 1.0), frames)
    read = []
    read_atoms = Dataset.read_atoms

    def spied(*arguments: Any, **more: Any) -> AtomFrames:
        read.append(read_atoms(*arguments, **more))
        return read[-1]

    monkeypatch.setattr(Dataset, "read_atoms", spied)
    (heavy,) = open_samples([tmp_path / "D"], resolution="heavy").chunks()
    np.testing.assert_array_equal(heavy.positions_nm, places[:, :1])
    assert [frames.forces for frames in read] == [None]


def test_generated_beads_are_read_from_safetensors(tmp_path: Path) -> None:
    positions_nm = np.random.default_rng(5).normal(size=(2, 4, 3, 3)).astype(np.float32)
    alive = np.ones((2, 4), dtype=bool)
    alive[1, 1:] = False
    positions_nm[~alive] = np.nan
    save_rollouts(tmp_path / "sim.safetensors", Rollouts(TOPOLOGY, positions_nm, alive, 2.0))
    source = open_samples([tmp_path / "sim.safetensors"])
    assert source.left_out == {"frozen chain": 3}
    wanted = BeadFrames(TOPOLOGY, positions_nm[alive], np.array([0, 0, 0, 0, 1]), 2.0)
    require_same(read_all(source), wanted)
    with pytest.raises(InputError, match="holds beads only"):
        open_samples([tmp_path / "sim.safetensors"], resolution="heavy")


def test_atoms_in_safetensors_are_read_as_heavy_atoms_or_as_beads(tmp_path: Path) -> None:
    names = ("N", "H", "CA", "C", "N", "CA", "HA")
    atoms = AtomTopology(
        names,
        tuple(name[0] for name in names),
        (0, 0, 0, 0, 1, 1, 1),
        ("GLY", "TYR"),
        (1, 2),
        (0, 0),
        (),
    )
    positions_nm = np.random.default_rng(6).normal(size=(2, 3, 7, 3)).astype(np.float32)
    alive = np.ones((2, 3), dtype=bool)
    save_rollouts(tmp_path / "gen.safetensors", Rollouts(atoms, positions_nm, alive, 5.0))
    flat, segments = positions_nm.reshape(6, 7, 3), np.array([0, 0, 0, 1, 1, 1])
    save_atom_frames(tmp_path / "md.safetensors", AtomFrames(atoms, flat, segments, 5.0))
    for file in ("gen.safetensors", "md.safetensors"):
        (heavy,) = open_samples([tmp_path / file], resolution="heavy").chunks()
        np.testing.assert_array_equal(heavy.positions_nm, flat[:, [0, 2, 3, 4, 5]])
        beads = read_all(open_samples([tmp_path / file]))
        assert beads.topology.residues == ("GLY", "TYR")
        np.testing.assert_array_equal(beads.positions_nm, flat[:, [2, 5]])
        np.testing.assert_array_equal(beads.segments, segments)
        assert beads.time_step_ps == 5.0
