"""Imported data are what the files held, in canonical units, whole or not there."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peptide import Solvated

from trajgen.data import importing, records
from trajgen.data.importing import (
    FrameArrays,
    ImportSettings,
    hydrogen_groups,
    import_arrays,
    import_trajectory,
)
from trajgen.data.mapping import aggregate_force_map, map_vectors, position_map
from trajgen.data.records import Rollouts
from trajgen.data.sources import open_samples, read_all
from trajgen.data.store import Dataset
from trajgen.data.structures import read_solute
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.data.writers import write_rollouts
from trajgen.errors import InputError
from trajgen.settings import parse_settings

SETTINGS = ImportSettings(temperature_K=300.0, time_step_ps=2.0)


def test_chignolin_becomes_a_dataset(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "chignolin_ca_forces"
    files = {
        name: folder / f"{stem}_first13000.npy"
        for name, stem in {
            "coords": "chignolin_ca_coords",
            "forces": "chignolin_ca_forces",
            "weights": "msm_weights",
            "segments": "trajectory_id",
        }.items()
    }
    settings = ImportSettings(
        temperature_K=350.0,
        sequence="YYDPETGTWY",
        length_unit="angstrom",
        energy_unit="kcal/mol",
    )
    coords = files.pop("coords")
    dataset = import_arrays(coords, tmp_path / "D", settings, FrameArrays(**files))
    frames = dataset.read_all_beads()
    raw = {name: np.load(path, allow_pickle=False) for name, path in files.items()}
    assert dataset.n_frames == frames.n_frames == 13_000
    assert frames.topology.sequence == "YYDPETGTWY"
    assert len(np.unique(frames.segments)) == len(np.unique(raw["segments"])) == 2601
    np.testing.assert_allclose(frames.weights.sum(), raw["weights"].sum(), rtol=1e-6)
    np.testing.assert_allclose(frames.positions_nm, 0.1 * np.load(coords), rtol=1e-6)
    np.testing.assert_allclose(frames.forces, 41.84 * raw["forces"], rtol=1e-6)
    label = dataset.entries[0].label
    assert (label.sampling, label.temperature_K) == ("reweighted", 350.0)
    assert label.save_interval_ps is None


@pytest.mark.parametrize("resolution", ["ca", "heavy"])
def test_trajectories_become_shards_of_chunks(
    solvated: Solvated, tmp_path: Path, resolution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "SHARD_FRAMES", 10)
    random = np.random.default_rng(0)
    forces = random.normal(size=(50, solvated.frames.n_atoms, 3)).astype(np.float32)
    np.save(tmp_path / "f.npy", forces)
    dataset = import_trajectory(
        [solvated.trajectory, solvated.trajectory],
        solvated.structure,
        tmp_path / "D",
        replace_settings(resolution=resolution, length_unit="nm", energy_unit="kcal/mol"),
        FrameArrays(forces=tmp_path / "f.npy"),
    )
    names = [entry.label.name for entry in dataset.entries]
    assert names == [f"import-{file:03d}-{chunk:03d}" for file in (0, 1) for chunk in (0, 1, 2)]
    assert [entry.frames for entry in dataset.entries] == [10, 10, 5] * 2
    frames = dataset.read_all_beads()
    np.testing.assert_array_equal(frames.segments, np.repeat([0, 1], 25))
    assert [entry.label.continues for entry in dataset.entries] == [False, True, True] * 2
    for chunk_frames in (4, 100):
        monkeypatch.setattr(records, "CHUNK_FRAMES", chunk_frames)
        chunks = list(open_samples([tmp_path / "D"], None, resolution).chunks())
        numbers = np.concatenate([chunk.segments for chunk in chunks])
        np.testing.assert_array_equal(numbers, frames.segments)
    assert frames.time_step_ps == 2.0
    wanted = solvated.frames.xyz[:, solvated.alpha]
    np.testing.assert_allclose(frames.positions_nm, np.concatenate([wanted] * 2), atol=1e-6)
    # Without knowing better, CA and its hydrogen are one rigid group: their forces add up.
    hydrogens = [atom + 1 for atom in solvated.alpha]
    summed = forces[:, solvated.alpha] + forces[:, hydrogens]
    np.testing.assert_allclose(frames.forces, 4.184 * summed, rtol=1e-5, atol=1e-5)
    if resolution == "ca":
        assert dataset.header.atoms is None
        return
    atoms = dataset.read_atoms(dataset.entries[4])
    np.testing.assert_allclose(
        atoms.positions_nm, solvated.frames.xyz[10:20, : solvated.n_solute], atol=1e-6
    )
    kept = 4.184 * forces[35:45, : solvated.n_solute]
    np.testing.assert_allclose(atoms.forces, kept, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "continues", "wanted"),
    [
        ([0] * 10 + [1] * 10 + [2] * 5, [False, False, False], [10, 10, 5]),
        ([3] * 5 + [4] * 10 + [7] * 10, [False, True, True], [5, 10, 10]),
        ([7] * 5 + [4] * 20, [False, False, True], [5, 5, 15]),  # ids that fall are cut
        (list(np.arange(25) % 2), [False, False, False], [5, 5, 5, 5, 3, 2]),
    ],
)
def test_a_segment_goes_on_in_the_next_shard(
    solvated: Solvated,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ids: list[int],
    continues: list[bool],
    wanted: list[int],
) -> None:
    monkeypatch.setattr(importing, "SHARD_FRAMES", 10)
    np.save(tmp_path / "s.npy", np.array(ids))
    settings = replace_settings(time_step_ps=None)
    arrays = FrameArrays(segments=tmp_path / "s.npy")
    import_trajectory([solvated.trajectory], solvated.structure, tmp_path / "D", settings, arrays)
    dataset = Dataset.open(tmp_path / "D")
    assert [entry.label.continues for entry in dataset.entries] == continues
    joined, whole = read_all(open_samples([tmp_path / "D"])), dataset.read_all_beads()
    assert (np.diff(joined.segments) >= 0).all()
    for frames in (joined, whole):
        assert sorted(np.unique(frames.segments, return_counts=True)[1]) == sorted(wanted)


def replace_settings(**changes: object) -> ImportSettings:
    return parse_settings(ImportSettings, {**SETTINGS.model_dump(), **changes}, "test")


def test_forces_of_the_solute_alone_and_the_slice_map(solvated: Solvated, tmp_path: Path) -> None:
    forces = np.random.default_rng(0).normal(size=(25, solvated.n_solute, 3))
    np.save(tmp_path / "f.npy", forces)
    np.save(tmp_path / "w.npy", np.arange(25))
    np.save(tmp_path / "s.npy", np.repeat([3, 7], [15, 10]))
    settings = replace_settings(
        length_unit="angstrom", energy_unit="kJ/mol", force_map="slice", constraints="none"
    )
    arrays = FrameArrays(tmp_path / "f.npy", tmp_path / "w.npy", tmp_path / "s.npy")
    dataset = import_trajectory(
        [solvated.trajectory], solvated.structure, tmp_path / "D", settings, arrays
    )
    frames = dataset.read_all_beads()
    np.testing.assert_allclose(frames.forces, 10 * forces[:, solvated.alpha], rtol=1e-5)
    np.testing.assert_array_equal(frames.weights, np.arange(25))
    np.testing.assert_array_equal(frames.segments, np.repeat([0, 1], [15, 10]))
    assert dataset.entries[0].label.sampling == "reweighted"
    assert dataset.entries[0].label.constraint_groups == ()


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((24, 34, 3), "--forces has 24 frames, but the trajectory has at least 25"),
        ((26, 34, 3), "--forces has 26 frames, but the trajectory has 25"),
        ((25, 33, 3), "with 34 atoms as in the topology, or the 24 of the solute"),
    ],
)
def test_forces_of_another_length_leave_nothing(
    solvated: Solvated, tmp_path: Path, shape: tuple[int, ...], said: str
) -> None:
    np.save(tmp_path / "f.npy", np.zeros(shape))
    settings = replace_settings(length_unit="nm", energy_unit="kJ/mol")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=said):
        import_trajectory(
            [solvated.trajectory],
            solvated.structure,
            tmp_path / "D",
            settings,
            FrameArrays(forces=tmp_path / "f.npy"),
        )
    assert sorted(tmp_path.iterdir()) == before


def test_forces_need_their_units(solvated: Solvated, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unit of the forces"):
        import_trajectory(
            [solvated.trajectory],
            solvated.structure,
            tmp_path / "D",
            SETTINGS,
            FrameArrays(forces=tmp_path / "f.npy"),
        )


def test_what_the_kind_of_data_has_no_use_for_is_refused(
    solvated: Solvated, tmp_path: Path
) -> None:
    named = replace_settings(sequence="GAHW")
    with pytest.raises(InputError, match=r"sequence is GAHW, .* leave out --sequence"):
        import_trajectory([solvated.trajectory], solvated.structure, tmp_path / "D", named)
    np.save(tmp_path / "x.npy", solvated.frames.xyz[:, solvated.alpha])
    heavy = replace_settings(sequence="GAHW", length_unit="nm", resolution="heavy")
    with pytest.raises(InputError, match=r"resolution is heavy, .* no atoms"):
        import_arrays(tmp_path / "x.npy", tmp_path / "D", heavy)
    assert not (tmp_path / "D").exists()


def test_a_chain_break_or_a_nan_in_a_later_chunk_leaves_nothing(
    solvated: Solvated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "SHARD_FRAMES", 10)
    before = sorted(tmp_path.iterdir())
    for change, said in ((2.0, "ALA6 and HIS7 are .* chain break"), (np.nan, "NaN or infinity")):
        solvated.frames.xyz[13, 12:18, 2] += np.float32(change)
        solvated.frames.unitcell_vectors = None
        solvated.frames.save(str(tmp_path / "md.dcd"))
        with pytest.raises(InputError, match=rf"md\.dcd, from frame 10 on: .*{said}"):
            import_trajectory([tmp_path / "md.dcd"], solvated.structure, tmp_path / "D", SETTINGS)
        (tmp_path / "md.dcd").unlink()
        assert sorted(tmp_path.iterdir()) == before


def test_without_a_time_step_the_frames_have_no_order(
    solvated: Solvated, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="trajgen"):
        dataset = import_trajectory(
            [solvated.trajectory],
            solvated.structure,
            tmp_path / "D",
            ImportSettings(temperature_K=300.0),
        )
    assert dataset.read_all_beads().time_step_ps is None
    assert "the file says 2 ps" in caplog.text


def with_times(solvated: Solvated, times_ps: np.ndarray) -> Path:
    solvated.frames.time = times_ps
    path = solvated.trajectory.with_name("timed.xtc")
    solvated.frames.save(str(path))
    return path


@pytest.mark.parametrize(
    ("step_ps", "begin_ps"), [(1.0, 0.0), (2.01, 0.0), (2.125, 1e6), (0.0, 0.0)]
)
def test_a_time_step_that_the_file_contradicts_is_refused(
    solvated: Solvated, tmp_path: Path, step_ps: float, begin_ps: float
) -> None:
    source = with_times(solvated, begin_ps + step_ps * np.arange(25))
    with pytest.raises(InputError, match=rf"time_step_ps is 2, but .*timed\.xtc are {step_ps:.3g}"):
        import_trajectory([source], solvated.structure, tmp_path / "D", SETTINGS)
    assert not (tmp_path / "D").exists()
    known = replace_settings(trust_times=False)
    dataset = import_trajectory([source], solvated.structure, tmp_path / "D", known)
    assert dataset.read_all_beads().time_step_ps == 2.0


@pytest.mark.parametrize("hole", [1, 10, 13, 24])
def test_a_hole_in_the_times_of_a_file_is_refused(
    solvated: Solvated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hole: int
) -> None:
    monkeypatch.setattr(importing, "SHARD_FRAMES", 10)
    times_ps = 2.0 * np.arange(25)
    times_ps[hole:] += 10
    source = with_times(solvated, times_ps)
    with pytest.raises(InputError, match=f"uneven: 12 ps from frame {hole - 1} to the next, .* 2 "):
        import_trajectory([source], solvated.structure, tmp_path / "D", SETTINGS)
    unordered = replace_settings(time_step_ps=None)
    import_trajectory([source], solvated.structure, tmp_path / "free", unordered)
    np.save(tmp_path / "s.npy", (np.arange(25) >= hole).astype(np.int64))
    arrays = FrameArrays(segments=tmp_path / "s.npy")
    import_trajectory([source], solvated.structure, tmp_path / "D", SETTINGS, arrays)


@pytest.mark.parametrize("suffix", [".xtc", ".dcd"])
@pytest.mark.parametrize(
    ("clock", "said"),
    [
        ("time_step_cg_ps", "are 0.4 cg_ps apart, and that clock is not the one of real chains"),
        (None, "do not follow each other in time"),
        ("time_step_ps", None),
    ],
)
def test_no_time_of_real_chains_is_given_to_frames_without_one(
    tmp_path: Path, suffix: str, clock: str | None, said: str | None
) -> None:
    topology = BeadTopology.from_residues(("GLY", "TYR", "ASP"))
    positions_nm = np.zeros((2, 5, 3, 3), dtype=np.float32)
    positions_nm[..., 0] = 0.38 * np.arange(3)
    steps = {"time_step_ps": None} if clock is None else {"time_step_ps": None, clock: 0.4}
    made = Rollouts(topology, positions_nm, np.ones((2, 5), dtype=bool), **steps)
    file, *_ = write_rollouts(tmp_path / f"sim{suffix}", made, {})
    given = replace_settings(time_step_ps=0.4)
    for settings in (given, given.model_copy(update={"trust_times": False})):
        if said is not None:
            match = rf"time_step_ps is 0\.4, .*sim_000\{suffix} {said}, as sim\.json .* leave out"
            with pytest.raises(InputError, match=match):
                import_trajectory([file], tmp_path / "sim.pdb", tmp_path / "D", settings)
            assert not (tmp_path / "D").exists()
    kept = given if said is None else replace_settings(time_step_ps=None)
    dataset = import_trajectory([file], tmp_path / "sim.pdb", tmp_path / "D", kept)
    assert dataset.read_all_beads().time_step_ps == kept.time_step_ps


def test_rounded_times_late_in_a_run_are_no_contradiction(
    solvated: Solvated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "SHARD_FRAMES", 12)  # so that a last chunk has one frame
    source = with_times(solvated, 30_000 + 0.1 * np.arange(25))
    settings = replace_settings(time_step_ps=0.1)
    import_trajectory([source], solvated.structure, tmp_path / "D", settings)


def test_nothing_that_exists_is_replaced(solvated: Solvated, tmp_path: Path) -> None:
    (tmp_path / "D").mkdir()
    (tmp_path / "D" / "precious").write_text("data")
    with pytest.raises(InputError, match="exists already"):
        import_trajectory([solvated.trajectory], solvated.structure, tmp_path / "D", SETTINGS)
    assert [file.name for file in (tmp_path / "D").iterdir()] == ["precious"]


def test_the_same_files_give_the_same_digest(solvated: Solvated, tmp_path: Path) -> None:
    digests = {
        import_trajectory(
            [solvated.trajectory], solvated.structure, tmp_path / name, SETTINGS
        ).digest()
        for name in ("a", "b")
    }
    assert len(digests) == 1


@given(
    sizes=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    seed=st.integers(0, 100),
)
def test_hydrogens_go_with_the_atom_they_sit_on(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    places, elements, groups = [], [], []
    for heavy, hydrogens in enumerate(sizes):
        group = [len(places)]
        centre = np.array([0.15 * heavy, 0.0, 0.0])
        places.append(centre)
        elements.append("C")
        for _ in range(hydrogens):
            direction = random.normal(size=3)
            direction[0] = 0
            group.append(len(places))
            places.append(centre + 0.1 * direction / np.linalg.norm(direction))
            elements.append("H")
        if hydrogens:
            groups.append(tuple(group))
    n = len(places)
    atoms = AtomTopology(
        tuple(f"A{i}" for i in range(n)), tuple(elements), (0,) * n, ("GLY",), (1,), (0,), ()
    )
    assert hydrogen_groups(atoms, np.array(places, dtype=np.float32)) == tuple(groups)


def test_groups_of_a_real_peptide_admit_the_aggregate_map(
    tmp_path: Path, shared_data: Path
) -> None:
    structure = shared_data / "fastfolder_pdb" / "cln025_capped_allatom.pdb"
    settings = replace_settings(resolution="heavy", time_step_ps=None)
    dataset = import_trajectory([structure], structure, tmp_path / "D", settings)
    (entry,) = Dataset.open(tmp_path / "D").entries
    solute = read_solute(structure)
    C = position_map(solute.bead_atoms, solute.topology.n_atoms)
    W = aggregate_force_map(C, entry.label.constraint_groups)
    names = np.array(solute.topology.names)
    assert sorted(set(names[W.any(axis=0)])) == ["CA", "HA", "HA2", "HA3"]
    assert dataset.header.beads.sequence == "YYDPETGTWY"
    atoms = dataset.read_atoms(entry)
    np.testing.assert_array_equal(
        map_vectors(C, atoms.positions_nm), dataset.read_all_beads().positions_nm
    )
    line = json.loads((tmp_path / "D" / "manifest.jsonl").read_text())
    assert line["hamiltonian"] == "unknown"
