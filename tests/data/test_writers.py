"""Generated chains open in other programs, whole or not at all."""

import json
from pathlib import Path

import MDAnalysis
import mdtraj
import numpy as np
import pytest
from peptide import Solvated

from trajgen.data import writers
from trajgen.data.readers import read_bead_structure, read_starts
from trajgen.data.records import Loss, Rollouts
from trajgen.data.sources import open_samples, read_all, read_trajectory
from trajgen.data.starts import draw_starts, repeat_starts
from trajgen.data.structures import read_solute
from trajgen.data.topology import BeadTopology
from trajgen.data.writers import (
    mdtraj_topology,
    prepare_output,
    write_rollouts,
    write_structure,
)
from trajgen.errors import InputError, WorkError

TOPOLOGY = BeadTopology.from_residues(("GLY", "TYR", "ASP"))


@pytest.fixture
def rollouts() -> Rollouts:
    """Three chains: whole, frozen from frame 4 on, frozen from the start."""
    random = np.random.default_rng(0)
    positions = np.cumsum(random.normal(scale=0.22, size=(3, 7, 3, 3)), axis=2).astype(np.float32)
    alive = np.ones((3, 7), dtype=bool)
    alive[1, 4:] = alive[2] = False
    positions[~alive] = np.nan
    return Rollouts(TOPOLOGY, positions, alive, time_step_ps=2.5)


def test_npz_comes_back(tmp_path: Path, rollouts: Rollouts) -> None:
    path = tmp_path / "sim.npz"
    files = write_rollouts(path, rollouts, {"seed": 3})
    assert {file.name for file in files} == {"sim.npz", "sim.json"}
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["positions"], rollouts.positions_nm)
        np.testing.assert_array_equal(arrays["alive"], rollouts.alive)
    samples = open_samples([path])
    wanted = rollouts.to_frames()
    assert read_all(samples).topology == TOPOLOGY
    assert read_all(samples).time_step_ps == 2.5
    assert samples.left_out == {"frozen chain": 10}
    np.testing.assert_array_equal(read_all(samples).positions_nm, wanted.positions_nm)
    np.testing.assert_array_equal(read_all(samples).segments, wanted.segments)
    card = json.loads((tmp_path / "sim.json").read_text())
    assert card["seed"] == 3
    assert card["frames_alive"] == [7, 4, 0]


@pytest.mark.parametrize("suffix", [".xtc", ".trr", ".dcd", ".nc", ".h5", ".pdb"])
def test_every_chain_is_a_file_of_its_frames_alive(
    tmp_path: Path, rollouts: Rollouts, suffix: str
) -> None:
    write_rollouts(tmp_path / f"gen{suffix}", rollouts, {})
    names = {f"gen_000{suffix}", f"gen_001{suffix}", "gen.json"}
    if suffix not in (".pdb", ".h5"):
        names.add("gen.pdb")
    assert {file.name for file in tmp_path.iterdir()} == names
    for chain, frames in ((0, 7), (1, 4)):
        path = tmp_path / f"gen_{chain:03d}{suffix}"
        read = read_trajectory(path, None if suffix in (".pdb", ".h5") else tmp_path / "gen.pdb")
        assert read.topology == TOPOLOGY
        np.testing.assert_allclose(
            read.positions_nm, rollouts.positions_nm[chain, :frames], atol=6e-4
        )
        if suffix in (".xtc", ".trr", ".nc", ".h5"):
            assert read.time_step_ps == pytest.approx(2.5)


@pytest.mark.parametrize("suffix", [".xtc", ".trr", ".nc", ".h5"])
def test_frames_after_a_gap_keep_their_times(
    tmp_path: Path, rollouts: Rollouts, suffix: str
) -> None:
    alive = np.array([[True, True, False, True, True, True, False]])
    made = Rollouts(TOPOLOGY, rollouts.positions_nm[:1], alive, 2.5)
    (file, *_) = write_rollouts(tmp_path / f"gen{suffix}", made, {})
    top = None if suffix == ".h5" else tmp_path / "gen.pdb"
    read = mdtraj.load(file) if top is None else mdtraj.load(file, top=top)
    np.testing.assert_allclose(read.time, [0.0, 2.5, 7.5, 10.0, 12.5])
    assert read_trajectory(file, top).time_step_ps is None


