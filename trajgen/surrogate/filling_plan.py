"""Which frames between known ones are filled in when, and which windows they are filled in by.

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

from trajgen.errors import InputError
from trajgen.seeding import derive_seed
from trajgen.surrogate.completing import LAG_MARGIN, RolloutSettings, require_lag
from trajgen.surrogate.conditioning import FARTHEST_CONTEXT
from trajgen.surrogate.poses import posed_between
from trajgen.surrogate.surrogate import Surrogate


@dataclass(frozen=True)
class Filling:
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


def filling_plan(
    surrogate: Surrogate,
    known_first: Bool[np.ndarray, " frames"],
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    together: int,
) -> list[Filling]:
    """Return what is filled one after the other.

    Args:
        surrogate: the model.
        known_first: frames that are known, the first and the last among them.
        lag_ps: time between frames.
        settings: how windows are sampled.
        seed: base of the noise.
        together: windows that are filled at once, at most.

    Raises:
        InputError: a lag that the model was not trained for, a gap too long for it, a context that
            leaves no frame of a window to generate.
    """
    require_lag(surrogate, lag_ps)
    whole = surrogate.settings.window_frames - 1
    if whole - 2 * (settings.context - 1) < 2:
        raise InputError(
            f"context is {settings.context} in windows of {surrogate.settings.window_frames} "
            "frames, which leaves none to generate; choose a smaller context"
        )
    in_rows = "upsample" in surrogate.molecule.tasks
    plan: list[Filling] = []
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
) -> list[Filling]:
    """Put frames into gaps, ``stride`` apart, and mark them as filled; see ``filling_plan``."""
    shapes: dict[tuple[tuple[int, ...], tuple[bool, ...]], list[tuple[int, np.ndarray]]] = {}
    for number, (a, b) in enumerate(gaps):
        reach = max(FARTHEST_CONTEXT * stride, b - a) if in_rows else 0
        before = a - _beyond(filled[:a][::-1], stride, context, reach)[::-1]
        after = b + _beyond(filled[b + 1 :], stride, context, reach)
        inside = np.arange(a + stride, b, stride)
        frames = np.concatenate([before, [a], inside, [b], after])
        shape = (tuple((frames - frames[0]).tolist()), tuple(filled[frames].tolist()))
        shapes.setdefault(shape, []).append((derive_seed(seed, "gap", number), frames))
    plan = []
    for (_, known), members in shapes.items():
        for begin in range(0, len(members), together):
            seeds, frames = zip(*members[begin : begin + together], strict=True)
            windows = torch.from_numpy(np.stack(frames))
            plan.append(Filling(windows, torch.tensor(known), stride, seeds))
    for members in shapes.values():
        for _, frames in members:
            filled[frames] = True
    return plan


def _beyond(
    filled: Bool[np.ndarray, " frames"], stride: int, context: int, reach: int
) -> Int64[np.ndarray, " seen"]:
    """Return how far from the end of a gap the known frames beyond it are that are seen.

    They are those a lag apart, which say how fast the molecule moves; where there are none, the
    next one within ``reach``, which says where it came from or goes.
    """
    near = 1 + np.flatnonzero(filled[: stride * (context - 1)])[: context - 1]
    if len(near) or context == 1:
        return near
    return 1 + np.flatnonzero(filled[:reach])[:1]
