"""Training of the surrogate, on one process or many, resumed exactly after a kill."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from trajgen.checkpoint import (
    LAYOUT_VERSIONS,
    drop_training_state,
    load_training_state,
    save_training_state,
    training_folder,
)
from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.files import require_output
from trajgen.folder_lock import held_folder
from trajgen.progress import SILENT, Progress
from trajgen.surrogate.trainer import Trainer
from trajgen.surrogate.training_settings import TrainingSettings, TrainSettings
from trajgen.surrogate.training_windows import read_training_data
from trajgen.tracking import tracker_arguments, tracker_name

logger = logging.getLogger(__name__)


def train_surrogate(
    datasets: Sequence[Dataset],
    out: Path,
    settings: TrainSettings,
    seed: int,
    device: torch.device,
    progress: Progress = SILENT,
) -> Path:
    """Train a surrogate on datasets, one a molecule, and write it as a checkpoint.

    Each window of a step is of one molecule, drawn by seed, each as often as the others.

    The training state beside ``out`` lets the same call go on where a killed one stopped. Under
    ``accelerate launch`` every process calls this; the first one writes.

    Args:
        datasets: trajectories; segments of at least two lags give windows.
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
    training = settings.training
    data = read_training_data(
        datasets,
        settings.model,
        settings.tasks,
        training.validation_fraction,
        training.balance,
        seed,
        training.backward,
    )
    accelerator = _accelerator(settings.training, device, out)
    if settings.training.batch % accelerator.num_processes:
        raise InputError(
            f"training.batch is {settings.training.batch}, which {accelerator.num_processes} "
            "processes cannot share evenly; choose a multiple"
        )
    trainer = Trainer(data, settings, seed, accelerator)
    identity = {
        "layout_version": LAYOUT_VERSIONS["surrogate"],
        "datasets_sha256": [dataset.digest() for dataset in datasets],
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "optimizers": list(trainer.optimizers),
    }
    first = accelerator.is_main_process
    with held_folder(training_folder(out)) if first else nullcontext():
        _restore(trainer, out, identity)
        _run(trainer, out, identity, progress if first else SILENT)
        if first:
            paths = [str(dataset.path) for dataset in datasets]
            trainer.save(out, {"datasets": paths, **identity})
            drop_training_state(out)
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:
        tracker.finish()
    return out


def _accelerator(training: TrainingSettings, device: torch.device, out: Path) -> Accelerator:
    """Return the accelerator, with the tracker of the settings."""
    if not training.tensorboard:
        return Accelerator(cpu=device.type == "cpu")
    accelerator = Accelerator(cpu=device.type == "cpu", **tracker_arguments(out))
    accelerator.init_trackers(tracker_name(out))
    return accelerator


def _run(trainer: Trainer, out: Path, identity: dict[str, Any], progress: Progress) -> None:
    training = trainer.settings.training
    limit_s = None
    if training.max_minutes is not None:
        limit_s = 60 * training.max_minutes - trainer.seconds
    with progress.task("train surrogate", training.steps, trainer.step, limit_s) as task:
        while (fraction := trainer.fraction_done()) < 1:
            loss = trainer.train_step(fraction)
            task.advance(status=f"loss {loss:.3f}")
            if trainer.step % training.validate_every == 0:
                trainer.add_to_curve()
            if trainer.step % training.save_every == 0:
                trainer.share_loss()
                if trainer.accelerator.is_main_process:
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
            f"{training_folder(out)} is the training state of another run (dataset, settings, seed "
            "or version differ); repeat that run to go on with it, or remove the folder to begin "
            "anew"
        )
    trainer.load_state(tensors, values)
    logger.info("training goes on from step %d", trainer.step)
