"""Frames between known frames: paths between two of them, and finer time resolution between many.

A gap that no window holds is filled in levels: first a few frames spread over it, then the gaps
between these. On each level every second gap is filled from its two ends and the next known frames
beyond them, and then the gaps between, which also see the frames that were generated on both sides
of them: what goes on across a known frame, such as a velocity, has no join there.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.geometry.superposition import superposed
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed
from trajgen.surrogate.canvas import Canvas
from trajgen.surrogate.completing import (
    LAG_MARGIN,
    RolloutSettings,
    checked_frames,
    complete_windows,
    intact_frames,
    require_lag,
    require_task,
)
from trajgen.surrogate.conditioning import FARTHEST_CONTEXT, MIN_PATH_FRAMES
from trajgen.surrogate.poses import posed_between
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
    require_task(surrogate, "interpolate")
    ends = checked_frames(surrogate, np.stack([start_nm, end_nm]), "start and end")
    canvas = Canvas(paths, frames, ends.shape[1], work)
    positions = canvas.positions_nm
    positions[:, 0], positions[:, -1] = ends[0], superposed(ends[1], ends[0])
    filled = np.zeros(frames, dtype=bool)
    filled[[0, -1]] = True
    _fill(surrogate, canvas, filled, lag_ps, settings, derive_seed(seed, "interpolate"), progress)
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
            or of another molecule, a lag that the model was not trained for.
    """
    require_task(surrogate, "interpolate", "upsample")
    known = checked_frames(surrogate, known_nm, "frames")
    if len(known) < 2:
        raise InputError("one frame has nothing between; give a trajectory of two or more")
    if not 2 <= factor <= LARGEST_FACTOR:
        raise InputError(f"factor is {factor}; wanted is 2 to {LARGEST_FACTOR}")
    canvas = Canvas(1, factor * (len(known) - 1) + 1, known.shape[1], work)
    positions = canvas.positions_nm
    positions[0, ::factor] = known
    filled = np.zeros(positions.shape[1], dtype=bool)
    filled[::factor] = True
    lag_ps = interval_ps / factor
    _fill(surrogate, canvas, filled, lag_ps, settings, derive_seed(seed, "upsample"), progress)
    alive = intact_frames(surrogate, positions)
    positions[~alive] = torch.nan
    return Rollouts(surrogate.topology, positions.numpy(), alive.numpy(), lag_ps)


@dataclass(frozen=True)
class _Filling:
    """Windows of one shape that are filled at once.

    Attributes:
        frames: the frames of each window.
        known: frames that are known by then.
        stride: frames between neighbours.
        seeds: base of the noise of each window.
    """

    frames: Int64[Tensor, "windows frames"]
    known: Bool[Tensor, " frames"]
    stride: int
    seeds: tuple[int, ...]

    @property
    def n_new(self) -> int:
        """The number of frames that are generated, of each path."""
        return len(self.frames) * int((~self.known).sum())

    def posed(
        self,
        new_nm: Float32[Tensor, "windows frames sites 3"],
        known_nm: Float32[Tensor, "windows frames sites 3"],
        weights: Float32[Tensor, " sites"],
    ) -> Float32[Tensor, "windows new sites 3"]:
        """Return the generated frames in poses between those of the known ones around them."""
        inside = torch.nonzero(~self.known).flatten()
        before, after = int(inside[0]) - 1, int(inside[-1]) + 1
        times = (self.frames[0] - self.frames[0, before]).float()
        shares = times[inside] / times[after]
        ends = known_nm[:, before], known_nm[:, after]
        return posed_between(new_nm[:, inside], *ends, shares, weights)