@pytest.mark.parametrize("suffix", [".xtc", ".trr"])
@pytest.mark.parametrize("piece_frames", [2, 3, 100])
def test_a_file_does_not_tell_the_pieces_that_it_was_written_in(
    tmp_path: Path, rollouts: Rollouts, suffix: str, piece_frames: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The bytes are those of mdtraj's own writer, which takes all frames at once."""
    monkeypatch.setattr(writers, "PIECE_FRAMES", piece_frames)
    made = write_rollouts(tmp_path / f"pieces{suffix}", rollouts, {})[0]
    times = 2.5 * np.arange(7)
    whole = mdtraj.Trajectory(rollouts.positions_nm[0], mdtraj_topology(TOPOLOGY), times)
    whole.save(str(tmp_path / f"whole{suffix}"))
    assert made.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("chains", [1, 2])
@pytest.mark.parametrize("clock", ["time_step_ps", "time_step_cg_ps", None])
def test_only_times_of_real_chains_are_taken_for_ps(
    tmp_path: Path, rollouts: Rollouts, chains: int, clock: str | None
) -> None:
    kept = rollouts.positions_nm[:1].repeat(chains, axis=0)
    alive = np.ones((chains, 7), dtype=bool)
    steps: dict[str, float | None] = {"time_step_ps": None}
    if clock is not None:
        steps[clock] = 2.5
    made = Rollouts(TOPOLOGY, kept, alive, **steps)  # type: ignore[arg-type]
    trajectory = write_rollouts(tmp_path / "gen.xtc", made, {})[0]
    assert mdtraj.load(trajectory, top=tmp_path / "gen.pdb").time[1] == (2.5 if clock else 1)
    read = read_trajectory(trajectory, tmp_path / "gen.pdb")
    assert read.time_step_ps == (2.5 if clock == "time_step_ps" else None)


def test_one_chain_is_one_file(tmp_path: Path, rollouts: Rollouts) -> None:
    one = Rollouts(TOPOLOGY, rollouts.positions_nm[:1], rollouts.alive[:1], 2.5)
    files = write_rollouts(tmp_path / "gen.xtc", one, {})
    assert {file.name for file in files} == {"gen.xtc", "gen.pdb", "gen.json"}


def test_mdanalysis_and_mdtraj_open_the_files_with_their_bonds(
    tmp_path: Path, rollouts: Rollouts
) -> None:
    write_rollouts(tmp_path / "gen.xtc", rollouts, {})
    text = (tmp_path / "gen.pdb").read_text()
    atoms = [line for line in text.splitlines() if line.startswith("ATOM")]
    assert [line[12:16] for line in atoms] == [" CA "] * 3
    assert [line[76:78].strip() for line in atoms] == ["C"] * 3
    assert sum(line.startswith("CONECT") for line in text.splitlines()) == 3
    universe = MDAnalysis.Universe(str(tmp_path / "gen.pdb"), str(tmp_path / "gen_000.xtc"))
    assert list(universe.residues.resnames) == ["GLY", "TYR", "ASP"]
    assert len(universe.bonds) == 2
    assert len(universe.trajectory) == 7
    trajectory = mdtraj.load(str(tmp_path / "gen_001.xtc"), top=str(tmp_path / "gen.pdb"))
    assert trajectory.topology.n_bonds == 2
    assert len(trajectory.topology.select("protein and name CA")) == 3


def test_chains_that_all_failed_are_not_written(tmp_path: Path, rollouts: Rollouts) -> None:
    dead = Rollouts(
        TOPOLOGY, rollouts.positions_nm * np.nan, np.zeros((3, 7), dtype=bool), time_step_ps=1.0
    )
    with pytest.raises(WorkError, match="no chain was alive"):
        write_rollouts(tmp_path / "gen.npz", dead, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".xtc", ".pdb"])
