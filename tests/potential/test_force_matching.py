"""Fitting: a known potential is learnt, a killed fit goes on exactly, bad data are refused."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from potential_molecules import TEMPERATURE_K, make_frames, write_dataset

from trajgen.checkpoint import training_folder
from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.splits import split_by_segment
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError, WorkError
from trajgen.files import read_json
from trajgen.folder_lock import held_folder
from trajgen.geometry.internal import distances
from trajgen.potential import training as training_module
from trajgen.potential.batches import batch_of_step
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.energy import energy_and_forces, evaluation_batch
from trajgen.potential.fit import FitSettings, fit_potential
from trajgen.potential.force_labels import (
    make_labels,
    mean_force_error,
    read_labelled_frames,
    read_population_frames,
)
from trajgen.potential.potential import Potential
from trajgen.potential.prior_fit import fit_priors
from trajgen.potential.priors import PriorSettings
from trajgen.residues import parse_sequence

CPU = torch.device("cpu")
NOISE = 20.0  # kJ/mol/nm


def labelled_frames(n_frames: int = 60, noise: float = NOISE) -> BeadFrames:
    """Return tetrapeptides with forces of their priors, of a well between the ends, and noise."""
    frames = make_frames("GYDP", n_frames, seed=1)
    priors = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors
    ends = torch.tensor([[0, 3]])

    def energy(x: torch.Tensor) -> torch.Tensor:
        well = -15 * torch.exp(-(((distances(x, ends)[:, 0] - 0.7) / 0.12) ** 2))
        return priors(x) + well

    _, forces = energy_and_forces(energy, torch.from_numpy(frames.positions_nm).double())
    noisy = forces.numpy() + np.random.default_rng(2).normal(0, noise, forces.shape)
    return replace(frames, forces=noisy.astype(np.float32))


def small(**training: object) -> FitSettings:
    return FitSettings.model_validate(
        {
            # So few that the filters of a batch come from tables, as in trainings of any size.
            "network": {"blocks": 1, "features": 16, "radial_functions": 2},
            "prior_check": None,
            "ensemble": None,
            "training": {
                "steps": 12,
                "batch": 32,
                "warmup_steps": 2,
                "validate_every": 4,
                "save_every": 5,
                "validation_fraction": 0.2,
                **training,
            },
        }
    )


def test_a_known_potential_is_learnt_to_near_the_noise(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames(1_500))
    settings = small(
        steps=500, batch=128, learning_rate=5e-3, validate_every=100, average_decay=0.98
    )
    finer = settings.network.model_copy(update={"radial_functions": 12})
    settings = settings.model_copy(update={"network": finer})
    fit_potential(dataset, tmp_path / "out", settings, seed=1, device=CPU)
    card = read_json(tmp_path / "out" / "card.json")
    floor = NOISE**2
    assert card["prior_only_loss"]["validation"] > 2 * floor
    assert card["best_validation_loss"] < 1.15 * floor
    assert card["curve"][-1]["train"] < 1.15 * floor


def test_card_tells_what_was_done(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    out = fit_potential(dataset, tmp_path / "out", small(), seed=3, device=CPU)
    card = read_json(out / "card.json")
    assert [row["step"] for row in card["curve"]] == [4, 8, 12]
    assert card["best_validation_loss"] == min(row["validation"] for row in card["curve"])
    assert card["n_frames"] == {"train": 48, "validation": 12}
    assert card["dataset_digest"] == dataset.digest()
    assert (card["seed"], card["steps"]) == (3, 12)
    assert card["prior_notes"] == ["the repulsion took the default sigma of 0.5 nm"]
    assert not (tmp_path / "out.training").exists()
    # The weights that were kept are those of the best row.
    potential = Potential.load(out, CPU)
    frames = read_labelled_frames(dataset).frames
    priors = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors
    labels = make_labels(frames, priors, use_weights=False)
    held_out = labels.take(np.flatnonzero(split_by_segment(frames.segments, 0.2, 3)[1]))
    error = mean_force_error(potential.network, held_out)
    assert error == pytest.approx(card["best_validation_loss"], rel=1e-5)


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
from trajgen.data.store import Dataset
from trajgen.potential.fit import FitSettings, fit_potential
from trajgen.progress import Progress, ProgressTask

class Killer(ProgressTask):
    steps = 0
    def advance(self, steps=1, status=""):
        self.steps += steps
        if self.steps == 8:
            os.kill(os.getpid(), signal.SIGKILL)

class Killing(Progress):
    def task(self, label, total, done=0, limit_s=None):
        return Killer()

root = Path(sys.argv[1])
settings = FitSettings.model_validate_json(sys.argv[2])
dataset = Dataset.open(root / "data")
fit_potential(dataset, root / "out", settings, 1, torch.device("cpu"), Killing())
"""


