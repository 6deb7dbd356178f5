"""Inpainting: some residues are known over time, and the others are generated around them."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.geometry.superposition import superposed
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed
from trajgen.surrogate.canvas import Canvas
from trajgen.surrogate.chaining import chained_windows, frames_done
from trajgen.surrogate.completing import (
    RolloutSettings,
    checked_frames,
    complete_windows,
    intact_frames,
    require_lag,
    require_task,
)
from trajgen.surrogate.conditioning import require_known_residues
from trajgen.surrogate.surrogate import Surrogate
from trajgen.work_folder import WorkFolder


def inpaint(
    surrogate: Surrogate,
    known_nm: Float32[np.ndarray, "frames sites 3"],
    residues: Bool[np.ndarray, " residues"],
    replicas: int,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    start_known: bool = False,
    progress: Progress = SILENT,
    work: WorkFolder | None = None,
) -> Rollouts:
    """Generate the residues of a trajectory that are not known.

    Args:
        surrogate: the model.
        known_nm: consecutive frames; what stands at the other residues must be finite, and is
            looked at in the first frame only, where ``start_known`` says so.
        residues: which residues are known; they come back as they are.
        replicas: number of answers, each from noise of its own.
        lag_ps: time between the frames.
        settings: how the windows are sampled.
        seed: base of the noise.
        start_known: whether all of the first frame is known.
        progress: told of each generated frame.
        work: where the frames lie until all are there; None for memory.

    Raises:
        InputError: fewer residues are known than say how a frame lies, or all are; frames that are
            not finite or of another molecule, a task, a lag or a temperature that the model was not
            trained for, no replica.
    """
    require_lag(surrogate, lag_ps)
    settings.require_possible(surrogate)
    given = checked_frames(surrogate, known_nm, "frames")
    require_task(surrogate, "inpaint")
    least = surrogate.molecule.resolution.pose_residues
    require_known_residues(torch.from_numpy(residues), least)
    if replicas < 1 or len(given) < 2:
        raise InputError(
            f"replicas is {replicas} and the trajectory has {len(given)} frames; wanted are at "
            "least 1 and 2"
        )
    shown, frames = torch.from_numpy(residues), len(given)
    canvas = Canvas(replicas, frames, given.shape[1], work)
    positions = canvas.positions_nm
    if canvas.done == 0:
        positions[:] = given
    site_residues = surrogate.molecule.resolution.site_residues.cpu()
    begin = 1 if start_known else 0
    windows = chained_windows(begin, frames, surrogate.settings.window_frames, settings.context)
    done_before = frames_done(windows, canvas.done, frames)
    with progress.task("inpaint", total=frames - begin, done=done_before - begin) as task:
        for window in canvas.to_do(windows):
            first, done, end = window.first, window.done, window.end
            known = shown.repeat(end - first, 1)
            known[: done - first] = True
            part = derive_seed(seed, "inpaint", window.number)
            seeds = [derive_seed(part, "replica", index=row) for row in range(replicas)]
            places = torch.arange(end - first)
            window_nm = positions[:, first:end]
            made_nm = complete_windows(surrogate, window_nm, known, places, lag_ps, seeds, settings)
            _fill_in(window_nm, made_nm, known[:, site_residues])
            task.advance(end - done)
    alive = intact_frames(surrogate, positions).int().cumprod(dim=1).bool()
    positions[~alive] = torch.nan
    return Rollouts(surrogate.topology, positions.numpy(), alive.numpy(), lag_ps)


def _fill_in(
    window_nm: Float[Tensor, "replicas frames sites 3"],
    made_nm: Float[Tensor, "replicas frames sites 3"],
    given: Bool[Tensor, "frames sites"],
) -> None:
    """Put the sites that were asked for into frames, each in the pose of its given sites.

    Windows come back in the pose of their first frame, and a molecule tumbles.
    """
    weights = given.to(made_nm.dtype).expand(made_nm.shape[:-1])
    placed_nm = superposed(made_nm, window_nm, weights)
    window_nm[:, ~given] = placed_nm[:, ~given]
