"""The script that judges the potential of two other molecules says what it is asked to say."""

import shutil
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accuracy_molecules
import numpy as np
import potential_stages
import pytest
from accuracy_molecules import (
    MOLECULES,
    STRETCHES,
    WITHIN,
    against_floor,
    main,
    measure,
    parse_arguments,
    print_molecule,
    starts_of,
)
from scipy.stats import wasserstein_distance
from tiny import FIT

from al.executor import ProcessExecutor
from al.molecule.settings import SystemSettings
from al.parts.sampler import SamplingSettings
from trajgen.data.frame_files import load_rollouts
from trajgen.data.readers import read_bead_structure
from trajgen.data.records import BeadFrames, Rollouts
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.files import read_json
from trajgen.residues import parse_sequence
from trajgen.units import BOLTZMANN_KJ_PER_MOL_K

FRAMES, CHAINS, STEPS = 200, 10, 400
TRPCAGE = BeadTopology.from_residues(parse_sequence("DAYAQWLKDGGPSSGRPPPS"))
COSTS = {"chains", "chains_lost", "steps", "seconds", "against_floor"}


def words(data: Path, out: Path, molecule: str, *more: str) -> list[str]:
    asked = {"--data": data, "--out": out, "--molecules": molecule, "--chains": CHAINS,
             "--steps": STEPS, "--json": out.with_suffix(".json")}  # fmt: skip
    given = [str(word) for pair in asked.items() for word in pair]
    return [*given, *(word for value in FIT for word in ("--set", value)), *more]


@pytest.fixture(scope="module")
def data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with the first frames of alanine dipeptide, and Trp-cage."""
    folder = tmp_path_factory.mktemp("data")
    for file in MOLECULES["ala2"].files:
        (folder / file).parent.mkdir(exist_ok=True)
        np.save(folder / file, np.load(shared_data / file)[:FRAMES])
    (structure,) = MOLECULES["trpcage"].files
    (folder / structure).parent.mkdir()
    shutil.copyfile(shared_data / structure, folder / structure)
    return folder


@pytest.fixture(scope="module")
def ala2(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which alanine dipeptide was measured."""
    out = tmp_path_factory.mktemp("runs") / "molecules"
    main(words(data, out, "ala2"))
    return out