@pytest.mark.parametrize("committee", [1, 3])
def test_a_killed_fit_goes_on_and_ends_with_the_same_weights(tmp_path, committee):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    settings = small().model_copy(update={"committee": committee})
    whole = fit_potential(dataset, tmp_path / "whole", settings, seed=1, device=CPU)
    child = [sys.executable, "-c", CHILD, str(tmp_path), settings.model_dump_json()]
    killed = subprocess.run(child, env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert json.loads((tmp_path / "out.training" / "state.json").read_text())["step"] == 5
    resumed = fit_potential(dataset, tmp_path / "out", settings, seed=1, device=CPU)
    for name in ("model.safetensors", "settings.yaml"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
    cards = [read_json(folder / "card.json") for folder in (whole, resumed)]
    assert cards[0]["curve"] == cards[1]["curve"]
    assert not (tmp_path / "out.training").exists()


def test_a_member_trains_as_if_it_were_alone(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    # Without validation the last average is kept; a low limit clips every gradient.
    settings = small(validation_fraction=0.0, gradient_clip=1e-3)
    several = settings.model_copy(update={"committee": 3})
    alone = fit_potential(dataset, tmp_path / "one", settings, seed=1, device=CPU)
    beside = fit_potential(dataset, tmp_path / "three", several, seed=1, device=CPU)
    (network,) = Potential.load(alone, CPU).member_networks()
    first, second, _ = Potential.load(beside, CPU).member_networks()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(first.state_dict()[name], value)
    assert not torch.allclose(second.head_in.weight, network.head_in.weight)
    rows = [read_json(path / "card.json")["curve"][-1]["train"] for path in (alone, beside)]
    assert rows[0] != rows[1]


def test_the_kept_committee_is_the_best_of_its_mean(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    settings = small().model_copy(update={"committee": 2})
    out = fit_potential(dataset, tmp_path / "out", settings, seed=3, device=CPU)
    card, potential = read_json(out / "card.json"), Potential.load(out, CPU)
    frames = read_labelled_frames(dataset).frames
    priors = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors
    held_out = make_labels(frames, priors, use_weights=False).take(
        np.flatnonzero(split_by_segment(frames.segments, 0.2, 3)[1])
    )
    error = mean_force_error(potential.network, held_out)
    assert error == pytest.approx(card["best_validation_loss"], rel=1e-5)
    members = [mean_force_error(n, held_out) for n in potential.member_networks()]
    assert error < np.mean(members)  # the square is convex


def test_the_state_of_another_fit_is_not_taken_over(tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path / "data", labelled_frames())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Potential, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        fit_potential(dataset, tmp_path / "out", small(), seed=1, device=CPU)
    with pytest.raises(InputError, match="of another dataset, seed, start or settings"):
        fit_potential(dataset, tmp_path / "out", small(), seed=2, device=CPU)


def test_two_fits_do_not_share_a_folder(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    out = tmp_path / "out"
    with held_folder(training_folder(out)), pytest.raises(InputError, match="is at work in"):
        fit_potential(dataset, out, small(), seed=1, device=CPU)
    assert not training_folder(out).exists()
    fit_potential(dataset, out, small(steps=2), seed=1, device=CPU)


def test_shards_that_continue_a_trajectory_are_one_segment(tmp_path):
    frames = replace(labelled_frames(), segments=np.zeros(60, dtype=np.int64))
    dataset = Dataset.create(tmp_path / "data", DatasetHeader(frames.topology))
    for number, continues in enumerate((False, True, False)):
        name = f"part{number}"
        label = ShardLabel(name, "import", "test", TEMPERATURE_K, None, continues=continues)
        dataset.append_beads(label, frames)
    segments = read_labelled_frames(dataset).frames.segments
    assert np.array_equal(segments, np.repeat([0, 0, 1], 60))
    assert np.array_equal(segments, dataset.read_all_beads().segments)


def test_frames_are_evaluated_by_as_many_as_memory_holds():
    assert evaluation_batch(10) == 1024
    assert evaluation_batch(100) == 200
    assert evaluation_batch(300) * 300**2 < 2.1e6
    assert evaluation_batch(5000) == 1


def test_an_output_that_exists_is_left_alone(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(InputError, match="exists already"):
        fit_potential(dataset, tmp_path / "out", small(), seed=1, device=CPU)
    assert (tmp_path / "out" / "mine").read_text() == "kept"


def test_data_without_forces_are_refused(tmp_path):
    dataset = write_dataset(tmp_path / "data", replace(labelled_frames(), forces=None))
    with pytest.raises(InputError, match="has no forces"):
        fit_potential(dataset, tmp_path / "out", small(), seed=1, device=CPU)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("network", "seen"),
    [
        ({"cutoff_nm": 0.2}, "0 and network.cutoff_nm 0.2"),
        ({"cutoff_lower_nm": 3.0, "cutoff_nm": 5.0}, "3 and network.cutoff_nm 5"),
    ],
)
def test_a_network_that_would_see_no_pair_is_refused(tmp_path, network, seen):
    frames = labelled_frames()
    dataset = write_dataset(tmp_path / "data", frames)
    i, j = np.triu_indices(4, 1)
    apart_nm = np.linalg.norm(frames.positions_nm[:, i] - frames.positions_nm[:, j], axis=-1)
    settings = FitSettings.model_validate({"network": network})
    with pytest.raises(InputError) as refused:
        fit_potential(dataset, tmp_path / "out", settings, seed=1, device=CPU)
    assert f"network.cutoff_lower_nm is {seen}, but beads" in str(refused.value)
    assert f"are {apart_nm.min():.2f} to {apart_nm.max():.2f} nm apart" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_shards_without_forces_are_left_out_with_a_warning(tmp_path, caplog):
    frames = labelled_frames()
    dataset = write_dataset(tmp_path / "data", frames, replace(frames, forces=None))
    with caplog.at_level("WARNING"):
        read = read_labelled_frames(dataset)
    assert read.frames.n_frames == frames.n_frames
    assert (read.shards == 0).all()
    assert "1 of 2 shards have no forces" in caplog.text


def test_priors_are_not_fitted_to_seeded_segments(tmp_path, caplog):
    frames = labelled_frames()
    dataset = Dataset.create(tmp_path / "data", DatasetHeader(frames.topology))
    for name, sampling in (("plain", "equilibrium"), ("grown", "seeded")):
        label = ShardLabel(name, "oracle", "test", TEMPERATURE_K, None, sampling=sampling)
        dataset.append_beads(label, frames)
    assert read_population_frames(dataset).n_frames == frames.n_frames
    only_seeded = Dataset(dataset.path, dataset.header, dataset.entries[1:])
    assert read_population_frames(only_seeded).n_frames == frames.n_frames
    assert "all shards are seeded" in caplog.text


def test_mixed_temperatures_are_refused(tmp_path):
    frames = labelled_frames()
    dataset = write_dataset(tmp_path / "data", frames, frames, temperatures_K=(300.0, 350.0))
    with pytest.raises(InputError, match="mixes temperatures of 300, 350 K"):
        fit_potential(dataset, tmp_path / "out", small(), seed=1, device=CPU)


def test_a_loss_that_is_not_finite_stops_the_fit_and_names_step_and_frames(tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    real = training_module.force_error
    calls = []

    def failing(predicted: torch.Tensor, labels: object) -> torch.Tensor:
        calls.append(labels)
        errors = real(predicted, labels)
        return (
            torch.where(torch.arange(errors.shape[-1]) == 2, torch.nan, errors)
            if len(calls) == 3
            else errors
        )

    monkeypatch.setattr(training_module, "force_error", failing)
    with pytest.raises(WorkError, match="loss of step 2 is nan") as caught:
        fit_potential(dataset, tmp_path / "out", small(), seed=1, device=CPU)
    assert f"[{calls[-1].frames[0, 2]}]" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_without_validation_frames_the_last_average_is_kept(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    out = fit_potential(dataset, tmp_path / "out", small(validation_fraction=0.0), 1, CPU)
    card = read_json(out / "card.json")
    assert card["best_step"] == 12
    assert card["best_validation_loss"] is None
    assert card["prior_only_loss"]["validation"] is None


def test_minutes_end_a_fit_early(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    settings = small(steps=10**9, max_minutes=0.01)
    out = fit_potential(dataset, tmp_path / "out", settings, seed=1, device=CPU)
    assert 0 < read_json(out / "card.json")["steps"] < 10**6


def test_every_frame_is_used_once_an_epoch():
    batches = [batch_of_step(step, 7, 35, seed=1) for step in range(10)]
    assert sorted(np.concatenate(batches[:5])) == list(range(35))
    assert sorted(np.concatenate(batches[5:])) == list(range(35))
    assert not np.array_equal(batches[0], batches[5])
    across = batch_of_step(2, 16, 20, seed=1)  # the end of one epoch and most of the next
    assert len(across) == 16
    assert len(set(across[8:])) == 8


LAUNCHED = """
import sys
from pathlib import Path
import torch
from accelerate import PartialState
from trajgen.data.store import Dataset
from trajgen.potential.fit import FitSettings, fit_potential

root = Path(sys.argv[1])
settings = FitSettings.model_validate_json(sys.argv[2])
fit_potential(Dataset.open(root / "data"), root / "two", settings, 1, torch.device("cpu"))
assert PartialState().num_processes == 2
"""


@pytest.mark.slow
def test_two_processes_train_the_same_network_as_one(tmp_path):
    dataset = write_dataset(tmp_path / "data", labelled_frames())
    # Shares of eight and of seven frames.
    settings = small(batch=15).model_copy(update={"committee": 2})
    one = fit_potential(dataset, tmp_path / "one", settings, seed=1, device=CPU)
    (tmp_path / "child.py").write_text(LAUNCHED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    child = [str(tmp_path / "child.py"), str(tmp_path), settings.model_dump_json()]
    subprocess.run([*launch, *child], env=os.environ, check=True)
    weights = [Potential.load(path, CPU).state_dict() for path in (one, tmp_path / "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_chignolin_is_fitted_and_its_chain_stays_whole(shared_data, tmp_path):
    folder = shared_data / "chignolin_ca_forces"
    coordinates = np.load(folder / "chignolin_ca_coords_first13000.npy", mmap_mode="r")[:3000]
    forces = np.load(folder / "chignolin_ca_forces_first13000.npy", mmap_mode="r")[:3000]
    segments = np.load(folder / "trajectory_id_first13000.npy")[:3000]
    frames = BeadFrames(
        topology=BeadTopology.from_residues(parse_sequence("YYDPETGTWY")),
        positions_nm=(coordinates / 10).astype(np.float32),
        segments=segments.astype(np.int64),
        forces=(forces * 41.84).astype(np.float32),
    )
    dataset = write_dataset(tmp_path / "data", frames)
    settings = small(steps=40, batch=32, validate_every=20, learning_rate=2e-3)
    out = fit_potential(dataset, tmp_path / "out", settings, seed=1, device=CPU)
    card = read_json(out / "card.json")
    assert card["best_validation_loss"] < card["prior_only_loss"]["validation"]
    potential = Potential.load(out, CPU)
    rollouts = simulate(
        potential, frames.positions_nm[::300], SimulationSettings(steps=500), seed=1
    )
    assert rollouts.alive.all()
    bonds = np.linalg.norm(np.diff(rollouts.positions_nm, axis=2), axis=-1)
    assert bonds.min() > 0.34
    assert bonds.max() < 0.43
    assert bonds.mean() == pytest.approx(0.3835, abs=0.003)