def _fill(
    surrogate: Surrogate,
    canvas: Canvas,
    filled: Bool[np.ndarray, " frames"],
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress,
) -> None:
    """Fill all frames of all paths, level by level."""
    positions = canvas.positions_nm
    paths, residues = len(positions), surrogate.beads.n_beads
    pose_weights = surrogate.molecule.resolution.pose_sites.cpu().float()
    together = max(1, settings.batch // paths)
    plan = _plan(surrogate, filled, lag_ps, settings, seed, together)
    total, done = int((~filled).sum()), sum(part.n_new for part in plan[: canvas.done])
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


def _plan(
    surrogate: Surrogate,
    known_first: Bool[np.ndarray, " frames"],
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    together: int,
) -> list[_Filling]:
    """Return what is filled one after the other, at most so many windows together."""
    require_lag(surrogate, lag_ps)
    whole = surrogate.settings.window_frames - 1
    if whole - 2 * (settings.context - 1) < 2:
        raise InputError(
            f"context is {settings.context} in windows of {surrogate.settings.window_frames} "
            "frames, which leaves none to generate; choose a smaller context"
        )
    in_rows = "upsample" in surrogate.molecule.tasks
    plan: list[_Filling] = []
    filled, level = known_first.copy(), 0
    while not filled.all():
        known = np.flatnonzero(filled)
        # Both sides of a gap may have frames that are seen beside its ends.
        beside = 2 * (settings.context - 1) if len(known) > 2 else 0
        stride = -(-int(np.diff(known).max()) // (whole - beside))
        gaps = [(a, b) for a, b in pairwise(known.tolist()) if b - a > stride]
        if stride > 1:
            _require_stride(surrogate, stride, lag_ps)
        for half in (0, 1):
            base = derive_seed(seed, "half level", level, half)
            own, context = gaps[half::2], settings.context
            plan += _plan_gaps(filled, own, stride, context, in_rows, base, together)
        level += 1
    return plan


def _require_stride(surrogate: Surrogate, stride: int, lag_ps: float) -> None:
    """Raise InputError where a gap is too long for windows of any lag of the training."""
    longest = surrogate.lags_ps[1]
    if stride * lag_ps > longest * LAG_MARGIN:
        raise InputError(
            f"a gap needs frames {stride * lag_ps:g} ps apart before those between them, and the "
            f"surrogate was trained at lags of up to {longest:g} ps; fill in fewer frames, or "
            "train with a larger model.longest_lag_ps or model.window_frames"
        )


def _plan_gaps(
    filled: Bool[np.ndarray, " frames"],
    gaps: list[tuple[int, int]],
    stride: int,
    context: int,
    in_rows: bool,
    seed: int,
    together: int,
) -> list[_Filling]:
    """Put frames into gaps, ``stride`` apart, and mark them as filled; see ``_plan``."""
    shapes: dict[tuple[tuple[int, ...], tuple[bool, ...]], list[tuple[int, np.ndarray]]] = {}
    for number, (a, b) in enumerate(gaps):
        before = a - _beyond(filled[:a][::-1], stride, context, in_rows)[::-1]
        after = b + _beyond(filled[b + 1 :], stride, context, in_rows)
        inside = np.arange(a + stride, b, stride)
        frames = np.concatenate([before, [a], inside, [b], after])
        shape = (tuple((frames - frames[0]).tolist()), tuple(filled[frames].tolist()))
        shapes.setdefault(shape, []).append((derive_seed(seed, "gap", number), frames))
    plan = []
    for (_, known), members in shapes.items():
        for begin in range(0, len(members), together):
            seeds, frames = zip(*members[begin : begin + together], strict=True)
            windows = torch.from_numpy(np.stack(frames))
            plan.append(_Filling(windows, torch.tensor(known), stride, seeds))
    for members in shapes.values():
        for _, frames in members:
            filled[frames] = True
    return plan


def _beyond(
    filled: Bool[np.ndarray, " frames"], stride: int, context: int, in_rows: bool
) -> Int64[np.ndarray, " seen"]:
    """Return how far from the end of a gap the known frames beyond it are that are seen.

    They are those a lag apart, which say how fast the molecule moves; where there are none, the
    next one, which says where it came from or goes, if the model knows gaps in rows of frames.
    """
    near = 1 + np.flatnonzero(filled[: stride * (context - 1)])[: context - 1]
    if len(near) or context == 1 or not in_rows:
        return near
    return 1 + np.flatnonzero(filled[: stride * FARTHEST_CONTEXT])[:1]


def _whole_or_lost(
    surrogate: Surrogate, positions: Float32[Tensor, "paths frames sites 3"], lag_ps: float
) -> Rollouts:
    whole = intact_frames(surrogate, positions).all(dim=1, keepdim=True)
    alive = whole.repeat(1, positions.shape[1])
    alive[:, 0] = True
    positions[~alive] = torch.nan
    return Rollouts(surrogate.topology, positions.numpy(), alive.numpy(), lag_ps)
