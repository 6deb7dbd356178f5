"""Frames between known frames: paths between two of them, and finer time resolution between many.

``filling_plan`` says in which order.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.geometry.superposition import superposed
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed
from trajgen.surrogate.canvas import Canvas
from trajgen.surrogate.completing import (
    RolloutSettings,
    checked_frames,
    complete_windows,
    intact_frames,
    require_task,
)
from trajgen.surrogate.conditioning import MIN_PATH_FRAMES
from trajgen.surrogate.filling_plan import Filling, filling_plan
from trajgen.surrogate.surrogate import Surrogate
from trajgen.work_folder import WorkFolder

#: Frames between two known ones at most, as a factor of time resolution.
LARGEST_FACTOR = 100


def interpolate(
    surrogate: Surrogate,
    start_nm: Float32[np.ndarray, "sites 3"],
    end_nm: Float32[np.ndarray, "sites 3"],
    frames: int,
    paths: int,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
    work: WorkFolder | None = None,
) -> Rollouts:
    """Generate paths between two conformations, each from noise of its own.

    A path with a frame that is not finite or comes apart leads nowhere: all of it but the start is
    NaN and marked in ``alive``.

    Args:
        surrogate: the model.
        start_nm: first frame; it comes back bit for bit.
        end_nm: last frame; it comes back superposed on the start.
        frames: frames of a path, both ends included.
        paths: number of paths.
        lag_ps: time between frames.
        settings: how the windows are sampled.
        seed: base of the noise.
        progress: told of each generated frame.
        work: where the frames lie until all are there; None for memory.

    Raises:
        InputError: ends that are not finite or of another molecule, a lag or a temperature that the
            model was not trained for, a path without a frame inside, or too long for the lags of
            the training, no path.
    """
    if frames < MIN_PATH_FRAMES:
        raise InputError(
            f"a path of {frames} frames has none between its ends; ask for at least "
            f"{MIN_PATH_FRAMES}"
        )
    if paths < 1:
        raise InputError(f"paths is {paths}; wanted is at least 1")
    require_task(surrogate, "interpolate")
    settings.require_possible(surrogate)
    settings = settings.for_task(surrogate, "interpolate")
    ends = checked_frames(surrogate, np.stack([start_nm, end_nm]), "start and end")
    filled = np.zeros(frames, dtype=bool)
    filled[[0, -1]] = True
    plan = _plan(surrogate, filled, paths, lag_ps, settings, derive_seed(seed, "interpolate"))
    canvas = Canvas(paths, frames, ends.shape[1], work)
    positions = canvas.positions_nm
    positions[:, 0], positions[:, -1] = ends[0], superposed(ends[1], ends[0])
    _fill(surrogate, canvas, plan, lag_ps, settings, progress)
    return _whole_or_lost(surrogate, positions, lag_ps)


def upsample(
    surrogate: Surrogate,
    known_nm: Float32[np.ndarray, "known sites 3"],
    factor: int,
    interval_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
    work: WorkFolder | None = None,
) -> Rollouts:
    """Fill in frames between those of a trajectory.

    Args:
        surrogate: the model.
        known_nm: consecutive frames; they come back as they are.
        factor: how many times as many frames a unit of time shall have.
        interval_ps: time between the known frames.
        settings: how the windows are sampled.
        seed: base of the noise.
        progress: told of each generated frame.
        work: where the frames lie until all are there; None for memory.

    Raises:
        InputError: fewer than two frames, a factor that is not 2 to 100, frames that are not finite
            or of another molecule, a lag or a temperature that the model was not trained for.
    """
    require_task(surrogate, "interpolate", "upsample")
    settings.require_possible(surrogate)
    known = checked_frames(surrogate, known_nm, "frames")
    if len(known) < 2:
        raise InputError("one frame has nothing between; give a trajectory of two or more")
    if not 2 <= factor <= LARGEST_FACTOR:
        raise InputError(f"factor is {factor}; wanted is 2 to {LARGEST_FACTOR}")
    filled = np.zeros(factor * (len(known) - 1) + 1, dtype=bool)
    filled[::factor] = True
    lag_ps = interval_ps / factor
    plan = _plan(surrogate, filled, 1, lag_ps, settings, derive_seed(seed, "upsample"))
    canvas = Canvas(1, len(filled), known.shape[1], work)
    positions = canvas.positions_nm
    positions[0, ::factor] = known
    _fill(surrogate, canvas, plan, lag_ps, settings, progress)
    alive = intact_frames(surrogate, positions)
    positions[~alive] = torch.nan
    return Rollouts(surrogate.topology, positions.numpy(), alive.numpy(), lag_ps)


def _plan(
    surrogate: Surrogate,
    filled: Bool[np.ndarray, " frames"],
    paths: int,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
) -> list[Filling]:
    """Return what is filled one after the other, so much at once as a batch holds of all paths."""
    together = max(1, settings.batch // paths)
    return filling_plan(surrogate, filled, lag_ps, settings, seed, together)


def _fill(
    surrogate: Surrogate,
    canvas: Canvas,
    plan: list[Filling],
    lag_ps: float,
    settings: RolloutSettings,
    progress: Progress,
) -> None:
    """Fill all frames of all paths, level by level."""
    positions = canvas.positions_nm
    paths, residues = len(positions), surrogate.beads.n_beads
    pose_weights = surrogate.molecule.resolution.pose_sites.cpu().float()
    total, done = (sum(part.n_new for part in parts) for parts in (plan, plan[: canvas.done]))
    with progress.task("fill in", total=total, done=done) as task:
        for part in canvas.to_do(plan):
            known, offsets = part.known, part.frames[0] - part.frames[0, 0]
            windows = positions[:, part.frames].flatten(0, 1)
            seeds = [
                derive_seed(base, "path", path) for path in range(paths) for base in part.seeds
            ]
            new = complete_windows(
                surrogate,
                windows,
                known[:, None].expand(-1, residues),
                offsets / part.stride,
                part.stride * lag_ps,
                seeds,
                settings,
            )
            new = part.posed(new, windows, pose_weights).unflatten(0, (paths, len(part.frames)))
            positions[:, part.frames[:, ~known]] = new
            task.advance(part.n_new)


def _whole_or_lost(
    surrogate: Surrogate, positions: Float32[Tensor, "paths frames sites 3"], lag_ps: float
) -> Rollouts:
    whole = intact_frames(surrogate, positions).all(dim=1, keepdim=True)
    alive = whole.repeat(1, positions.shape[1])
    alive[:, 0] = True
    positions[~alive] = torch.nan
    return Rollouts(surrogate.topology, positions.numpy(), alive.numpy(), lag_ps)
