"""Frames between known frames: paths between two of them, and finer time resolution between many.

A gap that no window holds is filled in levels: first a few frames spread over it, then the gaps
between these. On each level every second gap is filled from its two ends alone, and then the gaps
between, which also see the frames that were generated on both sides of them: what goes on across a
known frame, such as a velocity, has no join there.
"""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.geometry.superposition import superposed
from trajgen.progress import SILENT, Progress, ProgressTask
from trajgen.seeding import derive_seed
from trajgen.surrogate.completing import (
    RolloutSettings,
    checked_frames,
    complete_windows,
    intact_frames,
    require_lag,
)
from trajgen.surrogate.conditioning import MIN_PATH_FRAMES
from trajgen.surrogate.surrogate import Surrogate

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

    Raises:
        InputError: ends that are not finite or of another molecule, a lag that the model was not
            trained for, a path without a frame inside, no path.
    """
    if frames < MIN_PATH_FRAMES:
        raise InputError(
            f"a path of {frames} frames has none between its ends; ask for at least "
            f"{MIN_PATH_FRAMES}"
        )
    if paths < 1:
        raise InputError(f"paths is {paths}; wanted is at least 1")
    ends = checked_frames(surrogate, np.stack([start_nm, end_nm]), "start and end")
    positions = torch.full((paths, frames, *ends.shape[1:]), torch.nan)
    positions[:, 0], positions[:, -1] = ends[0], superposed(ends[1], ends[0])
    filled = np.zeros(frames, dtype=bool)
    filled[[0, -1]] = True
    _fill(
        surrogate, positions, filled, lag_ps, settings, derive_seed(seed, "interpolate"), progress
    )
    return _whole_or_lost(surrogate, positions, lag_ps)


def upsample(
    surrogate: Surrogate,
    known_nm: Float32[np.ndarray, "known sites 3"],
    factor: int,
    interval_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
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

    Raises:
        InputError: fewer than two frames, a factor that is not 2 to 100, frames that are not finite
            or of another molecule, a lag that the model was not trained for.
    """
    known = checked_frames(surrogate, known_nm, "frames")
    if len(known) < 2:
        raise InputError("one frame has nothing between; give a trajectory of two or more")
    if not 2 <= factor <= LARGEST_FACTOR:
        raise InputError(f"factor is {factor}; wanted is 2 to {LARGEST_FACTOR}")
    positions = torch.full((1, factor * (len(known) - 1) + 1, *known.shape[1:]), torch.nan)
    positions[0, ::factor] = known
    filled = np.zeros(positions.shape[1], dtype=bool)
    filled[::factor] = True
    lag_ps = interval_ps / factor
    _fill(surrogate, positions, filled, lag_ps, settings, derive_seed(seed, "upsample"), progress)
    alive = intact_frames(surrogate, positions)
    positions[~alive] = torch.nan
    return Rollouts(surrogate.topology, positions.numpy(), alive.numpy(), lag_ps)


def _fill(
    surrogate: Surrogate,
    positions: Float32[Tensor, "paths frames sites 3"],
    filled: Bool[np.ndarray, " frames"],
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress,
) -> None:
    """Fill all frames of all paths, level by level."""
    require_lag(surrogate, lag_ps)
    whole = surrogate.settings.window_frames - 1
    if whole - 2 * (settings.context - 1) < 2:
        raise InputError(
            f"context is {settings.context} in windows of {surrogate.settings.window_frames} "
            "frames, which leaves none to generate; choose a smaller context"
        )
    level = 0
    with progress.task("fill in", total=int((~filled).sum())) as task:
        while not filled.all():
            known = np.flatnonzero(filled)
            # Both sides of a gap may have frames that are seen beside its ends.
            beside = 2 * (settings.context - 1) if len(known) > 2 else 0
            stride = -(-int(np.diff(known).max()) // (whole - beside))
            gaps = [(a, b) for a, b in pairwise(known.tolist()) if b - a > stride]
            require_lag(surrogate, stride * lag_ps)
            for half in (0, 1):
                chosen = gaps[half::2]
                if chosen:
                    part = derive_seed(seed, "half level", level, half)
                    _fill_gaps(
                        surrogate, positions, filled, chosen, stride, lag_ps, settings, part, task
                    )
            level += 1


def _fill_gaps(
    surrogate: Surrogate,
    positions: Tensor,
    filled: np.ndarray,
    gaps: list[tuple[int, int]],
    stride: int,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    task: ProgressTask,
) -> None:
    """Put frames into gaps, ``stride`` apart; gaps of one shape are one batch."""
    shapes: dict[tuple[tuple[int, ...], tuple[bool, ...]], list[tuple[int, np.ndarray]]] = {}
    for number, (a, b) in enumerate(gaps):
        inside = np.arange(a + stride, b, stride)
        before, after = np.flatnonzero(filled[: a + 1]), b + np.flatnonzero(filled[b:])
        near = stride * (settings.context - 1)  # frames further away say nothing of a velocity
        before = before[a - before <= near][-settings.context :]
        after = after[after - b <= near][: settings.context]
        frames = np.concatenate([before, inside, after])
        shape = (tuple((frames - frames[0]).tolist()), tuple(filled[frames].tolist()))
        shapes.setdefault(shape, []).append((number, frames))
    paths, residues = len(positions), surrogate.beads.n_beads
    for (offsets, given), members in shapes.items():
        known = torch.tensor(given)[:, None].expand(-1, residues)
        places = torch.tensor(offsets) / stride
        index = torch.from_numpy(np.stack([frames for _, frames in members]))
        windows = positions[:, index].flatten(0, 1)
        seeds = [
            derive_seed(derive_seed(seed, "path", path), "gap", number)
            for path in range(paths)
            for number, _ in members
        ]
        new = complete_windows(
            surrogate, windows, known, places, stride * lag_ps, seeds, settings
        ).unflatten(0, (paths, len(members)))
        asked = ~torch.tensor(given)
        positions[:, index[:, asked]] = new[:, :, asked]
        task.advance(int(asked.sum()) * len(members))
    for _, members in shapes.items():
        for _, frames in members:
            filled[frames] = True


def _whole_or_lost(surrogate: Surrogate, positions: Tensor, lag_ps: float) -> Rollouts:
    whole = intact_frames(surrogate, positions).all(dim=1, keepdim=True)
    alive = whole.repeat(1, positions.shape[1])
    alive[:, 0] = True
    return Rollouts(
        surrogate.topology,
        torch.where(alive[..., None, None], positions, torch.nan).numpy(),
        alive.numpy(),
        lag_ps,
    )
