"""Force matching: train the network on what the priors leave over of the mapped forces.

The target is the mapped force minus the force of the priors, taken once in float64; the loss is the
mean squared error over all components and frames (Husic et al., J. Chem. Phys. 153, 194101
(2020)). Its minimum over all functions is the mean force, and what is left is the noise of the
force map, so the loss of the priors alone is stored beside it as the line to beat.

A step follows from (seed, step) alone: a killed run that finds its training state goes on and ends
with the same weights. Under ``accelerate launch`` each process takes its share of every batch, by
index, and the first one alone validates and writes.
"""

import logging
import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from pydantic import Field
from torch import nn

from trajgen.checkpoint import drop_training_state, load_training_state, save_training_state
from trajgen.data.splits import split_by_segment
from trajgen.data.store import Dataset
from trajgen.device import fix_threads
from trajgen.errors import InputError, WorkError
from trajgen.files import require_output
from trajgen.potential.energy import ForceField
from trajgen.potential.force_labels import (
    ForceLabels,
    batch_of_step,
    force_error,
    make_labels,
    mean_force_error,
    read_labelled_frames,
    read_population_frames,
)
from trajgen.potential.potential import Potential, PotentialSettings
from trajgen.potential.prior_fit import fit_priors
from trajgen.potential.priors import PriorSettings
from trajgen.potential.schnet import NetworkSettings
from trajgen.potential.training_state import TrainingState
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed
from trajgen.settings import Settings

logger = logging.getLogger(__name__)


