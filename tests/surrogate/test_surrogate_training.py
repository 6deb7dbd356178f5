import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_chain import (
    LAG_PS,
    TOPOLOGY,
    make_dataset,
    tiny_settings,
    wobbling_chain,
)
from training_process import card, command

from trajgen.checkpoint import training_folder
from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.data.writers import write_structure
from trajgen.errors import InputError, WorkError
from trajgen.geometry.internal import distances
from trajgen.geometry.superposition import rmsd
from trajgen.progress import Progress, ProgressTask
from trajgen.settings import load_settings, parse_settings, read_yaml
from trajgen.surrogate import trainer
from trajgen.surrogate.checkpoints import load_surrogate
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.conditioning import TaskSettings, forward_mask
from trajgen.surrogate.encoded_windows import WindowTimes, encode_windows
from trajgen.surrogate.ensemble import ensemble
from trajgen.surrogate.forward import forward
from trajgen.surrogate.objective import window_losses
from trajgen.surrogate.survey import typical_frame
from trajgen.surrogate.train import train_surrogate
from trajgen.surrogate.training_settings import TrainSettings
from trajgen.surrogate.training_windows import read_training_data

CPU = torch.device("cpu")


def test_the_card_says_what_was_trained_on(dataset: Dataset, tmp_path: Path):
    out = train_surrogate([dataset], tmp_path / "model", tiny_settings(12), 5, CPU)
    values = card(out)
    assert values["datasets"] == [str(dataset.path)]
    assert values["datasets_sha256"] == [dataset.digest()]
    assert values["sequences"] == [TOPOLOGY.sequence]
    assert (values["n_frames"], values["seed"], values["steps"]) == (804, 5, 12)
    # 195 whole windows a segment, and a padded window of the short one. The end of one segment is
    # held out, and no window crosses to it.
    assert values["n_windows"] + values["n_validation_windows"] == 4 * 195 + 1 - 5
    assert [point["step"] for point in values["curve"]] == [5, 10, 12]
    assert all(np.isfinite(point["validation"]) for point in values["curve"])
    assert not training_folder(out).exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(dataset: Dataset, tmp_path: Path):
    settings = tiny_settings(30)
    whole = subprocess.run(
        [sys.executable, *command([dataset], settings, tmp_path / "whole")], check=False
    )
    assert whole.returncode == 0
    resumed = command([dataset], settings, tmp_path / "resumed")
    process = subprocess.Popen([sys.executable, *resumed])
    state = training_folder(tmp_path / "resumed") / "state.json"
    while process.poll() is None and not state.is_file():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "resumed").exists()
    assert subprocess.run([sys.executable, *resumed], check=False).returncode == 0
    first = load_file(tmp_path / "whole" / "model.safetensors")
    second = load_file(tmp_path / "resumed" / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert card(tmp_path / "whole")["curve"] == card(tmp_path / "resumed")["curve"]


def test_training_ends_by_time_where_it_is_asked_to(dataset: Dataset, tmp_path: Path):
    settings = tiny_settings(100_000, max_minutes=0.01)
    out = train_surrogate([dataset], tmp_path / "model", settings, 1, CPU)
    assert 0 < card(out)["steps"] < 100_000


def test_parts_of_a_batch_give_the_gradients_of_the_whole(dataset: Dataset, tmp_path: Path):
    whole = train_surrogate([dataset], tmp_path / "whole", tiny_settings(10), 1, CPU)
    parts = train_surrogate([dataset], tmp_path / "parts", tiny_settings(10, micro_batch=5), 1, CPU)
    for first, second in zip(card(whole)["curve"], card(parts)["curve"], strict=True):
        assert first["train"] == pytest.approx(second["train"], rel=1e-4)


def test_a_batch_that_memory_cannot_hold_is_cut(
    dataset: Dataset, tmp_path: Path, monkeypatch, caplog
):
    def small_device(network, question):
        if len(question.t) > limit:
            raise torch.OutOfMemoryError
        return window_losses(network, question)

    monkeypatch.setattr(trainer, "window_losses", small_device)
    limit = 5
    settings = tiny_settings(3, validation_fraction=0.0)
    assert card(train_surrogate([dataset], tmp_path / "model", settings, 1, CPU))["steps"] == 3
    assert "out of memory in step 0: from now on 4 windows" in caplog.text
    limit = 0
    with pytest.raises(WorkError, match="too small for one window"):
        train_surrogate([dataset], tmp_path / "none", settings, 1, CPU)


def test_curves_go_to_tensorboard(dataset: Dataset, tmp_path: Path, monkeypatch):
    settings = tiny_settings(6, tensorboard=True)
    train_surrogate([dataset], tmp_path / "model", settings, 1, CPU)
    assert list((tmp_path / "model.tensorboard").glob("events*"))
    monkeypatch.setattr("trajgen.tracking.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        train_surrogate([dataset], tmp_path / "other", settings, 1, CPU)


def test_the_average_of_the_weights_is_what_is_kept(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[dict[str, torch.Tensor]] = []
    real = trainer.Trainer._update_average

    def watched(self: trainer.Trainer) -> None:
        if not seen:
            seen.append({k: v.clone() for k, v in self.averaged.state_dict().items()})
        seen.append({k: v.clone() for k, v in self.network.state_dict().items()})
        real(self)

    monkeypatch.setattr(trainer.Trainer, "_update_average", watched)
    settings = tiny_settings(6, average_decay=0.3)
    path = train_surrogate([dataset], tmp_path / "model", settings, 1, CPU)
    kept = load_surrogate(path, CPU).network.state_dict()
    for name, value in kept.items():
        average = seen[0][name]
        for step, weights in enumerate(seen[1:]):
            decay = min(0.3, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * weights[name]
        torch.testing.assert_close(value, average)


def test_bfloat16_trains_too(dataset: Dataset, tmp_path: Path):
    out = train_surrogate([dataset], tmp_path / "model", tiny_settings(4, precision="bf16"), 1, CPU)
    assert np.isfinite(card(out)["curve"][-1]["validation"])


class StopError(Exception):
    """Raised in the middle of training, as an interrupt would be."""


class Stopping(Progress):
    """Progress that stops the work after six steps."""

    def task(
        self, label: str, total: int, done: int = 0, limit_s: float | None = None
    ) -> ProgressTask:
        class Task(ProgressTask):
            steps = 0

            def advance(self, steps: int = 1, status: str = "") -> None:
                self.steps += steps
                if self.steps == 6:
                    raise StopError

        return Task()


def test_a_state_of_another_run_is_refused(dataset: Dataset, tmp_path: Path):
    out = tmp_path / "model"
    with pytest.raises(StopError):
        train_surrogate([dataset], out, tiny_settings(8), 1, CPU, Stopping())
    with pytest.raises(InputError, match="training state of another run"):
        train_surrogate([dataset], out, tiny_settings(9), 1, CPU)
    train_surrogate([dataset], out, tiny_settings(8), 1, CPU)


def test_an_output_that_exists_is_refused(dataset: Dataset, tmp_path: Path):
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match="exists already"):
        train_surrogate([dataset], tmp_path / "model", tiny_settings(2), 1, CPU)


def test_a_loss_that_is_not_finite_names_the_window(dataset: Dataset, tmp_path: Path):
    settings = tiny_settings(9, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(WorkError, match=r"in step 1 at the window from frame \d+ of shard seg"):
        train_surrogate([dataset], tmp_path / "model", settings, 1, CPU)
    assert not (tmp_path / "model").exists()


def test_a_molecule_cut_by_a_periodic_box_is_refused(tmp_path: Path):
    segments = [wobbling_chain(40, seed) for seed in range(2)]
    segments[1][20, 2:] += 3.0
    dataset = make_dataset(tmp_path / "dataset", segments)
    with pytest.raises(InputError, match=r"1 frames .* first frame 20 of shard segment-1"):
        train_surrogate([dataset], tmp_path / "model", tiny_settings(5), 1, CPU)


def test_segments_too_short_for_the_lag_are_refused(tmp_path: Path):
    dataset = make_dataset(tmp_path / "dataset", [wobbling_chain(2, 0), wobbling_chain(2, 1)])
    with pytest.raises(
        InputError, match=r"shortest_lag_ps 2: its longest segment is 2 ps.*most 1 ps"
    ):
        train_surrogate([dataset], tmp_path / "model", tiny_settings(2), 1, CPU)


def test_a_molecule_of_two_beads_is_refused(tmp_path: Path):
    topology = BeadTopology.from_residues(("GLY", "ALA"))
    dataset = Dataset.create(tmp_path / "dataset", DatasetHeader(topology))
    positions = np.zeros((9, 2, 3), dtype=np.float32)
    label = ShardLabel("a", "import", "springs", 300.0, LAG_PS)
    ids = np.zeros(9, dtype=np.int64)
    dataset.append_beads(label, BeadFrames(topology, positions, ids, LAG_PS))
    with pytest.raises(InputError, match="has 2 beads"):
        train_surrogate([dataset], tmp_path / "model", tiny_settings(2), 1, CPU)


def test_a_dataset_without_equilibrium_is_trained_on_tasks_with_a_known_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    dataset = Dataset.create(tmp_path / "dataset", DatasetHeader(TOPOLOGY))
    label = ShardLabel("seeded", "oracle", "springs", 300.0, LAG_PS, sampling="seeded")
    ids = np.zeros(40, dtype=np.int64)
    dataset.append_beads(label, BeadFrames(TOPOLOGY, wobbling_chain(40, 1), ids, LAG_PS))
    train_surrogate([dataset], tmp_path / "model", tiny_settings(2), 1, CPU)
    assert "has no trajectory in equilibrium" in caplog.text
    surrogate = load_surrogate(tmp_path / "model", CPU)
    assert surrogate.molecule.tasks == ("forward", "interpolate", "upsample")
    with pytest.raises(InputError, match="not trained for ensemble, only for forward"):
        ensemble(surrogate, 2, RolloutSettings(evaluations=2), 1)
    settings = load_settings(
        TrainSettings, None, ["tasks.forward=0", "tasks.interpolate=0", "tasks.upsample=0"]
    )
    with pytest.raises(InputError, match="learnt from equilibrium trajectories"):
        train_surrogate([dataset], tmp_path / "other", settings, 1, CPU)


def test_frames_stay_in_their_files_while_a_surrogate_learns(tmp_path: Path):
    dataset = make_dataset(tmp_path / "dataset", [wobbling_chain(40, seed) for seed in range(3)])
    (data,) = read_training_data([dataset], tiny_settings(2).model, TaskSettings(), 0.0, 0.0, 1)
    shards = data.training.positions.shards
    names = [dataset.path / entry.file for entry in dataset.entries]
    mapped = Path("/proc/self/maps").read_text()
    assert all(str(name) in mapped for name in names)
    assert [len(shard) for shard in shards] == [entry.frames for entry in dataset.entries]


def test_a_model_of_several_molecules_asks_which_and_takes_another(
    dataset: Dataset, tmp_path: Path
):
    longer = BeadTopology.from_residues(("ALA", "TYR", "ASP", "PRO", "GLU", "GLY"))
    other = Dataset.create(tmp_path / "other", DatasetHeader(longer))
    six = np.concatenate([wobbling_chain(60, 3), wobbling_chain(60, 4)[:, :1] + 0.3], axis=1)
    label = ShardLabel("a", "import", "springs", 300.0, LAG_PS)
    frames = BeadFrames(longer, six, np.zeros(60, dtype=np.int64), LAG_PS)
    other.append_beads(label, frames)
    out = train_surrogate([dataset, other], tmp_path / "model", tiny_settings(8), 1, CPU)
    assert card(out)["sequences"] == [TOPOLOGY.sequence, longer.sequence]
    with pytest.raises(InputError, match=r"2 molecules \(GYDPE, AYDPEG, …\); say which"):
        load_surrogate(out, CPU)
    write_structure(tmp_path / "six.pdb", longer, six[0])
    known = load_surrogate(out, CPU, tmp_path / "six.pdb")
    assert known.beads.sequence == longer.sequence
    unseen = BeadTopology.from_residues(("PRO", "TYR", "ASP", "PRO", "GLU", "GLY", "ALA"))
    seven = np.concatenate([six[0], six[0, :1] + 0.35])
    write_structure(tmp_path / "seven.pdb", unseen, seven)
    new = load_surrogate(out, CPU, tmp_path / "seven.pdb")
    assert new.beads.sequence == unseen.sequence
    for surrogate, start in ((known, six[:2]), (new, seven[None])):
        rolled = forward(surrogate, start, 9, LAG_PS, RolloutSettings(evaluations=4), 0)
        assert np.isfinite(rolled.positions_nm[:, 0]).all()
        assert rolled.alive[:, 1].all()
    strange = BeadTopology.from_residues(("TRP", "TYR", "ASP", "LYS", "GLU", "GLY", "ALA"))
    write_structure(tmp_path / "strange.pdb", strange, seven)
    with pytest.raises(InputError, match="has TRP, LYS, and no molecule"):
        load_surrogate(out, CPU, tmp_path / "strange.pdb")
    with pytest.raises(InputError, match="of the same molecule"):
        train_surrogate([dataset, dataset], tmp_path / "no", tiny_settings(2), 1, CPU)


def test_the_typical_frame_is_the_one_nearest_to_the_mean():
    frames = torch.from_numpy(wobbling_chain(60, 2, memory=0.0))
    frames[17] = torch.from_numpy(wobbling_chain(1, 0, spread_nm=0.0))[0] + 3.0
    assert torch.allclose(typical_frame(frames), frames[17] - frames[17].mean(dim=0), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["velocity", "end_point"])
def test_a_trained_model_has_the_spread_of_the_process(tmp_path: Path, target: str):
    """Beads that wobble independently about a helix: the model must find how far they go."""
    segments = [wobbling_chain(400, seed, memory=0.5) for seed in range(4)]
    dataset = make_dataset(tmp_path / "dataset", segments)
    settings = tiny_settings(200, learning_rate=4e-3, batch=32, validate_every=200)
    tasks = TaskSettings(upsample=0, inpaint=0, ensemble=0)
    model = settings.model.model_copy(update={"target": target})
    settings = settings.model_copy(update={"tasks": tasks, "model": model})
    surrogate = load_surrogate(
        train_surrogate([dataset], tmp_path / "model", settings, 1, CPU), CPU
    )
    windows = np.concatenate(
        [wobbling_chain(300, 50 + seed, memory=0.5).reshape(50, 6, -1, 3) for seed in range(4)]
    )
    settings = RolloutSettings(evaluations=12)
    rolled = forward(surrogate, windows[:, 0], 31, LAG_PS, settings, 0).positions_nm
    found, wanted = torch.from_numpy(rolled[:, :6]), torch.from_numpy(windows)
    known = forward_mask(6, TOPOLOGY.n_beads).expand(200, 6, -1)

    def spreads(positions: torch.Tensor) -> torch.Tensor:
        times = WindowTimes.even(200, 6, LAG_PS, 300.0, CPU)
        encoded = encode_windows(positions, known, None, times, surrogate.molecule)
        return encoded.tokens[:, 1:].std(dim=(0, 1, 2))

    assert (spreads(found) / spreads(wanted) - 1).abs().max() < 0.25

    # Chained over five windows, shapes keep the spread of the process as well.
    ends = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [0, 2], [1, 3], [2, 4], [0, 4]])
    chained = distances(torch.from_numpy(rolled[:, 26:]), ends).flatten(0, 1)
    process = distances(wanted, ends).flatten(0, 1)
    assert (chained.mean(dim=0) - process.mean(dim=0)).abs().max() < 0.015
    assert (chained.std(dim=0) / process.std(dim=0) - 1).abs().max() < 0.25

    # And over a hundred, of which the last ten are like the first ten.
    long = forward(surrogate, windows[:8, 0], 401, LAG_PS, settings, 0)
    assert long.alive.all()
    far = distances(torch.from_numpy(long.positions_nm), ends)
    first, last = far[:, 1:41].flatten(0, 1), far[:, 361:].flatten(0, 1)
    assert (first.mean(dim=0) - last.mean(dim=0)).abs().max() < 0.015
    assert (last.std(dim=0) / first.std(dim=0) - 1).abs().max() < 0.25

    # Steps over the joins of windows, and those within them: 2 frames of 6 are shared.
    steps = rmsd(*(torch.from_numpy(long.positions_nm[:, k : 400 + k]) for k in (0, 1)))
    joins = torch.arange(400) % 4 == 1  # from frame 5, 9, … to the next
    assert float(steps[:, joins].mean() / steps[:, ~joins].mean()) == pytest.approx(1, abs=0.1)


def test_the_settings_file_that_users_copy_holds_the_defaults():
    file = Path(__file__).parents[2] / "configs" / "surrogate" / "default.yaml"
    assert load_settings(TrainSettings, file) == TrainSettings()
    assert read_yaml(file) == TrainSettings().model_dump(mode="json")


@pytest.mark.parametrize(("size", "rate"), [("tiny", 4e-3), ("small", 1.5e-3), ("base", 5e-4)])
def test_the_learning_rate_is_that_of_the_size_unless_asked(size: str, rate: float):
    sized = {"model": {"network": {"size": size}}}
    assert parse_settings(TrainSettings, sized, "test").highest_learning_rate == rate
    asked = sized | {"training": {"learning_rate": 1e-5}}
    assert parse_settings(TrainSettings, asked, "test").highest_learning_rate == 1e-5
