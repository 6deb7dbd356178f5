"""Frames without a start: each from noise alone, as often as it is at equilibrium."""

import torch

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed
from trajgen.surrogate.completing import RolloutSettings, complete_windows, intact_frames
from trajgen.surrogate.surrogate import Surrogate


def ensemble(
    surrogate: Surrogate,
    frames: int,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
) -> Rollouts:
    """Generate frames that do not depend on each other, as one chain without a time step.

    Args:
        surrogate: the model.
        frames: number of frames.
        settings: how they are sampled.
        seed: base of the noise; that of a frame follows from it and its number.
        progress: told of each frame.

    Raises:
        InputError: no frame was asked for.
    """
    if frames < 1:
        raise InputError(f"frames is {frames}; wanted is at least 1")
    known = torch.zeros(1, surrogate.beads.n_beads, dtype=torch.bool)
    parts = []
    with progress.task("ensemble", total=frames) as task:
        for numbers in torch.arange(frames).split(settings.batch):
            seeds = [derive_seed(seed, "ensemble", index=int(number)) for number in numbers]
            empty = torch.zeros(len(numbers), 1, surrogate.topology.n_sites, 3)
            lag_ps = surrogate.lags_ps[-1]
            parts.append(
                complete_windows(surrogate, empty, known, torch.zeros(1), lag_ps, seeds, settings)
            )
            task.advance(len(numbers))
    positions = torch.cat(parts).transpose(0, 1).contiguous()
    alive = intact_frames(surrogate, positions)
    positions[~alive] = torch.nan
    return Rollouts(surrogate.topology, positions.numpy(), alive.numpy(), None)