def wobbling(structure_nm: np.ndarray, replica: int) -> BeadFrames:
    """Return beads on springs about a structure that is larger in later replicas."""
    width_nm = 0.01
    away_nm = np.random.default_rng(replica).normal(scale=width_nm, size=(30, 20, 3))
    positions_nm = (1 + 0.02 * replica) * structure_nm + away_nm
    forces = -BOLTZMANN_KJ_PER_MOL_K * 350 / width_nm**2 * away_nm
    return BeadFrames(
        TRPCAGE, positions_nm.astype(np.float32), np.zeros(30, np.int64), 0.2,
        forces.astype(np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trpcage(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return what Trp-cage was measured as, where two replicas on springs stand for dynamics."""
    asked: dict[str, Any] = {}

    def build(settings: SystemSettings, out: Path, base: Path) -> None:
        assert settings.pdb is not None
        asked.update(system=settings, structure=base / settings.pdb)
        out.mkdir()

    def sample(_: Path, out: Path, settings: SamplingSettings, executor: ProcessExecutor,
               *__: Any) -> None:  # fmt: skip
        asked.update(sampling=settings, workers=executor.workers)
        structure_nm = read_bead_structure(asked["structure"], TRPCAGE)
        dataset = Dataset.create(out, DatasetHeader(TRPCAGE))
        for replica in (0, 1):
            label = ShardLabel(f"replica-{replica}", "sample", "springs", 350.0, 0.2)
            dataset.append_beads(label, wobbling(structure_nm, replica))

    out = tmp_path_factory.mktemp("runs") / "molecules"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy_molecules, "build_system", build)
        patch.setattr(accuracy_molecules, "sample_dataset", sample)
        main(words(data, out, "trpcage", "--workers", "3"))
    return Namespace(out=out, result=read_json(out.with_suffix(".json"))["trpcage"], **asked)


def test_a_row_has_all_columns(ala2: Path, trpcage: Any) -> None:
    result = read_json(ala2.with_suffix(".json"))["ala2"]
    (row,) = result["rows"]
    assert result["frames"] == FRAMES
    assert (row["seed"], row["fit"]["steps"], list(row["runs"])) == (0, 4, ["data"])
    assert "of_mean_force_percent" in row["fit"]["explained_variance"]
    assert {*MOLECULES["ala2"].columns, *COSTS} <= row["runs"]["data"].keys()
    assert "rmsd" not in row["runs"]["data"]
    (row,) = trpcage.result["rows"]
    assert list(row["runs"]) == ["data", "structure"]
    for run in row["runs"].values():
        assert {*MOLECULES["trpcage"].columns, *COSTS} <= run.keys()
        assert run["rmsd"] > 0
        assert (run["chains"], run["steps"]) == (CHAINS, STEPS)


@pytest.mark.parametrize("molecule", ["ala2", "trpcage"])
def test_what_is_there_is_not_done_again(
    molecule: str, data: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = request.getfixturevalue(molecule)
    out = done if molecule == "ala2" else done.out
    before = read_json(out.with_suffix(".json"))
    for stage in ("import_arrays", "build_system", "sample_dataset"):
        monkeypatch.setattr(accuracy_molecules, stage, None)
    for stage in ("fit_potential", "simulate"):
        monkeypatch.setattr(potential_stages, stage, None)
    more = ("--workers", "3") if molecule == "trpcage" else ()
    main(words(data, out, molecule, *more))
    assert read_json(out.with_suffix(".json")) == before


def test_other_arguments_are_refused(ala2: Path, data: Path) -> None:
    with pytest.raises(InputError, match="results of another chains; name another --out"):
        main(words(data, ala2, "ala2", "--chains", "2"))


def test_frames_are_imported_in_stretches_of_time(ala2: Path, data: Path) -> None:
    dataset = Dataset.open(ala2 / "ala2" / "data")
    frames, (entry,) = dataset.read_all_beads(), dataset.entries
    coords, forces = (np.load(data / file) for file in MOLECULES["ala2"].files)
    np.testing.assert_allclose(frames.positions_nm, coords / 10, rtol=1e-6)
    np.testing.assert_allclose(frames.forces, forces * 41.84, rtol=1e-6)
    assert (np.bincount(frames.segments) == FRAMES // STRETCHES).all()
    assert (np.diff(frames.segments) >= 0).all()
    assert len(set(frames.topology.types)) == 5
    assert (entry.label.temperature_K, entry.label.save_interval_ps) == (300, 10)


def test_stretches_that_are_alike_have_a_floor_of_zero(data: Path, tmp_path: Path) -> None:
    for file in MOLECULES["ala2"].files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        stretch = np.load(data / file)[: FRAMES // STRETCHES]
        np.save(tmp_path / file, np.concatenate([stretch] * STRETCHES))
    arguments = parse_arguments(words(tmp_path, tmp_path / "out", "ala2"))
    arguments.seeds = []
    floor = measure("ala2", arguments)["floor"]
    for kind in ("mean", "largest"):
        assert list(floor[kind].values()) == pytest.approx([0] * 7, abs=1e-6)


def test_the_floor_lies_where_the_replicas_put_it(trpcage: Any) -> None:
    frames = Dataset.open(trpcage.out / "trpcage" / "data").read_all_beads()
    ends = np.linalg.norm(frames.positions_nm[:, -1] - frames.positions_nm[:, 0], axis=1)
    apart_nm = wasserstein_distance(ends[:30], ends[30:])
    for kind in ("mean", "largest"):  # of two replicas there is one pair of halves
        assert trpcage.result["floor"][kind]["end_to_end"] == pytest.approx(10 * apart_nm, rel=1e-4)


def test_the_data_are_at_no_distance_from_themselves(
    ala2: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first half, whose frames are twice as large, does not count; nor does a lost chain."""
    out = tmp_path / "molecules"
    shutil.copytree(ala2, out)
    (out / "ala2" / "seed-0" / "from-data.json").unlink()

    def replay(*_: Any) -> Rollouts:
        frames = Dataset.open(out / "ala2" / "data").read_all_beads()
        late_nm = frames.positions_nm.reshape(CHAINS, -1, 5, 3)
        chains_nm = np.concatenate([2 * late_nm, late_nm], axis=1)
        lost_nm = np.full_like(chains_nm[:1], np.nan)
        positions_nm = np.concatenate([chains_nm, lost_nm])
        return Rollouts(frames.topology, positions_nm, ~np.isnan(positions_nm[..., 0, 0]), None)

    monkeypatch.setattr(potential_stages, "simulate", replay)
    main(words(data, out, "ala2"))
    (row,) = read_json(out.with_suffix(".json"))["ala2"]["rows"]
    run = row["runs"]["data"]
    distances = [run[name] for name in MOLECULES["ala2"].columns]
    assert distances == pytest.approx([0] * 7, abs=1e-6)
    assert set(run["against_floor"].values()) == {WITHIN[0]}
    assert (run["chains_lost"], run["chains"]) == (1, CHAINS + 1)


def test_dynamics_are_asked_for_as_the_benchmark_says(trpcage: Any, data: Path) -> None:
    system, sampling = trpcage.system, trpcage.sampling
    assert (system.temperature_K, system.solvent, system.time_step_ps) == (350.0, "gbn2", 0.004)
    assert system.force_field == ("amber14/protein.ff14SB.xml",)
    assert (sampling.replicas, sampling.ps, sampling.save_interval_ps) == (4, 250.0, 0.2)
    assert trpcage.structure == data / "fastfolder_pdb" / "trpcage_2jof.pdb"
    assert trpcage.workers == 3


def test_chains_start_from_the_structure_alone_or_from_frames(trpcage: Any) -> None:
    structure_nm = read_bead_structure(trpcage.structure, TRPCAGE)
    frames = Dataset.open(trpcage.out / "trpcage" / "data").read_all_beads()
    alone_nm = starts_of("structure", frames, structure_nm, 3, seed=0)
    np.testing.assert_array_equal(alone_nm, np.stack([structure_nm] * 3))
    drawn_nm = starts_of("data", frames, structure_nm, 3, seed=0)
    for start_nm in drawn_nm:
        assert (start_nm == frames.positions_nm).all(axis=(1, 2)).any()
    runs = [load_rollouts(trpcage.out / "trpcage" / "seed-0" / f"from-{start}.safetensors")
            for start in ("data", "structure")]  # fmt: skip
    assert not np.array_equal(runs[0].positions_nm, runs[1].positions_nm)


def test_distances_are_compared_with_both_floors() -> None:
    columns = ("bond", "angle", "dihedral", "tica_0", "rmsd")
    floor = {
        "mean": {"bond": 1.0, "angle": 1.0, "dihedral": 1.0, "tica_0": None, "rmsd": 1.0},
        "largest": {"bond": 2.0, "angle": 2.0, "dihedral": 2.0, "tica_0": None, "rmsd": 2.0},
    }
    run = {"bond": 1.0, "angle": 2.0, "dihedral": 2.1, "tica_0": 0.1, "rmsd": None}
    mean, largest, above, unknown = WITHIN
    wanted = dict(zip(columns, (mean, largest, above, unknown, unknown), strict=True))
    assert against_floor(run, floor, columns) == wanted


def test_the_table_says_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    columns = MOLECULES["trpcage"].columns
    run = {
        **{name: 0.111 + place for place, name in enumerate(columns)}, "seconds": 321.0,
        "steps": 60_000, "chains": 64, "chains_lost": 3,
        "against_floor": {name: WITHIN[name == "rmsd"] for name in columns},
    }  # fmt: skip
    explained = {"of_loss_percent": 0.28, "of_mean_force_percent": None, "reason": "too noisy"}
    fit = {"steps": 1234, "minutes": 29.87, "explained_variance": explained}
    floor = {"mean": dict.fromkeys(columns, 0.987), "largest": dict.fromkeys(columns, 1.34)}
    rows = [{"seed": 5, "fit": fit, "runs": {"data": run, "structure": run}}]
    print_molecule("trpcage", {"frames": 5000, "floor": floor, "rows": rows})
    printed = " ".join(capsys.readouterr().out.split())
    for said in (
        "5000 frames", "halves, mean", "0.987", "halves, largest", "1.34", "seed 5, from data",
        "seed 5, from structure", "0.111", "3.11", "7.11", "3 of 64", "60000", "321", "1234",
        "29.9", "0.28", "radius of", "too noisy", "dihedral; at most the largest floor: rmsd",
    ):  # fmt: skip
        assert said in printed, said
    assert "…" not in printed


def test_wrong_input_is_refused_before_any_work(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"--data .* has no fastfolder_pdb/trpcage_2jof.pdb, whi"):
        main(words(tmp_path, out, "trpcage"))
    with pytest.raises(InputError, match=r"'training\.depth' is not a setting"):
        main(words(data, out, "ala2", "--set", "training.depth=1"))
    with pytest.raises(InputError, match="--steps is 99, but a frame is saved every 100 steps"):
        main(words(data, out, "ala2", "--steps", "99"))
    with pytest.raises(InputError, match="--chains is 0; wanted is at least 1"):
        main(words(data, out, "ala2", "--chains", "0"))
    with pytest.raises(InputError, match=r"'ps' is 0\.0"):
        main(words(data, out, "ala2", "--ps", "0"))
    assert not out.exists()