class TrainingSettings(Settings):
    """Choices of the training.

    Attributes:
        steps: optimizer steps.
        max_minutes: end earlier, after this wall time, with the learning rate following the time;
            such a run cannot be repeated bit for bit.
        batch: frames in a step, over all processes; at most all training frames.
        learning_rate: highest learning rate of Adam; energies are scaled by kT and the loss by
            that of the priors alone, so it means the same for every molecule.
        final_learning_rate: share of it that the cosine schedule ends with.
        warmup_steps: steps over which it rises from zero.
        weight_decay: decoupled weight decay.
        gradient_clip: largest norm of the gradient.
        average_decay: decay of the running average of the weights for each step.
        validation_fraction: share of frames held out, by whole segments.
        validate_every: steps between evaluations; the average with the lowest validation loss of
            them is kept.
        save_every: steps between saved training states.
        use_frame_weights: weigh frames in the loss. The mean force at given beads does not depend
            on how often they were visited, so weights only add noise; they matter for the priors,
            which always use them.
    """

    steps: int = Field(default=20_000, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    batch: int = Field(default=256, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    final_learning_rate: float = Field(default=0.01, ge=0, le=1)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    validate_every: int = Field(default=500, ge=1)
    save_every: int = Field(default=500, ge=1)
    use_frame_weights: bool = False


class FitSettings(Settings):
    """All choices of a fit; the defaults are the accuracy recipe."""

    priors: PriorSettings = PriorSettings()
    network: NetworkSettings = NetworkSettings()
    training: TrainingSettings = TrainingSettings()


def fit_potential(
    dataset: Dataset,
    out: Path,
    settings: FitSettings,
    seed: int,
    device: torch.device,
    progress: Progress = SILENT,
) -> Path:
    """Fit priors and network to a dataset and write the potential to ``out``.

    Where a killed fit of the same data, settings and seed left its training state, it goes on.

    Args:
        dataset: beads with forces.
        out: the checkpoint folder to be made.
        settings: choices.
        seed: base of all random numbers.
        device: where to train; under ``accelerate launch`` each process takes one of its kind.
        progress: told the steps.

    Returns:
        ``out``.

    Raises:
        InputError: no forces, mixed temperatures, ``out`` is taken, or the training state there is
            of another fit.
        WorkError: the loss is not finite.
    """
    require_output(out)
    fix_threads()
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
    frames, temperature_K = read_labelled_frames(dataset)
    potential_settings = PotentialSettings(
        temperature_K=temperature_K,
        priors=settings.priors,
        network=settings.network,
        topology=frames.topology.to_dict(),
    )
    potential = Potential(potential_settings, derive_seed(seed, "fit-weights"))
    fitted = fit_priors(read_population_frames(dataset), temperature_K, settings.priors)
    potential.priors = fitted.priors
    labels = make_labels(frames, fitted.priors, settings.training.use_frame_weights)
    in_train, in_validation = split_by_segment(frames, settings.training.validation_fraction, seed)
    train = labels.take(in_train.nonzero()[0]).to(accelerator.device)
    validation = labels.take(in_validation.nonzero()[0]).to(accelerator.device)
    identity = {
        "dataset_digest": dataset.digest(),
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
    }
    with _deterministic(accelerator.device):
        training = _Training(
            potential.network, train, validation, settings.training, seed, accelerator
        )
        training.run(out, identity, progress)
    if accelerator.is_main_process:
        potential.network.load_state_dict(training.state.best)
        card = {
            "dataset": str(dataset.path),
            **identity,
            "n_frames": {"train": train.n_frames, "validation": validation.n_frames},
            "temperature_K": temperature_K,
            "priors": list(fitted.notes),
            "prior_only_loss": training.prior_only_loss,
            **training.summary(),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        potential.save(out, card)
        drop_training_state(out)
    accelerator.wait_for_everyone()
    return out


class _Training:
    """The loop over optimizer steps."""

    def __init__(
        self,
        network: nn.Module,
        train: ForceLabels,
        validation: ForceLabels,
        settings: TrainingSettings,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.train, self.validation = train, validation
        self.settings, self.seed, self.accelerator = settings, seed, accelerator
        network.to(accelerator.device)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.model, self.optimizer = accelerator.prepare(ForceField(network).train(), optimizer)
        self.state = TrainingState(network, self.optimizer, settings.average_decay)
        self.prior_only_loss = {
            "train": mean_force_error(None, train),
            "validation": mean_force_error(None, validation) if validation.n_frames else None,
        }
        self.loss_scale = self.prior_only_loss["train"] or 1.0  # 1 where the priors are exact

    def run(self, out: Path, identity: dict[str, Any], progress: Progress) -> None:
        """Train from the saved state, or from the start, to the end."""
        self._resume(out, identity)
        settings, state = self.settings, self.state
        if not self.accelerator.is_main_process:
            progress = SILENT
        began = time.monotonic() - 60 * state.minutes
        with progress.task("fit", settings.steps, state.step) as task:
            while (done := self._done()) < 1:
                loss = self._step(done)
                state.finish_step(loss)
                state.minutes = (time.monotonic() - began) / 60
                if state.step % settings.validate_every == 0:
                    self._evaluate()
                if state.step % settings.save_every == 0 and self.accelerator.is_main_process:
                    save_training_state(out, state.tensors(), {**state.numbers(), **identity})
                task.advance(1, f"loss {loss:.4g}")
        if not state.curve or state.curve[-1]["step"] != state.step:
            self._evaluate()

    def summary(self) -> dict[str, Any]:
        """Return what the card says of the training."""
        state = self.state
        return {
            "steps": state.step,
            "best_step": state.best_step,
            "best_validation_loss": state.best_validation,
            "loss_unit": "(kJ/mol/nm)^2, mean over force components",
            "curve": state.curve,
            "wall_seconds": round(60 * state.minutes, 3),
        }

    def _step(self, done: float) -> float:
        state, settings, accelerator = self.state, self.settings, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(settings, state.step, done)
        size = min(settings.batch, self.train.n_frames)
        chosen = batch_of_step(state.step, size, self.train.n_frames, self.seed)
        share = chosen[accelerator.process_index :: accelerator.num_processes]
        batch = self.train.take(share)
        errors = force_error(self.model(batch.positions_nm), batch)
        # Gradients are averaged over processes, whose shares may differ by a frame.
        loss = errors.sum() * (accelerator.num_processes / size)
        value = float(loss.detach())
        if not math.isfinite(value):
            bad = batch.frames[~errors.isfinite().cpu().numpy()]
            raise WorkError(
                f"the loss of step {state.step} is {value}: the forces of {len(bad)} frames are "
                f"not finite, among them dataset frames {bad[:5].tolist()}; lower "
                "training.learning_rate, or look at these frames"
            )
        self.optimizer.zero_grad()
        accelerator.backward(loss / self.loss_scale)
        accelerator.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
        self.optimizer.step()
        return value

    def _evaluate(self) -> None:
        if not self.accelerator.is_main_process:
            return
        loss = None
        if self.validation.n_frames:
            loss = mean_force_error(self.state.average, self.validation)
            if not math.isfinite(loss):
                raise WorkError(
                    f"the validation loss of step {self.state.step} is {loss}; lower "
                    "training.learning_rate"
                )
        self.state.finish_evaluation(loss)

    def _done(self) -> float:
        """Return the finished share of the budget, which all processes must agree on."""
        done = self.state.step / self.settings.steps
        if self.settings.max_minutes is None:
            return done
        done = max(done, self.state.minutes / self.settings.max_minutes)
        return float(broadcast(torch.tensor(done, device=self.accelerator.device)))

    def _resume(self, out: Path, identity: dict[str, Any]) -> None:
        saved = load_training_state(out)
        if saved is None:
            return
        tensors, numbers = saved
        if {name: numbers.pop(name, None) for name in identity} != identity:
            raise InputError(
                f"the training state beside {out} is of another dataset, seed or settings; name "
                f"another --out, or remove {out}.training to begin anew"
            )
        self.state.restore(tensors, numbers)
        logger.info("training goes on at step %d", self.state.step)


def _schedule(settings: TrainingSettings, step: int, done: float) -> float:
    """Return the share of the learning rate: a linear rise, then half a cosine to its end."""
    rise = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    low = settings.final_learning_rate
    return rise * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Ask torch for deterministic sums where they cost nothing, on the CPU."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(device.type == "cpu" or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
