"""Training of the surrogate, on one process or many, resumed exactly after a kill."""

import copy
import logging
import math
import platform
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate import __version__ as accelerate_version
from pydantic import Field
from torch import Tensor

from trajgen.checkpoint import (
    drop_training_state,
    load_training_state,
    save_training_state,
    training_folder,
)
from trajgen.data.store import Dataset
from trajgen.errors import InputError, WorkError
from trajgen.files import require_output
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed, torch_generator
from trajgen.settings import Settings
from trajgen.surrogate.conditioning import TaskSettings
from trajgen.surrogate.objective import Batch, draw_batch, window_losses
from trajgen.surrogate.surrogate import Molecule, Surrogate, SurrogateSettings
from trajgen.surrogate.tokens import TokenScale
from trajgen.surrogate.training_windows import TrainingData, WindowSet, read_training_data
from trajgen.surrogate.transformer import DIMENSIONS, TrajectoryTransformer
from trajgen.surrogate.whitening import Springs

logger = logging.getLogger(__name__)


class TrainingSettings(Settings):
    """How a surrogate is trained.

    Attributes:
        steps: optimizer steps.
        max_minutes: end earlier, after this time; the learning rate then falls with time.
            Results are repeatable only without it.
        batch: windows of a step, over all processes.
        learning_rate: highest learning rate; it rises over ``warmup_steps`` and falls as a cosine.
        warmup_steps: steps over which the learning rate rises.
        weight_decay: decay of AdamW.
        gradient_clip: largest norm of the gradient.
        average_decay: decay of the averaged weights, which are the ones that are kept.
        context_noise_nm: largest displacement of known beads in training.
        validation_fraction: share of frames held out, by whole segments.
        validation_windows: windows that a validation looks at, at most.
        validate_every: steps between validations.
        save_every: steps between saved training states.
        window_shift: saved frames between the starts of windows.
    """

    steps: int = Field(default=20_000, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    context_noise_nm: float = Field(default=0.005, ge=0)
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    validation_windows: int = Field(default=256, ge=1)
    validate_every: int = Field(default=500, ge=1)
    save_every: int = Field(default=500, ge=1)
    window_shift: int = Field(default=1, ge=1)


class TrainSettings(Settings):
    """Settings of the whole of training."""

    model: SurrogateSettings = SurrogateSettings()
    tasks: TaskSettings = TaskSettings()
    training: TrainingSettings = TrainingSettings()


def train_surrogate(
    dataset: Dataset,
    out: Path,
    settings: TrainSettings,
    seed: int,
    device: torch.device,
    progress: Progress = SILENT,
) -> Path:
    """Train a surrogate on a dataset and write it as a checkpoint.

    The training state beside ``out`` lets the same call go on where a killed one stopped. Under
    ``accelerate launch`` every process calls this; the first one writes.

    Args:
        dataset: trajectories; segments of at least two lags give windows.
        out: the checkpoint folder to write.
        settings: model, tasks and training.
        seed: base of every random draw.
        device: the CPU or the GPU; with many processes each takes its own GPU.
        progress: told of each step.

    Returns:
        ``out``.

    Raises:
        InputError: ``out`` exists, the dataset does not fit, or the training state that lies
            beside ``out`` is of another run.
        WorkError: the loss is not finite.
    """
    require_output(out)
    data = read_training_data(
        dataset,
        settings.model,
        settings.training.window_shift,
        settings.training.validation_fraction,
        seed,
    )
    accelerator = Accelerator(cpu=device.type == "cpu")
    if settings.training.batch % accelerator.num_processes:
        raise InputError(
            f"training.batch is {settings.training.batch}, which {accelerator.num_processes} "
            "processes cannot share evenly; choose a multiple"
        )
    identity = {
        "dataset_sha256": dataset.digest(),
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
    }
    trainer = Trainer(data, settings, seed, accelerator)
    _restore(trainer, out, identity)
    _run(trainer, out, identity, progress if accelerator.is_main_process else SILENT)
    if accelerator.is_main_process:
        card = {"dataset": str(dataset.path), **identity, **trainer.card()}
        trainer.surrogate().save(out, card)
        drop_training_state(out)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return out


class Trainer:
    """The network, its optimizer and its averaged weights, and one step of all three."""

    def __init__(
        self, data: TrainingData, settings: TrainSettings, seed: int, accelerator: Accelerator
    ) -> None:
        self.data, self.settings, self.seed = data, settings, seed
        self.accelerator = accelerator
        self.molecule = _molecule_on(data.molecule, accelerator.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "surrogate-weights"))
            network = TrajectoryTransformer(DIMENSIONS[settings.model.network.size])
        self.network = network.to(accelerator.device)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.training.learning_rate,
            weight_decay=settings.training.weight_decay,
            fused=True,
        )
        self.optimizer = optimizer
        self.wrapped, self.wrapped_optimizer = accelerator.prepare(self.network, optimizer)
        self.step = 0
        self.curve: list[dict[str, Any]] = []
        self.loss_sum, self.loss_count = 0.0, 0
        self.seconds_before, self.started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on training, earlier parts of a resumed run included."""
        return self.seconds_before + time.monotonic() - self.started

    def fraction_done(self) -> float:
        """Return how much of the budget is spent, by steps or by time, alike on all processes."""
        training = self.settings.training
        fraction = self.step / training.steps
        if training.max_minutes is not None:
            spent = torch.tensor(self.seconds / (60 * training.max_minutes))
            spent = self.accelerator.reduce(spent.to(self.accelerator.device), "mean")
            fraction = max(fraction, float(spent))
        return min(1.0, fraction)

    def train_step(self, fraction_done: float) -> float:
        """Take one optimizer step; return its loss on this process."""
        training = self.settings.training
        warmup = min(1.0, (self.step + 1) / max(1, training.warmup_steps))
        rate = training.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * fraction_done))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self._batch()
        losses = window_losses(
            self.wrapped, self.data.training, batch, self.molecule, self.settings.model
        )
        self._require_finite(losses.detach(), batch)
        self.wrapped_optimizer.zero_grad()
        loss = losses.mean()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.wrapped.parameters(), training.gradient_clip)
        self.wrapped_optimizer.step()
        self._update_average()
        self.step += 1
        self.loss_sum, self.loss_count = self.loss_sum + float(loss.detach()), self.loss_count + 1
        return float(loss.detach())

    def add_to_curve(self) -> None:
        """Note the mean training loss since the last call, and the loss of held-out windows."""
        mean = torch.tensor(self.loss_sum / self.loss_count, device=self.accelerator.device)
        train = float(self.accelerator.reduce(mean, "mean"))
        self.curve.append({"step": self.step, "train": train, "validation": self._validate()})
        self.loss_sum, self.loss_count = 0.0, 0

    def surrogate(self) -> Surrogate:
        """Return the surrogate with the averaged weights."""
        return Surrogate(self.averaged, self.settings.model, self.molecule)

    def card(self) -> dict[str, Any]:
        """Return what the checkpoint's card says of the training."""
        return {
            "n_frames": self.data.n_frames,
            "n_windows": self.data.training.n_windows,
            "n_validation_windows": self.data.validation.n_windows,
            "n_parameters": sum(weights.numel() for weights in self.network.parameters()),
            "steps": self.step,
            "curve": self.curve,
            "wall_seconds": round(self.seconds, 3),
            "device": str(self.accelerator.device),
            "processes": self.accelerator.num_processes,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                "accelerate": accelerate_version,
            },
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that a later run needs to go on: tensors, and plain values."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
        values = {
            "step": self.step,
            "curve": self.curve,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "seconds": self.seconds,
        }
        return tensors, values

    def load_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take up what ``state`` returned."""
        self.network.load_state_dict(_below(tensors, "network."))
        self.averaged.load_state_dict(_below(tensors, "averaged."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below(tensors, "optimizer.").items():
            index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step, self.curve = values["step"], values["curve"]
        self.loss_sum, self.loss_count = values["loss_sum"], values["loss_count"]
        self.seconds_before = values["seconds"]

    def _batch(self) -> Batch:
        """Draw the batch of this step, the same on all processes, and take the own share of it."""
        windows, training = self.data.training, self.settings.training
        generator = torch_generator(derive_seed(self.seed, "surrogate-batch", index=self.step))
        rows = torch.randint(windows.n_windows, (training.batch,), generator=generator)
        batch = draw_batch(windows, rows, self.settings.tasks, training.context_noise_nm, generator)
        return batch.take(
            slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        )

    @torch.no_grad()
    def _validate(self) -> float | None:
        """Return the loss of the averaged weights on held-out windows, with fixed draws."""
        windows, training = self.data.validation, self.settings.training
        n = min(windows.n_windows, training.validation_windows)
        if n == 0:
            return None
        rows = torch.linspace(0, windows.n_windows - 1, n).long()
        generator = torch_generator(derive_seed(self.seed, "surrogate-validation"))
        batch = draw_batch(windows, rows, self.settings.tasks, 0.0, generator)
        losses = [
            window_losses(
                self.averaged,
                windows,
                batch.take(slice(begin, begin + training.batch)),
                self.molecule,
                self.settings.model,
            )
            for begin in range(0, n, training.batch)
        ]
        return float(torch.cat(losses).mean())

    @torch.no_grad()
    def _update_average(self) -> None:
        # In the first steps a long memory would hold on to the untrained weights.
        decay = min(self.settings.training.average_decay, (1 + self.step) / (10 + self.step))
        pairs = zip(self.averaged.parameters(), self.network.parameters(), strict=True)
        for averaged, current in pairs:
            averaged.lerp_(current, 1 - decay)

    def _require_finite(self, losses: Tensor, batch: Batch) -> None:
        bad = ~torch.isfinite(losses)
        if bool(bad.any()):
            windows: WindowSet = self.data.training
            window = int(batch.windows[int(bad.int().argmax())])
            raise WorkError(
                f"the loss is not finite in step {self.step} at {windows.describe(window)}; look "
                "at those frames, or lower training.learning_rate"
            )


def _run(trainer: Trainer, out: Path, identity: dict[str, Any], progress: Progress) -> None:
    training = trainer.settings.training
    with progress.task("train surrogate", total=training.steps, done=trainer.step) as task:
        while (fraction := trainer.fraction_done()) < 1:
            loss = trainer.train_step(fraction)
            task.advance(status=f"loss {loss:.3f}")
            if trainer.step % training.validate_every == 0:
                trainer.add_to_curve()
            if trainer.step % training.save_every == 0 and trainer.accelerator.is_main_process:
                tensors, values = trainer.state()
                save_training_state(out, tensors, {**values, "identity": identity})
    if trainer.loss_count:
        trainer.add_to_curve()
    if trainer.step < training.steps:
        logger.info("training ended by time after %d steps", trainer.step)


def _restore(trainer: Trainer, out: Path, identity: dict[str, Any]) -> None:
    stored = load_training_state(out)
    if stored is None:
        return
    tensors, values = stored
    if values.pop("identity") != identity:
        raise InputError(
            f"{training_folder(out)} is the training state of another run (dataset, settings or "
            "seed differ); repeat that run to go on with it, or remove the folder to begin anew"
        )
    trainer.load_state(tensors, values)
    logger.info("training goes on from step %d", trainer.step)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _molecule_on(molecule: Molecule, device: torch.device) -> Molecule:
    springs, scale = molecule.springs, molecule.scale
    return replace(
        molecule,
        template_nm=molecule.template_nm.to(device),
        springs=Springs(*(getattr(springs, f.name).to(device) for f in fields(springs))),
        scale=TokenScale(scale.mean.to(device), scale.std.to(device)),
    )
