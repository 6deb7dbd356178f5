"""Windows of consecutive frames at a chosen lag, for models of whole trajectories."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from trajgen.data.records import BeadFrames
from trajgen.errors import InputError


@dataclass(frozen=True)
class Windows:
    """Where windows lie in joined frames; a short one is padded by its last frame and masked.

    Attributes:
        frames: frame index of each cell of each window.
        present: False for padding.
    """

    frames: Int64[np.ndarray, "windows length"]
    present: Bool[np.ndarray, "windows length"]

    @property
    def n_windows(self) -> int:
        """The number of windows."""
        return len(self.frames)


def find_windows(
    parts: Sequence[BeadFrames], lag_ps: float, length: int, shift: int, min_frames: int = 3
) -> Windows:
    """Cut windows of ``length`` frames, ``lag_ps`` apart, out of every segment of every part.

    Frame indices count through the parts in order. A segment too short for a whole window gives
    one padded window as long as ``min_frames`` of its frames (``min_frames - 1`` lags) fit in.
    Whole windows start every ``shift`` frames; the frames of a window are ``stride`` apart, where
    ``stride`` times the save interval is the lag.

    Raises:
        InputError: the lag is no multiple of a part's save interval.
    """
    if length < min_frames:
        raise InputError(f"a window of {length} frames is too short; at least {min_frames}")
    rows: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    offset = 0
    for part in parts:
        if part.time_step_ps is not None:
            stride = lag_stride(lag_ps, part.time_step_ps)
            for segment in np.unique(part.segments):
                inside = offset + np.flatnonzero(part.segments == segment)
                _cut(inside, stride, length, shift, min_frames, rows, masks)
        offset += part.n_frames
    if not rows:
        empty = np.zeros((0, length))
        return Windows(empty.astype(np.int64), empty.astype(bool))
    return Windows(np.stack(rows).astype(np.int64), np.stack(masks))


def lag_stride(lag_ps: float, time_step_ps: float) -> int:
    """Return how many saved frames make one lag.

    Raises:
        InputError: the lag is no whole multiple of the time step.
    """
    stride = round(lag_ps / time_step_ps)
    if stride < 1 or abs(stride * time_step_ps - lag_ps) > 1e-6 * lag_ps:
        raise InputError(
            f"lag_ps {lag_ps:g} is no multiple of the frames' time step of {time_step_ps:g} ps; "
            "choose a multiple"
        )
    return stride


def gather_windows(
    positions_nm: Float32[np.ndarray, "frames beads 3"], windows: Windows
) -> Float32[np.ndarray, "windows length beads 3"]:
    """Return the coordinates of all windows."""
    return positions_nm[windows.frames]


def _cut(
    inside: np.ndarray,
    stride: int,
    length: int,
    shift: int,
    min_frames: int,
    rows: list[np.ndarray],
    masks: list[np.ndarray],
) -> None:
    span = (length - 1) * stride + 1
    if len(inside) >= span:
        for start in range(0, len(inside) - span + 1, shift):
            rows.append(inside[start : start + span : stride])
            masks.append(np.ones(length, dtype=bool))
        return
    for start in range(0, min(stride, len(inside)), shift):
        picked = inside[start::stride]
        if len(picked) >= min_frames:
            missing = length - len(picked)
            rows.append(np.concatenate([picked, np.full(missing, picked[-1])]))
            masks.append(np.arange(length) < len(picked))