def test_of_chains_that_all_failed_is_written_what_is_known(
    tmp_path: Path, rollouts: Rollouts, suffix: str
) -> None:
    held_nm = rollouts.positions_nm[0, :3, None]
    dead = Rollouts(
        TOPOLOGY,
        rollouts.positions_nm * np.nan,
        np.zeros((3, 7), dtype=bool),
        time_step_ps=None,
        time_step_cg_ps=0.4,
        losses=tuple(Loss(chain, 2, "not finite", held_nm[chain]) for chain in range(3)),
    )
    written = write_rollouts(tmp_path / f"gen{suffix}", dead, {"seed": 3})
    assert written == [tmp_path / "gen_lost.npz", tmp_path / "gen.json"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    np.testing.assert_array_equal(read_starts(written[0], TOPOLOGY), held_nm[:, 0])
    card = json.loads(written[1].read_text())
    assert (card["files"], card["frames_alive"], card["seed"]) == (["gen_lost.npz"], [0, 0, 0], 3)


@pytest.mark.parametrize("taken", ["gen.json", "gen.pdb", "gen_002.xtc"])
def test_a_name_that_is_taken_is_refused_before_the_work(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("precious")
    with pytest.raises(InputError, match=f"{taken} exists already"):
        prepare_output(tmp_path / "gen.xtc", 3, TOPOLOGY)
    assert [file.name for file in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "precious"


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.npz, \.xtc"):
        prepare_output(tmp_path / "gen.mp4", 1, TOPOLOGY)


def test_atoms_in_a_file_for_beads_are_refused_before_the_work(
    tmp_path: Path, solvated: Solvated
) -> None:
    atoms = read_solute(solvated.structure).topology
    with pytest.raises(InputError, match=r"gen\.npz cannot hold atoms; use \.xtc"):
        prepare_output(tmp_path / "gen.npz", 1, atoms)
    assert prepare_output(tmp_path / "gen.safetensors", 1, atoms)


def test_a_provenance_that_is_no_json_leaves_nothing(tmp_path: Path, rollouts: Rollouts) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_rollouts(tmp_path / "gen.xtc", rollouts, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_structure_comes_back_as_a_start(tmp_path: Path, rollouts: Rollouts) -> None:
    write_structure(tmp_path / "a.pdb", TOPOLOGY, rollouts.positions_nm[0, 0])
    read = read_bead_structure(tmp_path / "a.pdb", TOPOLOGY)
    np.testing.assert_allclose(read, rollouts.positions_nm[0, 0], atol=6e-5)


def test_generated_chains_are_no_starts(tmp_path: Path, rollouts: Rollouts) -> None:
    write_rollouts(tmp_path / "sim.npz", rollouts, {})
    with pytest.raises(InputError, match="one start for each chain"):
        read_starts(tmp_path / "sim.npz", TOPOLOGY)


def test_starts_are_drawn_by_weight_and_alike_for_any_number(rollouts: Rollouts) -> None:
    frames = rollouts.to_frames().take(slice(0, 4))
    weighted = type(frames)(
        TOPOLOGY, frames.positions_nm, frames.segments, weights=np.array([0.0, 3.0, 0.0, 1.0])
    )
    drawn = draw_starts(weighted, 2000, seed=5)
    shares = [(drawn == frame).all(axis=(1, 2)).mean() for frame in frames.positions_nm]
    assert shares[0] == shares[2] == 0
    assert abs(shares[1] - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 2000)
    np.testing.assert_array_equal(draw_starts(weighted, 10, seed=5), drawn[:10])
    assert (draw_starts(weighted, 10, seed=6) != drawn[:10]).any()


def test_given_starts_are_used_in_turn(rollouts: Rollouts) -> None:
    starts = rollouts.positions_nm[0, :2]
    np.testing.assert_array_equal(repeat_starts(starts, 3), starts[[0, 1, 0]])
    np.testing.assert_array_equal(repeat_starts(starts, None), starts)
    with pytest.raises(InputError, match="at least 1"):
        repeat_starts(starts, 0)
