"""Frames without a start: each from noise alone, as often as it is at equilibrium."""

import torch

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed
from trajgen.surrogate.canvas import Canvas
from trajgen.surrogate.completing import (
    RolloutSettings,
    complete_windows,
    intact_frames,
    require_task,
)
from trajgen.surrogate.surrogate import Surrogate
from trajgen.work_folder import WorkFolder


def ensemble(
    surrogate: Surrogate,
    frames: int,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
    work: WorkFolder | None = None,
) -> Rollouts:
    """Generate frames that do not depend on each other, as one chain without a time step.

    Args:
        surrogate: the model.
        frames: number of frames.
        settings: how they are sampled.
        seed: base of the noise; that of a frame follows from it and its number.
        progress: told of each frame.
        work: where the frames lie until all are there; None for memory.

    Raises:
        InputError: no frame was asked for, or the model was not trained for it or for the
            temperature.
    """
    require_task(surrogate, "ensemble")
    settings.require_possible(surrogate)
    if frames < 1:
        raise InputError(f"frames is {frames}; wanted is at least 1")
    known = torch.zeros(1, surrogate.beads.n_beads, dtype=torch.bool)
    canvas = Canvas(1, frames, surrogate.topology.n_sites, work)
    positions = canvas.positions_nm
    batches = torch.arange(frames).split(settings.batch)
    done_before = min(canvas.done * settings.batch, frames)
    with progress.task("ensemble", total=frames, done=done_before) as task:
        for numbers in canvas.to_do(batches):
            seeds = [derive_seed(seed, "ensemble", index=int(number)) for number in numbers]
            empty = torch.zeros(len(numbers), 1, surrogate.topology.n_sites, 3)
            lag_ps, place = surrogate.lags_ps[-1], torch.zeros(1)
            new = complete_windows(surrogate, empty, known, place, lag_ps, seeds, settings)
            positions[0, numbers] = new[:, 0]
            task.advance(len(numbers))
    alive = intact_frames(surrogate, positions)
    positions[~alive] = torch.nan
    return Rollouts(surrogate.topology, positions.numpy(), alive.numpy(), None)
