"""The commands do what their help says, from files to files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mdtraj
import numpy as np
import pytest
from command import succeed, trajgen
from tiny import SEQUENCE, Made, write_arrays

from trajgen.checkpoint import training_folder
from trajgen.data.store import Dataset
from trajgen.files import sha256_of


def simulate(made: Made, out: Path, *more: object) -> None:
    steps = ("--steps", 20, "--save-every", 5)
    succeed("simulate", made.potential, *steps, "--device", "cpu", "--out", out, *more)


def test_help_answers_without_heavy_libraries() -> None:
    heavy = {"torch", "numpy", "mdtraj", "scipy", "pydantic", "matplotlib"}
    code = f"import sys, trajgen.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_runs_as_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trajgen.cli", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "trajgen")


@pytest.mark.parametrize(
    "command",
    ["import", "fit", "simulate", "train", "generate forward", "generate interpolate",
     "generate upsample", "generate inpaint", "generate ensemble", "generate design", "evaluate",
     "info"],
)  # fmt: skip
def test_every_command_has_help_with_an_example(command: str) -> None:
    text = succeed(*command.split(), "--help").out
    assert f"  trajgen {command}" in text
    for flag in ("--out",) if command != "info" else ("--json",):
        assert flag in text


def test_a_wrong_flag_is_bad_input() -> None:
    assert trajgen("fit", "--nonsense").code == 2
    assert trajgen("nonsense").code == 2
    assert "one of them" not in trajgen("simulate", "--help").err


def test_import_says_what_it_made(made: Made) -> None:
    values = json.loads(succeed("info", made.dataset, "--json").out)
    assert values["sequence"] == SEQUENCE
    assert (values["frames"], values["segments"], values["shards"]) == (240, 4, 1)
    assert values["sampling"] == ["reweighted"]
    assert values["damaged_files"] == []
    assert values["digest"] == Dataset.open(made.dataset).digest()
    assert SEQUENCE in succeed("info", made.dataset).out


@pytest.mark.parametrize("kind", ["potential", "surrogate"])
def test_info_describes_a_checkpoint(made: Made, kind: str) -> None:
    path = getattr(made, kind)
    values = json.loads(succeed("info", path, "--json").out)
    assert values["kind"] == kind
    assert values["intact"] is True
    assert not training_folder(path).exists()
    succeed("info", path)


def test_simulate_draws_starts_and_writes_one_array(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "sim.npz"
    simulate(made, out, "--dataset", made.dataset, "--chains", 3, "--temperature", 310)
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["positions"].shape == (3, 4, 5, 3)
    card = json.loads((tmp_path / "sim.json").read_text())
    assert card["settings"]["temperature_K"] == 310
    assert (
        card["model_sha256"]
        == json.loads((made.potential / "card.json").read_text())["model_sha256"]
    )
    values = json.loads(succeed("info", out, "--json").out)
    assert (values["sequence"], values["frames"], values["segments"]) == (SEQUENCE, 12, 3)


def test_simulate_takes_starts_and_repeats_bit_for_bit(made: Made, tmp_path: Path) -> None:
    frames = Dataset.open(made.dataset).read_all_beads()
    np.savez(tmp_path / "starts.npz", positions=frames.positions_nm[[0, 100]])
    starts = ("--starts", tmp_path / "starts.npz")
    simulate(made, tmp_path / "a.npz", *starts)
    simulate(made, tmp_path / "b.npz", *starts)
    simulate(made, tmp_path / "c.npz", *starts, "--seed", 1)
    a, b, c = (np.load(tmp_path / f"{name}.npz")["positions"] for name in "abc")
    assert a.shape == (2, 4, 5, 3)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_simulate_writes_a_trajectory_for_each_chain(made: Made, tmp_path: Path) -> None:
    simulate(made, tmp_path / "sim.xtc", "--dataset", made.dataset, "--chains", 2)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"sim_000.xtc", "sim_001.xtc", "sim.pdb", "sim.json"}
    read = mdtraj.load(str(tmp_path / "sim_001.xtc"), top=str(tmp_path / "sim.pdb"))
    assert read.n_frames == 4


def test_generate_forward_begins_at_its_start(made: Made, tmp_path: Path) -> None:
    simulate(made, tmp_path / "s.pdb", "--dataset", made.dataset, "--chains", 1)
    succeed(
        "generate", "forward", made.surrogate, "--start", tmp_path / "s.pdb", "--lag-ps", 2,
        "--frames", 9, "--replicas", 2, "--device", "cpu", "--out", tmp_path / "gen.xtc",
    )  # fmt: skip
    start = mdtraj.load(str(tmp_path / "s.pdb"))[0]
    for replica in (0, 1):
        read = mdtraj.load(str(tmp_path / f"gen_{replica:03d}.xtc"), top=str(tmp_path / "gen.pdb"))
        np.testing.assert_allclose(read.xyz[0], start.xyz[0], atol=1e-3)
    card = json.loads((tmp_path / "gen.json").read_text())
    assert (card["chains"], card["frames"], card["settings"]["lag_ps"]) == (2, 9, 2.0)
    assert (card["seed"], card["settings"]["evaluations"]) == (0, 20)
    assert card["model_sha256"] == sha256_of(made.surrogate / "model.safetensors")
    # What was left to the model and to the device.
    assert card["device"] == "cpu"
    assert (card["settings"]["temperature_K"], card["settings"]["precision"]) == (300.0, "float32")


def test_generate_forward_goes_on_from_a_trajectory(made: Made, tmp_path: Path) -> None:
    simulate(made, tmp_path / "s.pdb", "--dataset", made.dataset, "--chains", 1)
    forward = ("generate", "forward", made.surrogate, "--device", "cpu", "--frames", 7)
    succeed(*forward, "--start", tmp_path / "s.pdb", "--out", tmp_path / "run.xtc")
    run = (tmp_path / "run.xtc", "--topology", tmp_path / "run.pdb")
    succeed(*forward, "--after", *run, "--replicas", 2, "--out", tmp_path / "on.xtc")
    before = mdtraj.load(str(tmp_path / "run.xtc"), top=str(tmp_path / "run.pdb"))
    for replica in (0, 1):
        read = mdtraj.load(str(tmp_path / f"on_{replica:03d}.xtc"), top=str(tmp_path / "on.pdb"))
        assert read.n_frames == 7
        np.testing.assert_allclose(read.xyz[:2], before.xyz[-2:], atol=1e-3)
        # Noise of its own: with that of the first run it would come to do the same.
        steps = [np.diff(one.xyz[1:], axis=0) for one in (before, read)]
        assert np.abs(steps[0] - steps[1]).mean() > 0.1 * np.abs(steps[0]).mean()
    apart = trajgen(*forward, "--after", *run, "--lag-ps", 4, "--out", tmp_path / "x.xtc")
    assert (apart.code, "--lag-ps is 4, but the frames of" in apart.error) == (2, True)
    both = trajgen(
        *forward, "--after", *run, "--start", tmp_path / "s.pdb", "--out", tmp_path / "x.xtc"
    )
    assert both.error == "give --start START.pdb or --after RUN.xtc, one of them"
    simulate(made, tmp_path / "one.npz", "--dataset", made.dataset, "--chains", 1)
    one = trajgen(*forward, "--after", tmp_path / "one.npz", "--out", tmp_path / "x.xtc")
    assert "does not say how far its frames are apart; add --lag-ps" in one.error


@pytest.mark.parametrize(
    "asked",
    [
        ("forward", "--frames", 7, "--after"),
        ("upsample", "--factor", 3, "--interval-ps", 6, "--input"),
        ("inpaint", "--residues", "1,3-4", "--known"),
        ("design", "--residues", "1,3-4", "--known"),
    ],
    ids=lambda asked: asked[0],
)
def test_several_trajectories_are_not_taken_for_one(
    made: Made, tmp_path: Path, asked: tuple[Any, ...]
) -> None:
    simulate(made, tmp_path / "two.npz", "--dataset", made.dataset, "--chains", 2)
    task, *more = asked
    refused = trajgen(
        "generate", task, made.surrogate, *more, tmp_path / "two.npz", "--out", tmp_path / "x.xtc"
    )
    assert refused.code == 2
    assert "two.npz has 2 trajectories; give one of them" in refused.error


def test_generate_interpolate_writes_paths(made: Made, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        simulate(
            made, tmp_path / f"{name}.pdb", "--dataset", made.dataset, "--chains", 1,
            "--seed", seed,
        )  # fmt: skip
    succeed(
        "generate", "interpolate", made.surrogate, "--from", tmp_path / "a.pdb", "--to",
        tmp_path / "b.pdb", "--lag-ps", 2, "--frames", 5, "--paths", 3, "--device", "cpu",
        "--out", tmp_path / "path.npz",
    )  # fmt: skip
    with np.load(tmp_path / "path.npz", allow_pickle=False) as arrays:
        assert arrays["positions"].shape == (3, 5, 5, 3)
    scores = json.loads((tmp_path / "path.json").read_text())["settings"]["scores"]
    best_first = [(score["valid_share"], score["log_likelihood"]) for score in scores]
    assert best_first == sorted(best_first, reverse=True)
    assert all(score["log_likelihood_error"] > 0 for score in scores)


def test_generate_upsample_keeps_the_frames_it_was_given(made: Made, tmp_path: Path) -> None:
    forward = ("generate", "forward", made.surrogate, "--device", "cpu")
    simulate(made, tmp_path / "s.pdb", "--dataset", made.dataset, "--chains", 1)
    succeed(*forward, "--start", tmp_path / "s.pdb", "--frames", 5, "--out", tmp_path / "gen.xtc")
    succeed(
        "generate", "upsample", made.surrogate, "--input", tmp_path / "gen.xtc", "--topology",
        tmp_path / "gen.pdb", "--factor", 3, "--interval-ps", 6, "--device", "cpu", "--out",
        tmp_path / "fine.xtc",
    )  # fmt: skip
    coarse = mdtraj.load(str(tmp_path / "gen.xtc"), top=str(tmp_path / "gen.pdb"))
    fine = mdtraj.load(str(tmp_path / "fine.xtc"), top=str(tmp_path / "fine.pdb"))
    assert fine.n_frames == 13
    np.testing.assert_allclose(fine.xyz[::3], coarse.xyz, atol=2e-3)
    np.testing.assert_allclose(np.diff(fine.time), 2.0, atol=1e-3)


def test_generate_inpaint_keeps_the_residues_it_was_given(made: Made, tmp_path: Path) -> None:
    forward = ("generate", "forward", made.surrogate, "--device", "cpu")
    simulate(made, tmp_path / "s.pdb", "--dataset", made.dataset, "--chains", 1)
    succeed(*forward, "--start", tmp_path / "s.pdb", "--frames", 9, "--out", tmp_path / "gen.xtc")
    inpaint = (
        "generate", "inpaint", made.surrogate, "--known", tmp_path / "gen.xtc", "--topology",
        tmp_path / "gen.pdb", "--device", "cpu",
    )  # fmt: skip
    succeed(*inpaint, "--residues", "1,3-4", "--replicas", 2, "--out", tmp_path / "whole.xtc")
    given = mdtraj.load(str(tmp_path / "gen.xtc"), top=str(tmp_path / "gen.pdb"))
    for replica in (0, 1):
        file = str(tmp_path / f"whole_{replica:03d}.xtc")
        whole = mdtraj.load(file, top=str(tmp_path / "whole.pdb"))
        np.testing.assert_allclose(whole.xyz[:, [0, 2, 3]], given.xyz[:, [0, 2, 3]], atol=2e-3)
    for text, wanted in (("1,9", "counted from 1 to 5"), ("a", "numbers and ranges")):
        refused = trajgen(*inpaint, "--residues", text, "--out", tmp_path / "no.xtc")
        assert refused.code == 2
        assert wanted in refused.error


def test_generate_ensemble_writes_frames_without_a_time(made: Made, tmp_path: Path) -> None:
    succeed(
        "generate", "ensemble", made.surrogate, "--frames", 7, "--device", "cpu", "--out",
        tmp_path / "all.npz",
    )  # fmt: skip
    with np.load(tmp_path / "all.npz", allow_pickle=False) as arrays:
        assert arrays["positions"].shape == (1, 7, 5, 3)


def test_evaluate_a_set_against_itself_gives_zero(made: Made, tmp_path: Path) -> None:
    done = succeed(
        "evaluate", made.dataset, "--reference", made.dataset, "--out", tmp_path / "E", "--json",
        "--set", "bootstrap_resamples=10", "--set", "floor_splits=2",
    )  # fmt: skip
    metrics = json.loads(done.out)
    assert metrics == json.loads((tmp_path / "E" / "metrics.json").read_text())
    (evaluation,) = metrics["samples"].values()
    for name, distance in evaluation["distances"].items():
        assert distance["pooled"]["value"] == pytest.approx(0, abs=1e-9), name
    assert "<html" in (tmp_path / "E" / "report.html").read_text()


def test_evaluate_takes_files_of_several_chains_as_one_set(made: Made, tmp_path: Path) -> None:
    simulate(made, tmp_path / "sim.xtc", "--dataset", made.dataset, "--chains", 2)
    done = succeed(
        "evaluate", tmp_path / "sim_000.xtc", tmp_path / "sim_001.xtc", "--topology",
        tmp_path / "sim.pdb", "--reference", made.dataset, "--out", tmp_path / "E",
        "--set", "bootstrap_resamples=10", "--set", "floor_splits=2",
    )  # fmt: skip
    assert "end_to_end" in done.out
    metrics = json.loads((tmp_path / "E" / "metrics.json").read_text())
    ((name, evaluation),) = metrics["samples"].items()
    assert name == "sim_000.xtc and sim_001.xtc"
    assert evaluation["samples"]["used"] == 8
    assert evaluation["samples"]["segments"] == 2
    # Times of a coarse-grained chain are no picoseconds of dynamics.
    assert "time step of the samples is not known" in evaluation["kinetics"]["reason"]
    provenance = metrics["provenance"]
    assert provenance["reproduce"].startswith("trajgen evaluate")
    (found,) = provenance["sets"].values()
    assert found["trajectories"] == 2
    card = json.loads((tmp_path / "sim.json").read_text())
    assert found["seed"] == card["seed"]
    (reference,) = provenance["reference"].values()
    assert len(reference["dataset_sha256"]) == 64


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("a/one.xtc", "b/two.xtc"), {"one.xtc", "two.xtc"}),
        (("a/one.xtc", "b/one.xtc"), {"a/one.xtc", "b/one.xtc"}),
    ],
)
def test_evaluated_sets_have_the_shortest_names_that_tell_them_apart(
    made: Made, tmp_path: Path, files: tuple[str, ...], names: set[str]
) -> None:
    simulate(made, tmp_path / "sim.xtc", "--dataset", made.dataset, "--chains", 1)
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "sim.xtc", tmp_path / file)
    evaluate = [
        "evaluate", *(tmp_path / file for file in files), "--topology", tmp_path / "sim.pdb",
        "--reference", made.dataset, "--each",
        "--set", "bootstrap_resamples=10", "--set", "floor_splits=2",
    ]  # fmt: skip
    succeed(*evaluate, "--out", tmp_path / "E")
    metrics = json.loads((tmp_path / "E" / "metrics.json").read_text())
    assert set(metrics["samples"]) == names
    assert str(tmp_path / files[0]) in metrics["provenance"]["sets"]
    twice = trajgen(*evaluate, tmp_path / files[0], "--out", tmp_path / "F")
    assert twice.code == 2
    assert "more than once" in twice.error


def test_a_set_called_reference_is_told_from_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    succeed("import", *write_arrays(tmp_path).flags(), "--out", "reference")
    quick = ("--set", "bootstrap_resamples=10", "--set", "floor_splits=2")
    names = {
        "reference": "reference (samples)",
        tmp_path / "reference": f"{tmp_path.name}/reference",
    }
    for number, (given, name) in enumerate(names.items()):
        out = tmp_path / f"E{number}"
        succeed("evaluate", given, "--reference", "reference", "--out", out, *quick)
        assert list(json.loads((out / "metrics.json").read_text())["samples"]) == [name]


def test_settings_come_from_file_then_set_then_flag(made: Made, tmp_path: Path) -> None:
    config = tmp_path / "sim.yaml"
    config.write_text("steps: 40\nsave_every: 10\nfriction_per_ps: 2.0\n")
    succeed(
        "simulate", made.potential, "--dataset", made.dataset, "--chains", 1, "--config", config,
        "--set", "save_every=20", "--set", "steps=60", "--steps", 20, "--device", "cpu",
        "--out", tmp_path / "sim.npz",
    )  # fmt: skip
    settings = json.loads((tmp_path / "sim.json").read_text())["settings"]
    assert (settings["steps"], settings["save_every"]) == (20, 20)
    assert settings["friction_per_ps"] == 2.0


def test_evaluate_measures_atoms(shared_data: Path, tmp_path: Path) -> None:
    """The models of an NMR entry against themselves: no distance, and no wrong hand."""
    entry = shared_data / "fastfolder_pdb" / "chignolin_1uao.pdb"
    out = tmp_path / "evaluation"
    said = succeed(
        "evaluate", entry, "--reference", entry, "--resolution", "heavy", "--out", out,
        "--structure", entry, "--set", "bootstrap_resamples=10", "--json",
    ).out  # fmt: skip
    (evaluation,) = json.loads(said)["samples"].values()
    assert evaluation["distances"]["backbone"]["pooled"]["value"] == 0
    assert evaluation["shares"]["chirality"]["samples"]["value"] == 0
    assert evaluation["shares"]["native"]["samples"]["value"] == 1
    assert evaluation["kinetics"]["reason"] is not None
    assert (out / "report.html").is_file()


def test_a_generation_under_way_goes_on_and_leaves_no_folder(made: Made, tmp_path: Path) -> None:
    simulate(made, tmp_path / "s.pdb", "--dataset", made.dataset, "--chains", 1)
    forward = (
        "generate", "forward", made.surrogate, "--start", tmp_path / "s.pdb", "--frames", 9,
        "--device", "cpu",
    )  # fmt: skip
    with patch("trajgen.cli.surrogate_io.say_whole", side_effect=KeyboardInterrupt):
        trajgen(*forward, "--out", tmp_path / "whole.npz")
    with patch("trajgen.data.writers.write_rollouts", side_effect=KeyboardInterrupt):
        trajgen(*forward, "--out", tmp_path / "gen.npz")
    assert (tmp_path / "gen.npz.generation").is_dir()
    refused = trajgen(*forward, "--seed", 1, "--out", tmp_path / "gen.npz")
    assert refused.code == 2
    assert "under way with another seed" in refused.error
    succeed(*forward, "--out", tmp_path / "gen.npz")
    assert not (tmp_path / "gen.npz.generation").exists()
    arrays = [np.load(tmp_path / f"{name}.npz")["positions"] for name in ("gen", "whole")]
    np.testing.assert_array_equal(*arrays)
